package statement

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/governed-execution/writ/denial"
)

// Algorithm is a COSE signature algorithm identifier.
type Algorithm int64

// The algorithms that are verified (RFC 9053, RFC 9864), each for the keys of one curve. Emitted are ES256, ES384 and
// EdDSA; the issuer's keys emit ES256.
const (
	ES256   Algorithm = -7  // with P-256, by profile
	EdDSA   Algorithm = -8  // with Ed25519, by profile
	ESP256  Algorithm = -9  // P-256
	Ed25519 Algorithm = -19 // Ed25519
	ES384   Algorithm = -35 // with P-384, by profile
	ESP384  Algorithm = -51 // P-384
)

// Thumbprint is the SHA-256 COSE Key Thumbprint (RFC 9679) of a public key. It is the kid everywhere.
type Thumbprint [32]byte

// String returns the thumbprint in lower-case hexadecimal.
func (t Thumbprint) String() string { return hex.EncodeToString(t[:]) }

// Key is a public key that Writ can verify with: P-256, P-384 or Ed25519, with its point checked. The zero Key
// verifies nothing.
type Key struct {
	pub   crypto.PublicKey
	cose  []byte // deterministic CBOR of the required parameters, the input of the thumbprint
	thumb Thumbprint
}

// coseKey holds the required parameters of an EC2 or OKP key (RFC 9053, section 7).
type coseKey struct {
	Kty int64  `cbor:"1,keyasint"`
	Crv int64  `cbor:"-1,keyasint"`
	X   []byte `cbor:"-2,keyasint"`
	Y   []byte `cbor:"-3,keyasint,omitempty"`
}

// NewKey returns the Key of a *ecdsa.PublicKey on P-256 or P-384 or of an ed25519.PublicKey. It keeps a copy.
func NewKey(pub crypto.PublicKey) (Key, error) {
	switch p := pub.(type) {
	case *ecdsa.PublicKey:
		crv := int64(1)
		switch p.Curve {
		case elliptic.P256():
		case elliptic.P384():
			crv = 2
		default:
			return Key{}, denial.New(denial.AlgNotAllowed, "a curve other than P-256 and P-384")
		}
		point, err := p.Bytes()
		if err != nil {
			return Key{}, denial.New(denial.AlgKeyMismatch, "the point is not on its curve")
		}
		x, y := point[1:1+len(point)/2], point[1+len(point)/2:]
		return makeKey(coseKey{Kty: 2, Crv: crv, X: x, Y: y})
	case ed25519.PublicKey:
		return makeKey(coseKey{Kty: 1, Crv: 6, X: bytes.Clone(p)})
	}
	return Key{}, denial.New(denial.AlgNotAllowed, "a key type other than EC2 and OKP")
}

// ParseKey reads a COSE_Key that holds exactly the required parameters of a public key.
func ParseKey(data []byte) (Key, error) {
	ck, ok := p256Key(data)
	if !ok {
		if err := Unmarshal(data, &ck); err != nil {
			return Key{}, err
		}
	}
	return ck.key(bytes.Clone(data)) // it has one encoding
}

// The one encoding of a P-256 key is these bytes, X, these bytes and Y: a map of kty 2, crv 1, and two strings of 32 bytes.
var beforeX, beforeY = []byte{0xa4, 0x01, 0x02, 0x20, 0x01, 0x21, 0x58, 32}, []byte{0x22, 0x58, 32}

// p256Key takes a P-256 key apart, which most keys are. What has another form it leaves to the codec.
func p256Key(data []byte) (coseKey, bool) {
	rest, ok := bytes.CutPrefix(data, beforeX)
	if !ok || len(rest) != 32+len(beforeY)+32 || !bytes.HasPrefix(rest[32:], beforeY) {
		return coseKey{}, false
	}
	return coseKey{Kty: 2, Crv: 1, X: rest[:32], Y: rest[32+len(beforeY):]}, true
}

func makeKey(ck coseKey) (Key, error) {
	enc, err := Marshal(ck)
	if err != nil {
		return Key{}, err
	}
	return ck.key(enc)
}

// key checks the type and curve (302) and the point (303). It keeps the encoding.
func (ck coseKey) key(enc []byte) (Key, error) {
	pub, err := ck.public()
	if err != nil {
		return Key{}, err
	}
	return Key{pub: pub, cose: enc, thumb: sha256.Sum256(enc)}, nil
}

func (ck coseKey) public() (pub crypto.PublicKey, err error) {
	point := slices.Concat([]byte{4}, ck.X, ck.Y)
	switch {
	case ck.Kty == 2 && ck.Crv == 1 && len(ck.X) == 32 && len(ck.Y) == 32:
		pub, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	case ck.Kty == 2 && ck.Crv == 2 && len(ck.X) == 48 && len(ck.Y) == 48:
		pub, err = ecdsa.ParseUncompressedPublicKey(elliptic.P384(), point)
	case ck.Kty == 1 && ck.Crv == 6 && len(ck.X) == 32 && ck.Y == nil:
		pub, err = ed25519.PublicKey(ck.X), checkEd25519(ck.X)
	default:
		return nil, denial.New(denial.AlgNotAllowed, "a key of an unsupported type, curve or length")
	}
	if err != nil {
		return nil, denial.New(denial.AlgKeyMismatch, "the point is not on its curve, or of small order")
	}
	return pub, nil
}

// Valid reports whether the key is not the zero Key.
func (k Key) Valid() bool { return k.pub != nil }

// Public returns the key as *ecdsa.PublicKey or ed25519.PublicKey, which nobody may change.
func (k Key) Public() crypto.PublicKey { return k.pub }

// Thumbprint returns the kid of the key.
func (k Key) Thumbprint() Thumbprint { return k.thumb }

// Equal reports whether both are the same valid key.
func (k Key) Equal(o Key) bool { return k.Valid() && k.thumb == o.thumb }

// COSE returns the COSE_Key in deterministic CBOR: the required parameters only.
func (k Key) COSE() []byte { return bytes.Clone(k.cose) }

// MarshalCBOR encodes the key as a COSE_Key map.
func (k Key) MarshalCBOR() ([]byte, error) {
	if !k.Valid() {
		return nil, fmt.Errorf("encoding key: the key is empty")
	}
	return k.COSE(), nil
}

// UnmarshalCBOR decodes a COSE_Key map. Beside an error the key is the zero Key.
func (k *Key) UnmarshalCBOR(data []byte) (err error) {
	*k, err = ParseKey(data)
	return err
}

// PEM returns the key as a PEM block PUBLIC KEY (SubjectPublicKeyInfo).
func (k Key) PEM() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.pub)
	if err != nil {
		return nil, fmt.Errorf("encoding public key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParsePEM reads one PEM block PUBLIC KEY.
func ParsePEM(data []byte) (Key, error) {
	block, rest := pem.Decode(data)
	if block != nil && strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return Key{}, fmt.Errorf("reading public key: this is a private key; give the public half")
	}
	if block == nil || block.Type != "PUBLIC KEY" || len(bytes.TrimSpace(rest)) > 0 ||
		!bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN PUBLIC KEY-----")) {
		return Key{}, fmt.Errorf("reading public key: want exactly one PEM block PUBLIC KEY")
	}
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return Key{}, fmt.Errorf("reading public key: %w", err)
	}
	return NewKey(pub)
}

// algorithm returns what the key emits.
func (k Key) algorithm() Algorithm {
	switch p := k.pub.(type) {
	case *ecdsa.PublicKey:
		if p.Curve == elliptic.P256() {
			return ES256
		}
		return ES384
	}
	return EdDSA
}

// fits reports whether the algorithm may be used with the key: each algorithm is bound to one curve.
func (k Key) fits(a Algorithm) bool {
	switch p := k.pub.(type) {
	case *ecdsa.PublicKey:
		if p.Curve == elliptic.P256() {
			return a == ES256 || a == ESP256
		}
		return a == ES384 || a == ESP384
	case ed25519.PublicKey:
		return a == EdDSA || a == Ed25519
	}
	return false
}

// verify checks a signature over content: r||s of fixed length for ECDSA (RFC 9053, section 2.1).
func (k Key) verify(content, sig []byte) bool {
	switch p := k.pub.(type) {
	case *ecdsa.PublicKey:
		size := (p.Curve.Params().BitSize + 7) / 8
		return len(sig) == 2*size && ecdsa.VerifyASN1(p, hashFor(p, content), derSignature(sig))
	case ed25519.PublicKey:
		return ed25519.Verify(p, content, sig)
	}
	return false
}

// derSignature returns r||s of at most 96 bytes as the SEQUENCE of two INTEGERs that crypto/ecdsa takes.
func derSignature(sig []byte) []byte {
	der := make([]byte, 2, 2*(len(sig)/2+3)+2)
	der[0] = 0x30
	der = appendInteger(appendInteger(der, sig[:len(sig)/2]), sig[len(sig)/2:])
	der[1] = byte(len(der) - 2)
	return der
}

func appendInteger(der, n []byte) []byte {
	for len(n) > 1 && n[0] == 0 {
		n = n[1:]
	}
	pad := int(n[0] >> 7) // a zero byte before what would be negative
	der = append(der, 0x02, byte(len(n)+pad))
	return append(append(der, make([]byte, pad)...), n...)
}

// hashFor hashes content with the hash that goes with the curve.
func hashFor(p *ecdsa.PublicKey, content []byte) []byte {
	if p.Curve == elliptic.P384() {
		h := sha512.Sum384(content)
		return h[:]
	}
	h := sha256.Sum256(content)
	return h[:]
}
