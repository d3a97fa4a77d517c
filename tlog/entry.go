package tlog

import (
	"fmt"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Entry is one leaf and what follows from it, all in one transaction.
type Entry struct {
	Leaf    []byte             // the statement with an empty unprotected map, at most statement.MaxStatement bytes
	Guards  []Guard            // checked first
	Once    []Once             // then consumed
	Puts    []Put              // then written, in order
	Bumps   []string           // counters that are raised by one
	Blobs   [][]byte           // stored by SHA-256, with the entry
	Digests []statement.Digest // of Blobs, where the caller has them; nil: they are computed
	Keeps   [][]byte           // stored by SHA-256, and never deleted; one that is there already is kept
	Names   []Name             // what the entry is found by, beside its digest
	Signer  statement.Signer   // log key from now on: it signs the head over this entry, and those after it. Nil: as before
	After   uint64             // refused with 905 if it would be logged before that time, in seconds since 1970 UTC
	Purge   uint64             // blobs that only entries before this index brought are deleted; 0: none
}

// Name is what any number of entries are found by: the beginning of a SHA-256, so that names are spread evenly. Blobs are
// found by the beginning of their digests.
type Name [nameSize]byte

const nameSize = 16

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

// maxBlobs is how many an entry may bring: see the key of payloads.
const maxBlobs = 1 << 16

// checkEntries refuses what no log takes.
func checkEntries(entries []Entry) error {
	if len(entries) == 0 {
		return fmt.Errorf("appending: no entries")
	}
	for _, e := range entries {
		if len(e.Leaf) == 0 {
			return fmt.Errorf("appending: an entry without leaf")
		}
		if len(e.Blobs) > maxBlobs || e.Digests != nil && len(e.Digests) != len(e.Blobs) {
			return fmt.Errorf("appending: an entry with more than %d blobs, or another number of digests", maxBlobs)
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

func (g Guard) refusal() error {
	if g.Reason == 0 {
		return ErrStale
	}
	return denial.New(g.Reason, "what this was decided on has changed meanwhile")
}
