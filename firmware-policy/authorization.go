package firmwarepolicy

import (
	"reflect"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"

	"github.com/governed-execution/writ/record"
)

// authorizationBody is the content of an authorization policy.
type authorizationBody struct {
	Rules      []rule `cbor:"1,keyasint"`
	BreakGlass []rule `cbor:"2,keyasint,omitempty"` // what the break-glass quorum may allow, and nothing beside it: one more rule is a wider policy
}

type rule struct {
	Name       string            `cbor:"1,keyasint"`
	Initiators []string          `cbor:"2,keyasint"` // sorted, like every list below
	Hosts      map[string]string `cbor:"3,keyasint,omitempty"`
	HostIDs    []string          `cbor:"4,keyasint,omitempty"`
	Audiences  []string          `cbor:"5,keyasint"`
	Lifetime   uint64            `cbor:"6,keyasint"` // seconds
	Uses       uint64            `cbor:"7,keyasint"`
	Depth      uint64            `cbor:"8,keyasint"`
	Scope      []scope           `cbor:"9,keyasint"`
	When       string            `cbor:"10,keyasint,omitempty"`
	Waive      bool              `cbor:"11,keyasint,omitempty"` // break-glass: the quorum may waive attestation
	Session    uint64            `cbor:"12,keyasint,omitempty"` // seconds a started execution may last; 0: until its artifact expires
	Delegators []string          `cbor:"13,keyasint,omitempty"` // the rule is for what descends from artifacts of these initiators, and for nothing else
}

type scope struct {
	Target     string   `cbor:"1,keyasint"` // a URI, or a URI that ends in "/*" for everything below
	Operations []string `cbor:"2,keyasint"`
	Code       []string `cbor:"3,keyasint,omitempty"`
	Parameters []string `cbor:"4,keyasint,omitempty"`
	Env        []string `cbor:"5,keyasint,omitempty"` // names of variables that the program may be given
	Directory  string   `cbor:"6,keyasint,omitempty"` // the one it may start in, "" for "/"
}

const (
	maxRules    = 256
	maxScopes   = 64
	maxLabels   = 32
	maxLabel    = 256
	maxLifetime = 366 * 24 * 3600
	maxUses     = 1 << 32
	maxDepth    = 16
	maxVariable = 128
	maxDirPath  = 1024
)

// Operations returns the operations that a scope can name (AIF, bits 0 to 5).
func Operations() []string { return []string{"execute", "read", "write", "net", "delegate", "spawn"} }

// check refuses a policy without rules, and a rule that is incomplete, ambiguous or without a limit.
func (b *authorizationBody) check() error {
	if b == nil || len(b.Rules) == 0 || len(b.Rules) > maxRules {
		return refuse("a policy has 1 to %d rules", maxRules)
	}
	if len(b.BreakGlass) > maxRules {
		return refuse("a policy has at most %d [[break_glass]]", maxRules)
	}
	if err := checkRules("rule", b.Rules, (*rule).check); err != nil {
		return err
	}
	return checkRules("break_glass", b.BreakGlass, (*rule).checkBreakGlass)
}

func checkRules(kind string, rules []rule, check func(r *rule, what string) error) error {
	names := map[string]bool{}
	for i := range rules {
		r := &rules[i]
		if err := checkName(kind, r.Name); err != nil {
			return err
		}
		if names[r.Name] {
			return refuse("%s %q stands twice", kind, r.Name)
		}
		names[r.Name] = true
		if err := check(r, kind+" "+r.Name); err != nil {
			return err
		}
	}
	return nil
}

// checkBreakGlass refuses a break-glass rule that is not narrow: it names hosts, allows one use for at most an hour, and of
// each target exactly which bytes may run with which arguments.
func (r *rule) checkBreakGlass(what string) error {
	if err := r.check(what); err != nil {
		return err
	}
	switch {
	case r.Lifetime > record.MaxBreakGlass:
		return refuse("%s: lifetime is at most %s", what, span(record.MaxBreakGlass))
	case r.Uses != 1 || r.Depth != 0 || r.Session != 0 || len(r.Delegators) > 0:
		return refuse("%s: it allows one use, no delegation, and no session", what)
	case len(r.Hosts) == 0 && len(r.HostIDs) == 0:
		return refuse("%s: hosts or host_ids must name the hosts", what)
	}
	for i := range r.Scope {
		s := &r.Scope[i]
		if strings.HasSuffix(s.Target, "*") || !slices.Equal(s.Operations, []string{"execute"}) || len(s.Code) == 0 || len(s.Parameters) == 0 {
			return refuse("%s: scope %s must name one file to execute, with code and parameters", what, s.Target)
		}
	}
	return nil
}

func (r *rule) check(what string) error {
	if r.Waive && !strings.HasPrefix(what, "break_glass ") {
		return refuse("%s: attestation is never waived but under break-glass", what)
	}
	if err := checkURIs(what+": initiators", r.Initiators); err != nil {
		return err
	}
	if err := checkURIs(what+": audiences", r.Audiences); err != nil {
		return err
	}
	if len(r.HostIDs) > 0 {
		if err := checkURIs(what+": host_ids", r.HostIDs); err != nil {
			return err
		}
	}
	if len(r.Delegators) > 0 {
		if err := checkURIs(what+": delegators", r.Delegators); err != nil {
			return err
		}
	}
	if err := checkLabels(what, r.Hosts); err != nil {
		return err
	}
	switch {
	case r.Lifetime == 0 || r.Lifetime > maxLifetime:
		return refuse("%s: lifetime is needed, from 1s to a year", what)
	case r.Uses == 0 || r.Uses > maxUses:
		return refuse("%s: uses is needed, at least 1", what)
	case r.Session > maxLifetime:
		return refuse("%s: session is at most a year", what)
	case r.Depth > maxDepth:
		return refuse("%s: depth is at most %d", what, maxDepth)
	case len(r.Scope) == 0 || len(r.Scope) > maxScopes:
		return refuse("%s: it needs 1 to %d [[rule.scope]]", what, maxScopes)
	}
	targets := map[string]bool{}
	for i := range r.Scope {
		s := &r.Scope[i]
		if targets[s.Target] {
			return refuse("%s: scope target %q stands twice", what, s.Target)
		}
		targets[s.Target] = true
		if err := s.check(what + ": scope " + s.Target); err != nil {
			return err
		}
	}
	return nil
}

func checkLabels(what string, labels map[string]string) error {
	if len(labels) > maxLabels {
		return refuse("%s: hosts has more than %d labels", what, maxLabels)
	}
	for _, k := range sortedKeys(labels) {
		if k == "" || labels[k] == "" || len(k) > maxLabel || len(labels[k]) > maxLabel {
			return refuse("%s: a label of hosts and its value have 1 to %d bytes", what, maxLabel)
		}
	}
	return nil
}

func (s *scope) check(what string) error {
	if !absolute(s.Target) || strings.Contains(strings.TrimSuffix(s.Target, "/*"), "*") || !plainPath(s.Target) {
		return refuse("%s: target must be an absolute URI, or one that ends in /* for everything below it, "+
			"without another *, an empty, . or .. segment, %%, ?, # or \\", what)
	}
	if len(s.Operations) == 0 {
		return refuse("%s: operations is empty", what)
	}
	if err := checkList(what+": operations", s.Operations); err != nil {
		return err
	}
	for _, o := range s.Operations {
		if !slices.Contains(Operations(), o) {
			return refuse("%s: operation %q is none of %s", what, o, strings.Join(Operations(), ", "))
		}
	}
	if err := checkDigests(what+": code", s.Code); err != nil {
		return err
	}
	if err := checkDigests(what+": parameters", s.Parameters); err != nil {
		return err
	}
	if err := checkVariables(what+": env", s.Env); err != nil {
		return err
	}
	if s.Directory != "" && !cleanDirectory(s.Directory) {
		return refuse("%s: directory must be an absolute path of at most %d bytes, without an empty, . or .. element", what, maxDirPath)
	}
	if strings.HasPrefix(strings.ToLower(s.Target), "file:") && slices.Contains(s.Operations, "execute") && len(s.Code) == 0 {
		return refuse("%s: to execute a file, code must list the SHA-256 digests that may run: a path names no program", what)
	}
	return nil
}

// plainPath reports whether a target can mean one thing only: no segment that a file system would resolve, no character
// that a URI reader would decode.
func plainPath(target string) bool {
	if strings.ContainsAny(target, "%?#\\") || strings.ContainsFunc(target, func(r rune) bool { return r < 0x21 || r == 0x7f }) {
		return false
	}
	_, path, _ := strings.Cut(target, ":")
	for i, segment := range strings.Split(strings.TrimPrefix(path, "//"), "/") {
		if segment == "." || segment == ".." || segment == "" && i > 0 {
			return false
		}
	}
	return true
}

// Authorization is a compiled authorization policy. Its zero value refuses every ask. It may be used by several
// goroutines.
type Authorization struct {
	body    *authorizationBody
	hash    Hash
	adapter types.Adapter
	when    []*program // one for each rule, nil where a rule has no condition
	glass   []*program // of the break-glass rules
}

func compileAuthorization(b *authorizationBody, h Hash) (*Authorization, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	e, err := newEnv(
		ext.NativeTypes(reflect.TypeFor[Ask](), ext.ParseStructTags(true)),
		cel.Variable("ask", cel.ObjectType("firmware-policy.Ask")),
	)
	if err != nil {
		return nil, refuse("preparing the expression language: %v", err)
	}
	a := &Authorization{body: b, hash: h, adapter: e.CELTypeAdapter()}
	if a.when, err = compileRules(e, "rule ", b.Rules); err == nil {
		a.glass, err = compileRules(e, "break_glass ", b.BreakGlass)
	}
	if err != nil {
		return nil, err
	}
	return a, nil
}

func compileRules(e *cel.Env, kind string, rules []rule) (_ []*program, err error) {
	when := make([]*program, len(rules))
	for i, r := range rules {
		if r.When == "" {
			continue
		}
		if when[i], err = compile(e, kind+r.Name, r.When); err != nil {
			return nil, err
		}
	}
	return when, nil
}

// Hash returns the identity of the policy, zero if there is none.
func (a *Authorization) Hash() Hash {
	if a == nil {
		return Hash{}
	}
	return a.hash
}
