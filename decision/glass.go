package decision

import (
	"bytes"
	"encoding/hex"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// permittedByPeople checks a request for an attestation against the break-glass authorization that it names, in this order:
// the log has it, with exactly this digest (410); it has not expired (410); the policy that it names is the one in force
// (401); the request is for its host, gate, initiator, scope, execution and lifetime, and for one use (410); the rule of the
// policy still declares it (see Declared).
func permittedByPeople(in *Input, p *firmwarepolicy.Authorization) error {
	digest := statement.DigestOf(in.BreakGlass)
	if in.BreakGlass == nil || !bytes.Equal(digest[:], in.Request.BreakGlass) {
		return denial.New(denial.BreakGlassInvalid, "the log has no such break-glass authorization")
	}
	g, err := glassOf(in)
	if err != nil {
		return err
	}
	r := in.Request
	scope, err := r.Scope.Encode()
	switch {
	case err != nil:
		return err
	case in.Time >= g.Expires:
		return denial.New(denial.BreakGlassInvalid, "the break-glass authorization has expired")
	case !bytes.Equal(g.Policy.Hash, in.Authorization.Hash):
		return denial.New(denial.PolicyHashMismatch, "the break-glass authorization names a policy that is not in force")
	case r.Host != g.Host || r.Audience != g.Audience || r.Initiator != g.Initiator || !bytes.Equal(r.Execution.ID, g.ID) ||
		!bytes.Equal(scope, g.Scope) || r.Lifetime != g.Expires-g.IssuedAt || r.Limits.MaxUses() != 1 || r.Limits != nil && r.Limits.Session != 0:
		return denial.New(denial.BreakGlassInvalid, "the request is for something else than the break-glass authorization allows")
	}
	return Declared(g, r.Scope, p, in.Host.Labels, record.InitiatorKind(in.Initiator.Kind))
}

func glassOf(in *Input) (*record.BreakGlass, error) {
	var g record.BreakGlass
	if err := statement.Unmarshal(in.BreakGlass, &g); err != nil {
		return nil, err
	}
	return &g, g.Check()
}

// Declared checks that the policy declares what a break-glass authorization allows: the rule that it names, for a host with
// these labels and an initiator of this kind (410); and that the rule lets the quorum waive attestation if it has (102).
func Declared(g *record.BreakGlass, scope artifact.Scope, p *firmwarepolicy.Authorization, labels map[string]string, kind record.InitiatorKind) error {
	return p.BreakGlass(g.Policy.Rule, firmwarepolicy.Ask{Initiator: g.Initiator, InitiatorKind: kind.String(), Host: g.Host,
		Labels: labels, Audience: g.Audience, Lifetime: g.Expires - g.IssuedAt, Uses: 1, Scope: askScope(scope)}, g.Waived != nil)
}

// attested writes down what the host has proved.
func attested(in *Input) Decision {
	g, err := glassOf(in)
	if err != nil {
		return Decision{denied: denial.Of(err).At(denial.StageAuthorization)}
	}
	f := in.Facts
	ak, err := hex.DecodeString(f.AK)
	if err != nil {
		return Decision{denied: denial.New(denial.KeyBinding, "the AK has no name").At(denial.StageBinding)}
	}
	return Decision{allowed: true, live: in.live, glass: g, proved: record.Attested{Key: in.CNF, AK: ak,
		BootSeed: artifact.BootSeed(ak, uint32(f.Clock.Resets), uint32(f.Clock.Restarts)), Version: in.Appraisal.Version}}
}
