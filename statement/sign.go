package statement

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/governed-execution/writ/denial"
)

// ToBeSigned is a Sig_structure (RFC 9052, section 4.4) that this package built. A Signer gets nothing else to sign.
type ToBeSigned struct {
	kind    Kind
	bytes   []byte
	claims  Claims
	payload []byte
	shown   *atomic.Pointer[shown] // nil in the zero ToBeSigned alone
}

// shown is a signature over the structure that verified.
type shown struct {
	key Thumbprint
	sig string
}

// Verifies reports whether sig is a signature by the key over the structure: 64 or 96 bytes r||s, or 64 bytes of
// Ed25519. Signers that watch over a token ask before they give a signature away; Sign asks again, and is answered from
// memory if key and signature are the same.
func (t ToBeSigned) Verifies(k Key, sig []byte) bool {
	if len(t.bytes) == 0 {
		return false
	}
	now := shown{k.Thumbprint(), string(sig)}
	if was := t.shown.Load(); was != nil && *was == now {
		return true
	}
	if !k.verify(t.bytes, sig) {
		return false
	}
	t.shown.Store(&now)
	return true
}

// Kind returns the kind of the statement to be signed, so that a key of another purpose can refuse.
func (t ToBeSigned) Kind() Kind { return t.kind }

// Bytes returns the encoded Sig_structure, never empty except in the zero ToBeSigned.
func (t ToBeSigned) Bytes() []byte { return t.bytes }

// Content returns what the structure was built from beside kind and key: the claims of the header and the payload. Of a
// checkpoint the payload is the text. A signer in another process passes it on, for that process to Compose it anew.
func (t ToBeSigned) Content() (Claims, []byte) { return t.claims, t.payload }

// Compose returns the structure that Sign would have the key sign.
func Compose(key Key, kind Kind, c Claims, payload []byte) (ToBeSigned, error) {
	tbs, _, err := compose(key, kind, c, payload)
	return tbs, err
}

// compose returns the structure and the protected header in it.
func compose(key Key, kind Kind, c Claims, payload []byte) (ToBeSigned, []byte, error) {
	f := kind.form()
	if f.name == "" || !key.Valid() || c.Issuer == "" || c.Subject == "" || len(payload) == 0 {
		return ToBeSigned{}, nil, fmt.Errorf("signing %s: kind, key, iss, sub and payload are needed", kind)
	}
	if c.ofAct() && !f.act {
		return ToBeSigned{}, nil, fmt.Errorf("signing %s: only acts have exp and a number", kind)
	}
	protected, err := f.protected(key, c)
	if err != nil {
		return ToBeSigned{}, nil, err
	}
	return ToBeSigned{kind, toBeSigned(protected, payload), c, payload, new(atomic.Pointer[shown])}, protected, nil
}

// Signer is one private key. Sign hashes the structure itself; there is no way to have a digest signed. It returns
// r||s of fixed length for ECDSA, 64 bytes for Ed25519. It must refuse a kind that its key is not for with WrongType,
// and an empty structure with Internal.
type Signer interface {
	Key() Key
	Sign(ctx context.Context, tbs ToBeSigned) ([]byte, error)
}

// toBeSigned encodes the array of "Signature1", the protected header, an empty byte string and the payload (RFC 9052,
// section 4.4).
func toBeSigned(protected, payload []byte) []byte {
	b := make([]byte, 0, len(protected)+len(payload)+32)
	b = append(b, 0x84, 0x6a)
	b = append(b, "Signature1"...)
	b = appendHead(b, len(protected))
	b = append(b, protected...)
	b = append(b, 0x40)
	b = appendHead(b, len(payload))
	return append(b, payload...)
}

// appendHead appends the head of a byte string of n bytes.
func appendHead(b []byte, n int) []byte { return appendMajor(b, 2<<5, uint64(n)) }

// appendMajor appends the head of an item of a major type, which stands in the three high bits, with n.
func appendMajor(b []byte, major byte, n uint64) []byte {
	switch {
	case n < 24:
		return append(b, major|byte(n))
	case n < 1<<8:
		return append(b, major|24, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, major|25), uint16(n))
	case n < 1<<32:
		return binary.BigEndian.AppendUint32(append(b, major|26), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, major|27), n)
}

// Sign makes a statement of the kind and returns its leaf: the tagged COSE_Sign1 with an empty unprotected map. For a
// detached kind the payload is signed and left out. Before it is returned, the leaf is read back: it must decode, be of
// the kind, and its signature must verify; a signature that does not is HSMUnavailable (H08).
func Sign(ctx context.Context, s Signer, kind Kind, c Claims, payload []byte) ([]byte, error) {
	key := s.Key()
	tbs, protected, err := compose(key, kind, c, payload)
	if err != nil {
		return nil, err
	}
	sig, err := s.Sign(ctx, tbs)
	if err != nil {
		return nil, fmt.Errorf("signing %s: %w", kind, err)
	}
	e, err := Decode(assemble(protected, payload, sig, kind.form().detached), math.MaxInt)
	if err != nil {
		return nil, err
	}
	if err := e.fits(kind); err != nil {
		return nil, err
	}
	if !bytes.Equal(toBeSigned(e.protected, payload), tbs.bytes) || !tbs.Verifies(key, e.signature) {
		return nil, denial.New(denial.HSMUnavailable, "the signer returned a signature that does not verify")
	}
	return e.leaf, nil
}

func (f form) protected(k Key, c Claims) ([]byte, error) {
	kid := k.Thumbprint()
	m := map[int64]any{labelAlg: k.algorithm(), labelKeyID: kid[:], labelClaims: c, labelType: f.typ}
	if f.content != "" {
		m[labelContent] = f.content
	}
	if f.vds != 0 {
		m[labelVDS] = f.vds
	}
	if f.preimage != "" {
		m[labelHashAlg], m[labelPreimage] = algSHA256, f.preimage
	}
	return Marshal(m)
}

func assemble(protected, payload, sig []byte, detached bool) []byte {
	b := make([]byte, 0, len(protected)+len(payload)+len(sig)+16)
	b = appendHead(append(b, 0xd2, 0x84), len(protected))
	b = append(append(b, protected...), 0xa0)
	if detached {
		b = append(b, 0xf6)
	} else {
		b = append(appendHead(b, len(payload)), payload...)
	}
	return append(appendHead(b, len(sig)), sig...)
}

// NewSigner returns a Signer over a private key in memory: *ecdsa.PrivateKey on P-256 or P-384, or ed25519.PrivateKey.
// It signs every kind: it is for the keys of people and of software initiators, never for the issuer's.
func NewSigner(priv crypto.Signer) (Signer, error) {
	key, err := NewKey(priv.Public())
	if err != nil {
		return nil, err
	}
	switch priv.(type) {
	case *ecdsa.PrivateKey, ed25519.PrivateKey:
		return softSigner{key, priv}, nil
	}
	return nil, fmt.Errorf("making signer: a private key other than ECDSA and Ed25519")
}

type softSigner struct {
	key  Key
	priv crypto.Signer
}

func (s softSigner) Key() Key { return s.key }

func (s softSigner) Sign(_ context.Context, tbs ToBeSigned) ([]byte, error) {
	if len(tbs.bytes) == 0 {
		return nil, denial.New(denial.Internal, "nothing to sign")
	}
	switch p := s.priv.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(p, tbs.bytes), nil
	case *ecdsa.PrivateKey:
		r, ss, err := ecdsa.Sign(rand.Reader, p, hashFor(&p.PublicKey, tbs.bytes))
		if err != nil {
			return nil, fmt.Errorf("signing: %w", err)
		}
		size := (p.Curve.Params().BitSize + 7) / 8
		sig := make([]byte, 2*size)
		r.FillBytes(sig[:size])
		ss.FillBytes(sig[size:])
		return sig, nil
	}
	return nil, denial.New(denial.Internal, "an unsupported private key")
}
