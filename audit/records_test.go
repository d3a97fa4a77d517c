package audit_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/tlog"
)

// append appends statements as they are, without asking the issuer, and returns the index of the first.
func (s *stage) append(leaves ...[]byte) uint64 {
	s.Helper()
	s.tick()
	entries := make([]tlog.Entry, len(leaves))
	for i := range leaves {
		entries[i].Leaf = leaves[i]
	}
	return must(s.Tree.Append(s.Ctx, entries...))(s)[0].Index
}

// lastRecord returns the newest record of an event in the log.
func (s *stage) lastRecord(event record.Event) (found record.Record) {
	s.Helper()
	err := s.Tree.Leaves(s.Ctx, 0, s.Tree.Head().Size, func(_ uint64, leaf []byte) error {
		var r record.Record
		env := must(statement.Decode(leaf, statement.MaxStatement))(s)
		if env.Kind() == statement.Record && statement.Unmarshal(env.Payload(), &r) == nil && r.Event == event {
			found = r
		}
		return nil
	})
	if err != nil || found.Event != event {
		s.Fatalf("no record of event %s: %v", event, err)
	}
	return found
}

// wantForged checks that the entry, and nothing before it, is refuted with the reason.
func (s *stage) wantForged(t *testing.T, index uint64, want denial.Reason) {
	t.Helper()
	r := s.verify(s.export(audit.Query{}))
	wantRefuted(t, r, want)
	for _, f := range r.Statements {
		if f.Verdict == audit.Refuted && f.Index < index {
			t.Errorf("entry %d is refuted too: %s", f.Index, f.Why)
		}
	}
	if f := finding(t, r, index); f.Verdict != audit.Refuted || f.Code != want.Code() {
		t.Errorf("the forged entry is %s: %d %s", f.Verdict, f.Code, f.Why)
	}
}

// A denial that does not follow from what it was decided on is refuted, whatever it says instead.
func TestForgedDenialIsRefuted(t *testing.T) {
	policy := asking{boot: bootlog.New(bootlog.Options{NoSecureBoot: true})}
	binding := asking{log: bootlog.New(bootlog.Options{Image: []byte("another image")}).Log}
	for name, c := range map[string]struct {
		first denial.Reason
		ask   asking
		edit  func(*stage, *record.Record)
		want  denial.Reason
	}{
		"another code":             {denial.SecureBootOff, policy, func(_ *stage, r *record.Record) { r.Reasons = []uint64{602} }, denial.LogInconsistent},
		"another stage":            {denial.SecureBootOff, policy, func(_ *stage, r *record.Record) { r.Stage++ }, denial.LogInconsistent},
		"fewer requirements":       {denial.SecureBootOff, policy, func(_ *stage, r *record.Record) { r.Requirements = r.Requirements[1:] }, denial.LogInconsistent},
		"another initiator":        {denial.SecureBootOff, policy, func(_ *stage, r *record.Record) { r.Initiator = mallory }, denial.LogInconsistent},
		"another host":             {denial.SecureBootOff, policy, func(_ *stage, r *record.Record) { r.Workload = robotURI }, denial.LogInconsistent},
		"another challenge":        {denial.SecureBootOff, policy, func(_ *stage, r *record.Record) { r.Challenge = nonce(32) }, denial.LogInconsistent},
		"a policy never signed":    {denial.SecureBootOff, policy, func(_ *stage, r *record.Record) { r.Appraisal.Hash = nonce(32) }, denial.PolicyHashMismatch},
		"without the input it had": {denial.SecureBootOff, policy, func(_ *stage, r *record.Record) { r.Input = nil }, denial.LogInconsistent},
		"evidence: another code":   {denial.LogReplayMismatch, binding, func(_ *stage, r *record.Record) { r.Reasons = []uint64{604} }, denial.LogInconsistent},
		"evidence: another stage":  {denial.LogReplayMismatch, binding, func(_ *stage, r *record.Record) { r.Stage-- }, denial.LogInconsistent},
		"evidence: another host":   {denial.LogReplayMismatch, binding, func(_ *stage, r *record.Record) { r.Workload = robotURI }, denial.NotEnrolled},
		"evidence: no challenge":   {denial.LogReplayMismatch, binding, func(_ *stage, r *record.Record) { r.Challenge = nil }, denial.LogInconsistent},
		"evidence: no policy":      {denial.LogReplayMismatch, binding, func(_ *stage, r *record.Record) { r.Appraisal = nil }, denial.LogInconsistent},
		"the same number twice":    {denial.SecureBootOff, policy, func(s *stage, r *record.Record) { r.Emitter.Seq-- }, denial.StateRollback},
		"dated long before it":     {denial.SecureBootOff, policy, func(s *stage, r *record.Record) { s.Advance(time.Hour) }, denial.EvidenceStale},
		"dated after its entry":    {denial.SecureBootOff, policy, func(_ *stage, r *record.Record) { r.Time += 3600 }, denial.NotYetValid},
		"by another emitter":       {denial.SecureBootOff, policy, func(_ *stage, r *record.Record) { r.Emitter.URI = gateURI }, denial.IdentityConflict},
		"in a chain":               {denial.SecureBootOff, policy, func(_ *stage, r *record.Record) { r.Previous = nonce(32) }, denial.NotPermitted},
		"a start by the issuer": {denial.SecureBootOff, policy, func(_ *stage, r *record.Record) {
			*r = record.Record{Version: r.Version, Event: record.EventStart, Time: r.Time, Emitter: r.Emitter, Execution: &record.Execution{ID: nonce(16), Use: 1}}
		}, denial.NotPermitted},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.refuse(c.first, c.ask)
			r := s.lastRecord(record.EventDenial)
			r.Emitter.Seq++
			c.edit(s, &r)
			s.wantForged(t, s.append(must(r.Sign(s.Ctx, s.Keys[record.PurposeRecord], issuerURI))(t)), c.want)
		})
	}
}

// A refusal of a request that the policies permit is refuted, unless it came in the transaction, where it is unchecked.
func TestDenialOfAPermitIsRefuted(t *testing.T) {
	for name, c := range map[string]struct {
		reason denial.Reason
		stage  denial.Stage
		want   audit.Verdict
	}{
		"by policy":            {denial.SecureBootOff, denial.StageAppraisal, audit.Refuted},
		"in the transaction":   {denial.PolicyRollback, denial.StageTransaction, audit.Unchecked},
		"by a fault":           {denial.StoreFault, denial.StageRevocation, audit.Unchecked},
		"as replayed, falsely": {denial.RequestReplayed, denial.StageAuthorization, audit.Refuted},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			first, _ := s.permit()
			claims, _, err := artifact.Inspect(first.Artifact)
			if err != nil {
				t.Fatal(err)
			}
			s.refuse(denial.RequestReplayed, asking{edit: func(r *artifact.RequestClaims) { r.ID = s.requestID(claims) }})
			r := s.lastRecord(record.EventDenial)
			r.Emitter.Seq++
			r.FillDenial(denial.New(c.reason, "").At(c.stage), nil)
			index := s.append(must(r.Sign(s.Ctx, s.Keys[record.PurposeRecord], issuerURI))(t))
			if f := finding(t, s.verify(s.export(audit.Query{})), index); f.Verdict != c.want {
				t.Errorf("got %s: %s", f.Verdict, f.Why)
			}
		})
	}
}

// requestID returns the id of the request that an artifact answers.
func (s *stage) requestID(c artifact.Claims) []byte {
	s.Helper()
	raw, _, err := s.Tree.Blob(s.Ctx, statement.Digest(c.Policy.Request.Value))
	if err != nil {
		s.Fatal(err)
	}
	var r artifact.RequestClaims
	if err := statement.Unmarshal(must(statement.Decode(raw, statement.MaxStatement))(s).Payload(), &r); err != nil {
		s.Fatal(err)
	}
	return r.ID
}

func TestForgedGateRecordIsRefuted(t *testing.T) {
	for name, c := range map[string]struct {
		event record.Event
		edit  func(*stage, *record.Record)
		want  denial.Reason
	}{
		"a use too many":                   {record.EventStart, func(_ *stage, r *record.Record) { r.Execution.Use = 3 }, denial.UseCountExceeded},
		"use zero":                         {record.EventStart, func(_ *stage, r *record.Record) { r.Execution.Use = 0 }, denial.UseCountExceeded},
		"a use twice":                      {record.EventStart, func(_ *stage, r *record.Record) { r.Execution.Use = 1 }, denial.ArtifactReplayed},
		"no such artifact":                 {record.EventStart, func(_ *stage, r *record.Record) { r.CTI = nonce(16) }, denial.KeyUnknown},
		"another artifact":                 {record.EventStart, func(_ *stage, r *record.Record) { r.Artifact = nonce(32) }, denial.AudienceMismatch},
		"another execution":                {record.EventStart, func(_ *stage, r *record.Record) { r.Execution.ID = nonce(16) }, denial.AudienceMismatch},
		"after expiry":                     {record.EventStart, func(s *stage, r *record.Record) { r.Time += 301 }, denial.Expired},
		"far from the log's time":          {record.EventStart, func(s *stage, r *record.Record) { r.Time -= 1000 }, denial.EvidenceStale},
		"of a revoked initiator":           {record.EventStart, func(s *stage, _ *record.Record) { s.revoke(record.CauseInitiator, robotURI) }, denial.InitiatorRevoked},
		"on a revoked host":                {record.EventStart, func(s *stage, _ *record.Record) { s.revoke(record.CauseHost, hostURI) }, denial.HostRevoked},
		"a number left out":                {record.EventStart, func(_ *stage, r *record.Record) { r.Emitter.Seq++ }, denial.StateRollback},
		"a number again":                   {record.EventStart, func(_ *stage, r *record.Record) { r.Emitter.Seq-- }, denial.StateRollback},
		"another record before it":         {record.EventStart, func(_ *stage, r *record.Record) { r.Previous = nonce(32) }, denial.StateRollback},
		"a new epoch":                      {record.EventStart, func(_ *stage, r *record.Record) { r.Emitter.Epoch = nonce(16) }, denial.StateRollback},
		"another gate's":                   {record.EventStart, func(_ *stage, r *record.Record) { r.Emitter.URI = gateURI + "2" }, denial.NotPermitted},
		"by a key never enrolled":          {record.EventStart, func(s *stage, _ *record.Record) { s.Host.Key = issuertest.NewKey(s) }, denial.KeyUnknown},
		"code that is not pinned":          {record.EventStart, func(_ *stage, r *record.Record) { r.Execution.Code = nonce(32) }, denial.CodeDigestMismatch},
		"a script that is not pinned":      {record.EventStart, func(_ *stage, r *record.Record) { r.Execution.Script = nonce(32) }, denial.CodeDigestMismatch},
		"another host":                     {record.EventStart, func(_ *stage, r *record.Record) { r.Workload = robotURI }, denial.LogInconsistent},
		"another initiator":                {record.EventStart, func(_ *stage, r *record.Record) { r.Initiator = mallory }, denial.LogInconsistent},
		"another policy":                   {record.EventStart, func(_ *stage, r *record.Record) { r.Policy.Hash = nonce(32) }, denial.LogInconsistent},
		"logged after expiry":              {record.EventStart, func(s *stage, _ *record.Record) { s.Advance(359 * time.Second) }, denial.Expired},
		"of before an epoch":               {record.EventStart, func(s *stage, _ *record.Record) { s.restore(s.Backup(), func(e *record.Epoch) { e.Lost = nil }) }, denial.ArtifactRevoked},
		"of a host approved anew":          {record.EventStart, func(s *stage, _ *record.Record) { s.approve() }, denial.NotPermitted},
		"an end without a start":           {record.EventEnd, func(_ *stage, r *record.Record) { r.Execution.Start = nonce(32) }, denial.StateRollback},
		"an end of another use":            {record.EventEnd, func(_ *stage, r *record.Record) { r.Execution.Use = 2 }, denial.LogInconsistent},
		"an event that gates do not write": {record.EventSummary, func(_ *stage, r *record.Record) { r.Execution = nil }, denial.NotPermitted},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			m, _ := s.permit()
			claims, digest, err := artifact.Inspect(m.Artifact)
			if err != nil {
				t.Fatal(err)
			}
			start := must(s.report(m, record.EventStart, nil))(t)
			r := record.Record{Version: record.Version, Event: c.event, Time: s.Seconds(), CTI: claims.ID, Artifact: digest[:], Workload: hostURI,
				Initiator: claims.Initiator.Principal, Policy: &record.PolicyRef{ID: claims.Policy.ID, Hash: claims.Policy.Hash.Value},
				Emitter: record.Emitter{URI: gateURI, Epoch: s.Host.Chain.Epoch, Seq: s.Host.Chain.Next}, Previous: s.Host.Chain.Previous,
				Execution: &record.Execution{ID: claims.Execution.ID, Use: 2, Code: issuertest.Code[:]}}
			if c.event == record.EventEnd {
				r.Execution.Use, r.Execution.Start = 1, start[:]
			}
			c.edit(s, &r)
			s.wantForged(t, s.append(must(r.Sign(s.Ctx, s.Host.Key, gateURI))(t)), c.want)
		})
	}
}

// What a gate let run beyond its lease is no forgery, and not passed over either.
func TestX16_EndAfterTheLeaseIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		after uint64
		why   string
	}{
		"in time": {60, ""},
		"late":    {61, "the program ran for 61 s after its authorization had ended, as far as its gate knows"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			m, _ := s.permit()
			start := must(s.report(m, record.EventStart, nil))(t)
			claims, _, err := artifact.Inspect(m.Artifact)
			if err != nil {
				t.Fatal(err)
			}
			s.Advance(time.Duration(claims.Expires+c.after-s.Seconds()-1) * time.Second)
			must(s.report(m, record.EventEnd, func(r *record.Record) { r.Execution.Start, r.Execution.Ended = start[:], 201 }))(t)
			all := s.verify(s.export(audit.Query{})).Statements
			if f := all[len(all)-1]; f.Event != record.EventEnd.String() || f.Why != c.why || (f.Verdict == audit.Proved) != (c.why == "") {
				t.Errorf("got %+v, want %q", f, c.why)
			}
		})
	}
}

func TestForgedActIsRefuted(t *testing.T) {
	policy := func(s *stage, toml string, edit func(*record.Policy)) record.Policy {
		doc := must(firmwarepolicy.ParseTOML([]byte(toml)))(s)
		p := record.Policy{Version: record.Version, Kind: record.PolicyKind(doc.Kind()), ID: doc.ID(), Revision: doc.Version(), Document: doc.Canonical(), Time: s.Seconds()}
		edit(&p)
		return p
	}
	keep := func(*record.Policy) {}
	enrolment := func(s *stage, h *record.Host, i *record.Initiator, id string) record.Enrolment {
		return record.Enrolment{Version: record.Version, ID: id, Time: s.Seconds(), Nonce: nonce(16), Host: h, Initiator: i}
	}
	for name, c := range map[string]struct {
		act  func(*stage) record.Bundle
		want denial.Reason
	}{
		"a policy of one person": {func(s *stage) record.Bundle {
			return s.Sign(statement.Policy, policy(s, s.authorization("60s"), keep), alice)
		}, denial.PolicyUnsigned},
		"a policy of nobody we know": {func(s *stage) record.Bundle {
			return s.Sign(statement.Policy, policy(s, s.authorization("60s"), keep), robotURI, mallory)
		}, denial.KeyUnknown},
		"an older policy": {func(s *stage) record.Bundle {
			again := strings.Replace(s.authorization("60s"), "version = 2", "version = 1", 1)
			return s.Sign(statement.Policy, policy(s, again, keep), alice, bob)
		}, denial.PolicyRollback},
		"another version than the document's": {func(s *stage) record.Bundle {
			return s.Sign(statement.Policy, policy(s, s.authorization("60s"), func(p *record.Policy) { p.Revision += 9 }), alice, bob)
		}, denial.PolicyHashMismatch},
		"a revocation of one person": {func(s *stage) record.Bundle {
			return s.Sign(statement.Revocation, record.Revocation{Version: record.Version, Cause: record.CauseHost, Target: hostURI, Time: 1, Nonce: nonce(16)}, bob)
		}, denial.ThresholdNotMet},
		"an initiator's key again": {func(s *stage) record.Bundle {
			return s.Sign(statement.Enrolment, enrolment(s, nil, &record.Initiator{Kind: record.Human, Key: s.Keys[robotURI].Key()}, mallory), alice, bob)
		}, denial.IdentityConflict},
		"another key of an initiator, as another kind": {func(s *stage) record.Bundle {
			return s.Sign(statement.Enrolment, enrolment(s, nil, &record.Initiator{Kind: record.Human, Key: issuertest.NewKey(s).Key()}, robotURI), alice, bob)
		}, denial.IdentityConflict},
		"the host's EK for another host": {func(s *stage) record.Bundle {
			ek := s.Host.TPM.EKDigest()
			return s.Sign(statement.Enrolment, enrolment(s, &record.Host{EK: ek[:], Labels: map[string]string{}}, nil, hostURI+"2"), alice, bob)
		}, denial.IdentityConflict},
		"another EK for the host": {func(s *stage) record.Bundle {
			return s.Sign(statement.Enrolment, enrolment(s, &record.Host{EK: nonce(32), Labels: map[string]string{}}, nil, hostURI), alice, bob)
		}, denial.IdentityConflict},
		"A18 an approval that was drafted before the one in force": {func(s *stage) record.Bundle {
			return approval(s, func(c *statement.Claims) { c.Sequence-- })
		}, denial.DualControlMissing},
		"A18 an approval that leaves one out": {func(s *stage) record.Bundle { return approval(s, func(c *statement.Claims) { c.Sequence++ }) }, denial.DualControlMissing},
		"A17 an approval that had expired by then": {func(s *stage) record.Bundle {
			return approval(s, func(c *statement.Claims) { c.IssuedAt, c.Expires = c.IssuedAt-60, c.IssuedAt })
		}, denial.Expired},
		"A17 an approval of later": {func(s *stage) record.Bundle { return approval(s, func(c *statement.Claims) { c.IssuedAt += 3000 }) }, denial.NotYetValid},
		"A17 an approval for longer than a month": {func(s *stage) record.Bundle {
			return approval(s, func(c *statement.Claims) { c.Expires += 31 * 86400 })
		}, denial.LifetimeTooLong},
		"A16 a policy with two keys of one person": {func(s *stage) record.Bundle {
			return s.Sign(statement.Policy, policy(s, s.authorization("60s"), keep), alice, issuertest.AliceToo)
		}, denial.DualControlMissing},
		"A17 an approval of other bytes": {func(s *stage) record.Bundle {
			p := policy(s, s.authorization("60s"), keep)
			b := s.Sign(statement.Policy, p, alice, bob)
			p.Time++
			edited := s.Sign(statement.Policy, p, bob)[0]
			return record.Bundle{b[0], append(edited[:len(edited)-64:len(edited)-64], b[1][len(b[1])-64:]...)}
		}, denial.PolicyUnsigned},
		"a second genesis": {func(s *stage) record.Bundle { return s.Act }, denial.WrongType},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			s.wantForged(t, s.append(c.act(s)...), c.want)
		})
	}
	t.Run("an act twice", func(t *testing.T) {
		s := newStage(t)
		act := s.Sign(statement.Revocation, record.Revocation{Version: record.Version, Cause: record.CausePolicy, Target: "00", Time: 1, Nonce: nonce(16)}, alice, bob)
		s.append(act...)
		s.enrolInitiatorAs(alice)
		s.wantForged(t, s.append(act...), denial.RequestReplayed)
	})
	t.Run("an act for another issuer", func(t *testing.T) {
		s := newStage(t)
		r := record.Revocation{Version: record.Version, Cause: record.CauseHost, Target: hostURI, Time: 1, Nonce: nonce(16)}
		b := s.SignAs(issuerURI+"/2", statement.Revocation, r, alice, bob)
		s.wantForged(t, s.append(b...), denial.IdentityConflict)
	})
}

// approval returns an approval of the host, with other claims.
func approval(s *stage, edit func(*statement.Claims)) record.Bundle {
	ek := s.Host.TPM.EKDigest()
	e := record.Enrolment{Version: record.Version, ID: hostURI, Time: s.Seconds(), Nonce: nonce(16), Host: &record.Host{EK: ek[:], Labels: map[string]string{}}}
	c := s.ActClaims(issuerURI, statement.Enrolment, e)
	edit(&c)
	return s.SignWith(c, statement.Enrolment, e, alice, bob)
}

// P11: the auditor tells widening from narrowing as the issuer does.
func TestP11_WideningByOneIsRefuted(t *testing.T) {
	for name, row := range map[string]struct {
		lifetime string
		by       []string
		refuted  bool
	}{
		"narrower, by one": {"300s", []string{alice}, false},
		"wider, by both":   {"900s", []string{alice, bob}, false},
		"wider, by one":    {"900s", []string{alice}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := stageOf(issuertest.Founded(t, issuertest.OneMayNarrow))
			n := s.append(s.Sign(statement.Policy, s.Policy(s.authorization(row.lifetime)), row.by...)...)
			if row.refuted {
				s.wantForged(t, n, denial.DualControlMissing)
				return
			}
			for _, f := range s.verify(s.export(audit.Query{})).Statements { // the issuer never had its document, which the bundle as a whole lacks
				if f.Index == n && f.Verdict != audit.Proved {
					t.Errorf("got %s, %s", f.Verdict, f.Reason)
				}
			}
		})
	}
}

// A16: who audits an issuer with a single authority has to know.
func TestOnePersonIsNoSurprise(t *testing.T) {
	s := stageOf(issuertest.Alone(t))
	bundle, trust := s.export(audit.Query{}), s.trust()
	for _, known := range []bool{true, false} {
		trust.OnePerson = known
		r := must(audit.Verify(s.Ctx, bytes.NewReader(bundle), trust, audit.Options{Now: s.Now()}))(t)
		if got := r.Err(); known && got != nil || !known && !denial.Is(got, denial.DualControlMissing) {
			t.Errorf("known %v: got %v", known, got)
		}
		if said := slices.ContainsFunc(r.Limits, func(l string) bool { return strings.Contains(l, "one person") }); said != known {
			t.Errorf("known %v: the report says so: %v", known, said)
		}
	}
}

// enrolInitiatorAs enrols an initiator with the key of another name.
func (s *stage) enrolInitiatorAs(id string) {
	s.Helper()
	s.apply(statement.Enrolment, record.Enrolment{Version: record.Version, ID: id, Time: s.Seconds(), Nonce: nonce(16),
		Initiator: &record.Initiator{Kind: record.Human, Key: issuertest.NewKey(s).Key()}})
}

func TestForgedEnrolmentIsRefuted(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*stage, *record.Record)
		want denial.Reason
	}{
		"another AK":             {func(s *stage, r *record.Record) { r.Enrolled.AK = s.Vendor.New(s, softtpm.Options{}).AK }, denial.LogInconsistent},
		"another gate key":       {func(s *stage, r *record.Record) { k := issuertest.NewKey(s).Key(); r.Enrolled.GateKey = &k }, denial.LogInconsistent},
		"no gate key":            {func(_ *stage, r *record.Record) { r.Enrolled.GateKey = nil }, denial.LogInconsistent},
		"another method":         {func(_ *stage, r *record.Record) { r.Enrolled.Method = "list" }, denial.LogInconsistent},
		"an act never signed":    {func(_ *stage, r *record.Record) { r.Enrolled.Enrolment = nonce(32) }, denial.NotEnrolled},
		"another host":           {func(_ *stage, r *record.Record) { r.Enrolled.Host += "2" }, denial.NotEnrolled},
		"another EK":             {func(_ *stage, r *record.Record) { r.Enrolled.EK = nonce(32) }, denial.NotEnrolled},
		"a host that is revoked": {func(s *stage, _ *record.Record) { s.revoke(record.CauseHost, hostURI) }, denial.HostRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			r := s.lastRecord(record.EventEnrol)
			r.Emitter.Seq += 100
			c.edit(s, &r)
			s.wantForged(t, s.append(must(r.Sign(s.Ctx, s.Keys[record.PurposeRecord], hostURI))(t)), c.want)
		})
	}
}

func TestForgedBirthIsRefuted(t *testing.T) {
	s := newStage(t)
	r := s.lastRecord(record.EventKey)
	r.Emitter.Seq += 100
	r.Birth.Key = s.Keys[record.PurposeArtifact].Key() // which is for another purpose
	s.wantForged(t, s.append(must(r.Sign(s.Ctx, s.Keys[record.PurposeRecord], issuerURI))(t)), denial.KeyUnknown)
}
