package audit_test

import (
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/issuer"
)

// T26: payloads of old entries go, except those under a legal hold; every statement, receipt and proof stays and verifies; what
// can no longer be decided again is a gap that the bundle names and the report shows, with who placed and lifted which hold.
func TestT26_RetentionIsToldAndProofsStay(t *testing.T) {
	s := newStage(t)
	s.enrolCarol()
	old, _ := s.permit()
	s.run(old, 1)
	hold := func(name string, from uint64) {
		t.Helper()
		if err := s.Issuer.PlaceHold(s.Ctx, issuer.Hold{Name: name, From: from, Reason: "litigation"}); err != nil {
			t.Fatal(err)
		}
	}
	hold("case 7", old.Index)
	hold("case 8", old.Index+1)
	s.Advance(issuer.MinRetention + time.Hour)
	young, _ := s.permit()
	purge := func(want uint64) {
		t.Helper()
		if got := must(s.Issuer.Purge(s.Ctx, s.Now().Add(-issuer.MinRetention)))(t); got != want {
			t.Errorf("payloads are gone before %d, want %d", got, want)
		}
	}
	purge(old.Index) // held from there on
	r := s.verify(s.export(audit.Query{}))
	wantProved(t, r)
	if f := finding(t, r, old.Index); f.Verdict != audit.Proved || len(r.Lacks) != 0 {
		t.Errorf("under a hold: got %s, gaps %+v", f.Verdict, r.Lacks)
	}
	if err := s.Issuer.LiftHold(s.Ctx, "case 7"); err != nil {
		t.Fatal(err)
	}
	purge(old.Index + 1)
	raw := s.export(audit.Query{Disclose: []string{"name"}})
	a := s.tell(raw)
	if a.Report.Verdict != audit.Unchecked || a.Report.Bundle.Verdict != audit.Proved {
		t.Fatalf("got %s", a.Report.Text())
	}
	for index, want := range map[uint64]audit.Verdict{old.Index: audit.Unchecked, old.Index + 1: audit.Proved, young.Index: audit.Proved} {
		if f := finding(t, a.Report, index); f.Verdict != want {
			t.Errorf("entry %d is %s: %s", index, f.Verdict, f.Why)
		}
	}
	lost := map[string]bool{}
	for _, l := range a.Report.Lacks {
		lost[l.Part] = true
	}
	if len(lost) != 4 || !lost["evidence"] || !lost["request"] || !lost["input"] || !lost["name"] {
		t.Errorf("got gaps %+v", a.Report.Lacks)
	}
	html := page(t, a)
	for _, want := range []string{"legal hold placed: payloads of entries from", "case 7", "litigation", "legal hold lifted",
		"payloads that only entries before", "Holds that stand at the end of this bundle: case 8", "deleted under retention"} {
		if !strings.Contains(html, want) {
			t.Errorf("the report does not say %q", want)
		}
	}
	if strings.Contains(html, personal["name"]) {
		t.Error("the report shows personal data that is deleted")
	}
}
