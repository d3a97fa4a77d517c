package receipt

import (
	"bytes"
	"fmt"
	"math/bits"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"github.com/governed-execution/writ/statement"
)

// inclusion is the content of one inclusion proof (RFC 9942, section 5.2).
type inclusion struct {
	_     struct{} `cbor:",toarray"`
	Size  uint64
	Index uint64
	Path  [][]byte
}

// consistency is the content of one consistency proof (RFC 9942, section 5.3).
type consistency struct {
	_    struct{} `cbor:",toarray"`
	From uint64
	To   uint64
	Path [][]byte
}

type inclusions struct {
	Proofs [][]byte `cbor:"-1,keyasint"`
}

type consistencies struct {
	Proofs [][]byte `cbor:"-2,keyasint"`
}

// root computes the root that the proof leads to from a leaf. It refuses an index that is not below the size, an empty
// path, a node that is not a hash and a path that is not exactly as long as size and index demand.
func (p inclusion) root(leaf Hash) (Hash, error) {
	if err := checkPath(p.Path); err != nil {
		return Hash{}, err
	}
	if err := checkPlace(p.Index, p.Size, len(p.Path)); err != nil {
		return Hash{}, err
	}
	inner := bits.Len64(p.Index ^ (p.Size - 1)) // so many nodes stand below where the way to the last entry joins
	root := leaf
	for i, node := range p.Path {
		if i < inner && p.Index>>i&1 == 0 {
			root = NodeHash(root, Hash(node))
		} else {
			root = NodeHash(Hash(node), root)
		}
	}
	return root, nil
}

// preceding folds the nodes of the path that stand on the left: together they are the entries before the index.
func (p inclusion) preceding() (root Hash) {
	inner := bits.Len64(p.Index ^ (p.Size - 1))
	found := false
	for i, node := range p.Path {
		switch left := i >= inner || p.Index>>i&1 == 1; {
		case left && found:
			root = NodeHash(Hash(node), root)
		case left:
			root, found = Hash(node), true
		}
	}
	return root
}

// root computes the newer root that the proof leads to from the older one, having checked that it leads to that too.
func (p consistency) root(old Hash) (Hash, error) {
	if err := checkPath(p.Path); err != nil {
		return Hash{}, err
	}
	if p.From == 0 || p.From >= p.To {
		return Hash{}, fmt.Errorf("reading consistency proof: sizes %d and %d", p.From, p.To)
	}
	// The proof is an inclusion path of the greatest perfect subtree that ends at From. The path starts with that
	// subtree, unless it is the whole older tree (RFC 9162, section 2.1.4.2).
	level := bits.TrailingZeros64(p.From)
	seed, path := p.Path[0], p.Path[1:]
	if p.From == 1<<level {
		seed, path = old[:], p.Path
	}
	index, size := (p.From-1)>>level, (p.To-1)>>level+1
	root, err := proof.RootFromInclusionProof(rfc6962.DefaultHasher, index, size, seed, path)
	if err != nil {
		return Hash{}, err
	}
	return Hash(root), proof.VerifyConsistency(rfc6962.DefaultHasher, p.From, p.To, p.Path, old[:], root)
}

// checkPlace refuses an index that is not below the size, and a path that is not exactly as long as size and index demand.
func checkPlace(index, size uint64, path int) error {
	if index >= size {
		return fmt.Errorf("reading proof: entry %d of %d", index, size)
	}
	inner := bits.Len64(index ^ (size - 1))
	if want := inner + bits.OnesCount64(index>>inner); path != want || path == 0 {
		return fmt.Errorf("reading proof: %d nodes for entry %d of %d", path, index, size)
	}
	return nil
}

func checkPath(path [][]byte) error {
	if len(path) == 0 {
		return fmt.Errorf("reading proof: the path is empty")
	}
	for _, node := range path {
		if len(node) != len(Hash{}) {
			return fmt.Errorf("reading proof: a node of %d bytes", len(node))
		}
	}
	return nil
}

// parseInclusion reads the map of label 396 with one proof. What is taken apart by hand must be, byte for byte, what
// encodeInclusion makes of it; anything else is left to the codec, which accepts nothing more and says what is wrong.
func parseInclusion(proofs []byte) (p inclusion, err error) {
	if size, index, path, ok := splitInclusion(proofs); ok && bytes.Equal(encodeInclusion(index, size, path), proofs) {
		return inclusion{Size: size, Index: index, Path: nodes(path)}, nil
	}
	var set inclusions
	if err := statement.Unmarshal(proofs, &set); err != nil {
		return p, err
	}
	if len(set.Proofs) != 1 {
		return p, fmt.Errorf("reading inclusion proof: %d proofs in one receipt", len(set.Proofs))
	}
	return p, statement.Unmarshal(set.Proofs[0], &p)
}

func parseConsistency(proofs []byte) (p consistency, err error) {
	var set consistencies
	if err := statement.Unmarshal(proofs, &set); err != nil {
		return p, err
	}
	if len(set.Proofs) != 1 {
		return p, fmt.Errorf("reading consistency proof: %d proofs in one receipt", len(set.Proofs))
	}
	return p, statement.Unmarshal(set.Proofs[0], &p)
}

// splitInclusion finds size, index and path where encodeInclusion puts them. It does not check what else is there.
func splitInclusion(proofs []byte) (size, index uint64, path []Hash, ok bool) {
	rest := proofs
	var n uint64
	for _, into := range []*uint64{&n, &n, &n, &n, &n, &size, &index, &n} { // map, key, array, string, array, size, index, path
		if rest, ok = statement.CutHead(rest, into); !ok {
			return 0, 0, nil, false
		}
	}
	if n > 64 || uint64(len(rest)) != n*(2+uint64(len(Hash{}))) {
		return 0, 0, nil, false
	}
	path = make([]Hash, n)
	for i := range path {
		copy(path[i][:], rest[2:])
		rest = rest[2+len(Hash{}):]
	}
	return size, index, path, true
}

// encodeInclusion returns the map of label 396 with one proof: what statement.Marshal makes of inclusions and inclusion.
func encodeInclusion(index, size uint64, path []Hash) []byte {
	const heads = 32 // of both, at most
	proof := statement.AppendArray(make([]byte, 0, heads+len(path)*(2+len(Hash{}))), 3)
	proof = statement.AppendUint(statement.AppendUint(proof, size), index)
	proof = statement.AppendArray(proof, len(path))
	for i := range path {
		proof = statement.AppendBytes(proof, path[i][:])
	}
	set := append(statement.AppendMap(make([]byte, 0, heads+len(proof)), 1), 0x20) // key -1
	return statement.AppendBytes(statement.AppendArray(set, 1), proof)
}

func (p consistency) encode() ([]byte, error) {
	enc, err := statement.Marshal(p)
	if err != nil {
		return nil, err
	}
	return statement.Marshal(consistencies{[][]byte{enc}})
}

func nodes(path []Hash) [][]byte {
	list := make([][]byte, len(path))
	for i := range path {
		list[i] = path[i][:]
	}
	return list
}
