package hsm

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// p256 is the DER of the object identifier of P-256, the value of CKA_EC_PARAMS.
var p256 = []byte{0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07}

// pair is a key pair as found on the token.
type pair struct {
	public, private pkcs11.ObjectHandle
	id              []byte
	key             statement.Key
}

// Attributes reads the facts about the key with the thumbprint back from the token. It does not judge them: see
// Attributes.Check.
func (t *Token) Attributes(ctx context.Context, thumbprint statement.Thumbprint) (Attributes, error) {
	all, err := t.Keys(ctx)
	if err != nil {
		return Attributes{}, err
	}
	var found []Attributes
	for _, a := range all {
		if a.Key.Thumbprint() == thumbprint {
			found = append(found, a)
		}
	}
	if len(found) != 1 {
		return Attributes{}, denial.New(denial.HSMKeyPolicy, "%d keys of the token have the thumbprint, want 1", len(found))
	}
	return found[0], nil
}

// Keys lists the keys of all purposes with what the token states about them, fit for use or not.
func (t *Token) Keys(ctx context.Context) ([]Attributes, error) {
	return call(ctx, t, func(c *conn, session pkcs11.SessionHandle) (all []Attributes, err error) {
		info := c.info
		if info.Validations, err = t.validations(session); err != nil {
			return nil, err
		}
		for _, p := range Purposes() {
			pairs, err := t.pairs(session, p)
			if err != nil {
				return nil, err
			}
			for _, pair := range pairs {
				a, err := t.attributes(session, pair, p, info)
				if err != nil {
					return nil, err
				}
				all = append(all, a)
			}
		}
		return all, nil
	})
}

// bind finds the key of a purpose that has the pinned thumbprint, and tries it. In this order: exactly one public
// object of the purpose has the thumbprint (H03, H07); exactly one public and one private object have its CKA_ID
// (H02); the attributes are as Create sets them (H04, H05); a signature by the private one verifies with the public
// key (H07, H12).
func (t *Token) bind(c *conn, session pkcs11.SessionHandle, p Purpose, pinned statement.Thumbprint) (pair, error) {
	pairs, err := t.pairs(session, p)
	if err != nil {
		return pair{}, err
	}
	k, err := only(pairs, p, pinned)
	if err != nil {
		return pair{}, err
	}
	return k, t.judge(session, k, p, c.info)
}

// only returns the one pair that has the thumbprint.
func only(pairs []pair, p Purpose, pinned statement.Thumbprint) (pair, error) {
	var found []pair
	for _, k := range pairs {
		if k.key.Thumbprint() == pinned {
			found = append(found, k)
		}
	}
	if len(found) != 1 {
		return pair{}, denial.New(denial.HSMKeyPolicy, "%d keys for purpose %s have the pinned thumbprint, want 1", len(found), p)
	}
	return found[0], nil
}

// judge checks the attributes of a pair and tries it.
func (t *Token) judge(session pkcs11.SessionHandle, k pair, p Purpose, info Info) error {
	a, err := t.attributes(session, k, p, info)
	if err != nil {
		return err
	}
	if err := a.Check(); err != nil {
		return err
	}
	return t.selfTest(session, k, p)
}

// audit refuses a token that holds any key with which another could be wrapped or unwrapped (H06).
func (t *Token) audit(session pkcs11.SessionHandle) error {
	for _, use := range []uint{pkcs11.CKA_WRAP, pkcs11.CKA_UNWRAP} {
		found, err := t.find(session, pkcs11.NewAttribute(use, true))
		if err != nil {
			return err
		}
		if len(found) > 0 {
			return denial.New(denial.HSMKeyPolicy, "the token holds %d keys that may wrap or unwrap others; give the issuer a token of its own", len(found))
		}
	}
	return nil
}

// pairs returns the key pairs of a purpose: for each public key with its label, the one private key with the same
// label and CKA_ID. An identifier that is not unique on the token is refused (H02).
func (t *Token) pairs(session pkcs11.SessionHandle, p Purpose) ([]pair, error) {
	public, err := t.find(session, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, p.label()))
	if err != nil {
		return nil, err
	}
	var pairs []pair
	for _, object := range public {
		k := pair{public: object}
		if k.key, k.id, err = t.publicKey(session, object); err != nil {
			return nil, err
		}
		if k.private, err = t.privateOf(session, k.id, p); err != nil {
			return nil, err
		}
		pairs = append(pairs, k)
	}
	return pairs, nil
}

func (t *Token) privateOf(session pkcs11.SessionHandle, id []byte, p Purpose) (pkcs11.ObjectHandle, error) {
	twins, err := t.find(session, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PUBLIC_KEY), pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	if err != nil {
		return 0, err
	}
	private, err := t.find(session, pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY), pkcs11.NewAttribute(pkcs11.CKA_ID, id))
	if err != nil {
		return 0, err
	}
	if len(twins) != 1 || len(private) != 1 {
		return 0, denial.New(denial.HSMKeyPolicy, "%d public and %d private keys have the identifier of a %s key, want 1 of each", len(twins), len(private), p)
	}
	r := &reader{mod: t.mod, session: session, object: private[0]}
	label, _ := r.bytes(pkcs11.CKA_LABEL)
	if r.err == nil && string(label) != p.label() {
		return 0, denial.New(denial.HSMKeyPolicy, "the private half of a %s key has another label", p)
	}
	return private[0], r.err
}

// find returns the objects that have all the attributes.
func (t *Token) find(session pkcs11.SessionHandle, template ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := t.mod.FindObjectsInit(session, template); err != nil {
		return nil, fmt.Errorf("finding objects: %w", err)
	}
	var all []pkcs11.ObjectHandle
	for {
		some, _, err := t.mod.FindObjects(session, 64)
		if err != nil {
			_ = t.mod.FindObjectsFinal(session)
			return nil, fmt.Errorf("finding objects: %w", err)
		}
		if len(some) == 0 {
			break
		}
		all = append(all, some...)
	}
	if err := t.mod.FindObjectsFinal(session); err != nil {
		return nil, fmt.Errorf("finding objects: %w", err)
	}
	return all, nil
}

// publicKey reads a P-256 public key and its CKA_ID.
func (t *Token) publicKey(session pkcs11.SessionHandle, object pkcs11.ObjectHandle) (statement.Key, []byte, error) {
	r := &reader{mod: t.mod, session: session, object: object}
	id, _ := r.bytes(pkcs11.CKA_ID)
	params, _ := r.bytes(pkcs11.CKA_EC_PARAMS)
	point, _ := r.bytes(pkcs11.CKA_EC_POINT)
	if r.err != nil {
		return statement.Key{}, nil, r.err
	}
	key, err := parsePoint(params, point)
	if err != nil || len(id) == 0 {
		return statement.Key{}, nil, denial.New(denial.HSMKeyPolicy, "a public key with a label of ours is not on P-256 or has no identifier")
	}
	return key, id, nil
}

// parsePoint reads an uncompressed point, in a DER octet string or, as some modules have it, without one.
func parsePoint(params, point []byte) (statement.Key, error) {
	if !bytes.Equal(params, p256) {
		return statement.Key{}, errors.New("reading public key: not on P-256")
	}
	var raw []byte
	if rest, err := asn1.Unmarshal(point, &raw); err != nil || len(rest) > 0 {
		raw = point
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		return statement.Key{}, fmt.Errorf("reading public key: %w", err)
	}
	return statement.NewKey(pub)
}
