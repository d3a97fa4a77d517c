package tlog

import (
	"testing"

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
