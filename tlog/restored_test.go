package tlog

import (
	"errors"
	"os"
	"testing"

	"github.com/transparency-dev/merkle/compact"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// lose restores the files of three entries beside the mark of five, and returns what an act would say.
func lose(s *site, c Counter) *Restored {
	s.t.Helper()
	s.appendN(3)
	s.anchored(c)
	head := s.log.Head().Head
	s.close()
	old := s.files()
	s.open()
	s.append(leaf("lost"), leaf("lost too"))
	s.anchored(c)
	s.close()
	mark := s.files()[".mark"]
	s.restore(old)
	s.restore(map[string][]byte{".mark": mark})
	return &Restored{Head: receipt.Head{Size: 3, Root: head.Root}, Act: statement.DigestOf([]byte("act")), Entries: 1,
		Covered: func(size uint64, _ receipt.Hash) bool { return size <= 5 }}
}

func (s *site) openRestored(r *Restored) error {
	o := s.options()
	o.Restored = r
	log, err := Open(s.t.Context(), o)
	if err == nil {
		s.log = log
	}
	return err
}

// P20: a log that has lost entries opens for just the head that the act names, and, killed at any step, ends with the act and the
// mark and counter of what there is now, or without any of them.
func TestP20_ARestoredLogOutlivesEachCrash(t *testing.T) {
	t.Parallel()
	gone := errors.New("the TPM is gone")
	for name, crash := range map[string]func(s *site, c *counter, old map[string][]byte) (done bool){
		"none":           func(*site, *counter, map[string][]byte) bool { return false },
		"before the act": func(s *site, _ *counter, _ map[string][]byte) bool { s.close(); return true },
		"between act and mark": func(s *site, _ *counter, old map[string][]byte) bool {
			s.append(leaf("act"))
			s.close()
			s.restore(map[string][]byte{".mark": old[".mark"]})
			return true
		},
		"before the counter": func(s *site, _ *counter, _ map[string][]byte) bool { s.append(leaf("act")); s.close(); return true },
		"counter not raised": func(s *site, c *counter, _ map[string][]byte) bool {
			s.append(leaf("act"))
			c.before = gone
			s.log.AnchorEpoch(s.t.Context(), c, c.value)
			c.before = nil
			s.close()
			return true
		},
		"its answer lost": func(s *site, c *counter, _ map[string][]byte) bool {
			s.append(leaf("act"))
			c.after = gone
			s.log.AnchorEpoch(s.t.Context(), c, c.value)
			c.after = nil
			s.close()
			return true
		},
		"after the counter": func(s *site, c *counter, _ map[string][]byte) bool {
			s.append(leaf("act"))
			s.log.AnchorEpoch(s.t.Context(), c, c.value)
			s.close()
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := newSite(t), &counter{}
			s.t = t
			r := lose(s, c)
			stands := c.value
			old := s.files()
			if _, err := Open(t.Context(), s.options()); !denial.Is(err, denial.StoreFault) {
				t.Fatalf("without the act: got %v, want 906", err)
			}
			if err := s.openRestored(r); err != nil {
				t.Fatal(err)
			}
			if crash(s, c, old) {
				if err := s.openRestored(r); err != nil {
					t.Fatal(err)
				}
			}
			if _, found, err := s.log.Find(t.Context(), r.Act); err != nil || !found {
				s.append(leaf("act"))
			}
			if err := s.log.AnchorEpoch(t.Context(), c, stands); err != nil {
				t.Fatal(err)
			}
			s.close()
			s.open() // as any log, from here on
			s.anchored(c)
			s.append(leaf("new"))
			s.check()
			s.close()
			today := s.files()
			s.restore(map[string][]byte{"": old[""]})
			if err := s.openRestored(r); err == nil { // without a mark of more than five, only the counter tells
				wantReason(t, s.log.AnchorEpoch(t.Context(), c, stands), denial.StateRollback)
				s.close()
			}
			s.restore(today)
			s.open()
		})
	}
}

func TestP20_ARestoredLogIsTheOneOfTheAct(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		spoil  func(*site, *Restored)
		reason denial.Reason
	}{
		"longer":               {func(_ *site, r *Restored) { r.Head.Size = 4 }, denial.StateRollback},
		"shorter":              {func(s *site, r *Restored) { r.Head = receipt.Head{Size: 2, Root: rootOfPlain(s, 2)} }, denial.StateRollback},
		"another head":         {func(_ *site, r *Restored) { r.Head.Root[0] ^= 1 }, denial.LogInconsistent},
		"more is lost":         {func(_ *site, r *Restored) { r.Covered = func(size uint64, _ receipt.Hash) bool { return size < 5 } }, denial.StateRollback},
		"a damaged mark":       {func(s *site, _ *Restored) { os.Truncate(s.path+".mark", 10) }, denial.StoreFault},
		"a mark of no tree":    {func(s *site, _ *Restored) { m, _ := openMark(s.path + ".mark"); m.write(2, receipt.Hash{1}); m.close() }, denial.LogInconsistent},
		"more than the act":    {func(s *site, r *Restored) { more(s, r, leaf("act"), leaf("more")) }, denial.StateRollback},
		"another in its place": {func(s *site, r *Restored) { more(s, r, leaf("other")) }, denial.StateRollback},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := newSite(t), &counter{}
			s.t = t
			r := lose(s, c)
			row.spoil(s, r)
			wantReason(t, s.openRestored(r), row.reason)
		})
	}
}

// more appends to the restored log what the act does not stand before.
func more(s *site, r *Restored, entries ...Entry) {
	s.t.Helper()
	if err := s.openRestored(r); err != nil {
		s.t.Fatal(err)
	}
	s.append(entries...)
	s.close()
}

func rootOfPlain(s *site, size uint64) receipt.Hash {
	s.t.Helper()
	db, err := OpenReadOnly(s.t.Context(), s.path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer db.Close()
	edge, err := db.nodes(s.t.Context(), compact.RangeNodes(0, size, nil))
	if err != nil {
		s.t.Fatal(err)
	}
	root, err := rootOf(size, edge)
	if err != nil {
		s.t.Fatal(err)
	}
	return root
}
