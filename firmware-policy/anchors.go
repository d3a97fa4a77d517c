package firmwarepolicy

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"strings"

	"github.com/governed-execution/writ/attest"
)

// anchorsBody is the content of a policy of kind anchors: what the certificate of an EK must lead to. Certificates and
// lists are DER.
type anchorsBody struct {
	Roots         [][]byte               `cbor:"1,keyasint"` // TPM vendors' CAs at which a way may end
	Path          [][]byte               `cbor:"2,keyasint"` // CAs that may stand on a way, because few TPMs hold them
	Lists         [][]byte               `cbor:"3,keyasint"` // what CAs among those have revoked
	ListsRequired bool                   `cbor:"4,keyasint"` // every certificate below a root must stand under a list
	Withdrawn     [][]byte               `cbor:"5,keyasint"` // SHA-256 of roots that genesis names, and that count no longer
	Firmware      []attest.FirmwareRange `cbor:"6,keyasint"` // TPM firmware that is not enrolled
}

// Anchors is a compiled policy of kind anchors.
type Anchors struct {
	body  *anchorsBody
	roots []*x509.Certificate
	rules attest.Rules
}

// AnchorSet is what a policy of kind anchors is made of.
type AnchorSet struct {
	ID            string
	Version       uint64
	Expires       uint64                 // seconds since 1970 UTC
	Roots         []*x509.Certificate    // at which a way may end
	Path          []*x509.Certificate    // that may stand on a way
	Lists         []*x509.RevocationList // by CAs among those
	ListsRequired bool                   // every certificate below a root must stand under a list
	Withdrawn     [][sha256.Size]byte    // roots that genesis names, and that count no longer
	Firmware      []attest.FirmwareRange // that is not enrolled
}

// NewAnchors returns a policy of kind anchors. It refuses what ParseTOML would (407).
func NewAnchors(s AnchorSet) (*Document, error) {
	b := &anchorsBody{ListsRequired: s.ListsRequired, Firmware: slices.Clone(s.Firmware)}
	for _, c := range s.Roots {
		b.Roots = append(b.Roots, c.Raw)
	}
	for _, c := range s.Path {
		b.Path = append(b.Path, c.Raw)
	}
	for _, l := range s.Lists {
		b.Lists = append(b.Lists, l.Raw)
	}
	for _, w := range s.Withdrawn {
		b.Withdrawn = append(b.Withdrawn, w[:])
	}
	return newDocument(body{Schema: Schema, Kind: KindAnchors, ID: s.ID, Version: s.Version, Expires: s.Expires, Anchors: b})
}

// Anchors returns the compiled anchors. It refuses a document of another kind (407).
func (d *Document) Anchors() (*Anchors, error) {
	if d == nil || d.anchors == nil {
		return nil, refuse("this is not a policy of kind %q", KindAnchors)
	}
	return d.anchors, nil
}

// Roots returns the roots that the anchors name.
func (a *Anchors) Roots() []*x509.Certificate { return slices.Clone(a.roots) }

// TPMRoots returns the roots in force: those of the anchors, which may be nil, and those certificates of known that
// genesis names by SHA-256 and the anchors have not withdrawn.
func TPMRoots(genesis [][]byte, a *Anchors, known []*x509.Certificate) []*x509.Certificate {
	var roots []*x509.Certificate
	for _, c := range known {
		if sum := sha256.Sum256(c.Raw); has(genesis, sum[:]) && (a == nil || !has(a.body.Withdrawn, sum[:])) {
			roots = append(roots, c)
		}
	}
	if a != nil {
		roots = append(roots, a.roots...)
	}
	return roots
}

// EKRules returns what else an EK certificate must satisfy. The nil Anchors demand nothing.
func (a *Anchors) EKRules() attest.Rules {
	if a == nil {
		return attest.Rules{}
	}
	return a.rules
}

func has(all [][]byte, b []byte) bool {
	return slices.ContainsFunc(all, func(x []byte) bool { return bytes.Equal(x, b) })
}

// normalise brings every list into ascending order, each element once, and makes empty lists of nil ones.
func (b *anchorsBody) normalise() {
	for _, list := range []*[][]byte{&b.Roots, &b.Path, &b.Lists, &b.Withdrawn} {
		slices.SortFunc(*list, bytes.Compare)
		if *list = slices.CompactFunc(*list, bytes.Equal); *list == nil {
			*list = [][]byte{}
		}
	}
	slices.SortFunc(b.Firmware, func(x, y attest.FirmwareRange) int {
		return strings.Compare(x.Manufacturer+"\x00"+x.Model+"\x00"+versionText(x.From)+"\x00"+versionText(x.To)+"\x00"+x.Why,
			y.Manufacturer+"\x00"+y.Model+"\x00"+versionText(y.From)+"\x00"+versionText(y.To)+"\x00"+y.Why)
	})
	if b.Firmware = slices.Compact(b.Firmware); b.Firmware == nil {
		b.Firmware = []attest.FirmwareRange{}
	}
}

// compileAnchors checks, each with 407: roots and other certificates parse, are CAs that may sign certificates, and have
// no unknown critical extension; no certificate is both; a withdrawn root is named by 32 bytes and is not named as one in
// force; lists parse, have a next update and no critical extension, and a CA of the document signed them; ranges of
// firmware name a manufacturer and are not empty.
func compileAnchors(b *anchorsBody) (*Anchors, error) {
	a := &Anchors{body: b, rules: attest.Rules{Listed: b.ListsRequired, Firmware: b.Firmware}}
	var err error
	if a.roots, err = readCAs("root", b.Roots); err != nil {
		return nil, err
	}
	if a.rules.Path, err = readCAs("path", b.Path); err != nil {
		return nil, err
	}
	for _, der := range b.Path {
		if has(b.Roots, der) {
			return nil, refuse("a certificate is named both as a root and as a step on a path")
		}
	}
	for _, w := range b.Withdrawn {
		if len(w) != sha256.Size {
			return nil, refuse("a withdrawn root is named by its SHA-256, 64 hexadecimal digits")
		}
		if slices.ContainsFunc(a.roots, func(c *x509.Certificate) bool { sum := sha256.Sum256(c.Raw); return bytes.Equal(sum[:], w) }) {
			return nil, refuse("a root is named both as in force and as withdrawn")
		}
	}
	if a.rules.Lists, err = readLists(b.Lists, slices.Concat(a.roots, a.rules.Path)); err != nil {
		return nil, err
	}
	for _, f := range b.Firmware {
		if id, err := hex.DecodeString(f.Manufacturer); err != nil || len(id) != 4 || strings.ToUpper(f.Manufacturer) != f.Manufacturer || f.From > f.To || f.To > 1<<32-1 {
			return nil, refuse("firmware: name a manufacturer by 8 hexadecimal digits in capitals, and versions from the lower to the higher")
		}
	}
	return a, nil
}

func readCAs(what string, ders [][]byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, der := range ders {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, refuse("%s: a certificate cannot be read: %v", what, err)
		}
		if err := CheckCA(c); err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// CheckCA refuses a certificate that cannot be on the way from an EK certificate to a root, whenever that is (407).
func CheckCA(c *x509.Certificate) error {
	switch {
	case !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0:
		return refuse("certificate %q is not that of a CA that may sign certificates", c.Subject)
	case len(c.UnhandledCriticalExtensions) > 0:
		return refuse("certificate %q has a critical extension that this version does not know", c.Subject)
	}
	return nil
}

func readLists(ders [][]byte, cas []*x509.Certificate) ([]*x509.RevocationList, error) {
	var lists []*x509.RevocationList
	for _, der := range ders {
		l, err := x509.ParseRevocationList(der)
		if err != nil {
			return nil, refuse("lists: a revocation list cannot be read: %v", err)
		}
		if err := checkRevocations(l, cas); err != nil {
			return nil, err
		}
		lists = append(lists, l)
	}
	return lists, nil
}

func checkRevocations(l *x509.RevocationList, cas []*x509.Certificate) error {
	if l.NextUpdate.IsZero() {
		return refuse("the revocation list of %q does not say when the next one comes", l.Issuer)
	}
	for _, e := range l.Extensions {
		if e.Critical {
			return refuse("the revocation list of %q is a partial one", l.Issuer)
		}
	}
	if !slices.ContainsFunc(cas, func(c *x509.Certificate) bool { return l.CheckSignatureFrom(c) == nil }) {
		return refuse("the revocation list of %q is signed by none of the CAs named", l.Issuer)
	}
	return nil
}
