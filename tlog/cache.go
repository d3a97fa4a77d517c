package tlog

import (
	"bytes"
	"context"
	"maps"
	"sync"
)

// Limits of the cache.
const (
	maxCached    = 1 << 14 // rows; then it starts anew
	maxCachedRow = 1 << 10 // bytes of a row, with its key, that is worth keeping
)

// cache keeps rows of state and counters that were looked up, and that there was none, because a decision looks up a
// dozen of them and most change rarely. The log is the only writer of its database, so it knows what each transaction
// changes.
//
// A caller that looks up one row, then another, must not get a newer first and an older second one. Therefore the
// writer forgets what a transaction will change before it commits, and what was read while it did, or began before, is
// not kept. After the commit it notes what the rows that were known became.
type cache struct {
	mu      sync.RWMutex
	turn    uint64 // raised before and after each commit: odd while one runs
	rows    map[rowKey]row
	numbers map[string]uint64
}

type rowKey struct{ bucket, key string }

type row struct {
	value []byte
	ok    bool
}

// begin notes that a transaction is about to commit which changes what the requests put, and the counters that they
// raise. The function that it returns notes that the commit is done, or failed; done, what was known before is known again.
func (c *cache) begin(requests []*request, counters map[string]uint64) (end func(committed bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn++
	rows, numbers := map[rowKey]row{}, map[string]uint64{}
	for _, r := range requests {
		for _, e := range r.entries {
			for _, p := range e.Puts {
				k := rowKey{p.Bucket, string(p.Key)}
				_, known := c.rows[k]
				if _, again := rows[k]; known || again {
					rows[k] = row{p.Value, p.Value != nil}
				}
				delete(c.rows, k)
			}
			for _, name := range e.Bumps {
				if _, known := c.numbers[name]; known {
					numbers[name] = counters[name]
				}
				delete(c.numbers, name)
			}
		}
	}
	return func(committed bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.turn++
		if !committed {
			return
		}
		for k, r := range rows {
			if len(k.bucket)+len(k.key)+len(r.value) <= maxCachedRow {
				c.rows[k] = r
			}
		}
		maps.Copy(c.numbers, numbers)
	}
}

func (c *cache) row(k rowKey) (r row, ok bool, turn uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	r, ok = c.rows[k]
	return r, ok, c.turn
}

func (c *cache) number(name string) (n uint64, ok bool, turn uint64) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	n, ok = c.numbers[name]
	return n, ok, c.turn
}

// keep calls store unless a commit has run since the turn.
func (c *cache) keep(turn uint64, store func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if turn != c.turn || turn%2 == 1 {
		return
	}
	if c.rows == nil || len(c.rows)+len(c.numbers) >= maxCached {
		c.rows, c.numbers = map[rowKey]row{}, map[string]uint64{}
	}
	store()
}

// Value is Reader.Value of the latest state.
func (l *Log) Value(ctx context.Context, bucket string, key []byte) (value []byte, ok bool, err error) {
	k := rowKey{bucket, string(key)}
	r, hit, turn := l.cache.row(k)
	if !hit {
		if r.value, r.ok, err = l.Reader.Value(ctx, bucket, key); err != nil {
			return nil, false, err
		}
		if len(bucket)+len(key)+len(r.value) <= maxCachedRow {
			l.cache.keep(turn, func() { l.cache.rows[k] = r })
		}
	}
	return bytes.Clone(r.value), r.ok, nil
}

// Counter is Reader.Counter of the latest state.
func (l *Log) Counter(ctx context.Context, name string) (uint64, error) {
	n, hit, turn := l.cache.number(name)
	if hit {
		return n, nil
	}
	n, err := l.Reader.Counter(ctx, name)
	if err == nil {
		l.cache.keep(turn, func() { l.cache.numbers[name] = n })
	}
	return n, err
}
