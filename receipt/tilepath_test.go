package receipt

import (
	"errors"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
)

// A client that has nothing but tiles gets root and path of every older tree, and a changed tile is found out.
func TestT09_TilesProveWhatATreeBeganWith(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 700)
	sizes := []uint64{0, 1, 2, 3, 128, 255, 256, 257, 511, 512, 513, 600, 699, 700}
	at := func(size uint64) *Checkpoint {
		return &Checkpoint{Origin: "log", Size: size, Root: f.headAt(size).Root}
	}
	for _, to := range sizes {
		for _, from := range sizes {
			root, path, err := TilePrefix(from, to, f.tile)
			if from > to {
				if !denial.Is(err, denial.StateRollback) {
					t.Errorf("%d to %d: got %v, want 508", from, to, err)
				}
				continue
			}
			if err != nil || root != at(from).Root || at(to).VerifyPrefix(from, root, path) != nil || at(to).Follows(at(from), path) != nil {
				t.Errorf("%d to %d: %v, root right: %t", from, to, err, root == at(from).Root)
			}
		}
	}
	fetched := 0
	for _, broken := range []int{0, 31, 32 * 100} {
		forged := func(tile Tile) ([]byte, error) {
			data, _ := f.tile(tile)
			data = slices.Clone(data)
			if fetched++; broken < len(data) {
				data[broken] ^= 1
			}
			return data, nil
		}
		root, path, err := TilePrefix(600, 700, forged)
		if err != nil || at(700).VerifyPrefix(600, root, path) == nil {
			t.Errorf("byte %d changed: %v", broken, err)
		}
	}
	if fetched > 3*4 {
		t.Errorf("%d tiles were fetched for three proofs", fetched)
	}
	for name, fetch := range map[string]FetchTile{
		"short": func(tile Tile) ([]byte, error) { data, err := f.tile(tile); return data[:len(data)-32], err },
		"long": func(tile Tile) ([]byte, error) {
			data, err := f.tile(tile)
			return append(data, make([]byte, 32)...), err
		},
		"empty": func(Tile) ([]byte, error) { return nil, nil },
	} {
		if _, _, err := TilePrefix(600, 700, fetch); !denial.Is(err, denial.ReceiptInvalid) {
			t.Errorf("%s: got %v, want 324", name, err)
		}
	}
	if _, _, err := TilePrefix(600, 700, func(Tile) ([]byte, error) { return nil, errors.ErrUnsupported }); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v", err)
	}
	if at(700).VerifyPrefix(701, Hash{}, nil) == nil {
		t.Error("a tree begins with a longer one")
	}
}
