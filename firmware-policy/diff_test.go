package firmwarepolicy

import (
	"strings"
	"testing"
)

// edited returns the policy with the first occurrence of each old text replaced.
func edited(t *testing.T, text string, pairs ...string) *Document {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%q is not in the policy", pairs[i])
		}
		text = strings.Replace(text, pairs[i], pairs[i+1], 1)
	}
	return mustParse(t, text)
}

// P11: what is not proved to narrow widens.
func TestP11_WideningIsTold(t *testing.T) {
	two := `["` + digest("uki") + `", "` + digest("kernel") + `"]`
	one := `["` + digest("kernel") + `"]`
	single, second, _ := strings.Cut(authorizationTOML, "[[rule]]\nname = \"read-only\"")
	second = "name = \"read-only\"" + second
	delegated := strings.Replace(single, "audiences", "delegators = [\"urn:x:a\", \"urn:x:b\"]\naudiences", 1)
	gone := func(from, to string) string {
		_, rest, _ := strings.Cut(appraisalTOML, from)
		body, _, _ := strings.Cut(rest, to)
		return from + body
	}
	for name, row := range map[string]struct {
		text   string
		pairs  []string
		widens bool
	}{
		"nothing":                          {appraisalTOML, nil, false},
		"another version":                  {appraisalTOML, []string{"version = 3", "version = 9"}, false},
		"sooner over":                      {appraisalTOML, []string{"2030-03-17", "2029-03-17"}, false},
		"later over":                       {appraisalTOML, []string{"2030-03-17", "2031-03-17"}, true},
		"another id":                       {appraisalTOML, []string{"policy/hosts", "policy/others"}, true},
		"fresher evidence":                 {appraisalTOML, []string{`"30s"`, `"20s"`}, false},
		"older evidence":                   {appraisalTOML, []string{`"30s"`, `"40s"`}, true},
		"bound to more":                    {appraisalTOML, []string{"bind = [4,", "bind = [0, 4,"}, false},
		"bound to less":                    {appraisalTOML, []string{"bind = [4,", "bind = ["}, true},
		"no audit session":                 {appraisalTOML, []string{"audit = true", "audit = false"}, true},
		"another quote":                    {appraisalTOML, []string{"quote = [0, 4,", "quote = [0, 1, 4,"}, true},
		"a requirement more":               {appraisalTOML, []string{"[[require]]\nname = \"zone\"", "[[require]]\nname = \"x\"\nexpr = \"facts.pcr[0] in ref.pcr4\"\n\n[[require]]\nname = \"zone\""}, false},
		"a requirement less":               {appraisalTOML, []string{gone("[[require]]\nname = \"db\"", "[[require]]\nname = \"boot-programs\""), ""}, true},
		"a weaker requirement":             {appraisalTOML, []string{"!facts.platform.debug && ", ""}, true},
		"a requirement by another name":    {appraisalTOML, []string{`name = "zone"`, `name = "region"`}, false},
		"fewer reference values":           {appraisalTOML, []string{two, one}, false},
		"more reference values":            {appraisalTOML, []string{two, two[:len(two)-1] + `, "` + digest("other") + `"]`}, true},
		"other reference values":           {appraisalTOML, []string{`"` + digest("uki") + `"`, `"` + digest("iku") + `"`}, true},
		"another set that nobody looks at": {appraisalTOML, []string{"[reference]\n", "[reference]\nfree = [\"a\"]\n"}, false},

		"a rule of another name":         {single, []string{`name = "deploy"`, `name = "other"`}, true},
		"a rule more":                    {single, []string{"\n[[rule]]", "\n[[rule]]\n" + second + "\n[[rule]]"}, true},
		"a rule less, the last":          {authorizationTOML, []string{"[[rule]]\n" + second, ""}, false},
		"a rule less, which shields":     {authorizationTOML, []string{strings.TrimPrefix(single, single[:strings.Index(single, "[[rule]]")]), ""}, true},
		"a shielding rule narrower":      {authorizationTOML, []string{`lifetime = "5m"`, `lifetime = "1m"`}, true},
		"rules in another order":         {authorizationTOML, []string{single[strings.Index(single, "[[rule]]"):], "", "operations = [\"read\"]\n", "operations = [\"read\"]\n" + single[strings.Index(single, "[[rule]]"):]}, true},
		"shorter":                        {single, []string{`lifetime = "5m"`, `lifetime = "1m"`}, false},
		"longer":                         {single, []string{`lifetime = "5m"`, `lifetime = "6m"`}, true},
		"fewer uses":                     {single, []string{"uses = 2", "uses = 1"}, false},
		"a shorter session":              {single, []string{`session = "10m"`, `session = "9m"`}, false},
		"a longer session":               {single, []string{`session = "10m"`, `session = "11m"`}, true},
		"no session":                     {single, []string{`session = "10m"`, ``}, false},
		"more uses":                      {single, []string{"uses = 2", "uses = 3"}, true},
		"not delegated":                  {single, []string{"depth = 1", "depth = 0"}, false},
		"delegated further":              {single, []string{"depth = 1", "depth = 2"}, true},
		"what one delegates alone":       {single, []string{"audiences", "delegators = [\"urn:x:a\"]\naudiences"}, true},
		"what nobody delegates alone":    {delegated, []string{"delegators = [\"urn:x:a\", \"urn:x:b\"]\n", ""}, true},
		"what nobody delegates, not one": {strings.Replace(delegated, ", \"urn:x:b\"", "", 1), []string{"delegators = [\"urn:x:a\"]\n", ""}, true},
		"a delegator less":               {delegated, []string{`, "urn:x:b"`, ""}, false},
		"a delegator more":               {delegated, []string{`"urn:x:b"`, `"urn:x:b", "urn:x:c"`}, true},
		"an initiator less":              {single, []string{`, "https://people.example/bob"`, ""}, false},
		"an initiator more":              {single, []string{`people.example/bob"`, `people.example/bob", "https://people.example/eve"`}, true},
		"another gate":                   {single, []string{"gate.example/a", "gate.example/b"}, true},
		"a label more":                   {single, []string{`rack = "7"`, `rack = "7", room = "1"`}, false},
		"a label less":                   {single, []string{`, rack = "7"`, ""}, true},
		"another label":                  {single, []string{`rack = "7"`, `rack = "8"`}, true},
		"any host":                       {single, []string{`host_ids = ["spiffe://example/host/a"]`, ""}, true},
		"no condition":                   {single, []string{`when = "ask.initiator_kind == 'human'"`, ""}, true},
		"another condition":              {single, []string{"== 'human'", "!= 'human'"}, true},
		"a condition more, in the last":  {authorizationTOML, []string{"uses = 10", "uses = 10\nwhen = \"ask.uses == 1u\""}, false},
		"an operation less":              {single, []string{`["execute", "read"]`, `["execute"]`}, false},
		"an operation more":              {single, []string{`["execute", "read"]`, `["execute", "read", "spawn"]`}, true},
		"code less":                      {single, []string{`"` + digest("deploy 1") + `", `, ""}, false},
		"code more":                      {single, []string{`code = ["`, `code = ["` + digest("deploy 3") + `", "`}, true},
		"parameters free":                {single, []string{`parameters = ["` + digest("--production") + `"]`, ""}, true},
		"a variable less":                {single, []string{`["STAGE", "LANG"]`, `["STAGE"]`}, false},
		"a variable more":                {single, []string{`["STAGE", "LANG"]`, `["STAGE", "LANG", "TERM"]`}, true},
		"another directory":              {single, []string{"/srv/deploy", "/srv"}, true},
		"a target less":                  {single, []string{"[[rule.scope]]\ntarget = \"tool:mcp/tickets/*\"\noperations = [\"read\", \"write\", \"delegate\"]\n", ""}, false},
		"a target that is wider":         {single, []string{"tool:mcp/tickets/*", "tool:mcp/*"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			c := Diff(mustParse(t, row.text), edited(t, row.text, row.pairs...))
			if c.Widens() != row.widens {
				t.Errorf("widens %v, want %v:\n%s", c.Widens(), row.widens, c.Words())
			}
			if (c.Why() != "") != row.widens {
				t.Errorf("the reason is %q", c.Why())
			}
		})
	}
	if !Diff(nil, mustParse(t, appraisalTOML)).Widens() || !Diff(mustParse(t, appraisalTOML), nil).Widens() || !Diff(mustParse(t, appraisalTOML), mustParse(t, authorizationTOML)).Widens() || !(*Change)(nil).Widens() {
		t.Error("the first policy, none, one of another kind or no comparison narrows")
	}
}

// P11: a set that is used otherwise than for membership can permit more when there is less in it.
func TestP11_SetsThatForbidAreNotNarrowedByHavingLess(t *testing.T) {
	for expr, other := range map[string]bool{
		"facts.pcr[0] in ref.s": false,
		"facts.secure_boot.enabled && (facts.pcr[0] in ref.s || false)":   false,
		"facts.boot_apps.all(a, a.digest in ref.s)":                       false,
		"facts.boot_apps.exists(a, a.digest in ref.s)":                    false,
		"!(facts.pcr[0] in ref.s)":                                        true,
		"(facts.pcr[0] in ref.s) == false":                                true,
		"size(ref.s) == 1 && facts.secure_boot.enabled":                   true,
		"!facts.boot_apps.all(a, a.digest in ref.s)":                      true,
		"facts.boot_apps.exists_one(a, a.digest in ref.s)":                true,
		"size(facts.boot_apps.filter(a, a.digest in ref.s)) == 0":         true,
		"facts.pcr[0] in ref.s ? facts.secure_boot.enabled : true":        true,
		"ref.s.all(x, x != facts.pcr[0])":                                 true,
		"facts.pcr[0] in ref.s && !(facts.pcr[4] in ref.s)":               true,
		"ref.s in [[facts.pcr[0]]] || facts.secure_boot.enabled":          true,
		"facts.secure_boot.enabled != (facts.pcr[0] in ref.s)":            true,
		"facts.boot_apps.map(a, a.digest in ref.s).all(b, b)":             true,
		"ref.s == [facts.pcr[0]] || facts.secure_boot.enabled":            true,
		"[facts.pcr[0]].all(x, [x].exists(y, y in ref.s) && x in ref.s)":  false,
		"[facts.pcr[0]].all(x, [x].exists(y, !(y in ref.s)) && x != 'a')": true,
	} {
		text := func(set string) string {
			return strings.Replace(strings.Replace(appraisalTOML, "[reference]\n", "[reference]\ns = ["+set+"]\n", 1),
				"[[require]]", "[[require]]\nname = \"s\"\nexpr = \""+expr+"\"\n\n[[require]]", 1)
		}
		c := Diff(mustParse(t, text(`"a", "b"`)), mustParse(t, text(`"a"`)))
		if c.Widens() != other {
			t.Errorf("%s: widens %v, want %v", expr, c.Widens(), other)
		}
		if !Diff(mustParse(t, text(`"a"`)), mustParse(t, text(`"a", "b"`))).Widens() {
			t.Errorf("%s: more in the set does not widen", expr)
		}
	}
}

func TestP11_AnchorsWidenWithMoreRoots(t *testing.T) {
	for name, row := range map[string]struct {
		edit   func(old, new *anchorsBody)
		widens bool
	}{
		"nothing":                  {func(_, _ *anchorsBody) {}, false},
		"a root less":              {func(_, n *anchorsBody) { n.Roots = nil }, false},
		"a root more":              {func(o, _ *anchorsBody) { o.Roots = nil }, true},
		"a step less":              {func(_, n *anchorsBody) { n.Path = nil }, false},
		"a step more":              {func(o, _ *anchorsBody) { o.Path = nil }, true},
		"a list more":              {func(o, n *anchorsBody) { o.Lists, o.ListsRequired, n.ListsRequired = nil, false, false }, false},
		"a list less":              {func(o, n *anchorsBody) { n.Lists, o.ListsRequired, n.ListsRequired = nil, false, false }, true},
		"a list more, if required": {func(o, n *anchorsBody) { o.Lists, o.ListsRequired, n.ListsRequired = nil, true, true }, true},
		"lists required":           {func(o, n *anchorsBody) { o.Lists, n.Lists, o.ListsRequired, n.ListsRequired = nil, nil, false, true }, false},
		"lists not required":       {func(o, n *anchorsBody) { o.ListsRequired, n.ListsRequired = true, false }, true},
		"a root withdrawn":         {func(o, _ *anchorsBody) { o.Withdrawn = nil }, false},
		"a root back":              {func(_, n *anchorsBody) { n.Withdrawn = nil }, true},
		"firmware refused":         {func(o, _ *anchorsBody) { o.Firmware = nil }, false},
		"firmware let in":          {func(_, n *anchorsBody) { n.Firmware = nil }, true},
	} {
		_, old := anchored(t)
		o, n := *old.Anchors, *old.Anchors
		row.edit(&o, &n)
		c := &Change{}
		c.anchors(&o, &n)
		if c.Widens() != row.widens {
			t.Errorf("%s: widens %v, want %v:\n%s", name, c.Widens(), row.widens, c.Words())
		}
	}
}
