package statement

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
)

func testKeys(t *testing.T) []Key {
	t.Helper()
	_, p256 := newSigner(t)
	_, p384 := newCurveSigner(t, elliptic.P384())
	return []Key{p256.Key(), p384.Key(), newEdSigner(t).Key()}
}

func TestAKeySurvivesEveryEncoding(t *testing.T) {
	for _, k := range testKeys(t) {
		fromCOSE, err := ParseKey(k.COSE())
		if err != nil || !fromCOSE.Equal(k) {
			t.Errorf("COSE_Key: %v", err)
		}
		text, err := k.PEM()
		if err != nil {
			t.Fatal(err)
		}
		fromPEM, err := ParsePEM(append([]byte("\n"), text...))
		if err != nil || !fromPEM.Equal(k) || !bytes.Equal(fromPEM.COSE(), k.COSE()) {
			t.Errorf("PEM: %v", err)
		}
		fromPublic, err := NewKey(k.Public())
		if err != nil || !fromPublic.Equal(k) {
			t.Errorf("public key: %v", err)
		}
		if k.Thumbprint() != Thumbprint(DigestOf(k.COSE())) || len(k.Thumbprint().String()) != 64 {
			t.Error("the thumbprint is not SHA-256 of the COSE_Key")
		}
	}
}

func TestKeysAreEqualOnlyToThemselves(t *testing.T) {
	keys := testKeys(t)
	for i, k := range keys {
		for j, o := range keys {
			if k.Equal(o) != (i == j) {
				t.Errorf("key %d equals key %d: %v", i, j, k.Equal(o))
			}
		}
		if k.Equal(Key{}) || (Key{}).Equal(k) {
			t.Error("a key equals the zero key")
		}
	}
}

func TestTheZeroKeyVerifiesNothing(t *testing.T) {
	var k Key
	if k.Valid() || k.Equal(k) || k.verify(nil, nil) || k.verify([]byte("x"), make([]byte, 64)) || k.fits(ES256) || k.fits(EdDSA) {
		t.Error("the zero key is good for something")
	}
	if _, err := k.MarshalCBOR(); err == nil {
		t.Error("the zero key encodes")
	}
	if _, err := k.PEM(); err == nil {
		t.Error("the zero key encodes as PEM")
	}
}

func TestParseKeyRefuses(t *testing.T) {
	_, s := newSigner(t)
	var p256 coseKey
	if err := Unmarshal(s.Key().COSE(), &p256); err != nil {
		t.Fatal(err)
	}
	ed := newEdSigner(t).Key().Public().(ed25519.PublicKey)
	prime := unhex(t, "ffffffff00000001000000000000000000000000ffffffffffffffffffffffff")
	for name, c := range map[string]struct {
		key  any
		want denial.Reason
	}{
		"no bytes of a map":          {[]int{1}, denial.PayloadForm},
		"kty missing":                {map[int]any{-1: 1, -2: p256.X, -3: p256.Y}, denial.ClaimAbsent},
		"y missing":                  {map[int]any{1: 2, -1: 1, -2: p256.X}, denial.AlgNotAllowed},
		"y as a sign bit":            {map[int]any{1: 2, -1: 1, -2: p256.X, -3: true}, denial.PayloadForm},
		"kid inside":                 {map[int]any{1: 2, 2: []byte("kid"), -1: 1, -2: p256.X, -3: p256.Y}, denial.UnsupportedVersion},
		"private part":               {map[int]any{1: 2, -1: 1, -2: p256.X, -3: p256.Y, -4: p256.X}, denial.UnsupportedVersion},
		"secp256k1":                  {map[int]any{1: 2, -1: 8, -2: p256.X, -3: p256.Y}, denial.AlgNotAllowed},
		"P-521":                      {map[int]any{1: 2, -1: 3, -2: make([]byte, 66), -3: make([]byte, 66)}, denial.AlgNotAllowed},
		"symmetric":                  {map[int]any{1: 4, -1: 1, -2: p256.X}, denial.AlgNotAllowed},
		"P-256 point named P-384":    {map[int]any{1: 2, -1: 2, -2: p256.X, -3: p256.Y}, denial.AlgNotAllowed},
		"P-384 with a short y":       {map[int]any{1: 2, -1: 2, -2: make([]byte, 48), -3: make([]byte, 47)}, denial.AlgNotAllowed},
		"padded x":                   {map[int]any{1: 2, -1: 1, -2: slices.Concat([]byte{0}, p256.X), -3: p256.Y}, denial.AlgNotAllowed},
		"short x":                    {map[int]any{1: 2, -1: 1, -2: p256.X[1:], -3: p256.Y}, denial.AlgNotAllowed},
		"x of one key, y of another": {map[int]any{1: 2, -1: 1, -2: p256.Y, -3: p256.X}, denial.AlgKeyMismatch},
		"the point at infinity":      {map[int]any{1: 2, -1: 1, -2: make([]byte, 32), -3: make([]byte, 32)}, denial.AlgKeyMismatch},
		"x not reduced":              {map[int]any{1: 2, -1: 1, -2: prime, -3: p256.Y}, denial.AlgKeyMismatch},
		"Ed25519 with a y":           {map[int]any{1: 1, -1: 6, -2: []byte(ed), -3: p256.Y}, denial.AlgNotAllowed},
		"Ed25519 of 31 bytes":        {map[int]any{1: 1, -1: 6, -2: []byte(ed[1:])}, denial.AlgNotAllowed},
		"X25519":                     {map[int]any{1: 1, -1: 4, -2: []byte(ed)}, denial.AlgNotAllowed},
		"Ed448":                      {map[int]any{1: 1, -1: 7, -2: make([]byte, 57)}, denial.AlgNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := ParseKey(encode(t, c.key))
			wantDenial(t, err, c.want)
			if k.Valid() {
				t.Error("got a key beside the refusal")
			}
		})
	}
	cose := s.Key().COSE()
	for name, c := range map[string]struct {
		data []byte
		want denial.Reason
	}{
		"a byte behind":           {append(bytes.Clone(cose), 0), denial.TrailingData},
		"x and y without a map":   {slices.Concat(make([]byte, 32), cose[40:]), denial.TrailingData}, // of a random x the first byte decides
		"the half of it":          {cose[:11], denial.StructureLimit},
		"y cut short":             {cose[:len(cose)-6], denial.StructureLimit},
		"x and y in one string":   {slices.Concat(cose[:8], p256.X, []byte{0x22, 0x58, 33}, p256.Y), denial.StructureLimit},
		"nothing behind the head": {cose[:8], denial.StructureLimit},
	} {
		k, err := ParseKey(c.data)
		if !denial.Is(err, c.want) || k.Valid() {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

// TestEd25519KeysOfSmallOrder lists the encodings of the eight points whose order divides 8, and other bad ones: with
// such a key one signature holds for many messages.
func TestEd25519KeysOfSmallOrder(t *testing.T) {
	ff := strings.Repeat("ff", 30)
	for name, x := range map[string]string{
		"order 1":                  "01" + strings.Repeat("00", 31),
		"order 1, sign set":        "01" + strings.Repeat("00", 30) + "80",
		"order 2":                  "ec" + ff + "7f",
		"order 2, sign set":        "ec" + ff + "ff",
		"order 4":                  strings.Repeat("00", 32),
		"order 4, sign set":        strings.Repeat("00", 31) + "80",
		"order 8":                  "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"order 8, sign set":        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
		"order 8, other":           "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"order 8, other, sign set": "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
		"order 4, not reduced":     "ed" + ff + "7f",
		"order 1, not reduced":     "ee" + ff + "7f",
		"not reduced":              "ff" + ff + "7f",
		"not on the curve":         "02" + strings.Repeat("00", 31),
	} {
		_, err := NewKey(ed25519.PublicKey(unhex(t, x)))
		if !denial.Is(err, denial.AlgKeyMismatch) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for range 20 {
		pub, _, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := NewKey(pub); err != nil {
			t.Errorf("%x: %v", pub, err)
		}
	}
}

func TestNewKeyRefuses(t *testing.T) {
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, pub := range map[string]any{"nothing": nil, "P-224": &p224.PublicKey, "RSA": &rsaKey.PublicKey, "bytes": make([]byte, 32),
		"short Ed25519": ed25519.PublicKey{1}} {
		if _, err := NewKey(pub); !denial.Is(err, denial.AlgNotAllowed) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestAKeyIsACopy(t *testing.T) {
	pub, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := NewKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	before := k.COSE()
	pub[0] ^= 1
	k.COSE()[0] = 0
	if !bytes.Equal(k.COSE(), before) || bytes.Equal(k.Public().(ed25519.PublicKey), pub) {
		t.Error("the key changed with its source")
	}
}

func TestParsePEMRefuses(t *testing.T) {
	_, s := newSigner(t)
	good, err := s.Key().PEM()
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&rsaKey.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(good)
	for name, text := range map[string][]byte{
		"nothing":       nil,
		"two keys":      slices.Concat(good, good),
		"text before":   slices.Concat([]byte("# my key\n"), good),
		"text behind":   slices.Concat(good, []byte("x")),
		"another type":  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes}),
		"a byte behind": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: append(block.Bytes, 0)}),
		"cut short":     pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: block.Bytes[:20]}),
		"RSA":           pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}),
		"a broken block, and another type behind it": slices.Concat([]byte("-----BEGIN PUBLIC KEY-----\n*\n"),
			pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})),
	} {
		if k, err := ParsePEM(text); err == nil || k.Valid() {
			t.Errorf("%s is accepted", name)
		}
	}
}

// The codec's own form of a signature is that of encoding/asn1, with a zero before what would be negative and none before else.
func TestSignaturesAreEncodedAsDER(t *testing.T) {
	for _, half := range []int{32, 48} {
		for _, first := range [][]byte{{0x7f}, {0x80}, {0xff}, {0, 0x7f}, {0, 0x80}, {0, 0, 1}, make([]byte, half)} {
			r, s := make([]byte, half), bytes.Repeat([]byte{0x55}, half)
			copy(r, first)
			for _, sig := range [][]byte{slices.Concat(r, s), slices.Concat(s, r)} {
				want, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(sig[:half]), new(big.Int).SetBytes(sig[half:])})
				if err != nil {
					t.Fatal(err)
				}
				if got := derSignature(sig); !bytes.Equal(got, want) {
					t.Errorf("%x: got %x, want %x", sig, got, want)
				}
			}
		}
	}
}

// What does not parse is no key of another type: whoever gave the file looks for the fault in the right place.
func TestAFaultOfParsingIsSaidToBeOne(t *testing.T) {
	for _, kind := range []string{"PRIVATE KEY", "EC PRIVATE KEY"} {
		if k, err := ParsePEM(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: []byte{0x30}})); err == nil || k.Valid() || !strings.Contains(err.Error(), "this is a private key") {
			t.Errorf("%s: got %v", kind, err)
		}
	}
	_, err := ParsePEM(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{0x30}}))
	if err == nil || denial.Is(err, denial.AlgNotAllowed) {
		t.Errorf("got %v", err)
	}
}

func TestAPointOfAnotherCurveIsNoKey(t *testing.T) {
	priv, _ := newSigner(t)
	pub := priv.PublicKey
	pub.Curve = elliptic.P384()
	_, err := NewKey(&pub)
	wantDenial(t, err, denial.AlgKeyMismatch)
}

// Each algorithm belongs to one curve, whatever the length of its signatures.
func TestC04_EveryAlgorithmWithEveryKey(t *testing.T) {
	_, p256 := newSigner(t)
	_, p384 := newCurveSigner(t, elliptic.P384())
	for _, c := range []struct {
		signer Signer
		good   []Algorithm
	}{{p256, []Algorithm{ES256, ESP256}}, {p384, []Algorithm{ES384, ESP384}}, {newEdSigner(t), []Algorithm{EdDSA, Ed25519}}} {
		for _, alg := range []Algorithm{ES256, ESP256, ES384, ESP384, EdDSA, Ed25519} {
			p := artifactParts(t, c.signer)
			p.labels[labelAlg] = alg
			_, err := verifyArtifact(p.build(t), trust(t, c.signer.Key(), Artifact))
			if slices.Contains(c.good, alg) {
				if err != nil {
					t.Errorf("%d with its key: %v", alg, err)
				}
				continue
			}
			wantDenial(t, err, denial.AlgKeyMismatch)
		}
	}
}

func TestKeysAreAddedOneByOne(t *testing.T) {
	var keys Keys
	all := testKeys(t)
	for _, k := range all {
		if err := keys.Add(k, Artifact); err != nil {
			t.Fatal(err)
		}
	}
	for i, k := range all {
		if !keys.Has(k.Thumbprint(), Artifact) || keys.Has(k.Thumbprint(), Record) {
			t.Errorf("key %d is not trusted for what it was added for alone", i)
		}
	}
}
