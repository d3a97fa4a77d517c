package hsm

import (
	"crypto/sha256"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/statement"
)

func report(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "signs/s") }

// BenchmarkSign is a signature as the issuer gets it: by the token, verified with the pinned key.
func BenchmarkSign(b *testing.B) {
	tk := open(b)
	s := newSigner(b, tk, Artifact)
	tbs := structure(b, s, statement.Artifact)
	sign := func() {
		if _, err := s.Sign(b.Context(), tbs); err != nil {
			b.Error(err)
		}
	}
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			sign()
		}
		report(b)
	})
	b.Run("parallel", func(b *testing.B) {
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				sign()
			}
		})
		report(b)
	})
}

// BenchmarkModule is what BenchmarkSign is made of: C_SignInit and C_Sign, and one verification.
func BenchmarkModule(b *testing.B) {
	tk := open(b)
	s := newSigner(b, tk, Artifact)
	key, digest := tk.handle(tk.conn, s.Key().Thumbprint()), sha256.Sum256(nil)
	b.Run("one", func(b *testing.B) {
		for b.Loop() {
			if _, err := tk.signECDSA(tk.conn.keeper, key, digest[:]); err != nil {
				b.Fatal(err)
			}
		}
		report(b)
	})
	b.Run("parallel", func(b *testing.B) {
		b.SetParallelism(8)
		b.RunParallel(func(pb *testing.PB) {
			session, err := tk.mod.OpenSession(tk.conn.slot, pkcs11.CKF_SERIAL_SESSION)
			if err != nil {
				b.Error(err)
				return
			}
			defer tk.mod.CloseSession(session)
			for pb.Next() {
				if _, err := tk.signECDSA(session, key, digest[:]); err != nil {
					b.Error(err)
				}
			}
		})
		report(b)
	})
	sig, err := tk.signECDSA(tk.conn.keeper, key, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	b.Run("verify", func(b *testing.B) {
		for b.Loop() {
			if !verifies(s.Key(), digest[:], sig) {
				b.Fatal("the signature does not verify")
			}
		}
		report(b)
	})
}
