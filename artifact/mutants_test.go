package artifact

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
)

// The tests of this file stand at the edges of rules, where mutation testing found that no other test stood.

func TestURIs(t *testing.T) {
	t.Parallel()
	long := "a:" + strings.Repeat("b", maxURI-2)
	for _, good := range []string{"a:b", "z:~", "a0:!", "a9+b-c.d:x", "az:z", long} {
		if !isURI(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{"", "a", "a:", ":b", "A:b", "1a:b", "{a:b", "`a:b", "a/b:c", "aB:c", "a_b:c", "a`:b", "a{:b", "a/:b",
		"a: b", "a:\x7f", "a:b\x1f", "a:é", "a,b:c", "a\x2f:b", "a:" + strings.Repeat("b", maxURI-1)} {
		if isURI(bad) {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestVariableNames(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"A", "Z", "a", "z", "_", "A0", "A9", "_9", strings.Repeat("A", 128)} {
		if !isVariable(good) {
			t.Errorf("%q is refused", good)
		}
	}
	for _, bad := range []string{"", "0A", "9A", "A/", "A:", "A@", "A[", "A`", "A{", "A-", "A B", strings.Repeat("A", 129)} {
		if isVariable(bad) {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestScopeLimits holds what is just within a limit against what is just beyond it.
func TestScopeLimits(t *testing.T) {
	t.Parallel()
	digests := func(n int) (list []Digest) {
		for i := range n {
			list = append(list, Digest{Algorithm: SHA256, Value: append(fill(31, 0), byte(i))})
		}
		return list
	}
	names := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("V%02d", i))
		}
		return list
	}
	permissions := func(n int) (s Scope) {
		for i := range n {
			s = append(s, Permission{Target: fmt.Sprintf("tool:%03d", i), Terms: Terms{Operations: allOperations}})
		}
		return s
	}
	code := func(n int) Scope {
		return Scope{{Target: programA, Terms: Terms{Operations: Execute, Code: digests(n)}}}
	}
	limits := func(c Constraints) Scope {
		return Scope{{Target: "tool:a", Terms: Terms{Operations: Read, Constraints: &c}}}
	}
	directory := func(n int) Scope { return limits(Constraints{Directory: "/" + strings.Repeat("d", n-1)}) }
	for name, pair := range map[string][2]Scope{
		"permissions":  {permissions(32), permissions(33)},
		"code digests": {code(64), code(65)},
		"variables":    {limits(Constraints{Env: names(64)}), limits(Constraints{Env: names(65)})},
		"directory":    {directory(1024), directory(1025)},
	} {
		if err := pair[0].Check(); err != nil {
			t.Errorf("%s at the limit: %v", name, err)
		}
		refused(t, pair[1].Check(), denial.StructureLimit)
	}
	unknown := Scope{{Target: "tool:a", Terms: Terms{Operations: allOperations + 1}}}
	refused(t, unknown.Check(), denial.UnsupportedVersion)
	twice := Scope{{Target: programA, Terms: Terms{Operations: Execute, Code: slices.Repeat(digests(1), 2)}}}
	refused(t, twice.Check(), denial.NotCanonical)
}

// TestClaimLimits changes claims to what is just within, and just beyond, what is accepted.
func TestClaimLimits(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	bad := Digest{Algorithm: SHA256, Value: fill(31, 0)}
	parent := Parent{ID: fill(16, 5), Statement: fill(32, 1), Delegation: fill(32, 2)}
	child := func(c *Claims, n int) {
		c.Lineage.Root, c.Lineage.Depth, c.Lineage.Parents = fill(16, 5), 1, slices.Repeat([]Parent{parent}, n)
	}
	number := func(n uint64) *uint64 { return &n }
	rows := []struct {
		name string
		edit func(*Claims)
		code denial.Reason // zero: accepted
	}{
		{"four PCR bindings", func(c *Claims) { c.Environment.PCRs = slices.Repeat(c.Environment.PCRs, 4) }, 0},
		{"five PCR bindings", func(c *Claims) { c.Environment.PCRs = slices.Repeat(c.Environment.PCRs, 5) }, denial.ClaimAbsent},
		{"a PCR digest of 64 bytes", func(c *Claims) { c.Environment.PCRs[0].Digest = fill(64, 1) }, 0},
		{"a PCR digest of 65 bytes", func(c *Claims) { c.Environment.PCRs[0].Digest = fill(65, 1) }, denial.ClaimAbsent},
		{"a PCR digest of one byte", func(c *Claims) { c.Environment.PCRs[0].Digest = fill(1, 1) }, 0},
		{"an empty PCR digest", func(c *Claims) { c.Environment.PCRs[0].Digest = nil }, denial.ClaimAbsent},
		{"a bitmap of two bytes", func(c *Claims) { c.Environment.PCRs[0].Select = fill(2, 1) }, denial.ClaimAbsent},
		{"a bitmap of five bytes", func(c *Claims) { c.Environment.PCRs[0].Select = fill(5, 1) }, denial.ClaimAbsent},
		{"the SHA-384 bank", func(c *Claims) { c.Environment.PCRs[0].Bank = SHA384 }, 0},
		{"the SHA-512 bank", func(c *Claims) { c.Environment.PCRs[0].Bank = SHA512 }, 0},
		{"dbgstat 4", func(c *Claims) { c.Debug = number(4) }, 0},
		{"dbgstat 5", func(c *Claims) { c.Debug = number(5) }, denial.PayloadForm},
		{"Secure Boot mode 3", func(c *Claims) { c.Environment.SecureBoot.Mode = number(3) }, 0},
		{"AK thumbprint of 31 bytes", func(c *Claims) { c.Environment.AK.Thumbprint = fill(31, 1) }, denial.ClaimAbsent},
		{"AK thumbprint of 33 bytes", func(c *Claims) { c.Environment.AK.Thumbprint = fill(33, 1) }, denial.ClaimAbsent},
		{"AK name of 33 bytes", func(c *Claims) { c.Environment.AK.Name = fill(33, 1) }, denial.ClaimAbsent},
		{"AK name of 66 bytes", func(c *Claims) { c.Environment.AK.Name = fill(66, 1) }, 0},
		{"AK name of 67 bytes", func(c *Claims) { c.Environment.AK.Name = fill(67, 1) }, denial.ClaimAbsent},
		{"cnf name of 33 bytes", func(c *Claims) { c.Environment.CNFName = fill(33, 1) }, denial.ClaimAbsent},
		{"dbx malformed", func(c *Claims) { c.Environment.SecureBoot.DBX = &bad }, denial.PayloadForm},
		{"boot signer malformed", func(c *Claims) { c.Environment.BootSigner = &bad }, denial.PayloadForm},
		{"IMA log malformed", func(c *Claims) { c.Environment.IMALog = &IMALog{PCR10: bad} }, denial.PayloadForm},
		{"policy hash malformed", func(c *Claims) { c.Policy.Hash = bad }, denial.ClaimAbsent},
		{"input malformed", func(c *Claims) { c.Policy.Input = bad }, denial.ClaimAbsent},
		{"appraisal without an id", func(c *Claims) { c.Policy.Appraisal.ID = "" }, denial.ClaimAbsent},
		{"appraisal of version 0", func(c *Claims) { c.Policy.Appraisal.Version = 0 }, denial.ClaimAbsent},
		{"appraisal of version 1", func(c *Claims) { c.Policy.Appraisal.Version = 1 }, 0},
		{"appraisal hash malformed", func(c *Claims) { c.Policy.Appraisal.Hash = bad }, denial.ClaimAbsent},
		{"initiator of kind 3", func(c *Claims) { c.Initiator.Kind = 3 }, 0},
		{"no principal", func(c *Claims) { c.Initiator.Principal = "" }, denial.ClaimAbsent},
		{"no authority", func(c *Claims) { c.Initiator.Authority = "" }, denial.ClaimAbsent},
		{"credential malformed", func(c *Claims) { c.Initiator.Credential = &bad }, denial.ClaimAbsent},
		{"eight parents", func(c *Claims) { child(c, 8) }, 0},
		{"nine parents", func(c *Claims) { child(c, 9) }, denial.LineageChainInvalid},
		{"a root of 15 bytes", func(c *Claims) { child(c, 1); c.Lineage.Root = fill(15, 5) }, denial.ClaimAbsent},
		{"a parent id of 15 bytes", func(c *Claims) { child(c, 1); c.Lineage.Parents[0].ID = fill(15, 5) }, denial.LineageChainInvalid},
		{"a delegation of 31 bytes", func(c *Claims) { child(c, 1); c.Lineage.Parents[0].Delegation = fill(31, 5) }, denial.LineageChainInvalid},
		{"64 inputs", func(c *Claims) { c.Execution.Inputs = slices.Repeat([]Digest{digestOf(1)}, 64) }, 0},
		{"65 inputs", func(c *Claims) { c.Execution.Inputs = slices.Repeat([]Digest{digestOf(1)}, 65) }, denial.PayloadForm},
		{"another audience than a URI", func(c *Claims) { c.Audience = "gate" }, denial.AudienceMismatch},
	}
	for _, r := range rows {
		c := k.claims()
		r.edit(&c)
		enc, err := c.Encode()
		if r.code != 0 {
			if !denial.Is(err, r.code) {
				t.Errorf("%s: got %v, want %d", r.name, err, r.code.Code())
			}
			continue
		}
		if err == nil {
			_, err = DecodeClaims(enc)
		}
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
		}
	}
	c := k.claims()
	want, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	c.Profile, c.Lineage.Parents = "", nil // Encode fills in both
	if got, err := c.Encode(); err != nil || !bytes.Equal(got, want) {
		t.Errorf("without profile and parents: %x, %v", got, err)
	}
	unsorted := k.claims()
	unsorted.Scope = append(unsorted.Scope, unsorted.Scope[0])
	_, err = unsorted.Encode()
	refused(t, err, denial.NotCanonical)
	c.Audience = ""
	if _, err := Sign(t.Context(), k.artifact, c); !denial.Is(err, denial.AudienceMismatch) {
		t.Errorf("signing broken claims: got %v", err)
	}
	if leaf, err := Sign(t.Context(), k.artifact, k.claims()); err != nil || len(leaf) == 0 {
		t.Errorf("signing claims: %v", err)
	}
}

func TestRequestLimits(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	good := RequestClaims{Initiator: personURI, Host: hostURI, Audience: gateURI, Expires: issued + 300, IssuedAt: issued, ID: fill(16, 1),
		Confirmation: Thumbprint{Key: fill(32, 2)}, Scope: k.claims().Scope, Execution: Execution{ID: fill(16, 3)}, Lifetime: 300}
	parents := func(n int) []ParentDigest { return slices.Repeat([]ParentDigest{fill(32, 1)}, n) }
	for _, r := range []struct {
		name string
		edit func(*RequestClaims)
		code denial.Reason
	}{
		{"no parents", func(*RequestClaims) {}, 0},
		{"eight parents", func(c *RequestClaims) { c.Parents = parents(8) }, 0},
		{"nine parents", func(c *RequestClaims) { c.Parents = parents(9) }, denial.StructureLimit},
		{"the longest lifetime", func(c *RequestClaims) { c.Lifetime = maxTime }, 0},
		{"a longer lifetime", func(c *RequestClaims) { c.Lifetime = maxTime + 1 }, denial.PayloadForm},
		{"a host that is no URI", func(c *RequestClaims) { c.Host = "host" }, denial.ClaimAbsent},
		{"an audience that is no URI", func(c *RequestClaims) { c.Audience = "gate" }, denial.AudienceMismatch},
		{"a break-glass authorization", func(c *RequestClaims) { c.BreakGlass = fill(32, 1) }, 0},
		{"a break-glass digest of 31 bytes", func(c *RequestClaims) { c.BreakGlass = fill(31, 1) }, denial.PayloadForm},
		{"an empty break-glass digest", func(c *RequestClaims) { c.BreakGlass = []byte{} }, denial.PayloadForm},
		{"a scope that is not safe", func(c *RequestClaims) {
			c.Scope = Scope{{Target: "file:///lib/ld-linux.so.2", Terms: Terms{Operations: Execute}}}
		}, denial.InterpreterUngoverned},
		{"limits without a session", func(c *RequestClaims) { c.Limits = &Limits{Uses: 2} }, 0},
		{"the longest session", func(c *RequestClaims) { c.Limits = &Limits{Session: MaxSession} }, 0},
		{"a longer session", func(c *RequestClaims) { c.Limits = &Limits{Session: MaxSession + 1} }, denial.PayloadForm},
	} {
		c := good
		r.edit(&c)
		raw, err := SignRequest(t.Context(), k.person, c)
		if r.code != 0 {
			if !denial.Is(err, r.code) {
				t.Errorf("%s: got %v, want %d", r.name, err, r.code.Code())
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", r.name, err)
			continue
		}
		u, err := DecodeRequest(raw)
		if err != nil {
			t.Fatal(err)
		}
		got, err := VerifyRequest(u, k.person.Key(), t0)
		if err != nil || got.Claims().Parents == nil || len(got.Claims().Parents) != len(c.Parents) {
			t.Errorf("%s: got %v, want it back", r.name, err)
		}
	}
	if _, err := AuthenticateRequest(nil, k.person.Key()); !denial.Is(err, denial.Internal) {
		t.Errorf("no request: got %v", err)
	}
	if _, err := (*SignedRequest)(nil).Check(t0); !denial.Is(err, denial.Internal) {
		t.Errorf("no signed request: got %v", err)
	}
	if _, err := (&SignedRequest{}).Check(t0); !denial.Is(err, denial.Internal) {
		t.Errorf("an empty signed request: got %v", err)
	}
}

func TestTrustBounds(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	for _, r := range []struct {
		name string
		edit func(*Trust)
		good bool
	}{
		{"least ages", func(t *Trust) { t.RevocationAge, t.Lifetime = time.Second, time.Second }, true},
		{"greatest ages", func(t *Trust) { t.RevocationAge, t.Lifetime = MaxRevocationAge, MaxLifetime }, true},
		{"revocation age below a second", func(t *Trust) { t.RevocationAge = time.Second - 1 }, false},
		{"least age of what runs", func(t *Trust) { t.RunningAge = t.RevocationAge }, true},
		{"age of what runs below that of a start", func(t *Trust) { t.RunningAge = t.RevocationAge - time.Second }, false},
		{"revocation age too great", func(t *Trust) { t.RevocationAge = MaxRevocationAge + time.Second }, false},
		{"lifetime below a second", func(t *Trust) { t.Lifetime = time.Second - 1 }, false},
		{"lifetime too great", func(t *Trust) { t.Lifetime = MaxLifetime + time.Second }, false},
		{"no version", func(t *Trust) { t.Version = 0 }, false},
		{"no genesis", func(t *Trust) { t.Genesis = [32]byte{} }, false},
		{"log is no URI", func(t *Trust) { t.Log = "log" }, false},
		{"audience", func(t *Trust) { t.Audience = gateURI }, true},
		{"audience is no URI", func(t *Trust) { t.Audience = "gate" }, false},
		{"a hash of 31 bytes", func(t *Trust) { t.Policies[0].Hash = fill(31, 1) }, false},
		{"a hash of 32 bytes", func(t *Trust) { t.Policies[0].Hash = fill(32, 1) }, true},
	} {
		c := *k.trust
		c.Policies = slices.Clone(c.Policies)
		r.edit(&c)
		text, err := c.Marshal()
		if r.good && err == nil {
			_, err = ParseTrust(text)
		}
		if (err == nil) != r.good {
			t.Errorf("%s: got %v", r.name, err)
		}
	}
	text, err := k.trust.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for _, pair := range [][2]string{{"1m0s", "1500ms"}, {"1m0s", "one minute"}, {fmt.Sprintf("%x", k.trust.Genesis[:]), "ab"},
		{fmt.Sprintf("%x", k.trust.Genesis[:]), "zz" + fmt.Sprintf("%x", k.trust.Genesis[:])[2:]}} {
		if _, err := ParseTrust([]byte(strings.Replace(string(text), pair[0], pair[1], 1))); err == nil {
			t.Errorf("%q in place of %q is accepted", pair[1], pair[0])
		}
	}
	if _, err := ParseTrust(append(text, []byte("#"+strings.Repeat("x", maxTrustFile))...)); err == nil {
		t.Error("a trust file of any length is accepted")
	}
}

// TestOlderThanLogged: an artifact that was logged long after its iat is refused though nothing else is wrong.
func TestP19_LoggedTooLate(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	c := k.claims()
	leaf, err := Sign(t.Context(), k.artifact, c)
	if err != nil {
		t.Fatal(err)
	}
	late := issued + uint64(MaxLogDelay/time.Second)
	for logged, code := range map[uint64]denial.Reason{late: 0, late + 1: denial.EvidenceStale} {
		l := k.statusList()
		l.IssuedAt, l.Expires = late, late+120
		now := time.Unix(int64(late), 0)
		status, err := VerifyStatus(k.statusToken(l), k.trust, now, 0)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Verify(k.attach(leaf, k.receiptFor(leaf, k.log, issuerURI, logURI, logged)), Want{Trust: k.trust, Now: now, Audience: gateURI, Status: status})
		if code == 0 && err != nil || code != 0 && !denial.Is(err, code) {
			t.Errorf("logged %d s after iat: got %v", logged-issued, err)
		}
	}
}

func TestFourReceiptsAreRead(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	leaf, err := Sign(t.Context(), k.artifact, k.claims())
	if err != nil {
		t.Fatal(err)
	}
	foreign := k.receiptFor(leaf, stock.Signer(t), "https://witness.example", "https://witness.example/log", issued)
	if _, err := Verify(k.attach(leaf, foreign, foreign, foreign, k.receiptFor(leaf, k.log, issuerURI, logURI, issued+60)), k.want()); err != nil {
		t.Error(err)
	}
	if _, err := Verify(k.attach(leaf, k.receiptFor(leaf, k.log, issuerURI, logURI, issued+70)), k.want()); err != nil {
		t.Errorf("logged as far ahead as clocks may be apart: %v", err)
	}
}

func TestPrograms(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"ld-linux.so.2": true, "ld-2.31.so": true, "ld-x": false, "x.so": false, "ld": false} {
		if IsLoader(name) != want {
			t.Errorf("%s is a loader: got %v", name, !want)
		}
	}
	for _, c := range []struct {
		argv []string
		want bool
	}{
		{[]string{"sh"}, true}, {nil, true}, {[]string{"sh", "script"}, false}, {[]string{"sh", "-"}, true}, {[]string{"sh", "--", "-c"}, false},
		{[]string{"sh", "-l"}, true}, {[]string{"python3", "-u", "-B"}, true}, {[]string{"sh", "-l", "-"}, true}, {[]string{"sh", "--"}, true},
		{[]string{"sh", "--", "-"}, true}, {[]string{"sh", "--", "script"}, false}, {[]string{"node", "--color"}, true}, {[]string{"sh", ""}, false},
		{[]string{"sh", "script", "-c"}, false}, {[]string{"node", "---eval"}, true}, {[]string{"python3", "-Bm", "x"}, true}, {[]string{"node", "--eval=x", "script"}, true}, {[]string{"node", "--eval", "script"}, true},
		{[]string{"sh", "-c", "x"}, true}, {[]string{"sh", "-l", "script"}, false}, {[]string{"node", "--eval=x"}, true},
		{[]string{"node", "--color", "script"}, false}, {[]string{"node", "--experimental", "s"}, false},
	} {
		if hasInlineCode(c.argv) != c.want {
			t.Errorf("%q has inline code: got %v", c.argv, !c.want)
		}
	}
}

func TestScopeForPeople(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	s := k.claims().Scope
	s = append(s, Permission{Target: "tool:x", Terms: Terms{Operations: Read}})
	want := "execute+read " + programA + " code=" + k.code.String() + " parameters=" + s[0].Terms.Parameters.String() +
		" env=LANG,TERM cwd=/srv\nread tool:x"
	if got := s.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := (Digest{Algorithm: 7, Value: []byte{1}}).String(); got != "unknown:01" {
		t.Errorf("got %q", got)
	}
	if got := digestOf(1).String(); !strings.HasPrefix(got, "sha256:0101") {
		t.Errorf("got %q", got)
	}
	if digestOf(1).Equal(Digest{Algorithm: SHA384, Value: fill(32, 1)}) || (Digest{Value: fill(32, 1)}).Equal(Digest{Value: fill(32, 1)}) {
		t.Error("digests of different or unknown algorithms are equal")
	}
}

func TestPossessionNeedsItsParts(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	a := k.artifactOf()
	good := Possession{Holder: hostURI, Audience: gateURI, Artifact: a.Digest(), Parameters: digestOf(1), Nonce: GateNonce{1}, IssuedAt: uint64(t0.Unix())}
	raw, err := SignPossession(t.Context(), k.holder, good)
	if err != nil {
		t.Fatal(err)
	}
	if err := VerifyPossession(raw, a, good.Nonce, good.Parameters, t0); err != nil {
		t.Fatal(err)
	}
	refused(t, VerifyPossession(raw, &Artifact{}, good.Nonce, good.Parameters, t0), denial.KeyBinding)
	refused(t, VerifyPossession(raw, nil, good.Nonce, good.Parameters, t0), denial.KeyBinding)
	refused(t, VerifyPossession(raw, a, good.Nonce, good.Parameters, time.Time{}), denial.KeyBinding)
	for name, edit := range map[string]func(*Possession){
		"no gate":       func(p *Possession) { p.Audience = "gate" },
		"no parameters": func(p *Possession) { p.Parameters = Digest{} },
		"no nonce":      func(p *Possession) { p.Nonce = GateNonce{} },
	} {
		p := good
		edit(&p)
		if _, err := SignPossession(t.Context(), k.holder, p); !denial.Is(err, denial.KeyBinding) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	p := good
	p.IssuedAt = 0
	if _, err := SignPossession(t.Context(), k.holder, p); !denial.Is(err, denial.ClaimAbsent) {
		t.Errorf("no time: got %v", err)
	}
}

func TestOperationsAreReadBack(t *testing.T) {
	t.Parallel()
	for o := Operations(1); o <= allOperations; o++ {
		if got, err := ParseOperations(o.String()); err != nil || got != o {
			t.Errorf("%s: got %s, %v", o, got, err)
		}
	}
	for _, bad := range []string{"", "fly", "read+", "read+read", "read,write", "READ"} {
		if got, err := ParseOperations(bad); err == nil || got != 0 {
			t.Errorf("%q: got %s", bad, got)
		}
	}
}

// What does not encode is nothing: it is not taken for something that does.
func TestWhatDoesNotEncode(t *testing.T) {
	t.Parallel()
	if got := ParametersDigest(make([]string, statement.MaxArray)); !got.Valid() {
		t.Errorf("as many arguments as can be: got %v", got)
	}
	if got := ParametersDigest(make([]string, statement.MaxArray+1)); got.Valid() || got.Equal(got) {
		t.Errorf("more arguments than can be: got %v", got)
	}
	if raw, err := (Scope{{Target: "\xff"}}).MarshalCBOR(); err == nil {
		t.Errorf("a target that is no text: got %x", raw)
	}
}

func TestAScopeStandsInAByteString(t *testing.T) {
	t.Parallel()
	s := Scope{{Target: "tool:a", Terms: Terms{Operations: Read}}}
	raw, err := s.MarshalCBOR()
	if err != nil {
		t.Fatal(err)
	}
	var got Scope
	if err := got.UnmarshalCBOR(raw); err != nil || got.String() != s.String() {
		t.Errorf("got %s, %v", got, err)
	}
	inner, _ := statement.BytesOf(raw)
	for _, bad := range [][]byte{inner, {0xf6}, {0x60}, nil} {
		refused(t, got.UnmarshalCBOR(bad), denial.PayloadForm)
	}
	refused(t, got.UnmarshalCBOR([]byte{0x41, 0x80}), denial.StructureLimit)
	if got != nil {
		t.Errorf("beside the refusal there is a scope: %s", got)
	}
}

// A permission without operations allows nothing; that it is within another one says nobody.
func TestTermsWithoutOperationsAreNotContained(t *testing.T) {
	t.Parallel()
	s := Scope{{Target: "tool:a", Terms: Terms{Operations: Read}}}
	for name, child := range map[string]Scope{"without operations": {{Target: "tool:a"}}, "of another target": {{Target: "tool:b"}}, "empty": {}} {
		if s.Contains(child) {
			t.Errorf("%s: contained", name)
		}
	}
}

func TestTimesAtTheirEdges(t *testing.T) {
	t.Parallel()
	for at, want := range map[int64]bool{-1: false, 0: false, 1: true, 2: true} {
		if s, ok := seconds(time.Unix(at, 0)); ok != want || ok && s != uint64(at) {
			t.Errorf("%d s since 1970: got %d, %v", at, s, ok)
		}
	}
	now := uint64(t0.Unix())
	for name, c := range map[string]struct {
		span span
		code denial.Reason // zero: accepted
	}{
		"issued when it ends":       {span{now + 30, now, now + 30}, 0},
		"issued after it ends":      {span{now + 31, now, now + 30}, denial.TimeMalformed},
		"begins when it ends":       {span{now, now + 30, now + 30}, 0},
		"begins after it ends":      {span{now, now + 31, now + 30}, denial.TimeMalformed},
		"issued a minute ahead":     {span{now + 60, now, now + 90}, 0},
		"issued more than that":     {span{now + 61, now, now + 90}, denial.NotYetValid},
		"ends now":                  {span{now - 1, now - 1, now}, denial.Expired},
		"ends in a second":          {span{now - 1, now - 1, now + 1}, 0},
		"as long as is accepted":    {span{now - 1, now - 1, now - 1 + 3600}, 0},
		"longer than is accepted":   {span{now - 1, now - 1, now + 3600}, denial.LifetimeTooLong},
		"begins more than a minute": {span{now, now + 61, now + 90}, denial.NotYetValid},
	} {
		err := checkSpan(c.span, time.Hour, t0)
		if c.code == 0 && err != nil || c.code != 0 && !denial.Is(err, c.code) {
			t.Errorf("%s: got %v, want %s", name, err, c.code)
		}
	}
}

// C25, C26, C30: which of several faults of a payload is named.
func TestFaultsOfClaimsAreNamed(t *testing.T) {
	t.Parallel()
	k := newKit(t)
	enc := mustEncode(t, k.claims())
	for name, c := range map[string]struct {
		payload []byte
		want    denial.Reason
	}{
		"C25 exp undefined":                   {patch(t, enc, claimExp, "f7"), denial.ClaimAbsent},
		"C26 nbf text":                        {patch(t, enc, 5, "6131"), denial.TimeMalformed},
		"C26 nbf a float":                     {patch(t, enc, claimNbf, "f93c00"), denial.TimeMalformed},
		"a scope that is no byte string":      {patch(t, enc, 9, "80"), denial.PayloadForm},
		"an unknown claim, and no key":        {patch(t, patch(t, enc, claimCnf, ""), -90099, "00"), denial.UnsupportedVersion},
		"no confirmation key, and an odd cti": {patch(t, patch(t, enc, claimCnf, ""), 7, "00"), denial.KeyBinding},
	} {
		_, err := DecodeClaims(c.payload)
		if !denial.Is(err, c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}
