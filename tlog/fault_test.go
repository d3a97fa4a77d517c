package tlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

var errDisk = errors.New("input/output error")

func onceEntry(text string) Entry {
	return Entry{Leaf: []byte(text), Once: []Once{{"request", []byte(text), denial.RequestReplayed}}}
}

// readable checks that reads still work.
func (s *site) readable(size uint64) {
	s.t.Helper()
	if got, err := s.log.size(context.Background()); err != nil || got != size {
		s.t.Fatalf("got %d entries, %v, want %d", got, err, size)
	}
	if _, err := s.log.Receipt(context.Background(), 0); err != nil {
		s.t.Fatalf("receipt: %v", err)
	}
}

// The commit fails before and after it takes effect: the caller is refused, the log stops, and what is on the disk is
// found again when it is opened.
func TestT06_FailedCommitLatchesTheLog(t *testing.T) {
	for name, after := range map[string]bool{"before it takes effect": false, "after it took effect": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.appendN(3)
			commit := s.log.commit
			s.log.commit = func() error {
				if after {
					return errors.Join(commit(), errDisk)
				}
				return errDisk
			}
			_, err := s.log.Append(context.Background(), onceEntry("lost"))
			wantReason(t, err, denial.AuditUnavailable)
			if !errors.Is(err, errDisk) {
				t.Errorf("got %v, which hides the fault", err)
			}
			s.log.commit = commit
			s.refused(denial.AuditUnavailable, leaf("next"))
			size := uint64(3)
			if after {
				size = 4
			}
			s.readable(size)
			s.close()
			s.open()
			s.check()
			if after {
				s.refused(denial.RequestReplayed, onceEntry("lost"))
			} else {
				s.append(onceEntry("lost"))
			}
			s.readable(4)
			s.check()
		})
	}
}

func TestT06_FailedMarkLatchesTheLog(t *testing.T) {
	s := newSite(t)
	s.appendN(3)
	s.log.mark.file.Close()
	s.refused(denial.AuditUnavailable, leaf("lost"))
	s.refused(denial.AuditUnavailable, leaf("next"))
	if err := s.log.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Close: got %v, want the mark's error", err)
	}
	s.open()
	s.readable(4)
	s.check()
}

func TestT06_FailedCheckpointLatchesTheLog(t *testing.T) {
	s := newSite(t)
	commit := s.log.commit
	s.log.dirty = checkpointBytes
	s.log.commit = func() error { // leaves another transaction open, in which SQLite makes no checkpoint
		return errors.Join(commit(), s.log.db.script("BEGIN; INSERT INTO leaves (idx, hash, digest, names, entry) VALUES (9, x'', x'', x'', x'')"))
	}
	s.append(leaf("a"), leaf("b")) // durable before the checkpoint fails
	s.refused(denial.AuditUnavailable, leaf("next"))
	s.readable(2)
	s.close()
	s.open()
	s.readable(2)
	s.check()
}

func TestCheckpointsKeepTheWriteAheadLogShort(t *testing.T) {
	s := newSite(t)
	blob := make([]byte, 1<<20)
	for i := range 50 {
		blob[0] = byte(i)
		s.append(Entry{Leaf: fmt.Appendf(nil, "%d", i), Blobs: [][]byte{blob}})
	}
	info, err := os.Stat(s.path + "-wal")
	if err != nil || info.Size() > 2*checkpointBytes {
		t.Errorf("the write-ahead log has %d bytes, %v", info.Size(), err)
	}
	s.check()
}

func TestT01_StoreThatCannotBeWritten(t *testing.T) {
	s := newSite(t)
	s.appendN(2)
	if err := s.log.db.script("PRAGMA query_only = 1"); err != nil {
		t.Fatal(err)
	}
	s.refused(denial.AuditUnavailable, onceEntry("request"))
	s.readable(2)
	if err := s.log.db.script("PRAGMA query_only = 0"); err != nil {
		t.Fatal(err)
	}
	s.append(onceEntry("request"))
	s.check()
}

// A full disk refuses, keeps what was there, and takes entries again when there is space (R05).
func TestT02_FullStoreRefusesAndRecovers(t *testing.T) {
	s := newSite(t)
	s.appendN(2)
	if err := s.log.db.script("PRAGMA max_page_count = 40"); err != nil {
		t.Fatal(err)
	}
	size, large := uint64(2), make([]byte, 20000)
	var err error
	for ; err == nil && size < 100; size++ {
		large[0] = byte(size)
		_, err = s.log.Append(context.Background(), Entry{Leaf: append([]byte(nil), large...)})
	}
	size--
	wantReason(t, err, denial.AuditUnavailable)
	s.refused(denial.AuditUnavailable, Entry{Leaf: large})
	s.readable(size)
	s.check()
	if err := s.log.db.script("PRAGMA max_page_count = 100000"); err != nil {
		t.Fatal(err)
	}
	s.append(Entry{Leaf: large})
	s.check()
}

// While the key does not sign, what was committed before it failed gets no receipt, nothing more is appended, and
// everything is signed when it works again.
func TestR07_LogKeyFailsAndHeals(t *testing.T) {
	s := newSite(t)
	s.appendN(3)
	s.token.dead.Store(true)
	_, err := s.log.Append(context.Background(), onceEntry("committed"))
	wantReason(t, err, denial.HSMUnavailable)
	if !errors.Is(err, errDead) {
		t.Errorf("got %v, which hides the fault", err)
	}
	for range 3 {
		s.refused(denial.HSMUnavailable, onceEntry("kept out"))
	}
	s.readable(4)
	if _, err := s.log.Receipt(context.Background(), 3); !errors.Is(err, ErrNotFound) {
		t.Errorf("receipt without signed head: got %v, want ErrNotFound", err)
	}
	if got := s.log.Head().Size; got != 3 {
		t.Errorf("signed head of %d entries, want 3", got)
	}
	s.token.dead.Store(false)
	s.clock.seconds.Add(100)
	s.refused(denial.RequestReplayed, onceEntry("committed"))
	s.append(onceEntry("kept out"))
	s.verify(s.readReceipt(3), []byte("committed"))
	if a := s.readReceipt(3); a.Time != testStart {
		t.Errorf("logged time %d, want that of its own batch", a.Time)
	}
	s.check()
}

// R07: heads that the key did not sign are signed by themselves when it does again, without an entry more.
func TestR07_HeadsAreSignedWithoutAnEntry(t *testing.T) {
	s, ctx := newSite(t), context.Background()
	if err := s.log.SignHeads(ctx); err != nil {
		t.Errorf("an empty log: %v", err)
	}
	s.appendN(3)
	s.token.dead.Store(true)
	if err := s.log.SignHeads(ctx); err != nil {
		t.Errorf("with nothing to sign: %v", err)
	}
	s.refused(denial.HSMUnavailable, leaf("committed"))
	wantReason(t, s.log.SignHeads(ctx), denial.HSMUnavailable)
	wantReason(t, s.log.Healthy(), denial.HSMUnavailable)
	s.token.dead.Store(false)
	if err := s.log.SignHeads(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.log.Healthy(); err != nil || s.log.Head().Size != 4 {
		t.Errorf("got a head of %d entries, %v", s.log.Head().Size, err)
	}
	s.verify(s.readReceipt(3), []byte("committed"))
	s.appendN(1)
	s.close()
	wantReason(t, s.log.SignHeads(ctx), denial.AuditUnavailable)
	s.open()
	s.check()
}

// readReceipt returns the receipt that the log gives for an entry, with the time it says.
func (s *site) readReceipt(index uint64) Appended {
	s.t.Helper()
	ctx := context.Background()
	raw, err := s.log.Receipt(ctx, index)
	if err != nil {
		s.t.Fatal(err)
	}
	entry, err := s.log.Leaf(ctx, index)
	if err != nil {
		s.t.Fatal(err)
	}
	p, err := receipt.Verify(raw, entry, s.keys())
	if err != nil {
		s.t.Fatal(err)
	}
	return Appended{Index: index, Receipt: raw, Time: p.Time}
}

// The key fails with a batch, and the log is closed or killed before it works again.
func TestR07_LogKeyHealsAfterRestart(t *testing.T) {
	for name, kill := range map[string]bool{"closed": false, "killed": true} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			s.appendN(2)
			s.token.dead.Store(true)
			s.refused(denial.HSMUnavailable, leaf("committed"))
			if kill {
				s = s.crashed()
				t.Cleanup(func() { s.log.Close() })
			} else {
				s.close()
			}
			s.open() // still dead
			s.refused(denial.HSMUnavailable, leaf("next"))
			s.token.dead.Store(false)
			s.clock.seconds.Add(50)
			s.append(leaf("next"))
			if a := s.readReceipt(2); a.Time != testStart {
				t.Errorf("logged time %d, want that of its own batch", a.Time)
			}
			s.check()
		})
	}
}

func TestT08_SecondWriterIsRefused(t *testing.T) {
	s := newSite(t)
	s.appendN(1)
	_, err := Open(context.Background(), s.options())
	wantReason(t, err, denial.StoreFault)
	s.append(leaf("still ours"))
	s.close()
	s.open()
	s.check()
}
