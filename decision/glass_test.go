package decision_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"reflect"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// newGlassScene is a scene whose request is for an attestation of a break-glass authorization.
func newGlassScene(t *testing.T, waive bool) (*scene, *record.BreakGlass) {
	t.Helper()
	s := newScene(t)
	text := string(must(s.az.TOML())(t))
	parameters := artifact.ParametersDigest([]string{"/usr/bin/x"})
	s.az = must(firmwarepolicy.ParseTOML([]byte(text + fmt.Sprintf(`
[[break_glass]]
name = "restore"
initiators = [%q]
host_ids = [%q]
audiences = [%q]
lifetime = "600s"
waive_attestation = %v
[[break_glass.scope]]
target = %q
operations = ["execute"]
code = [%q]
parameters = [%q]
env = ["LANG"]
`, robotURI, hostURI, gateURI, waive, target, code, hex.EncodeToString(parameters.Value)))))(t)
	s.name()
	scope := artifact.Scope{{Target: target, Terms: artifact.Terms{Operations: artifact.Execute, Code: s.in.Request.Scope[0].Terms.Code, Parameters: &parameters}}}
	hash := s.az.Hash()
	g := &record.BreakGlass{Version: record.Version, ID: fill(16, 9), Host: hostURI, Audience: gateURI, Initiator: robotURI, Scope: must(scope.Encode())(t),
		Policy: record.Declared{ID: s.az.ID(), Hash: hash[:], Version: s.az.Version(), Rule: "restore"}, IssuedAt: s.in.Time - 10, Expires: s.in.Time + 590, Why: "a test"}
	s.in.Request.Scope, s.in.Request.Execution.ID, s.in.Request.Limits, s.in.Request.Lifetime = scope, g.ID, nil, 600
	name(t, s, g)
	return s, g
}

// name has the input and its request name the authorization.
func name(t *testing.T, s *scene, g *record.BreakGlass) {
	t.Helper()
	s.in.BreakGlass = must(statement.Marshal(g))(t)
	digest := statement.DigestOf(s.in.BreakGlass)
	s.in.Request.BreakGlass = digest[:]
}

// P22: an attestation follows from the facts, and is no permit (C16); a permit is no attestation.
func TestP22_AttestationIsNoPermit(t *testing.T) {
	s, g := newGlassScene(t, false)
	d := s.decide()
	a := must(d.Attestation())(t)
	if got := a.BreakGlass(); !reflect.DeepEqual(&got, g) {
		t.Errorf("got %+v", got)
	}
	if got := a.Attested(); !got.Key.Equal(s.in.CNF) || len(got.AK) != 34 || len(got.BootSeed) != 32 || got.Version != s.ap.Version() {
		t.Errorf("got %+v", got)
	}
	if p, err := d.Permit(); !denial.Is(err, denial.WrongType) || len(p.Claims().ID) != 0 {
		t.Errorf("it permits an artifact: %v", err)
	}
	if _, err := newScene(t).decide().Attestation(); !denial.Is(err, denial.WrongType) {
		t.Errorf("a permit attests: %v", err)
	}
	again := decision.Decide(must(decision.DecodeInput(must(s.in.Encode())(t)))(t), s.ap, s.az)
	if _, err := again.Attestation(); !denial.Is(err, denial.WrongType) {
		t.Errorf("decided again, it attests: %v", err)
	}
	authorization, proved := again.Attested()
	if want := a.Attested(); !reflect.DeepEqual(authorization, g) || !bytes.Equal(must(statement.Marshal(proved))(t), must(statement.Marshal(want))(t)) {
		t.Error("decided again, it comes to something else")
	}
	if b, p := newScene(t).decide().Attested(); b != nil || p != nil {
		t.Error("a permit tells of an attestation")
	}
}

// P21, P22: people stand in for the policy's rules, and for nothing else.
func TestP21_PeopleAllowWhatThePolicyDeclares(t *testing.T) {
	for label, c := range map[string]struct {
		spoil  func(t *testing.T, s *scene, g *record.BreakGlass)
		reason denial.Reason
		stage  denial.Stage
	}{
		"not in the log": {func(_ *testing.T, s *scene, _ *record.BreakGlass) { s.in.BreakGlass = nil }, denial.BreakGlassInvalid, denial.StageAuthorization},
		"another one":    {func(_ *testing.T, s *scene, _ *record.BreakGlass) { s.in.Request.BreakGlass = fill(32, 1) }, denial.BreakGlassInvalid, denial.StageAuthorization},
		"not asked for":  {func(_ *testing.T, s *scene, _ *record.BreakGlass) { s.in.Request.BreakGlass = nil }, denial.BreakGlassInvalid, denial.StageAuthorization},
		"expired": {func(t *testing.T, s *scene, g *record.BreakGlass) {
			g.IssuedAt, g.Expires = g.IssuedAt-590, g.Expires-590
			name(t, s, g)
		}, denial.BreakGlassInvalid, denial.StageAuthorization},
		"too long": {func(t *testing.T, s *scene, g *record.BreakGlass) { g.Expires += 3600; name(t, s, g) }, denial.BreakGlassInvalid, denial.StageAuthorization},
		"longer than the rule": {func(t *testing.T, s *scene, g *record.BreakGlass) {
			g.Expires++
			s.in.Request.Lifetime++
			name(t, s, g)
		}, denial.BreakGlassInvalid, denial.StageAuthorization},
		"another policy in force": {func(t *testing.T, s *scene, g *record.BreakGlass) { g.Policy.Hash = fill(32, 1); name(t, s, g) }, denial.PolicyHashMismatch, denial.StageAuthorization},
		"another rule":            {func(t *testing.T, s *scene, g *record.BreakGlass) { g.Policy.Rule = "reconcile"; name(t, s, g) }, denial.BreakGlassInvalid, denial.StageAuthorization},
		"another host":            {func(t *testing.T, s *scene, g *record.BreakGlass) { g.Host += "b"; name(t, s, g) }, denial.BreakGlassInvalid, denial.StageAuthorization},
		"another gate":            {func(_ *testing.T, s *scene, _ *record.BreakGlass) { s.in.Request.Audience += "b" }, denial.BreakGlassInvalid, denial.StageAuthorization},
		"another scope":           {func(_ *testing.T, s *scene, _ *record.BreakGlass) { s.in.Request.Scope[0].Target += "b" }, denial.BreakGlassInvalid, denial.StageAuthorization},
		"another scope, declared": {func(_ *testing.T, s *scene, _ *record.BreakGlass) {
			s.in.Request.Scope[0].Terms.Constraints = &artifact.Constraints{Env: []string{"LANG"}}
		}, denial.BreakGlassInvalid, denial.StageAuthorization},
		"no scope":          {func(_ *testing.T, s *scene, _ *record.BreakGlass) { s.in.Request.Scope = nil }, denial.StructureLimit, denial.StageAuthorization},
		"another execution": {func(_ *testing.T, s *scene, _ *record.BreakGlass) { s.in.Request.Execution.ID = fill(16, 1) }, denial.BreakGlassInvalid, denial.StageAuthorization},
		"a session": {func(_ *testing.T, s *scene, _ *record.BreakGlass) {
			s.in.Request.Limits = &artifact.Limits{Session: 60}
		}, denial.BreakGlassInvalid, denial.StageAuthorization},
		"two uses":         {func(_ *testing.T, s *scene, _ *record.BreakGlass) { s.in.Request.Limits = &artifact.Limits{Uses: 2} }, denial.BreakGlassInvalid, denial.StageAuthorization},
		"another lifetime": {func(_ *testing.T, s *scene, _ *record.BreakGlass) { s.in.Request.Lifetime-- }, denial.BreakGlassInvalid, denial.StageAuthorization},
		"parents":          {func(_ *testing.T, s *scene, _ *record.BreakGlass) { s.in.Request.Parents = [][]byte{fill(32, 1)} }, denial.BreakGlassInvalid, denial.StageAuthorization},
		"P22 waived, not policy": {func(t *testing.T, s *scene, g *record.BreakGlass) {
			g.Waived = []string{"mailto:a@x", "mailto:b@x"}
			name(t, s, g)
		}, denial.NoEvidence, denial.StageAuthorization},
		"P22 another state":   {func(_ *testing.T, s *scene, _ *record.BreakGlass) { s.in.Facts.SecureBoot.Enabled = false }, denial.SecureBootOff, denial.StageAppraisal},
		"P22 host revoked":    {func(_ *testing.T, s *scene, _ *record.BreakGlass) { s.in.Revoked = []uint64{3} }, denial.HostRevoked, denial.StageRevocation},
		"P22 another cnf key": {func(_ *testing.T, s *scene, _ *record.BreakGlass) { s.in.Request.Confirmation.Key = fill(32, 1) }, denial.KeyBinding, denial.StageBinding},
	} {
		s, g := newGlassScene(t, false)
		c.spoil(t, s, g)
		d := s.decide()
		if err := d.Denied(); err == nil || err.Reason != c.reason || err.Stage != c.stage {
			t.Errorf("%s: got %v, want %d at %s", label, err, c.reason.Code(), c.stage)
		}
		if _, err := d.Attestation(); err == nil {
			t.Errorf("%s: attested", label)
		}
	}
	s, g := newGlassScene(t, true)
	g.Waived = []string{"mailto:a@x", "mailto:b@x"}
	name(t, s, g)
	must(s.decide().Attestation())(t) // who can attest may do so all the same
}
