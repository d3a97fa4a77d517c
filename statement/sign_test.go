package statement

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math"
	"math/big"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
)

// oddSigner is a signer whose answers a test chooses.
type oddSigner struct {
	Signer
	sign func(tbs ToBeSigned) ([]byte, error)
}

func (o oddSigner) Sign(_ context.Context, tbs ToBeSigned) ([]byte, error) { return o.sign(tbs) }

func TestEveryKindIsSignedAndVerified(t *testing.T) {
	_, p256 := newSigner(t)
	_, p384 := newCurveSigner(t, elliptic.P384())
	payload := []byte{0xa1, 0x01, 0x61, 'x'}
	for _, s := range []Signer{p256, p384, newEdSigner(t)} {
		for _, kind := range Kinds() {
			leaf := mustSign(t, s, kind, payload)
			e := mustDecode(t, leaf)
			verify := func() (*Verified, error) { return e.Verify(trust(t, s.Key(), kind), kind) }
			if kind.form().detached {
				verify = func() (*Verified, error) { return e.VerifyDetached(trust(t, s.Key(), kind), kind, payload) }
			}
			v, err := verify()
			if err != nil {
				t.Errorf("%s: %v", kind, err)
				continue
			}
			if v.Kind() != kind || !v.Key().Equal(s.Key()) || v.Claims() != testClaims || !bytes.Equal(v.Leaf(), leaf) ||
				v.Digest() != DigestOf(leaf) || v.Digest() != e.Digest() {
				t.Errorf("%s: got %+v", kind, v)
			}
			if id, ok := e.KeyID(); !ok || id != s.Key().Thumbprint() || e.Claims() != testClaims {
				t.Errorf("%s: kid %s, claims %+v", kind, id, e.Claims())
			}
			if got := v.Payload(); kind.form().detached != (got == nil) || got != nil && !bytes.Equal(got, payload) {
				t.Errorf("%s: payload %x", kind, got)
			}
		}
	}
}

// TestDigestsNameBothSignatures: what anybody can make of an ECDSA signature verifies, and either statement names the other.
func TestDigestsNameBothSignatures(t *testing.T) {
	_, p256 := newSigner(t)
	_, p384 := newCurveSigner(t, elliptic.P384())
	for _, s := range []Signer{p256, p384, newEdSigner(t)} {
		leaf := mustSign(t, s, Record, []byte{0xa0})
		v, err := mustDecode(t, leaf).Verify(trust(t, s.Key(), Record), Record)
		if err != nil {
			t.Fatal(err)
		}
		public, isECDSA := s.Key().Public().(*ecdsa.PublicKey)
		if !isECDSA {
			if got := v.Digests(); !slices.Equal(got, []Digest{DigestOf(leaf)}) {
				t.Errorf("algorithm %d: got %v", s.Key().algorithm(), got)
			}
			continue
		}
		other := bytes.Clone(leaf)
		half := other[len(other)-(public.Params().BitSize+7)/8:]
		new(big.Int).Sub(public.Params().N, new(big.Int).SetBytes(half)).FillBytes(half)
		w, err := mustDecode(t, other).Verify(trust(t, s.Key(), Record), Record)
		if err != nil {
			t.Fatal(err)
		}
		both := []Digest{DigestOf(leaf), DigestOf(other)}
		if got := v.Digests(); !slices.Equal(got, both) {
			t.Errorf("algorithm %d: got %v, want %v", s.Key().algorithm(), got, both)
		}
		if got := w.Digests(); !slices.Equal(got, []Digest{both[1], both[0]}) {
			t.Errorf("algorithm %d, the other: got %v", s.Key().algorithm(), got)
		}
	}
}

func TestH08_ABadSignatureDoesNotLeave(t *testing.T) {
	_, s := newSigner(t)
	_, other := newSigner(t)
	ctx := context.Background()
	for name, sign := range map[string]func(ToBeSigned) ([]byte, error){
		"a flipped bit": func(tbs ToBeSigned) ([]byte, error) {
			sig, err := s.Sign(ctx, tbs)
			sig[5] ^= 1
			return sig, err
		},
		"another key":    func(tbs ToBeSigned) ([]byte, error) { return other.Sign(ctx, tbs) },
		"nothing":        func(ToBeSigned) ([]byte, error) { return nil, nil },
		"zeros":          func(ToBeSigned) ([]byte, error) { return make([]byte, 64), nil },
		"one byte short": func(tbs ToBeSigned) ([]byte, error) { sig, err := s.Sign(ctx, tbs); return sig[:63], err },
		"a changed structure": func(tbs ToBeSigned) ([]byte, error) {
			tbs.Bytes()[len(tbs.Bytes())-1] ^= 1
			return s.Sign(ctx, tbs)
		},
	} {
		t.Run(name, func(t *testing.T) {
			leaf, err := Sign(ctx, oddSigner{s, sign}, Artifact, testClaims, []byte{0xa0})
			wantDenial(t, err, denial.HSMUnavailable)
			if leaf != nil {
				t.Error("a statement left")
			}
		})
	}
}

func TestH08_WhatVerifiedOnceIsRememberedForThatSignatureAlone(t *testing.T) {
	_, s := newSigner(t)
	_, other := newSigner(t)
	for name, swap := range map[string]func(ToBeSigned, []byte) []byte{
		"the signature shown":                      func(_ ToBeSigned, sig []byte) []byte { return sig },
		"another signature":                        func(tbs ToBeSigned, _ []byte) []byte { sig, _ := other.Sign(t.Context(), tbs); return sig },
		"the signature changed after it was shown": func(_ ToBeSigned, sig []byte) []byte { sig[9] ^= 1; return sig },
	} {
		odd := oddSigner{s, func(tbs ToBeSigned) ([]byte, error) {
			sig, err := s.Sign(t.Context(), tbs)
			if err != nil || !tbs.Verifies(s.Key(), sig) || !tbs.Verifies(s.Key(), sig) {
				t.Fatalf("%s: a good signature does not verify: %v", name, err)
			}
			if tbs.Verifies(other.Key(), sig) || tbs.Verifies(Key{}, sig) || (ToBeSigned{}).Verifies(s.Key(), sig) {
				t.Errorf("%s: verifies with another key, none, or nothing signed", name)
			}
			return swap(tbs, sig), nil
		}}
		_, err := Sign(t.Context(), odd, Artifact, testClaims, []byte{0xa0})
		if good := name == "the signature shown"; good != (err == nil) || !good && !denial.Is(err, denial.HSMUnavailable) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestTheSignersErrorIsKept(t *testing.T) {
	_, s := newSigner(t)
	fault := errors.New("token removed")
	for _, want := range []error{denial.New(denial.HSMKeyPolicy, "x"), denial.New(denial.WrongType, "x"), fault} {
		odd := oddSigner{s, func(ToBeSigned) ([]byte, error) { return nil, want }}
		if _, err := Sign(context.Background(), odd, Artifact, testClaims, []byte{0xa0}); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
	}
}

func TestASignerSeesTheKindAndTheWholeStructure(t *testing.T) {
	_, s := newSigner(t)
	payload := []byte{0xa1, 0x01, 0x01}
	for _, kind := range Kinds() {
		odd := oddSigner{s, func(tbs ToBeSigned) ([]byte, error) {
			if tbs.Kind() != kind || !bytes.HasPrefix(tbs.Bytes(), []byte("\x84\x6aSignature1")) || !bytes.HasSuffix(tbs.Bytes(), payload) {
				t.Errorf("%s: got %s, %x", kind, tbs.Kind(), tbs.Bytes())
			}
			return s.Sign(context.Background(), tbs)
		}}
		mustSign(t, odd, kind, payload)
	}
	_, err := s.Sign(context.Background(), ToBeSigned{})
	wantDenial(t, err, denial.Internal)
}

func TestSignRefuses(t *testing.T) {
	_, s := newSigner(t)
	ok := []byte{0xa0}
	for name, c := range map[string]struct {
		kind    Kind
		claims  Claims
		payload []byte
	}{
		"no kind":           {0, testClaims, ok},
		"unknown kind":      {kinds, testClaims, ok},
		"no issuer":         {Artifact, Claims{Subject: "s"}, ok},
		"no subject":        {Artifact, Claims{Issuer: "i"}, ok},
		"no payload":        {Artifact, testClaims, nil},
		"issuer not UTF-8":  {Artifact, Claims{Issuer: "\xff", Subject: "s"}, ok},
		"more than 8 KiB":   {Artifact, testClaims, make([]byte, 8<<10)},
		"more than 65,535":  {Policy, testClaims, make([]byte, MaxStatement)},
		"a huge possession": {Possession, testClaims, make([]byte, 2<<10)},
	} {
		if leaf, err := Sign(context.Background(), s, c.kind, c.claims, c.payload); err == nil {
			t.Errorf("%s: got %x", name, leaf[:20])
		}
	}
	if _, err := Sign(context.Background(), oddSigner{zeroSigner{}, nil}, Artifact, testClaims, ok); err == nil {
		t.Error("signed with the zero key")
	}
}

type zeroSigner struct{ Signer }

func (zeroSigner) Key() Key { return Key{} }

func TestTheSizeOfAKindIsExact(t *testing.T) {
	_, s := newSigner(t)
	overhead := len(mustSign(t, s, Artifact, make([]byte, 1000))) - 1000
	limit := Artifact.form().limit
	leaf := mustSign(t, s, Artifact, make([]byte, limit-overhead))
	if len(leaf) != limit {
		t.Fatalf("got %d bytes, want %d", len(leaf), limit)
	}
	_, err := Sign(context.Background(), s, Artifact, testClaims, make([]byte, limit-overhead+1))
	wantDenial(t, err, denial.StructureLimit)
	_, err = Decode(leaf, limit-1)
	wantDenial(t, err, denial.StructureLimit)
}

func TestPayloadsOfEverySizeClass(t *testing.T) {
	_, s := newSigner(t)
	for _, n := range []int{1, 23, 24, 255, 256, 65535, 65536, 1 << 20} {
		payload := bytes.Repeat([]byte{'x'}, n)
		leaf := mustSign(t, s, Capsule, payload)
		v, err := mustDecode(t, leaf).Verify(trust(t, s.Key(), Capsule), Capsule)
		if err != nil || !bytes.Equal(v.Payload(), payload) {
			t.Errorf("%d bytes: %v", n, err)
			continue
		}
		goCOSEAccepts(t, "capsule", leaf, s.Key())
	}
}

// TestTheKindsLimitHoldsWhateverTheReaderAllows: a reader with a generous limit does not widen that of the kind.
func TestTheKindsLimitHoldsWhateverTheReaderAllows(t *testing.T) {
	_, s := newSigner(t)
	p := artifactParts(t, s)
	p.payload = make([]byte, 8<<10)
	_, err := mustDecode(t, p.build(t)).Verify(trust(t, s.Key(), Artifact), Artifact)
	wantDenial(t, err, denial.StructureLimit)
}

func TestNewSignerRefuses(t *testing.T) {
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSigner(p224); err == nil {
		t.Error("P-224 is accepted")
	}
	if _, err := NewSigner(rsaKey); err == nil {
		t.Error("RSA is accepted")
	}
}

func TestComposeRefusesWhatSignRefuses(t *testing.T) {
	_, s := newSigner(t)
	for name, c := range map[string]struct {
		key    Key
		kind   Kind
		claims Claims
	}{
		"no kind":          {s.Key(), 0, testClaims},
		"unknown kind":     {s.Key(), kinds, testClaims},
		"no key":           {Key{}, Artifact, testClaims},
		"issuer not UTF-8": {s.Key(), Artifact, Claims{Issuer: "\xff", Subject: "s"}},
	} {
		if tbs, err := Compose(c.key, c.kind, c.claims, []byte{0xa0}); err == nil || tbs.Bytes() != nil {
			t.Errorf("%s: got %x, %v", name, tbs.Bytes(), err)
		}
	}
}

// A key may have signed no bytes at all, elsewhere: that is no signature over a structure.
func TestTheEmptyStructureIsNeverSigned(t *testing.T) {
	s := newEdSigner(t).(softSigner)
	sig := ed25519.Sign(s.priv.(ed25519.PrivateKey), nil)
	if !s.Key().verify(nil, sig) {
		t.Fatal("the signature over nothing does not verify")
	}
	if (ToBeSigned{}).Verifies(s.Key(), sig) {
		t.Error("the zero structure verifies")
	}
}

// foreign is a private key that is no key of crypto/ecdsa, but says that it is one.
type foreign struct{ crypto.Signer }

func TestAForeignPrivateKeyIsNoSigner(t *testing.T) {
	priv, _ := newSigner(t)
	if s, err := NewSigner(foreign{priv}); err == nil || s != nil {
		t.Errorf("got %v, %v", s, err)
	}
}

func TestHeadsAreInTheirShortestForm(t *testing.T) {
	for _, n := range []uint64{0, 23, 24, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32, 1<<33 - 1, math.MaxUint64} {
		if got, want := AppendUint(nil, n), encode(t, n); !bytes.Equal(got, want) {
			t.Errorf("%d: got %x, want %x", n, got, want)
		}
	}
}
