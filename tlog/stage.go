package tlog

import (
	"strconv"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// staged is what the requests of a transaction find and change. All of it is looked up and decided before anything is
// written: a request that is refused has written nothing that would have to be taken back, and what the others change is
// written for all of them at once.
type staged struct {
	now      uint64            // logged time of the batch
	counters map[string]uint64 // every counter that is named, with what the requests raised it by
	raised   map[string]int    // by how much, if by anything
	spent    map[spentKey]bool // every key that is consumed, before or by the requests
}

type spentKey struct{ set, key string }

// What a batch looks up. That the keys are joined to a table, in this order, has SQLite search the table for each; by IN
// it would read all of a table whose key has two columns.
const (
	findCounters = "SELECT name, value FROM (VALUES %s) CROSS JOIN counters ON name = column1"
	findSpent    = "SELECT name, key FROM (VALUES %s) CROSS JOIN spent ON name = column1 AND key = column2"
)

// findStaged reads the counters and the consumed keys that the requests name.
func findStaged(db *engine, requests []*request, now uint64) (*staged, error) {
	s := &staged{now: now, counters: map[string]uint64{}, raised: map[string]int{}, spent: map[spentKey]bool{}}
	var names, keys []any
	name := func(n string) {
		if _, seen := s.counters[n]; !seen {
			s.counters[n] = 0 // of one that was never raised
			names = append(names, n)
		}
	}
	for _, r := range requests {
		for _, e := range r.entries {
			for _, g := range e.Guards {
				name(g.Counter)
			}
			for _, n := range e.Bumps {
				name(n)
			}
			for _, o := range e.Once {
				keys = append(keys, o.Set, blob(o.Key))
			}
		}
	}
	if err := db.find(1, names, findCounters, func(scan func(...any) error) error {
		var name string
		var value uint64
		err := scan(&name, &value)
		s.counters[name] = value
		return err
	}); err != nil {
		return nil, err
	}
	return s, db.find(2, keys, findSpent, func(scan func(...any) error) error {
		var set string
		var key []byte
		err := scan(&set, &key)
		s.spent[spentKey{set, string(key)}] = true
		return err
	})
}

// admit checks the entries of a request in order, each against what those before it change. It returns the refusal of
// the first that does not hold; then the request changes nothing.
func (s *staged) admit(r *request) error {
	for i, e := range r.entries {
		err := s.check(e)
		if err == nil {
			s.change(e, 1)
			continue
		}
		for _, before := range r.entries[:i] {
			s.change(before, -1)
		}
		return err
	}
	return nil
}

// check says whether an entry holds: first its guards, then its time, then what it consumes.
func (s *staged) check(e Entry) error {
	for _, g := range e.Guards {
		if s.counters[g.Counter] != g.Value {
			return g.refusal()
		}
	}
	if s.now < e.After {
		return denial.New(denial.ClockUntrusted, "the clock of the log stands before the time that this was decided at")
	}
	for i, o := range e.Once {
		if s.spent[o.spentKey()] || o.among(e.Once[:i]) {
			return denial.New(o.Reason, "it has been used before")
		}
	}
	return nil
}

func (o Once) spentKey() spentKey { return spentKey{o.Set, string(o.Key)} }

func (o Once) among(others []Once) bool {
	for _, other := range others {
		if o.spentKey() == other.spentKey() {
			return true
		}
	}
	return false
}

// change notes what an entry consumes and raises; with by -1 it takes that back.
func (s *staged) change(e Entry, by int) {
	for _, o := range e.Once {
		s.spent[o.spentKey()] = by > 0
	}
	for _, name := range e.Bumps {
		s.counters[name] += uint64(by) // -1 is subtracted
		s.raised[name] += by
	}
}

// write writes all that the requests, which were admitted, consume and bring. Who deletes blobs comes last: what any of
// the entries brings is younger than what one of them deletes.
func (s *staged) write(db *engine, requests []*request) error {
	var spent, payloads, blobs, counters []any
	for _, r := range requests {
		for i, e := range r.entries {
			index := r.first + uint64(i)
			for _, o := range e.Once {
				spent = append(spent, o.Set, blob(o.Key), index)
			}
			for n, b := range e.Blobs {
				payloads = append(payloads, payloadKey(index)+uint64(n), r.sums[i].blobs[n][:], blob(b))
			}
			for _, b := range e.Keeps {
				digest := statement.DigestOf(b)
				blobs = append(blobs, digest[:], blob(b), forEver)
			}
		}
	}
	for name, by := range s.raised {
		if by > 0 {
			counters = append(counters, name, s.counters[name])
		}
	}
	if err := db.insert("spent (name, key, idx)", 3, spent, ""); err != nil {
		return err
	}
	if err := writeRows(db, requests); err != nil {
		return err
	}
	if err := db.insert("counters (name, value)", 2, counters, " ON CONFLICT (name) DO UPDATE SET value = excluded.value"); err != nil {
		return err
	}
	if err := db.insert("payloads (key, digest, data)", 3, payloads, ""); err != nil {
		return err
	}
	if err := db.insert("blobs (digest, data, idx)", 3, blobs, " ON CONFLICT (digest) DO UPDATE SET idx = excluded.idx"); err != nil {
		return err
	}
	return purge(db, requests)
}

// payloadKey is that of the first blob that the entry at index brings.
func payloadKey(index uint64) uint64 { return index << 16 }

// writeRows writes the rows of the projections, of each the last value that it gets.
func writeRows(db *engine, requests []*request) error {
	last := map[rowKey]int{}
	var puts []Put
	for _, r := range requests {
		for _, e := range r.entries {
			for _, p := range e.Puts {
				k := rowKey{p.Bucket, string(p.Key)}
				if at, again := last[k]; again {
					puts[at] = p
					continue
				}
				last[k] = len(puts)
				puts = append(puts, p)
			}
		}
	}
	var rows []any
	for _, p := range puts {
		if p.Value != nil {
			rows = append(rows, p.Bucket, blob(p.Key), p.Value)
			continue
		}
		if _, err := db.exec("DELETE FROM state WHERE bucket = ? AND key = ?", p.Bucket, blob(p.Key)); err != nil {
			return err
		}
	}
	return db.insert("state (bucket, key, value)", 3, rows, " ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value")
}

// purge deletes the blobs that only entries before an index brought. What they held is overwritten in the database; in
// the write-ahead log it is overwritten by and by.
func purge(db *engine, requests []*request) error {
	var before uint64
	for _, r := range requests {
		for _, e := range r.entries {
			before = max(before, e.Purge)
		}
	}
	if before == 0 {
		return nil
	}
	for _, query := range []string{"PRAGMA secure_delete = 1", "DELETE FROM payloads WHERE key < " + strconv.FormatUint(payloadKey(before), 10),
		"DELETE FROM blobs WHERE idx < " + strconv.FormatUint(before, 10), "PRAGMA secure_delete = 0"} {
		if err := db.script(query); err != nil {
			return err
		}
	}
	return nil
}

// blob returns b as SQLite must see it: the driver takes nil for NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// tuples returns the text of n tuples of parameters.
func tuples(n, columns int) string {
	return strings.Repeat(", (?"+strings.Repeat(", ?", columns-1)+")", n)[2:]
}
