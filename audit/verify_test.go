package audit_test

import (
	"encoding/hex"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/test/bootlog"
)

// story fills the log with permits, executions and refusals of every sort. It returns the permits.
func (s *stage) story() (permits []*issuer.Minted, requests []*artifact.RequestClaims) {
	s.Helper()
	m, c := s.permit()
	permits, requests = append(permits, m), append(requests, c)
	s.run(m, 1)
	back := *s.Host.TPM // so soon after the permit that it may have been made before
	back.Clock.ResetCount = 0
	s.refuse(denial.BootRollback, asking{tpm: &back})
	s.run(m, 2)
	s.mustReport(m, record.EventDenial)
	if _, err := s.report(m, record.EventStart, nil); !denial.Is(err, denial.ArtifactReplayed) {
		s.Fatalf("a use twice: %v", err)
	}
	s.refuse(denial.RequestReplayed, asking{edit: func(r *artifact.RequestClaims) { r.ID = c.ID }})
	s.refuse(denial.SecureBootOff, asking{boot: bootlog.New(bootlog.Options{NoSecureBoot: true})})
	s.refuse(denial.ScopeDenied, asking{edit: func(r *artifact.RequestClaims) { r.Scope[0].Target = "file:/usr/bin/other" }})
	s.refuse(denial.LifetimeTooLong, asking{edit: func(r *artifact.RequestClaims) { r.Lifetime = 3000 }})
	s.refuse(denial.ChannelBinding, asking{want: func(w *attest.Want) { w.Exporter[0] ^= 1 }})
	s.refuse(denial.KeyBinding, asking{want: func(w *attest.Want) { w.Bind = w.Bind[1:] }})
	s.refuse(denial.LogReplayMismatch, asking{log: bootlog.New(bootlog.Options{Image: []byte("another image")}).Log})
	s.refuse(denial.LogReplayMismatch, asking{log: bootlog.New(bootlog.Options{Image: []byte("another image")}).Log, beside: true})
	s.refuse(denial.ChallengeUnknown, asking{foreign: true})
	s.publish(s.authorization("120s"))
	s.refuse(denial.LifetimeTooLong, asking{})
	s.publish(s.Appraisal())
	m, c, err := s.ask(asking{initiator: mallory, edit: func(r *artifact.RequestClaims) { r.Lifetime = 60 }})
	if err != nil {
		s.Fatal(err)
	}
	permits, requests = append(permits, m), append(requests, c)
	if _, _, err := s.ask(asking{beside: true, edit: func(r *artifact.RequestClaims) { r.Lifetime = 60 }}); err != nil {
		s.Fatal(err)
	}
	claims, _, err := artifact.Inspect(m.Artifact)
	if err != nil {
		s.Fatal(err)
	}
	s.revoke(record.CauseArtifact, hex.EncodeToString(claims.ID))
	if _, err := s.report(m, record.EventStart, nil); !denial.Is(err, denial.ArtifactRevoked) {
		s.Fatalf("a revoked artifact: %v", err)
	}
	s.revoke(record.CauseInitiator, mallory)
	s.refuse(denial.InitiatorRevoked, asking{initiator: mallory})
	if _, err := s.Issuer.Mint(s.Ctx, issuer.NewConnection(), [32]byte{1}, []byte("noise"), nil); !denial.Is(err, denial.WrongType) {
		s.Fatalf("noise: %v", err)
	}
	if err := s.Issuer.Summarise(s.Ctx); err != nil {
		s.Fatal(err)
	}
	return permits, requests
}

func (s *stage) mustReport(m *issuer.Minted, event record.Event) {
	s.Helper()
	must(s.report(m, event, func(r *record.Record) {
		r.FillDenial(denial.New(denial.ScopeDenied, "the program is not in the scope").At(denial.StageScope), nil)
	}))(s)
}

func wantProved(t *testing.T, r *audit.Report) {
	t.Helper()
	if err := r.Err(); err != nil || r.Verdict != audit.Proved {
		t.Fatalf("got %v\n%s", err, r.Text())
	}
}

func TestWholeLogIsProvedAndDecidedAgain(t *testing.T) {
	s := newStage(t)
	s.story()
	raw := s.export(audit.Query{})
	r := s.verify(raw)
	wantProved(t, r)
	proved := map[uint64]int{}
	for _, f := range r.Statements {
		if f.Verdict == audit.Proved {
			proved[f.Denied]++
		}
	}
	for code, want := range map[denial.Reason]int{denial.RequestReplayed: 1, denial.SecureBootOff: 1, denial.ScopeDenied: 1, denial.LifetimeTooLong: 2,
		denial.ChannelBinding: 1, denial.KeyBinding: 1, denial.LogReplayMismatch: 2, denial.BootRollback: 1, denial.InitiatorRevoked: 1} {
		if proved[uint64(code.Code())] != want {
			t.Errorf("%s: %d refusals made again, want %d", code, proved[uint64(code.Code())], want)
		}
	}
	s.tick()
	again := s.verify(s.export(audit.Query{}))
	wantProved(t, again) // with the manifest of the first bundle in it
	if again.Head.Size != r.Head.Size+1 {
		t.Errorf("got %d entries, want one more than %d", again.Head.Size, r.Head.Size)
	}
}
