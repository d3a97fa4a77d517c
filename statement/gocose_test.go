package statement

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	cose "github.com/veraison/go-cose"
)

// sameAs verifies one of the fully specified algorithms of RFC 9864, which go-cose does not know, as the older one.
type sameAs struct {
	cose.Verifier
	alg cose.Algorithm
}

func (s sameAs) Algorithm() cose.Algorithm { return s.alg }

// goCOSEAccepts asserts that go-cose verifies the statement too.
func goCOSEAccepts(t testing.TB, name string, raw []byte, key Key) {
	t.Helper()
	var msg cose.Sign1Message
	if err := msg.UnmarshalCBOR(raw); err != nil {
		t.Errorf("%s: go-cose cannot read what we accept: %v", name, err)
		return
	}
	alg, err := msg.Headers.Protected.Algorithm()
	if err != nil {
		t.Errorf("%s: go-cose finds no algorithm: %v", name, err)
		return
	}
	older, err := cose.NewVerifier(cose.Algorithm(key.algorithm()), key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if err := msg.Verify(nil, sameAs{older, alg}); err != nil {
		t.Errorf("%s: go-cose refuses what we accept: %v", name, err)
	}
}

func TestGoCOSEVerifiesWhatWeSign(t *testing.T) {
	_, p256 := newSigner(t)
	_, p384 := newCurveSigner(t, elliptic.P384())
	for _, s := range []Signer{p256, p384, newEdSigner(t)} {
		for _, kind := range Kinds() {
			payload := []byte{0xa1, 0x01, 0x01}
			leaf := mustSign(t, s, kind, payload)
			if !kind.form().detached {
				goCOSEAccepts(t, kind.String(), leaf, s.Key())
				continue
			}
			var msg cose.Sign1Message
			if err := msg.UnmarshalCBOR(leaf); err != nil {
				t.Fatal(err)
			}
			verifier, err := cose.NewVerifier(cose.Algorithm(s.Key().algorithm()), s.Key().Public())
			if err != nil {
				t.Fatal(err)
			}
			msg.Payload = payload
			if err := msg.Verify(nil, verifier); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
		}
	}
}

// TestTheFullySpecifiedAlgorithms: -9, -51 and -19 mean what -7, -35 and -8 mean with their curve.
func TestTheFullySpecifiedAlgorithms(t *testing.T) {
	_, p256 := newSigner(t)
	_, p384 := newCurveSigner(t, elliptic.P384())
	for alg, s := range map[Algorithm]Signer{ESP256: p256, ESP384: p384, Ed25519: newEdSigner(t)} {
		p := artifactParts(t, s)
		p.labels[labelAlg] = alg
		raw := p.build(t)
		if _, err := verifyArtifact(raw, trust(t, s.Key(), Artifact)); err != nil {
			t.Errorf("%d: %v", alg, err)
		}
		goCOSEAccepts(t, "fully specified", raw, s.Key())
	}
}

// TestWeAcceptWhatGoCOSESigns with the headers of an artifact, encoded by go-cose.
func TestWeAcceptWhatGoCOSESigns(t *testing.T) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := NewKey(&priv.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cose.NewSigner(cose.AlgorithmES256, priv)
	if err != nil {
		t.Fatal(err)
	}
	kid := key.Thumbprint()
	msg := cose.NewSign1Message()
	msg.Payload = []byte{0xa1, 0x01, 0x01}
	msg.Headers.Protected = cose.ProtectedHeader{
		cose.HeaderLabelAlgorithm: cose.AlgorithmES256,
		cose.HeaderLabelKeyID:     kid[:],
		int64(labelClaims):        map[int64]any{1: testClaims.Issuer, 2: testClaims.Subject, 6: testClaims.IssuedAt},
		int64(labelType):          Artifact.MediaType(),
	}
	if err := msg.Sign(rand.Reader, nil, signer); err != nil {
		t.Fatal(err)
	}
	raw, err := msg.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	v, err := verifyArtifact(raw, trust(t, key, Artifact))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(v.Leaf(), raw) || v.Claims() != testClaims || !v.Key().Equal(key) {
		t.Errorf("got %+v", v)
	}
}
