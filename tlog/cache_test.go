package tlog

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/governed-execution/writ/denial"
)

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// step puts the number into two rows and raises a counter to it, in one transaction.
func step(n uint64) Entry {
	e := leaf(fmt.Sprintf("step %d", n))
	e.Puts = []Put{{"state", []byte("one"), number(n)}, {"state", []byte("two"), number(n)}}
	e.Bumps = []string{"steps"}
	return e
}

// lookUp reads what step writes, in the order of the names.
func lookUp(t *testing.T, l *Log, names ...string) []uint64 {
	t.Helper()
	out := make([]uint64, len(names))
	for i, name := range names {
		if name == "steps" {
			n, err := l.Counter(t.Context(), name)
			if err != nil {
				t.Error(err)
			}
			out[i] = n
			continue
		}
		v, ok, err := l.Value(t.Context(), "state", []byte(name))
		if err != nil {
			t.Error(err)
		}
		if ok {
			out[i] = binary.BigEndian.Uint64(v)
		}
	}
	return out
}

// TestLookupsNeverGoBack reads while entries are appended: what is read later is never older, and an answered Append is
// seen by whoever looks up afterwards.
func TestLookupsNeverGoBack(t *testing.T) {
	s := newSite(t)
	s.append(leaf("genesis"))
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, names := range [][]string{{"steps", "one", "two"}, {"two", "steps", "one"}, {"one", "two", "steps", "one"}} {
		wg.Go(func() {
			last := uint64(0)
			for {
				select {
				case <-done:
					return
				default:
				}
				for _, n := range lookUp(t, s.log, names...) {
					if n < last {
						t.Errorf("%v: got %d after %d", names, n, last)
						return
					}
					last = n
				}
			}
		})
	}
	for n := uint64(1); n <= 300; n++ {
		s.append(step(n))
		for _, got := range lookUp(t, s.log, "steps", "one", "two") {
			if got != n {
				t.Errorf("got %d after step %d was answered", got, n)
			}
		}
	}
	close(done)
	wg.Wait()
}

func TestLookupsFollowEveryKindOfChange(t *testing.T) {
	s := newSite(t)
	s.append(leaf("genesis"))
	if got := lookUp(t, s.log, "one", "steps"); got[0] != 0 || got[1] != 0 {
		t.Fatalf("got %v of an empty log", got)
	}
	s.append(step(1)) // rows that were known to be absent
	refused := step(9)
	refused.Guards = []Guard{{Counter: "steps", Value: 7, Reason: denial.PolicyRollback}}
	if _, err := s.log.Append(t.Context(), refused); !denial.Is(err, denial.PolicyRollback) {
		t.Fatalf("got %v, want 402", err)
	}
	if got := lookUp(t, s.log, "one", "two", "steps"); got[0] != 1 || got[1] != 1 || got[2] != 1 {
		t.Errorf("got %v after a refusal, want 1", got)
	}
	v, _, err := s.log.Value(t.Context(), "state", []byte("one"))
	if err != nil {
		t.Fatal(err)
	}
	v[0] ^= 1 // the caller's own
	gone := leaf("gone")
	gone.Puts = []Put{{"state", []byte("two"), nil}}
	s.append(gone)
	if _, ok, err := s.log.Value(t.Context(), "state", []byte("two")); ok || err != nil {
		t.Errorf("got %v, %v of a deleted row", ok, err)
	}
	if got := lookUp(t, s.log, "one"); got[0] != 1 {
		t.Errorf("got %d, want 1", got[0])
	}
}

// TestNothingIsKeptThatAFailedCommitChanged reads in the midst of a commit whose answer is lost.
func TestNothingIsKeptThatAFailedCommitChanged(t *testing.T) {
	s := newSite(t)
	s.append(leaf("genesis"), step(1))
	commit := s.log.commit
	s.log.commit = func() error {
		lookUp(t, s.log, "one", "steps") // in the midst of the commit
		if err := commit(); err != nil {
			return err
		}
		if got := lookUp(t, s.log, "steps", "one"); got[0] != 2 || got[1] != 2 {
			t.Errorf("got %v after the commit, want 2", got)
		}
		return errors.New("the answer of the store was lost")
	}
	if _, err := s.log.Append(context.Background(), step(2)); !denial.Is(err, denial.AuditUnavailable) {
		t.Fatalf("got %v, want 902", err)
	}
	if got := lookUp(t, s.log, "steps", "one", "two"); got[0] != 2 || got[1] != 2 || got[2] != 2 {
		t.Errorf("got %v, want what the store holds", got)
	}
}

func TestCacheIsBounded(t *testing.T) {
	var c cache
	for n := range 2*maxCached + 1 {
		c.keep(0, func() { c.rows[rowKey{"b", fmt.Sprint(n)}] = row{ok: true} })
	}
	if got := len(c.rows); got > maxCached {
		t.Errorf("got %d rows, want at most %d", got, maxCached)
	}
}
