package receipt

import (
	"testing"
)

// P20: the path of an entry shows the root of all entries before it, in trees of any size.
func TestP20_APathHoldsTheTreeBeforeItsEntry(t *testing.T) {
	const most = 70
	leaves := make([]Hash, most)
	for i := range leaves {
		leaves[i] = LeafHash([]byte{byte(i)})
	}
	root := func(hashes []Hash) Hash { // RFC 6962, section 2.1
		var build func([]Hash) Hash
		build = func(h []Hash) Hash {
			if len(h) == 1 {
				return h[0]
			}
			k := 1
			for 2*k < len(h) {
				k *= 2
			}
			return NodeHash(build(h[:k]), build(h[k:]))
		}
		return build(hashes)
	}
	var path func(hashes []Hash, index int) [][]byte
	path = func(h []Hash, index int) [][]byte {
		if len(h) == 1 {
			return nil
		}
		k := 1
		for 2*k < len(h) {
			k *= 2
		}
		if index < k {
			r := root(h[k:])
			return append(path(h[:k], index), r[:])
		}
		l := root(h[:k])
		return append(path(h[k:], index-k), l[:])
	}
	for size := 2; size <= most; size++ {
		for index := 1; index < size; index++ {
			p := inclusion{Size: uint64(size), Index: uint64(index), Path: path(leaves[:size], index)}
			if got, err := p.root(leaves[index]); err != nil || got != root(leaves[:size]) {
				t.Fatalf("entry %d of %d: the path is none: %v", index, size, err)
			}
			if p.preceding() != root(leaves[:index]) {
				t.Errorf("entry %d of %d: another root of those before it", index, size)
			}
		}
	}
}
