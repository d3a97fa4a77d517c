package firmwarepolicy

import (
	"bytes"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
)

const glassTOML = `
[[break_glass]]
name = "restore"
initiators = ["https://people.example/ada"]
host_ids = ["spiffe://example/host/a"]
audiences = ["https://gate.example/build-1"]
lifetime = "30m"
when = "ask.initiator_kind == 'human'"

[[break_glass.scope]]
target = "file:/usr/bin/restore"
operations = ["execute"]
code = ["c263158fefdd304ee6fb29bf0aa5b8a5301b34f0d58f28ad5b4f473bd2a84e89"]
parameters = ["4ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260"]
env = ["LANG"]
`

func glassAsk() Ask {
	return Ask{Initiator: "https://people.example/ada", InitiatorKind: "human", Host: "spiffe://example/host/a", Audience: "https://gate.example/build-1",
		Scope: []AskScope{{Target: "file:/usr/bin/restore", Operations: []string{"execute"},
			Code:       []string{"c263158fefdd304ee6fb29bf0aa5b8a5301b34f0d58f28ad5b4f473bd2a84e89"},
			Parameters: "4ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260"}},
		Lifetime: 1800, Uses: 1}
}

// P21: what is beyond the declared rule is refused, whatever it is; a policy without one declares nothing.
func TestP21_BreakGlassBeyondItsRule(t *testing.T) {
	a := mustAuthorization(t, authorizationTOML+glassTOML)
	if err := a.BreakGlass("restore", glassAsk(), false); err != nil {
		t.Fatal(err)
	}
	if err := a.BreakGlass("restore", glassAsk(), true); !denial.Is(err, denial.NoEvidence) {
		t.Errorf("waived where the rule does not say so: %v", err)
	}
	if _, err := a.Authorize(glassAsk()); err == nil {
		t.Error("a break-glass rule authorizes a request")
	}
	for name, widen := range map[string]func(*Ask){
		"initiator":     func(k *Ask) { k.Initiator = "https://people.example/bob" },
		"host":          func(k *Ask) { k.Host = "spiffe://example/host/b" },
		"gate":          func(k *Ask) { k.Audience = "https://gate.example/build-2" },
		"lifetime":      func(k *Ask) { k.Lifetime++ },
		"uses":          func(k *Ask) { k.Uses = 2 },
		"session":       func(k *Ask) { k.Session = 1 },
		"delegation":    func(k *Ask) { k.Depth = 1 },
		"program":       func(k *Ask) { k.Scope[0].Target = "file:/usr/bin/sh" },
		"operation":     func(k *Ask) { k.Scope[0].Operations = []string{"execute", "net"} },
		"code":          func(k *Ask) { k.Scope[0].Code = []string{digest("x")} },
		"code unpinned": func(k *Ask) { k.Scope[0].Code = nil },
		"arguments":     func(k *Ask) { k.Scope[0].Parameters = digest("x") },
		"any arguments": func(k *Ask) { k.Scope[0].Parameters = "" },
		"variable":      func(k *Ask) { k.Scope[0].Env = []string{"LANG", "STAGE"} },
		"directory":     func(k *Ask) { k.Scope[0].Directory = "/tmp" },
		"another target": func(k *Ask) {
			k.Scope = append(k.Scope, AskScope{Target: "file:/usr/bin/x", Operations: []string{"execute"}})
		},
		"condition": func(k *Ask) { k.InitiatorKind = "agent" },
	} {
		ask := glassAsk()
		widen(&ask)
		if err := a.BreakGlass("restore", ask, false); !denial.Is(err, denial.BreakGlassInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := a.BreakGlass("other", glassAsk(), false); !denial.Is(err, denial.BreakGlassInvalid) {
		t.Errorf("undeclared rule: %v", err)
	}
	if err := mustAuthorization(t, authorizationTOML).BreakGlass("restore", glassAsk(), false); !denial.Is(err, denial.BreakGlassInvalid) {
		t.Errorf("policy without break-glass: %v", err)
	}
	if err := (*Authorization)(nil).BreakGlass("restore", glassAsk(), false); !denial.Is(err, denial.NoActivePolicy) {
		t.Errorf("no policy: %v", err)
	}
}

// P22: attestation can be waived only where the rule says so.
func TestP22_WaiverIsDeclared(t *testing.T) {
	waivable := strings.Replace(glassTOML, `lifetime = "30m"`, "lifetime = \"30m\"\nwaive_attestation = true", 1)
	if err := mustAuthorization(t, authorizationTOML+waivable).BreakGlass("restore", glassAsk(), true); err != nil {
		t.Fatal(err)
	}
	d := mustParse(t, authorizationTOML+waivable)
	if found := Lint(d, d.Expires()-365*24*3600); len(found) != 2 || !strings.Contains(found[1].Message, "waive attestation") {
		t.Errorf("lint: %v", found)
	}
	out, err := d.TOML()
	if err != nil {
		t.Fatal(err)
	}
	if again := mustParse(t, string(out)); again.Hash() != d.Hash() {
		t.Error("rendered and read again, the policy is another one")
	}
	if back, err := Decode(d.Canonical()); err != nil || !bytes.Equal(back.Canonical(), d.Canonical()) {
		t.Error(err)
	}
	d.body.Authorization.Rules[0].Waive = true
	if err := d.body.Authorization.check(); !denial.Is(err, denial.PolicyError) {
		t.Errorf("a rule of its own waives attestation: %v", err)
	}
}

func TestP21_WideBreakGlassRuleIsRefused(t *testing.T) {
	for name, change := range map[string][2]string{
		"two hours":         {`lifetime = "30m"`, `lifetime = "2h"`},
		"every host":        {`host_ids = ["spiffe://example/host/a"]`, ""},
		"a directory":       {"file:/usr/bin/restore", "file:/usr/bin/*"},
		"another operation": {`["execute"]`, `["execute", "net"]`},
		"any code":          {`code = ["c263158fefdd304ee6fb29bf0aa5b8a5301b34f0d58f28ad5b4f473bd2a84e89"]`, ""},
		"any arguments":     {`parameters = ["4ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260"]`, ""},
		"uses":              {`lifetime = "30m"`, "lifetime = \"30m\"\nuses = 2"},
		"no initiator":      {`initiators = ["https://people.example/ada"]`, "initiators = []"},
		"no name":           {`name = "restore"`, `name = ""`},
	} {
		text := authorizationTOML + strings.Replace(glassTOML, change[0], change[1], 1)
		if _, err := ParseTOML([]byte(text)); !denial.Is(err, denial.PolicyError) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseTOML([]byte(authorizationTOML + glassTOML + glassTOML)); !denial.Is(err, denial.PolicyError) {
		t.Error("two rules of one name")
	}
	d := mustParse(t, authorizationTOML+glassTOML)
	for name, spoil := range map[string]func(r *rule){
		"uses": func(r *rule) { r.Uses = 2 }, "depth": func(r *rule) { r.Depth = 1 }, "session": func(r *rule) { r.Session = 1 }, "lifetime": func(r *rule) { r.Lifetime = 3601 },
		"delegators": func(r *rule) { r.Delegators = []string{"a:d"} },
	} {
		r := d.body.Authorization.BreakGlass[0]
		if spoil(&r); r.checkBreakGlass("break_glass x") == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
