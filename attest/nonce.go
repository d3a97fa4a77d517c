package attest

import (
	"crypto/rand"
	"crypto/sha256"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Nonce is a challenge of the verifier: 32 random bytes, used once. The zero Nonce is refused everywhere.
type Nonce [32]byte

// NewNonce returns a fresh challenge from the system's random source.
func NewNonce() Nonce {
	var n Nonce
	rand.Read(n[:]) // never fails: it stops the program instead
	return n
}

// ParseNonce returns the Nonce with the given bytes, which must be 32 and not all zero (103).
func ParseNonce(b []byte) (Nonce, error) {
	var n Nonce
	if copy(n[:], b); len(b) != len(n) || n == (Nonce{}) {
		return Nonce{}, denial.New(denial.NoChallenge, "a challenge is 32 bytes and not zero")
	}
	return n, nil
}

// QualifyingData returns what the TPM must sign beside the PCRs: a digest that binds the evidence to one challenge, one
// request and one TLS connection (RFC 9266 exporter).
func QualifyingData(challenge Nonce, request statement.Digest, exporter [32]byte) [32]byte {
	b := []byte("writ-quote-v1")
	b = append(b, challenge[:]...)
	b = append(b, request[:]...)
	b = append(b, exporter[:]...)
	return sha256.Sum256(b)
}

// CNFQualifyingData returns what the AK signs when it certifies a cnf key: the same for every cnf key, AK and occasion.
// Whose AK it is stands in the attestation itself, as the signer's qualified name. That the key belongs to this occasion
// is for the quote to say, whose own qualifying data binds a request that names the key: see Verify.
func CNFQualifyingData() [32]byte { return sha256.Sum256([]byte("writ-cnf-key-v1")) }

// GateQualifyingData returns what the AK signs when it certifies a gate key at the enrolment of the given EK.
func GateQualifyingData(ek [32]byte) [32]byte {
	return sha256.Sum256(append([]byte("writ-gate-key-v1"), ek[:]...))
}
