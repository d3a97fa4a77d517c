package custody

import (
	"testing"

	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/softhsm"
)

// BenchmarkSign is a record signed and verified, by the token in this process and by the signer process.
func BenchmarkSign(b *testing.B) {
	soft := softhsm.New(b)
	p := open(b, config(soft))
	away := newSigner(b, p, hsm.Record)
	tk, err := hsm.Open(b.Context(), hsm.Config{Module: soft.Module, Token: soft.Label, PIN: hsm.PINFromFile(soft.PINFile)})
	if err != nil {
		b.Fatal(err)
	}
	defer tk.Close()
	here, err := tk.Signer(b.Context(), hsm.Record, away.Key().Thumbprint())
	if err != nil {
		b.Fatal(err)
	}
	for _, of := range []struct {
		name string
		s    statement.Signer
	}{{"here", here}, {"away", away}} {
		b.Run(of.name+"/one", func(b *testing.B) {
			for b.Loop() {
				if _, err := sign(b.Context(), of.s, statement.Record); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(of.name+"/parallel", func(b *testing.B) {
			b.SetParallelism(32)
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := sign(b.Context(), of.s, statement.Record); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}
