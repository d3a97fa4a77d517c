package tlog

import (
	"context"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// TestCheckNeedsNoKeyAndDisturbsNobody checks a log that is open, as writd fsck does.
func TestCheckNeedsNoKeyAndDisturbsNobody(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.appendN(7)
	check := func(keys ...statement.Key) (uint64, error) {
		view, err := OpenReadOnly(t.Context(), s.path)
		if err != nil {
			t.Fatal(err)
		}
		defer view.Close()
		return view.Check(t.Context(), keys, testIssuer, testLog)
	}
	if size, err := check(s.token.Key()); err != nil || size != 7 {
		t.Errorf("got %d, %v, want 7", size, err)
	}
	s.appendN(1)
	if _, err := check(newToken(t, newKey(t)).Key()); !denial.Is(err, denial.LogInconsistent) {
		t.Errorf("another key: got %v, want 325", err)
	}
	s.tamper("UPDATE leaves SET entry = x'00' WHERE idx = 3")
	if _, err := check(s.token.Key()); !denial.Is(err, denial.StoreFault) {
		t.Errorf("an entry was changed: got %v, want 906", err)
	}
	if err := s.log.Healthy(); err != nil { // it is not Check's to stop the log
		t.Error(err)
	}
}

// TestT16_ScrubOnATimerStopsTheLog flips a bit under a log that is open: the next scrub finds it, and nothing more is
// signed.
func TestT16_ScrubOnATimerStopsTheLog(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.appendN(7)
	tick, told := make(chan time.Time), make(chan error)
	ended := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		s.log.ScrubOn(ctx, tick, func(err error) { told <- err })
		close(ended)
	}()
	tick <- time.Time{}
	if err := <-told; err != nil || s.log.Scrubbed() != s.clock.seconds.Load() {
		t.Fatalf("got %v, scrubbed at %d", err, s.log.Scrubbed())
	}
	s.tamper("UPDATE leaves SET entry = CAST(x'00' || substr(entry, 2) AS BLOB) WHERE idx = 3")
	s.appendN(1) // not noticed before the scrub
	tick <- time.Time{}
	if err := <-told; !denial.Is(err, denial.StoreFault) {
		t.Errorf("got %v, want 906", err)
	}
	signed := s.token.signed.Load()
	s.refused(denial.AuditUnavailable, leaf("not signed"))
	if _, _, err := s.log.Checkpoint(t.Context()); !denial.Is(err, denial.AuditUnavailable) {
		t.Errorf("checkpoint: got %v, want 902", err)
	}
	if err := s.log.Healthy(); !denial.Is(err, denial.AuditUnavailable) {
		t.Errorf("health: got %v, want 902", err)
	}
	if got := s.token.signed.Load(); got != signed {
		t.Errorf("%d signatures after the scrub", got-signed)
	}
	stop()
	<-ended
}
