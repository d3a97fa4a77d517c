package statement

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"slices"

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
	labelOpenings = -90010
)

const algSHA256 = -16 // RFC 9054

// Digest is SHA-256 over the tagged COSE_Sign1 with an empty unprotected map, 32 bytes: the name of a statement
// everywhere. It covers the signature; the same content signed twice has two digests.
type Digest [32]byte

// String returns the digest in lower-case hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// DigestOf returns SHA-256 of any bytes.
func DigestOf(data []byte) Digest { return sha256.Sum256(data) }

// Envelope is a decoded, unverified statement. What it returns must be used for nothing but finding a key and showing
// it to a person.
type Envelope struct {
	leaf        []byte // tagged COSE_Sign1 with an empty unprotected map
	protected   []byte // content of the protected bstr
	payload     []byte // nil if detached
	detached    bool
	signature   []byte
	labels      header // protected
	others      bool   // the protected header has labels that are not integers
	unprotected header
}

// Decode reads a tagged COSE_Sign1 of at most limit bytes. It checks, in this order: size (313), tag 18 and the array
// of four (311), one canonical encoding of the array (308, 309, 310, 313), the protected header a byte string (311)
// that holds nothing or one canonical map (308, 309, 310, 311, 313), the unprotected header a map (311), no label in
// both (308), the payload a byte string or nil (312), the signature a byte string (311). It does not look into the
// payload.
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
	s := scanner{data: raw, pos: 2}
	protected, unprotected, payload, signature := s.next(), s.next(), s.next(), s.next()
	e := &Envelope{leaf: slices.Concat(raw[:2], protected, []byte{0xa0}, payload, signature)}
	s = scanner{data: e.leaf, pos: 2} // what is kept are parts of the one copy, and not of the caller's bytes
	protected, _, payload, signature = s.next(), s.next(), s.next(), s.next()
	unprotected = bytes.Clone(unprotected)
	if err := e.headers(protected, unprotected); err != nil {
		return nil, err
	}
	var ok bool
	if e.detached = payload[0] == 0xf6; !e.detached {
		if e.payload, ok = byteString(payload); !ok {
			return nil, denial.New(denial.PayloadForm, "the payload is neither a byte string nor nil")
		}
	}
	if e.signature, ok = byteString(signature); !ok {
		return nil, denial.New(denial.WrongType, "the signature is not a byte string")
	}
	return e, nil
}

func (e *Envelope) headers(protected, unprotected []byte) error {
	var ok bool
	if e.protected, ok = byteString(protected); !ok {
		return denial.New(denial.WrongType, "the protected header is not a byte string")
	}
	if len(e.protected) > 0 { // an empty one stands for an empty map (RFC 9052, section 3)
		if err := Scan(e.protected); err != nil {
			return err
		}
		if e.labels, e.others, ok = parseHeader(e.protected); !ok {
			return denial.New(denial.WrongType, "the protected header is not a map")
		}
	}
	if e.unprotected, _, ok = parseHeader(unprotected); !ok {
		return denial.New(denial.WrongType, "the unprotected header is not a map")
	}
	for _, f := range e.unprotected {
		if e.labels.find(f.label) != nil {
			return denial.New(denial.LabelDuplicate, "label %d stands in both headers", f.label)
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
		if e.fits(k) == nil {
			return k
		}
	}
	return 0
}

// Payload returns the unverified payload, nil if it is detached.
func (e *Envelope) Payload() []byte { return bytes.Clone(e.payload) }

// Claims returns the unverified CWT claims of the header; zero if they are absent or malformed.
func (e *Envelope) Claims() Claims {
	c, _ := parseClaims(e.labels.find(labelClaims)) // zero beside an error
	return c
}

// KeyID returns the unverified kid and whether it has the form of a thumbprint.
func (e *Envelope) KeyID() (t Thumbprint, ok bool) {
	kid, _ := byteString(e.labels.find(labelKeyID)) // empty if it is none
	if len(kid) != len(t) {
		return t, false
	}
	return Thumbprint(kid), true
}

// Algorithm returns the algorithm of the protected header. Absent or in the unprotected header alone it is
// AlgNotProtected; not in the allow-list it is AlgNotAllowed.
func (e *Envelope) Algorithm() (Algorithm, error) {
	raw := e.labels.find(labelAlg)
	if raw == nil {
		return 0, denial.New(denial.AlgNotProtected, "the protected header names no algorithm")
	}
	n, ok := integer(raw)
	if !ok {
		return 0, denial.New(denial.AlgNotAllowed, "the algorithm is not an integer")
	}
	switch a := Algorithm(n); a {
	case ES256, EdDSA, ESP256, Ed25519, ES384, ESP384:
		return a, nil
	}
	return 0, denial.New(denial.AlgNotAllowed, "algorithm %d is not in the allow-list", n)
}

// Receipts returns the receipts in the unprotected header (label 394, RFC 9942). They are unverified.
func (e *Envelope) Receipts() ([][]byte, error) {
	raw := e.unprotected.find(labelReceipts)
	if raw == nil {
		return nil, nil
	}
	var receipts [][]byte
	empty := func(r []byte) bool { return len(r) == 0 }
	if err := Unmarshal(raw, &receipts); err != nil || len(receipts) == 0 || slices.ContainsFunc(receipts, empty) {
		return nil, denial.New(denial.ReceiptInvalid, "the receipts header is not an array of byte strings")
	}
	return receipts, nil
}

// Openings returns what an act carries under label -90010 of its unprotected header: openings of commitments in its payload
// (package record), which are never logged. They are unverified.
func (e *Envelope) Openings() ([][]byte, error) {
	raw := e.unprotected.find(labelOpenings)
	if raw == nil {
		return nil, nil
	}
	var openings [][]byte
	return openings, Unmarshal(raw, &openings)
}

// Proofs returns the encoded map of label 396 in the unprotected header, nil if absent. It is unverified.
func (e *Envelope) Proofs() []byte { return bytes.Clone(e.unprotected.find(labelProofs)) }

// fits checks the headers and the payload's form against a kind: no crit anywhere and no protected label that is not
// known (307), the values of typ, content type and the other labels (311), the payload embedded or not (312), the size
// (313).
func (e *Envelope) fits(k Kind) error {
	f := k.form()
	if f.name == "" {
		return denial.New(denial.WrongType, "unknown kind")
	}
	if e.unprotected.find(labelCrit) != nil || e.others { // a protected one is refused below, with every label that is not known
		return denial.New(denial.CritUnknown, "a header that this version does not know is marked critical or signed")
	}
	for _, h := range e.labels {
		switch h.label {
		case labelAlg, labelKeyID, labelClaims, labelType, labelContent, labelPreimage, labelVDS, labelHashAlg:
		default:
			return denial.New(denial.CritUnknown, "the protected header holds label %d", h.label)
		}
	}
	if !e.text(labelType, f.typ) || !e.text(labelContent, f.content) || !e.text(labelPreimage, f.preimage) ||
		!e.number(labelVDS, f.vds) || !e.number(labelHashAlg, f.hashAlg()) {
		return denial.New(denial.WrongType, "the statement is not of kind %s", k)
	}
	if f.detached != e.detached {
		return denial.New(denial.PayloadForm, "the payload of this kind stands in the statement, or must not")
	}
	if len(e.leaf) > f.limit {
		return denial.New(denial.StructureLimit, "a %s has at most %d bytes", k, f.limit)
	}
	return nil
}

// text reports whether a label holds exactly want, or is absent if want is empty.
func (e *Envelope) text(label int64, want string) bool {
	raw := e.labels.find(label)
	if want == "" {
		return raw == nil
	}
	return textIs(raw, want)
}

// number reports whether a label holds exactly want, or is absent if want is zero.
func (e *Envelope) number(label, want int64) bool {
	raw := e.labels.find(label)
	if want == 0 {
		return raw == nil
	}
	got, ok := integer(raw)
	return ok && got == want
}

// Attach returns the statement with the receipts in its unprotected header: a transparent statement (RFC 9943). Without
// a receipt the header is one that Receipts refuses.
func Attach(leaf []byte, receipts ...[]byte) ([]byte, error) {
	return withUnprotected(leaf, labelReceipts, receipts)
}

// WithOpenings returns the statement with openings in its unprotected header.
func WithOpenings(leaf []byte, openings [][]byte) ([]byte, error) {
	return withUnprotected(leaf, labelOpenings, openings)
}

// WithProofs returns a receipt with the encoded map under label 396 of its unprotected header (RFC 9942).
func WithProofs(leaf, proofs []byte) ([]byte, error) {
	return withUnprotected(leaf, labelProofs, RawItem(proofs))
}

// withUnprotected returns the statement with one pair in its unprotected header.
func withUnprotected(leaf []byte, label int64, value any) ([]byte, error) {
	c, err := NewCarrier(leaf)
	if err != nil {
		return nil, err
	}
	header, err := Marshal(map[int64]any{label: value})
	if err != nil {
		return nil, err
	}
	return slices.Concat(c.before, header, c.after), nil
}

// Carrier is a statement that was read once, to have one proof after the other put into its unprotected header.
type Carrier struct {
	before, after []byte // the unprotected header
}

// NewCarrier reads the statement.
func NewCarrier(leaf []byte) (*Carrier, error) {
	e, err := Decode(leaf, len(leaf))
	if err != nil {
		return nil, err
	}
	s := scanner{data: e.leaf, pos: 2}
	s.next()
	return &Carrier{e.leaf[:s.pos], e.leaf[s.pos+1:]}, nil
}

// proofsHeader is what stands in an unprotected header before the map under its one label, 396.
var proofsHeader = []byte{0xa1, 0x19, labelProofs >> 8, labelProofs & 0xff}

// WithProofs is the function WithProofs for a map of proofs that the caller encoded with the functions of this package: it
// is not read again.
func (c *Carrier) WithProofs(proofs []byte) []byte {
	return slices.Concat(c.before, proofsHeader, proofs, c.after)
}
