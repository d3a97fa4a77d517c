package attest

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"sync"
)

// LogCache remembers what logs showed that a verifier has accepted, so that the evidence of a host that has not booted since
// needs no second replay. A hit is the same AK, banks, PCRs, values of all of them, and bytes of both logs: all that facts of
// logs depend on, and the AK. Refusals are not remembered. It is safe for concurrent use; the oldest use gives way. Whoever
// can write to its memory can make up facts.
type LogCache struct {
	mu      sync.Mutex
	limit   int
	size    int
	entries map[logKey]*list.Element
	recent  *list.List // of *logEntry, last used first
	hits    uint64
	misses  uint64
}

// logKey is a digest of all that the facts of logs depend on.
type logKey [32]byte

type logEntry struct {
	key   logKey
	facts *bootFacts // never written to
	size  int
}

// NewLogCache returns an empty cache whose entries take about limit bytes together.
func NewLogCache(limit int) *LogCache {
	return &LogCache{limit: limit, entries: map[logKey]*list.Element{}, recent: list.New()}
}

// Counts returns how often a log was found and how often not.
func (c *LogCache) Counts() (hits, misses uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.hits, c.misses
}

// replay is that of bootLogs, unless the answer is known. A nil cache knows nothing.
func (c *LogCache) replay(ak []byte, in bootLogs, bank string, values map[string]map[int64][]byte) (*bootFacts, error) {
	if c == nil {
		return in.replayBanks(bank, values, nil)
	}
	key, ok := newLogKey(ak, in, bank, values)
	if !ok {
		return in.replayBanks(bank, values, nil)
	}
	if facts := c.find(key); facts != nil {
		return facts, nil
	}
	facts, err := in.replayBanks(bank, values, nil)
	if err != nil {
		return nil, err
	}
	c.add(&logEntry{key: key, facts: facts, size: entrySize + 4*(len(in.firmware)+len(in.os))})
	return facts, nil
}

// entrySize is what an entry takes beside its facts. Those take at most four bytes for each byte of the logs: two for its
// hexadecimal digits, twice where a digest stands in two lists.
const entrySize = 4 << 10

// newLogKey hashes each part behind its length, so that no two sets of parts give the same bytes. What replay would refuse
// for its size or for a PCR that does not exist has no key.
func newLogKey(ak []byte, in bootLogs, bank string, values map[string]map[int64][]byte) (key logKey, ok bool) {
	if len(in.firmware) > MaxBootLog || len(in.os) > MaxOSLog {
		return logKey{}, false
	}
	firmware, system := sha256.Sum256(in.firmware), sha256.Sum256(in.os)
	var b []byte
	part := func(p []byte) {
		b = append(binary.BigEndian.AppendUint32(b, uint32(len(p))), p...)
	}
	part(ak)
	part([]byte(bank))
	part(firmware[:])
	part(system[:])
	named, given := 0, 0
	for _, name := range slices.Sorted(maps.Keys(values)) {
		part([]byte(name))
		part([]byte{byte(len(values[name]))})
		given += len(values[name])
		for pcr := range int64(pcrCount) {
			if v, ok := values[name][pcr]; ok {
				part([]byte{byte(pcr)})
				part(v)
				named++
			}
		}
	}
	return sha256.Sum256(b), named == given
}

func (c *LogCache) find(key logKey) *bootFacts {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.entries[key]
	if !ok {
		c.misses++
		return nil
	}
	c.hits++
	c.recent.MoveToFront(e)
	return e.Value.(*logEntry).facts
}

// add makes room for an entry and takes it, unless it is larger than an eighth of the cache.
func (c *LogCache) add(e *logEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, twice := c.entries[e.key]; twice || e.size > c.limit/8 {
		return
	}
	for c.size+e.size > c.limit {
		last := c.recent.Back()
		old := c.recent.Remove(last).(*logEntry)
		delete(c.entries, old.key)
		c.size -= old.size
	}
	c.entries[e.key] = c.recent.PushFront(e)
	c.size += e.size
}
