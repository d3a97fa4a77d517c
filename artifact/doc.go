// Package artifact holds what a relying party needs, and no more: the claims of an execution authorization artifact
// and their scope, the initiator's request, the trust file, the status list, proof of possession, and Verify.
//
// It reads its arguments and nothing else: no network, no environment, no clock. Verified types (Artifact, Request,
// Status) are made by the functions that verify them and by nothing else; their zero values allow nothing.
package artifact
