package firmwarepolicy

import (
	"cmp"
	"slices"
	"sort"
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types/ref"

	"github.com/governed-execution/writ/denial"
)

// Ask is what an initiator wants, as its verified request, its enrolment and the enrolment of the host say. Policies
// name its fields through the cel tags.
type Ask struct {
	Initiator     string            `cbor:"1,keyasint" cel:"initiator" toml:"initiator"`              // URI
	InitiatorKind string            `cbor:"2,keyasint" cel:"initiator_kind" toml:"initiator_kind"`    // human, service, agent or device
	Host          string            `cbor:"3,keyasint" cel:"host" toml:"host"`                        // URI of the host, as enrolled
	Labels        map[string]string `cbor:"4,keyasint" cel:"labels" toml:"labels"`                    // labels of the host, as enrolled
	Audience      string            `cbor:"5,keyasint" cel:"audience" toml:"audience"`                // URI of one gate
	Scope         []AskScope        `cbor:"6,keyasint" cel:"scope" toml:"scope"`                      // targets, each with what is to be done to it
	Lifetime      uint64            `cbor:"7,keyasint" cel:"lifetime" toml:"lifetime"`                // seconds
	Uses          uint64            `cbor:"8,keyasint" cel:"uses" toml:"uses"`                        // how often the artifact may be used
	Depth         uint64            `cbor:"9,keyasint" cel:"depth" toml:"depth"`                      // how deep the artifact may be delegated
	Session       uint64            `cbor:"10,keyasint,omitempty" cel:"session" toml:"session"`       // seconds that a started execution may last, 0: until the artifact expires
	Delegators    []string          `cbor:"11,keyasint,omitempty" cel:"delegators" toml:"delegators"` // initiators of its parents, the artifacts that are delegated; none if there are none
}

// AskScope is one target of an ask.
type AskScope struct {
	Target     string   `cbor:"1,keyasint" cel:"target" toml:"target"`         // URI
	Operations []string `cbor:"2,keyasint" cel:"operations" toml:"operations"` // some of Operations
	Code       []string `cbor:"3,keyasint" cel:"code" toml:"code"`             // SHA-256 digests in hexadecimal
	Parameters string   `cbor:"4,keyasint" cel:"parameters" toml:"parameters"` // SHA-256 digest in hexadecimal, or ""
	Env        []string `cbor:"5,keyasint" cel:"env" toml:"env"`               // names of the variables to be passed on
	Directory  string   `cbor:"6,keyasint" cel:"directory" toml:"directory"`   // working directory, "/" if none is asked for
}

// root is the working directory where neither rule nor ask names one.
const root = "/"

// Grant is what a rule allowed: exactly what was asked for.
type Grant struct {
	Policy   Hash
	Rule     string
	Lifetime uint64 // seconds
	Uses     uint64
	Depth    uint64
	Session  uint64 // seconds
}

// Authorize finds the first rule that allows all of the ask. It checks, in this order: there is a policy (108) with
// rules (407); then for each rule, in the order of the policy: the initiator (405), the delegators (406), the audience (411), the host's id
// and labels (701), every scope (404), the lifetime and the session (203), the uses (404), the depth (406), the condition (404).
//
// If no rule allows the ask, the refusal is that of the rule that got furthest, the first of them if several did, and
// its Requirements are the rules that name the initiator. A condition that is reached and cannot be evaluated refuses
// the ask at once (407): no later rule is asked. Conditions see "/" for a directory that the ask leaves out.
func (a *Authorization) Authorize(ask Ask) (*Grant, error) {
	if a == nil {
		return nil, denial.New(denial.NoActivePolicy, "there is no authorization policy").At(denial.StageAuthorization)
	}
	if a.body == nil || len(a.body.Rules) == 0 || len(a.when) != len(a.body.Rules) {
		return nil, denial.Of(refuse("the authorization policy has no rules")).At(denial.StageAuthorization)
	}
	ask.Scope = withDirectories(ask.Scope)
	vars := &askVars{ask: a.adapter.NativeToValue(&ask)}
	best, bestStep := denial.New(denial.InitiatorDenied, "no rule names this initiator"), 0
	var tried []string
	for i := range a.body.Rules {
		r := &a.body.Rules[i]
		step, d := r.refuses(&ask, a.when[i], vars)
		if d == nil {
			return &Grant{Policy: a.hash, Rule: r.Name, Lifetime: ask.Lifetime, Uses: ask.Uses, Depth: ask.Depth, Session: ask.Session}, nil
		}
		if step > 0 {
			tried = append(tried, r.Name)
		}
		if d.Reason == denial.PolicyError {
			best = d
			break
		}
		if step > bestStep {
			best, bestStep = d, step
		}
	}
	sort.Strings(tried)
	best.Requirements = tried
	return nil, best.At(denial.StageAuthorization)
}

// BreakGlass checks an ask, with the people in place of the policy's rules, against the break-glass rule of that name: that
// and no other declares what they may allow. Whatever it refuses is BreakGlassInvalid (410), but for no policy (108), a condition
// that cannot be evaluated (407), and last that they have waived attestation where the rule does not let them (102).
func (a *Authorization) BreakGlass(name string, ask Ask, waived bool) error {
	if a == nil || a.body == nil {
		return denial.New(denial.NoActivePolicy, "there is no authorization policy")
	}
	i := slices.IndexFunc(a.body.BreakGlass, func(r rule) bool { return r.Name == name })
	if i < 0 || len(a.glass) != len(a.body.BreakGlass) {
		return denial.New(denial.BreakGlassInvalid, "the policy declares no such break-glass rule")
	}
	r := &a.body.BreakGlass[i]
	ask.Scope = withDirectories(ask.Scope)
	_, d := r.refuses(&ask, a.glass[i], &askVars{ask: a.adapter.NativeToValue(&ask)})
	switch {
	case d == nil && waived && !r.Waive:
		return denial.New(denial.NoEvidence, "the policy does not let the quorum waive attestation for this scope")
	case d == nil:
		return nil
	case d.Reason == denial.PolicyError:
		return d
	}
	return denial.New(denial.BreakGlassInvalid, "%s", d.Detail)
}

// refuses returns the first check that the ask fails, with how many it passed before, or nil if the rule allows it.
func (r *rule) refuses(ask *Ask, when *program, vars cel.Activation) (int, *denial.Denial) {
	checks := []struct {
		ok     bool
		reason denial.Reason
		what   string
	}{
		{slices.Contains(r.Initiators, ask.Initiator), denial.InitiatorDenied, "initiator"},
		{r.allowsDelegators(ask.Delegators), denial.DelegationExceeded, delegating(ask)},
		{slices.Contains(r.Audiences, ask.Audience), denial.AudienceMismatch, "audience"},
		{r.allowsHost(ask), denial.HostMismatch, "host"},
		{r.allowsScope(ask.Scope), denial.ScopeDenied, "scope"},
		{ask.Lifetime > 0 && ask.Lifetime <= r.Lifetime, denial.LifetimeTooLong, "lifetime"},
		{ask.Session <= r.Session, denial.LifetimeTooLong, "session"},
		{ask.Uses > 0 && ask.Uses <= r.Uses, denial.ScopeDenied, "number of uses"},
		{ask.Depth <= r.Depth, denial.DelegationExceeded, "delegation depth"},
	}
	for i, c := range checks {
		if !c.ok {
			return i, denial.New(c.reason, "rule %s does not allow this %s", r.Name, c.what)
		}
	}
	if r.When == "" {
		return 0, nil
	}
	holds, err := when.holds(vars)
	if err != nil {
		return len(checks), denial.New(denial.PolicyError, "the condition of rule %s cannot be evaluated", r.Name)
	}
	if !holds {
		return len(checks), denial.New(denial.ScopeDenied, "the condition of rule %s does not hold", r.Name)
	}
	return 0, nil
}

// delegating says in what way an ask is not for a rule.
func delegating(ask *Ask) string {
	if len(ask.Delegators) == 0 {
		return "initiator without a delegation"
	}
	return "delegator"
}

// allowsDelegators reports whether the rule is for what these delegate: one that names delegators is for what they delegate, and for
// nothing else, any other for what nobody delegates.
func (r *rule) allowsDelegators(asked []string) bool {
	return (len(r.Delegators) > 0) == (len(asked) > 0) && subset(asked, r.Delegators)
}

func (r *rule) allowsHost(ask *Ask) bool {
	if ask.Host == "" || len(r.HostIDs) > 0 && !slices.Contains(r.HostIDs, ask.Host) {
		return false
	}
	for k, v := range r.Hosts {
		if ask.Labels[k] != v { // which is not empty: see checkLabels
			return false
		}
	}
	return true
}

func (r *rule) allowsScope(asked []AskScope) bool {
	for _, s := range asked {
		if !slices.ContainsFunc(r.Scope, func(allowed scope) bool { return allowed.allows(&s) }) {
			return false
		}
	}
	return len(asked) > 0
}

// withDirectories returns a copy in which every scope names its working directory.
func withDirectories(asked []AskScope) []AskScope {
	out := slices.Clone(asked)
	for i := range out {
		out[i].Directory = cmp.Or(out[i].Directory, root)
	}
	return out
}

// allows reports whether everything that is asked of one target lies within this scope. Where the scope lists code or
// parameters, the ask must name some, all of them listed. Variables must be listed, and the directory must be the same:
// what the scope leaves out is no variable and "/", because either can change what pinned code does.
func (s *scope) allows(asked *AskScope) bool {
	if !s.covers(asked.Target) || len(asked.Operations) == 0 || !subset(asked.Operations, s.Operations) {
		return false
	}
	if len(s.Code) > 0 && (len(asked.Code) == 0 || !subset(asked.Code, s.Code)) {
		return false
	}
	if len(s.Parameters) > 0 && !slices.Contains(s.Parameters, asked.Parameters) {
		return false
	}
	return subset(asked.Env, s.Env) && asked.Directory == cmp.Or(s.Directory, root)
}

func (s *scope) covers(target string) bool {
	if strings.Contains(target, "*") || !plainPath(target) {
		return false
	}
	above, wild := strings.CutSuffix(s.Target, "*")
	if !wild {
		return target == s.Target
	}
	return strings.HasPrefix(target, above) // and not the same: above ends with the slash that a plain path does not end with
}

func subset(some, of []string) bool {
	return !slices.ContainsFunc(some, func(v string) bool { return !slices.Contains(of, v) })
}

// askVars resolves the one variable of a rule's condition.
type askVars struct{ ask ref.Val }

// ResolveName implements cel.Activation.
func (v *askVars) ResolveName(name string) (any, bool) { return v.ask, name == "ask" }

// Parent implements cel.Activation.
func (*askVars) Parent() cel.Activation { return nil }
