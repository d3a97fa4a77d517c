package issuer

import (
	"bytes"
	"context"
	"encoding/hex"
	"time"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/tlog"
)

// clockGrain is by how many milliseconds the clock of a TPM must have moved on before its high-water mark is raised, so
// that the requests of one host do not wait for each other. Resets and restarts raise it at once.
const clockGrain = 10_000

// holdMargin is by how much later than the arrival of evidence a challenge must have been given out to count as later. The
// clocks of issuers that share a log may differ by less.
const holdMargin = 5 * time.Second

// markState is the high-water mark of a TPM: the furthest clock that a signed quote of it showed.
type markState struct {
	Clock   attest.Clock `cbor:"1,keyasint"`
	Arrived uint64       `cbor:"2,keyasint"`           // when the issuer got that quote, milliseconds since 1970 UTC
	Boot    []byte       `cbor:"3,keyasint,omitempty"` // Name of the boot key that an audit session showed at these resets and restarts
}

// reading is what signed evidence says of a TPM, and when.
type reading struct {
	clock      attest.Clock
	boot       []byte    // nil without an audit session
	challenged time.Time // when its challenge was given out: the quote was made later
	arrived    time.Time // when the issuer got it: the quote was made earlier
}

// clock is the high-water mark of a TPM, by its EK, as a decision saw it (F14, F15). Another AK of the same TPM has the same
// mark. The mark only ever rises, because whoever raises it names the version that it read; it goes when authorities approve
// a host anew that was held.
type clock struct {
	name    []byte // SHA-256 of the EK's TPMT_PUBLIC
	version uint64
	mark    *markState // nil before the first quote
}

// readClock reads the mark of a TPM, its version first.
func (i *Issuer) readClock(ctx context.Context, name []byte) (clock, error) {
	c := clock{name: name}
	var err error
	if c.version, err = i.log.Counter(ctx, c.counter()); err != nil {
		return c, err
	}
	var mark markState
	found, err := load(ctx, i.log, bucketHighWater, name, &mark)
	if found {
		c.mark = &mark
	}
	return c, err
}

func (c clock) counter() string { return counterClock + hex.EncodeToString(c.name) }

// seen returns the furthest clock, nil before the first quote.
func (c clock) seen() *attest.Clock {
	if c.mark == nil {
		return nil
	}
	return &c.mark.Clock
}

// raise has the entry demand that the mark is still the one read, and raise it if the reading is beyond it, or tells what
// the mark did not know of the same boot.
func (c clock) raise(entry *tlog.Entry, r reading) error {
	entry.Guards = append(entry.Guards[:len(entry.Guards):len(entry.Guards)], tlog.Guard{Counter: c.counter(), Value: c.version})
	next := markState{Clock: r.clock, Arrived: uint64(r.arrived.UnixMilli()), Boot: r.boot}
	if m := c.mark; m != nil {
		same := sameBoot(r.clock, m.Clock)
		learned := same && m.Boot == nil && r.boot != nil
		if !beyond(r.clock, m.Clock) {
			if !learned {
				return nil
			}
			next.Clock, next.Arrived = m.Clock, m.Arrived
		}
		if same && m.Boot != nil {
			next.Boot = m.Boot
		}
	}
	row, err := put(bucketHighWater, c.name, next)
	entry.Puts = append(entry.Puts, row)
	entry.Bumps = append(entry.Bumps, c.counter())
	return err
}

func beyond(now, seen attest.Clock) bool {
	switch {
	case now.Resets != seen.Resets:
		return now.Resets > seen.Resets
	case now.Restarts != seen.Restarts:
		return now.Restarts > seen.Restarts
	}
	return now.Milliseconds > seen.Milliseconds && now.Milliseconds-seen.Milliseconds >= clockGrain
}

// contradicts reports whether a reading cannot be of the TPM that the mark is of, so that there are two, or one was put back
// (K21). One TPM whose evidence comes out of order does not contradict itself:
//   - its counters are behind the mark, though its challenge was given out after the evidence of the mark had arrived. One
//     TPM's counters are later in the later of two quotes, and the one was made before it arrived, the other after its
//     challenge.
//   - it shows another boot key at the same counts of resets and restarts. A TPM makes that key of a seed that it draws anew
//     at each reset, and counts that reset.
func (c clock) contradicts(r reading) bool {
	if c.mark == nil {
		return false
	}
	arrived := time.UnixMilli(int64(c.mark.Arrived))
	if decision.Behind(r.clock, c.mark.Clock) && !r.challenged.Before(arrived.Add(holdMargin)) {
		return true
	}
	return sameBoot(r.clock, c.mark.Clock) && r.boot != nil && c.mark.Boot != nil && !bytes.Equal(r.boot, c.mark.Boot)
}

func sameBoot(a, b attest.Clock) bool { return a.Resets == b.Resets && a.Restarts == b.Restarts }
