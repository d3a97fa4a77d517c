package attest

import (
	"container/list"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"sync"

	"github.com/governed-execution/writ/denial"
)

// Memory remembers what a verifier has verified, so that evidence of a host that has not booted since needs no second replay
// of its logs, and that of one that uses a cnf key again no second verification of that key's certification. A hit is all the
// bytes that the verdict depends on: of logs the AK, banks, PCRs, values of all of them, and both logs; of a certification the
// AK, attestation and signature. Refusals are not remembered. It is safe for concurrent use; the oldest use gives way. Whoever
// can write to it can make up facts and keys.
type Memory struct {
	mu      sync.Mutex
	limit   int
	size    int
	entries map[memoryKey]*list.Element
	recent  *list.List // of *memoryEntry, last used first
	hits    uint64
	misses  uint64
}

// memoryKey is a digest of all that a verdict depends on, and of what it is about.
type memoryKey [32]byte

type memoryEntry struct {
	key   memoryKey
	facts *bootFacts // of logs, never written to; nil of a certification
	size  int
}

// NewMemory returns an empty memory whose entries take about limit bytes together.
func NewMemory(limit int) *Memory {
	return &Memory{limit: limit, entries: map[memoryKey]*list.Element{}, recent: list.New()}
}

// Counts returns how often something was found and how often not.
func (m *Memory) Counts() (hits, misses uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.hits, m.misses
}

// replay is that of bootLogs, unless the answer is known. A nil Memory knows nothing.
func (m *Memory) replay(ak []byte, in bootLogs, bank string, values map[string]map[int64][]byte) (*bootFacts, error) {
	if m == nil {
		return in.replayBanks(bank, values, nil)
	}
	key, ok := newLogKey(ak, in, bank, values)
	if !ok {
		return in.replayBanks(bank, values, nil)
	}
	if known := m.find(key); known != nil {
		return known.facts, nil
	}
	facts, err := in.replayBanks(bank, values, nil)
	if err != nil {
		return nil, err
	}
	m.add(&memoryEntry{key: key, facts: facts, size: logEntrySize + 4*(len(in.firmware)+len(in.os))})
	return facts, nil
}

// verify checks the AK's signature of a certification as attestationKey.verify does, unless it is known to verify. A nil
// Memory knows nothing.
func (m *Memory) verify(ak *attestationKey, c Certification) error {
	if m == nil {
		return ak.verify(c.Attest, c.Signature, denial.QuoteMalformed, denial.KeyBinding)
	}
	key := newCertificationKey(ak, c)
	if m.find(key) != nil {
		return nil
	}
	if err := ak.verify(c.Attest, c.Signature, denial.QuoteMalformed, denial.KeyBinding); err != nil {
		return err
	}
	m.add(&memoryEntry{key: key, size: certificationEntrySize})
	return nil
}

// What an entry takes; that of logs beside its facts. Those take at most four bytes for each byte of the logs: two for its
// hexadecimal digits, twice where a digest stands in two lists.
const (
	logEntrySize           = 4 << 10
	certificationEntrySize = 256
)

// newCertificationKey hashes each part behind its length. The public area of the AK tells the key and its scheme.
func newCertificationKey(ak *attestationKey, c Certification) memoryKey {
	b := appendPart(nil, []byte("certification"))
	for _, p := range [][]byte{ak.public, c.Attest, c.Signature} {
		b = appendPart(b, p)
	}
	return sha256.Sum256(b)
}

func appendPart(b, part []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
}

// newLogKey hashes each part behind its length, so that no two sets of parts give the same bytes. What replay would refuse
// for its size or for a PCR that does not exist has no key.
func newLogKey(ak []byte, in bootLogs, bank string, values map[string]map[int64][]byte) (key memoryKey, ok bool) {
	if len(in.firmware) > MaxBootLog || len(in.os) > MaxOSLog {
		return memoryKey{}, false
	}
	firmware, system := sha256.Sum256(in.firmware), sha256.Sum256(in.os)
	b := appendPart(nil, []byte("logs"))
	part := func(p []byte) { b = appendPart(b, p) }
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

func (m *Memory) find(key memoryKey) *memoryEntry {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.entries[key]
	if !ok {
		m.misses++
		return nil
	}
	m.hits++
	m.recent.MoveToFront(e)
	return e.Value.(*memoryEntry)
}

// add makes room for an entry and takes it, unless it is larger than an eighth of the memory.
func (m *Memory) add(e *memoryEntry) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, twice := m.entries[e.key]; twice || e.size > m.limit/8 {
		return
	}
	for m.size+e.size > m.limit {
		last := m.recent.Back()
		old := m.recent.Remove(last).(*memoryEntry)
		delete(m.entries, old.key)
		m.size -= old.size
	}
	m.entries[e.key] = m.recent.PushFront(e)
	m.size += e.size
}
