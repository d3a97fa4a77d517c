package audit_test

import (
	"crypto/sha256"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/tlog"
)

// remade is what an issuer can mint past its own checks: a permit for a new request id, decided on the facts of one that
// it had permitted, about the host as the enrolment record with the digest has it.
func (s *stage) remade(enrolment statement.Digest) uint64 {
	s.Helper()
	s.refuse(denial.LifetimeTooLong, asking{edit: func(c *artifact.RequestClaims) { c.Lifetime = 3000 }})
	in := must(decision.DecodeInput(s.blob(s.lastRecord(record.EventDenial).Input)))(s)
	if enrolment != (statement.Digest{}) {
		in.Host.Enrolment = enrolment[:]
	}
	s.publish(s.longer())
	doc := s.docs[record.Authorization]
	hash := doc.Hash()
	in.Authorization = decision.Policy{ID: doc.ID(), Version: doc.Version(), Hash: hash[:]}
	d := decision.Decide(in, s.docs[record.Appraisal], doc)
	if err := d.Denied(); err != nil {
		s.Fatal(err)
	}
	leaf := must(artifact.Sign(s.Ctx, s.Keys[record.PurposeArtifact], d.Claims()))(s)
	return must(s.Tree.Append(s.Ctx, tlog.Entry{Leaf: leaf, Blobs: [][]byte{must(in.Encode())(s)}}))(s)[0].Index
}

// longer is the authorization policy with an hour of lifetime.
func (s *stage) longer() string { return s.authorization("3600s") }

// enrolled returns the digest of the newest enrolment record.
func (s *stage) enrolled() (digest statement.Digest) {
	s.Helper()
	want := must(statement.Marshal(s.lastRecord(record.EventEnrol)))(s)
	err := s.Tree.Leaves(s.Ctx, 0, s.Tree.Head().Size, func(_ uint64, leaf []byte) error {
		env := must(statement.Decode(leaf, statement.MaxStatement))(s)
		if string(env.Payload()) == string(want) {
			digest = env.Digest()
		}
		return nil
	})
	if err != nil || digest == (statement.Digest{}) {
		s.Fatalf("no enrolment record: %v", err)
	}
	return digest
}

func TestPermitOnTheEnrolmentInForceOnly(t *testing.T) {
	t.Run("in force", func(t *testing.T) {
		s := newStage(t)
		s.enrolHost()
		index := s.remade(statement.Digest{})
		if f := finding(t, s.verify(s.export(audit.Query{})), index); f.Verdict != audit.Proved {
			t.Errorf("got %s: %s", f.Verdict, f.Why)
		}
	})
	t.Run("superseded", func(t *testing.T) {
		s := newStage(t)
		old := s.enrolled()
		s.enrolHost()
		s.wantForged(t, s.remade(old), denial.NotEnrolled)
	})
}

func TestActivationOfAnOldApprovalIsRefuted(t *testing.T) {
	s := newStage(t)
	r := s.lastRecord(record.EventEnrol)
	s.approve()
	r.Emitter.Seq += 100
	s.wantForged(t, s.append(must(r.Sign(s.Ctx, s.Keys[record.PurposeRecord], hostURI))(t)), denial.NotEnrolled)
}

func TestRecordByTheGateKeyOfAnOldEnrolmentIsRefuted(t *testing.T) {
	s := newStage(t)
	m, _ := s.permit()
	must(s.report(m, record.EventStart, nil))(t)
	old, chain := s.Host.Key, s.Host.Chain
	s.enrolHost()
	r := s.lastRecord(record.EventStart)
	r.Time, r.Emitter.Seq, r.Previous, r.Execution.Use = s.Seconds(), chain.Next, chain.Previous, 2
	s.wantForged(t, s.append(must(r.Sign(s.Ctx, old, gateURI))(t)), denial.NotPermitted)
}

// A start must be of the code that the artifact pins, with the arguments that it pins.
func TestStartOfOtherArgumentsIsRefuted(t *testing.T) {
	args := artifact.ParametersDigest([]string{"/usr/bin/reconcile", "--all"})
	other := sha256.Sum256([]byte("other arguments"))
	for name, c := range map[string]struct {
		edit func(*record.Record)
		want denial.Reason // zero: proved
	}{
		"the pinned ones":   {func(r *record.Record) { r.Execution.Args = args.Value }, 0},
		"others":            {func(r *record.Record) { r.Execution.Args = other[:] }, denial.ScopeDenied},
		"none":              {func(*record.Record) {}, denial.ScopeDenied},
		"a script's":        {func(r *record.Record) { r.Execution.Args, r.Execution.Script = args.Value, issuertest.Code[:] }, 0},
		"a script's others": {func(r *record.Record) { r.Execution.Args, r.Execution.Script = other[:], issuertest.Code[:] }, denial.ScopeDenied},
		"other interpreter": {func(r *record.Record) {
			r.Execution.Args, r.Execution.Script, r.Execution.Code = args.Value, issuertest.Code[:], other[:]
		}, denial.CodeDigestMismatch},
		"another appraisal": {func(r *record.Record) {
			r.Execution.Args, r.Appraisal = args.Value, &record.PolicyRef{ID: "https://x/y", Hash: other[:]}
		}, denial.LogInconsistent},
		"no policy is named": {func(r *record.Record) { r.Execution.Args, r.Policy = args.Value, nil }, denial.LogInconsistent},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStage(t)
			m, _, err := s.ask(asking{edit: func(c *artifact.RequestClaims) { c.Scope[0].Terms.Parameters = &args }})
			if err != nil {
				t.Fatal(err)
			}
			first := must(s.report(m, record.EventStart, func(r *record.Record) { r.Execution.Args = args.Value }))(t)
			r := s.lastRecord(record.EventStart)
			r.Emitter.Seq, r.Previous = s.Host.Chain.Next, first[:]
			r.Execution = &record.Execution{ID: r.Execution.ID, Use: 2, Code: issuertest.Code[:]}
			c.edit(&r)
			index := s.append(must(r.Sign(s.Ctx, s.Host.Key, gateURI))(t))
			if c.want != 0 {
				s.wantForged(t, index, c.want)
			} else if f := finding(t, s.verify(s.export(audit.Query{})), index); f.Verdict != audit.Proved {
				t.Errorf("got %s: %s", f.Verdict, f.Why)
			}
		})
	}
}
