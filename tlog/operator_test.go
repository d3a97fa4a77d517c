package tlog

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// operator is somebody with root on the issuer and a copy of its database. He changes entries and makes everything else
// fit again: hashes, nodes, roots, marks. With the token he also signs the heads anew; without it, he signs with a key
// of his own, or with a retired one that he still has.
type operator struct {
	*site
	honest  *site // as it was
	entries [][]byte
	times   []uint64
}

// steal copies a site of n entries, each logged in its own second.
func steal(t *testing.T, n int) (*operator, []Appended) {
	t.Helper()
	s := newSite(t)
	var all []Appended
	o := &operator{honest: s}
	for i := range n {
		entry := fmt.Appendf(nil, "entry %d", i)
		a := s.append(Entry{Leaf: entry})[0]
		all, o.entries, o.times = append(all, a), append(o.entries, entry), append(o.times, a.Time)
		s.clock.seconds.Add(10)
	}
	return o, all
}

// rebuild writes a log of the operator's entries, under the token given, with the times given: one that opens and that
// Scrub finds nothing wrong with.
func (o *operator) rebuild(key *token) {
	o.honest.t.Helper()
	o.site = &site{t: o.honest.t, path: o.honest.t.TempDir() + "/log.db", token: key, clock: &clock{}}
	o.clock.seconds.Store(int64(o.times[0]))
	o.open()
	for i, e := range o.entries {
		o.clock.seconds.Store(int64(o.times[i]))
		o.append(Entry{Leaf: e})
	}
	if err := o.log.Scrub(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
}

// TestTheOperatorIsFoundOut lets the operator change the past, with the token in his hands, and rebuild everything so that
// the log itself opens and finds nothing wrong. Whoever holds a receipt or a checkpoint of before finds out, offline.
func TestTheOperatorIsFoundOut(t *testing.T) {
	t.Parallel()
	const n, at = 12, 5
	for name, c := range map[string]struct {
		change  func(*operator)
		reason  denial.Reason // to who kept the checkpoint of before
		receipt bool          // whether the receipt of entry at still fits the new log
	}{
		"drop":    {func(o *operator) { o.entries = slices.Delete(o.entries, at, at+1) }, denial.StateRollback, false},
		"edit":    {func(o *operator) { o.entries[at] = []byte("entry five") }, denial.LogInconsistent, false},
		"reorder": {func(o *operator) { o.entries[at], o.entries[at+1] = o.entries[at+1], o.entries[at] }, denial.LogInconsistent, false},
		"add": {func(o *operator) {
			o.entries = slices.Insert(o.entries, at, []byte("back-dated"))
			o.times = append(o.times, o.times[n-1])
		}, denial.LogInconsistent, false},
		"fork": {func(o *operator) {
			o.entries[n-1] = []byte("other")
			o.entries = append(o.entries, []byte("more"))
			o.times = append(o.times, o.times[n-1])
		}, denial.LogInconsistent, true},
		"roll back": {func(o *operator) { o.entries = o.entries[:at+2] }, denial.StateRollback, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, given := steal(t, n)
			kept, entry := o.honest.verifiedCheckpoint(), o.entries[at]
			c.change(o)
			o.rebuild(o.honest.token)
			now := o.verifiedCheckpoint() // the key is right, so it verifies
			var path []receipt.Hash
			if now.Size >= kept.Size {
				var err error
				if path, err = o.log.ConsistencyPath(t.Context(), kept.Size, now.Size); err != nil {
					t.Fatal(err)
				}
			}
			wantReason(t, now.Follows(kept, path), c.reason)
			o.heldAgainst(given[at], entry, c.receipt)
		})
	}
}

// heldAgainst holds a receipt against the rebuilt log: its head must be the beginning of the newest head.
func (o *operator) heldAgainst(given Appended, entry []byte, fits bool) {
	o.t.Helper()
	p, err := receipt.Verify(given.Receipt, entry, o.keys())
	if err != nil {
		o.t.Fatal(err)
	}
	raw, err := o.log.Consistency(o.t.Context(), p.Size, o.log.Head().Size)
	if err == nil {
		_, err = receipt.VerifyConsistency(raw, receipt.Head{Size: p.Size, Root: p.Root, Time: p.Time}, o.keys())
	}
	if (err == nil) != fits {
		o.t.Errorf("the receipt of before: got %v, fits %v", err, fits)
	}
}

// TestTheOperatorBackDates gives an entry an earlier time: the receipt that its caller has says another one, and a time
// before the head before it is refused.
func TestTheOperatorBackDates(t *testing.T) {
	t.Parallel()
	o, given := steal(t, 8)
	for i := 5; i < 8; i++ {
		o.times[i] = o.times[4] // as if all had come at once
	}
	entry := o.entries[6]
	o.rebuild(o.honest.token)
	p, err := receipt.Verify(given[6].Receipt, entry, o.keys())
	if err != nil {
		t.Fatal(err)
	}
	now, err := o.log.Receipt(t.Context(), 6)
	if err != nil {
		t.Fatal(err)
	}
	q, err := receipt.Verify(now, entry, o.keys())
	if err != nil {
		t.Fatal(err)
	}
	// Two signed heads of one log, of the same size and root, with two times: the key's own contradiction.
	if p.Size != q.Size || p.Root != q.Root || p.Time == q.Time || p.Log != q.Log {
		t.Errorf("got %+v and %+v, want them to differ in time alone", p, q)
	}
	o.close()
	o.tamper(fmt.Sprintf("UPDATE heads SET time = %d WHERE size = 8", o.times[0]-1))
	o.refusedOpen(o.options(), denial.LogInconsistent)
}

// TestTheOperatorWithoutTheToken rebuilds with a key of his own, or with a retired one. Who trusts the log key alone
// believes neither; and the log itself refuses a head that a retired key signed after those of its successor.
func TestTheOperatorWithoutTheToken(t *testing.T) {
	t.Parallel()
	o, _ := steal(t, 8)
	honest := o.honest
	o.entries[3] = []byte("forged")
	o.rebuild(newToken(t, newKey(t)))
	_, raw, err := o.log.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	key, err := receipt.LogNoteKey("issuer.example/log", honest.token.Key())
	if err != nil {
		t.Fatal(err)
	}
	_, err = receipt.VerifyCheckpoint(raw, []receipt.NoteKey{key}, nil)
	wantReason(t, err, denial.KeyUnknown)
	forged, err := o.log.Receipt(t.Context(), 3)
	if err != nil {
		t.Fatal(err)
	}
	_, err = receipt.Verify(forged, o.entries[3], honest.keys())
	wantReason(t, err, denial.KeyUnknown)
	o.close()
	honest.close()
	stolen := o.options()
	stolen.Signer = honest.token
	o.refusedOpen(stolen, denial.LogInconsistent) // the issuer's own key does not take it over
}

// TestTheOperatorSignsWithARetiredKey rolls a log, whose key has been replaced, back to before and goes on with the old key.
func TestTheOperatorSignsWithARetiredKey(t *testing.T) {
	t.Parallel()
	o, _ := steal(t, 6)
	old := o.honest.token
	before := o.honest.crashed() // what he copied
	o.honest.close()
	o.honest.token = newToken(t, newKey(t))
	rotated := o.honest.options()
	rotated.Earlier = []statement.Key{old.Key()}
	log, err := Open(t.Context(), rotated)
	if err != nil {
		t.Fatal(err)
	}
	o.honest.log = log
	o.honest.appendN(3)
	kept := o.honest.verifiedCheckpoint()
	o.honest.close()
	before.open()
	before.clock.seconds.Add(int64(time.Hour / time.Second))
	before.append(leaf("signed with the retired key"), leaf("b"), leaf("c"), leaf("d"))
	_, raw, err := before.log.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now, err := receipt.LogNoteKey("issuer.example/log", o.honest.token.Key())
	if err != nil {
		t.Fatal(err)
	}
	_, err = receipt.VerifyCheckpoint(raw, []receipt.NoteKey{now}, nil)
	wantReason(t, err, denial.KeyUnknown) // who trusts the present key alone
	was, err := receipt.LogNoteKey("issuer.example/log", old.Key())
	if err != nil {
		t.Fatal(err)
	}
	forged, err := receipt.VerifyCheckpoint(raw, []receipt.NoteKey{now, was}, nil)
	if err != nil {
		t.Fatal(err)
	}
	path, err := before.log.ConsistencyPath(t.Context(), kept.Size, forged.Size)
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, forged.Follows(kept, path), denial.LogInconsistent) // who still believes both, and kept a checkpoint
	before.close()
	mark := before.options()
	mark.Path = o.honest.path // the forged database put in place of the honest one, whose mark is still there
	copyTable(t, before.path, o.honest.path)
	o.honest.refusedOpen(mark, denial.LogInconsistent)
}

// copyTable replaces the database at to by a copy of the one at from.
func copyTable(t *testing.T, from, to string) {
	t.Helper()
	db, err := sql.Open("sqlite", from)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, suffix := range []string{"", "-wal", "-shm"} {
		removeIfThere(t, to+suffix)
	}
	if _, err := db.Exec("VACUUM INTO ?", to); err != nil {
		t.Fatal(err)
	}
}

func removeIfThere(t *testing.T, path string) {
	t.Helper()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
}
