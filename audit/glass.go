package audit

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// glass is a break-glass authorization that stands in the log.
type glass struct {
	*record.BreakGlass
	scope    artifact.Scope
	digest   statement.Digest // of the payload
	persons  []string
	index    uint64
	logged   uint64
	used     uint64 // logged time of its start; 0: none in this bundle
	reviewed uint64 // logged time of its review; 0: none
	review   *record.Review
}

// breakGlass checks a break-glass authorization as the issuer must have (see its glassEffect), in this order: the payload and
// its scope; somebody was left to review it (410); it was logged while it was valid (410); its host was enrolled (106) with
// that gate (411), its initiator was enrolled (106); neither, nor the policy, was revoked (803 to 805), and the host not held (803); the policy that it
// names was in force (401), had not expired (206) and declares all of it (410, 102); no review of an earlier one was overdue
// (410); its id is new (504).
func (v *verifier) breakGlass(act *record.Act, e *entry) error {
	p, err := record.ReadBreakGlass(act)
	if err != nil {
		return err
	}
	g := &glass{BreakGlass: p, digest: act.Digest(), persons: act.Persons(), index: e.index, logged: e.logged}
	if g.scope, err = artifact.DecodeScope(p.Scope); err != nil {
		return err
	}
	if err := v.world.ring.Authorities().Reviewable(act); err != nil {
		return err
	}
	if p.IssuedAt > e.logged+clockSkew || e.logged >= p.Expires+clockSkew {
		return denial.New(denial.BreakGlassInvalid, "logged at a time at which it was not valid")
	}
	if err := v.world.declared(g); err != nil {
		return err
	}
	for _, other := range v.world.glass {
		if other.reviewed == 0 && e.logged >= other.logged+record.ReviewWithin+clockSkew {
			return denial.New(denial.BreakGlassInvalid, "the review of entry %d was overdue", other.index)
		}
	}
	_, artifact := v.world.permits[keyOf(string(p.ID))]
	if artifact || v.world.glassOf[string(p.ID)] != nil {
		return denial.New(denial.ArtifactReplayed, "something earlier has the same id")
	}
	v.world.glass[g.digest], v.world.glassOf[string(p.ID)] = g, g
	return nil
}

// declared checks an authorization against what was enrolled, revoked and in force.
func (w *world) declared(g *glass) error {
	h := w.enrolled[w.current[g.Host]]
	if h == nil {
		return denial.New(denial.NotEnrolled, "the host was not enrolled")
	}
	if a := w.approvals[string(h.ek)]; a.Enrolment == nil || a.Host.Gate != g.Audience {
		return denial.New(denial.AudienceMismatch, "the host was enrolled with another gate, or none")
	}
	var who *initiator
	for _, i := range w.initiators {
		if i.id == g.Initiator {
			who = &i
		}
	}
	if who == nil {
		return denial.New(denial.NotEnrolled, "the initiator was not enrolled")
	}
	for _, c := range w.causes(g.Host, g.Initiator, g.Policy.Hash) {
		return denial.New(record.Cause(c).Reason(), "the %s had been revoked", record.Cause(c))
	}
	if err := w.notHeld(g.Host); err != nil {
		return err
	}
	doc := w.force[record.Authorization]
	if doc == nil || doc.Hash() != firmwarepolicy.Hash(sum(g.Policy.Hash)) || doc.ID() != g.Policy.ID || doc.Version() != g.Policy.Version {
		return denial.New(denial.PolicyHashMismatch, "the authorization names a policy that was not in force")
	}
	if err := doc.CheckTime(g.logged - min(g.logged, clockSkew)); err != nil {
		return err
	}
	policy, err := doc.Authorization()
	if err != nil {
		return err
	}
	return decision.Declared(g.BreakGlass, g.scope, policy, h.labels, who.kind)
}

// review checks the review of a break-glass authorization, in this order: the payload; the log had the authorization (101);
// somebody signed who had not signed that (410); it had no review (509).
func (v *verifier) review(act *record.Act, e *entry) error {
	r, err := record.ReadReview(act)
	if err != nil {
		return err
	}
	g := v.world.glass[sum(r.Act)]
	if g == nil {
		return denial.New(denial.NoArtifact, "the log had no such break-glass authorization")
	}
	if err := record.Independent(act, g.persons); err != nil {
		return err
	}
	if g.reviewed != 0 {
		return denial.New(denial.RequestReplayed, "the authorization had its review")
	}
	g.reviewed, g.review = e.logged, r
	return nil
}

// attestation checks the record of what a host proved for a break-glass authorization, in this order: the log had the
// authorization (101); its capsule holds what it names (325); then all of decided, about and inForce, as for an artifact, and the TPM's clock has not
// gone back since an earlier entry (507).
// Decided again, the input gives the record's content (the denial, or 325), and answers no request twice (509).
func (v *verifier) attestation(e *entry, r *record.Record, f *Finding) error {
	g := v.world.glass[sum(r.Artifact)]
	if g == nil || !bytes.Equal(g.ID, r.CTI) {
		return denial.New(denial.NoArtifact, "the log had no such break-glass authorization")
	}
	caps, complete, err := v.capsule(e)
	if err != nil {
		return err
	}
	if !complete {
		v.world.attested[e.digest] = g
		f.leave("the issuer no longer has all that the attestation was decided on")
		return nil
	}
	d, err := v.decided(e, caps)
	if err != nil {
		return err
	}
	if err := v.about(r, d); err != nil {
		return err
	}
	if err := v.inForce(d); err != nil {
		return err
	}
	if err := v.world.tick(d.in); err != nil {
		return err
	}
	again := decision.Decide(d.in, d.appraisal, d.authorization)
	if err := again.Denied(); err != nil {
		return err
	}
	authorization, proved := again.Attested()
	if authorization == nil || !equalCBOR(authorization, g.BreakGlass) || !equalCBOR(proved, r.Attested) || !names(r.Policy, d.in.Authorization.ID, artifact.SHA256Digest(sum(d.in.Authorization.Hash))) ||
		!names(r.Appraisal, d.in.Appraisal.ID, artifact.SHA256Digest(sum(d.in.Appraisal.Hash))) {
		return denial.New(denial.LogInconsistent, "decided again, the input leads to another record")
	}
	if v.world.requests.add(requestKey(d.in)) {
		return denial.New(denial.RequestReplayed, "an earlier answer is to the same request")
	}
	v.world.attested[e.digest] = g
	return nil
}

// underGlass checks a start by break-glass, in this order: the record says so, and the log had the authorization (311, 305);
// it is this one, for this gate and execution (411) on this host (701); the record names its initiator and policy (325); it
// had not expired (410) and is used once (505); it allows this code (616) with these arguments (404); the host had attested
// for it, or exactly the persons named have waived that (102); it was not revoked (801 to 805), nor the host held (803).
func (v *verifier) underGlass(e *entry, r *record.Record, at *gate, g *glass, f *Finding) error {
	switch {
	case r.Glass == nil:
		return denial.New(denial.WrongType, "the record does not say that it is about a break-glass authorization")
	case g == nil:
		return denial.New(denial.KeyUnknown, "no earlier break-glass authorization in the log has this id")
	case !bytes.Equal(r.Artifact, g.digest[:]) || g.Audience != at.uri || !bytes.Equal(r.Execution.ID, g.ID):
		return denial.New(denial.AudienceMismatch, "the authorization is for another gate or another execution")
	case r.Workload != g.Host || at.host != g.Host:
		return denial.New(denial.HostMismatch, "the authorization is for another host")
	case r.Initiator != g.Initiator || !names(r.Policy, g.Policy.ID, artifact.SHA256Digest(sum(g.Policy.Hash))):
		return denial.New(denial.LogInconsistent, "the record names another initiator or policy than the authorization")
	case r.Time >= g.Expires, e.logged >= g.Expires+clockSkew:
		return denial.New(denial.BreakGlassInvalid, "the authorization had expired")
	case r.Execution.Use != 1:
		return denial.New(denial.UseCountExceeded, "the authorization allows one use")
	}
	if err := admitted(g.scope, r.Execution); err != nil {
		return err
	}
	if err := v.hostKnown(r, g, f); err != nil {
		return err
	}
	g.used = e.logged
	if err := v.world.restored(g.index); err != nil {
		return err
	}
	if v.world.revoked[revocation{record.CauseArtifact, hex.EncodeToString(g.ID)}] {
		return denial.New(denial.ArtifactRevoked, "the authorization had been revoked")
	}
	for _, c := range v.world.causes(g.Host, g.Initiator, g.Policy.Hash) {
		return denial.New(record.Cause(c).Reason(), "the %s had been revoked", record.Cause(c))
	}
	return v.world.notHeld(g.Host)
}

// hostKnown checks what a start by break-glass says of the host.
func (v *verifier) hostKnown(r *record.Record, g *glass, f *Finding) error {
	if r.Glass.Attestation == nil {
		if g.Waived == nil || !slices.Equal(g.Waived, r.Glass.Waived) {
			return denial.New(denial.NoEvidence, "the quorum had not waived attestation so")
		}
		return nil
	}
	proof := v.world.attested[sum(r.Glass.Attestation)]
	switch {
	case proof == nil && v.part():
		f.leave("the attestation of the host is not in the bundle")
	case proof != g:
		return denial.New(denial.NoEvidence, "no earlier record is the attestation of the host for this authorization")
	}
	return nil
}

// GlassCase is a break-glass authorization, what came of it, and its review.
type GlassCase struct {
	Index     uint64   `json:"index"`
	ID        string   `json:"id"`
	Published uint64   `json:"published"`      // logged time
	Used      uint64   `json:"used,omitempty"` // logged time of the start, if the bundle holds it
	Host      string   `json:"host"`
	Initiator string   `json:"initiator"`
	Persons   []string `json:"persons"` // who signed
	Waived    []string `json:"waived,omitempty"`
	Why       string   `json:"why"`
	Reviewed  uint64   `json:"reviewed,omitempty"` // logged time
	Finding   string   `json:"finding,omitempty"`  // of the review
	Justified bool     `json:"justified,omitempty"`
	Late      bool     `json:"late,omitempty"` // the review came, or has not come, later than it must
}

// cases lists the authorizations up to the head of the bundle, in the order of the log.
func (v *verifier) cases() (all []GlassCase) {
	for _, g := range v.world.glass {
		c := GlassCase{Index: g.index, ID: hex.EncodeToString(g.ID), Published: g.logged, Used: g.used, Host: g.Host, Initiator: g.Initiator,
			Persons: g.persons, Waived: g.Waived, Why: g.Why, Reviewed: g.reviewed}
		due := g.logged + record.ReviewWithin + clockSkew
		if g.review != nil {
			c.Finding, c.Justified, c.Late = g.review.Finding, g.review.Justified, g.reviewed > due
		} else {
			c.Late = max(v.m.Head.Time, v.sealed) > due
		}
		all = append(all, c)
	}
	slices.SortFunc(all, func(a, b GlassCase) int { return int(a.Index) - int(b.Index) })
	return all
}

// Review says for people what became of the review.
func (c GlassCase) Review() string {
	late := ""
	if c.Late {
		late = ", LATE"
	}
	switch {
	case c.Reviewed == 0 && c.Late:
		return "no review, OVERDUE"
	case c.Reviewed == 0:
		return "not reviewed yet"
	case c.Justified:
		return "reviewed " + instant(c.Reviewed) + late + ": justified"
	}
	return "reviewed " + instant(c.Reviewed) + late + ": NOT justified"
}

// words says for people what the case is.
func (c *GlassCase) words() string {
	used := "no use in this bundle"
	if c.Used != 0 {
		used = "used " + instant(c.Used)
	}
	s := fmt.Sprintf("entry %d by %s, for %s on %s: %s; %s", c.Index, strings.Join(c.Persons, ", "), c.Initiator, c.Host, used, c.Review())
	if len(c.Waived) > 0 {
		s += "; attestation waived by " + strings.Join(c.Waived, " and ")
	}
	return s
}
