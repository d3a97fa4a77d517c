package receipt

import (
	"fmt"
	"slices"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/governed-execution/writ/denial"
)

// FetchTile returns a tile of hashes.
type FetchTile func(Tile) ([]byte, error)

// TilePrefix computes, from the tiles of a tree, the root of its first entries and the consistency path from them to it. Nothing
// of it is verified: Follows, or VerifyPrefix, does that. It refuses a tile of another length (324).
func TilePrefix(from, size uint64, fetch FetchTile) (root Hash, path []Hash, err error) {
	if from > size {
		return root, nil, denial.New(denial.StateRollback, "the tree has %d entries, and there were %d", size, from)
	}
	edge, err := tileNodes(compact.RangeNodes(0, from, nil), size, fetch)
	if err != nil {
		return root, nil, err
	}
	slices.Reverse(edge)
	n, err := proof.Consistency(from, size)
	if err != nil {
		return root, nil, fmt.Errorf("choosing nodes: %w", err)
	}
	hashes, err := tileNodes(n.IDs, size, fetch)
	if err != nil {
		return root, nil, err
	}
	if hashes, err = n.Rehash(hashes, rfc6962.DefaultHasher.HashChildren); err != nil {
		return root, nil, fmt.Errorf("computing proof: %w", err)
	}
	for _, h := range hashes {
		path = append(path, Hash(h))
	}
	return rootOf(edge), path, nil
}

// tileNodes returns nodes of a tree from its tiles: each tile is fetched once.
func tileNodes(ids []compact.NodeID, size uint64, fetch FetchTile) ([][]byte, error) {
	kept := map[Tile][]byte{}
	out := make([][]byte, 0, len(ids))
	for _, id := range ids {
		level, width := int(id.Level/8), uint64(1)<<(id.Level%8)
		first := id.Index << (id.Level % 8) // of the hashes at the bottom of the tile that the node is over
		t := Tile{Level: level, Index: first / TileWidth}
		t.Width = int(min(TileWidth, size>>(8*level)-t.Index*TileWidth))
		if kept[t] == nil {
			data, err := fetch(t)
			if err != nil {
				return nil, err
			}
			if len(data) != t.Width*len(Hash{}) {
				return nil, denial.New(denial.ReceiptInvalid, "a tile has another length than its width demands")
			}
			kept[t] = data
		}
		hash, err := nodeOf(kept[t], first%TileWidth, width)
		if err != nil {
			return nil, err
		}
		out = append(out, hash)
	}
	return out, nil
}

// nodeOf returns the root over so many hashes of a tile, which are a power of two.
func nodeOf(tile []byte, first, width uint64) ([]byte, error) {
	var hashes []Hash
	for i := first; i < first+width; i++ {
		at := int(i) * len(Hash{})
		if at+len(Hash{}) > len(tile) {
			return nil, denial.New(denial.ReceiptInvalid, "a tile is too short for a node")
		}
		hashes = append(hashes, Hash(tile[at:at+len(Hash{})]))
	}
	roots, err := subtrees(hashes)
	if err != nil {
		return nil, err
	}
	return roots[0], nil
}

// VerifyPrefix checks that the first entries of the tree of a verified checkpoint have a root, by a consistency path. It refuses
// what does not lead to the root of the checkpoint: tiles that were forged, or are of another tree (324, T13).
func (c *Checkpoint) VerifyPrefix(from uint64, root Hash, path []Hash) error {
	if from > c.Size || proof.VerifyConsistency(rfc6962.DefaultHasher, from, c.Size, nodes(path), root[:], c.Root[:]) != nil {
		return denial.New(denial.ReceiptInvalid, "the path does not lead from the first %d entries to the root of the checkpoint", from)
	}
	return nil
}
