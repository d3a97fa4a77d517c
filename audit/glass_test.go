package audit_test

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

const third = issuertest.Carol

// reportGlass has the gate write a record about an authorization.
func (s *stage) reportGlass(g *issuertest.Glass, event record.Event, edit func(*record.Record)) statement.Digest {
	s.Helper()
	s.tick()
	leaf := s.ReportGlass(s.Host, g, event, edit)
	must(s.Issuer.Take(s.Ctx, leaf))(s)
	s.Host.Follow(leaf)
	return statement.DigestOf(leaf)
}

// runGlass has the gate record a start by break-glass and its end.
func (s *stage) runGlass(g *issuertest.Glass) {
	s.Helper()
	start := s.reportGlass(g, record.EventStart, nil)
	s.reportGlass(g, record.EventEnd, func(r *record.Record) { r.Execution.Start = start[:] })
}

// glassStory publishes an authorization that the host attests for, and one whose quorum waives that; both are used, and the
// first is reviewed.
func (s *stage) glassStory() (attested, waived *issuertest.Glass) {
	s.Helper()
	doc := s.DeclareGlass(true)
	s.docs[record.Authorization] = doc
	s.tick()
	attested = s.PublishGlass(s.DraftGlass(doc), alice, bob)
	s.tick()
	s.AttestGlass(attested)
	s.runGlass(attested)
	s.tick()
	s.ReviewGlass(attested, true, bob, third)
	draft := s.DraftGlass(doc)
	draft.Waived = []string{alice, third}
	s.tick()
	waived = s.PublishGlass(draft, alice, third)
	s.runGlass(waived)
	return attested, waived
}

// P21, P22: an auditor comes to the same from the log alone: every rule is checked again, and the attestation decided again.
func TestP21_AuditorProvesBreakGlass(t *testing.T) {
	s := newStage(t)
	attested, waived := s.glassStory()
	r := s.verify(s.export(audit.Query{}))
	wantProved(t, r)
	n := map[string]int{}
	for _, f := range r.Statements {
		if f.Verdict != audit.Proved && (f.Event == "execution start" || f.Event == "break-glass attestation" || strings.HasPrefix(f.Kind, "break-glass")) {
			t.Errorf("entry %d %s %s is %s: %s", f.Index, f.Kind, f.Event, f.Verdict, f.Why)
		}
		n[f.Kind+f.Event]++
	}
	if n["break-glass"] != 4 || n["break-glass-review"] != 2 || n["recordbreak-glass attestation"] != 1 || n["recordexecution start"] != 2 {
		t.Fatalf("got %v", n)
	}
	if len(r.BreakGlass) != 2 {
		t.Fatalf("got cases %+v", r.BreakGlass)
	}
	first, second := r.BreakGlass[0], r.BreakGlass[1]
	if first.ID != hex.EncodeToString(attested.ID) || first.Used == 0 || !first.Justified || first.Late || len(first.Waived) != 0 {
		t.Errorf("got %+v", first)
	}
	if second.ID != hex.EncodeToString(waived.ID) || second.Used == 0 || second.Reviewed != 0 || second.Late || len(second.Waived) != 2 {
		t.Errorf("got %+v", second)
	}
	for _, want := range []string{"break-glass: entry", "justified", "not reviewed yet", "attestation waived by " + alice + " and " + third} {
		if !strings.Contains(r.Text(), want) {
			t.Errorf("the report lacks %q:\n%s", want, r.Text())
		}
	}
	// a bundle about its execution alone holds all of it
	r = s.verify(s.export(audit.Query{Execution: attested.ID}))
	wantProved(t, r)
	events := map[string]audit.Verdict{}
	for _, f := range r.Statements {
		events[f.Event] = f.Verdict
	}
	for _, event := range []string{"break-glass attestation", "execution start", "execution end"} {
		if events[event] != audit.Proved {
			t.Errorf("in the bundle of the execution, the %s is %q", event, events[event])
		}
	}
	s.Advance(25 * time.Hour)
	late := s.verify(s.export(audit.Query{})).BreakGlass[1]
	if !late.Late || late.Review() != "no review, OVERDUE" {
		t.Errorf("a day later: %+v", late)
	}
	s.ReviewGlass(&issuertest.Glass{Digest: waived.Digest}, false, bob, third)
	if c := s.verify(s.export(audit.Query{})).BreakGlass[1]; !c.Late || c.Justified || !strings.Contains(c.Review(), "LATE: NOT justified") {
		t.Errorf("reviewed too late: %+v %s", c, c.Review())
	}
}

// P21, P22: an issuer that lets the quorum have more than the rules is found out: each rule broken, and nothing else.
func TestP21_ForgedBreakGlassIsRefuted(t *testing.T) {
	for name, c := range map[string]struct {
		change func(s *stage, g *record.BreakGlass)
		by     []string
		want   denial.Reason
	}{
		"signed by one":          {nil, []string{alice}, denial.BreakGlassInvalid},
		"signed by all":          {nil, []string{alice, bob, third}, denial.BreakGlassInvalid},
		"signed by an initiator": {nil, []string{alice, robotURI}, denial.KeyUnknown},
		"longer than the rule":   {func(_ *stage, g *record.BreakGlass) { g.Expires++ }, nil, denial.BreakGlassInvalid},
		"another program": {func(s *stage, g *record.BreakGlass) {
			scope := issuertest.GlassScope()
			scope[0].Target = "file:/usr/bin/sh2"
			g.Scope = must(scope.Encode())(s)
		}, nil, denial.BreakGlassInvalid},
		"any arguments": {func(s *stage, g *record.BreakGlass) {
			scope := issuertest.GlassScope()
			scope[0].Terms.Parameters = nil
			g.Scope = must(scope.Encode())(s)
		}, nil, denial.BreakGlassInvalid},
		"another rule":                   {func(_ *stage, g *record.BreakGlass) { g.Policy.Rule = "reconcile" }, nil, denial.BreakGlassInvalid},
		"another policy":                 {func(_ *stage, g *record.BreakGlass) { g.Policy.Hash = nonce(32) }, nil, denial.PolicyHashMismatch},
		"another version":                {func(_ *stage, g *record.BreakGlass) { g.Policy.Version++ }, nil, denial.PolicyHashMismatch},
		"another host":                   {func(_ *stage, g *record.BreakGlass) { g.Host = hostURI + "2" }, nil, denial.NotEnrolled},
		"another gate":                   {func(_ *stage, g *record.BreakGlass) { g.Audience = gateURI + "2" }, nil, denial.AudienceMismatch},
		"nobody in person":               {func(_ *stage, g *record.BreakGlass) { g.Initiator = robotURI + "2" }, nil, denial.NotEnrolled},
		"another of the initiators":      {func(_ *stage, g *record.BreakGlass) { g.Initiator = mallory }, nil, denial.BreakGlassInvalid},
		"logged too late":                {func(_ *stage, g *record.BreakGlass) { g.IssuedAt -= 7200; g.Expires -= 7200 }, nil, denial.BreakGlassInvalid},
		"logged too early":               {func(_ *stage, g *record.BreakGlass) { g.IssuedAt += 7200; g.Expires += 7200 }, nil, denial.BreakGlassInvalid},
		"host revoked":                   {func(s *stage, _ *record.BreakGlass) { s.revoke(record.CauseHost, hostURI) }, nil, denial.HostRevoked},
		"initiator revoked":              {func(s *stage, _ *record.BreakGlass) { s.revoke(record.CauseInitiator, robotURI) }, nil, denial.InitiatorRevoked},
		"P22 waived, and not policy":     {func(_ *stage, g *record.BreakGlass) { g.Waived = []string{alice, bob} }, nil, denial.NoEvidence},
		"P22 waived by who did not sign": {func(_ *stage, g *record.BreakGlass) { g.Waived = []string{bob, third} }, nil, denial.NoEvidence},
		"a review was overdue": {func(s *stage, g *record.BreakGlass) {
			s.PublishGlass(*g, alice, bob)
			s.Advance(25 * time.Hour)
			again := s.DraftGlass(s.docs[record.Authorization])
			*g = again
		}, nil, denial.BreakGlassInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			doc := s.DeclareGlass(false)
			s.docs[record.Authorization] = doc
			g := s.DraftGlass(doc)
			if c.change != nil {
				c.change(s, &g)
			}
			if c.by == nil {
				c.by = []string{alice, bob}
			}
			s.wantForged(t, s.append(s.Sign(statement.BreakGlass, g, c.by...)...), c.want)
		})
	}
	t.Run("an id twice", func(t *testing.T) {
		s := newStage(t)
		g := s.DraftGlass(s.DeclareGlass(false))
		s.PublishGlass(g, alice, bob)
		g.Why = "again"
		s.wantForged(t, s.append(s.Sign(statement.BreakGlass, g, alice, bob)...), denial.ArtifactReplayed)
	})
}

func TestP21_ForgedReviewIsRefuted(t *testing.T) {
	for name, c := range map[string]struct {
		by   []string
		want denial.Reason
		prep func(s *stage, g *issuertest.Glass) statement.Digest
	}{
		"by those who signed": {[]string{alice, bob}, denial.BreakGlassInvalid, func(_ *stage, g *issuertest.Glass) statement.Digest { return g.Digest }},
		"by one":              {[]string{third}, denial.BreakGlassInvalid, func(_ *stage, g *issuertest.Glass) statement.Digest { return g.Digest }},
		"of nothing":          {[]string{alice, third}, denial.NoArtifact, func(*stage, *issuertest.Glass) statement.Digest { return statement.Digest{1} }},
		"a second one": {[]string{bob, third}, denial.RequestReplayed, func(s *stage, g *issuertest.Glass) statement.Digest {
			s.ReviewGlass(g, true, alice, third)
			return g.Digest
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			g := s.PublishGlass(s.DraftGlass(s.DeclareGlass(false)), alice, bob)
			digest := c.prep(s, g)
			s.wantForged(t, s.append(s.SignReview(digest, true, c.by...)...), c.want)
		})
	}
}

// A gate's start by break-glass is held against the authorization, and against what the host attested.
func TestP21_ForgedUseIsRefuted(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(s *stage, g *issuertest.Glass, r *record.Record)
		want denial.Reason
	}{
		"does not say so":    {func(_ *stage, _ *issuertest.Glass, r *record.Record) { r.Glass = nil }, denial.WrongType},
		"another id":         {func(_ *stage, _ *issuertest.Glass, r *record.Record) { r.CTI = nonce(16) }, denial.KeyUnknown},
		"another act":        {func(_ *stage, _ *issuertest.Glass, r *record.Record) { r.Artifact = nonce(32) }, denial.AudienceMismatch},
		"another execution":  {func(_ *stage, _ *issuertest.Glass, r *record.Record) { r.Execution.ID = nonce(16) }, denial.AudienceMismatch},
		"another host":       {func(_ *stage, _ *issuertest.Glass, r *record.Record) { r.Workload = robotURI }, denial.HostMismatch},
		"another initiator":  {func(_ *stage, _ *issuertest.Glass, r *record.Record) { r.Initiator = mallory }, denial.LogInconsistent},
		"another policy":     {func(_ *stage, _ *issuertest.Glass, r *record.Record) { r.Policy.Hash = nonce(32) }, denial.LogInconsistent},
		"a second use":       {func(_ *stage, _ *issuertest.Glass, r *record.Record) { r.Execution.Use = 2 }, denial.UseCountExceeded},
		"other code":         {func(_ *stage, _ *issuertest.Glass, r *record.Record) { r.Execution.Code = nonce(32) }, denial.CodeDigestMismatch},
		"other arguments":    {func(_ *stage, _ *issuertest.Glass, r *record.Record) { r.Execution.Args = nonce(32) }, denial.ScopeDenied},
		"P22 no attestation": {func(_ *stage, _ *issuertest.Glass, r *record.Record) { r.Glass = &record.Glass{Attestation: nonce(32)} }, denial.NoEvidence},
		"P22 a waiver of theirs": {func(_ *stage, _ *issuertest.Glass, r *record.Record) {
			r.Glass = &record.Glass{Waived: []string{alice, bob}}
		}, denial.NoEvidence},
		"revoked": {func(s *stage, g *issuertest.Glass, _ *record.Record) {
			s.revoke(record.CauseArtifact, hex.EncodeToString(g.ID))
		}, denial.ArtifactRevoked},
		"expired": {func(s *stage, _ *issuertest.Glass, r *record.Record) { s.Advance(time.Hour); r.Time = s.Seconds() }, denial.BreakGlassInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			g := s.PublishGlass(s.DraftGlass(s.DeclareGlass(false)), alice, bob)
			s.tick()
			s.AttestGlass(g)
			leaf := s.ReportGlass(s.Host, g, record.EventStart, func(r *record.Record) { c.edit(s, g, r) })
			s.wantForged(t, s.append(leaf), c.want)
			// and the issuer would not have taken it, but for what only the scope says
			if _, err := s.Issuer.Take(s.Ctx, leaf); err == nil && c.want != denial.CodeDigestMismatch && c.want != denial.ScopeDenied &&
				c.want != denial.LogInconsistent && name != "another execution" {
				t.Error("the issuer takes it")
			}
		})
	}
}

// P22: an attestation that does not follow from its evidence is refuted.
func TestP22_ForgedAttestationIsRefuted(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(s *stage, r *record.Record)
		want denial.Reason
	}{
		"of nothing": {func(_ *stage, r *record.Record) { r.Artifact = nonce(32) }, denial.NoArtifact},
		"for another authorization": {func(s *stage, r *record.Record) {
			g := s.PublishGlass(s.DraftGlass(s.docs[record.Authorization]), alice, bob)
			r.CTI, r.Artifact = g.ID, g.Digest[:]
		}, denial.LogInconsistent},
		"another key":        {func(s *stage, r *record.Record) { r.Attested.Key = s.Keys[mallory].Key() }, denial.LogInconsistent},
		"another boot":       {func(_ *stage, r *record.Record) { r.Attested.BootSeed = nonce(32) }, denial.LogInconsistent},
		"another AK":         {func(_ *stage, r *record.Record) { r.Attested.AK = nonce(34) }, denial.LogInconsistent},
		"another host":       {func(_ *stage, r *record.Record) { r.Workload = robotURI }, denial.LogInconsistent},
		"another challenge":  {func(_ *stage, r *record.Record) { r.Challenge = nonce(32) }, denial.LogInconsistent},
		"a policy's version": {func(_ *stage, r *record.Record) { r.Attested.Version++ }, denial.LogInconsistent},
		"again":              {func(*stage, *record.Record) {}, denial.RequestReplayed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.docs[record.Authorization] = s.DeclareGlass(false)
			g := s.PublishGlass(s.DraftGlass(s.docs[record.Authorization]), alice, bob)
			s.tick()
			s.AttestGlass(g)
			r := s.lastRecord(record.EventAttest)
			r.Emitter.Seq++
			c.edit(s, &r)
			s.wantForged(t, s.append(must(r.Sign(s.Ctx, s.Keys[record.PurposeRecord], issuerURI))(t)), c.want)
		})
	}
}

// The lineage of a use leads back to the people who allowed it, and on to the run and the review.
func TestLineageOfBreakGlass(t *testing.T) {
	s := newStage(t)
	attested, waived := s.glassStory()
	account := must(audit.Tell(s.Ctx, bytes.NewReader(s.export(audit.Query{})), s.trust(), audit.Options{Now: s.Now()}))(t)
	for _, c := range []struct {
		g     *issuertest.Glass
		wants []string
	}{
		{attested, []string{"allowed by break-glass authorization", "signed by " + alice + ", " + bob, "justification: a test", "to be used by " + robotURI,
			"TPM with EK", "started, use 1", "by break-glass: the host attested", "ended with status 0", "break-glass review: justified, signed by " + bob + ", " + third}},
		{waived, []string{"attestation waived by " + alice + " and " + third, "by break-glass: attestation waived by"}},
	} {
		l := must(audit.Trace(account.Items, account.People, hex.EncodeToString(c.g.ID)))(t)
		for _, want := range c.wants {
			if !strings.Contains(l.Text(), want) {
				t.Errorf("the lineage lacks %q:\n%s", want, l.Text())
			}
		}
		if len(l.Origin) != 1 {
			t.Errorf("%d origins", len(l.Origin))
		}
	}
}

// The report tells of each use: who let it, why, whether the host was known, and what the review came to.
func TestReportTellsOfBreakGlass(t *testing.T) {
	s := newStage(t)
	s.glassStory()
	account := must(audit.Tell(s.Ctx, bytes.NewReader(s.export(audit.Query{})), s.trust(), audit.Options{Now: s.Now()}))(t)
	var out bytes.Buffer
	if err := audit.WriteReport(&out, account); err != nil {
		t.Fatal(err)
	}
	page := out.String()
	for _, want := range []string{"Break-glass uses", "attestation waived by", "must be attested", "justified", "not reviewed yet", "break-glass authorization"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	if strings.Contains(page, "None stands in this bundle") {
		t.Error("the page says that there was no break-glass")
	}
}

// P23: an attestation whose evidence is gone is a gap, and the bundle is not proved.
func TestP23_LostAttestationIsAGap(t *testing.T) {
	s := newStage(t)
	g := s.PublishGlass(s.DraftGlass(s.DeclareGlass(false)), alice, bob)
	s.tick()
	m := s.AttestGlass(g)
	s.runGlass(g)
	evidence := s.lastRecord(record.EventAttest).Evidence
	b := must(audit.Build(s.Ctx, lossy{Log: s.Tree, lost: map[statement.Digest]bool{statement.Digest(evidence): true}}, s.Issuer, audit.Query{}))(t)
	defer b.Close()
	var raw bytes.Buffer
	if err := b.Write(s.Ctx, &raw); err != nil {
		t.Fatal(err)
	}
	r := s.verify(raw.Bytes())
	if r.Verdict != audit.Unchecked || !denial.Is(r.Err(), denial.NoEvidence) {
		t.Fatalf("got %s, %v\n%s", r.Verdict, r.Err(), r.Text())
	}
	if f := finding(t, r, m.Index); f.Verdict != audit.Unchecked || len(r.Lacks) != 1 || r.Lacks[0].Index != m.Index {
		t.Errorf("got %+v, gaps %+v", f, r.Lacks)
	}
}
