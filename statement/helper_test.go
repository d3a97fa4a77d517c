package statement

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
)

var testClaims = Claims{Issuer: "https://issuer.example", Subject: "spiffe://example/host/1", IssuedAt: 1_800_000_000}

// newSigner returns a fresh P-256 key and its signer.
func newSigner(t testing.TB) (*ecdsa.PrivateKey, Signer) {
	t.Helper()
	return newCurveSigner(t, elliptic.P256())
}

func newCurveSigner(t testing.TB, curve elliptic.Curve) (*ecdsa.PrivateKey, Signer) {
	t.Helper()
	priv, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	return priv, s
}

func newEdSigner(t testing.TB) Signer {
	t.Helper()
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func trust(t testing.TB, k Key, kinds ...Kind) Keys {
	t.Helper()
	var keys Keys
	if err := keys.Add(k, kinds...); err != nil {
		t.Fatal(err)
	}
	return keys
}

func mustSign(t testing.TB, s Signer, kind Kind, payload []byte) []byte {
	t.Helper()
	leaf, err := Sign(context.Background(), s, kind, testClaims, payload)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

func mustDecode(t testing.TB, raw []byte) *Envelope {
	t.Helper()
	e, err := Decode(raw, len(raw))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// encode encodes without the checks of Marshal.
func encode(t testing.TB, v any) []byte {
	t.Helper()
	b, err := encMode.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// parts are the pieces of a COSE_Sign1 that a test may break before, or after, the signature is made.
type parts struct {
	prefix      []byte        // tag and array head
	labels      map[int64]any // protected header; used unless protected is set
	protected   []byte        // content of the protected byte string
	unprotected []byte        // encoded map
	payload     []byte        // what is signed
	payloadItem []byte        // what stands in the array, if not the payload as a byte string
	sign        func(tbs []byte) []byte
}

// artifactParts returns the parts of a valid artifact signed by s.
func artifactParts(t testing.TB, s Signer) *parts {
	t.Helper()
	kid := s.Key().Thumbprint()
	return &parts{
		prefix: []byte{0xd2, 0x84},
		labels: map[int64]any{
			labelAlg: s.Key().algorithm(), labelKeyID: kid[:], labelClaims: testClaims, labelType: Artifact.MediaType(),
		},
		unprotected: []byte{0xa0},
		payload:     []byte{0xa1, 0x01, 0x61, 'x'}, // {1: "x"}
		sign: func(tbs []byte) []byte {
			sig, err := s.Sign(context.Background(), ToBeSigned{kind: Artifact, bytes: tbs})
			if err != nil {
				t.Fatal(err)
			}
			return sig
		},
	}
}

// build signs the protected header and the payload and returns the statement.
func (p *parts) build(t testing.TB) []byte {
	t.Helper()
	if p.protected == nil {
		p.protected = encode(t, p.labels)
	}
	if p.payloadItem == nil {
		p.payloadItem = encode(t, p.payload)
	}
	sig := p.sign(toBeSigned(p.protected, p.payload))
	return slices.Concat(p.prefix, encode(t, p.protected), p.unprotected, p.payloadItem, encode(t, sig))
}

// verifyArtifact decodes and verifies as a relying party does.
func verifyArtifact(raw []byte, keys Keys) (*Verified, error) {
	e, err := Decode(raw, 8<<10)
	if err != nil {
		return nil, err
	}
	return e.Verify(keys, Artifact)
}

// wantDenial fails the test unless err is a refusal with the reason.
func wantDenial(t testing.TB, err error, want denial.Reason) {
	t.Helper()
	if !denial.Is(err, want) {
		t.Errorf("got %v, want %d %s", err, want.Code(), want)
	}
}
