package tlog

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// The index finds entries by digest. Digests stand anywhere in a table sorted by them, so that nearly every entry would have
// a page of its own rewritten, which costs more than the entry does. Therefore the index consists of runs. A run of a level
// holds groupSize·4^level entries, sorted by digest, in 4^level blocks by the first bits of the digest; the next run of the
// level holds those that follow. Which runs there are follows from the number of entries, as digits of base 4 do: as few
// as hold all but the last entries, which are no full group and are looked for among the leaves. When four runs of a
// level are there, one of the next level takes their place, until the top level.
const (
	groupSize = 64
	topLevel  = 7 // runs of 1,048,576 entries: what one commit sorts at most, besides its own
	itemSize  = 8 + 4
)

// run is one run: the n-th of its level.
type run struct{ level, n uint64 }

// runsOf returns the runs that hold the first size entries, in order.
func runsOf(size uint64) (runs []run) {
	groups, next := size/groupSize, uint64(0)
	for level := uint64(topLevel); ; level-- {
		for ; next+1<<(2*level) <= groups; next += 1 << (2 * level) {
			runs = append(runs, run{level, next >> (2 * level)})
		}
		if level == 0 {
			return runs
		}
	}
}

// grouped returns how many of size entries are in full groups.
func grouped(size uint64) uint64 { return size - size%groupSize }

func (r run) blocks() uint64 { return 1 << (2 * r.level) }

func (r run) size() uint64 { return groupSize * r.blocks() }

func (r run) first() uint64 { return r.n * r.size() }

// key is that of the first block of the run; those of the others follow it.
func (r run) key() uint64 { return r.level<<56 | r.n*r.blocks() }

// bucket returns which block of the run holds a digest, by its first bytes. Digests that somebody chose so that they all stand
// in one block make that block long, and nothing else.
func (r run) bucket(prefix uint64) uint64 { return prefix >> (64 - 2*r.level) }

// prefixOf returns the first bytes of a digest. Two digests may share them: who finds an entry compares the rest.
func prefixOf(digest []byte) uint64 { return binary.BigEndian.Uint64(digest) }

// encode returns the blocks of the run, given the prefixes of its entries in order: items of the prefix and the place in
// the run, sorted.
func (r run) encode(prefixes []uint64) [][]byte {
	type item struct {
		prefix uint64
		at     uint32
	}
	items := make([]item, len(prefixes))
	for i, p := range prefixes {
		items[i] = item{p, uint32(i)}
	}
	slices.SortFunc(items, func(a, b item) int { return cmp.Or(cmp.Compare(a.prefix, b.prefix), cmp.Compare(a.at, b.at)) })
	blocks, all := make([][]byte, r.blocks()), make([]byte, 0, itemSize*len(items))
	for i := range blocks {
		start := len(all)
		for ; len(items) > 0 && r.bucket(items[0].prefix) == uint64(i); items = items[1:] {
			all = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(all, items[0].prefix), items[0].at)
		}
		blocks[i] = all[start:]
	}
	return blocks
}

// each calls fn for the items of a block with the entries that they stand for.
func (r run) each(block []byte, fn func(prefix, index uint64)) error {
	if len(block)%itemSize != 0 {
		return errIndex()
	}
	for ; len(block) > 0; block = block[itemSize:] {
		at := uint64(binary.BigEndian.Uint32(block[8:]))
		if at >= r.size() {
			return errIndex()
		}
		fn(binary.BigEndian.Uint64(block), r.first()+at)
	}
	return nil
}

func errIndex() error { return denial.New(denial.StoreFault, "the index of the entries is damaged") }

// extendIndex adds the entries behind the first so many to the index, given the prefixes of their digests.
func (e *engine) extendIndex(from uint64, fresh []uint64) error {
	to := from + uint64(len(fresh))
	if grouped(from) == grouped(to) {
		return nil
	}
	old, now := runsOf(from), runsOf(to)
	for len(old) > 0 && old[0] == now[0] { // what comes first has the same place in both
		old, now = old[1:], now[1:]
	}
	start := now[0].first()
	prefixes := make([]uint64, grouped(to)-start)
	for _, r := range old {
		if err := e.takeRun(r, prefixes[r.first()-start:][:r.size()]); err != nil {
			return err
		}
	}
	if err := e.readPrefixes(grouped(from), prefixes[grouped(from)-start:from-start]); err != nil {
		return err
	}
	copy(prefixes[from-start:], fresh)
	for _, r := range now {
		var rows []any
		for i, block := range r.encode(prefixes[r.first()-start:][:r.size()]) {
			rows = append(rows, r.key()+uint64(i), block)
		}
		if err := e.insert("digests (key, block)", 2, rows, ""); err != nil {
			return err
		}
	}
	return nil
}

// takeRun deletes a run and returns the prefixes of its entries in order.
func (e *engine) takeRun(r run, into []uint64) error {
	var items uint64
	err := e.eachRow("SELECT block FROM digests WHERE key >= ? AND key < ?", []any{r.key(), r.key() + r.blocks()}, func(scan func(...any) error) error {
		var block []byte
		if err := scan(&block); err != nil {
			return err
		}
		return r.each(block, func(prefix, index uint64) { into[index-r.first()], items = prefix, items+1 })
	})
	if err == nil && items != r.size() {
		err = errIndex()
	}
	if err != nil {
		return err
	}
	_, err = e.exec("DELETE FROM digests WHERE key >= ? AND key < ?", r.key(), r.key()+r.blocks())
	return err
}

// readPrefixes reads the prefixes of as many entries as into has places.
func (e *engine) readPrefixes(from uint64, into []uint64) error {
	next := 0
	err := e.eachRow("SELECT digest FROM leaves WHERE idx >= ? AND idx < ? ORDER BY idx", []any{from, from + uint64(len(into))},
		func(scan func(...any) error) error {
			var digest []byte
			if err := scan(&digest); err != nil {
				return err
			}
			if len(digest) != len(statement.Digest{}) {
				return errIndex()
			}
			into[next] = prefixOf(digest)
			next++
			return nil
		})
	if err == nil && next != len(into) {
		err = errIndex()
	}
	return err
}

// Find returns the least index of an entry by its digest. It reports whether there is one.
func (r Reader) Find(ctx context.Context, digest statement.Digest) (index uint64, ok bool, err error) {
	size, err := r.size(ctx)
	if err != nil {
		return 0, false, err
	}
	for {
		candidates, whole, err := r.candidates(ctx, prefixOf(digest[:]), size)
		if err != nil {
			return 0, false, err
		}
		if whole {
			return r.firstOf(ctx, candidates, size, digest)
		}
		// Another run took the place of one that was looked for: more has been committed since the size was read.
		before := size
		if size, err = r.size(ctx); err != nil {
			return 0, false, err
		}
		if size == before {
			return 0, false, errIndex()
		}
	}
}

// findBlocks asks for this many blocks at a time.
const findBlocks = 32

// candidates returns the entries in full groups whose digest begins with a prefix, in order. It reports whether all runs
// that hold the first size entries were there.
func (r Reader) candidates(ctx context.Context, prefix, size uint64) (candidates []uint64, whole bool, err error) {
	found := 0
	runs := runsOf(size)
	for some := range slices.Chunk(runs, findBlocks) {
		byKey, keys := map[uint64]run{}, make([]any, findBlocks)
		for i := range keys { // the same query for any number of runs: the last one stands in it again
			run := some[min(i, len(some)-1)]
			key := run.key() + run.bucket(prefix)
			byKey[key], keys[i] = run, key
		}
		if err := r.each(ctx, func(scan func(...any) error) error {
			var key uint64
			var block []byte
			if err := scan(&key, &block); err != nil {
				return readFault(err)
			}
			found++
			return byKey[key].each(block, func(p, index uint64) {
				if p == prefix {
					candidates = append(candidates, index)
				}
			})
		}, "SELECT key, block FROM digests WHERE key IN (?"+strings.Repeat(", ?", findBlocks-1)+")", keys...); err != nil {
			return nil, false, err
		}
	}
	slices.Sort(candidates)
	return candidates, found == len(runs), nil
}

// firstOf returns the first of the candidates, or else of the entries in no full group, that has the digest.
func (r Reader) firstOf(ctx context.Context, candidates []uint64, size uint64, digest statement.Digest) (index uint64, ok bool, err error) {
	for _, c := range candidates {
		ok, err := r.one(ctx, []any{&index}, "SELECT idx FROM leaves WHERE idx = ? AND digest = ?", c, digest[:])
		if ok || err != nil {
			return index, ok, err
		}
	}
	ok, err = r.one(ctx, []any{&index}, "SELECT idx FROM leaves WHERE idx >= ? AND idx < ? AND digest = ? ORDER BY idx LIMIT 1",
		grouped(size), size, digest[:])
	return index, ok, err
}

// indexScrub compares the index with what it must be, entry by entry.
type indexScrub struct {
	Reader
	left     []run
	prefixes []uint64
	blocks   uint64
}

func (r Reader) scrubIndex(size uint64) *indexScrub {
	return &indexScrub{Reader: r, left: runsOf(size)}
}

// add takes the digest of the next entry.
func (s *indexScrub) add(ctx context.Context, digest []byte) error {
	if len(s.left) == 0 {
		return nil
	}
	s.prefixes = append(s.prefixes, prefixOf(digest))
	run := s.left[0]
	if uint64(len(s.prefixes)) < run.size() {
		return nil
	}
	want, found := run.encode(s.prefixes), uint64(0)
	s.left, s.prefixes, s.blocks = s.left[1:], s.prefixes[:0], s.blocks+run.blocks()
	err := s.each(ctx, func(scan func(...any) error) error {
		var key uint64
		var block []byte
		if err := scan(&key, &block); err != nil {
			return readFault(err)
		}
		if key != run.key()+found || !bytes.Equal(block, want[found]) {
			return errIndex()
		}
		found++
		return nil
	}, "SELECT key, block FROM digests WHERE key >= ? AND key < ? ORDER BY key", run.key(), run.key()+run.blocks())
	if err == nil && found != run.blocks() {
		err = errIndex()
	}
	return err
}

// end checks that there is nothing else in the index.
func (s *indexScrub) end(ctx context.Context) error {
	var stored uint64
	_, err := s.one(ctx, []any{&stored}, "SELECT count(*) FROM digests")
	if err == nil && (stored != s.blocks || len(s.left) > 0) {
		err = errIndex()
	}
	return err
}
