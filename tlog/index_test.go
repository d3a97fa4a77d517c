package tlog

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

func TestRunsHoldEveryFullGroupOnce(t *testing.T) {
	top := run{level: topLevel}.size()
	sizes := []uint64{top - 1, top, top + 1, 3*top - 1, 40*top + 4*groupSize + 1}
	for size := range uint64(5000) {
		sizes = append(sizes, size)
	}
	for _, size := range sizes {
		var next uint64
		level, several := uint64(topLevel), 0
		keys := map[uint64]bool{}
		for _, r := range runsOf(size) {
			if r.first() != next || r.level > level {
				t.Fatalf("%d entries: run %+v begins at %d, want %d", size, r, r.first(), next)
			}
			if next += r.size(); r.level < level {
				level, several = r.level, 0
			}
			if several++; several > 3 && level < topLevel {
				t.Fatalf("%d entries: %d runs of level %d", size, several, level)
			}
			for _, key := range []uint64{r.key(), r.key() + r.bucket(1<<63), r.key() + r.bucket(1<<64-1)} {
				if key < r.key() || key >= r.key()+r.blocks() {
					t.Fatalf("%d entries: a block of %+v has key %d", size, r, key)
				}
			}
			if keys[r.key()] || keys[r.key()+r.blocks()-1] {
				t.Fatalf("%d entries: two runs have a block of the same key", size)
			}
			keys[r.key()], keys[r.key()+r.blocks()-1] = true, true
		}
		if next != size-size%groupSize {
			t.Fatalf("%d entries: the runs hold %d", size, next)
		}
	}
}

// numbered is a batch of entries that are like no others.
func numbered(from, n int) (entries []Entry) {
	for i := range n {
		entries = append(entries, leaf(fmt.Sprintf("numbered %d", from+i)))
	}
	return entries
}

// wantFound looks for the entries of numbered.
func (s *site) wantFound(n int) {
	s.t.Helper()
	for i := range n {
		index, ok, err := s.log.Find(context.Background(), statement.DigestOf(fmt.Appendf(nil, "numbered %d", i)))
		if err != nil || !ok || index != uint64(i) {
			s.t.Fatalf("of %d entries, finding %d: got %d, %v, %v", n, i, index, ok, err)
		}
	}
	if index, ok, err := s.log.Find(context.Background(), statement.DigestOf(fmt.Appendf(nil, "numbered %d", n))); err != nil || ok {
		s.t.Fatalf("of %d entries, finding one that is not there: got %d, %v, %v", n, index, ok, err)
	}
}

func TestEveryEntryIsFoundWhateverTheBatches(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	rnd, n := rand.New(rand.NewPCG(1, 2)), 0
	for _, batch := range []int{1, 62, 1, 1, 63, 64, 65, 700, 1, rnd.IntN(300), rnd.IntN(300), 1024 - 4} {
		s.append(numbered(n, batch)...)
		n += batch
		s.wantFound(n)
		if err := s.log.Scrub(t.Context()); err != nil {
			t.Fatalf("%d entries: %v", n, err)
		}
	}
	s.close()
	s.open()
	s.wantFound(n)
	view := func(r Reader) error {
		index, ok, err := r.Find(t.Context(), statement.DigestOf([]byte("numbered 700")))
		if !ok || index != 700 {
			t.Errorf("in a view: got %d, %v", index, ok)
		}
		return err
	}
	if err := s.log.View(t.Context(), view); err != nil {
		t.Error(err)
	}
}

func TestTheFirstOfEqualEntriesIsFound(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := map[string]uint64{}
	for i := range uint64(5 * groupSize) {
		text := fmt.Sprintf("entry %d", i%100)
		if _, ok := first[text]; !ok {
			first[text] = i
		}
		s.append(leaf(text))
		if got, _, err := s.log.Find(t.Context(), statement.DigestOf([]byte(text))); err != nil || got != first[text] {
			t.Fatalf("%q at %d: got %d, %v, want %d", text, i, got, err, first[text])
		}
	}
	s.check()
}

// A digest is found by all of it, not by the part that the index holds.
func TestDigestsThatBeginAlikeAreToldApart(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append(numbered(0, 10)...)
	want := statement.DigestOf([]byte("numbered 5"))
	alike := bytes.Clone(want[:])
	alike[31] ^= 1
	if err := s.log.db.script(fmt.Sprintf("UPDATE leaves SET digest = x'%x' WHERE idx = 3", alike)); err != nil {
		t.Fatal(err)
	}
	s.append(numbered(10, groupSize)...)
	for index, digest := range map[uint64]statement.Digest{3: statement.Digest(alike), 5: want} {
		if got, ok, err := s.log.Find(t.Context(), digest); err != nil || !ok || got != index {
			t.Errorf("got %d, %v, %v, want %d", got, ok, err, index)
		}
	}
	alike[30] ^= 1
	if _, ok, err := s.log.Find(t.Context(), statement.Digest(alike)); ok || err != nil {
		t.Errorf("found one that is not there: %v", err)
	}
}

// While runs take the place of others, who looks for an entry finds it.
func TestEntriesAreFoundWhileRunsMerge(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var size atomic.Int64
	done := make(chan error)
	go func() {
		defer close(done)
		for n := 0; n < 3000; n += 60 {
			if _, err := s.log.Append(context.Background(), numbered(n, 60)...); err != nil {
				done <- err
				return
			}
			size.Add(60)
		}
	}()
	rnd := rand.New(rand.NewPCG(3, 4))
	for {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			s.wantFound(3000)
			return
		default:
		}
		if n := size.Load(); n > 0 {
			want := rnd.Int64N(n)
			got, ok, err := s.log.Find(t.Context(), statement.DigestOf(fmt.Appendf(nil, "numbered %d", want)))
			if err != nil || !ok || got != uint64(want) {
				t.Fatalf("finding %d: got %d, %v, %v", want, got, ok, err)
			}
		}
	}
}

// TestEntriesAreFoundByTheirNames looks for entries that share names, whatever the batches, with names that begin alike.
func TestEntriesAreFoundByTheirNames(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	alike := func(last byte) Name { return Name{1, 2, 3, 4, 5, 6, 7, 8, 15: last} }
	want := map[Name][]uint64{alike(9): nil}
	blobs := map[string]bool{}
	rnd, n := rand.New(rand.NewPCG(5, 6)), uint64(0)
	for _, batch := range []int{1, 62, 1, 65, 700, 1, rnd.IntN(300), 3} {
		entries := numbered(int(n), batch)
		for i := range entries {
			for _, name := range []Name{{byte(rnd.IntN(5))}, alike(byte(rnd.IntN(3)))} {
				entries[i].Names = append(entries[i].Names, name, name)
				want[name] = append(want[name], n)
			}
			blob := fmt.Sprintf("blob %d", n/2) // each is brought twice
			entries[i].Blobs, blobs[blob] = [][]byte{[]byte("before"), []byte(blob)}, true
			n++
		}
		s.append(entries...)
		for name, all := range want {
			if got, err := s.log.Named(t.Context(), name); err != nil || !slices.Equal(got, all) {
				t.Fatalf("%d entries, %x: got %d, %v, want %d", n, name, got, err, all)
			}
		}
	}
	for blob := range blobs {
		if !s.has(blob) {
			t.Errorf("%s is not found", blob)
		}
	}
	s.wantFound(int(n))
	s.check()
	if err := s.log.db.script("UPDATE leaves SET names = CAST(substr(names, 17) AS BLOB) WHERE idx = 5"); err != nil {
		t.Fatal(err)
	}
	wantReason(t, s.log.Scrub(t.Context()), denial.StoreFault)
}

func TestT16_ScrubFindsAnIndexThatWasChanged(t *testing.T) {
	for name, c := range map[string]struct {
		script string
		found  bool // by Find too, or by the next append that merges
	}{
		"a block is gone":           {"DELETE FROM digests WHERE key >> 56 = 0", true},
		"a block is emptied":        {"UPDATE digests SET block = x'' WHERE key >> 56 = 0", true},
		"a block is cut":            {"UPDATE digests SET block = substr(block, 2) WHERE key >> 56 = 0", true},
		"an item is gone":           {"UPDATE digests SET block = substr(block, 1, length(block) - 12) WHERE key >> 56 = 0", true},
		"another number of items":   {"UPDATE digests SET block = CAST(x'00000001' || substr(block, 5) AS BLOB) WHERE key >> 56 = 0 AND key % 4 = 1", true},
		"a place is none":           {"UPDATE digests SET block = CAST(substr(block, 1, 12) || x'ffffffff' || substr(block, 17) AS BLOB) WHERE key >> 56 = 0", true},
		"places are swapped":        {"UPDATE digests SET block = CAST(substr(block, 1, 4) || substr(block, 17, 12) || substr(block, 5, 12) || substr(block, 29) AS BLOB) WHERE key >> 56 = 0", false},
		"a block of a greater run":  {"UPDATE digests SET block = substr(block, 1, length(block) - 12) WHERE key = 1 << 56", false},
		"there is a block too many": {"INSERT INTO digests VALUES (5 << 56, x'00000000')", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			const groups = 4 + 3 // one run of level 1 and three of level 0
			s.append(numbered(0, groups*groupSize)...)
			s.check()
			if err := s.log.db.script(c.script); err != nil {
				t.Fatal(err)
			}
			if c.found {
				s.refused(denial.AuditUnavailable, numbered(groups*groupSize, groupSize)...)
			}
			wantReason(t, s.log.Scrub(t.Context()), denial.StoreFault)
			s.refused(denial.AuditUnavailable, leaf("not signed further"))
		})
	}
}

func TestFindRefusesAnIndexWithoutABlock(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.append(numbered(0, 2*groupSize)...)
	if err := s.log.db.script("DELETE FROM digests WHERE key >= 4 AND key < 8"); err != nil {
		t.Fatal(err)
	}
	_, _, err := s.log.Find(t.Context(), statement.DigestOf([]byte("numbered 1")))
	wantReason(t, err, denial.StoreFault)
}
