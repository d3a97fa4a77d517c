package hsm

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Create makes the key for a purpose on the token. If there is one already, it refuses: see Rotate.
func (t *Token) Create(ctx context.Context, p Purpose) (statement.Key, error) {
	return t.create(ctx, p, func(present []pair) error {
		if len(present) > 0 {
			return denial.New(denial.HSMKeyPolicy, "the token has a key for purpose %s already", p)
		}
		return nil
	})
}

// Rotate makes another key for a purpose beside the present one, which must be on the token and stays there.
func (t *Token) Rotate(ctx context.Context, p Purpose, present statement.Thumbprint) (statement.Key, error) {
	return t.create(ctx, p, func(pairs []pair) error {
		_, err := only(pairs, p, present)
		return err
	})
}

func (t *Token) create(ctx context.Context, p Purpose, allowed func([]pair) error) (statement.Key, error) {
	if !p.valid() {
		return statement.Key{}, errors.New("making key: unknown purpose")
	}
	return call(ctx, t, func(c *conn, session pkcs11.SessionHandle) (none statement.Key, err error) {
		present, err := t.pairs(session, p)
		if err != nil {
			return none, err
		}
		if err := allowed(present); err != nil {
			return none, err
		}
		rw, err := t.mod.OpenSession(c.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
		if err != nil {
			return none, fmt.Errorf("opening session: %w", err)
		}
		defer t.mod.CloseSession(rw)
		made, err := t.generate(rw, p.label())
		if err != nil {
			return none, fmt.Errorf("making %s key: %w", p, err)
		}
		if err := t.judge(rw, made, p, c.info); err != nil {
			_ = t.mod.DestroyObject(rw, made.private)
			_ = t.mod.DestroyObject(rw, made.public)
			return none, err
		}
		return made.key, nil
	})
}

// generate makes a key pair that can sign and nothing else. Attributes that a token may not know are left out if it
// refuses them; what the key then is, the caller reads back and judges.
func (t *Token) generate(session pkcs11.SessionHandle, label string) (pair, error) {
	k := pair{id: make([]byte, 16)}
	rand.Read(k.id)
	public, private, optional := templates(k.id, label)
	mech := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}
	var err error
	k.public, k.private, err = t.mod.GenerateKeyPair(session, mech, public, append(private, optional...))
	var ckr pkcs11.Error
	errors.As(err, &ckr)
	switch ckr {
	case pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_TEMPLATE_INCONSISTENT:
		k.public, k.private, err = t.mod.GenerateKeyPair(session, mech, public, private)
	}
	if err != nil {
		return pair{}, err
	}
	k.key, _, err = t.publicKey(session, k.public)
	return k, err
}

// templates says nothing of CKA_VERIFY and CKA_ENCRYPT of the public half, which is never used on the token: tpm2-pkcs11
// takes them for the uses of the TPM's key (verify for decrypt, encrypt for sign) and refuses a template that then
// contradicts itself with CKR_GENERAL_ERROR.
func templates(id []byte, label string) (public, private, optional []*pkcs11.Attribute) {
	name := func() []*pkcs11.Attribute {
		return []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_ID, id), pkcs11.NewAttribute(pkcs11.CKA_LABEL, label)}
	}
	public = append(name(), pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true), pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, p256))
	public = append(public, flags(false, pkcs11.CKA_VERIFY_RECOVER, pkcs11.CKA_WRAP, pkcs11.CKA_DERIVE, pkcs11.CKA_MODIFIABLE)...)
	private = append(name(), flags(true, pkcs11.CKA_TOKEN, pkcs11.CKA_PRIVATE, pkcs11.CKA_SENSITIVE, pkcs11.CKA_SIGN)...)
	private = append(private, flags(false, pkcs11.CKA_EXTRACTABLE, pkcs11.CKA_SIGN_RECOVER, pkcs11.CKA_DECRYPT, pkcs11.CKA_UNWRAP,
		pkcs11.CKA_DERIVE, pkcs11.CKA_MODIFIABLE)...)
	optional = append(flags(false, pkcs11.CKA_COPYABLE),
		pkcs11.NewAttribute(pkcs11.CKA_ALLOWED_MECHANISMS, pkcs11.NewAttribute(0, uint(pkcs11.CKM_ECDSA)).Value))
	return public, private, optional
}

// flags gives all of them one value.
func flags(value bool, of ...uint) (list []*pkcs11.Attribute) {
	for _, f := range of {
		list = append(list, pkcs11.NewAttribute(f, value))
	}
	return list
}
