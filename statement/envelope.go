package statement

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"slices"

	"github.com/fxamacker/cbor/v2"

	"github.com/governed-execution/writ/denial"
)

// The header labels that Writ knows.
const (
	labelAlg      = 1
	labelCrit     = 2
	labelContent  = 3
	labelKeyID    = 4
	labelClaims   = 15
	labelType     = 16
	labelHashAlg  = 258
	labelPreimage = 259
	labelReceipts = 394
	labelVDS      = 395
	labelProofs   = 396
)

const algSHA256 = -16 // RFC 9054

// Digest is SHA-256 over the tagged COSE_Sign1 with an empty unprotected map, 32 bytes: the name of a statement
// everywhere. It covers the signature; the same content signed twice has two digests.
type Digest [32]byte

// String returns the digest in lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// DigestOf returns SHA-256 of any bytes.
func DigestOf(data []byte) Digest { return sha256.Sum256(data) }

// Claims are the CWT claims of the protected header (RFC 9597): iss and sub are always there, iat where the kind has
// a time of its own.
type Claims struct {
	Issuer   string `cbor:"1,keyasint"`
	Subject  string `cbor:"2,keyasint"`
	IssuedAt uint64 `cbor:"6,keyasint,omitempty"` // seconds since 1970 UTC; zero if absent
}

// Envelope is a decoded, unverified statement. What it returns must be used for nothing but finding a key and showing
// it to a person.
type Envelope struct {
	leaf        []byte // tagged COSE_Sign1 with an empty unprotected map
	protected   []byte // content of the protected bstr
	payload     []byte // nil if detached
	detached    bool
	signature   []byte
	labels      map[int64]cbor.RawMessage // protected
	unprotected map[int64]cbor.RawMessage
}

// Decode reads a tagged COSE_Sign1 of at most limit bytes. It checks, in this order: size (313), tag 18 and the array
// of four (311), one canonical encoding of the array and both headers (308, 309, 310, 313), no label in both headers
// (308), the payload's form: bstr or nil (312), the signature a bstr (311). The payload itself is not looked at.
func Decode(raw []byte, limit int) (*Envelope, error) {
	if len(raw) > limit {
		return nil, denial.New(denial.StructureLimit, "the statement has more than %d bytes", limit)
	}
	if len(raw) < 2 || raw[0] != 0xd2 || raw[1] != 0x84 {
		return nil, denial.New(denial.WrongType, "not a tagged COSE_Sign1")
	}
	if err := Scan(raw[1:]); err != nil {
		return nil, err
	}
	var parts []cbor.RawMessage
	if err := decMode.Unmarshal(raw[1:], &parts); err != nil || len(parts) != 4 {
		return nil, denial.New(denial.WrongType, "not a tagged COSE_Sign1")
	}
	e := &Envelope{}
	if err := decMode.Unmarshal(parts[0], &e.protected); err != nil || len(e.protected) == 0 {
		return nil, denial.New(denial.WrongType, "the protected header is not a byte string with a map")
	}
	if err := e.headers(parts[1]); err != nil {
		return nil, err
	}
	if e.detached = bytes.Equal(parts[2], []byte{0xf6}); !e.detached {
		if err := decMode.Unmarshal(parts[2], &e.payload); err != nil {
			return nil, denial.New(denial.PayloadForm, "the payload is neither a byte string nor nil")
		}
	}
	if err := decMode.Unmarshal(parts[3], &e.signature); err != nil {
		return nil, denial.New(denial.WrongType, "the signature is not a byte string")
	}
	e.leaf = slices.Concat(raw[:2], parts[0], []byte{0xa0}, parts[2], parts[3])
	return e, nil
}

func (e *Envelope) headers(unprotected []byte) error {
	if err := Scan(e.protected); err != nil {
		return err
	}
	if err := decMode.Unmarshal(e.protected, &e.labels); err != nil {
		return denial.New(denial.CritUnknown, "the protected header is not a map of integer labels")
	}
	if err := decMode.Unmarshal(unprotected, &e.unprotected); err != nil {
		return denial.New(denial.WrongType, "the unprotected header is not a map of integer labels")
	}
	for label := range e.unprotected {
		if _, both := e.labels[label]; both {
			return denial.New(denial.LabelDuplicate, "label %d stands in both headers", label)
		}
	}
	return nil
}

// Leaf returns the log entry: the tagged COSE_Sign1 with an empty unprotected map.
func (e *Envelope) Leaf() []byte { return bytes.Clone(e.leaf) }

// Digest returns SHA-256 of the leaf.
func (e *Envelope) Digest() Digest { return DigestOf(e.leaf) }

// Kind returns the kind that the headers claim, or zero.
func (e *Envelope) Kind() Kind {
	for _, k := range Kinds() {
		if e.fitsKind(k) == nil {
			return k
		}
	}
	return 0
}

// Payload returns the unverified payload, nil if it is detached.
func (e *Envelope) Payload() []byte { return bytes.Clone(e.payload) }

// Claims returns the unverified CWT claims of the header; zero if they are absent or malformed.
func (e *Envelope) Claims() Claims {
	var c Claims
	if Unmarshal(e.labels[labelClaims], &c) != nil {
		return Claims{}
	}
	return c
}

// KeyID returns the unverified kid and whether it has the form of a thumbprint.
func (e *Envelope) KeyID() (t Thumbprint, ok bool) {
	var kid []byte
	if decMode.Unmarshal(e.labels[labelKeyID], &kid) != nil || len(kid) != len(t) {
		return t, false
	}
	return Thumbprint(kid), true
}

// Algorithm returns the algorithm of the protected header. Absent or in the unprotected header alone it is
// AlgNotProtected; not in the allow-list it is AlgNotAllowed.
func (e *Envelope) Algorithm() (Algorithm, error) {
	raw, ok := e.labels[labelAlg]
	if !ok {
		return 0, denial.New(denial.AlgNotProtected, "the protected header names no algorithm")
	}
	var a Algorithm
	if err := decMode.Unmarshal(raw, &a); err != nil {
		return 0, denial.New(denial.AlgNotAllowed, "the algorithm is not an integer")
	}
	switch a {
	case ES256, EdDSA, ESP256, Ed25519, ES384, ESP384:
		return a, nil
	}
	return 0, denial.New(denial.AlgNotAllowed, "algorithm %d is not in the allow-list", a)
}

// Receipts returns the receipts in the unprotected header (label 394, RFC 9942). They are unverified.
func (e *Envelope) Receipts() ([][]byte, error) {
	raw, ok := e.unprotected[labelReceipts]
	if !ok {
		return nil, nil
	}
	var receipts [][]byte
	if err := Unmarshal(raw, &receipts); err != nil {
		return nil, denial.New(denial.ReceiptInvalid, "the receipts header is not an array of byte strings")
	}
	return receipts, nil
}

// Proofs returns the encoded map of label 396 in the unprotected header, nil if absent. It is unverified.
func (e *Envelope) Proofs() []byte { return bytes.Clone(e.unprotected[labelProofs]) }

// fitsKind checks crit, the set of protected labels, their values and the payload's form against a kind.
func (e *Envelope) fitsKind(k Kind) error {
	f := k.form()
	if f.name == "" {
		return denial.New(denial.WrongType, "unknown kind")
	}
	if _, ok := e.labels[labelCrit]; ok {
		return denial.New(denial.CritUnknown, "a header that this version does not know is marked critical")
	}
	if _, ok := e.unprotected[labelCrit]; ok {
		return denial.New(denial.CritUnknown, "crit stands in the unprotected header")
	}
	if !e.text(labelType, f.typ) || !e.text(labelContent, f.content) || !e.text(labelPreimage, f.preimage) {
		return denial.New(denial.WrongType, "the statement is not of kind %s", k)
	}
	if !e.number(labelVDS, f.vds) || !e.number(labelHashAlg, hashAlgOf(f)) {
		return denial.New(denial.WrongType, "the statement is not of kind %s", k)
	}
	for label := range e.labels {
		switch label {
		case labelAlg, labelKeyID, labelClaims, labelType, labelContent, labelPreimage, labelVDS, labelHashAlg:
		default:
			return denial.New(denial.CritUnknown, "the protected header holds label %d", label)
		}
	}
	if f.detached != e.detached {
		return denial.New(denial.PayloadForm, "the payload must be embedded in this kind, or must not")
	}
	if _, ok := e.unprotected[labelProofs]; ok != f.proofs {
		return denial.New(denial.WrongType, "proofs belong into receipts, and only there")
	}
	if c := e.Claims(); c.Issuer == "" || c.Subject == "" {
		return denial.New(denial.ClaimAbsent, "iss or sub is missing in the header")
	}
	return nil
}

func hashAlgOf(f form) int64 {
	if f.preimage == "" {
		return 0
	}
	return algSHA256
}

// text reports whether a label holds exactly want, or is absent if want is empty.
func (e *Envelope) text(label int64, want string) bool {
	raw, ok := e.labels[label]
	var got string
	return ok == (want != "") && (!ok || decMode.Unmarshal(raw, &got) == nil && got == want)
}

// number reports whether a label holds exactly want, or is absent if want is zero.
func (e *Envelope) number(label, want int64) bool {
	raw, ok := e.labels[label]
	var got int64
	return ok == (want != 0) && (!ok || decMode.Unmarshal(raw, &got) == nil && got == want)
}

// Keys is a set of trusted public keys, each with the kinds that it may sign. The zero Keys trusts nobody.
type Keys struct {
	byID map[Thumbprint]trusted
}

type trusted struct {
	key   Key
	kinds []Kind
}

// Add trusts the key for the kinds. A key may be added once only; a second time is KeyAmbiguous (C22).
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

// Verified is a statement whose signature, key and kind have been checked. Only Envelope.Verify makes it; the zero
// Verified has no payload and no key.
type Verified struct {
	env    *Envelope
	key    Key
	kind   Kind
	claims Claims
}

// Verify checks, in this order: the algorithm stands in the protected header (304) and in the allow-list (302); kid
// names exactly one trusted key (305); the algorithm belongs to that key's curve (303); the signature over the bytes
// as received (301); crit and unknown protected labels (307); typ, content type and the other labels of the kind
// (311), the payload's form (312), iss and sub (104); the key is trusted for the kind (311).
func (e *Envelope) Verify(keys Keys, kind Kind) (*Verified, error) {
	return e.verify(keys, kind, nil)
}

// VerifyDetached is Verify for a kind whose payload is not in the statement but given here.
func (e *Envelope) VerifyDetached(keys Keys, kind Kind, payload []byte) (*Verified, error) {
	if !e.detached || payload == nil {
		return nil, denial.New(denial.PayloadForm, "a detached payload is needed")
	}
	return e.verify(keys, kind, payload)
}

func (e *Envelope) verify(keys Keys, kind Kind, detached []byte) (*Verified, error) {
	if e == nil {
		return nil, denial.New(denial.Internal, "no envelope")
	}
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
	if err := e.checkSignature(t.key, detached); err != nil {
		return nil, err
	}
	if err := e.fitsKind(kind); err != nil {
		return nil, err
	}
	if !slices.Contains(t.kinds, kind) {
		return nil, denial.New(denial.WrongType, "the key is not trusted for kind %s", kind)
	}
	return &Verified{env: e, key: t.key, kind: kind, claims: e.Claims()}, nil
}

func (e *Envelope) checkSignature(k Key, detached []byte) error {
	payload := e.payload
	if e.detached {
		payload = detached
	}
	if payload == nil && e.detached {
		return denial.New(denial.PayloadForm, "the payload is detached")
	}
	if !k.verify(toBeSigned(e.protected, payload), e.signature) {
		return denial.New(denial.SignatureInvalid, "the signature does not verify")
	}
	return nil
}

// Kind returns the verified kind.
func (v *Verified) Kind() Kind { return v.kind }

// Key returns the key that verified.
func (v *Verified) Key() Key { return v.key }

// Claims returns the verified CWT claims of the header.
func (v *Verified) Claims() Claims { return v.claims }

// Payload returns the verified payload.
func (v *Verified) Payload() []byte { return v.env.Payload() }

// Leaf returns the log entry.
func (v *Verified) Leaf() []byte { return v.env.Leaf() }

// Digest returns SHA-256 of the leaf.
func (v *Verified) Digest() Digest { return v.env.Digest() }

// Receipts returns the receipts beside the statement. They are not covered by the signature.
func (v *Verified) Receipts() ([][]byte, error) { return v.env.Receipts() }

// Unmarshal decodes the verified payload strictly into out.
func (v *Verified) Unmarshal(out any) error {
	if v == nil || v.env == nil {
		return denial.New(denial.Internal, "no verified statement")
	}
	return Unmarshal(v.env.payload, out)
}

// Attach returns the statement with the receipts in its unprotected header: a transparent statement (RFC 9943).
func Attach(leaf []byte, receipts ...[]byte) ([]byte, error) {
	e, err := Decode(leaf, len(leaf))
	if err != nil {
		return nil, err
	}
	header, err := Marshal(map[int64]any{labelReceipts: receipts})
	if err != nil {
		return nil, err
	}
	return e.withUnprotected(header), nil
}

// withUnprotected returns the statement with another encoded unprotected map.
func (e *Envelope) withUnprotected(header []byte) []byte {
	n := 2 + headLen(e.leaf[2:]) + len(e.protected)
	return slices.Concat(e.leaf[:n], header, e.leaf[n+1:])
}

// headLen returns the length of the head of the byte string at the start of b.
func headLen(b []byte) int {
	switch info := b[0] & 0x1f; {
	case info < 24:
		return 1
	default:
		return 1 + 1<<(info-24)
	}
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
