// Package record holds the payloads of the signed statements that stand in the log beside artifacts: genesis, policies,
// enrolments and revocations, which authorities sign as acts, and the audit record, which the issuer and gates sign.
//
// An act is the same payload signed by as many distinct authorities as its role demands, one statement each. It takes
// effect when all its statements are appended in one transaction.
package record
