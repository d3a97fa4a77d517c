package firmwarepolicy

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/test/softtpm"
)

// P11: each difference is said, in words, once, and nothing is said that is no difference.
func TestP11_DifferencesAreSaidInWords(t *testing.T) {
	single, _, _ := strings.Cut(authorizationTOML, "[[rule]]\nname = \"read-only\"")
	tail := "[[rule]]\nname = \"tail\"\ninitiators = [\"https://people.example/ada\"]\naudiences = [\"https://gate.example/a\"]\nlifetime = \"1m\"\nuses = 1\n" +
		"[[rule.scope]]\ntarget = \"tool:x\"\noperations = [\"read\"]\n"
	for name, row := range map[string]struct {
		text  string
		pairs []string
		want  string
	}{
		"nothing":          {appraisalTOML, nil, ""},
		"sooner over":      {appraisalTOML, []string{"2030-03-17", "2029-03-17"}, "narrows expires: 2029-03-17T17:46:40Z, was 2030-03-17T17:46:40Z"},
		"fresher evidence": {appraisalTOML, []string{`"30s"`, `"20s"`}, "narrows limits.evidence_age: 20s, was 30s"},
		"bound to another": {appraisalTOML, []string{"bind = [4,", "bind = [0,"}, "widens  pcrs.bind: no longer PCR 4\nnarrows pcrs.bind: also PCR 0"},
		"no audit session": {appraisalTOML, []string{"audit = true", "audit = false"}, "widens  an audit session is demanded: false, was true"},
		"another quote":    {appraisalTOML, []string{"quote = [0, 4,", "quote = [0, 1, 4,"}, "widens  pcrs or ima: a difference that cannot be told to narrow"},
		"a requirement new": {appraisalTOML, []string{"expr = \"facts.secure_boot.enabled\"", "expr = \"facts.secure_boot.present\""},
			"widens  requirement \"secure-boot-on\" is gone, or another\nnarrows requirement \"secure-boot-on\" is new"},
		"fewer and more reference values": {appraisalTOML, []string{`"` + digest("uki") + `"`, `"` + digest("iku") + `"`},
			"widens  reference set boot_apps: also " + digest("iku") + "\nnarrows reference set boot_apps: no longer " + digest("uki")},
		"reference values in another order": {appraisalTOML, []string{`"` + digest("uki") + `", "` + digest("kernel") + `"`, `"` + digest("kernel") + `", "` + digest("uki") + `"`}, ""},
		"initiators": {single, []string{`people.example/bob"`, `people.example/eve"`},
			"widens  rule deploy: initiators: also https://people.example/eve\nnarrows rule deploy: initiators: no longer https://people.example/bob"},
		"any host":         {single, []string{`host_ids = ["spiffe://example/host/a"]`, ""}, "widens  rule deploy: host_ids: any, was a list"},
		"a label changed":  {single, []string{`rack = "7"`, `rack = "8"`}, `widens  rule deploy: hosts: no longer rack = "7"`},
		"a label new":      {single, []string{`rack = "7"`, `rack = "7", room = "1"`}, `narrows rule deploy: hosts: only those with room = "1"`},
		"bounds":           {single, []string{`"5m"`, `"1m"`, "uses = 2", "uses = 3", "depth = 1", "depth = 0"}, "widens  rule deploy: uses: 3, was 2\nnarrows rule deploy: lifetime: 1m, was 5m\nnarrows rule deploy: depth: 0, was 1"},
		"no condition":     {single, []string{`when = "ask.initiator_kind == 'human'"`, ""}, "widens  rule deploy: another condition"},
		"a target less":    {single, []string{"[[rule.scope]]\ntarget = \"tool:mcp/tickets/*\"\noperations = [\"read\", \"write\", \"delegate\"]\n", ""}, "narrows rule deploy: no longer tool:mcp/tickets/*"},
		"another target":   {single, []string{"tool:mcp/tickets/*", "tool:mcp/*"}, "widens  rule deploy: also tool:mcp/*\nnarrows rule deploy: no longer tool:mcp/tickets/*"},
		"code and others":  {single, []string{`"` + digest("deploy 1") + `", `, "", `["execute", "read"]`, `["execute"]`, `"STAGE", `, ""}, "narrows rule deploy: file:/usr/bin/deploy: operations: no longer read\nnarrows rule deploy: file:/usr/bin/deploy: code: no longer " + digest("deploy 1") + "\nnarrows rule deploy: file:/usr/bin/deploy: env: no longer STAGE"},
		"another folder":   {single, []string{"/srv/deploy", "/srv"}, "widens  rule deploy: file:/usr/bin/deploy: a difference that cannot be told to narrow"},
		"a rule gone":      {authorizationTOML, []string{authorizationTOML[strings.Index(authorizationTOML, "[[rule]]\nname = \"read-only\""):], ""}, "narrows rule read-only is gone"},
		"a rule new":       {authorizationTOML, []string{"name = \"read-only\"", "name = \"other\""}, "widens  rule other is new\nnarrows rule read-only is gone"},
		"a rule put first": {single, []string{"[[rule]]\nname = \"deploy\"", tail + "\n[[rule]]\nname = \"deploy\""}, "widens  rule tail is new"},
		"a shielding rule": {authorizationTOML, []string{`lifetime = "5m"`, `lifetime = "1m"`}, "widens  rule deploy has a condition, stands before others, and is another"},
		"parameters any":   {single, []string{`parameters = ["` + digest("--production") + `"]`, ""}, "widens  rule deploy: file:/usr/bin/deploy: parameters: any, was a list"},
		"rules swapped": {authorizationTOML, []string{single[strings.Index(single, "[[rule]]"):], "", "operations = [\"read\"]\n", "operations = [\"read\"]\n" + single[strings.Index(single, "[[rule]]"):]},
			"widens  the rules stand in another order, and some have a condition"},
		"break-glass gone":    {authorizationTOML + glassTOML, []string{glassTOML, ""}, "narrows break_glass restore is gone"},
		"break-glass shorter": {authorizationTOML + glassTOML, []string{`"30m"`, `"20m"`}, "narrows break_glass restore: lifetime: 20m, was 30m"},
		"break-glass waives": {authorizationTOML + glassTOML, []string{`"30m"`, "\"30m\"\nwaive_attestation = true"},
			"widens  break_glass restore: attestation may be waived: true, was false"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Diff(mustParse(t, row.text), edited(t, row.text, row.pairs...)).Words(); got != row.want {
				t.Errorf("got\n%s\nwant\n%s", got, row.want)
			}
		})
	}
	free := edited(t, authorizationTOML, `when = "ask.initiator_kind == 'human'"`, "")
	first, second := free.body.Authorization.Rules[0], free.body.Authorization.Rules[1]
	swapped := *free
	swapped.body.Authorization = &authorizationBody{Rules: []rule{second, first}}
	if got := Diff(free, &swapped).Words(); got != "" {
		t.Errorf("rules without conditions in another order: got\n%s", got)
	}
	shorter := edited(t, authorizationTOML, `when = "ask.initiator_kind == 'human'"`, "", `lifetime = "5m"`, `lifetime = "1m"`)
	if got := Diff(free, shorter).Words(); got != "narrows rule deploy: lifetime: 1m, was 5m" {
		t.Errorf("a rule without a condition before others, shorter: got\n%s", got)
	}
	waives := strings.Replace(glassTOML, `"30m"`, "\"30m\"\nwaive_attestation = true", 1)
	for what, c := range map[string]*Change{
		"narrows rule deploy: host_ids: a list, was any":                          Diff(edited(t, single, `host_ids = ["spiffe://example/host/a"]`, ""), mustParse(t, single)),
		"narrows an audit session is demanded: true, was false":                   Diff(edited(t, appraisalTOML, "audit = true", "audit = false"), mustParse(t, appraisalTOML)),
		"narrows break_glass restore: attestation may be waived: false, was true": Diff(mustParse(t, authorizationTOML+waives), mustParse(t, authorizationTOML+glassTOML)),
		"widens  break_glass restore is new":                                      Diff(mustParse(t, authorizationTOML), mustParse(t, authorizationTOML+glassTOML)),
		"widens  there is no policy":                                              Diff(mustParse(t, authorizationTOML), nil),
		"widens  it is the first authorization policy":                            Diff(nil, mustParse(t, authorizationTOML)),
		"widens  it is another policy":                                            Diff(mustParse(t, appraisalTOML), mustParse(t, authorizationTOML)),
		"narrows rule deploy: file:/usr/bin/deploy: parameters: a list, was any":  Diff(edited(t, single, `parameters = ["`+digest("--production")+`"]`, ""), mustParse(t, single)),
		"": {},
	} {
		if got := c.Words(); got != what {
			t.Errorf("got\n%s\nwant\n%s", got, what)
		}
	}
}

// P11: a set that IMA uses, or that one of two policies uses for more than membership, widens whatever is in it.
func TestP11_SetsOfIMAAreNotCompared(t *testing.T) {
	other := `"sha256:` + digest("other agent") + `"`
	old := mustParse(t, imaTOML)
	for name, c := range map[string]*Change{
		"in both":       Diff(old, edited(t, imaTOML, `"sha256:`+digest("agent")+`"`, other)),
		"in the new":    Diff(edited(t, imaTOML, `known = ["scripts", "files"]`, `known = ["scripts"]`), edited(t, imaTOML, `"sha256:`+digest("agent")+`"`, other)),
		"in the old":    Diff(old, edited(t, imaTOML, `"sha256:`+digest("agent")+`"`, other, `known = ["scripts", "files"]`, `known = ["scripts"]`)),
		"fewer in both": Diff(old, edited(t, imaTOML, `"sha256:`+digest("agent")+`", `, "")),
	} {
		if !strings.Contains(c.Words(), "widens  reference set files is another, and is used for more than what must be in it") {
			t.Errorf("%s: got\n%s", name, c.Words())
		}
		if strings.Contains(c.Words(), "no longer") {
			t.Errorf("%s: the set is compared as well:\n%s", name, c.Words())
		}
	}
	with := func(expr, set string) *Document {
		return mustParse(t, strings.Replace(strings.Replace(appraisalTOML, "[reference]\n", "[reference]\ns = ["+set+"]\n", 1),
			"[[require]]", "[[require]]\nname = \"s\"\nexpr = \""+expr+"\"\n\n[[require]]", 1))
	}
	const in, notIn = "facts.pcr[0] in ref.s", "!(facts.pcr[0] in ref.s)"
	const another = "widens  requirement \"s\" is gone, or another\nwidens  reference set s is another, and is used for more than what must be in it\nnarrows requirement \"s\" is new"
	for name, c := range map[string]*Change{
		"forbids in the old": Diff(with(notIn, `"a", "b"`), with(in, `"a"`)),
		"forbids in the new": Diff(with(in, `"a", "b"`), with(notIn, `"a"`)),
	} {
		if got := c.Words(); got != another {
			t.Errorf("%s: got\n%s", name, got)
		}
	}
	if got := Diff(mustParse(t, appraisalTOML), with(notIn, `"a"`)).Words(); got != `narrows requirement "s" is new` {
		t.Errorf("a new set that forbids: got\n%s", got)
	}
	new := with(in, `"a"`)
	if got := Diff(mustParse(t, strings.Replace(appraisalTOML, "[reference]\n", "[reference]\ns = [\"b\"]\n", 1)), new).Words(); got != `narrows requirement "s" is new` {
		t.Errorf("a set that nobody looked at: got\n%s", got)
	}
}

func TestP11_AnchorsAreSaidInWords(t *testing.T) {
	softtpmVendor, b := anchored(t)
	old, err := newDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	later := *b.Anchors
	later.Roots, later.Path = append([][]byte{softtpm.NewVendor(t).Root.Raw}, b.Anchors.Roots...), nil
	later.Lists = [][]byte{softtpmVendor.Revoke(t, 2*time.Hour, big.NewInt(6)).Raw}
	later.Withdrawn = nil
	later.Firmware = []attest.FirmwareRange{b.Anchors.Firmware[0], {Manufacturer: "494E5443", Model: "x", From: 1, To: 2, Why: "y"}}
	b.Anchors, b.Version = &later, 2
	new, err := newDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	const want = "widens  roots: 1 more\nwidens  lists: 1 fewer\nwidens  withdrawn: 1 fewer\nnarrows path: 1 fewer\nnarrows lists: 1 more\nnarrows firmware of 494E5443 x is refused"
	if got := Diff(old, new).Words(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	back := Diff(new, old).Words()
	if !strings.Contains(back, "widens  firmware of 494E5443 x is no longer refused") || strings.Contains(back, "is refused") {
		t.Errorf("got\n%s", back)
	}
	required := later
	required.ListsRequired = true
	b.Anchors = &required
	strict, err := newDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := Diff(new, strict).Words(); got != "narrows lists_required: true, was false" {
		t.Errorf("got\n%s", got)
	}
	fewer := required
	fewer.Lists = nil
	b.Anchors = &fewer
	without, err := newDocument(b)
	if err != nil {
		t.Fatal(err)
	}
	if got := Diff(strict, without).Words(); got != "widens  lists: others, and they are required" {
		t.Errorf("got\n%s", got)
	}
	if got := Diff(without, new).Words(); got != "widens  lists: others, and they are required\nwidens  lists_required: false, was true" {
		t.Errorf("got\n%s", got)
	}
}
