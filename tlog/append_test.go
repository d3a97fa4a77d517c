package tlog

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

func TestEveryEntryGetsAReceiptThatVerifies(t *testing.T) {
	s := newSite(t)
	s.check()
	for i := range 40 {
		var entries []Entry
		for j := range 1 + i%3 {
			entries = append(entries, leaf(fmt.Sprintf("entry %d.%d", i, j)))
		}
		s.clock.seconds.Add(int64(i % 2))
		for j, a := range s.append(entries...) {
			if a.Index == 0 {
				if a.Receipt != nil {
					t.Error("the sole entry of a log has a receipt")
				}
				continue
			}
			s.verify(a, entries[j].Leaf)
			stored, err := s.log.Receipt(context.Background(), a.Index)
			if err != nil || !bytes.Equal(stored, a.Receipt) {
				t.Fatalf("entry %d: the receipt that is read differs from the one handed out (%v)", a.Index, err)
			}
		}
		if i < 5 || i%10 == 0 {
			s.check()
		}
	}
	s.close()
	s.open()
	s.check()
}

func TestFirstBatchOfSeveralEntriesHasReceipts(t *testing.T) {
	s := newSite(t)
	done := s.append(leaf("genesis"), leaf("key"))
	s.verify(done[0], []byte("genesis"))
	s.verify(done[1], []byte("key"))
	s.check()
}

func TestOnceIsConsumedForEver(t *testing.T) {
	s := newSite(t)
	once := func(set, key string) Entry {
		return Entry{Leaf: []byte("request " + set + key), Once: []Once{{set, []byte(key), denial.RequestReplayed}}}
	}
	s.append(once("request", "a"))
	s.refused(denial.RequestReplayed, once("request", "a"))
	s.append(once("use", "a"))
	s.append(once("request", ""))
	s.refused(denial.RequestReplayed, once("request", ""))
	s.refused(denial.Internal, Entry{Leaf: []byte("x"), Once: []Once{{Set: "use", Key: []byte("a")}}})
	s.close()
	s.open()
	s.refused(denial.RequestReplayed, once("request", "a"))
	index, ok, err := s.log.Spent(context.Background(), "use", []byte("a"))
	if err != nil || !ok || index != 1 {
		t.Errorf("spent: got %d, %v, %v, want entry 1", index, ok, err)
	}
	if got := s.log.Head().Size; got != 3 {
		t.Errorf("got %d entries, want 3", got)
	}
	s.check()
}

func TestGuardsHoldOrRefuse(t *testing.T) {
	s := newSite(t)
	guarded := func(value uint64, reason denial.Reason) Entry {
		return Entry{Leaf: []byte("guarded"), Guards: []Guard{{"policy", value, reason}}, Bumps: []string{"policy"}}
	}
	s.append(guarded(0, denial.PolicyRollback))
	s.refused(denial.PolicyRollback, guarded(0, denial.PolicyRollback))
	if _, err := s.log.Append(context.Background(), guarded(0, 0)); !errors.Is(err, ErrStale) {
		t.Errorf("got %v, want ErrStale", err)
	}
	s.append(guarded(1, 0), guarded(2, 0)) // the second sees what the first raised
	value, err := s.log.Counter(context.Background(), "policy")
	if err != nil || value != 3 {
		t.Errorf("counter: got %d, %v, want 3", value, err)
	}
	s.check()
}

// Whatever part of the last entry is refused, nothing of the first may stay.
func TestAppendIsAllOrNothing(t *testing.T) {
	s := newSite(t)
	s.append(Entry{Leaf: []byte("first"), Once: []Once{{"set", []byte("used"), denial.RequestReplayed}},
		Puts: []Put{{"bucket", []byte("row"), []byte("old")}}})
	whole := Entry{Leaf: []byte("good"), Once: []Once{{"set", []byte("new"), denial.RequestReplayed}},
		Puts:  []Put{{"bucket", []byte("row"), []byte("changed")}, {"bucket", []byte("other"), []byte("x")}},
		Bumps: []string{"counter"}, Blobs: [][]byte{[]byte("data")}}
	for name, bad := range map[string]Entry{
		"used before":          {Leaf: []byte("bad"), Once: []Once{{"set", []byte("used"), denial.RequestReplayed}}},
		"used by its neighbor": {Leaf: []byte("bad"), Once: []Once{{"set", []byte("new"), denial.RequestReplayed}}},
		"used by itself":       {Leaf: []byte("bad"), Once: []Once{{"set", []byte("b"), 0}, {"set", []byte("b"), denial.RequestReplayed}}},
		"guard":                {Leaf: []byte("bad"), Guards: []Guard{{"counter", 0, denial.RequestReplayed}}},
	} {
		t.Run(name, func(t *testing.T) {
			s.t = t
			s.refused(denial.RequestReplayed, whole, bad)
			s.untouched("old")
			s.check()
		})
	}
	s.t = t
	s.append(whole)
	s.check()
}

// Digests that a caller has are not computed again. There must be one for each blob, and Scrub finds one that is another's.
func TestDigestsOfBlobsMayBeGiven(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	one, two := []byte("one"), []byte("two")
	s.append(Entry{Leaf: []byte("a"), Blobs: [][]byte{one, two}, Digests: []statement.Digest{statement.DigestOf(one), statement.DigestOf(two)}})
	if !s.has("one") || !s.has("two") {
		t.Error("a blob is not found")
	}
	s.append(leaf("b"))
	s.check()
	if _, err := s.log.Append(t.Context(), Entry{Leaf: []byte("c"), Blobs: [][]byte{one, two}, Digests: []statement.Digest{statement.DigestOf(one)}}); err == nil {
		t.Error("a digest may be missing")
	}
	s.append(Entry{Leaf: []byte("d"), Blobs: [][]byte{one}, Digests: []statement.Digest{statement.DigestOf(two)}})
	wantReason(t, s.log.Scrub(t.Context()), denial.StoreFault)
}

// untouched checks that nothing of the entry in TestAppendIsAllOrNothing is there.
func (s *site) untouched(row string) {
	s.t.Helper()
	ctx := context.Background()
	value, _, err := s.log.Value(ctx, "bucket", []byte("row"))
	if err != nil || string(value) != row {
		s.t.Errorf("row: got %q, %v, want %q", value, err, row)
	}
	if _, ok, err := s.log.Value(ctx, "bucket", []byte("other")); err != nil || ok {
		s.t.Errorf("other row: got %v, %v, want none", ok, err)
	}
	if n, err := s.log.Counter(ctx, "counter"); err != nil || n != 0 {
		s.t.Errorf("counter: got %d, %v, want 0", n, err)
	}
	if _, ok, err := s.log.Blob(ctx, statement.DigestOf([]byte("data"))); err != nil || ok {
		s.t.Errorf("blob: got %v, %v, want none", ok, err)
	}
	if _, ok, err := s.log.Spent(ctx, "set", []byte("new")); err != nil || ok {
		s.t.Errorf("spent: got %v, %v, want none", ok, err)
	}
	if got := s.log.Head().Size; got != 1 {
		s.t.Errorf("got %d entries, want 1", got)
	}
}

func TestR01_OneOfTwoHundredWins(t *testing.T) {
	s := newSite(t)
	s.appendN(1)
	const racers = 200
	errs := make([]error, racers)
	done := make([][]Appended, racers)
	entry := func(i int) Entry {
		return Entry{Leaf: fmt.Appendf(nil, "racer %d", i), Once: []Once{{"request", []byte("one"), denial.RequestReplayed}}}
	}
	var wg sync.WaitGroup
	for i := range racers {
		wg.Go(func() { done[i], errs[i] = s.log.Append(context.Background(), entry(i)) })
	}
	wg.Wait()
	winners := 0
	for i, err := range errs {
		if err == nil {
			winners++
			s.verify(done[i][0], entry(i).Leaf)
		} else if !denial.Is(err, denial.RequestReplayed) {
			t.Errorf("racer %d: got %v, want REQUEST_REPLAYED", i, err)
		}
	}
	if winners != 1 {
		t.Errorf("got %d winners, want 1", winners)
	}
	s.check()
}

func TestConcurrentAppendsAreDenseAndReceipted(t *testing.T) {
	s := newSite(t)
	const workers, each = 32, 12
	var mu sync.Mutex
	var indices []uint64
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				text := fmt.Sprintf("worker %d entry %d", w, i)
				done, err := s.log.Append(context.Background(), leaf(text), leaf(text+" b"))
				if err != nil {
					t.Error(err)
					return
				}
				if done[1].Index != done[0].Index+1 {
					t.Errorf("entries of one Append at %d and %d", done[0].Index, done[1].Index)
				}
				for j, a := range done {
					if _, err := receipt.Verify(a.Receipt, []byte(text+[]string{"", " b"}[j]), s.keys()); err != nil {
						t.Errorf("entry %d: %v", a.Index, err)
					}
				}
				mu.Lock()
				indices = append(indices, done[0].Index, done[1].Index)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(indices)
	for i, index := range indices {
		if uint64(i) != index {
			t.Fatalf("got index %d, want %d", index, i)
		}
	}
	if signed := s.token.signed.Load(); signed > workers*each {
		t.Errorf("%d signatures for %d requests", signed, workers*each)
	}
	s.check()
}

func TestEntryLimits(t *testing.T) {
	s := newSite(t)
	s.append(Entry{Leaf: bytes.Repeat([]byte{1}, statement.MaxStatement)})
	s.refused(denial.StructureLimit, Entry{Leaf: bytes.Repeat([]byte{1}, statement.MaxStatement+1)})
	s.refused(denial.StructureLimit, leaf("good"), Entry{Leaf: bytes.Repeat([]byte{1}, statement.MaxStatement+1)})
	if _, err := s.log.Append(context.Background(), Entry{}); err == nil {
		t.Error("appended an empty leaf")
	}
	if _, err := s.log.Append(context.Background()); err == nil {
		t.Error("appended nothing")
	}
	if got := s.log.Head().Size; got != 1 {
		t.Errorf("got %d entries, want 1", got)
	}
}

func TestT17_ClockThatGoesBackStopsTheLog(t *testing.T) {
	s := newSite(t)
	s.appendN(3)
	s.clock.seconds.Add(-3600)
	s.refused(denial.ClockUntrusted, leaf("late"))
	s.clock.seconds.Add(3599)
	s.refused(denial.ClockUntrusted, leaf("late"))
	if got := s.log.Head().Size; got != 3 {
		t.Fatalf("got %d entries, want 3", got)
	}
	s.close()
	s.open()
	s.refused(denial.ClockUntrusted, leaf("late"))
	s.clock.seconds.Store(0)
	s.refused(denial.ClockUntrusted, leaf("late"))
	s.clock.seconds.Store(testStart)
	if a := s.append(leaf("on time")); a[0].Time != testStart {
		t.Errorf("got time %d, want %d", a[0].Time, testStart)
	}
	s.check()
}

// The queue is bounded: while the key does not answer, callers beyond it are refused at once.
func TestR17_FullQueueRefuses(t *testing.T) {
	s := newSite(t)
	s.close()
	o := s.options()
	o.Queue = 1
	log, err := Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	s.log = log
	s.token.mu.Lock()
	const callers = 2 * maxBatch
	results := make(chan error, callers)
	for i := range callers {
		go func() {
			_, err := s.log.Append(context.Background(), leaf(fmt.Sprint(i)))
			results <- err
		}()
	}
	wantReason(t, <-results, denial.Overloaded) // nobody else can have an answer yet
	s.token.mu.Unlock()
	appended := uint64(0)
	for range callers - 1 {
		if err := <-results; err == nil {
			appended++
		} else {
			wantReason(t, err, denial.Overloaded)
		}
	}
	if got := s.log.Head().Size; got != appended {
		t.Errorf("got %d entries, want %d", got, appended)
	}
	s.check()
}

func TestCallerWhoGivesUp(t *testing.T) {
	s := newSite(t)
	s.appendN(1)
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.log.Append(gone, leaf("never")); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	// Committed, and given up while the head is being signed: it stays, and gets its receipt.
	s.token.mu.Lock()
	waiting, cancel := context.WithCancel(context.Background())
	result := make(chan error)
	go func() {
		_, err := s.log.Append(waiting, leaf("given up"))
		result <- err
	}()
	for n := uint64(0); n < 2; {
		n, _ = s.log.size(context.Background())
	}
	cancel()
	if err := <-result; !errors.Is(err, context.Canceled) || !denial.Is(denial.Of(err), denial.Internal) {
		t.Errorf("got %v, want Canceled", err)
	}
	s.token.mu.Unlock()
	s.append(leaf("next"))
	if got, err := s.log.Leaf(context.Background(), 1); err != nil || string(got) != "given up" {
		t.Errorf("entry 1: got %q, %v", got, err)
	}
	if _, ok, err := s.log.Find(context.Background(), statement.DigestOf([]byte("never"))); err != nil || ok {
		t.Errorf("the entry of a caller who had given up is in the log (%v)", err)
	}
	s.check()
}

func TestClosedLogRefuses(t *testing.T) {
	s := newSite(t)
	s.appendN(2)
	s.close()
	s.refused(denial.AuditUnavailable, leaf("late"))
	if err := s.log.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
}

// Callers who have work of their own between two entries come one by one. On one core the log must not commit for each.
func TestCallersWhoCompeteForTheCoreShareCommits(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	s := newSite(t)
	s.append(leaf("genesis"))
	before := s.token.signed.Load()
	const callers, rounds = 32, 8
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			work := make([]byte, 64<<10)
			for round := range rounds {
				for range 24 { // about a millisecond
					statement.DigestOf(work)
				}
				if _, err := s.log.Append(context.Background(), leaf(fmt.Sprintf("entry %d.%d", caller, round))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got, most := s.token.signed.Load()-before, int64(callers*rounds/8); got > most {
		t.Errorf("%d entries took %d commits, want at most %d", callers*rounds, got, most)
	}
	s.check()
}
