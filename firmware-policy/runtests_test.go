package firmwarepolicy

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
)

func readFacts(t *testing.T) func(string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		if name != "host-a.json" {
			return nil, errors.New("no such file")
		}
		out, err := EncodeFacts(goodClaims())
		if err != nil {
			t.Fatal(err)
		}
		return out, nil
	}
}

const appraisalCases = `
schema = 1
[[case]]
name = "the host as it is"
expect = "allow"
facts = "host-a.json"
labels = { Zone = "eu" }

[[case]]
name = "Secure Boot off, other PCR 4"
expect = "SECURE_BOOT_OFF"
requirements = ["secure-boot-on", "boot-programs"]
facts = "host-a.json"
labels = { Zone = "eu" }
[case.change]
secure_boot.enabled = false
pcr.4 = "00"
clock.resets = 8

[[case]]
name = "wrong expectation"
expect = "allow"
facts = "host-a.json"

[[case]]
name = "wrong requirements"
expect = "705"
requirements = ["db"]
facts = "host-a.json"
`

func TestPolicyTests(t *testing.T) {
	got, err := RunTests(mustParse(t, appraisalTOML), []byte(appraisalCases), readFacts(t))
	want := []TestResult{
		{"the host as it is", true, "allow", "allow"},
		{"Secure Boot off, other PCR 4", true, "SECURE_BOOT_OFF", "SECURE_BOOT_OFF (boot-programs, secure-boot-on)"},
		{"wrong expectation", false, "allow", "TENANT_MISMATCH (zone)"},
		{"wrong requirements", false, "TENANT_MISMATCH", "TENANT_MISMATCH (zone)"},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v, want %+v", got, err, want)
	}
	ask := "[[case]]\nname = \"list\"\nexpect = \"allow\"\n[case.ask]\ninitiator = \"https://people.example/ada\"\nhost = \"spiffe://example/host/b\"\n" +
		"audience = \"https://gate.example/b\"\nlifetime = 60\nuses = 1\n[[case.ask.scope]]\ntarget = \"tool:mcp/tickets/list\"\noperations = [\"read\"]\n"
	long := strings.Replace(strings.Replace(ask, "lifetime = 60", "lifetime = 6000", 1), `"allow"`, `"LIFETIME_TOO_LONG"`, 1)
	got, err = RunTests(mustParse(t, authorizationTOML), []byte("schema = 1\n"+ask+long), readFacts(t))
	if err != nil || len(got) != 2 || !got[0].OK || !got[1].OK || got[1].Got != "LIFETIME_TOO_LONG (deploy, read-only)" {
		t.Fatalf("got %+v, %v", got, err)
	}
}

func TestBrokenTestFileIsAnError(t *testing.T) {
	d := mustParse(t, appraisalTOML)
	one := "schema = 1\n[[case]]\nname = \"a\"\nexpect = \"allow\"\nfacts = \"host-a.json\"\n"
	if _, err := RunTests(d, []byte(one), readFacts(t)); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, file, says string }{
		{"no cases", "schema = 1\n", "[[case]]"},
		{"no schema", strings.Replace(one, "schema = 1", "", 1), "schema"},
		{"unknown key", one + "fact = 1\n", "line 6"},
		{"capitals", one + "Expect = \"201\"\n", "line 6"},
		{"no name", strings.Replace(one, `name = "a"`, "", 1), "name"},
		{"no expectation", strings.Replace(one, `expect = "allow"`, "", 1), "needs name and expect"},
		{"unknown expectation", strings.Replace(one, `"allow"`, `"deny"`, 1), "deny"},
		{"no facts", strings.Replace(one, `facts = "host-a.json"`, "", 1), "has facts, a file"},
		{"missing file", strings.Replace(one, "host-a", "host-b", 1), "no such file"},
		{"unknown fact", one + "change = { pcrs = 1 }\n", `no "pcrs"`},
		{"fact of a wrong type", one + "change = { bank = 1 }\n", "facts.bank"},
		{"number as text", one + "change = { clock = { safe = \"yes\" } }\n", "facts.clock.safe"},
		{"fraction", one + "change = { firmware = 1.5 }\n", "facts.firmware"},
		{"list for an object", one + "change = { clock = [1] }\n", "facts.clock"},
		{"text for a list", one + "change = { command_line = \"x\" }\n", "facts.command_line"},
		{"text for a map", one + "change = { pcr = \"x\" }\n", "facts.pcr"},
		{"PCR by name", one + "change = { pcr = { four = \"x\" } }\n", "facts.pcr"},
		{"ask", one + "[case.ask]\nuses = 1\n", "no ask"},
		{"a fact of a wrong type in a list", one + "change = { boot_apps = [{ pcr = \"x\" }] }\n", "facts.boot_apps[0].pcr"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := RunTests(d, []byte(c.file), readFacts(t))
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Fatalf("got %v, want it to say %q", err, c.says)
			}
		})
	}
	if _, err := RunTests(nil, []byte(one), readFacts(t)); !denial.Is(err, denial.PolicyError) {
		t.Errorf("got %v for no policy", err)
	}
	noFacts := func(string) ([]byte, error) { return []byte(`{"bank": `), nil }
	if _, err := RunTests(d, []byte(one), noFacts); err == nil || !strings.Contains(err.Error(), "reading facts") {
		t.Errorf("facts that are no JSON: got %v", err)
	}
	const askOnly = "facts, change, host or labels"
	ask := "schema = 1\n[[case]]\nname = \"a\"\nexpect = \"allow\"\n"
	for name, file := range map[string]string{
		"no ask": ask, "facts": ask + "facts = \"host-a.json\"\nask = { uses = 1 }\n", "a change": ask + "change = { bank = \"x\" }\nask = { uses = 1 }\n",
		"a host": ask + "host = \"spiffe://example/host/a\"\nask = { uses = 1 }\n", "labels": ask + "labels = { rack = \"7\" }\nask = { uses = 1 }\n",
	} {
		if _, err := RunTests(mustParse(t, authorizationTOML), []byte(file), readFacts(t)); err == nil || !strings.Contains(err.Error(), askOnly) {
			t.Errorf("an authorization policy with %s: got %v", name, err)
		}
	}
	_, b := anchored(t)
	anchors, err := newDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := RunTests(anchors, []byte(one), readFacts(t)); err == nil || !strings.Contains(err.Error(), "no test cases") {
		t.Errorf("anchors: got %v", err)
	}
}

func TestFactsKeepThroughJSON(t *testing.T) {
	want := goodClaims()
	data, err := EncodeFacts(want)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeFacts(data)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %+v, %v", got, err)
	}
	want.Measured[0], want.BootApps = nil, nil
	if data, err = EncodeFacts(want); err != nil || strings.Contains(string(data), "null") {
		t.Errorf("an empty list is written as null: %v\n%s", err, data)
	}
	for _, bad := range []string{`{"boot_apps": [{"pcr": "x"}]}`, `{"measured": {"0": [1]}}`, "", "null", "[]", "{} {}", `{"ak": null}`, `{"clock": {"Safe": true}}`, `{"firmware": -1}`, `{"pcr": {"4": 4}}`} {
		if _, err := DecodeFacts([]byte(bad)); err == nil {
			t.Errorf("%s: no error", bad)
		}
	}
}

// Cases of break-glass: what the quorum signs is put to the rule that it names, and to no other.
func TestPolicyTestsOfBreakGlass(t *testing.T) {
	const ask = `
[case.ask]
initiator = "https://people.example/ada"
initiator_kind = "human"
host = "spiffe://example/host/a"
audience = "https://gate.example/build-1"
lifetime = 1800
[[case.ask.scope]]
target = "file:/usr/bin/restore"
operations = ["execute"]
code = ["c263158fefdd304ee6fb29bf0aa5b8a5301b34f0d58f28ad5b4f473bd2a84e89"]
parameters = "4ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260"
`
	plain, waives := mustParse(t, authorizationTOML+glassTOML), mustParse(t, authorizationTOML+strings.Replace(glassTOML, `lifetime = "30m"`, "lifetime = \"30m\"\nwaive_attestation = true", 1))
	for name, row := range map[string]struct {
		policy     *Document
		head, from string // replaced in ask
		to, want   string
	}{
		"within the rule":              {plain, `break_glass = "restore"`, "", "", "allow"},
		"another host":                 {plain, `break_glass = "restore"`, "host/a", "host/b", "BREAK_GLASS_INVALID"},
		"a second longer":              {plain, `break_glass = "restore"`, "1800", "1801", "BREAK_GLASS_INVALID"},
		"two uses":                     {plain, `break_glass = "restore"`, "lifetime = 1800", "lifetime = 1800\nuses = 2", "BREAK_GLASS_INVALID"},
		"a rule that is none":          {plain, `break_glass = "other"`, "", "", "BREAK_GLASS_INVALID"},
		"without an authorization":     {plain, "", "", "", "AUDIENCE_MISMATCH"},
		"waived, which nothing allows": {plain, "break_glass = \"restore\"\nwaived = true", "", "", "NO_EVIDENCE"},
		"waived, as the rule allows":   {waives, "break_glass = \"restore\"\nwaived = true", "", "", "allow"},
	} {
		file := "schema = 1\n[[case]]\nname = \"x\"\nexpect = \"allow\"\n" + row.head + strings.Replace(ask, row.from, row.to, 1)
		got, err := RunTests(row.policy, []byte(file), readFacts(t))
		if err != nil || len(got) != 1 || got[0].OK != (row.want == "allow") || !strings.HasPrefix(got[0].Got, row.want) {
			t.Errorf("%s: got %+v, %v, want %s", name, got, err, row.want)
		}
	}
	for name, c := range map[string]struct {
		policy *Document
		text   string
	}{
		"waived by nobody":       {plain, "waived = true" + ask},
		"of an appraisal":        {mustParse(t, appraisalTOML), "break_glass = \"restore\"\nfacts = \"host-a.json\""},
		"waived of an appraisal": {mustParse(t, appraisalTOML), "waived = true\nfacts = \"host-a.json\""},
	} {
		if _, err := RunTests(c.policy, []byte("schema = 1\n[[case]]\nname = \"x\"\nexpect = \"allow\"\n"+c.text), readFacts(t)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
