// Package attest turns a host's evidence into verified facts. Verify is the only maker of Facts; CheckEnrolment is the
// only maker of a Candidate. Both check a fixed list of properties in a fixed order, written in their comments, and
// refuse with a *denial.Denial. Nothing here reads a clock, a file, the environment or the network.
//
// Evidence is a quote by the host's attestation key (AK), the boot log behind the quoted PCRs, and a confirmation key
// (cnf) that the AK certified. The AK is a primary key of the endorsement hierarchy, since only there does a TPM
// report its true firmware version and reset counters.
package attest
