package attest

import (
	"crypto/rsa"
	"crypto/sha256"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Challenge returns the challenge that the evidence names. It is unverified and serves to find it among those given out.
func (e *Evidence) Challenge() (Nonce, error) {
	n, err := ParseNonce(e.tpm.Challenge)
	if err != nil {
		return Nonce{}, denial.New(denial.NoChallenge, "the evidence names no challenge")
	}
	return n, nil
}

// Clock returns the clock that the quote names. It is unverified, unless Verify has returned facts or a denial of a stage
// after StageQuote: then the enrolled AK has signed it.
func (e *Evidence) Clock() (Clock, error) {
	q, err := guarded(func() (*tpm2.TPMSAttest, error) { return parseAttest(e.tpm.Quote, tpm2.TPMSTAttestQuote) })
	if err != nil {
		return Clock{}, err
	}
	c := q.ClockInfo
	return Clock{Milliseconds: c.Clock, Resets: uint64(c.ResetCount), Restarts: uint64(c.RestartCount), Safe: bool(c.Safe)}, nil
}

// AKThumbprint returns the SHA-256 COSE Key Thumbprint (RFC 9679) of an AK that activation has admitted, given its
// TPM2B_PUBLIC: EC2 keys as package statement knows them, RSA keys by RFC 8230, section 4.
func AKThumbprint(public []byte) (statement.Thumbprint, error) {
	ak, err := checkAK(public)
	if err != nil {
		return statement.Thumbprint{}, err
	}
	if pub, ok := ak.pub.(*rsa.PublicKey); ok {
		return rsaThumbprint(pub)
	}
	key, err := statement.NewKey(ak.pub)
	if err != nil {
		return statement.Thumbprint{}, err
	}
	return key.Thumbprint(), nil
}

func rsaThumbprint(pub *rsa.PublicKey) (statement.Thumbprint, error) {
	enc, err := statement.Marshal(struct {
		Kty int64  `cbor:"1,keyasint"` // 3: RSA
		N   []byte `cbor:"-1,keyasint"`
		E   []byte `cbor:"-2,keyasint"`
	}{3, pub.N.Bytes(), []byte{byte(pub.E >> 16), byte(pub.E >> 8), byte(pub.E)}})
	if err != nil {
		return statement.Thumbprint{}, err
	}
	return sha256.Sum256(enc), nil
}
