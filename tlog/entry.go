package tlog

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Entry is one leaf and what follows from it, all in one transaction.
type Entry struct {
	Leaf   []byte           // the statement with an empty unprotected map, at most statement.MaxStatement bytes
	Guards []Guard          // checked first
	Once   []Once           // then consumed
	Puts   []Put            // then written, in order
	Bumps  []string         // counters that are raised by one
	Blobs  [][]byte         // stored by SHA-256; one that is there already is kept
	Keeps  [][]byte         // like Blobs, and never deleted
	Signer statement.Signer // log key from now on: it signs the head over this entry, and those after it. Nil: as before
	Purge  uint64           // blobs that only entries before this index brought are deleted; 0: none
}

// Guard demands that a counter has a value, so that an entry is appended only if what it was decided on still holds.
// Entries before it in the same Append count. A zero Reason makes the refusal ErrStale.
type Guard struct {
	Counter string
	Value   uint64
	Reason  denial.Reason
}

// Once demands that the key was never consumed in the set, and consumes it for ever. Reason is the refusal if it was.
type Once struct {
	Set    string
	Key    []byte
	Reason denial.Reason
}

// Put writes a row of a projection. A nil Value deletes the row.
type Put struct {
	Bucket string
	Key    []byte
	Value  []byte
}

// Appended says where an entry stands. Receipt is nil only for the sole entry of a log (RFC 9942: a tree of one leaf has
// no receipt).
type Appended struct {
	Index   uint64
	Receipt []byte
	Time    uint64 // logged time, seconds since 1970 UTC
}

// checkEntries refuses what no log takes.
func checkEntries(entries []Entry) error {
	if len(entries) == 0 {
		return fmt.Errorf("appending: no entries")
	}
	for _, e := range entries {
		if len(e.Leaf) == 0 {
			return fmt.Errorf("appending: an entry without leaf")
		}
		if len(e.Leaf) > statement.MaxStatement {
			return denial.New(denial.StructureLimit, "a log entry has at most %d bytes", statement.MaxStatement)
		}
	}
	return nil
}

// weight is about how many bytes the entries bring.
func weight(entries []Entry) (n int) {
	for _, e := range entries {
		n += len(e.Leaf)
		for _, b := range slices.Concat(e.Blobs, e.Keeps) {
			n += len(b)
		}
		for _, p := range e.Puts {
			n += len(p.Key) + len(p.Value)
		}
	}
	return n
}

// apply checks and writes what the entry at index demands and brings. A refusal comes back as refused; err is a fault
// of the store.
func (e Entry) apply(db *engine, index uint64) (refused, err error) {
	for _, g := range e.Guards {
		value, err := db.counter(g.Counter)
		if err != nil {
			return nil, err
		}
		if value != g.Value {
			return g.refusal(), nil
		}
	}
	for _, o := range e.Once {
		fresh, err := db.exec("INSERT INTO spent (name, key, idx) VALUES (?, ?, ?) ON CONFLICT DO NOTHING", o.Set, blob(o.Key), index)
		if err != nil {
			return nil, err
		}
		if fresh == 0 {
			return denial.New(o.Reason, "it has been used before"), nil
		}
	}
	return nil, e.write(db, index)
}

func (g Guard) refusal() error {
	if g.Reason == 0 {
		return ErrStale
	}
	return denial.New(g.Reason, "what this was decided on has changed meanwhile")
}

// write writes the projections.
func (e Entry) write(db *engine, index uint64) error {
	for _, p := range e.Puts {
		if err := p.write(db); err != nil {
			return err
		}
	}
	for _, name := range e.Bumps {
		if _, err := db.exec("INSERT INTO counters (name, value) VALUES (?, 1) ON CONFLICT (name) DO UPDATE SET value = value + 1", name); err != nil {
			return err
		}
	}
	if err := storeBlobs(db, e.Blobs, index); err != nil {
		return err
	}
	if err := storeBlobs(db, e.Keeps, forEver); err != nil {
		return err
	}
	return purge(db, e.Purge)
}

// storeBlobs stores blobs that the entry at index brings. One that is there already is kept as long as the newest entry
// that brought it.
func storeBlobs(db *engine, blobs [][]byte, index uint64) error {
	for _, b := range blobs {
		digest := statement.DigestOf(b)
		if _, err := db.exec("INSERT INTO blobs (digest, data, idx) VALUES (?, ?, ?) ON CONFLICT (digest) DO UPDATE SET idx = excluded.idx WHERE excluded.idx > idx",
			digest[:], blob(b), index); err != nil {
			return err
		}
	}
	return nil
}

// purge deletes the blobs that only entries before the index brought. What they held is overwritten in the database; in
// the write-ahead log it is overwritten by and by.
func purge(db *engine, before uint64) error {
	if before == 0 {
		return nil
	}
	for _, query := range []string{"PRAGMA secure_delete = 1", "DELETE FROM blobs WHERE idx < " + strconv.FormatUint(before, 10), "PRAGMA secure_delete = 0"} {
		if err := db.script(query); err != nil {
			return err
		}
	}
	return nil
}

func (p Put) write(db *engine) error {
	if p.Value == nil {
		_, err := db.exec("DELETE FROM state WHERE bucket = ? AND key = ?", p.Bucket, blob(p.Key))
		return err
	}
	_, err := db.exec("INSERT INTO state (bucket, key, value) VALUES (?, ?, ?) ON CONFLICT (bucket, key) DO UPDATE SET value = excluded.value",
		p.Bucket, blob(p.Key), p.Value)
	return err
}

// blob returns b as SQLite must see it: the driver takes nil for NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
