package issuer

import (
	"fmt"
	"testing"
	"time"
)

func TestRates(t *testing.T) {
	r, now := rates{rate: 2}, time.Unix(1_800_000_000, 0)
	admitted := func(caller string, n int) (count int) {
		for range n {
			if r.admit(caller, now) {
				count++
			}
		}
		return count
	}
	if got := admitted("a", 5); got != 2 {
		t.Errorf("got %d at once, want 2", got)
	}
	if got := admitted("b", 5); got != 2 {
		t.Errorf("got %d of another caller, want 2", got)
	}
	now = now.Add(500 * time.Millisecond)
	if got := admitted("a", 5); got != 1 {
		t.Errorf("got %d after half a second, want 1", got)
	}
	now = now.Add(-time.Hour)
	if got := admitted("a", 5); got != 0 {
		t.Errorf("got %d when the clock goes back, want 0", got)
	}
	now = now.Add(3 * time.Hour)
	if got := admitted("a", 5); got != 2 {
		t.Errorf("got %d after hours, want no more than 2", got)
	}
	for n := range 3 * maxRates {
		admitted(fmt.Sprint(n), 1)
	}
	if len(r.left) > maxRates {
		t.Errorf("%d callers are remembered", len(r.left))
	}
	slow := rates{rate: 0.1}
	if !slow.admit("a", now) || slow.admit("a", now) || !slow.admit("a", now.Add(10*time.Second)) {
		t.Error("a rate below one a second does not admit one in ten")
	}
}
