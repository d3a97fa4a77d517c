package receipt

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/need"
)

func TestTilesAreNamedAsC2SPSays(t *testing.T) {
	t.Parallel()
	for path, tile := range map[string]Tile{
		"tile/0/x001/x234/067":     {Index: 1234067, Width: 256},
		"tile/0/000":               {Width: 256},
		"tile/2/000.p/1":           {Level: 2, Width: 1},
		"tile/entries/x001/000":    {Index: 1000, Width: 256, Entries: true},
		"tile/entries/273.p/112":   {Index: 273, Width: 112, Entries: true},
		"tile/7/x999/x999/999.p/7": {Level: 7, Index: 999999999, Width: 7},
	} {
		if got := tile.Path(); got != path {
			t.Errorf("got %s, want %s", got, path)
		}
		if got, ok := ParseTile(path); !ok || got != tile {
			t.Errorf("%s: got %+v, %v", path, got, ok)
		}
	}
	for _, path := range []string{"", "tile", "tile/", "tile/0", "tile/0/", "tile/0/0", "tile/0/0000", "tile/00/000", "tile/-1/000", "tile/8/000",
		"tile/64/000", "tile/0/001/000", "tile/0/x000/001", "tile/0/x001", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01", "tile/0/000.p/",
		"tile/0/000/", "tile/entries", "tile/entries/+01", "tile/0/xx01/000", "tile/0/x001/x234/06x7",
		"tile/0/" + strings.Repeat("x999/", 9) + "999", "tile/0/" + strings.Repeat("x999/", 900) + "999"} {
		if got, ok := ParseTile(path); ok {
			t.Errorf("%s was read as %+v", path, got)
		}
	}
}

// The example of the specification: 273 full and one partial tile of 112 at level 0, then 1 and 17, then 1.
func TestATreeOf70000HasTheTilesOfTheSpecification(t *testing.T) {
	t.Parallel()
	count := map[string]int{}
	for _, tile := range Tiles(70_000) {
		count[fmt.Sprintf("%d/%d", tile.Level, tile.Width)]++
		if !tile.In(70_000) {
			t.Errorf("%s is not in its tree", tile.Path())
		}
	}
	if want := map[string]int{"0/256": 273, "0/112": 1, "1/256": 1, "1/17": 1, "2/1": 1}; fmt.Sprint(count) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", count, want)
	}
	for _, tile := range []Tile{{Index: 273, Width: 113}, {Level: 2, Width: 2}, {Level: 7, Width: 1}, {Index: maxIndex, Width: 256}} {
		if tile.In(70_000) {
			t.Errorf("%s is in a tree of 70000", tile.Path())
		}
	}
}

// tile computes a tile with the reference tree.
func (f *fixture) tile(t Tile) ([]byte, error) {
	var data []byte
	step := uint64(1) << (8 * t.Level)
	for i := range uint64(t.Width) {
		at := (t.Index*TileWidth + i) * step
		sub := testonly.New(rfc6962.DefaultHasher)
		sub.AppendData(f.entries[at : at+step]...)
		data = append(data, sub.Hash()...)
	}
	return data, nil
}

func TestTilesGiveTheRoot(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 70_000/100)
	for _, size := range []uint64{0, 1, 2, 3, 255, 256, 257, 511, 512, 700} {
		leaves, err := VerifyTiles(&Checkpoint{Size: size, Root: f.headAt(size).Root}, f.tile)
		if err != nil || uint64(len(leaves)) != size {
			t.Errorf("size %d: %d leaves, %v", size, len(leaves), err)
		}
	}
}

func TestT13_AForgedTileIsRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 600)
	c := &Checkpoint{Size: 600, Root: f.headAt(600).Root}
	for _, forged := range Tiles(600) {
		for what, edit := range map[string]func([]byte) []byte{
			"one bit":      func(d []byte) []byte { d[len(d)/2] ^= 1; return d },
			"a hash short": func(d []byte) []byte { return d[32:] },
			"a byte more":  func(d []byte) []byte { return append(d, 0) },
			"swapped":      func(d []byte) []byte { return append(d[len(d)-32:], d[:len(d)-32]...) },
		} {
			_, err := VerifyTiles(c, func(t Tile) ([]byte, error) {
				data, err := f.tile(t)
				if t == forged {
					data = edit(bytes.Clone(data))
				}
				return data, err
			})
			if !denial.Is(err, denial.ReceiptInvalid) {
				t.Errorf("%s, %s: got %v, want %v", forged.Path(), what, err, denial.ReceiptInvalid)
			}
		}
	}
	failed := errors.New("no such tile")
	if _, err := VerifyTiles(c, func(Tile) ([]byte, error) { return nil, failed }); !errors.Is(err, failed) {
		t.Errorf("got %v, want the fetcher's own error", err)
	}
}

// TestTilesOfAnotherLog reads a log that Tessera wrote: entries, tiles and checkpoints of each size fit each other.
func TestTilesOfAnotherLog(t *testing.T) {
	t.Parallel()
	dir := corpus(t, "receipts/tessera-log")
	fetch := func(tile Tile) ([]byte, error) {
		return os.ReadFile(filepath.Join(dir, strings.ReplaceAll(tile.Path(), "/", "__")))
	}
	for size := uint64(1); size <= 15; size++ {
		raw, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("checkpoint.%d", size)))
		if err != nil {
			t.Fatal(err)
		}
		text, _, err := parseNote(raw)
		if err != nil {
			t.Fatal(err)
		}
		c, ok := parseText(text)
		if !ok || c.Size != size {
			t.Fatalf("checkpoint.%d: got %+v, %v", size, c, ok)
		}
		leaves, err := VerifyTiles(c, fetch)
		if err != nil {
			t.Fatalf("size %d: %v", size, err)
		}
		data, err := fetch(Tile{Width: int(size), Entries: true})
		if err != nil {
			t.Fatal(err)
		}
		entries, err := ParseBundle(data)
		if err != nil || uint64(len(entries)) != size {
			t.Fatalf("size %d: %d entries, %v", size, len(entries), err)
		}
		for i := range entries {
			if LeafHash(entries[i]) != leaves[i] {
				t.Errorf("size %d: entry %d is not the one in the tile", size, i)
			}
		}
		if _, err := ParseBundle(data[:len(data)-1]); !denial.Is(err, denial.ReceiptInvalid) {
			t.Errorf("a bundle that is cut off: got %v", err)
		}
	}
}

// corpus returns a directory of the corpus.
func corpus(t *testing.T, name string) string {
	t.Helper()
	return filepath.Join(need.Corpus(t), filepath.FromSlash(name))
}
