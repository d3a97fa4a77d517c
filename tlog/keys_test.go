package tlog

import (
	"fmt"
	"sync"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// signedBy returns the key of the first head over an entry, which must verify under one of the keys.
func (s *site) signedBy(index uint64, keys ...statement.Key) statement.Thumbprint {
	s.t.Helper()
	var trusted statement.Keys
	for _, k := range keys {
		if err := trusted.Add(k, statement.Receipt); err != nil {
			s.t.Fatal(err)
		}
	}
	raw, err := s.log.Receipt(s.t.Context(), index)
	if err != nil {
		s.t.Fatal(err)
	}
	entry, err := s.log.Leaf(s.t.Context(), index)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := receipt.Verify(raw, entry, trusted)
	if err != nil {
		s.t.Fatal(err)
	}
	return p.Key
}

// TestAnEntryPutsAnotherLogKeyInUse: the head over that entry is the first of the new key, whatever is written at once.
func TestAnEntryPutsAnotherLogKeyInUse(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	old, next := s.token.Key(), newToken(t, newKey(t))
	s.appendN(3)
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			e := leaf(fmt.Sprintf("at once %d", i))
			if i == 20 {
				e = Entry{Leaf: []byte("change"), Signer: next}
			}
			if _, err := s.log.Append(t.Context(), e); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	at, _, err := s.log.Find(t.Context(), statement.DigestOf([]byte("change")))
	if err != nil {
		t.Fatal(err)
	}
	head, err := s.log.HeadOver(t.Context(), at+1)
	if err != nil {
		t.Fatal(err)
	}
	previous := uint64(0) // size of the last head before the change
	for i := range s.log.Head().Size {
		h, err := s.log.HeadOver(t.Context(), max(i+1, 2))
		if err != nil {
			t.Fatal(err)
		}
		if h.Size < head.Size {
			previous = h.Size
		}
		want := next.Key().Thumbprint()
		if h.Size < head.Size {
			want = old.Thumbprint()
		}
		if got := s.signedBy(i, old, next.Key()); got != want {
			t.Errorf("entry %d under a head of %d, with the change at %d: signed by another key", i, h.Size, at)
		}
	}
	if previous == 0 {
		t.Error("no head before the change")
	}
	if keys := s.log.Keys(); len(keys) != 2 || !keys[0].Equal(next.Key()) || !keys[1].Equal(old) {
		t.Errorf("got %v", keys)
	}
	_, raw, err := s.log.Checkpoint(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	note, err := receipt.LogNoteKey(receipt.Origin(testLog), next.Key())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := receipt.VerifyCheckpoint(raw, []receipt.NoteKey{note}, nil); err != nil {
		t.Errorf("the checkpoint is not the new key's: %v", err)
	}
	if err := s.log.Scrub(t.Context()); err != nil {
		t.Error(err)
	}
	crashed := s.crashed()
	crashed.token = next
	o := crashed.options()
	o.Earlier = []statement.Key{old}
	for _, at := range []*site{crashed, {t: t, path: s.path, token: next, clock: s.clock}} {
		if at.path == s.path {
			s.close()
		}
		o.Path = at.path
		if at.log, err = Open(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if got := at.signedBy(s.log.Head().Size-1, old, next.Key()); got != next.Key().Thumbprint() {
			t.Error("after it was opened again, the last entry is under another key")
		}
		if got := at.signedBy(0, old, next.Key()); got != old.Thumbprint() {
			t.Error("after it was opened again, the first entry is under another key")
		}
		if err := at.log.Scrub(t.Context()); err != nil {
			t.Error(err)
		}
		if err := at.log.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestARefusedChangeLeavesTheLogKey: the key changes with the entry or not at all.
func TestARefusedChangeLeavesTheLogKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.appendN(2)
	next := newToken(t, newKey(t))
	s.refused(denial.StateRollback, Entry{Leaf: []byte("change"), Signer: next, Guards: []Guard{{Counter: "none", Value: 7, Reason: denial.StateRollback}}})
	s.appendN(1)
	if len(s.log.Keys()) != 1 || next.signed.Load() != 0 {
		t.Error("the key changed with an entry that was refused")
	}
	s.check()

	// The old key signs what it must before the new one begins, and nothing after.
	s.append(Entry{Leaf: []byte("change"), Signer: next})
	signed := s.token.signed.Load()
	s.append(leaf("more"))
	if s.token.signed.Load() != signed {
		t.Error("the earlier key signs")
	}
	// One that comes back is the log key again, and stands once.
	s.append(Entry{Leaf: []byte("back"), Signer: s.token})
	if keys := s.log.Keys(); len(keys) != 2 || !keys[0].Equal(s.token.Key()) {
		t.Errorf("got %v", keys)
	}
	if err := s.log.Scrub(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestAnEntryIsNotLoggedBeforeItsTime: what was decided for a time is not logged earlier, whoever else's clock said so.
func TestAnEntryIsNotLoggedBeforeItsTime(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	now := uint64(s.clock.now().Unix())
	s.refused(denial.ClockUntrusted, Entry{Leaf: []byte("early"), After: now + 1})
	s.append(Entry{Leaf: []byte("in time"), After: now})
	s.check()
}
