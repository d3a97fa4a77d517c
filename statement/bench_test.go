package statement

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"math/big"
	"testing"
)

// benchmarkPayload is as large as the claims of an artifact.
var benchmarkPayload = make([]byte, 1500)

func BenchmarkSign(b *testing.B) {
	_, s := newSigner(b)
	for b.Loop() {
		if _, err := Sign(context.Background(), s, Artifact, testClaims, benchmarkPayload); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify decodes and verifies; compare it with BenchmarkBareVerify, which it may exceed by little.
func BenchmarkVerify(b *testing.B) {
	_, s := newSigner(b)
	raw := mustSign(b, s, Artifact, benchmarkPayload)
	keys := trust(b, s.Key(), Artifact)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := verifyArtifact(raw, keys); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkBareVerify is the one ECDSA verification inside of BenchmarkVerify, with its hash.
func BenchmarkBareVerify(b *testing.B) {
	priv, s := newSigner(b)
	e := mustDecode(b, mustSign(b, s, Artifact, benchmarkPayload))
	tbs := toBeSigned(e.protected, e.payload)
	b.ReportAllocs()
	for b.Loop() {
		hash := sha256.Sum256(tbs)
		r, ss := new(big.Int).SetBytes(e.signature[:32]), new(big.Int).SetBytes(e.signature[32:])
		if !ecdsa.Verify(&priv.PublicKey, hash[:], r, ss) {
			b.Fatal("does not verify")
		}
	}
}

// BenchmarkDecode is what a stranger can make a reader do before any key is looked at.
func BenchmarkDecode(b *testing.B) {
	_, s := newSigner(b)
	raw := mustSign(b, s, Artifact, benchmarkPayload)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(raw, len(raw)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	d := DigestOf([]byte("x"))
	_, s := newSigner(b)
	key := s.Key()
	data, err := Marshal(outer{ID: d, Inner: inner{"a", "b"}, List: make([]inner, 20), Key: &key, Raw: RawItem{1}, Prev: &d})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var out outer
		if err := Unmarshal(data, &out); err != nil {
			b.Fatal(err)
		}
	}
}
