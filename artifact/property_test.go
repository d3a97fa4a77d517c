package artifact

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	mrand "math/rand/v2"
	"testing"
	"time"

	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/need"
)

// mutate changes some bytes of a copy: flips, replaces, removes, inserts or repeats.
func mutate(r *mrand.Rand, raw []byte) []byte {
	m := bytes.Clone(raw)
	for range 1 + r.IntN(3) {
		i := r.IntN(len(m))
		switch r.IntN(5) {
		case 0:
			m[i] ^= 1 << r.IntN(8)
		case 1:
			m[i] = byte(r.IntN(256))
		case 2:
			m = append(m[:i], m[i+1:]...)
		case 3:
			m = append(m[:i], append([]byte{byte(r.IntN(256))}, m[i:]...)...)
		case 4:
			j := min(len(m), i+1+r.IntN(8))
			m = append(m[:j], append(bytes.Clone(m[i:j]), m[j:]...)...)
		}
	}
	return m
}

// TestNoMutationIsAccepted mutates a valid artifact 10,000 times. No mutation is accepted, except one that leaves the
// signed bytes as they are and a valid receipt in place; there is none such among these.
func TestNoMutationIsAccepted(t *testing.T) {
	k := newKit(t)
	raw := k.mint(k.claims())
	want := k.want()
	if _, err := Verify(raw, want); err != nil {
		t.Fatal(err)
	}
	r := mrand.New(mrand.NewPCG(3, 4))
	for i := range 10_000 {
		m := mutate(r, raw)
		if bytes.Equal(m, raw) {
			continue
		}
		if _, err := Verify(m, want); err == nil {
			t.Fatalf("mutation %d is accepted: %x", i, m)
		}
	}
}

// TestEveryFlippedBitIsRefused flips each bit of a valid artifact, one at a time.
func TestEveryFlippedBitIsRefused(t *testing.T) {
	if testing.Short() && !need.All() {
		t.Skip("about 16,000 verifications")
	}
	k := newKit(t)
	raw := k.mint(k.claims())
	want := k.want()
	for i := range raw {
		for bit := range 8 {
			raw[i] ^= 1 << bit
			if _, err := Verify(raw, want); err == nil {
				t.Errorf("byte %d, bit %d", i, bit)
			}
			raw[i] ^= 1 << bit
		}
	}
}

func FuzzVerify(f *testing.F) {
	k := newKit(f)
	want := k.want()
	raw := k.mint(k.claims())
	env, err := statement.Decode(raw, maxArtifact)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(env.Leaf())
	f.Add([]byte{0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40})
	f.Fuzz(func(t *testing.T, data []byte) {
		a, err := Verify(data, want)
		if (a == nil) == (err == nil) {
			t.Fatalf("artifact %v with error %v", a, err)
		}
		if a != nil && !bytes.Equal(a.leaf, env.Leaf()) {
			t.Fatalf("a forged artifact is accepted: %x", data)
		}
		if _, _, err := Inspect(data); err != nil && a != nil {
			t.Fatalf("verified but not shown: %v", err)
		}
	})
}

func FuzzDecodeClaims(f *testing.F) {
	k := newKit(f)
	f.Add(mustEncode(f, k.claims()))
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := DecodeClaims(data)
		if err != nil {
			return
		}
		if enc, err := c.Encode(); err != nil || !bytes.Equal(enc, data) {
			t.Fatalf("decoded from %x, encoded to %x (%v)", data, enc, err)
		}
	})
}

func FuzzDecodeRequest(f *testing.F) {
	k := newKit(f)
	raw, err := SignRequest(f.Context(), k.person, k.request())
	if err != nil {
		f.Fatal(err)
	}
	c := k.request()
	f.Add(raw)
	f.Add(payload(f, &c))
	f.Fuzz(func(t *testing.T, data []byte) {
		if u, err := DecodeRequest(data); err == nil {
			if r, err := VerifyRequest(u, k.person.Key(), t0); err == nil && !bytes.Equal(r.Leaf(), raw) {
				t.Fatalf("a forged request is accepted: %x", data)
			}
		}
		var c RequestClaims
		if decodeStrict(data, &c) == nil && !bytes.Equal(payload(t, &c), data) {
			t.Fatalf("decoded in a second encoding: %x", data)
		}
	})
}

func FuzzVerifyStatus(f *testing.F) {
	k := newKit(f)
	raw := k.statusToken(k.statusList())
	packed, err := packStatus(k.statusList().Values)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(packed)
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := VerifyStatus(data, k.trust, t0, 0); err == nil && s.digest != statement.DigestOf(raw) {
			t.Fatalf("a forged list is accepted: %x", data)
		}
		if list, err := inflate(data); err == nil && len(list) > maxStatusList {
			t.Fatalf("inflated to %d bytes", len(list))
		}
	})
}

func FuzzParseTrust(f *testing.F) {
	k := newKit(f)
	f.Add([]byte(trustText(k)))
	if text, err := k.trust.Marshal(); err == nil {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, err := ParseTrust(data)
		if err != nil {
			return
		}
		text, err := tr.Marshal()
		if err != nil {
			t.Fatalf("read but not written: %v", err)
		}
		if _, err := ParseTrust(text); err != nil {
			t.Fatalf("written but not read: %v\n%s", err, text)
		}
	})
}

// BenchmarkVerify is the whole of Verify, with the two signatures inside it. Compare with BenchmarkTwoSignatures: the
// aim is at most 1.2 times.
func BenchmarkVerify(b *testing.B) {
	k := newKit(b)
	raw, want := k.mint(k.claims()), k.want()
	b.ReportMetric(float64(len(raw)), "artifact-bytes")
	for b.Loop() {
		if _, err := Verify(raw, want); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkTwoSignatures is two bare ECDSA P-256 verifications.
func BenchmarkTwoSignatures(b *testing.B) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	hash := sha256.Sum256([]byte("message"))
	sig, err := ecdsa.SignASN1(rand.Reader, priv, hash[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		for range 2 {
			if !ecdsa.VerifyASN1(&priv.PublicKey, hash[:], sig) {
				b.Fatal("not verified")
			}
		}
	}
}

// BenchmarkRatio measures both side by side and reports the ratio of the fastest rounds, on which other work on the
// machine weighs least.
func BenchmarkRatio(b *testing.B) {
	k := newKit(b)
	raw, want := k.mint(k.claims()), k.want()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	hash := sha256.Sum256([]byte("message"))
	r, s, err := ecdsa.Sign(rand.Reader, priv, hash[:])
	if err != nil {
		b.Fatal(err)
	}
	whole, bare := time.Hour, time.Hour
	for b.Loop() {
		start := time.Now()
		if _, err := Verify(raw, want); err != nil {
			b.Fatal(err)
		}
		middle := time.Now()
		for range 2 {
			if !ecdsa.Verify(&priv.PublicKey, hash[:], r, s) {
				b.Fatal("not verified")
			}
		}
		bare = min(bare, time.Since(middle))
		whole = min(whole, middle.Sub(start))
	}
	b.ReportMetric(float64(whole)/float64(bare), "x-bare")
}
