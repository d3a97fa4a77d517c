package receipt

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/governed-execution/writ/denial"
)

// TileWidth is how many hashes a full tile has, and how many entries a full bundle (C2SP tlog-tiles).
const TileWidth = 256

// maxLevel is above every level that a tree of 2^64 entries has.
const maxLevel = 8

// maxIndex is above the index of every tile of such a tree.
const maxIndex = 1 << 55

// Tile names a tile of hashes, or with Entries a bundle of entries, which stands at level 0.
type Tile struct {
	Level   int
	Index   uint64
	Width   int // TileWidth, or less for a partial tile at the right edge of some tree
	Entries bool
}

// Path returns the path of the tile below the log's prefix: tile/<L>/<N>[.p/<W>].
func (t Tile) Path() string {
	level := strconv.Itoa(t.Level)
	if t.Entries {
		level = "entries"
	}
	number := fmt.Sprintf("%03d", t.Index%1000)
	for n := t.Index / 1000; n > 0; n /= 1000 {
		number = fmt.Sprintf("x%03d/%s", n%1000, number)
	}
	if t.Width < TileWidth {
		number += ".p/" + strconv.Itoa(t.Width)
	}
	return "tile/" + level + "/" + number
}

// ParseTile reads what Path writes, in that one spelling.
func ParseTile(path string) (t Tile, ok bool) {
	rest, _ := strings.CutPrefix(path, "tile/")
	level, number, _ := strings.Cut(rest, "/")
	if t.Entries = level == "entries"; !t.Entries {
		n, err := strconv.ParseUint(level, 10, 8)
		if err != nil {
			return t, false
		}
		t.Level = int(n)
	}
	number, partial, cut := strings.Cut(number, ".p/")
	if t.Width = TileWidth; cut {
		w, err := strconv.ParseUint(partial, 10, 8)
		if err != nil || w == 0 {
			return t, false
		}
		t.Width = int(w)
	}
	for group := range strings.SplitSeq(strings.ReplaceAll(number, "x", ""), "/") {
		n, err := strconv.ParseUint(group, 10, 10)
		if err != nil || t.Index > maxIndex/1000 {
			return t, false
		}
		t.Index = t.Index*1000 + n
	}
	return t, t.Level < maxLevel && t.Path() == path
}

// In reports whether a tree of the size has the tile.
func (t Tile) In(size uint64) bool { return size>>(8*t.Level) >= t.Index*TileWidth+uint64(t.Width) }

// Tiles returns the tiles of hashes of a tree, full and partial, from level 0 up.
func Tiles(size uint64) []Tile {
	var all []Tile
	for level := 0; size > 0; level, size = level+1, size/TileWidth {
		for i := range size / TileWidth {
			all = append(all, Tile{Level: level, Index: i, Width: TileWidth})
		}
		if rest := size % TileWidth; rest > 0 {
			all = append(all, Tile{Level: level, Index: size / TileWidth, Width: int(rest)})
		}
	}
	return all
}

// VerifyTiles reads every tile of hashes of the tree of a verified checkpoint, and refuses one that is not exactly as
// long as its width demands, a full one whose hashes do not give the hash in the tile above it (T13), and those at the
// right edge that together do not give the root: all as RECEIPT_INVALID. It returns the leaf hashes that the tiles of
// level 0 hold, so that entries can be compared with them.
func VerifyTiles(c *Checkpoint, fetch func(Tile) ([]byte, error)) ([]Hash, error) {
	var leaves []Hash
	var below []Hash  // roots of the full tiles one level below
	var edge [][]byte // of the tree, from right to left
	for level, size := 0, c.Size; size > 0; level, size = level+1, size/TileWidth {
		hashes, err := fetchLevel(level, size, fetch)
		if err != nil {
			return nil, err
		}
		if level == 0 {
			leaves = hashes
		} else if !slices.Equal(hashes, below) {
			return nil, denial.New(denial.ReceiptInvalid, "a tile of level %d does not fit the tile above it", level-1)
		}
		full := len(hashes) / TileWidth * TileWidth
		below = below[:0:0]
		for tile := range slices.Chunk(hashes[:full], TileWidth) {
			root, err := subtrees(tile)
			if err != nil {
				return nil, err
			}
			below = append(below, Hash(root[0]))
		}
		rest, err := subtrees(hashes[full:])
		if err != nil {
			return nil, err
		}
		slices.Reverse(rest)
		edge = append(edge, rest...)
	}
	if rootOf(edge) != c.Root {
		return nil, denial.New(denial.ReceiptInvalid, "the tiles do not give the root of the checkpoint")
	}
	return leaves, nil
}

func fetchLevel(level int, size uint64, fetch func(Tile) ([]byte, error)) (hashes []Hash, err error) {
	for i := uint64(0); i*TileWidth < size; i++ {
		t := Tile{Level: level, Index: i, Width: int(min(TileWidth, size-i*TileWidth))}
		data, err := fetch(t)
		if err != nil {
			return nil, fmt.Errorf("fetching tile: %w", err)
		}
		if len(data) != t.Width*len(Hash{}) {
			return nil, denial.New(denial.ReceiptInvalid, "a tile has another length than its width demands")
		}
		for h := range slices.Chunk(data, len(Hash{})) {
			hashes = append(hashes, Hash(h))
		}
	}
	return hashes, nil
}

// subtrees returns the roots of the perfect subtrees over up to TileWidth hashes, from left to right.
func subtrees(hashes []Hash) ([][]byte, error) {
	factory := compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}
	r := factory.NewEmptyRange(0)
	for i := range hashes {
		if err := r.Append(hashes[i][:], nil); err != nil {
			return nil, fmt.Errorf("hashing tile: %w", err)
		}
	}
	return r.Hashes(), nil
}

// rootOf returns the root over an edge that is listed from right to left.
func rootOf(edge [][]byte) Hash {
	if len(edge) == 0 {
		return Hash(rfc6962.DefaultHasher.EmptyRoot())
	}
	root := edge[0]
	for _, left := range edge[1:] {
		root = rfc6962.DefaultHasher.HashChildren(left, root)
	}
	return Hash(root)
}

// ParseBundle takes a bundle of entries apart: each has its length in two bytes before it.
func ParseBundle(data []byte) (entries [][]byte, err error) {
	for len(data) > 0 {
		if len(data) < 2 || len(data)-2 < int(data[0])<<8+int(data[1]) {
			return nil, denial.New(denial.ReceiptInvalid, "a bundle ends within an entry")
		}
		n := 2 + int(data[0])<<8 + int(data[1])
		entries, data = append(entries, data[2:n]), data[n:]
	}
	return entries, nil
}
