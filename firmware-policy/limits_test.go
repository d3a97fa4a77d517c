package firmwarepolicy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/softtpm"
)

// The limits are part of the language: a policy that was signed under them is accepted, or refused, by every later version.
func TestTheLimitsOfALanguageStay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string][2]int{
		"bytes of the canonical form": {MaxCanonical, 61_440}, "bytes of the file": {MaxTOML, 262_144}, "characters of an expression": {MaxExpression, 4096},
		"cost of an evaluation": {MaxCost, 100_000}, "nodes of an expression": {maxNodes, 1000}, "loops in loops": {maxNesting, 2},
		"requirements": {maxRequirements, 256}, "reference sets": {maxSets, 64}, "entries of a list": {maxListItems, 1024}, "seconds of evidence": {maxEvidenceAge, 60},
		"rules": {maxRules, 256}, "scopes of a rule": {maxScopes, 64}, "labels": {maxLabels, 32}, "bytes of a label": {maxLabel, 256},
		"bytes of a variable's name": {maxVariable, 128}, "bytes of a directory": {maxDirPath, 1024}, "bytes of a URI": {maxURI, 512}, "delegations": {maxDepth, 16},
	} {
		if c[0] != c[1] {
			t.Errorf("%s: %d, want %d", name, c[0], c[1])
		}
	}
}

// A policy may have as much of everything as the limits say, and no more.
func TestPoliciesAtTheirLimits(t *testing.T) {
	t.Parallel()
	appraisal := func(edit func(*appraisalBody)) error {
		b := *mustParse(t, appraisalTOML).body.Appraisal
		b.Reference, b.Require = maps.Clone(b.Reference), slices.Clone(b.Require)
		edit(&b)
		return b.check()
	}
	sets := func(n int) func(*appraisalBody) {
		return func(b *appraisalBody) {
			for i := len(b.Reference); i < n; i++ {
				b.Reference[fmt.Sprintf("s%d", i)] = []string{"a"}
			}
		}
	}
	requirements := func(n int) func(*appraisalBody) {
		return func(b *appraisalBody) {
			for i := len(b.Require); i < n; i++ {
				b.Require = append(b.Require, requirement{Name: fmt.Sprintf("r%d", i), Code: denial.PCRNotAllowed, Expr: fmt.Sprintf("facts.pcr[4] == '%d'", i)})
			}
		}
	}
	age := func(s uint64) func(*appraisalBody) { return func(b *appraisalBody) { b.EvidenceAge = s } }
	authorization := func(edit func(*authorizationBody)) error {
		b := *mustParse(t, authorizationTOML+glassTOML).body.Authorization
		edit(&b)
		return b.check()
	}
	many := func(r rule, n int) (list []rule) {
		for i := range n {
			r.Name = fmt.Sprintf("r%d", i)
			list = append(list, r)
		}
		return list
	}
	rules := func(n int) func(*authorizationBody) {
		return func(b *authorizationBody) { b.Rules = many(b.Rules[0], n) }
	}
	glasses := func(n int) func(*authorizationBody) {
		return func(b *authorizationBody) { b.BreakGlass = many(b.BreakGlass[0], n) }
	}
	for name, c := range map[string]struct {
		good, bad error
	}{
		"reference sets":     {appraisal(sets(64)), appraisal(sets(65))},
		"requirements":       {appraisal(requirements(256)), appraisal(requirements(257))},
		"age of evidence":    {appraisal(age(60)), appraisal(age(61))},
		"least age":          {appraisal(age(1)), appraisal(age(0))},
		"rules":              {authorization(rules(256)), authorization(rules(257))},
		"least rules":        {authorization(rules(1)), authorization(rules(0))},
		"break-glass rules":  {authorization(glasses(256)), authorization(glasses(257))},
		"break-glass length": {authorization(func(b *authorizationBody) { b.BreakGlass[0].Lifetime = 3600 }), authorization(func(b *authorizationBody) { b.BreakGlass[0].Lifetime = 3601 })},
		"expressions":        {appraisal(func(b *appraisalBody) { b.Require[0].Expr = "facts.clock.safe" }), appraisal(func(b *appraisalBody) { b.Require[0].Expr = b.Require[1].Expr })},
		"codes":              {appraisal(func(b *appraisalBody) { b.Require[0].Code = denial.TenantMismatch }), appraisal(func(b *appraisalBody) { b.Require[0].Code = 699 })},
	} {
		if c.good != nil || !denial.Is(c.bad, denial.PolicyError) {
			t.Errorf("%s: at the limit %v, beyond it %v", name, c.good, c.bad)
		}
	}
}

// A policy of exactly the greatest size is read in both forms; one byte more is refused.
func TestTheGreatestPolicy(t *testing.T) {
	t.Parallel()
	d := mustParse(t, appraisalTOML)
	sized := func(n int) (*Document, error) {
		b := d.body
		a := *b.Appraisal
		a.Reference = maps.Clone(a.Reference)
		filler := []string{}
		for i := range 500 {
			filler = append(filler, fmt.Sprintf("%03d%s", i, strings.Repeat("x", 97)))
		}
		a.Reference["filler"], b.Appraisal = filler, &a
		have, err := newDocument(b)
		if err != nil {
			return nil, err
		}
		filler[0] += strings.Repeat("y", 300) // which needs a longer head than most
		if have, err = newDocument(b); err != nil {
			return nil, err
		}
		for i := 1; i < len(filler) && n-len(have.canonical) > 0; i++ {
			more := min(n-len(have.canonical), 100)
			filler[i] += strings.Repeat("z", more)
			if have, err = newDocument(b); err != nil {
				return nil, err
			}
		}
		return have, nil
	}
	greatest, err := sized(MaxCanonical)
	if err != nil || len(greatest.canonical) != MaxCanonical {
		t.Fatalf("got %v", err)
	}
	if again, err := Decode(greatest.Canonical()); err != nil || again.Hash() != greatest.Hash() {
		t.Errorf("read again: %v", err)
	}
	if _, err := sized(MaxCanonical + 1); !denial.Is(err, denial.PolicyError) {
		t.Errorf("a byte more: %v", err)
	}
	_, err = Decode(append(greatest.Canonical(), 0))
	wantDenial(t, err, denial.StructureLimit)
	padded := appraisalTOML + "#" + strings.Repeat("x", MaxTOML-len(appraisalTOML)-1)
	if _, err := ParseTOML([]byte(padded)); err != nil {
		t.Errorf("the longest file: %v", err)
	}
	_, err = ParseTOML([]byte(padded + "x"))
	wantDenial(t, err, denial.StructureLimit)
}

// Facts that the quote of a policy cannot prove are not looked at: the policy says what it would need.
func TestExpressionsLookAtWhatIsQuoted(t *testing.T) {
	t.Parallel()
	for expr, says := range map[string]string{
		"size(facts.measured[7]) == 0":                                 "but there is none",
		"facts.unexplained[4] == 0":                                    "but there is none",
		"size(facts.measured[9]) == 0":                                 "needs PCR 9 in pcrs.quote",
		"facts.unexplained[8] == 0":                                    "needs PCR 8 in pcrs.quote",
		"size(facts.measured[9]) == 0 && size(facts.measured[0]) == 1": "needs PCR 9 in pcrs.quote",
		"facts.pcr[9] == 'a'":                                          "which pcrs.quote has not",
		"facts.pcr[24] == 'a'":                                         "a PCR that no TPM has",
		"facts.pcr[4294967296] == 'a'":                                 "a PCR that no TPM has",
		"facts.pcr[-1] == 'a'":                                         "with the number of one PCR",
		"size(facts.pcr) > 0":                                          "write facts.pcr[9]",
		"facts.pcr == facts.pcr":                                       "write facts.pcr[9]",
		"!(4 in facts.measured)":                                       "write facts.measured[9]",
		"[facts.pcr].exists(p, p[4] == 'a')":                           "write facts.pcr[9]",
		"facts.pcr[facts.cnf.pcrs[0]] == 'a'":                          "write facts.pcr[9]",
		"facts.measured[facts.cnf.pcrs[0]].all(d, d == 'a')":           "write facts.measured[9]",
	} {
		if _, err := ParseTOML([]byte(withRequirement(expr))); !denial.Is(err, denial.PolicyError) || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, want it to say %q", expr, err, says)
		}
	}
	for _, expr := range []string{"size(facts.measured[0]) == 1", "facts.unexplained[5] == 0", "facts.shim.generations.shim >= 2"} {
		if _, err := ParseTOML([]byte(withRequirement(expr))); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

func TestUsesSeeWhatIsInAndAroundThem(t *testing.T) {
	t.Parallel()
	u := newUses()
	u.paths["facts.shim"], u.paths["facts.clock.safe"], u.pcrs[4], u.events["facts.measured[0]"] = true, true, true, 0
	for fact, want := range map[string]bool{"facts.shim": true, "facts.shim.sbat": true, "facts.clock": true, "facts.clock.safe": true, "facts.pcr[4]": true,
		"facts.measured[0]": true, "facts.shims": false, "facts.clock.resets": false, "facts.pcr[0]": false, "facts.measured[1]": false, "facts.clock.saf": false} {
		if u.sees(fact) != want {
			t.Errorf("%s: got %v", fact, !want)
		}
	}
	if keys := sortedKeys(map[string]int{"e": 0, "b": 0, "d": 0, "a": 0, "c": 0, "f": 0, "h": 0, "g": 0}); !slices.IsSorted(keys) || len(keys) != 8 {
		t.Errorf("got %v", keys)
	}
}

// What no policy compiled refuses, and does not fall over.
func TestPoliciesThatNobodyCompiledRefuse(t *testing.T) {
	t.Parallel()
	for name, a := range map[string]*Appraisal{"none": nil, "empty": {}} {
		r := a.IMA()
		if a.Audit() || a.EvidenceAge() != 0 || a.Bind() != nil || a.Selection().Bank != "" || r.Known != nil || r.Keys != nil || r.Watch != nil {
			t.Errorf("the appraisal policy that is %s says something", name)
		}
	}
	whole := mustAppraisal(t, appraisalTOML)
	if !whole.Audit() || mustAppraisal(t, swap(t, appraisalTOML, "audit = true", "audit = false")).Audit() {
		t.Error("whether evidence must have an audit session is not what the policy says")
	}
	_, err := (&Appraisal{body: whole.body}).Appraise(goodClaims(), goodHost())
	wantDenial(t, err, denial.PolicyError)
	rules := mustAuthorization(t, authorizationTOML+glassTOML)
	_, err = (&Authorization{body: rules.body, adapter: rules.adapter}).Authorize(goodAsk())
	wantDenial(t, err, denial.PolicyError)
	for name, c := range map[string]struct {
		policy *Authorization
		ask    Ask
		code   denial.Reason
	}{
		"none":                  {nil, glassAsk(), denial.NoActivePolicy},
		"empty":                 {&Authorization{}, glassAsk(), denial.NoActivePolicy},
		"not compiled":          {&Authorization{body: rules.body, adapter: rules.adapter}, glassAsk(), denial.BreakGlassInvalid},
		"beyond its rule":       {rules, Ask{}, denial.BreakGlassInvalid},
		"a condition that ends": {mustAuthorization(t, authorizationTOML+swap(t, glassTOML, "ask.initiator_kind == 'human'", "ask.labels['x'] == 'y'")), glassAsk(), denial.PolicyError},
	} {
		if err := c.policy.BreakGlass("restore", c.ask, false); !denial.Is(err, c.code) {
			t.Errorf("%s: got %v, want %s", name, err, c.code)
		}
	}
	for name, p := range map[string]*program{"none": nil, "empty": {}, "one that ends": unevaluable(t)} {
		if holds, err := p.holds(&askVars{ask: rules.adapter.NativeToValue(&Ask{})}); holds || !denial.Is(err, denial.PolicyError) {
			t.Errorf("an expression that is %s: got %v, %v", name, holds, err)
		}
	}
}

// unevaluable returns a condition that cannot be evaluated on an ask without labels.
func unevaluable(t *testing.T) *program {
	return mustAuthorization(t, swap(t, authorizationTOML, "ask.initiator_kind == 'human'", "ask.labels['x'] == 'y'")).when[0]
}

func TestTheFirstRuleThatGetsFurthestIsNamed(t *testing.T) {
	t.Parallel()
	a := mustAuthorization(t, authorizationTOML)
	ask := goodAsk()
	ask.Initiator, ask.Lifetime = "https://people.example/ada", 999_999
	ask.Scope = []AskScope{{Target: "tool:mcp/tickets/list", Operations: []string{"read"}}}
	if _, err := a.Authorize(ask); !denial.Is(err, denial.LifetimeTooLong) || !strings.Contains(err.Error(), "rule deploy") {
		t.Errorf("got %v, want the rule that stands first", err)
	}
	ask.Host = ""
	_, err := a.Authorize(ask)
	wantDenial(t, err, denial.HostMismatch)
	one, _, _ := strings.Cut(authorizationTOML, "[[rule]]\nname = \"read-only\"")
	if _, err := mustAuthorization(t, one).Authorize(goodAsk()); err != nil {
		t.Errorf("a policy of one rule: %v", err)
	}
}

func TestAPolicyOfOneRequirement(t *testing.T) {
	t.Parallel()
	head, _, _ := strings.Cut(appraisalTOML, "[[require]]")
	a := mustAppraisal(t, head+"[[require]]\nname = \"one\"\nexpr = \"facts.pcr[4] in ref.pcr4\"\n")
	if r, err := a.Appraise(goodClaims(), goodHost()); err != nil || !slices.Equal(r.Held, []string{"one"}) {
		t.Errorf("got %+v, %v", r, err)
	}
}

func TestSectionsOfIMA(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		section string
		good    bool
	}{
		"known alone":      {`known = ["files"]`, true},
		"watched alone":    {`watch = ["/opt/agent/*"]`, true},
		"known, and a key": {"known = [\"files\"]\nkeys = [\"signers\"]", true},
		"known and known":  {`known = ["scripts", "files"]`, true},
	} {
		text := swap(t, imaTOML, "known = [\"scripts\", \"files\"]\nwatch = [\"/opt/agent/*\", \"/etc/ima/ima-policy\"]", row.section)
		text = swap(t, text, "[reference]\n", "[reference]\nsigners = [\""+base64.StdEncoding.EncodeToString(der)+"\"]\n")
		d, err := ParseTOML([]byte(text))
		if (err == nil) != row.good {
			t.Errorf("%s: got %v", name, err)
			continue
		}
		if d.body.Appraisal.IMA == nil || d.body.Appraisal.IMA.empty() {
			t.Errorf("%s: the section is left out", name)
		}
		if again, err := Decode(d.Canonical()); err != nil || again.Hash() != d.Hash() {
			t.Errorf("%s: read again: %v", name, err)
		}
	}
	b := *mustParse(t, imaTOML).body.Appraisal
	b.IMA = &imaBody{}
	b.IMA.normalise()
	if b.IMA.Known == nil || b.IMA.Keys == nil || b.IMA.Watch == nil {
		t.Errorf("an absent list stays absent: %+v", b.IMA)
	}
	if err := b.checkIMA(); !denial.Is(err, denial.PolicyError) {
		t.Errorf("an empty section: %v", err)
	}
	if empty := (&imaBody{Known: []string{"a"}, Keys: []string{"b"}}).empty(); empty {
		t.Error("a section with sets is empty")
	}
	if !(*imaBody)(nil).empty() || (*imaBody)(nil).names("a") || (&imaBody{Known: []string{"a"}}).names("b") || !(&imaBody{Keys: []string{"b"}}).names("b") {
		t.Error("what a section names is not told")
	}
	both := &imaBody{Known: []string{"files"}, Keys: []string{"keys"}}
	if c := Diff(mustParse(t, imaTOML), edited(t, imaTOML, `scripts = ["sha256:`+digest("script")+`"]`, `scripts = ["sha256:`+digest("script")+`", "sha256:`+digest("more")+`"]`)); !c.Widens() {
		t.Error("more known scripts narrow")
	}
	if both.empty() {
		t.Error("a section with known files and keys is empty")
	}
}

func TestEveryKnownCAIsFoundByItsDigest(t *testing.T) {
	t.Parallel()
	for _, want := range KnownCAs() {
		if got, ok := lookupCA(want.SHA256); !ok || got.SHA256 != want.SHA256 || got.Name != want.Name || got.Vendor != want.Vendor {
			t.Errorf("%s: got %+v, %v", want.SHA256, got, ok)
		}
	}
	for _, sum := range []string{"", digest("none"), KnownCAs()[0].SHA256[1:]} {
		if got, ok := lookupCA(sum); ok {
			t.Errorf("%q: got %+v", sum, got)
		}
	}
}

func TestFaultsOfAFileAreSaid(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ text, old, new, says string }{
		"age of evidence":         {appraisalTOML, `"30s"`, `"half a minute"`, "limits.evidence_age: write a time"},
		"lifetime of a rule":      {authorizationTOML, `"5m"`, `"5"`, "rule deploy: lifetime: write a time"},
		"lifetime of break-glass": {authorizationTOML + glassTOML, `"30m"`, `"30"`, "break_glass restore: lifetime: write a time"},
	} {
		if _, err := ParseTOML([]byte(swap(t, row.text, row.old, row.new))); !denial.Is(err, denial.PolicyError) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: got %v, want it to say %q", name, err, row.says)
		}
	}
	if err := tomlError(errors.New("x")); !denial.Is(err, denial.PolicyError) || !strings.Contains(err.Error(), "x") {
		t.Errorf("a fault without a place: got %v", err)
	}
}

// What an anchors file says of its own blocks must be true, and every block must be what its table holds.
func TestAnchorsFilesAreReadStrictly(t *testing.T) {
	v, b := anchored(t)
	b.Anchors.Firmware = append(b.Anchors.Firmware, attest.FirmwareRange{Manufacturer: "494E5443", From: 1, To: 2, Why: "x"})
	d, err := newDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := d.TOML()
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	if n := strings.Count(text, "name = "); n != 3 || !strings.Contains(text, v.Root.Subject.String()) {
		t.Fatalf("%d blocks of 3 have a name:\n%s", n, text)
	}
	at := func(table, old, new string) string {
		i := strings.Index(text, table)
		if i < 0 || !strings.Contains(text[i:], old) {
			t.Fatalf("no %q behind %q in\n%s", old, table, text)
		}
		return text[:i] + strings.Replace(text[i:], old, new, 1)
	}
	for name, row := range map[string]struct{ text, says string }{
		"a root by another name":        {at("[[root]]", "name = ", "name = 'x'\n#"), "root"},
		"a step by another name":        {at("[[path]]", "name = ", "name = 'x'\n#"), "path"},
		"a list by another name":        {at("[[list]]", "name = ", "name = 'x'\n#"), "list"},
		"a root by another digest":      {at("[[root]]", "sha256 = ", "sha256 = 'x'\n#"), "root"},
		"a step that is a list":         {at("[[path]]", "BEGIN CERTIFICATE", "BEGIN X509 CRL"), "path"},
		"a list that is a step":         {at("[[list]]", "BEGIN X509 CRL", "BEGIN CERTIFICATE"), "list"},
		"withdrawn by name":             {at("withdrawn", "'", "'x"), "withdrawn"},
		"an unknown key":                {at("[[firmware]]", "why", "because"), "unknown key"},
		"a root that is no certificate": {at("[[root]]", "\nMII", "\nMIx"), "root"},
		"a version of one number":       {at("[[firmware]]", "from = '", "from = 'x"), "firmware"},
		"a version that is no number":   {at("[[firmware]]", "to = '", "to = 'x"), "firmware"},
	} {
		if _, err := ParseTOML([]byte(row.text)); !denial.Is(err, denial.PolicyError) || !strings.Contains(err.Error(), row.says) {
			t.Errorf("%s: got %v, want it to say %q", name, err, row.says)
		}
	}
	slices.Reverse(b.Anchors.Firmware)
	if again, err := newDocument(b); err != nil || again.Hash() != d.Hash() {
		t.Errorf("firmware in another order is another policy: %v", err)
	}
}

func TestNewAnchorsHoldsWhatItIsGiven(t *testing.T) {
	v, b := anchored(t)
	step := softtpm.NewVendor(t).Root
	list := v.Revoke(t, 3600e9, big.NewInt(5))
	withdrawn := [32]byte(b.Anchors.Withdrawn[0])
	d, err := NewAnchors(AnchorSet{ID: b.ID, Version: 3, Expires: 1 << 32, Roots: []*x509.Certificate{v.Root}, Path: []*x509.Certificate{step}, Lists: []*x509.RevocationList{list},
		ListsRequired: true, Withdrawn: [][32]byte{withdrawn}, Firmware: b.Anchors.Firmware})
	if err != nil {
		t.Fatal(err)
	}
	a, err := d.Anchors()
	if err != nil {
		t.Fatal(err)
	}
	r := a.EKRules()
	if len(a.Roots()) != 1 || !a.Roots()[0].Equal(v.Root) || len(r.Path) != 1 || !r.Path[0].Equal(step) || len(r.Lists) != 1 || string(r.Lists[0].Raw) != string(list.Raw) ||
		!r.Listed || len(r.Firmware) != 1 || !has(a.body.Withdrawn, withdrawn[:]) || d.Version() != 3 {
		t.Errorf("got %+v, %+v", a.body, r)
	}
	if _, err := NewAnchors(AnchorSet{ID: b.ID, Version: 1, Expires: 1 << 32, Roots: []*x509.Certificate{{Raw: []byte{1}}}}); !denial.Is(err, denial.PolicyError) {
		t.Errorf("a root that is no certificate: %v", err)
	}
	plain := &x509.Certificate{SerialNumber: big.NewInt(9), Subject: pkix.Name{CommonName: "CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: softtpm.Now, NotAfter: softtpm.Now.AddDate(1, 0, 0)}
	parsed, err := x509.ParseCertificate(v.Issue(t, plain, v.Root.PublicKey))
	if err != nil {
		t.Fatal(err)
	}
	if err := CheckCA(parsed); err != nil {
		t.Errorf("a CA that says nothing of how its key is used: %v", err)
	}
}
