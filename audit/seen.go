package audit

import (
	"crypto/sha256"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// What must be remembered of every entry of a log is kept small: a million entries fit in a hundred megabytes. A set holds hashes; of an artifact
// and of a start its place in the bundle is held, where it is read again when a later entry names it.

// seen is a set of things, each by a SHA-256 that no two of them share.
type seen map[[32]byte]struct{}

// add puts a thing into the set, and reports whether it was there before.
func (s seen) add(key [32]byte) (again bool) {
	_, again = s[key]
	s[key] = struct{}{}
	return again
}

func (s seen) has(key [32]byte) bool { _, ok := s[key]; return ok }

// keyOf names a thing by parts of which the first is cut off by its length, so that no other parts have the name.
func keyOf(first string, rest ...byte) [32]byte {
	n := uint64(len(first))
	key := append([]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}, first...)
	return sha256.Sum256(append(key, rest...))
}

// numbered is a number as keyOf takes it.
func numbered(n uint64) []byte {
	return []byte{byte(n >> 56), byte(n >> 48), byte(n >> 40), byte(n >> 32), byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}
}

// recent holds the values that were put in last.
type recent[K comparable, V any] struct {
	values map[K]V
	order  []K
	next   int
}

// recentSize is how many values a recent holds.
const recentSize = 128

func newRecent[K comparable, V any]() *recent[K, V] {
	return &recent[K, V]{values: map[K]V{}, order: make([]K, recentSize)}
}

func (r *recent[K, V]) put(key K, value V) {
	if _, ok := r.values[key]; !ok {
		if len(r.values) == recentSize {
			delete(r.values, r.order[r.next])
		}
		r.order[r.next] = key
		r.next = (r.next + 1) % recentSize
	}
	r.values[key] = value
}

// permit is an artifact of the log.
type permit struct {
	digest statement.Digest
	claims *artifact.Claims
}

// issue takes note of an artifact, and reports whether an earlier one has its id.
func (v *verifier) issue(e *entry) (again bool) {
	cti := keyOf(string(e.claims.ID))
	if _, again = v.world.permits[cti]; !again {
		v.world.permits[cti] = e.index
		v.permits.put(e.index, &permit{e.digest, e.claims})
	}
	return again
}

// permitOf returns the artifact with an id; nil if no earlier entry is one.
func (v *verifier) permitOf(cti []byte) (*permit, error) {
	index, ok := v.world.permits[keyOf(string(cti))]
	if !ok {
		return nil, nil
	}
	if p := v.permits.values[index]; p != nil {
		return p, nil
	}
	e, err := v.entry(index)
	if err != nil {
		return nil, err
	}
	p := &permit{e.digest, e.claims}
	v.permits.put(index, p)
	return p, nil
}

// begin takes note of a start.
func (v *verifier) begin(e *entry, r *record.Record) {
	v.world.starts[e.digest] = e.index
	v.starts.put(e.digest, r)
}

// startOf returns the start with a digest; nil if no earlier entry is one.
func (v *verifier) startOf(digest statement.Digest) (*record.Record, error) {
	if r := v.starts.values[digest]; r != nil {
		return r, nil
	}
	index, ok := v.world.starts[digest]
	if !ok {
		return nil, nil
	}
	e, err := v.entry(index)
	if err != nil {
		return nil, err
	}
	return e.record, nil
}
