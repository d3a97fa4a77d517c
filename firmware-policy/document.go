package firmwarepolicy

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Kind says which of the policies a document is.
type Kind string

// The kinds of policies.
const (
	KindAppraisal     Kind = "appraisal"
	KindAuthorization Kind = "authorization"
	KindAnchors       Kind = "anchors" // which TPM vendors are believed
)

// Schema is the version of the document's form, of the facts' names and of the expression language. It is part of the
// canonical form, and so of the hash.
const Schema = 1

// Limits on a policy document.
const (
	MaxCanonical = 60 << 10  // bytes of the canonical form, so that it fits a statement
	MaxTOML      = 256 << 10 // bytes of the TOML form
)

const (
	maxURI       = 512
	maxExpires   = 1<<37 - 1 // the year 6325: RFC 3339 can still write it
	hashDomain   = "writ-policy-v1"
	maxListItems = 1024
)

// Hash identifies a policy: SHA-256("writ-policy-v1" || canonical form).
type Hash [sha256.Size]byte

// String returns the hash in lower-case hexadecimal.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// body is the canonical form: deterministic CBOR of this struct.
type body struct {
	Schema        uint64             `cbor:"1,keyasint"`
	Kind          Kind               `cbor:"2,keyasint"`
	ID            string             `cbor:"3,keyasint"`
	Version       uint64             `cbor:"4,keyasint"`
	Expires       uint64             `cbor:"5,keyasint"`
	Appraisal     *appraisalBody     `cbor:"6,keyasint,omitempty"`
	Authorization *authorizationBody `cbor:"7,keyasint,omitempty"`
	Anchors       *anchorsBody       `cbor:"8,keyasint,omitempty"`
}

// Document is one policy that has passed every check. It is made by ParseTOML and Decode only, and never changes.
type Document struct {
	body          body
	canonical     []byte
	hash          Hash
	appraisal     *Appraisal
	authorization *Authorization
	anchors       *Anchors
}

// Decode reads a canonical form. It checks, in this order: the size (313), strict CBOR and known keys, the schema
// version (911), everything that ParseTOML checks (407), and that encoding the document gives the same bytes (309).
func Decode(canonical []byte) (*Document, error) {
	if len(canonical) > MaxCanonical {
		return nil, denial.New(denial.StructureLimit, "a policy has more than %d bytes", MaxCanonical)
	}
	var b body
	if err := statement.Unmarshal(canonical, &b); err != nil {
		return nil, err
	}
	if b.Schema != Schema {
		return nil, denial.New(denial.UnsupportedVersion, "policy schema %d", b.Schema)
	}
	d, err := newDocument(b)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(d.canonical, canonical) {
		return nil, denial.New(denial.NotCanonical, "the policy is not in its canonical form").
			Try("Make the document with \"writ policy sign\" from its TOML file, which writes the one form.")
	}
	return d, nil
}

func newDocument(b body) (*Document, error) {
	b.normalise()
	if err := b.check(); err != nil {
		return nil, err
	}
	canonical, err := statement.Marshal(b)
	if err != nil {
		return nil, err
	}
	if len(canonical) > MaxCanonical {
		return nil, refuse("the policy takes %d bytes, more than %d", len(canonical), MaxCanonical)
	}
	d := &Document{body: b, canonical: canonical, hash: sha256.Sum256(append([]byte(hashDomain), canonical...))}
	switch b.Kind {
	case KindAppraisal:
		d.appraisal, err = compileAppraisal(b.Appraisal, d.hash)
	case KindAuthorization:
		d.authorization, err = compileAuthorization(b.Authorization, d.hash)
	case KindAnchors:
		d.anchors, err = compileAnchors(b.Anchors)
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// normalise brings every list whose order means nothing into ascending order, trims expressions, and leaves out a
// directory that is "/". Reference sets keep their order.
func (b *body) normalise() {
	if a := b.Appraisal; a != nil {
		slices.Sort(a.Quote)
		slices.Sort(a.Bind)
		if a.Reference == nil {
			a.Reference = map[string][]string{}
		}
		if a.IMA != nil {
			a.IMA.normalise()
		}
		for i := range a.Require {
			a.Require[i].Expr = strings.TrimSpace(a.Require[i].Expr)
		}
	}
	if b.Anchors != nil {
		b.Anchors.normalise()
	}
	if b.Authorization == nil {
		return
	}
	for _, rules := range [][]rule{b.Authorization.Rules, b.Authorization.BreakGlass} {
		normaliseRules(rules)
	}
}

func normaliseRules(rules []rule) {
	for i := range rules {
		r := &rules[i]
		slices.Sort(r.Initiators)
		slices.Sort(r.HostIDs)
		slices.Sort(r.Delegators)
		slices.Sort(r.Audiences)
		r.When = strings.TrimSpace(r.When)
		for j := range r.Scope {
			slices.Sort(r.Scope[j].Operations)
			slices.Sort(r.Scope[j].Code)
			slices.Sort(r.Scope[j].Parameters)
			slices.Sort(r.Scope[j].Env)
			if r.Scope[j].Directory == root {
				r.Scope[j].Directory = ""
			}
		}
	}
}

func (b *body) check() error {
	switch {
	case b.Schema != Schema:
		return refuse("schema must be %d", Schema)
	case b.Kind != KindAppraisal && b.Kind != KindAuthorization && b.Kind != KindAnchors:
		return refuse("kind must be %q, %q or %q", KindAppraisal, KindAuthorization, KindAnchors)
	case (b.Appraisal != nil) != (b.Kind == KindAppraisal) || (b.Authorization != nil) != (b.Kind == KindAuthorization) ||
		(b.Anchors != nil) != (b.Kind == KindAnchors):
		return refuse("the content is not that of kind %q", b.Kind)
	case !absolute(b.ID):
		return refuse("id must be an absolute URI")
	case b.Version == 0 || b.Version > 1<<53:
		return refuse("version must be at least 1")
	case b.Expires == 0 || b.Expires > maxExpires:
		return refuse("expires must be a date and time with an offset, such as 2027-01-01T00:00:00Z")
	}
	return nil
}

// Kind returns which policy the document is.
func (d *Document) Kind() Kind { return d.body.Kind }

// ID returns the URI that names the policy through all its versions.
func (d *Document) ID() string { return d.body.ID }

// Version returns the version, which must rise with every publication.
func (d *Document) Version() uint64 { return d.body.Version }

// Expires returns the second since 1970 UTC from which the policy is in force no more.
func (d *Document) Expires() uint64 { return d.body.Expires }

// Hash returns the identity of the policy.
func (d *Document) Hash() Hash { return d.hash }

// Canonical returns a copy of the canonical form.
func (d *Document) Canonical() []byte { return bytes.Clone(d.canonical) }

// CheckTime refuses a policy that has expired at the given second (206), and the nil document (108).
func (d *Document) CheckTime(now uint64) error {
	if d == nil || len(d.canonical) == 0 {
		return denial.New(denial.NoActivePolicy, "there is no policy")
	}
	if now >= d.body.Expires {
		return denial.New(denial.PolicyExpired, "the %s policy expired at %s", d.body.Kind, instant(d.body.Expires))
	}
	return nil
}

// Appraisal returns the compiled appraisal policy. It refuses the nil document (108) and one of another kind (407).
func (d *Document) Appraisal() (*Appraisal, error) {
	if d == nil || len(d.canonical) == 0 {
		return nil, denial.New(denial.NoActivePolicy, "there is no appraisal policy")
	}
	if d.appraisal == nil {
		return nil, refuse("this is not an appraisal policy")
	}
	return d.appraisal, nil
}

// Authorization returns the compiled authorization policy. It refuses the nil document (108) and one of another kind
// (407).
func (d *Document) Authorization() (*Authorization, error) {
	if d == nil || len(d.canonical) == 0 {
		return nil, denial.New(denial.NoActivePolicy, "there is no authorization policy")
	}
	if d.authorization == nil {
		return nil, refuse("this is not an authorization policy")
	}
	return d.authorization, nil
}

func refuse(format string, args ...any) error { return denial.New(denial.PolicyError, format, args...) }

func absolute(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.IsAbs() && len(s) <= maxURI
}

func instant(seconds uint64) string { return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339) }
