package hsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Attributes are the facts about one key pair as its token states them: the content of a key-birth record.
type Attributes struct {
	Key     statement.Key
	Purpose Purpose
	ID      []byte // CKA_ID of both halves
	Token   Info

	OnToken          bool // CKA_TOKEN: it outlives the session
	Private          bool // needs a login
	Sensitive        bool
	AlwaysSensitive  bool
	NeverExtractable bool
	Extractable      bool
	Local            bool // made on the token
	Modifiable       bool
	Copyable         bool     // false too where the token does not know the attribute
	AlwaysAuth       bool     // a PIN for each signature; false too where the token does not know the attribute
	Usage            []string // what the private key may be used for, of sign, sign-recover, decrypt, unwrap, derive
	Mechanism        string   // by which it was made; CKM_EC_KEY_PAIR_GEN or a number
}

const mechanism = "CKM_EC_KEY_PAIR_GEN"

// Check returns HSMKeyPolicy, naming all that is wrong, unless the key was made on the token, has never been outside
// and cannot be, cannot be changed, and is for signing only (H04, H05).
func (a Attributes) Check() error {
	var wrong []string
	for _, c := range []struct {
		holds bool
		fault string
	}{
		{a.OnToken, "not a token object"},
		{a.Private, "not private"},
		{a.Sensitive, "not sensitive"},
		{a.AlwaysSensitive, "has not always been sensitive"},
		{a.NeverExtractable, "has been extractable"},
		{!a.Extractable, "extractable"},
		{a.Local, "not made on the token"},
		{!a.Modifiable, "modifiable"},
		{!a.Copyable, "copyable"},
		{!a.AlwaysAuth, "needs the PIN for each signature"},
		{len(a.Usage) == 1 && a.Usage[0] == "sign", "usage is not sign only"},
		{a.Mechanism == mechanism, "not made by " + mechanism},
	} {
		if !c.holds {
			wrong = append(wrong, c.fault)
		}
	}
	if len(wrong) > 0 {
		return denial.New(denial.HSMKeyPolicy, "the %s key is unfit: %s", a.Purpose, strings.Join(wrong, ", "))
	}
	return nil
}

// reader reads attributes of one object, one by one, because a token refuses the whole list for one it does not know.
// The first fault ends it.
type reader struct {
	mod     *pkcs11.Ctx
	session pkcs11.SessionHandle
	object  pkcs11.ObjectHandle
	err     error
}

// bytes returns the value of the attribute, and whether the token knows it.
func (r *reader) bytes(attribute uint) ([]byte, bool) {
	if r.err != nil {
		return nil, false
	}
	got, err := r.mod.GetAttributeValue(r.session, r.object, []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, nil)})
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_ATTRIBUTE_TYPE_INVALID)) {
		return nil, false
	}
	if err != nil {
		r.err = fmt.Errorf("reading attribute 0x%x: %w", attribute, err)
		return nil, false
	}
	return got[0].Value, true
}

// flag returns the value of a CK_BBOOL, or other where the token does not know it.
func (r *reader) flag(attribute uint, other bool) bool {
	v, ok := r.bytes(attribute)
	if !ok || len(v) != 1 {
		return other
	}
	return v[0] != 0
}

// ulong returns the value of a CK_ULONG.
func (r *reader) ulong(attribute uint) (uint64, bool) {
	v, ok := r.bytes(attribute)
	if !ok || len(v) != 8 {
		return 0, false
	}
	return binary.NativeEndian.Uint64(v), true
}

// attributes reads the facts about a private key. A flag that the token does not state counts as the wrong one,
// except for CKA_COPYABLE and CKA_ALWAYS_AUTHENTICATE, which older tokens do not have.
func (t *Token) attributes(session pkcs11.SessionHandle, p pair, purpose Purpose, info Info) (Attributes, error) {
	r := &reader{mod: t.mod, session: session, object: p.private}
	a := Attributes{
		Key: p.key, Purpose: purpose, ID: p.id, Token: info,
		OnToken:          r.flag(pkcs11.CKA_TOKEN, false),
		Private:          r.flag(pkcs11.CKA_PRIVATE, false),
		Sensitive:        r.flag(pkcs11.CKA_SENSITIVE, false),
		AlwaysSensitive:  r.flag(pkcs11.CKA_ALWAYS_SENSITIVE, false),
		NeverExtractable: r.flag(pkcs11.CKA_NEVER_EXTRACTABLE, false),
		Extractable:      r.flag(pkcs11.CKA_EXTRACTABLE, true),
		Local:            r.flag(pkcs11.CKA_LOCAL, false),
		Modifiable:       r.flag(pkcs11.CKA_MODIFIABLE, true),
		Copyable:         r.flag(pkcs11.CKA_COPYABLE, false),
		AlwaysAuth:       r.flag(pkcs11.CKA_ALWAYS_AUTHENTICATE, false),
	}
	for _, use := range []struct {
		attribute uint
		name      string
	}{
		{pkcs11.CKA_SIGN, "sign"}, {pkcs11.CKA_SIGN_RECOVER, "sign-recover"}, {pkcs11.CKA_DECRYPT, "decrypt"},
		{pkcs11.CKA_UNWRAP, "unwrap"}, {pkcs11.CKA_DERIVE, "derive"},
	} {
		if r.flag(use.attribute, true) {
			a.Usage = append(a.Usage, use.name)
		}
	}
	a.Mechanism = "unknown"
	if m, ok := r.ulong(pkcs11.CKA_KEY_GEN_MECHANISM); ok {
		a.Mechanism = fmt.Sprintf("0x%x", m)
		if m == pkcs11.CKM_EC_KEY_PAIR_GEN {
			a.Mechanism = mechanism
		}
	}
	return a, r.err
}
