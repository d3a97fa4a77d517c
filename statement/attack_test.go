package statement

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/asn1"
	"math/big"
	mrand "math/rand/v2"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
)

// attack is one valid, validly signed artifact with one thing broken.
type attack struct {
	name  string
	brk   func(p *parts)
	want  denial.Reason
	after func(raw []byte) []byte // breaks the bytes after the signature
}

func TestBrokenStatementsAreRefused(t *testing.T) {
	_, s := newSigner(t)
	keys := trust(t, s.Key(), Artifact)
	if _, err := verifyArtifact(artifactParts(t, s).build(t), keys); err != nil {
		t.Fatalf("the statement that the attacks start from is refused: %v", err)
	}
	attacks := slices.Concat(algorithmAttacks(t), headerAttacks(t), encodingAttacks(t), formAttacks(t), keyAttacks(t))
	for _, a := range attacks {
		t.Run(a.name, func(t *testing.T) {
			p := artifactParts(t, s)
			if a.brk != nil {
				a.brk(p)
			}
			raw := p.build(t)
			if a.after != nil {
				raw = a.after(raw)
			}
			v, err := verifyArtifact(raw, keys)
			wantDenial(t, err, a.want)
			if v != nil {
				t.Error("got a verified statement beside the refusal")
			}
		})
	}
}

func rawSignature(t testing.TB, priv *ecdsa.PrivateKey, tbs []byte) []byte {
	t.Helper()
	s, err := NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := s.Sign(context.Background(), ToBeSigned{bytes: tbs})
	if err != nil {
		t.Fatal(err)
	}
	return sig
}

func TestC04_ES256WithAP384Key(t *testing.T) {
	_, s := newCurveSigner(t, elliptic.P384())
	keys := trust(t, s.Key(), Artifact)
	if _, err := verifyArtifact(artifactParts(t, s).build(t), keys); err != nil {
		t.Fatalf("a P-384 statement is refused: %v", err)
	}
	for _, alg := range []Algorithm{ES256, ESP256, EdDSA} {
		p := artifactParts(t, s)
		p.labels[labelAlg] = alg
		_, err := verifyArtifact(p.build(t), keys)
		wantDenial(t, err, denial.AlgKeyMismatch)
	}
}

func TestC09_TheSameClaimTwice(t *testing.T) {
	var claims struct {
		Expires uint64 `cbor:"4,keyasint"`
	}
	for _, payload := range [][]byte{{0xa2, 0x04, 0x01, 0x04, 0x02}, {0xa2, 0x04, 0x01, 0x04, 0x01}} {
		v := verifiedPayload(t, payload)
		wantDenial(t, v.Unmarshal(&claims), denial.LabelDuplicate)
	}
}

// verifiedPayload returns a verified artifact with the payload.
func verifiedPayload(t *testing.T, payload []byte) *Verified {
	t.Helper()
	_, s := newSigner(t)
	v, err := verifyArtifact(mustSign(t, s, Artifact, payload), trust(t, s.Key(), Artifact))
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestC16_EveryKindForEveryOther signs a valid statement of each kind and presents it as each other kind, with the key
// trusted for both, and then as its own kind with the key trusted for the other only.
func TestC16_EveryKindForEveryOther(t *testing.T) {
	_, s := newSigner(t)
	payload := []byte{0xa1, 0x01, 0x01}
	for _, is := range Kinds() {
		e := mustDecode(t, mustSign(t, s, is, payload))
		verify := func(keys Keys, as Kind) error {
			if is.form().detached {
				_, err := e.VerifyDetached(keys, as, payload)
				return err
			}
			_, err := e.Verify(keys, as)
			return err
		}
		if err := verify(trust(t, s.Key(), Kinds()...), is); err != nil {
			t.Errorf("%s as itself: %v", is, err)
		}
		if got := e.Kind(); got != is {
			t.Errorf("Kind() = %s, want %s", got, is)
		}
		for _, as := range append(Kinds(), 0, kinds, 255) {
			if as == is {
				continue
			}
			wantDenial(t, verify(trust(t, s.Key(), is, as), as), denial.WrongType)
			wantDenial(t, verify(trust(t, s.Key(), as), is), denial.WrongType)
		}
	}
}

func TestC17_ADepthBombCostsNothing(t *testing.T) {
	for name, bomb := range map[string][]byte{
		"arrays": append(bytes.Repeat([]byte{0x81}, 100_000), 0),
		"maps":   append(bytes.Repeat([]byte{0xa1, 0x01}, 100_000), 0),
	} {
		if n := testing.AllocsPerRun(10, func() { wantDenial(t, Scan(bomb), denial.StructureLimit) }); n > 10 {
			t.Errorf("%s: %v allocations", name, n)
		}
		v := verifiedPayload(t, bomb[:4000])
		var out any
		wantDenial(t, v.Unmarshal(&out), denial.StructureLimit)
	}
}

func TestC18_AHugeDeclaredLengthAllocatesNothing(t *testing.T) {
	for _, head := range []byte{0x5b, 0x7b, 0x9b, 0xbb} {
		data := append([]byte{head}, bytes.Repeat([]byte{0xff}, 8)...)
		wantDenial(t, Scan(data), denial.StructureLimit)
		var out any
		if n := testing.AllocsPerRun(10, func() { _ = Unmarshal(data, &out) }); n > 10 {
			t.Errorf("%#x: %v allocations", head, n)
		}
	}
}

// TestC19_TheOtherSOfASignature shows that (r, n-s) verifies as well. A statement is therefore never recognised by its
// bytes: the digest differs, what it says does not.
func TestC19_TheOtherSOfASignature(t *testing.T) {
	_, s := newSigner(t)
	keys := trust(t, s.Key(), Artifact)
	p := artifactParts(t, s)
	first, err := verifyArtifact(p.build(t), keys)
	if err != nil {
		t.Fatal(err)
	}
	sig := first.env.signature
	n := elliptic.P256().Params().N
	p.sign = func([]byte) []byte {
		other := bytes.Clone(sig)
		new(big.Int).Sub(n, new(big.Int).SetBytes(sig[32:])).FillBytes(other[32:])
		return other
	}
	second, err := verifyArtifact(p.build(t), keys)
	if err != nil {
		t.Fatal(err)
	}
	if first.Digest() == second.Digest() {
		t.Error("two signatures give one digest")
	}
	if !bytes.Equal(first.Payload(), second.Payload()) || first.Claims() != second.Claims() {
		t.Error("the other signature changed what is said")
	}
}

func TestC20_AnEditedUnprotectedHeaderDecidesNothing(t *testing.T) {
	_, s := newSigner(t)
	keys := trust(t, s.Key(), Artifact)
	p := artifactParts(t, s)
	delete(p.labels, labelKeyID)
	kid := s.Key().Thumbprint()
	p.unprotected = encode(t, map[int64]any{labelKeyID: kid[:]})
	_, err := verifyArtifact(p.build(t), keys)
	wantDenial(t, err, denial.KeyUnknown) // a kid outside of the signature finds no key

	p = artifactParts(t, s)
	plain, err := verifyArtifact(p.build(t), keys)
	if err != nil {
		t.Fatal(err)
	}
	p.sign = func([]byte) []byte { return plain.env.signature }
	for _, header := range []any{
		map[int64]any{33: []byte("certificate"), 35: "https://attacker.example"},
		map[int64]any{5: []byte("iv"), 9999: map[string]any{"a": []int{1}}},
		map[any]any{"kid": []byte("x"), "alg": "none", uint64(1) << 63: 1},
		map[int64]any{labelProofs: map[int64]any{-1: [][]byte{{1}}}},
	} {
		p.unprotected = encode(t, header)
		v, err := verifyArtifact(p.build(t), keys)
		if err != nil {
			t.Errorf("%v: %v", header, err)
			continue
		}
		if v.Digest() != plain.Digest() || !bytes.Equal(v.Leaf(), plain.Leaf()) || v.Key().Thumbprint() != kid {
			t.Errorf("%v changed the statement", header)
		}
	}
}

func TestC22_TwoKeysWithOneKid(t *testing.T) {
	_, s := newSigner(t)
	keys := trust(t, s.Key(), Artifact)
	wantDenial(t, keys.Add(s.Key(), Receipt), denial.KeyAmbiguous)
	if keys.Has(s.Key().Thumbprint(), Receipt) || !keys.Has(s.Key().Thumbprint(), Artifact) {
		t.Error("the refused key changed the set")
	}
	wantDenial(t, keys.Add(Key{}, Artifact), denial.KeyUnknown)
	_, other := newSigner(t)
	wantDenial(t, keys.Add(other.Key()), denial.KeyUnknown)
}

func TestC24_SignaturesThatAreNone(t *testing.T) {
	priv, s := newSigner(t)
	keys := trust(t, s.Key(), Artifact)
	n := elliptic.P256().Params().N
	pad := func(r, s *big.Int) []byte {
		b := make([]byte, 64)
		r.FillBytes(b[:32])
		s.FillBytes(b[32:])
		return b
	}
	zero, one := new(big.Int), big.NewInt(1)
	for name, sign := range map[string]func(good, tbs []byte) []byte{
		"empty":        func([]byte, []byte) []byte { return []byte{} },
		"r=0, s=0":     func([]byte, []byte) []byte { return make([]byte, 64) },
		"r=0":          func(good, _ []byte) []byte { return append(make([]byte, 32), good[32:]...) },
		"s=0":          func(good, _ []byte) []byte { return append(good[:32:32], make([]byte, 32)...) },
		"r=n":          func(good, _ []byte) []byte { return pad(n, new(big.Int).SetBytes(good[32:])) },
		"s=n":          func(good, _ []byte) []byte { return pad(new(big.Int).SetBytes(good[:32]), n) },
		"r=1, s=1":     func([]byte, []byte) []byte { return pad(one, one) },
		"r=n, s=0":     func([]byte, []byte) []byte { return pad(n, zero) },
		"all ones":     func([]byte, []byte) []byte { return bytes.Repeat([]byte{0xff}, 64) },
		"one byte off": func(good, _ []byte) []byte { return good[:63] },
		"one too long": func(good, _ []byte) []byte { return append(good, 0) },
		"padded parts": func(good, _ []byte) []byte {
			return slices.Concat([]byte{0}, good[:32], []byte{0}, good[32:])
		},
		"r and s swapped": func(good, _ []byte) []byte { return slices.Concat(good[32:], good[:32]) },
		"DER": func(_, tbs []byte) []byte {
			sig, err := ecdsa.SignASN1(rand.Reader, priv, hashFor(&priv.PublicKey, tbs))
			if err != nil {
				t.Fatal(err)
			}
			return sig
		},
		"DER of the right values": func(good, _ []byte) []byte {
			der, err := asn1.Marshal([]*big.Int{new(big.Int).SetBytes(good[:32]), new(big.Int).SetBytes(good[32:])})
			if err != nil {
				t.Fatal(err)
			}
			return der
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := artifactParts(t, s)
			good := p.sign
			p.sign = func(tbs []byte) []byte { return sign(good(tbs), tbs) }
			_, err := verifyArtifact(p.build(t), keys)
			wantDenial(t, err, denial.SignatureInvalid)
		})
	}
}

// TestC35_AMalformedPayloadUnderAValidSignature: the signature holds, and the refusal of the payload is not lost.
func TestC35_AMalformedPayloadUnderAValidSignature(t *testing.T) {
	type claims struct {
		ID      [4]byte `cbor:"1,keyasint"`
		Expires uint64  `cbor:"4,keyasint"`
		Note    string  `cbor:"5,keyasint,omitempty"`
		Use     *uint64 `cbor:"6,keyasint,omitempty"`
	}
	good := map[int64]any{1: []byte("abcd"), 4: 7}
	with := func(k int64, v any) []byte {
		m := map[int64]any{k: v}
		for label, value := range good {
			if label != k {
				m[label] = value
			}
		}
		return encode(t, m)
	}
	without := func(k int64) []byte {
		m := map[int64]any{}
		for label, value := range good {
			if label != k {
				m[label] = value
			}
		}
		return encode(t, m)
	}
	var out claims
	if err := verifiedPayload(t, encode(t, good)).Unmarshal(&out); err != nil || out.Expires != 7 {
		t.Fatalf("got %+v, %v", out, err)
	}
	for name, c := range map[string]struct {
		payload []byte
		want    denial.Reason
	}{
		"cut short":                         {encode(t, good)[:5], denial.StructureLimit},
		"trailing byte":                     {append(encode(t, good), 0), denial.TrailingData},
		"not a map":                         {[]byte{0x80}, denial.PayloadForm},
		"a number":                          {[]byte{0x01}, denial.PayloadForm},
		"text for a number":                 {with(4, "7"), denial.PayloadForm},
		"a negative for an unsigned number": {with(4, -7), denial.PayloadForm},
		"a float":                           {with(4, 7.5), denial.NotCanonical},
		"required key missing":              {without(4), denial.ClaimAbsent},
		"null for a required key":           {with(4, nil), denial.ClaimAbsent},
		"null for an optional key":          {with(6, nil), denial.PayloadForm},
		"empty for an optional key":         {with(5, ""), denial.PayloadForm},
		"byte string too long":              {with(1, []byte("abcde")), denial.PayloadForm},
		"byte string too short":             {with(1, []byte("abc")), denial.PayloadForm},
		"numbers for a byte string":         {with(1, []int{97, 98, 99, 100}), denial.PayloadForm},
		"text for a byte string":            {with(1, "abcd"), denial.PayloadForm},
		"unknown key":                       {with(9, 1), denial.UnsupportedVersion},
		"unknown negative key":              {with(-9, 1), denial.UnsupportedVersion},
		"a text key of the same digits":     {encode(t, map[any]any{1: []byte("abcd"), "4": 7}), denial.UnsupportedVersion},
	} {
		t.Run(name, func(t *testing.T) {
			var out claims
			wantDenial(t, verifiedPayload(t, c.payload).Unmarshal(&out), c.want)
		})
	}
}

// TestC40_Mutations flips every bit of a signed statement, cuts it at every length and inserts a byte at every place.
// Then it changes bytes at random places (the same ones in every run), up to 10,000 cases.
func TestC40_Mutations(t *testing.T) {
	_, s := newSigner(t)
	keys := trust(t, s.Key(), Artifact)
	raw := mustSign(t, s, Artifact, []byte{0xa1, 0x01, 0x61, 'x'})
	tried := 0
	try := func(b []byte) {
		tried++
		v, err := verifyArtifact(b, keys)
		if err == nil || v != nil {
			t.Errorf("accepted %x", b)
		}
		if d := denial.Of(err); d.Reason == denial.Internal {
			t.Errorf("%x: got %v, want a refusal with a reason", b, err)
		}
	}
	for i := range raw {
		for bit := range 8 {
			b := bytes.Clone(raw)
			b[i] ^= 1 << bit
			try(b)
		}
		try(raw[:i])
		try(slices.Delete(bytes.Clone(raw), i, i+1))
		for _, c := range []byte{0, 0x40, 0x80, 0xa0, 0xd2, 0xf6, 0xff} {
			try(slices.Insert(bytes.Clone(raw), i, c))
		}
		for _, c := range []byte{0, 0x18, 0x40, 0x5f, 0x80, 0x9f, 0xa0, 0xbf, 0xf6, 0xfb, 0xff} {
			if raw[i] != c {
				b := bytes.Clone(raw)
				b[i] = c
				try(b)
			}
		}
	}
	random := mrand.New(mrand.NewPCG(1, 2))
	for tried < 10_000 {
		b := bytes.Clone(raw)
		for range 2 + random.IntN(4) {
			b[random.IntN(len(b))] = byte(random.Uint32())
		}
		if !bytes.Equal(b, raw) {
			try(b)
		}
	}
}
