package firmwarepolicy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// The tests of this file stand at the edges of rules, where mutation testing found that no other test stood.

func TestWordsAtTheirLimits(t *testing.T) {
	t.Parallel()
	name := func(s string) bool { return checkName("rule", s) == nil }
	set := func(s string) bool { return checkSetName(s) == nil }
	variable := func(s string) bool { return checkVariables("env", []string{s}) == nil }
	digestOf := func(s string) bool { return checkDigests("code", []string{s}) == nil }
	a := func(n int) string { return strings.Repeat("a", n) }
	for _, r := range []struct {
		rule string
		ok   func(string) bool
		good []string
		bad  []string
	}{
		{"name", name, []string{"a", "0", "a-", a(64)}, []string{"", "-a", "A", a(65)}},
		{"set", set, []string{"a", "z0", "a_", a(64)}, []string{"", "0a", "_a", "a-b", a(65)}},
		{"variable", variable, []string{"A", "_", "a0", "A9", a(maxVariable)}, []string{"", "0A", "9A", "5A", "A-", a(maxVariable + 1)}},
		{"digest", digestOf, []string{a(64)}, []string{"", a(63), a(65), strings.Repeat("A", 64)}},
		{"directory", cleanDirectory, []string{"/", "/" + a(maxDirPath-1)}, []string{"", "a", "/a/", "/a/../b", "/a\x00", "/" + a(maxDirPath)}},
		{"URI", absolute, []string{"a:b", "a:" + a(maxURI-2)}, []string{"", "a", "a:" + a(maxURI-1), "%:b"}},
		{"shouted", shouted, []string{strings.Repeat("A", 40), strings.Repeat("A", 64), strings.Repeat("A", 96), strings.Repeat("A", 128)},
			[]string{a(64), strings.Repeat("A", 63), strings.Repeat("G", 64), strings.Repeat("A", 41), strings.Repeat("A", 97), strings.Repeat("A", 129)}},
		{"path", plainPath, []string{"file:///a/b", "tool:a", "file:/a!b", "file:///a\"b", "file:///a/...", "tool:"},
			[]string{"file:///a/./b", "file:///a/../b", "file:///a//b", "file:///a b", "file:///a\x7fb", "file:///a\x1f", "file:///a/", "tool:a%20", "a:./b", "tool:a//b", "tool:/"}},
	} {
		for _, s := range r.good {
			if !r.ok(s) {
				t.Errorf("%s: %q is refused", r.rule, s)
			}
		}
		for _, s := range r.bad {
			if r.ok(s) {
				t.Errorf("%s: %q is accepted", r.rule, s)
			}
		}
	}
	many := make([]string, maxListItems+1)
	for i := range many {
		many[i] = fmt.Sprint(i)
	}
	if checkList("list", many[:maxListItems]) != nil || checkList("list", many) == nil {
		t.Error("a list has up to maxListItems entries")
	}
	if checkDigests("code", []string{a(64), a(64)}) == nil || checkURIs("uris", []string{"a:b", "a:b"}) == nil || checkURIs("uris", nil) == nil {
		t.Error("a list names something twice, or nothing")
	}
}

func TestLabelsAtTheirLimits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("l", maxLabel)
	labels := func(n int) map[string]string {
		m := map[string]string{}
		for i := range n {
			m[fmt.Sprint(i)] = "v"
		}
		return m
	}
	for _, good := range []map[string]string{nil, {long: "v"}, {"k": long}, labels(maxLabels)} {
		if err := checkLabels("rule", good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []map[string]string{{"": "v"}, {"k": ""}, {long + "l": "v"}, {"k": long + "l"}, labels(maxLabels + 1)} {
		if checkLabels("rule", bad) == nil {
			t.Errorf("%d labels, of which one is wrong, are accepted", len(bad))
		}
	}
}

func goodRule() rule {
	return rule{Name: "r", Initiators: []string{"a:b"}, Audiences: []string{"a:c"}, Lifetime: 1, Uses: 1,
		Scope: []scope{{Target: "tool:x", Operations: []string{"read"}}}}
}

func TestRulesAtTheirLimits(t *testing.T) {
	t.Parallel()
	scopes := func(n int) (list []scope) {
		for i := range n {
			list = append(list, scope{Target: fmt.Sprintf("tool:%d", i), Operations: []string{"read"}})
		}
		return list
	}
	for name, r := range map[string]struct {
		edit func(*rule)
		good bool
	}{
		"least":            {func(*rule) {}, true},
		"no lifetime":      {func(r *rule) { r.Lifetime = 0 }, false},
		"longest lifetime": {func(r *rule) { r.Lifetime = maxLifetime }, true},
		"longer lifetime":  {func(r *rule) { r.Lifetime = maxLifetime + 1 }, false},
		"no uses":          {func(r *rule) { r.Uses = 0 }, false},
		"most uses":        {func(r *rule) { r.Uses = maxUses }, true},
		"more uses":        {func(r *rule) { r.Uses = maxUses + 1 }, false},
		"longest session":  {func(r *rule) { r.Session = maxLifetime }, true},
		"longer session":   {func(r *rule) { r.Session = maxLifetime + 1 }, false},
		"a delegator":      {func(r *rule) { r.Delegators = []string{"a:d"} }, true},
		"nothing but delegators": {func(r *rule) {
			*r = rule{Name: "r", Initiators: r.Initiators, Audiences: r.Audiences, Delegators: []string{"a:d"}}
		}, false},
		"delegator is no URI":   {func(r *rule) { r.Delegators = []string{"d"} }, false},
		"one of two is no URI":  {func(r *rule) { r.Delegators = []string{"a:d", "d"} }, false},
		"deepest":               {func(r *rule) { r.Depth = maxDepth }, true},
		"deeper":                {func(r *rule) { r.Depth = maxDepth + 1 }, false},
		"most scopes":           {func(r *rule) { r.Scope = scopes(maxScopes) }, true},
		"more scopes":           {func(r *rule) { r.Scope = scopes(maxScopes + 1) }, false},
		"no scope":              {func(r *rule) { r.Scope = nil }, false},
		"host that is no URI":   {func(r *rule) { r.HostIDs = []string{"host"} }, false},
		"an executed tool":      {func(r *rule) { r.Scope[0].Operations = []string{"execute"} }, true},
		"a file that is read":   {func(r *rule) { r.Scope[0].Target = "file:///etc/motd" }, true},
		"an executed bare file": {func(r *rule) { r.Scope[0] = scope{Target: "FILE:///bin/x", Operations: []string{"execute"}} }, false},
	} {
		c := goodRule()
		r.edit(&c)
		if err := c.check("rule"); (err == nil) != r.good {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestContentFitsKind(t *testing.T) {
	t.Parallel()
	good := func() body {
		return body{Schema: Schema, Kind: KindAuthorization, ID: "a:b", Version: 1, Expires: 1, Authorization: &authorizationBody{Rules: []rule{goodRule()}}}
	}
	for name, r := range map[string]struct {
		edit func(*body)
		good bool
	}{
		"authorization":       {func(*body) {}, true},
		"another content":     {func(b *body) { b.Appraisal = &appraisalBody{} }, false},
		"no content":          {func(b *body) { b.Authorization = nil }, false},
		"content of another":  {func(b *body) { b.Authorization, b.Appraisal = nil, &appraisalBody{} }, false},
		"the highest version": {func(b *body) { b.Version = 1 << 53 }, true},
		"a higher version":    {func(b *body) { b.Version = 1<<53 + 1 }, false},
		"version 0":           {func(b *body) { b.Version = 0 }, false},
		"the last second":     {func(b *body) { b.Expires = maxExpires }, true},
		"a second later":      {func(b *body) { b.Expires = maxExpires + 1 }, false},
		"no expiry":           {func(b *body) { b.Expires = 0 }, false},
	} {
		b := good()
		r.edit(&b)
		if err := b.check(); (err == nil) != r.good {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if (*appraisalBody)(nil).check() == nil {
		t.Error("no appraisal policy passes its check")
	}
}

// TestOrderDoesNotMatter: every list whose order means nothing is brought into one order.
func TestOrderDoesNotMatter(t *testing.T) {
	t.Parallel()
	r := goodRule()
	down := []string{"b:b", "a:a"}
	r.Initiators, r.Audiences, r.HostIDs, r.Delegators, r.When = slices.Clone(down), slices.Clone(down), slices.Clone(down), slices.Clone(down), " true "
	r.Scope[0] = scope{Target: "tool:x", Operations: []string{"write", "read"}, Code: slices.Clone(down), Parameters: slices.Clone(down), Env: slices.Clone(down)}
	b := body{Authorization: &authorizationBody{Rules: []rule{r}}, Appraisal: &appraisalBody{Quote: []int64{7, 4}, Bind: []int64{7, 4}}}
	b.normalise()
	r = b.Authorization.Rules[0]
	for name, list := range map[string][]string{"initiators": r.Initiators, "audiences": r.Audiences, "hosts": r.HostIDs, "delegators": r.Delegators, "code": r.Scope[0].Code,
		"parameters": r.Scope[0].Parameters, "env": r.Scope[0].Env, "operations": r.Scope[0].Operations} {
		if !slices.IsSorted(list) {
			t.Errorf("%s are not sorted: %q", name, list)
		}
	}
	if !slices.IsSorted(b.Appraisal.Quote) || !slices.IsSorted(b.Appraisal.Bind) || r.When != "true" || b.Appraisal.Reference == nil {
		t.Errorf("got %+v and %+v", b.Appraisal, r)
	}
}

func TestTimesForPeople(t *testing.T) {
	t.Parallel()
	for s, want := range map[uint64]string{1: "1s", 59: "59s", 60: "1m", 61: "61s", 122: "122s", 3600: "1h", 3660: "61m", 7200: "2h"} {
		if got := span(s); got != want {
			t.Errorf("%d: got %s, want %s", s, got, want)
		}
	}
	for text, want := range map[string]uint64{"1s": 1, "5m": 300, "": 0, "0s": 0, "-1s": 0, "1500ms": 0, "5": 0} {
		got, err := seconds("limit", text)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%q: got %d, %v, want %d", text, got, err, want)
		}
	}
	at := func(s int64) any { return time.Unix(s, 0).UTC() }
	for _, c := range []struct {
		v    any
		want uint64
	}{{at(1), 1}, {at(2_000_000_000), 2_000_000_000}, {at(0), 0}, {at(-1), 0}, {time.Unix(5, 1), 0}, {"5", 0}, {nil, 0}} {
		if got := expiry(c.v); got != c.want {
			t.Errorf("%v: got %d, want %d", c.v, got, c.want)
		}
	}
	for _, bad := range []any{1.5, true, "NO_SUCH_CODE", int64(1)} {
		if _, err := reason(bad); err == nil {
			t.Errorf("%v is a reason", bad)
		}
	}
}
