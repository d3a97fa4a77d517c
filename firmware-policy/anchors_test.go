package firmwarepolicy

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/softtpm"
)

// anchored is a policy of kind anchors with one of everything.
func anchored(t *testing.T) (*softtpm.Vendor, body) {
	t.Helper()
	v := softtpm.NewVendor(t)
	genesis := sha256.Sum256([]byte("root of genesis"))
	return v, body{Schema: Schema, Kind: KindAnchors, ID: "https://issuer.example/anchors", Version: 1, Expires: 1 << 32, Anchors: &anchorsBody{
		Roots: [][]byte{v.Root.Raw}, Path: [][]byte{softtpm.NewVendor(t).Root.Raw},
		Lists:     [][]byte{v.Revoke(t, time.Hour, big.NewInt(5)).Raw},
		Withdrawn: [][]byte{genesis[:]},
		Firmware:  []attest.FirmwareRange{{Manufacturer: "53544D20", From: 73 << 16, To: 73<<16 | 4, Why: "CVE-2019-16863"}}}}
}

func TestAnchorsAsTOMLAndBack(t *testing.T) {
	v, b := anchored(t)
	d, err := newDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	text, err := d.TOML()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseTOML(text)
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	decoded, err := Decode(d.Canonical())
	if err != nil || again.Hash() != d.Hash() || decoded.Hash() != d.Hash() {
		t.Errorf("got %v and another hash", err)
	}
	a, err := again.Anchors()
	if err != nil || len(a.Roots()) != 1 || !a.Roots()[0].Equal(v.Root) {
		t.Fatalf("got %v, want the root", err)
	}
	r := a.EKRules()
	if len(r.Path) != 1 || len(r.Lists) != 1 || r.Listed || len(r.Firmware) != 1 || r.Firmware[0] != b.Anchors.Firmware[0] {
		t.Errorf("got %+v", r)
	}
	if _, err := d.Appraisal(); !denial.Is(err, denial.PolicyError) {
		t.Errorf("as an appraisal policy: got %v", err)
	}
}

func TestTPMRootsInForce(t *testing.T) {
	own := []*x509.Certificate{softtpm.NewVendor(t).Root, softtpm.NewVendor(t).Root, softtpm.NewVendor(t).Root}
	genesis := [][]byte{}
	for _, c := range own[:2] {
		sum := sha256.Sum256(c.Raw)
		genesis = append(genesis, sum[:])
	}
	v, b := anchored(t)
	b.Anchors.Withdrawn = genesis[:1]
	d, err := newDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	names := func(all []*x509.Certificate) (sums []string) {
		for _, c := range all {
			sum := sha256.Sum256(c.Raw)
			sums = append(sums, hex.EncodeToString(sum[:]))
		}
		return sums
	}
	if got := names(TPMRoots(genesis, nil, own)); !slices.Equal(got, names(own[:2])) {
		t.Errorf("genesis alone: got %v", got)
	}
	if got := names(TPMRoots(genesis, d.anchors, own)); !slices.Equal(got, names([]*x509.Certificate{own[1], v.Root})) {
		t.Errorf("with anchors: got %v", got)
	}
	if got := (*Anchors)(nil).EKRules(); got.Path != nil || got.Lists != nil || got.Listed || got.Firmware != nil {
		t.Errorf("no anchors: got %+v", got)
	}
}

func TestAnchorsRefused(t *testing.T) {
	tpm := softtpm.NewVendor(t).New(t, softtpm.Options{})
	issue := func(v *softtpm.Vendor, edit func(*x509.Certificate)) []byte {
		c := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true,
			KeyUsage: x509.KeyUsageCertSign, NotBefore: softtpm.Now, NotAfter: softtpm.Now.AddDate(1, 0, 0)}
		edit(c)
		return v.Issue(t, c, v.Root.PublicKey)
	}
	rows := []struct {
		name string
		edit func(*softtpm.Vendor, *anchorsBody)
	}{
		{"a root that is no certificate", func(_ *softtpm.Vendor, a *anchorsBody) { a.Roots = [][]byte{{1, 2}} }},
		{"a root that is an EK certificate", func(_ *softtpm.Vendor, a *anchorsBody) { a.Roots = append(a.Roots, tpm.Certificate) }},
		{"a path that is an EK certificate", func(_ *softtpm.Vendor, a *anchorsBody) { a.Path = append(a.Path, tpm.Certificate) }},
		{"a CA that may not sign certificates", func(v *softtpm.Vendor, a *anchorsBody) {
			a.Path = append(a.Path, issue(v, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }))
		}},
		{"a CA with an unknown critical extension", func(v *softtpm.Vendor, a *anchorsBody) {
			a.Path = append(a.Path, issue(v, func(c *x509.Certificate) {
				c.ExtraExtensions = []pkix.Extension{{Id: []int{2, 23, 133, 99}, Critical: true, Value: []byte{5, 0}}}
			}))
		}},
		{"root and path", func(v *softtpm.Vendor, a *anchorsBody) { a.Path = append(a.Path, v.Root.Raw) }},
		{"in force and withdrawn", func(v *softtpm.Vendor, a *anchorsBody) {
			sum := sha256.Sum256(v.Root.Raw)
			a.Withdrawn = append(a.Withdrawn, sum[:])
		}},
		{"a withdrawn root without its digest", func(_ *softtpm.Vendor, a *anchorsBody) { a.Withdrawn = [][]byte{{1}} }},
		{"a list that is none", func(_ *softtpm.Vendor, a *anchorsBody) { a.Lists = [][]byte{{0x30, 0}} }},
		{"a list by another CA", func(_ *softtpm.Vendor, a *anchorsBody) {
			a.Lists = append(a.Lists, softtpm.NewVendor(t).Revoke(t, time.Hour).Raw)
		}},
		{"versions the wrong way round", func(_ *softtpm.Vendor, a *anchorsBody) { a.Firmware[0].From = 74 << 16 }},
		{"a manufacturer in words", func(_ *softtpm.Vendor, a *anchorsBody) { a.Firmware[0].Manufacturer = "STM " }},
		{"a manufacturer in small letters", func(_ *softtpm.Vendor, a *anchorsBody) { a.Firmware[0].Manufacturer = "53544d20" }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			v, b := anchored(t)
			row.edit(v, b.Anchors)
			if _, err := newDocument(b); !denial.Is(err, denial.PolicyError) {
				t.Errorf("got %v, want 407", err)
			}
		})
	}
	t.Run("another order", func(t *testing.T) {
		_, b := anchored(t)
		b.Anchors.Roots = append(b.Anchors.Roots, softtpm.NewVendor(t).Root.Raw)
		b.normalise()
		slices.Reverse(b.Anchors.Roots)
		raw, err := statement.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(raw); !denial.Is(err, denial.NotCanonical) {
			t.Errorf("got %v, want 309", err)
		}
	})
}

func TestListsThatDoNotSayEverything(t *testing.T) {
	v := softtpm.NewVendor(t)
	for name, edit := range map[string]func(*x509.RevocationList){
		"no end": func(l *x509.RevocationList) { l.NextUpdate = time.Time{} },
		"partial": func(l *x509.RevocationList) {
			l.Extensions = append(l.Extensions, pkix.Extension{Id: []int{2, 5, 29, 28}, Critical: true})
		},
	} {
		l := v.Revoke(t, time.Hour)
		if err := checkRevocations(l, []*x509.Certificate{v.Root}); err != nil {
			t.Fatal(err)
		}
		if edit(l); !denial.Is(checkRevocations(l, []*x509.Certificate{v.Root}), denial.PolicyError) {
			t.Errorf("%s: the list is taken", name)
		}
	}
}

func TestAnchorsLint(t *testing.T) {
	v, b := anchored(t)
	words := func(b body, now time.Time) string {
		d, err := newDocument(b)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, f := range Lint(d, uint64(now.Unix())) {
			all = append(all, string(f.Severity)+": "+f.Message)
		}
		return strings.Join(all, "\n")
	}
	if got := words(b, softtpm.Now); got != "" {
		t.Errorf("got %s", got)
	}
	if got := words(b, softtpm.Now.Add(2*time.Hour)); !strings.Contains(got, "error: the revocation list of") {
		t.Errorf("a stale list: got %s", got)
	}
	if got := words(b, v.Root.NotAfter.Add(time.Hour)); !strings.Contains(got, "warning: the certificate of") {
		t.Errorf("an expired root: got %s", got)
	}
	b.Anchors.Lists, b.Anchors.ListsRequired = nil, true
	if got := words(b, softtpm.Now); !strings.Contains(got, "error: lists are required") {
		t.Errorf("no lists: got %s", got)
	}
}

func TestAnchorsTOMLRefused(t *testing.T) {
	v, b := anchored(t)
	d, err := newDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	good, err := d.TOML()
	if err != nil {
		t.Fatal(err)
	}
	block := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: v.Root.Raw}))
	for name, edit := range map[string][2]string{
		"a list among the roots":   {"X509 CRL", "CERTIFICATE"},
		"another name":             {"CN=Software TPM vendor", "CN=Hardware TPM vendor"},
		"another digest":           {"sha256 = '", "sha256 = '0"},
		"a version in hexadecimal": {`73.4`, `0x490004`},
		"a digest of other digits": {hex.EncodeToString(b.Anchors.Withdrawn[0]), "xyz"},
		"an unknown key":           {"lists_required", "lists_wanted"},
		"two blocks in one string": {block, block + block},
	} {
		bad := strings.Replace(string(good), edit[0], edit[1], -1)
		if bad == string(good) {
			t.Fatalf("%s: nothing to replace in\n%s", name, good)
		}
		if _, err := ParseTOML([]byte(bad)); !denial.Is(err, denial.PolicyError) {
			t.Errorf("%s: got %v, want 407", name, err)
		}
	}
}
