package firmwarepolicy

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
)

func TestAskWithinARuleIsGranted(t *testing.T) {
	d := mustParse(t, authorizationTOML)
	a, _ := d.Authorization()
	g, err := a.Authorize(goodAsk())
	if err != nil || *g != (Grant{Policy: d.Hash(), Rule: "deploy", Lifetime: 300, Session: 600, Uses: 2, Depth: 1}) || a.Hash() != d.Hash() {
		t.Fatalf("got %v, %v", g, err)
	}
	list := Ask{Initiator: "https://people.example/ada", InitiatorKind: "human", Host: "spiffe://example/host/b",
		Audience: "https://gate.example/b", Scope: []AskScope{{Target: "tool:mcp/tickets/list", Operations: []string{"read"}}},
		Lifetime: 3600, Uses: 1}
	if g, err = a.Authorize(list); err != nil || g.Rule != "read-only" || g.Lifetime != 3600 || g.Uses != 1 || g.Depth != 0 {
		t.Fatalf("got %v, %v", g, err)
	}
}

// Each row is the good ask with one thing otherwise.
func TestAskIsRefused(t *testing.T) {
	a := mustAuthorization(t, authorizationTOML)
	deploy := []string{"deploy"}
	for _, c := range []struct {
		name   string
		change func(*Ask)
		want   denial.Reason
		tried  []string
	}{
		{"nothing", func(q *Ask) { *q = Ask{} }, denial.InitiatorDenied, nil},
		{"stranger", func(q *Ask) { q.Initiator = "https://people.example/eve" }, denial.InitiatorDenied, nil},
		{"initiator in capitals", func(q *Ask) { q.Initiator = "https://people.example/Bob" }, denial.InitiatorDenied, nil},
		{"delegated", func(q *Ask) { q.Delegators = []string{"https://people.example/ada"} }, denial.DelegationExceeded, deploy},
		{"other gate", func(q *Ask) { q.Audience = "https://gate.example/b" }, denial.AudienceMismatch, deploy},
		{"no gate", func(q *Ask) { q.Audience = "" }, denial.AudienceMismatch, deploy},
		{"other host", func(q *Ask) { q.Host = "spiffe://example/host/b" }, denial.HostMismatch, deploy},
		{"no host", func(q *Ask) { q.Host = "" }, denial.HostMismatch, deploy},
		{"other label", func(q *Ask) { q.Labels["Zone"] = "us" }, denial.HostMismatch, deploy},
		{"label missing", func(q *Ask) { delete(q.Labels, "rack") }, denial.HostMismatch, deploy},
		{"no labels", func(q *Ask) { q.Labels = nil }, denial.HostMismatch, deploy},
		{"no scope", func(q *Ask) { q.Scope = nil }, denial.ScopeDenied, deploy},
		{"no operations", func(q *Ask) { q.Scope[0].Operations = nil }, denial.ScopeDenied, deploy},
		{"other operation", func(q *Ask) { q.Scope[0].Operations = []string{"execute", "write"} }, denial.ScopeDenied, deploy},
		{"unknown operation", func(q *Ask) { q.Scope[0].Operations = []string{""} }, denial.ScopeDenied, deploy},
		{"other program", func(q *Ask) { q.Scope[0].Target = "file:/usr/bin/sh" }, denial.ScopeDenied, deploy},
		{"below an exact target", func(q *Ask) { q.Scope[0].Target = "file:/usr/bin/deploy/x" }, denial.ScopeDenied, deploy},
		{"other digest", func(q *Ask) { q.Scope[0].Code = []string{digest("sh")} }, denial.ScopeDenied, deploy},
		{"one digest more", func(q *Ask) { q.Scope[0].Code = append(q.Scope[0].Code, digest("sh")) }, denial.ScopeDenied, deploy},
		{"no digest", func(q *Ask) { q.Scope[0].Code = nil }, denial.ScopeDenied, deploy},
		{"other parameters", func(q *Ask) { q.Scope[0].Parameters = digest("--force") }, denial.ScopeDenied, deploy},
		{"no parameters", func(q *Ask) { q.Scope[0].Parameters = "" }, denial.ScopeDenied, deploy},
		{"X05 another variable", func(q *Ask) { q.Scope[0].Env = []string{"TAR_OPTIONS"} }, denial.ScopeDenied, deploy},
		{"X05 one variable more", func(q *Ask) { q.Scope[0].Env = []string{"LANG", "TAR_OPTIONS"} }, denial.ScopeDenied, deploy},
		{"X05 a variable in small letters", func(q *Ask) { q.Scope[0].Env = []string{"lang"} }, denial.ScopeDenied, deploy},
		{"X05 a variable without a name", func(q *Ask) { q.Scope[0].Env = []string{""} }, denial.ScopeDenied, deploy},
		{"X05 a variable where the rule has none", func(q *Ask) { q.Scope[1].Env = []string{"LANG"} }, denial.ScopeDenied, deploy},
		{"another directory", func(q *Ask) { q.Scope[0].Directory = "/tmp" }, denial.ScopeDenied, deploy},
		{"below the directory", func(q *Ask) { q.Scope[0].Directory = "/srv/deploy/x" }, denial.ScopeDenied, deploy},
		{"above the directory", func(q *Ask) { q.Scope[0].Directory = "/srv" }, denial.ScopeDenied, deploy},
		{"directory spelt otherwise", func(q *Ask) { q.Scope[0].Directory = "/srv/deploy/" }, denial.ScopeDenied, deploy},
		{"no directory where the rule has one", func(q *Ask) { q.Scope[0].Directory = "" }, denial.ScopeDenied, deploy},
		{"a directory where the rule has none", func(q *Ask) { q.Scope[1].Directory = "/srv/deploy" }, denial.ScopeDenied, deploy},
		{"one scope more", func(q *Ask) { q.Scope = append(q.Scope, AskScope{Target: "oci:x", Operations: []string{"read"}}) }, denial.ScopeDenied, deploy},
		{"operations of two scopes", func(q *Ask) { q.Scope[1].Operations = []string{"execute"} }, denial.ScopeDenied, deploy},
		{"the prefix itself", func(q *Ask) { q.Scope[1].Target = "tool:mcp/tickets" }, denial.ScopeDenied, deploy},
		{"the prefix and a slash", func(q *Ask) { q.Scope[1].Target = "tool:mcp/tickets/" }, denial.ScopeDenied, deploy},
		{"the pattern itself", func(q *Ask) { q.Scope[1].Target = "tool:mcp/tickets/*" }, denial.ScopeDenied, deploy},
		{"beside the prefix", func(q *Ask) { q.Scope[1].Target = "tool:mcp/ticketsx/a" }, denial.ScopeDenied, deploy},
		{"dots", func(q *Ask) { q.Scope[1].Target = "tool:mcp/tickets/../admin" }, denial.ScopeDenied, deploy},
		{"encoded dots", func(q *Ask) { q.Scope[1].Target = "tool:mcp/tickets/%2e%2e/admin" }, denial.ScopeDenied, deploy},
		{"double slash", func(q *Ask) { q.Scope[1].Target = "tool:mcp/tickets//admin" }, denial.ScopeDenied, deploy},
		{"query", func(q *Ask) { q.Scope[1].Target = "tool:mcp/tickets/a?b" }, denial.ScopeDenied, deploy},
		{"line feed", func(q *Ask) { q.Scope[1].Target = "tool:mcp/tickets/a\nb" }, denial.ScopeDenied, deploy},
		{"longer", func(q *Ask) { q.Lifetime = 301 }, denial.LifetimeTooLong, deploy},
		{"no lifetime", func(q *Ask) { q.Lifetime = 0 }, denial.LifetimeTooLong, deploy},
		{"longer session", func(q *Ask) { q.Session = 601 }, denial.LifetimeTooLong, deploy},
		{"a session where the rule has none", func(q *Ask) {
			*q = Ask{Initiator: "https://people.example/ada", InitiatorKind: "human", Host: "spiffe://example/host/b", Audience: "https://gate.example/b",
				Scope: []AskScope{{Target: "tool:mcp/tickets/list", Operations: []string{"read"}}}, Lifetime: 60, Session: 1, Uses: 1}
		}, denial.LifetimeTooLong, []string{"deploy", "read-only"}},
		{"more uses", func(q *Ask) { q.Uses = 3 }, denial.ScopeDenied, deploy},
		{"no uses", func(q *Ask) { q.Uses = 0 }, denial.ScopeDenied, deploy},
		{"deeper", func(q *Ask) { q.Depth = 2 }, denial.DelegationExceeded, deploy},
		{"other condition", func(q *Ask) { q.InitiatorKind = "agent" }, denial.ScopeDenied, deploy},
		{"two rules, the first got furthest", func(q *Ask) { q.Initiator, q.Depth = "https://people.example/ada", 2 },
			denial.DelegationExceeded, []string{"deploy", "read-only"}},
		{"two rules, the second got furthest", func(q *Ask) { q.Initiator, q.Host = "https://people.example/ada", "spiffe://example/host/b" },
			denial.ScopeDenied, []string{"deploy", "read-only"}},
		{"two rules, audience of neither", func(q *Ask) { q.Initiator, q.Audience = "https://people.example/ada", "https://gate.example/c" },
			denial.AudienceMismatch, []string{"deploy", "read-only"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ask := goodAsk()
			c.change(&ask)
			g, err := a.Authorize(ask)
			wantDenial(t, err, c.want)
			d := denial.Of(err)
			if g != nil || !slices.Equal(d.Requirements, c.tried) || d.Stage != denial.StageAuthorization {
				t.Fatalf("got %v, %v at %s, want %v", g, d.Requirements, d.Stage, c.tried)
			}
		})
	}
}

// X21: a rule that names delegators is for what these delegate, all of them, and for nothing else.
func TestX21_DelegatorsAreNamed(t *testing.T) {
	for _, c := range []struct {
		rule string
		by   []string
		want string // part of the refusal, or nothing
	}{
		{`"urn:x:a", "urn:x:b"`, []string{"urn:x:b"}, ""},
		{`"urn:x:a", "urn:x:b"`, []string{"urn:x:a", "urn:x:b"}, ""},
		{`"urn:x:a", "urn:x:b"`, nil, "this initiator without a delegation"},
		{`"urn:x:a", "urn:x:b"`, []string{"urn:x:c"}, "this delegator"},
		{`"urn:x:a", "urn:x:b"`, []string{"urn:x:a", "urn:x:c"}, "this delegator"},
		{`"urn:x:a"`, []string{"urn:x:a"}, ""},
		{`"urn:x:a"`, nil, "this initiator without a delegation"},
		{`"urn:x:a"`, []string{"urn:x:b"}, "this delegator"},
	} {
		a := mustAuthorization(t, strings.Replace(authorizationTOML, "audiences", "delegators = ["+c.rule+"]\naudiences", 1))
		ask := goodAsk()
		ask.Delegators = c.by
		_, err := a.Authorize(ask)
		if c.want == "" && err != nil || c.want != "" && (!denial.Is(err, denial.DelegationExceeded) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("a rule for %s, delegated by %q: got %v, want %q", c.rule, c.by, err, c.want)
		}
	}
}

func TestTargetBelowAPrefixIsAllowedAtAnyDepth(t *testing.T) {
	a := mustAuthorization(t, authorizationTOML)
	for _, target := range []string{"tool:mcp/tickets/close", "tool:mcp/tickets/close/all", "tool:mcp/tickets/..a"} {
		ask := goodAsk()
		ask.Scope[1].Target = target
		if _, err := a.Authorize(ask); err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
}

func TestVariablesAndDirectoryOfTheRuleAreAllowed(t *testing.T) {
	a := mustAuthorization(t, authorizationTOML)
	for name, change := range map[string]func(*Ask){
		"no variable":            func(q *Ask) { q.Scope[0].Env = nil },
		"all variables":          func(q *Ask) { q.Scope[0].Env = []string{"LANG", "STAGE"} },
		"the default, written":   func(q *Ask) { q.Scope[1].Directory = "/" },
		"the default, left away": func(q *Ask) { q.Scope[1].Directory = "" },
	} {
		ask := goodAsk()
		change(&ask)
		before := ask.Scope[1].Directory
		if _, err := a.Authorize(ask); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if ask.Scope[1].Directory != before {
			t.Errorf("%s: the ask was changed", name)
		}
	}
}

func TestConditionSeesVariablesAndDirectory(t *testing.T) {
	for when, holds := range map[string]bool{
		"ask.scope[0].env.all(v, v == 'LANG') && size(ask.scope[0].env) == 1": true,
		"'STAGE' in ask.scope[0].env":                                         false,
		"size(ask.scope[1].env) == 0":                                         true,
		"ask.scope[0].directory == '/srv/deploy'":                             true,
		"ask.scope[1].directory == '/'":                                       true,
		"ask.scope[1].directory == ''":                                        false,
	} {
		_, err := mustAuthorization(t, swap(t, authorizationTOML, "ask.initiator_kind == 'human'", when)).Authorize(goodAsk())
		if holds && err != nil {
			t.Errorf("%s: %v", when, err)
		} else if !holds {
			wantDenial(t, err, denial.ScopeDenied)
		}
	}
}

// Whatever rule and ask are drawn, an ask that is allowed asks for no variable that the rule does not list, and for the
// rule's directory; and an ask that does neither is allowed.
func TestVariablesAndDirectoryAreNeverWidened(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	names, directories := []string{"A", "B", "C", "a"}, []string{"", "/", "/a", "/a/b", "/b"}
	draw := func() (env []string, directory string) {
		for _, n := range names {
			if r.IntN(2) == 0 {
				env = append(env, n)
			}
		}
		return env, directories[r.IntN(len(directories))]
	}
	const good = "env = [\"STAGE\", \"LANG\"]\ndirectory = \"/srv/deploy\"\n"
	allowed := 0
	for range 300 {
		env, directory := draw()
		text := ""
		if env != nil {
			text += "env = ['" + strings.Join(env, "', '") + "']\n"
		}
		if directory != "" {
			text += "directory = '" + directory + "'\n"
		}
		a, ask := mustAuthorization(t, swap(t, authorizationTOML, good, text)), goodAsk()
		ask.Scope[0].Env, ask.Scope[0].Directory = draw()
		within := subset(ask.Scope[0].Env, env) && cmp.Or(ask.Scope[0].Directory, "/") == cmp.Or(directory, "/")
		_, err := a.Authorize(ask)
		if !within {
			wantDenial(t, err, denial.ScopeDenied)
		} else if allowed++; err != nil {
			t.Fatalf("%v within %s: %v", ask.Scope[0], text, err)
		}
	}
	if allowed == 0 {
		t.Fatal("nothing was allowed")
	}
}

// A condition that cannot be evaluated refuses, even where a later rule would allow and an earlier one got as far.
func TestP08ConditionThatCannotBeEvaluatedRefuses(t *testing.T) {
	readOnly := authorizationTOML[strings.LastIndex(authorizationTOML, "[[rule]]"):]
	allowed := goodAsk()
	allowed.Initiator, allowed.Scope = "https://people.example/ada", []AskScope{{Target: "tool:mcp/tickets/list", Operations: []string{"read"}}}
	allowed.Uses, allowed.Depth, allowed.Session = 1, 0, 0
	with := func(text, when string) string { return swap(t, text, "ask.initiator_kind == 'human'", when) }
	if _, err := mustAuthorization(t, with(authorizationTOML, "ask.initiator_kind == 'agent'")).Authorize(allowed); err != nil {
		t.Fatalf("the second rule should allow: %v", err)
	}
	for _, when := range []string{"ask.labels['missing'] == ''", "ask.scope[1].target == '' || ask.host != ''"} {
		_, err := mustAuthorization(t, with(authorizationTOML, when)).Authorize(allowed)
		wantDenial(t, err, denial.PolicyError)
		first := swap(t, readOnly, `name = "read-only"`, "name = \"first\"\nwhen = \"ask.host == ''\"")
		text := with(strings.Replace(authorizationTOML, "[[rule]]", first+"\n[[rule]]", 1), when)
		_, err = mustAuthorization(t, text).Authorize(allowed)
		wantDenial(t, err, denial.PolicyError)
		if got := denial.Of(err).Requirements; !slices.Equal(got, []string{"deploy", "first"}) {
			t.Fatalf("got %v", got)
		}
	}
	over := "ask.scope.all(s, s.target.startsWith('tool:') && 'read' in s.operations && size(s.code) == 0 && s.parameters == '')"
	if g, err := mustAuthorization(t, with(authorizationTOML, over)).Authorize(allowed); err != nil || g.Rule != "deploy" {
		t.Fatalf("got %v, %v", g, err)
	}
}

func FuzzAuthorize(f *testing.F) {
	a := mustAuthorization(f, authorizationTOML)
	f.Add("https://people.example/ada", "https://gate.example/a", "tool:mcp/tickets/list", "read", "", uint64(60), uint64(1))
	f.Add("https://people.example/bob", "https://gate.example/a", "file:/usr/bin/deploy", "execute", digest("deploy 1"), uint64(300), uint64(2))
	f.Fuzz(func(t *testing.T, initiator, audience, target, operation, code string, lifetime, uses uint64) {
		ask := goodAsk()
		ask.Initiator, ask.Audience, ask.Lifetime, ask.Uses, ask.Depth = initiator, audience, lifetime, uses, 0
		ask.Scope = []AskScope{{Target: target, Operations: []string{operation}, Code: []string{code}, Parameters: digest("--production"), Directory: "/srv/deploy"}}
		g, err := a.Authorize(ask)
		if (g != nil) == (err != nil) {
			t.Fatalf("got %v, %v", g, err)
		}
		if err != nil {
			return
		}
		if lifetime == 0 || lifetime > 3600 || uses == 0 || uses > 10 || strings.Contains(target, "/../") {
			t.Fatal("allowed what the policy forbids")
		}
		if operation == "execute" && (target != "file:/usr/bin/deploy" || code != digest("deploy 1") && code != digest("deploy 2")) {
			t.Fatal("allowed code that the policy does not list")
		}
	})
}

func BenchmarkAuthorize(b *testing.B) {
	a, ask := mustAuthorization(b, authorizationTOML), goodAsk()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Authorize(ask); err != nil {
			b.Fatal(err)
		}
	}
}
