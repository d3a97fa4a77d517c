package corpus

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
)

// seed makes every run the same, but for the keys.
const seed = 20261123

// cases returns how many mutations to try.
func cases(tb testing.TB, usual int) int {
	tb.Helper()
	given := os.Getenv("MUTATIONS")
	if given == "" {
		return usual
	}
	n, err := strconv.Atoi(given)
	if err != nil || n < 1 {
		tb.Fatalf("MUTATIONS is %q, want a number of cases", given)
	}
	return n
}

// mutator makes the mutations of one case.
type mutator struct{ *rand.Rand }

func newMutator(number int) mutator { return mutator{rand.New(rand.NewPCG(seed, uint64(number)))} }

// edge are numbers at which parsers go wrong.
var edge = []uint64{0, 1, 2, 3, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 63, 1<<64 - 1}

// bytes returns a copy of b with one thing changed, of a kind that knows nothing of what the bytes mean.
func (m mutator) bytes(b []byte) []byte {
	out := slices.Clone(b)
	if len(out) == 0 {
		return []byte{byte(m.Uint32())}
	}
	at := m.IntN(len(out))
	end := min(at+1+m.IntN(32), len(out))
	switch m.IntN(10) {
	case 0, 1, 2:
		out[at] ^= 1 << m.IntN(8)
	case 3:
		out[at] = byte(m.Uint32())
	case 4:
		return slices.Insert(out, at, m.some(1+m.IntN(8))...)
	case 5:
		return slices.Delete(out, at, end)
	case 6:
		return slices.Insert(out, end, b[at:end]...)
	case 7: // exchange two parts of the same length
		other := m.IntN(len(out))
		n := min(end-at, len(out)-other)
		copy(out[at:at+n], b[other:])
		copy(out[other:other+n], b[at:])
	case 8:
		m.number(out[at:])
	case 9:
		if m.IntN(2) == 0 {
			return out[:at]
		}
		return append(out, m.some(1+m.IntN(16))...)
	}
	return out
}

func (m mutator) some(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.Uint32())
	}
	return b
}

// number writes a number of one of the usual lengths over the beginning of b.
func (m mutator) number(b []byte) {
	v := edge[m.IntN(len(edge))]
	var raw [8]byte
	n := 1 << m.IntN(4)
	if m.IntN(2) == 0 {
		binary.LittleEndian.PutUint64(raw[:], v)
		copy(b[:min(n, len(b))], raw[:])
		return
	}
	binary.BigEndian.PutUint64(raw[:], v)
	copy(b[:min(n, len(b))], raw[8-n:])
}

// logEvent is one event of a boot log, as bytes: PCR and type, digests with their count, data without its length.
type logEvent struct{ head, digests, data []byte }

// splitLog cuts a crypto-agile log, which must be well-formed, into its header and its events.
func splitLog(log []byte) (header []byte, events []logEvent) {
	le := binary.LittleEndian
	size := 32 + le.Uint32(log[28:])
	header, rest := log[:size:size], log[size:]
	sizes := map[uint16]uint32{}
	for i, spec := uint32(0), header[32+24:]; i < le.Uint32(spec); i++ {
		sizes[le.Uint16(spec[4+4*i:])] = uint32(le.Uint16(spec[6+4*i:]))
	}
	for len(rest) > 0 {
		end := uint32(12)
		for range le.Uint32(rest[8:]) {
			end += 2 + sizes[le.Uint16(rest[end:])]
		}
		n := le.Uint32(rest[end:])
		events = append(events, logEvent{rest[:8:8], rest[8:end:end], rest[end+4 : end+4+n : end+4+n]})
		rest = rest[end+4+n:]
	}
	return header, events
}

func joinLog(header []byte, events []logEvent) []byte {
	out := slices.Clone(header)
	for _, e := range events {
		out = append(append(out, e.head...), e.digests...)
		out = append(binary.LittleEndian.AppendUint32(out, uint32(len(e.data))), e.data...)
	}
	return out
}

// log returns a copy of a log with one event deleted, doubled, moved, given another PCR or type, or changed.
func (m mutator) log(log []byte) []byte {
	header, events := splitLog(log)
	i := m.IntN(len(events))
	e := &events[i]
	switch m.IntN(9) {
	case 0:
		events = slices.Delete(events, i, i+1)
	case 1:
		events = slices.Insert(events, m.IntN(len(events)+1), *e)
	case 2:
		j := m.IntN(len(events))
		events[i], events[j] = events[j], events[i]
	case 3: // all events of a PCR
		pcr := binary.LittleEndian.Uint32(e.head)
		events = slices.DeleteFunc(events, func(e logEvent) bool { return binary.LittleEndian.Uint32(e.head) == pcr })
	case 4:
		e.head = slices.Clone(e.head)
		binary.LittleEndian.PutUint32(e.head, uint32(m.IntN(26)))
	case 5: // the type of another event
		e.head = slices.Concat(e.head[:4], events[m.IntN(len(events))].head[4:])
	case 6:
		e.head = slices.Concat(e.head[:4], []byte{byte(m.IntN(20)), 0, 0, byte(0x80 * m.IntN(2))})
	case 7:
		e.data = m.bytes(e.data)
	case 8:
		e.digests = slices.Clone(e.digests)
		e.digests[6+m.IntN(len(e.digests)-6)] ^= 1 << m.IntN(8)
	}
	return joinLog(header, events)
}
