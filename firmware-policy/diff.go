package firmwarepolicy

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// Difference is one way in which a policy differs from the one before it.
type Difference struct {
	What   string `json:"what"`
	Widens bool   `json:"widens"` // it is not proved that it permits no more
}

// Change is what a policy changes of the one before it.
type Change struct {
	Differences []Difference `json:"differences"`
}

// Widens reports whether the change could permit something that was refused. Only what provably narrows does not.
func (c *Change) Widens() bool {
	return c == nil || slices.ContainsFunc(c.Differences, func(d Difference) bool { return d.Widens })
}

// Why names the first difference that widens.
func (c *Change) Why() string {
	for _, d := range c.Differences {
		if d.Widens {
			return d.What
		}
	}
	return ""
}

func (c *Change) add(widens bool, format string, args ...any) {
	c.Differences = append(c.Differences, Difference{fmt.Sprintf(format, args...), widens})
}

// Diff says what a policy changes of the one that is in force, which is nil where there is none. It follows from the two alone.
//
// A difference narrows only if whatever the new policy permits, the old one did: a requirement more; fewer entries of a
// reference set that is used for nothing but membership, so that more of it can only permit more; a shorter life or age; a rule
// or a scope less, or one with fewer names, digests, uses; a TPM vendor's root less. All else widens, and so does whatever this
// version does not know how to compare.
func Diff(old, new *Document) *Change {
	c := &Change{Differences: []Difference{}}
	switch {
	case new == nil:
		c.add(true, "there is no policy")
		return c
	case old == nil:
		c.add(true, "it is the first %s policy", new.Kind())
		return c
	case old.Kind() != new.Kind() || old.ID() != new.ID() || old.body.Schema != new.body.Schema:
		c.add(true, "it is another policy")
		return c
	}
	c.less("expires", old.Expires(), new.Expires(), func(n uint64) string { return instant(n) })
	switch new.Kind() {
	case KindAppraisal:
		c.appraisal(old, new)
	case KindAuthorization:
		c.authorization(old.body.Authorization, new.body.Authorization)
	case KindAnchors:
		c.anchors(old.body.Anchors, new.body.Anchors)
	default:
		c.add(true, "it is of a kind that is not compared")
	}
	return c
}

// less compares a bound: less narrows.
func (c *Change) less(what string, old, new uint64, words func(uint64) string) {
	if old != new {
		c.add(new > old, "%s: %s, was %s", what, words(new), words(old))
	}
}

func count(n uint64) string { return fmt.Sprint(n) }

// fewer compares a list of what is permitted: an element less narrows.
func (c *Change) fewer(what string, old, new []string) {
	for _, s := range old {
		if !slices.Contains(new, s) {
			c.add(false, "%s: no longer %s", what, s)
		}
	}
	for _, s := range new {
		if !slices.Contains(old, s) {
			c.add(true, "%s: also %s", what, s)
		}
	}
}

// fewerOrAny is fewer where an empty list permits everything.
func (c *Change) fewerOrAny(what string, old, new []string) {
	switch {
	case len(old) > 0 && len(new) == 0:
		c.add(true, "%s: any, was a list", what)
	case len(old) == 0 && len(new) > 0:
		c.add(false, "%s: a list, was any", what)
	default:
		c.fewer(what, old, new)
	}
}

// rest widens if something differs that has not been compared. Both are structs; it is given the old one with each field that was
// compared set to that of the new one.
func (c *Change) rest(what string, old, new any) {
	if !reflect.DeepEqual(old, new) {
		c.add(true, "%s: a difference that cannot be told to narrow", what)
	}
}

func (c *Change) appraisal(oldDoc, newDoc *Document) {
	old, new := *oldDoc.body.Appraisal, newDoc.body.Appraisal
	for _, n := range old.Bind {
		if !slices.Contains(new.Bind, n) {
			c.add(true, "pcrs.bind: no longer PCR %d", n)
		}
	}
	for _, n := range new.Bind {
		if !slices.Contains(old.Bind, n) {
			c.add(false, "pcrs.bind: also PCR %d", n)
		}
	}
	c.less("limits.evidence_age", old.EvidenceAge, new.EvidenceAge, span)
	if old.Audit != new.Audit {
		c.add(old.Audit, "an audit session is demanded: %v, was %v", new.Audit, old.Audit)
	}
	for _, r := range old.Require {
		if !slices.ContainsFunc(new.Require, func(n requirement) bool { return n.Expr == r.Expr }) {
			c.add(true, "requirement %q is gone, or another", r.Name)
		}
	}
	for _, r := range new.Require {
		if !slices.ContainsFunc(old.Require, func(o requirement) bool { return o.Expr == r.Expr }) {
			c.add(false, "requirement %q is new", r.Name)
		}
	}
	c.references(oldDoc.appraisal, newDoc.appraisal)
	old.Bind, old.EvidenceAge, old.Audit, old.Require, old.Reference = new.Bind, new.EvidenceAge, new.Audit, new.Require, new.Reference
	c.rest("pcrs or ima", old, *new)
}

// references compares the sets that both policies have. One that only one of them has is looked at by expressions of that one
// only, and those are compared as requirements.
func (c *Change) references(old, new *Appraisal) {
	for _, name := range sortedKeys(new.body.Reference) {
		was, is := old.body.Reference[name], new.body.Reference[name]
		if was == nil || slices.Equal(slices.Sorted(slices.Values(was)), slices.Sorted(slices.Values(is))) {
			continue
		}
		if old.uses.other["ref."+name] || new.uses.other["ref."+name] || old.body.IMA.names(name) || new.body.IMA.names(name) {
			c.add(true, "reference set %s is another, and is used for more than what must be in it", name)
			continue
		}
		if old.uses.paths["ref."+name] { // or else no requirement of before looks at it
			c.fewer("reference set "+name, was, is)
		}
	}
}

func (c *Change) authorization(old, new *authorizationBody) {
	c.rules("rule", old.Rules, new.Rules)
	c.rules("break_glass", old.BreakGlass, new.BreakGlass)
	o := *old
	o.Rules, o.BreakGlass = new.Rules, new.BreakGlass
	c.rest("policy", o, *new)
}

// rules compares rules by name. A condition that cannot be evaluated refuses an ask at once: that fewer asks come to a condition can
// let more of them come to a later rule. So a rule with a condition is left as it is, unless it is the last.
func (c *Change) rules(kind string, old, new []rule) {
	kept := []string{}
	for i := range old {
		o, what := &old[i], kind+" "+old[i].Name
		shields := o.When != "" && i < len(old)-1
		n := slices.IndexFunc(new, func(r rule) bool { return r.Name == o.Name })
		switch {
		case n < 0:
			c.add(shields, "%s is gone", what)
			continue
		case shields && !reflect.DeepEqual(*o, new[n]):
			c.add(true, "%s has a condition, stands before others, and is another", what)
		default:
			c.rule(what, *o, &new[n])
		}
		kept = append(kept, o.Name)
	}
	for _, r := range new {
		if !slices.ContainsFunc(old, func(o rule) bool { return o.Name == r.Name }) {
			c.add(true, "%s %s is new", kind, r.Name)
		}
	}
	order := []string{}
	for _, r := range new {
		if slices.Contains(kept, r.Name) {
			order = append(order, r.Name)
		}
	}
	if !slices.Equal(order, kept) && slices.ContainsFunc(slices.Concat(old, new), func(r rule) bool { return r.When != "" }) {
		c.add(true, "the rules stand in another order, and some have a condition")
	}
}

func (c *Change) rule(what string, old rule, new *rule) {
	c.fewer(what+": initiators", old.Initiators, new.Initiators)
	c.fewer(what+": audiences", old.Audiences, new.Audiences)
	c.fewerOrAny(what+": host_ids", old.HostIDs, new.HostIDs)
	if (len(old.Delegators) > 0) != (len(new.Delegators) > 0) {
		c.add(true, "%s: delegators: %d, were %d: the rule is for other requests altogether", what, len(new.Delegators), len(old.Delegators))
	} else {
		c.fewer(what+": delegators", old.Delegators, new.Delegators)
	}
	for _, k := range sortedKeys(old.Hosts) {
		if v, ok := new.Hosts[k]; !ok || v != old.Hosts[k] {
			c.add(true, "%s: hosts: no longer %s = %q", what, k, old.Hosts[k])
		}
	}
	for _, k := range sortedKeys(new.Hosts) {
		if _, ok := old.Hosts[k]; !ok {
			c.add(false, "%s: hosts: only those with %s = %q", what, k, new.Hosts[k])
		}
	}
	c.less(what+": lifetime", old.Lifetime, new.Lifetime, span)
	c.less(what+": session", old.Session, new.Session, span)
	c.less(what+": uses", old.Uses, new.Uses, count)
	c.less(what+": depth", old.Depth, new.Depth, count)
	if old.When != new.When {
		c.add(old.When != "", "%s: another condition", what)
	}
	if old.Waive != new.Waive {
		c.add(new.Waive, "%s: attestation may be waived: %v, was %v", what, new.Waive, old.Waive)
	}
	c.scopes(what, old.Scope, new.Scope)
	old.Initiators, old.Audiences, old.HostIDs, old.Hosts, old.Lifetime, old.Uses = new.Initiators, new.Audiences, new.HostIDs, new.Hosts, new.Lifetime, new.Uses
	old.Depth, old.When, old.Waive, old.Scope, old.Session, old.Delegators = new.Depth, new.When, new.Waive, new.Scope, new.Session, new.Delegators
	c.rest(what, old, *new)
}

func (c *Change) scopes(what string, old, new []scope) {
	for _, o := range old {
		n := slices.IndexFunc(new, func(s scope) bool { return s.Target == o.Target })
		if n < 0 {
			c.add(false, "%s: no longer %s", what, o.Target)
			continue
		}
		s, what := new[n], what+": "+o.Target
		c.fewer(what+": operations", o.Operations, s.Operations)
		c.fewerOrAny(what+": code", o.Code, s.Code)
		c.fewerOrAny(what+": parameters", o.Parameters, s.Parameters)
		c.fewer(what+": env", o.Env, s.Env)
		o.Operations, o.Code, o.Parameters, o.Env = s.Operations, s.Code, s.Parameters, s.Env
		c.rest(what, o, s)
	}
	for _, s := range new {
		if !slices.ContainsFunc(old, func(o scope) bool { return o.Target == s.Target }) {
			c.add(true, "%s: also %s", what, s.Target)
		}
	}
}

func (c *Change) anchors(before, new *anchorsBody) {
	old := *before
	c.blobs("roots", old.Roots, new.Roots, true)
	c.blobs("path", old.Path, new.Path, true)
	if old.ListsRequired || new.ListsRequired { // a list can then be what lets a certificate pass
		if !slices.EqualFunc(old.Lists, new.Lists, bytes.Equal) {
			c.add(true, "lists: others, and they are required")
		}
	} else {
		c.blobs("lists", old.Lists, new.Lists, false)
	}
	if old.ListsRequired != new.ListsRequired {
		c.add(old.ListsRequired, "lists_required: %v, was %v", new.ListsRequired, old.ListsRequired)
	}
	c.blobs("withdrawn", old.Withdrawn, new.Withdrawn, false)
	for _, f := range old.Firmware {
		if !slices.Contains(new.Firmware, f) {
			c.add(true, "firmware of %s %s is no longer refused", f.Manufacturer, f.Model)
		}
	}
	for _, f := range new.Firmware {
		if !slices.Contains(old.Firmware, f) {
			c.add(false, "firmware of %s %s is refused", f.Manufacturer, f.Model)
		}
	}
	old.Roots, old.Path, old.Lists, old.ListsRequired, old.Withdrawn, old.Firmware = new.Roots, new.Path, new.Lists, new.ListsRequired, new.Withdrawn, new.Firmware
	c.rest("anchors", old, *new)
}

// blobs compares lists of certificates and the like; more of them widens or narrows.
func (c *Change) blobs(what string, old, new [][]byte, moreWidens bool) {
	gone, come := 0, 0
	for _, b := range old {
		if !has(new, b) {
			gone++
		}
	}
	for _, b := range new {
		if !has(old, b) {
			come++
		}
	}
	if come > 0 {
		c.add(moreWidens, "%s: %d more", what, come)
	}
	if gone > 0 {
		c.add(!moreWidens, "%s: %d fewer", what, gone)
	}
}

// membershipOnly reports whether all that an expression asks of a reference set, at this place, is that something is in it, and more
// in the set can only turn the expression true: x in ref.s below nothing but && and || and the bodies of all and exists.
func membershipOnly(e ast.NavigableExpr) bool {
	in, ok := e.Parent()
	if !ok || in.Kind() != ast.CallKind || in.AsCall().FunctionName() != operators.In || in.AsCall().Args()[1].ID() != e.ID() {
		return false
	}
	for below := in; ; {
		above, ok := below.Parent()
		if !ok {
			return true
		}
		switch above.Kind() {
		case ast.CallKind:
			if f := above.AsCall().FunctionName(); f != operators.LogicalAnd && f != operators.LogicalOr {
				return false
			}
		case ast.ComprehensionKind:
			if above.AsComprehension().LoopStep().ID() != below.ID() {
				return false
			}
		default:
			return false
		}
		below = above
	}
}

// Words says a change in lines, widening first.
func (c *Change) Words() string {
	var b strings.Builder
	for _, widens := range []bool{true, false} {
		for _, d := range c.Differences {
			if d.Widens == widens {
				fmt.Fprintf(&b, "%s %s\n", map[bool]string{true: "widens ", false: "narrows"}[widens], d.What)
			}
		}
	}
	return strings.TrimRight(b.String(), "\n")
}
