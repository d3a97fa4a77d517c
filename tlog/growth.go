package tlog

import (
	"math/bits"

	"github.com/transparency-dev/merkle/compact"

	"github.com/governed-execution/writ/receipt"
)

// growth is what a batch adds to the tree: of each level, from the leaves up to the root, the nodes that are new. Before them
// stands the last one of before, if it is the left sibling of the first new one. The last of a level may be incomplete:
// a node that has no sibling stands in the level above it too. So every path of a new leaf is at hand.
type growth struct {
	from, to uint64
	levels   []level
}

type level struct {
	first uint64 // index of nodes[0]
	nodes []receipt.Hash
}

// grow adds leaves, of which there is one at least, to a tree.
func grow(t tree, leaves []receipt.Hash) growth {
	g := growth{from: t.size, to: t.size + uint64(len(leaves))}
	left := len(t.edge) // of the edge; its nodes stand from the highest level down
	for fresh := leaves; ; {
		height := len(g.levels)
		l := level{first: g.from >> height, nodes: fresh}
		if l.first&1 == 1 {
			left--
			l.first, l.nodes = l.first-1, append([]receipt.Hash{receipt.Hash(t.edge[left])}, fresh...)
		}
		g.levels = append(g.levels, l)
		if (g.to-1)>>height == 0 {
			return g
		}
		fresh = parents(l.nodes)
	}
}

// parents returns the level above nodes, which begin with a left sibling.
func parents(nodes []receipt.Hash) []receipt.Hash {
	above := make([]receipt.Hash, 0, len(nodes)/2+1)
	for ; len(nodes) > 1; nodes = nodes[2:] {
		above = append(above, receipt.NodeHash(nodes[0], nodes[1]))
	}
	return append(above, nodes...)
}

func (g growth) root() receipt.Hash { return g.levels[len(g.levels)-1].nodes[0] }

// edge returns the edge of the grown tree.
func (g growth) edge() [][]byte {
	var edge [][]byte
	for height := bits.Len64(g.to) - 1; height >= 0; height-- {
		if end := g.to >> height; end&1 == 1 {
			node := g.levels[height].at(end - 1)
			edge = append(edge, node[:])
		}
	}
	return edge
}

func (l level) at(index uint64) receipt.Hash { return l.nodes[index-l.first] }

// completed calls visit for every inner node that became complete.
func (g growth) completed(visit func(id compact.NodeID, hash receipt.Hash)) {
	for height := 1; height < len(g.levels); height++ {
		for i := g.from >> height; i < g.to>>height; i++ {
			visit(compact.NewNodeID(uint(height), i), g.levels[height].at(i))
		}
	}
}

// path returns the inclusion path of a new leaf.
func (g growth) path(index uint64) []receipt.Hash {
	path := make([]receipt.Hash, 0, len(g.levels))
	for height, l := range g.levels[:len(g.levels)-1] {
		if at := index>>height ^ 1 - l.first; at < uint64(len(l.nodes)) {
			path = append(path, l.nodes[at])
		}
	}
	return path
}
