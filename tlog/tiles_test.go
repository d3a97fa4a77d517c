package tlog

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

func (s *site) fill(n int) {
	s.t.Helper()
	for from := int(s.log.Head().Size); from < n; {
		var entries []Entry
		for ; from < n && len(entries) < 100; from++ {
			entries = append(entries, Entry{Leaf: fmt.Appendf(nil, "entry %d", from)})
		}
		s.append(entries...)
	}
}

func (s *site) verifiedCheckpoint() *receipt.Checkpoint {
	s.t.Helper()
	head, raw, err := s.log.Checkpoint(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	key, err := receipt.LogNoteKey("issuer.example/log", s.token.Key())
	if err != nil {
		s.t.Fatal(err)
	}
	c, err := receipt.VerifyCheckpoint(raw, []receipt.NoteKey{key}, nil)
	if err != nil || c.Size != head.Size || c.Root != head.Root {
		s.t.Fatalf("got %+v for %+v, %v", c, head, err)
	}
	return c
}

// At sizes around those where tiles become full, tiles and bundles give the checkpoint's root.
func TestTilesAndBundlesGiveTheCheckpoint(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for _, size := range []int{1, 2, 255, 256, 257, 513, 1030} {
		s.fill(size)
		leaves, err := receipt.VerifyTiles(s.verifiedCheckpoint(), func(tile receipt.Tile) ([]byte, error) { return s.log.Tile(t.Context(), tile) })
		if err != nil || len(leaves) != size {
			t.Fatalf("size %d: %d leaves, %v", size, len(leaves), err)
		}
		for first := 0; first < size; first += receipt.TileWidth {
			width := min(receipt.TileWidth, size-first)
			data, err := s.log.Tile(t.Context(), receipt.Tile{Index: uint64(first / receipt.TileWidth), Width: width, Entries: true})
			if err != nil {
				t.Fatal(err)
			}
			entries, err := receipt.ParseBundle(data)
			if err != nil || len(entries) != width {
				t.Fatalf("size %d: %d entries in a bundle of %d, %v", size, len(entries), width, err)
			}
			for i, e := range entries {
				if receipt.LeafHash(e) != leaves[first+i] {
					t.Errorf("entry %d is not the one that its leaf hash is of", first+i)
				}
			}
		}
	}
}

func TestTilesThatAreNotInTheTreeAreNotFound(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	if _, _, err := s.log.Checkpoint(t.Context()); !errors.Is(err, ErrNotFound) {
		t.Errorf("checkpoint of nothing: got %v, want ErrNotFound", err)
	}
	s.fill(300)
	for _, tile := range []receipt.Tile{{Index: 1, Width: 45}, {Index: 1, Width: 256}, {Index: 2, Width: 1}, {Level: 1, Width: 2}, {Level: 2, Width: 1}, {Index: 1, Width: 45, Entries: true}} {
		if _, err := s.log.Tile(t.Context(), tile); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s: got %v, want ErrNotFound", tile.Path(), err)
		}
	}
}

// Entries whose head could not be signed never left, and do not leave as tiles either.
func TestTilesEndAtTheNewestSignedHead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill(3)
	s.token.dead.Store(true)
	if _, err := s.log.Append(t.Context(), Entry{Leaf: []byte("not answered")}); !denial.Is(err, denial.HSMUnavailable) {
		t.Fatalf("got %v, want %v", err, denial.HSMUnavailable)
	}
	if _, err := s.log.Tile(t.Context(), receipt.Tile{Width: 4, Entries: true}); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v, want ErrNotFound", err)
	}
	if _, _, err := s.log.Checkpoint(t.Context()); !denial.Is(err, denial.HSMUnavailable) {
		t.Errorf("checkpoint without key: got %v, want %v", err, denial.HSMUnavailable)
	}
}

func TestADamagedTileIsNotServed(t *testing.T) {
	t.Parallel()
	for name, sql := range map[string]string{
		"a leaf hash that is short": "UPDATE leaves SET hash = x'00' WHERE idx = 5",
		"an entry that is gone":     "DELETE FROM leaves WHERE idx = 299",
		"an entry that is too long": "UPDATE leaves SET entry = zeroblob(65536) WHERE idx = 7",
	} {
		s := newSite(t)
		s.fill(300)
		s.tamper(sql)
		failed := false
		for _, tile := range []receipt.Tile{{Width: 256}, {Index: 1, Width: 44}, {Width: 256, Entries: true}} {
			_, err := s.log.Tile(t.Context(), tile)
			failed = failed || denial.Is(err, denial.StoreFault)
		}
		if !failed {
			t.Errorf("%s: every tile was served", name)
		}
	}
}

func TestAStoppedLogSignsNoCheckpoint(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.fill(3)
	s.log.Stop()
	if _, _, err := s.log.Checkpoint(t.Context()); !denial.Is(err, denial.AuditUnavailable) {
		t.Errorf("got %v, want %v", err, denial.AuditUnavailable)
	}
	if _, err := s.log.Append(t.Context(), Entry{Leaf: []byte("x")}); !denial.Is(err, denial.AuditUnavailable) {
		t.Errorf("got %v, want %v", err, denial.AuditUnavailable)
	}
	if err := s.log.Healthy(); !denial.Is(err, denial.AuditUnavailable) || !strings.Contains(err.Error(), "store") {
		t.Errorf("health: got %v", err)
	}
}
