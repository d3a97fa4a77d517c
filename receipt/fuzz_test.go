package receipt

import (
	"bytes"
	"testing"
)

// FuzzVerify checks that nothing panics and that what verifies says the truth: the signed head, and the true index of
// the entry.
func FuzzVerify(f *testing.F) {
	x := newFixture(f, 7)
	good := x.receipt(4, 7)
	f.Add(good, x.entries[4])
	f.Add(x.receipt(0, 2), x.entries[0])
	f.Add(x.signedHead(7), x.entries[0])
	f.Add(x.consistencyReceipt(3, 7), x.entries[2])
	f.Add([]byte{0xd2, 0x84, 0x40, 0xa0, 0xf6, 0x40}, []byte{})
	f.Fuzz(func(t *testing.T, raw, leaf []byte) {
		if p, err := Verify(raw, leaf, x.keys); err == nil {
			if (Head{p.Size, p.Root, p.Time}) != x.headAt(p.Size) || !bytes.Equal(leaf, x.entries[p.Index]) {
				t.Errorf("verified a receipt that was not made: %x", raw)
			}
		}
		if s, err := VerifyConsistency(raw, x.headAt(3), x.keys); err == nil && s.Head != x.headAt(s.Size) {
			t.Errorf("verified a head that was not signed: %x", raw)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	x := newFixture(b, 300)
	raw := x.receipt(123, 300)
	b.Run("fresh", func(b *testing.B) {
		for b.Loop() {
			if _, err := Verify(raw, x.entries[123], x.keys); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("cached", func(b *testing.B) {
		v := NewVerifier(x.keys)
		for b.Loop() {
			if _, err := v.Verify(raw, x.entries[123]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkMake(b *testing.B) {
	x := newFixture(b, 300)
	head, path := x.signedHead(300), x.path(123, 300)
	for b.Loop() {
		if _, err := Make(head, 300, 123, path); err != nil {
			b.Fatal(err)
		}
	}
}
