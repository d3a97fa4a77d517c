package attest_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/test/softtpm"
)

// BenchmarkVerify is everything that one piece of evidence costs: decoding, two signatures of the AK, the event log.
func BenchmarkVerify(b *testing.B) {
	for name, ak := range map[string]softtpm.Algorithm{"AK=P-256": softtpm.P256, "AK=P-384": softtpm.P384, "AK=RSA-2048": softtpm.RSA2048} {
		b.Run(name, func(b *testing.B) {
			w := newWorld(b, softtpm.Options{AK: ak})
			raw := encode(b, w.evidence(b))
			for b.Loop() {
				if _, err := verify(raw, w.want); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkBareSignatures is what Verify cannot do without: two ECDSA verifications with P-256.
func BenchmarkBareSignatures(b *testing.B) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256([]byte("attestation"))
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for range 2 {
			if !ecdsa.VerifyASN1(&key.PublicKey, digest[:], sig) {
				b.Fatal("the signature does not verify")
			}
		}
	}
}

func BenchmarkCheckEnrolment(b *testing.B) {
	w := newWorld(b, softtpm.Options{})
	r := w.tpm.EnrolRequest()
	o := attest.EnrolOptions{EKDigest: w.tpm.EKDigest(), Roots: []*x509.Certificate{w.vendor.Root}, Now: softtpm.Now}
	for b.Loop() {
		c, err := attest.CheckEnrolment(&r, o)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.MakeCredential([32]byte{1}); err != nil {
			b.Fatal(err)
		}
	}
}
