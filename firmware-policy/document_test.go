package firmwarepolicy

import (
	"bytes"
	"crypto/sha256"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

func TestPolicyKeepsItsHashThroughEveryForm(t *testing.T) {
	for name, text := range map[string]string{"appraisal": appraisalTOML, "authorization": authorizationTOML} {
		t.Run(name, func(t *testing.T) {
			d := mustParse(t, text)
			want := sha256.Sum256(append([]byte("writ-policy-v1"), d.Canonical()...))
			if d.Hash() != want {
				t.Fatalf("got hash %s, want %x", d.Hash(), want)
			}
			decoded, err := Decode(d.Canonical())
			if err != nil || decoded.Hash() != d.Hash() {
				t.Fatalf("decoding: %v", err)
			}
			first, err := decoded.TOML()
			if err != nil {
				t.Fatal(err)
			}
			again := mustParse(t, string(first))
			second, _ := again.TOML()
			if again.Hash() != d.Hash() || !bytes.Equal(first, second) {
				t.Fatalf("TOML is not stable:\n%s\n%s", first, second)
			}
			if d.ID() == "" || d.Version() == 0 || d.Expires() != testExpires || string(d.Kind()) != name {
				t.Fatalf("got %s %d %d %s", d.ID(), d.Version(), d.Expires(), d.Kind())
			}
		})
	}
}

func TestHashIgnoresOrderThatMeansNothingAndNoticesTheRest(t *testing.T) {
	hash := mustParse(t, appraisalTOML).Hash()
	same := swap(t, appraisalTOML, "[0, 4, 5, 7, 11, 12]", "[12, 11, 7, 5, 4, 0]")
	if mustParse(t, same).Hash() != hash {
		t.Error("the order of PCRs changes the hash")
	}
	for _, change := range [][2]string{
		{"version = 3", "version = 4"}, {"17:46:40Z", "17:46:41Z"}, {"bind = [4, 7, 11]", "bind = [4, 7]"}, {`"30s"`, `"31s"`},
		{"lockdown=integrity", "lockdown=none"}, {"code = 609", "code = 610"}, {`name = "db"`, `name = "dc"`},
		{"facts.secure_boot.enabled", "facts.secure_boot.present"},
	} {
		if mustParse(t, swap(t, appraisalTOML, change[0], change[1])).Hash() == hash {
			t.Errorf("changing %q does not change the hash", change[0])
		}
	}
}

func TestHashOfVariablesAndDirectory(t *testing.T) {
	hash := mustParse(t, authorizationTOML).Hash()
	if mustParse(t, swap(t, authorizationTOML, `["STAGE", "LANG"]`, `["LANG", "STAGE"]`)).Hash() != hash {
		t.Error("the order of variables changes the hash")
	}
	for _, change := range [][2]string{{`["STAGE", "LANG"]`, `["LANG"]`}, {`["STAGE", "LANG"]`, `[]`}, {`"/srv/deploy"`, `"/srv"`}} {
		if mustParse(t, swap(t, authorizationTOML, change[0], change[1])).Hash() == hash {
			t.Errorf("changing %q does not change the hash", change[0])
		}
	}
	written := mustParse(t, swap(t, authorizationTOML, `"/srv/deploy"`, `"/"`))
	left := mustParse(t, swap(t, authorizationTOML, "directory = \"/srv/deploy\"\n", ""))
	if written.Hash() != left.Hash() {
		t.Error("two policies that mean the same directory have two hashes")
	}
}

func TestDecodeAcceptsOneFormOfVariablesAndDirectory(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*scope)
		want   denial.Reason
	}{
		{"as it is", func(*scope) {}, 0},
		{"variables out of order", func(s *scope) { s.Env = []string{"STAGE", "LANG"} }, denial.NotCanonical},
		{"variable twice", func(s *scope) { s.Env = []string{"LANG", "LANG"} }, denial.PolicyError},
		{"no variable's name", func(s *scope) { s.Env = []string{"LANG=C"} }, denial.PolicyError},
		{"the default directory written", func(s *scope) { s.Directory = "/" }, denial.NotCanonical},
		{"relative directory", func(s *scope) { s.Directory = "srv" }, denial.PolicyError},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := mustParse(t, authorizationTOML).body
			c.change(&b.Authorization.Rules[0].Scope[0])
			data, err := statement.Marshal(b)
			if err != nil {
				t.Fatal(err)
			}
			if _, err = Decode(data); c.want != 0 {
				wantDenial(t, err, c.want)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestUnknownKeyIsRefusedWithItsPlace(t *testing.T) {
	for _, c := range []struct{ old, new, place, key string }{
		{"version = 3", "version = 3\nverison = 3", "line 6, column 1", "verison"},
		{`bank = "sha256"`, `bank = "sha256"` + "\n banks = 1", "line 10, column 2", "pcrs.banks"},
		{"code = 609", "code = 609\nallow = true", "line 30, column 1", "require.allow"},
		{"[limits]", "[limit]", "line 14, column 2", "limit"},
		{"version = 3", "Version = 3", "line 5, column 1", "Version"},
		{`expr = "facts.secure_boot.enabled"`, "expr = \"facts.secure_boot.enabled\"\nExpr = \"facts.pcr[4] == ''\"", "line 26, column 1", "Expr"},
	} {
		t.Run(c.key, func(t *testing.T) {
			_, err := ParseTOML([]byte(swap(t, appraisalTOML, c.old, c.new)))
			wantDenial(t, err, denial.PolicyError)
			if !strings.Contains(err.Error(), c.place) || !strings.Contains(err.Error(), c.key) {
				t.Fatalf("got %v, want %s and key %s", err, c.place, c.key)
			}
		})
	}
}

// Each row is the good appraisal policy with one thing broken. All are refused when the policy is loaded.
func TestAppraisalPolicyIsRefused(t *testing.T) {
	noRequire := appraisalTOML[:strings.Index(appraisalTOML, "[[require]]")]
	only := func(expr string) string { return noRequire + "[[require]]\nname = \"x\"\nexpr = '''" + expr + "'''\n" }
	for _, c := range []struct{ name, text, says string }{
		{"no schema", swap(t, appraisalTOML, "schema = 1", ""), "schema"},
		{"another schema", swap(t, appraisalTOML, "schema = 1", "schema = 2"), "schema"},
		{"no kind", swap(t, appraisalTOML, `kind = "appraisal"`, ""), "kind"},
		{"another kind", swap(t, appraisalTOML, `kind = "appraisal"`, `kind = "authorization"`), "unknown key"},
		{"relative id", swap(t, appraisalTOML, "https://issuer.example/policy/hosts", "hosts"), "URI"},
		{"version 0", swap(t, appraisalTOML, "version = 3", "version = 0"), "version"},
		{"negative version", swap(t, appraisalTOML, "version = 3", "version = -3"), "line 5"},
		{"no expiry", swap(t, appraisalTOML, "expires = 2030-03-17T17:46:40Z", ""), "expires"},
		{"expiry without offset", swap(t, appraisalTOML, "17:46:40Z", "17:46:40"), "offset"},
		{"expiry as text", swap(t, appraisalTOML, "2030-03-17T17:46:40Z", `"2030-03-17T17:46:40Z"`), "expires"},
		{"key twice", swap(t, appraisalTOML, "version = 3", "version = 3\nversion = 4"), "line 6"},
		{"Q12 bank sha1", swap(t, appraisalTOML, `"sha256"`, `"sha1"`), "SHA-1"},
		{"no PCRs", swap(t, appraisalTOML, "[0, 4, 5, 7, 11, 12]", "[]"), "quote is empty"},
		{"nothing bound", swap(t, appraisalTOML, "bind = [4, 7, 11]", "bind = []"), "bind is empty"},
		{"bound but not quoted", swap(t, appraisalTOML, "bind = [4, 7, 11]", "bind = [4, 8]"), "PCR 8"},
		{"PCR twice", swap(t, appraisalTOML, "[0, 4, 5, 7, 11, 12]", "[0, 4, 4, 7, 11]"), "twice"},
		{"PCR 24", swap(t, appraisalTOML, "[0, 4, 5, 7, 11, 12]", "[4, 5, 7, 11, 24]"), "no PCR 24"},
		{"PCR -1", swap(t, appraisalTOML, "[0, 4, 5, 7, 11, 12]", "[-1, 4, 5, 7, 11]"), "no PCR"},
		{"Q23 PCR 16", swap(t, appraisalTOML, "[0, 4, 5, 7, 11, 12]", "[4, 5, 7, 11, 16]"), "reset"},
		{"Q23 PCR 23", swap(t, appraisalTOML, "[0, 4, 5, 7, 11, 12]", "[4, 5, 7, 11, 23]"), "reset"},
		{"Q23 PCR 17", swap(t, appraisalTOML, "[0, 4, 5, 7, 11, 12]", "[4, 5, 7, 11, 17]"), "dynamic launch"},
		{"Q23 PCR 22", swap(t, appraisalTOML, "[0, 4, 5, 7, 11, 12]", "[4, 5, 7, 11, 22]"), "dynamic launch"},
		{"no evidence age", swap(t, appraisalTOML, `evidence_age = "30s"`, ""), "evidence_age"},
		{"long evidence age", swap(t, appraisalTOML, `"30s"`, `"61s"`), "evidence_age"},
		{"part of a second", swap(t, appraisalTOML, `"30s"`, `"1500ms"`), "evidence_age"},
		{"empty set", swap(t, appraisalTOML, `["console=ttyS0 lockdown=integrity"]`, "[]"), "empty"},
		{"empty value", swap(t, appraisalTOML, `["console=ttyS0 lockdown=integrity"]`, `[""]`), "empty entry"},
		{"value twice", swap(t, appraisalTOML, digest("kernel"), digest("uki")), "twice"},
		{"capital digest", swap(t, appraisalTOML, digest("kernel"), strings.ToUpper(digest("kernel"))), "lower case"},
		{"set name", swap(t, appraisalTOML, "pcr4 = ", "pcr-4 = "), "set name"},
		{"no requirement", noRequire, "requirements"},
		{"requirement name", swap(t, appraisalTOML, `name = "db"`, `name = "The DB"`), "name"},
		{"requirement twice", swap(t, appraisalTOML, `name = "db"`, `name = "zone"`), "twice"},
		{"unknown code", swap(t, appraisalTOML, "code = 609", "code = 699"), "699"},
		{"code of another family", swap(t, appraisalTOML, "code = 609", "code = 201"), "family"},
		{"code 0", swap(t, appraisalTOML, "code = 609", "code = 0"), "code"},
		{"code as list", swap(t, appraisalTOML, "code = 609", "code = [609]"), "code"},
		{"unknown fact", swap(t, appraisalTOML, "facts.secure_boot.enabled", "facts.secure_boot.enabeld"), "undefined field 'enabeld'"},
		{"unknown set", swap(t, appraisalTOML, "in ref.pcr4", "in ref.pcr5"), "undeclared reference"},
		{"wrong type", swap(t, appraisalTOML, "facts.secure_boot.enabled", "facts.firmware"), "must give true or false"},
		{"no expression", swap(t, appraisalTOML, "facts.secure_boot.enabled", ""), "secure-boot-on"},
		{"number against text", withRequirement("facts.bank == 256"), "no matching overload"},
		{"PCR not quoted", withRequirement("facts.pcr[9] == 'x'"), "PCR 9"},
		{"PCR that no TPM has", withRequirement("facts.pcr[99] == 'x'"), "no TPM has"},
		{"PCR by expression", withRequirement("[4].all(i, facts.pcr[i] in ref.pcr4)"), "facts.pcr[9]"},
		{"loop over a map", withRequirement("host.labels.all(k, k != 'x')"), "map"},
		{"facts as a whole", withRequirement("facts == facts"), "field"},
		{"host as a whole", withRequirement("[host].all(h, h.id != '')"), "field"},
		{"looks at nothing", withRequirement("1 < 2"), "looks at nothing"},
		{"only a set", withRequirement("'x' in ref.pcr4"), "looks at nothing"},
		{"hides facts", withRequirement("[1].all(host, 1 == 1) && facts.clock.safe"), "loop variable"},
		{"fractions", withRequirement("facts.firmware > 1.5"), "fractions"},
		{"structs", withRequirement("attest.Clock{safe: true}.safe && facts.clock.safe"), "structs"},
		{"maps", withRequirement("{'a': facts.clock.safe}['a']"), "maps"},
		{"time", withRequirement("timestamp(facts.bank) < timestamp('2026-01-01T00:00:00Z')"), "undeclared reference"},
		{"regular expression", withRequirement("facts.bank.matches('sha.*')"), "undeclared reference"},
		{"arithmetic", withRequirement("facts.log.events / 0 == 1"), "undeclared reference"},
		{"conversion", withRequirement("dyn(facts.bank) == 1"), "undeclared reference"},
		{"three loops deep", withRequirement("[1].all(a, [1].all(b, [1].all(c, facts.clock.safe)))"), "nest"},
		{"long expression", withRequirement("facts.bank == '" + strings.Repeat("x", MaxExpression) + "'"), "size"},
		{"L26 quotes PCR 7 alone", swap(t, swap(t, only("facts.secure_boot.enabled && facts.pcr_digest != ''"), "[0, 4, 5, 7, 11, 12]", "[7]"),
			"[4, 7, 11]", "[7]"), "PCR 7"},
		{"L26 looks at PCR 7 alone", only("facts.secure_boot.enabled && facts.pcr[7] == '" + digest("keys") + "'"), "PCR 7"},
		{"looks at no measurement", only("facts.clock.safe"), "PCR 7"},
		{"Secure Boot without PCR 7", swap(t, swap(t, appraisalTOML, "[0, 4, 5, 7, 11, 12]", "[0, 4, 11]"), "[4, 7, 11]", "[4]"), "needs PCR 7"},
		{"boot programs without PCR 4", swap(t, swap(t, only("facts.boot_apps[0].digest == 'x'"), "[0, 4, 5, 7, 11, 12]", "[7, 11]"),
			"[4, 7, 11]", "[7]"), "needs PCR 4"},
		{"command line without its PCR", swap(t, swap(t, only("facts.command_line[0] == 'x'"), "[0, 4, 5, 7, 11, 12]", "[4]"),
			"[4, 7, 11]", "[4]"), "PCRs 8 and 12"},
		{"not TOML", "schema = ", "line 1"},
		{"empty file", "", "schema"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseTOML([]byte(c.text))
			wantDenial(t, err, denial.PolicyError)
			if !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want it to say %q", err, c.says)
			}
		})
	}
}

func TestAuthorizationPolicyIsRefused(t *testing.T) {
	for _, c := range []struct{ name, old, new, says string }{
		{"no initiators", `initiators = ["https://people.example/ada"]`, "initiators = []", "initiators is empty"},
		{"relative initiator", `["https://people.example/ada"]`, `["ada"]`, "URI"},
		{"initiator twice", `"https://people.example/bob"]`, `"https://people.example/ada"]`, "twice"},
		{"no audience", `audiences = ["https://gate.example/a"]`, "", "audiences is empty"},
		{"relative host id", `["spiffe://example/host/a"]`, `["a"]`, "URI"},
		{"empty label", `{ Zone = "eu", rack = "7" }`, `{ Zone = "" }`, "label"},
		{"no lifetime", `lifetime = "1h"`, "", "lifetime"},
		{"lifetime 0", `lifetime = "1h"`, `lifetime = "0s"`, "lifetime"},
		{"endless", `lifetime = "1h"`, `lifetime = "100000h"`, "lifetime"},
		{"no uses", "uses = 10", "", "uses"},
		{"uses 0", "uses = 10", "uses = 0", "uses"},
		{"session of more than a year", `session = "10m"`, `session = "8785h"`, "session"},
		{"session of no time", `session = "10m"`, `session = "0s"`, "session"},
		{"deep", "depth = 1", "depth = 17", "depth"},
		{"no scope", "[[rule.scope]]\ntarget = \"tool:mcp/tickets/list\"\noperations = [\"read\"]", "", "scope"},
		{"scope twice", `"tool:mcp/tickets/*"`, `"file:/usr/bin/deploy"`, "twice"},
		{"relative target", `"tool:mcp/tickets/*"`, `"tickets"`, "target"},
		{"star inside", `"tool:mcp/tickets/*"`, `"tool:mcp/*/list"`, "target"},
		{"star without slash", `"tool:mcp/tickets/*"`, `"tool:mcp/tick*"`, "target"},
		{"dots", `"tool:mcp/tickets/*"`, `"tool:mcp/../tickets/*"`, "target"},
		{"encoded dots", `"tool:mcp/tickets/*"`, `"tool:mcp/%2e%2e/*"`, "target"},
		{"no operations", `operations = ["read", "write", "delegate"]`, "operations = []", "operations"},
		{"unknown operation", `operations = ["read", "write", "delegate"]`, `operations = ["run"]`, "run"},
		{"operation twice", `operations = ["read", "write", "delegate"]`, `operations = ["read", "read"]`, "twice"},
		{"digest in capitals", digest("deploy 1"), strings.ToUpper(digest("deploy 1")), "lower-case"},
		{"short digest", digest("--production"), "abcd", "SHA-256"},
		{"execute without code", "code = [\"" + digest("deploy 1") + "\", \"" + digest("deploy 2") + "\"]", "", "code must list"},
		{"execute without code, scheme in capitals", "\"file:/usr/bin/deploy\"\noperations = [\"execute\", \"read\"]\ncode = [\"" +
			digest("deploy 1") + "\", \"" + digest("deploy 2") + "\"]", "\"FILE:/usr/bin/deploy\"\noperations = [\"execute\"]", "code must list"},
		{"variable twice", `["STAGE", "LANG"]`, `["LANG", "LANG"]`, "twice"},
		{"variable without a name", `["STAGE", "LANG"]`, `[""]`, "variable"},
		{"variable with a value", `["STAGE", "LANG"]`, `["LANG=C"]`, "variable"},
		{"variable by pattern", `["STAGE", "LANG"]`, `["LC_*"]`, "variable"},
		{"variable with a digit first", `["STAGE", "LANG"]`, `["1A"]`, "variable"},
		{"variable too long", `["STAGE", "LANG"]`, `["` + strings.Repeat("A", maxVariable+1) + `"]`, "variable"},
		{"variables as text", `["STAGE", "LANG"]`, `"LANG"`, "line"},
		{"relative directory", `"/srv/deploy"`, `"srv"`, "directory"},
		{"directory upwards", `"/srv/deploy"`, `"/srv/../etc"`, "directory"},
		{"directory with a slash behind", `"/srv/deploy"`, `"/srv/"`, "directory"},
		{"directory with two slashes", `"/srv/deploy"`, `"//srv"`, "directory"},
		{"directory with a NUL", `"/srv/deploy"`, `"/srv\u0000"`, "directory"},
		{"directory too long", `"/srv/deploy"`, `"/` + strings.Repeat("a", maxDirPath) + `"`, "directory"},
		{"directories as list", `"/srv/deploy"`, `["/srv"]`, "line"},
		{"rule twice", `name = "read-only"`, `name = "deploy"`, "twice"},
		{"rule name", `name = "read-only"`, `name = ""`, "name"},
		{"when unknown field", "ask.initiator_kind", "ask.initiator_knid", "undefined field"},
		{"when not bool", "ask.initiator_kind == 'human'", "ask.initiator_kind", "true or false"},
		{"when looks at nothing", "ask.initiator_kind == 'human'", "1 == 1", "looks at nothing"},
		{"when over facts", "ask.initiator_kind == 'human'", "facts.clock.safe", "undeclared reference"},
		{"unknown key", "depth = 1", "deapth = 1", "line 16, column 1"},
		{"key in capitals", "depth = 1", "Depth = 1", "line 16, column 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseTOML([]byte(swap(t, authorizationTOML, c.old, c.new)))
			wantDenial(t, err, denial.PolicyError)
			if !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want it to say %q", err, c.says)
			}
		})
	}
	_, err := ParseTOML([]byte(authorizationTOML[:strings.Index(authorizationTOML, "[[rule]]")]))
	wantDenial(t, err, denial.PolicyError)
}

func TestDecodeAcceptsOneEncodingOnly(t *testing.T) {
	encode := func(change func(*body)) []byte {
		b := mustParse(t, appraisalTOML).body
		a := *b.Appraisal
		b.Appraisal = &a
		change(&b)
		out, err := statement.Marshal(b)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	good := encode(func(*body) {})
	if _, err := Decode(good); err != nil {
		t.Fatal(err)
	}
	extended, _ := statement.Marshal(map[int]int{1: 1, 9: 9})
	for _, c := range []struct {
		name string
		data []byte
		want denial.Reason
	}{
		{"nothing", nil, denial.NotCanonical},
		{"something behind it", append(bytes.Clone(good), 0), denial.TrailingData},
		{"cut short", good[:len(good)-1], denial.StructureLimit},
		{"unknown key", extended, denial.UnsupportedVersion},
		{"another schema", encode(func(b *body) { b.Schema = 2 }), denial.UnsupportedVersion},
		{"too large", make([]byte, MaxCanonical+1), denial.StructureLimit},
		{"PCRs out of order", encode(func(b *body) { b.Appraisal.Quote = []int64{4, 0, 5, 7, 11, 12} }), denial.NotCanonical},
		{"space around an expression", encode(func(b *body) {
			b.Appraisal.Require = []requirement{{"x", denial.PCRNotAllowed, " facts.pcr[4] == 'x'"}}
		}), denial.NotCanonical},
		{"no appraisal", encode(func(b *body) { b.Appraisal = nil }), denial.PolicyError},
		{"kind of another content", encode(func(b *body) { b.Kind = KindAuthorization }), denial.PolicyError},
		{"no requirements", encode(func(b *body) { b.Appraisal.Require = nil }), denial.PolicyError},
		{"null for an empty map", bytes.Replace(encode(func(b *body) {
			b.Appraisal.Reference = map[string][]string{}
			b.Appraisal.Require = []requirement{{"x", denial.PCRNotAllowed, "facts.pcr[4] == 'x'"}}
		}), []byte{0x05, 0xa0}, []byte{0x05, 0xf6}, 1), denial.NotCanonical},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Decode(c.data)
			if c.name == "cut short" && err != nil {
				return // where it is cut decides between two codes of the codec
			}
			wantDenial(t, err, c.want)
		})
	}
	_, err := ParseTOML(make([]byte, MaxTOML+1))
	wantDenial(t, err, denial.StructureLimit)
}

func TestPolicyThatDoesNotFitAStatementIsRefused(t *testing.T) {
	var values strings.Builder
	for i := range 1000 {
		values.WriteString(`"` + digest(strings.Repeat("x", i)) + `", `)
	}
	_, err := ParseTOML([]byte(swap(t, appraisalTOML, "[reference]", "[reference]\nmany = ["+values.String()+"]")))
	wantDenial(t, err, denial.PolicyError)
}

func TestExpiredPolicyIsRefused(t *testing.T) {
	d := mustParse(t, appraisalTOML)
	if err := d.CheckTime(testExpires - 1); err != nil {
		t.Fatal(err)
	}
	wantDenial(t, d.CheckTime(testExpires), denial.PolicyExpired)
}

func TestZeroPolicyRefuses(t *testing.T) {
	var none *Document
	for _, d := range []*Document{none, {}} {
		_, err := d.Appraisal()
		wantDenial(t, err, denial.NoActivePolicy)
		_, err = d.Authorization()
		wantDenial(t, err, denial.NoActivePolicy)
		wantDenial(t, d.CheckTime(0), denial.NoActivePolicy)
	}
	_, err := mustParse(t, appraisalTOML).Authorization()
	wantDenial(t, err, denial.PolicyError)
	_, err = mustParse(t, authorizationTOML).Appraisal()
	wantDenial(t, err, denial.PolicyError)

	var noAppraisal *Appraisal
	_, err = noAppraisal.Appraise(goodClaims(), goodHost())
	wantDenial(t, err, denial.NoActivePolicy)
	_, err = (&Appraisal{}).Appraise(goodClaims(), goodHost())
	wantDenial(t, err, denial.PolicyError)
	if s := noAppraisal.Selection(); s.Bank != "" || s.PCRs != nil || noAppraisal.Bind() != nil || noAppraisal.EvidenceAge() != 0 {
		t.Error("no policy selects something")
	}
	var noAuthorization *Authorization
	_, err = noAuthorization.Authorize(goodAsk())
	wantDenial(t, err, denial.NoActivePolicy)
	_, err = (&Authorization{}).Authorize(goodAsk())
	wantDenial(t, err, denial.PolicyError)
	if (noAppraisal.Hash() != Hash{}) || (noAuthorization.Hash() != Hash{}) {
		t.Error("no policy has a hash")
	}
}
