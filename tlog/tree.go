package tlog

import (
	"fmt"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/governed-execution/writ/receipt"
)

var ranges = &compact.RangeFactory{Hash: rfc6962.DefaultHasher.HashChildren}

// tree is the right edge of the Merkle tree, which is all that appending needs, with the time of the last head.
type tree struct {
	size uint64
	edge [][]byte // roots of the perfect subtrees that cover the leaves, from left to right
	time uint64
}

// rootOf returns the root over an edge of size leaves.
func rootOf(size uint64, edge [][]byte) (receipt.Hash, error) {
	if size == 0 {
		return receipt.Hash(rfc6962.DefaultHasher.EmptyRoot()), nil
	}
	r, err := ranges.NewRange(0, size, edge)
	if err != nil {
		return receipt.Hash{}, fmt.Errorf("reading tree edge: %w", err)
	}
	root, err := r.GetRootHash(nil)
	if err != nil {
		return receipt.Hash{}, fmt.Errorf("computing root: %w", err)
	}
	return receipt.Hash(root), nil
}

// fetch returns the hashes of complete nodes.
type fetch func(ids []compact.NodeID) ([][]byte, error)

func inclusionPath(index, size uint64, f fetch) ([]receipt.Hash, error) {
	n, err := proof.Inclusion(index, size)
	if err != nil {
		return nil, ErrNotFound
	}
	return rehash(n, f)
}

func consistencyPath(from, to uint64, f fetch) ([]receipt.Hash, error) {
	n, err := proof.Consistency(from, to)
	if err != nil {
		return nil, ErrNotFound
	}
	return rehash(n, f)
}

func rehash(n proof.Nodes, f fetch) ([]receipt.Hash, error) {
	hashes, err := f(n.IDs)
	if err != nil {
		return nil, err
	}
	nodes, err := n.Rehash(hashes, rfc6962.DefaultHasher.HashChildren)
	if err != nil {
		return nil, fmt.Errorf("computing proof: %w", err)
	}
	path := make([]receipt.Hash, len(nodes))
	for i := range nodes {
		path[i] = receipt.Hash(nodes[i])
	}
	return path, nil
}
