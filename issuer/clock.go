package issuer

import (
	"context"
	"encoding/hex"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/tlog"
)

// clockGrain is by how many milliseconds the clock of a TPM must have moved on before its high-water mark is raised, so
// that the requests of one host do not wait for each other. Resets and restarts raise it at once.
const clockGrain = 10_000

// clock is the high-water mark of a TPM, by its EK, as a decision saw it: the furthest clock that a signed quote of it
// showed (F14, F15). Another AK of the same TPM has the same mark. The mark only ever rises, because whoever raises it names the version that it read.
type clock struct {
	name    []byte // SHA-256 of the EK's TPMT_PUBLIC
	version uint64
	seen    *attest.Clock // nil before the first quote
}

// readClock reads the mark of a TPM, its version first.
func (i *Issuer) readClock(ctx context.Context, name []byte) (clock, error) {
	c := clock{name: name}
	var err error
	if c.version, err = i.log.Counter(ctx, c.counter()); err != nil {
		return c, err
	}
	var seen attest.Clock
	found, err := load(ctx, i.log, bucketHighWater, name, &seen)
	if found {
		c.seen = &seen
	}
	return c, err
}

func (c clock) counter() string { return counterClock + hex.EncodeToString(c.name) }

// raise has the entry demand that the mark is still the one read, and raise it if now is beyond it.
func (c clock) raise(entry *tlog.Entry, now attest.Clock) error {
	entry.Guards = append(entry.Guards[:len(entry.Guards):len(entry.Guards)], tlog.Guard{Counter: c.counter(), Value: c.version})
	if c.seen != nil && !beyond(now, *c.seen) {
		return nil
	}
	row, err := put(bucketHighWater, c.name, now)
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
