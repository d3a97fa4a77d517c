package tlog

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
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

// TestNothingIsKeptThatWasReadAcrossACommit holds a read between the database and the cache while a commit runs: at each
// of the places where one can begin and end, what was read is not kept, and what is kept is what the store holds.
func TestNothingIsKeptThatWasReadAcrossACommit(t *testing.T) {
	t.Parallel()
	k := rowKey{"state", "one"}
	change := []*request{{entries: []Entry{step(2)}}}
	var ended func(bool)
	begin := func(c *cache) { ended = c.begin(change, map[string]uint64{"steps": 2}) }
	end := func(*cache) { ended(true) }
	for name, row := range map[string]struct {
		before, within []func(*cache)
		kept           bool
	}{
		"no commit":                            {nil, nil, true},
		"a commit before it":                   {[]func(*cache){begin, end}, nil, true},
		"a commit that begins meanwhile":       {nil, []func(*cache){begin}, false},
		"a whole commit meanwhile":             {nil, []func(*cache){begin, end}, false},
		"two commits meanwhile":                {nil, []func(*cache){begin, end, begin, end}, false},
		"begun within a commit":                {[]func(*cache){begin}, nil, false},
		"begun within a commit, ended past it": {[]func(*cache){begin}, []func(*cache){end}, false},
	} {
		var c cache
		for _, f := range row.before {
			f(&c)
		}
		_, _, turn := c.row(k) // here the reader goes to the database, and comes back with an answer of some moment
		for _, f := range row.within {
			f(&c)
		}
		c.keep(turn, func() { c.rows[k] = rowOf(1) })
		if _, kept, _ := c.row(k); kept != row.kept {
			t.Errorf("%s: kept %v, want %v", name, kept, row.kept)
		}
		begin(&c)
		if _, kept, _ := c.row(k); kept {
			t.Errorf("%s: a commit that changes the row leaves it in the cache", name)
		}
	}
}

// TestWhatWasKnownIsKnownAfterACommit holds that a commit puts its own values in place of those that were in the cache,
// and a failed one none. What nobody asked for stays out.
func TestWhatWasKnownIsKnownAfterACommit(t *testing.T) {
	t.Parallel()
	one, two := rowKey{"state", "one"}, rowKey{"state", "two"}
	for _, committed := range []bool{true, false} {
		var c cache
		c.keep(0, func() { c.rows[one], c.numbers["steps"] = rowOf(1), 1 })
		e := step(2)
		e.Puts = append(e.Puts, step(3).Puts...) // the last value of a row is the one
		c.begin([]*request{{entries: []Entry{e}}}, map[string]uint64{"steps": 2})(committed)
		r, known, _ := c.row(one)
		if known != committed || known && !bytes.Equal(r.value, number(3)) {
			t.Errorf("committed %v: got %v, %x", committed, known, r.value)
		}
		if n, known, _ := c.number("steps"); known != committed || known && n != 2 {
			t.Errorf("committed %v: got %v, %d", committed, known, n)
		}
		if _, known, _ := c.row(two); known {
			t.Errorf("committed %v: a row is kept that nobody looked up", committed)
		}
	}
}

func rowOf(n uint64) row { return row{value: number(n), ok: true} }

// TestALongKeyIsNotKept: keys can come from callers, who could fill the memory with rows that do not exist.
func TestALongKeyIsNotKept(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append(leaf("genesis"))
	for _, size := range []int{10, maxCachedRow + 1} {
		if _, ok, err := s.log.Value(t.Context(), "state", make([]byte, size)); ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	s.log.cache.mu.RLock()
	defer s.log.cache.mu.RUnlock()
	if got := len(s.log.cache.rows); got != 1 {
		t.Errorf("%d rows are kept, want the one with the short key", got)
	}
}

// TestTwoRowsOfOneTransactionAreNeverTakenApart reads two rows that always change together, the older one first, while
// many callers change them: whoever sees the newer value in one sees none older in the other afterwards. Deletions count.
func TestTwoRowsOfOneTransactionAreNeverTakenApart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append(leaf("genesis"), step(1))
	var last atomic.Uint64
	last.Store(1)
	done := make(chan struct{})
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				floor := last.Load() // answered, so everybody must see it
				one := lookUp(t, s.log, "one")[0]
				two := lookUp(t, s.log, "two")[0]
				if one < floor || two < one {
					t.Errorf("got %d, then %d, after %d was answered", one, two, floor)
					return
				}
			}
		})
	}
	for n := uint64(2); n < 200; n++ {
		if n%7 == 0 { // a transaction that fails as a whole changes nothing in the cache
			bad := step(1 << 40)
			bad.Guards = []Guard{{Counter: "steps", Value: 1 << 50, Reason: denial.PolicyRollback}}
			if _, err := s.log.Append(t.Context(), bad); !denial.Is(err, denial.PolicyRollback) {
				t.Errorf("got %v, want 402", err)
			}
		}
		s.append(step(n))
		last.Store(n)
	}
	close(done)
	readers.Wait()
}
