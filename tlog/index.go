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

// The index finds entries by digest, and by the names that they have. Digests stand anywhere in a table sorted by them, so
// that nearly every entry would have a page of its own rewritten, which costs more than the entry does; and each of its names
// another. Therefore the index consists of runs. A run of a level
// holds what is known of groupSize·4^level entries: an item for the digest of each and for each of its names, sorted, in
// spread·4^level blocks by their first bits; the next run of the
// level holds those that follow. Which runs there are follows from the number of entries, as digits of base 4 do: as few
// as hold all but the last entries, which are no full group and are looked for among the leaves. When four runs of a
// level are there, one of the next level takes their place, until the top level.
const (
	groupSize = 64
	spreadLog = 2
	spread    = 1 << spreadLog // blocks for a group: an entry has several names
	topLevel  = 6              // runs of 262,144 entries: what one commit sorts at most, besides its own
	countSize = 4
	itemSize  = 8 + 4
)

// run is one run: the n-th of its level.
type run struct{ level, n uint64 }

// item says that an entry has a digest or a name which begins with prefix.
type item struct{ prefix, index uint64 }

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

func (r run) blocks() uint64 { return spread << (2 * r.level) }

func (r run) size() uint64 { return groupSize << (2 * r.level) }

func (r run) first() uint64 { return r.n * r.size() }

func (r run) end() uint64 { return r.first() + r.size() }

// key is that of the first block of the run; those of the others follow it.
func (r run) key() uint64 { return r.level<<56 | r.n*r.blocks() }

// bucket returns which block of the run holds a digest or name, by its first bytes. What somebody chose so that all of it
// stands in one block makes that block long, and nothing else.
func (r run) bucket(prefix uint64) uint64 { return prefix >> (64 - spreadLog - 2*r.level) }

// prefixOf returns the first bytes of a digest or name. Two may share them: who finds an entry compares the rest.
func prefixOf(digest []byte) uint64 { return binary.BigEndian.Uint64(digest) }

// appendItems appends what an entry is found by.
func appendItems(items []item, index uint64, digest, names []byte) []item {
	items = append(items, item{prefixOf(digest), index})
	for name := range slices.Chunk(names, nameSize) {
		items = append(items, item{prefixOf(name), index})
	}
	return items
}

// encode returns the blocks of the run, given the items of its entries, which it sorts.
func (r run) encode(items []item) [][]byte {
	slices.SortFunc(items, func(a, b item) int { return cmp.Or(cmp.Compare(a.prefix, b.prefix), cmp.Compare(a.index, b.index)) })
	total := uint32(len(items))
	blocks, all := make([][]byte, r.blocks()), make([]byte, 0, itemSize*len(items)+countSize*int(r.blocks()))
	for i := range blocks {
		start := len(all)
		all = binary.BigEndian.AppendUint32(all, total)
		for ; len(items) > 0 && r.bucket(items[0].prefix) == uint64(i); items = items[1:] {
			all = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(all, items[0].prefix), uint32(items[0].index-r.first()))
		}
		blocks[i] = all[start:]
	}
	return blocks
}

// each calls fn for the items of a block. It returns how many the run has.
func (r run) each(block []byte, fn func(item)) (total uint32, err error) {
	if len(block) < countSize || len(block)%itemSize != countSize {
		return 0, errIndex()
	}
	total = binary.BigEndian.Uint32(block)
	for block = block[countSize:]; len(block) > 0; block = block[itemSize:] {
		at := uint64(binary.BigEndian.Uint32(block[8:]))
		if at >= r.size() {
			return 0, errIndex()
		}
		fn(item{binary.BigEndian.Uint64(block), r.first() + at})
	}
	return total, nil
}

func errIndex() error { return denial.New(denial.StoreFault, "the index of the entries is damaged") }

// extendIndex adds the entries from index from up to, not including, index to, given their items in the order of the entries.
func (e *engine) extendIndex(from, to uint64, fresh []item) error {
	if grouped(from) == grouped(to) {
		return nil
	}
	old, now := runsOf(from), runsOf(to)
	for len(old) > 0 && old[0] == now[0] { // what comes first has the same place in both
		old, now = old[1:], now[1:]
	}
	var items []item
	for _, r := range old {
		var err error
		if items, err = e.takeRun(r, items); err != nil {
			return err
		}
	}
	tail, err := e.readItems(grouped(from), from)
	if err != nil {
		return err
	}
	items = append(append(items, tail...), fresh...)
	for _, r := range now { // each takes the place of whole runs
		n := 0
		for n < len(items) && items[n].index < r.end() {
			n++
		}
		var rows []any
		for i, block := range r.encode(items[:n]) {
			rows = append(rows, r.key()+uint64(i), block)
		}
		if err := e.insert("digests (key, block)", 2, rows, ""); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

// takeRun deletes a run and appends its items.
func (e *engine) takeRun(r run, items []item) ([]item, error) {
	before, blocks := len(items), uint64(0)
	var want uint32
	err := e.eachRow("SELECT block FROM digests WHERE key >= ? AND key < ?", []any{r.key(), r.key() + r.blocks()}, func(scan func(...any) error) error {
		var block []byte
		if err := scan(&block); err != nil {
			return err
		}
		total, err := r.each(block, func(i item) { items = append(items, i) })
		if err == nil && blocks > 0 && total != want {
			err = errIndex()
		}
		want = total
		blocks++
		return err
	})
	if err == nil && (blocks != r.blocks() || len(items)-before != int(want)) {
		err = errIndex()
	}
	if err != nil {
		return nil, err
	}
	_, err = e.exec("DELETE FROM digests WHERE key >= ? AND key < ?", r.key(), r.key()+r.blocks())
	return items, err
}

// readItems reads the items of entries from index from up to, not including, index to.
func (e *engine) readItems(from, to uint64) (items []item, err error) {
	next := from
	err = e.eachRow("SELECT digest, names FROM leaves WHERE idx >= ? AND idx < ? ORDER BY idx", []any{from, to},
		func(scan func(...any) error) error {
			var digest, names []byte
			if err := scan(&digest, &names); err != nil {
				return err
			}
			if len(digest) != len(statement.Digest{}) || len(names)%nameSize != 0 {
				return errIndex()
			}
			items = appendItems(items, next, digest, names)
			next++
			return nil
		})
	if err == nil && next != to {
		err = errIndex()
	}
	return items, err
}

// Find returns the least index of an entry by its digest. It reports whether there is one.
func (r Reader) Find(ctx context.Context, digest statement.Digest) (index uint64, ok bool, err error) {
	candidates, size, err := r.lookUp(ctx, prefixOf(digest[:]))
	if err != nil {
		return 0, false, err
	}
	return r.firstOf(ctx, candidates, size, digest)
}

// Named returns the indices of the entries that have a name, ascending.
func (r Reader) Named(ctx context.Context, name Name) (all []uint64, err error) {
	candidates, size, err := r.lookUp(ctx, prefixOf(name[:]))
	if err != nil {
		return nil, err
	}
	row := func(scan func(...any) error) error {
		var index uint64
		var names []byte
		if err := scan(&index, &names); err != nil {
			return readFault(err)
		}
		for n := range slices.Chunk(names, nameSize) {
			if bytes.Equal(n, name[:]) {
				all = append(all, index)
				break
			}
		}
		return nil
	}
	for _, c := range slices.Compact(candidates) {
		if err := r.each(ctx, row, "SELECT idx, names FROM leaves WHERE idx = ?", c); err != nil {
			return nil, err
		}
	}
	return all, r.each(ctx, row, "SELECT idx, names FROM leaves WHERE idx >= ? AND idx < ? ORDER BY idx", grouped(size), size)
}

// lookUp returns the entries in full groups that have a digest or name which begins with prefix, in order, and how many
// entries there are.
func (r Reader) lookUp(ctx context.Context, prefix uint64) (candidates []uint64, size uint64, err error) {
	if size, err = r.size(ctx); err != nil {
		return nil, 0, err
	}
	for {
		candidates, whole, err := r.candidates(ctx, prefix, size)
		if err != nil || whole {
			return candidates, size, err
		}
		// Another run took the place of one that was looked for: more has been committed since the size was read.
		before := size
		if size, err = r.size(ctx); err != nil {
			return nil, 0, err
		}
		if size == before {
			return nil, 0, errIndex()
		}
	}
}

// findBlocks asks for this many blocks at a time.
const findBlocks = 32

// candidates returns the entries in full groups that have a digest or name which begins with prefix, in order. It reports whether all runs
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
			_, err := byKey[key].each(block, func(i item) {
				if i.prefix == prefix {
					candidates = append(candidates, i.index)
				}
			})
			return err
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
	left   []run
	items  []item
	blocks uint64
}

func (r Reader) scrubIndex(size uint64) *indexScrub {
	return &indexScrub{Reader: r, left: runsOf(size)}
}

// add takes what the next entry is found by.
func (s *indexScrub) add(ctx context.Context, index uint64, digest, names []byte) error {
	if len(names)%nameSize != 0 {
		return errIndex()
	}
	if len(s.left) == 0 {
		return nil
	}
	s.items = appendItems(s.items, index, digest, names)
	run := s.left[0]
	if index+1 < run.end() {
		return nil
	}
	want, found := run.encode(s.items), uint64(0)
	s.left, s.items, s.blocks = s.left[1:], s.items[:0], s.blocks+run.blocks()
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
