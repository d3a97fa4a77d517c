package statement

import (
	"crypto/ecdsa"
	"math/big"
	"slices"

	"github.com/governed-execution/writ/denial"
)

// Keys is a set of trusted public keys, each with the kinds that it may sign. The zero Keys trusts nobody.
type Keys struct {
	byID map[Thumbprint]trusted
}

type trusted struct {
	key   Key
	kinds []Kind
}

// Add trusts the key for the kinds. A key may be added once only; a second time is KeyAmbiguous.
func (ks *Keys) Add(k Key, kinds ...Kind) error {
	if !k.Valid() || len(kinds) == 0 {
		return denial.New(denial.KeyUnknown, "an empty key, or a key for no purpose")
	}
	if _, ok := ks.byID[k.Thumbprint()]; ok {
		return denial.New(denial.KeyAmbiguous, "two keys with the same thumbprint")
	}
	if ks.byID == nil {
		ks.byID = map[Thumbprint]trusted{}
	}
	ks.byID[k.Thumbprint()] = trusted{k, slices.Clone(kinds)}
	return nil
}

// Has reports whether the set holds the key for the kind.
func (ks Keys) Has(t Thumbprint, kind Kind) bool { return slices.Contains(ks.byID[t].kinds, kind) }

// Verified is a statement whose signature, key and kind have been checked. Only Envelope.Verify and
// Envelope.VerifyDetached make it; the zero Verified has no payload, no claims and no key.
type Verified struct {
	env    Envelope
	key    Key
	kind   Kind
	claims Claims
}

// Verify checks, in this order: the algorithm stands in the protected header (304) and in the allow-list (302); kid
// names a trusted key (305); the algorithm belongs to that key's curve (303); the payload is embedded (312); the
// signature over the bytes as received (301); crit and unknown protected labels (307); typ, content type and the other
// labels of the kind (311), the payload's form (312) and the size (313); the claims of the header (104, 204, 312, 911);
// the key is trusted for the kind (311).
//
// The unprotected header decides nothing: apart from crit, which is refused there too, it is ignored.
func (e *Envelope) Verify(keys Keys, kind Kind) (*Verified, error) {
	return e.verify(keys, kind, e.payload) // nil if it is detached
}

// VerifyDetached is Verify for a kind whose payload is not in the statement but given here.
func (e *Envelope) VerifyDetached(keys Keys, kind Kind, payload []byte) (*Verified, error) {
	if !e.detached {
		return e.verify(keys, kind, nil)
	}
	return e.verify(keys, kind, payload)
}

// verify makes the checks of Verify. A nil payload is one that stands in the wrong place.
func (e *Envelope) verify(keys Keys, kind Kind, payload []byte) (*Verified, error) {
	alg, err := e.Algorithm()
	if err != nil {
		return nil, err
	}
	kid, ok := e.KeyID()
	t, known := keys.byID[kid]
	if !ok || !known {
		return nil, denial.New(denial.KeyUnknown, "kid names no trusted key")
	}
	if !t.key.fits(alg) {
		return nil, denial.New(denial.AlgKeyMismatch, "the algorithm does not belong to the key")
	}
	if payload == nil {
		return nil, denial.New(denial.PayloadForm, "the payload is detached, or must be")
	}
	if !t.key.verify(toBeSigned(e.protected, payload), e.signature) {
		return nil, denial.New(denial.SignatureInvalid, "the signature does not verify")
	}
	if err := e.fits(kind); err != nil {
		return nil, err
	}
	claims, err := parseClaims(e.labels.find(labelClaims))
	if err != nil {
		return nil, err
	}
	if claims.ofAct() && !kind.Acts() {
		return nil, denial.New(denial.UnsupportedVersion, "the header holds a claim that a %s does not have", kind)
	}
	if !slices.Contains(t.kinds, kind) {
		return nil, denial.New(denial.WrongType, "the key is not trusted for kind %s", kind)
	}
	return &Verified{env: *e, key: t.key, kind: kind, claims: claims}, nil
}

// Kind returns the verified kind.
func (v *Verified) Kind() Kind { return v.kind }

// Key returns the key that verified.
func (v *Verified) Key() Key { return v.key }

// Claims returns the verified CWT claims of the header.
func (v *Verified) Claims() Claims { return v.claims }

// Payload returns the verified payload, nil for a detached kind.
func (v *Verified) Payload() []byte { return v.env.Payload() }

// Leaf returns the log entry.
func (v *Verified) Leaf() []byte { return v.env.Leaf() }

// Digest returns SHA-256 of the leaf.
func (v *Verified) Digest() Digest { return v.env.Digest() }

// Digests returns what the log can know the statement by: its digest and, since of an ECDSA signature (r, s) anybody can make
// (r, n-s), which verifies too, the digest with that one.
func (v *Verified) Digests() []Digest {
	all := []Digest{v.Digest()}
	if p, ok := v.key.pub.(*ecdsa.PublicKey); ok {
		leaf := v.Leaf() // the signature is the end of it
		s := leaf[len(leaf)-len(v.env.signature)/2:]
		new(big.Int).Sub(p.Params().N, new(big.Int).SetBytes(s)).FillBytes(s)
		all = append(all, DigestOf(leaf))
	}
	return all
}

// Unmarshal decodes the verified payload strictly into out.
func (v *Verified) Unmarshal(out any) error { return Unmarshal(v.env.payload, out) }
