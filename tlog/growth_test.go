package tlog

import (
	"bytes"
	"math/bits"
	"reflect"
	"slices"
	"testing"

	"github.com/transparency-dev/merkle/compact"

	"github.com/governed-execution/writ/receipt"
)

// TestGrowthIsThatOfTheTree compares growth with the tree of RFC 6962 computed node by node, for every size before and after.
func TestGrowthIsThatOfTheTree(t *testing.T) {
	const most = 70
	leaves := make([]receipt.Hash, most)
	for i := range leaves {
		leaves[i] = receipt.LeafHash([]byte{byte(i)})
	}
	all := map[compact.NodeID][]byte{}
	whole := ranges.NewEmptyRange(0)
	edges := [][][]byte{{}}
	for _, l := range leaves {
		if err := whole.Append(l[:], func(id compact.NodeID, hash []byte) { all[id] = hash }); err != nil {
			t.Fatal(err)
		}
		edges = append(edges, slices.Clone(whole.Hashes()))
	}
	get := func(ids []compact.NodeID) (hashes [][]byte, err error) {
		for _, id := range ids {
			hashes = append(hashes, all[id])
		}
		return hashes, nil
	}
	for from := range uint64(most) {
		for to := from + 1; to <= most; to++ {
			g := grow(tree{size: from, edge: edges[from]}, leaves[from:to])
			if root, err := rootOf(to, edges[to]); err != nil || g.root() != root {
				t.Fatalf("%d to %d: another root: %v", from, to, err)
			}
			if !reflect.DeepEqual(g.edge(), edges[to]) {
				t.Fatalf("%d to %d: another edge", from, to)
			}
			var completed int
			g.completed(func(id compact.NodeID, hash receipt.Hash) {
				if completed++; !bytes.Equal(all[id], hash[:]) {
					t.Fatalf("%d to %d: another node %v", from, to, id)
				}
			})
			if want := inner(to) - inner(from); completed != want {
				t.Fatalf("%d to %d: %d nodes completed, want %d", from, to, completed, want)
			}
			for i := from; i < to; i++ {
				if want, err := inclusionPath(i, to, get); err != nil || !slices.Equal(g.path(i), want) {
					t.Fatalf("%d to %d: another path of %d: %v", from, to, i, err)
				}
			}
		}
	}
}

// inner is how many complete nodes above the leaves a tree has.
func inner(size uint64) int { return int(size) - bits.OnesCount64(size) }
