package attest

import (
	"bytes"
	"crypto"
	"encoding/binary"

	"github.com/governed-execution/writ/denial"
)

// What a boot log may cost. Real logs have up to 160 events and 100 KiB.
const (
	maxLog    = 1 << 20
	maxEvents = 4096
	maxBanks  = 8
)

const (
	pcrCount = 24
	noPCR    = 0xFFFFFFFF // pcrIndex of an EV_NO_ACTION event that belongs to no PCR
)

// logBank is one digest algorithm that the header of a log declares.
type logBank struct {
	id   uint16
	size int
	name string      // "" for an algorithm that has no name here
	hash crypto.Hash // 0 for an algorithm that nothing may be verified with
}

// knownBanks are the algorithms whose digest size is fixed (TCG Algorithm Registry). SHA-1 and SM3 have no hash here,
// so nothing can be verified with them.
var knownBanks = [...]logBank{
	{0x0004, 20, "sha1", 0},
	{0x000B, 32, "sha256", crypto.SHA256},
	{0x000C, 48, "sha384", crypto.SHA384},
	{0x000D, 64, "sha512", crypto.SHA512},
	{0x0012, 32, "sm3_256", 0},
}

// logEvent is one TCG_PCR_EVENT2. Its data is a part of the log; nothing about it is verified.
type logEvent struct {
	pcr  uint32 // below pcrCount, or noPCR
	kind eventType
	data []byte
}

// extends reports whether the event changed a PCR.
func (e *logEvent) extends() bool { return e.kind != evNoAction }

// bootLog is a log that has the right form. Nothing about it is verified.
type bootLog struct {
	raw     []byte
	banks   []logBank
	events  []logEvent
	digests []uint32 // offsets in raw, one row an event, one column a bank; 0 where an event has no digest in a bank
	start   byte     // last byte of PCR 0 before its first event
}

// digest returns the digest of an event in a bank, nil if it has none.
func (l *bootLog) digest(event, bank int) []byte {
	at := int(l.digests[event*len(l.banks)+bank])
	if at == 0 {
		return nil
	}
	return l.raw[at : at+l.banks[bank].size]
}

// bank returns the column of a bank, -1 if the log does not declare it.
func (l *bootLog) bank(name string) int {
	for i, b := range l.banks {
		if b.name == name {
			return i
		}
	}
	return -1
}

// logReader reads little-endian fields. Past the end it gives zeros and short stays true.
type logReader struct {
	rest  []byte
	short bool
}

// take returns the next n bytes, which are a part of the input, or nil if there are fewer.
func (r *logReader) take(n uint64) []byte {
	if n > uint64(len(r.rest)) {
		r.rest, r.short = nil, true
		return nil
	}
	b := r.rest[:n:n]
	r.rest = r.rest[n:]
	return b
}

func (r *logReader) u8() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *logReader) u16() uint16 {
	if b := r.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (r *logReader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *logReader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func malformed(format string, args ...any) error {
	return denial.New(denial.LogMalformed, format, args...)
}

// parseLog reads a crypto-agile log (PC Client Platform Firmware Profile, section "Event Logging"): total, in one pass
// and in memory proportional to the log. It checks, in this order:
//  1. the log has at most maxLog bytes (908);
//  2. the first record is an EV_NO_ACTION event of PCR 0 that holds exactly one Spec ID Event03 structure, whose digest
//     sizes are those of their algorithms (605); a well-formed log of the older, SHA-1-only form is 611, and so is one
//     that declares no other algorithm than SHA-1;
//  3. every other record is a whole TCG_PCR_EVENT2 with a PCR below 24, at least one digest, and no algorithm twice or
//     undeclared (605), and there are at most maxEvents of them (908);
//  4. of the EV_NO_ACTION events, one StartupLocality of PCR 0 may come before PCR 0 is first extended (605 for a
//     locality other than 0, 3 and 4, 607 otherwise), and an H-CRTM event may only be the first to extend PCR 0 (607).
func parseLog(raw []byte) (*bootLog, error) {
	if len(raw) > maxLog {
		return nil, denial.New(denial.RequestLimit, "the event log has more than %d bytes", maxLog)
	}
	r := &logReader{rest: raw}
	banks, err := parseLogHeader(r)
	if err != nil {
		return nil, err
	}
	l := &bootLog{raw: raw, banks: banks}
	if err := l.parseEvents(r); err != nil {
		return nil, err
	}
	return l, l.findStart()
}

const specID03 = "Spec ID Event03\x00"

// parseLogHeader reads the first record, a TCG_PCR_EVENT whose data is a TCG_EfiSpecIDEvent.
func parseLogHeader(r *logReader) ([]logBank, error) {
	raw := r.rest
	pcr, kind, digest := r.u32(), eventType(r.u32()), r.take(20)
	spec := &logReader{rest: r.take(uint64(r.u32()))}
	if r.short {
		return nil, malformed("the log does not hold one whole record")
	}
	if kind != evNoAction || !bytes.HasPrefix(spec.rest, []byte(specID03)) {
		if isLegacyLog(raw) {
			return nil, denial.New(denial.BankNotAllowed, "the log has the older form, which holds only SHA-1")
		}
		return nil, malformed("the log does not begin with a Spec ID event")
	}
	if pcr != 0 || !bytes.Equal(digest, make([]byte, 20)) {
		return nil, malformed("the Spec ID event is not a plain EV_NO_ACTION event of PCR 0")
	}
	return parseSpecID(spec)
}

// parseSpecID reads a TCG_EfiSpecIDEvent.
func parseSpecID(r *logReader) ([]logBank, error) {
	r.take(uint64(len(specID03)))
	r.u32() // platform class
	minor, major, _, uintn := r.u8(), r.u8(), r.u8(), r.u8()
	n := r.u32()
	if r.short || major != 2 || minor != 0 || uintn < 1 || uintn > 2 || n < 1 || n > maxBanks {
		return nil, malformed("the Spec ID event has an unknown version or number of algorithms")
	}
	banks := make([]logBank, 0, n)
	strong := false
	for range n {
		b, err := parseLogBank(r, banks)
		if err != nil {
			return nil, err
		}
		banks = append(banks, b)
		strong = strong || b.name != "sha1"
	}
	r.take(uint64(r.u8())) // vendor information
	if r.short || len(r.rest) > 0 {
		return nil, malformed("the Spec ID event does not have the length that its fields give")
	}
	if !strong {
		return nil, denial.New(denial.BankNotAllowed, "the log holds only SHA-1")
	}
	return banks, nil
}

// parseLogBank reads one algorithm id and digest size.
func parseLogBank(r *logReader, before []logBank) (logBank, error) {
	b := logBank{id: r.u16(), size: int(r.u16())}
	for _, known := range knownBanks {
		if known.id == b.id {
			if known.size != b.size {
				return b, malformed("the Spec ID event gives algorithm %#04x a digest of %d bytes", b.id, b.size)
			}
			b = known
		}
	}
	for _, other := range before {
		if other.id == b.id {
			return b, malformed("the Spec ID event names algorithm %#04x twice", b.id)
		}
	}
	if r.short || b.size < 1 || b.size > 64 {
		return b, malformed("the Spec ID event gives algorithm %#04x a digest of %d bytes", b.id, b.size)
	}
	return b, nil
}

// isLegacyLog reports whether raw is whole records of the form TCG_PCR_EVENT, all of SHA-1.
func isLegacyLog(raw []byte) bool {
	r := &logReader{rest: raw}
	for len(r.rest) > 0 {
		pcr := r.u32()
		r.take(4 + 20)
		r.take(uint64(r.u32()))
		if r.short || pcr >= pcrCount && pcr != noPCR {
			return false
		}
	}
	return len(raw) > 0
}

// parseEvents reads all records after the header.
func (l *bootLog) parseEvents(r *logReader) error {
	for len(r.rest) > 0 {
		if len(l.events) == maxEvents {
			return denial.New(denial.RequestLimit, "the event log has more than %d events", maxEvents)
		}
		e := logEvent{pcr: r.u32(), kind: eventType(r.u32())}
		if err := l.parseDigests(r); err != nil {
			return err
		}
		e.data = r.take(uint64(r.u32()))
		if r.short {
			return malformed("event %d is cut short", len(l.events)+1)
		}
		if e.pcr >= pcrCount && (e.pcr != noPCR || e.extends()) {
			return malformed("event %d names a PCR that does not exist", len(l.events)+1)
		}
		l.events = append(l.events, e)
	}
	return nil
}

// parseDigests reads a TPML_DIGEST_VALUES into a new row.
func (l *bootLog) parseDigests(r *logReader) error {
	row := len(l.digests)
	for range l.banks {
		l.digests = append(l.digests, 0)
	}
	n := r.u32()
	if r.short || n < 1 || n > uint32(len(l.banks)) {
		return malformed("event %d does not have one digest a bank", len(l.events)+1)
	}
	for range n {
		id, found := r.u16(), false
		for i, b := range l.banks {
			if b.id == id && l.digests[row+i] == 0 {
				l.digests[row+i], found = uint32(len(l.raw)-len(r.rest)), true
				r.take(uint64(b.size))
			}
		}
		if !found || r.short {
			return malformed("event %d has a digest that is cut short, undeclared or there twice", len(l.events)+1)
		}
	}
	return nil
}

const startupLocality = "StartupLocality\x00"

// findStart finds with what value PCR 0 began: the locality of TPM2_Startup, or 4 after an H-CRTM sequence (TPM 2.0
// Part 1, section "H-CRTM"). A wrong value cannot pass, since PCR 0 would not replay.
func (l *bootLog) findStart() error {
	var extended, located, hcrtm bool
	for i := range l.events {
		e := &l.events[i]
		switch {
		case e.kind == evHCRTM && (e.pcr != 0 || extended):
			return denial.New(denial.EventUnexpected, "event %d is an H-CRTM event that does not come first in PCR 0", i+1)
		case e.kind == evHCRTM:
			hcrtm = true
		case e.kind != evNoAction || e.pcr != 0 || !bytes.HasPrefix(e.data, []byte(startupLocality)):
		case len(e.data) != len(startupLocality)+1:
			return malformed("event %d is a StartupLocality event of the wrong length", i+1)
		case located || extended:
			return denial.New(denial.EventUnexpected, "event %d is a second or late StartupLocality event", i+1)
		default:
			located, l.start = true, e.data[len(startupLocality)]
			if l.start != 0 && l.start != 3 && l.start != 4 {
				return malformed("event %d names a startup locality other than 0, 3 and 4", i+1)
			}
		}
		extended = extended || e.pcr == 0 && e.extends()
	}
	if hcrtm {
		l.start = 4
	}
	return nil
}
