package bootlog

import (
	"bytes"
	"crypto"
	_ "crypto/sha1" // logs of the SHA-1 bank are made to be refused
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/binary"
	"fmt"
)

// Type is a TCG event type.
type Type uint32

// The event types that generated boots use.
const (
	NoAction          Type = 0x03
	Separator         Type = 0x04
	EventTag          Type = 0x06
	CRTMVersion       Type = 0x08
	IPL               Type = 0x0D
	VariableConfig    Type = 0x80000001
	VariableBoot      Type = 0x80000002
	BootApplication   Type = 0x80000003
	GPT               Type = 0x80000006
	Action            Type = 0x80000007
	FirmwareBlob      Type = 0x80000008
	HandoffTables     Type = 0x80000009
	VariableAuthority Type = 0x800000E0
)

// Event is one record of a log.
type Event struct {
	PCR      uint32
	Type     Type
	Data     []byte            // what the log says
	Measured []byte            // what the digests are of; Data if nil
	Digests  map[string][]byte // digests by bank in place of those of Measured, to forge a log
}

// Extend is one TPM2_PCR_Extend that the machine made.
type Extend struct {
	PCR     int
	Digests map[string][]byte // by bank
}

// Boot is a boot log and what the machine did to its TPM meanwhile.
type Boot struct {
	Log     []byte
	Extends []Extend // in order: to bring a TPM to the same state, make these
	Events  []Event  // what Log encodes
	Banks   []string
	start   byte
}

type algorithm struct {
	id   uint16
	hash crypto.Hash
}

var algorithms = map[string]algorithm{
	"sha1": {0x0004, crypto.SHA1}, "sha256": {0x000B, crypto.SHA256},
	"sha384": {0x000C, crypto.SHA384}, "sha512": {0x000D, crypto.SHA512},
}

// Encode writes events as a crypto-agile log (TCG PC Client Platform Firmware Profile) after a Spec ID event for the
// given banks. It writes whatever it is given, so that tests can make logs that no firmware makes. It panics on a bank
// other than sha1, sha256, sha384 and sha512.
func Encode(banks []string, events []Event) *Boot {
	b := &Boot{Events: events, Banks: banks}
	log := appendHeader(nil, banks)
	for _, e := range events {
		digests := e.digests(banks)
		log = appendEvent(log, e, banks, digests)
		if e.Type == NoAction {
			b.noteLocality(e)
			continue
		}
		b.Extends = append(b.Extends, Extend{PCR: int(e.PCR), Digests: digests})
	}
	b.Log = log
	return b
}

// noteLocality takes the value with which PCR 0 begins.
func (b *Boot) noteLocality(e Event) {
	if rest, ok := bytes.CutPrefix(e.Data, []byte(localityTag)); ok && e.PCR == 0 && len(rest) == 1 {
		b.start = rest[0]
	}
}

// digests returns the digest of an event in each bank. Those of an EV_NO_ACTION event are zeros.
func (e Event) digests(banks []string) map[string][]byte {
	out := make(map[string][]byte, len(banks))
	for _, bank := range banks {
		h := mustFind(bank).hash.New()
		measured := e.Measured
		if measured == nil {
			measured = e.Data
		}
		h.Write(measured)
		switch {
		case e.Digests[bank] != nil:
			out[bank] = e.Digests[bank]
		case e.Type == NoAction:
			out[bank] = make([]byte, h.Size())
		default:
			out[bank] = h.Sum(nil)
		}
	}
	return out
}

func mustFind(bank string) algorithm {
	a, ok := algorithms[bank]
	if !ok {
		panic(fmt.Sprintf("bootlog: unknown bank %q", bank))
	}
	return a
}

// appendHeader appends the TCG_PCR_EVENT that holds a TCG_EfiSpecIDEvent.
func appendHeader(log []byte, banks []string) []byte {
	spec := []byte("Spec ID Event03\x00")
	spec = append(spec, 0, 0, 0, 0, 0, 2, 0, 2) // client platform, version 2.0, errata 0, 64-bit UINTN
	spec = binary.LittleEndian.AppendUint32(spec, uint32(len(banks)))
	for _, bank := range banks {
		a := mustFind(bank)
		spec = binary.LittleEndian.AppendUint16(spec, a.id)
		spec = binary.LittleEndian.AppendUint16(spec, uint16(a.hash.Size()))
	}
	spec = append(spec, 0) // no vendor information
	log = binary.LittleEndian.AppendUint32(log, 0)
	log = binary.LittleEndian.AppendUint32(log, uint32(NoAction))
	log = append(log, make([]byte, 20)...)
	log = binary.LittleEndian.AppendUint32(log, uint32(len(spec)))
	return append(log, spec...)
}

// appendEvent appends a TCG_PCR_EVENT2.
func appendEvent(log []byte, e Event, banks []string, digests map[string][]byte) []byte {
	log = binary.LittleEndian.AppendUint32(log, e.PCR)
	log = binary.LittleEndian.AppendUint32(log, uint32(e.Type))
	log = binary.LittleEndian.AppendUint32(log, uint32(len(banks)))
	for _, bank := range banks {
		log = binary.LittleEndian.AppendUint16(log, mustFind(bank).id)
		log = append(log, digests[bank]...)
	}
	log = binary.LittleEndian.AppendUint32(log, uint32(len(e.Data)))
	return append(log, e.Data...)
}

// PCRs returns all 24 PCR values of a bank after the boot.
func (b *Boot) PCRs(bank string) map[int64][]byte {
	h := mustFind(bank).hash.New()
	values := make(map[int64][]byte, 24)
	for pcr := range int64(24) {
		values[pcr] = make([]byte, h.Size())
		if pcr >= 17 && pcr <= 22 {
			values[pcr] = bytes.Repeat([]byte{0xFF}, h.Size())
		}
	}
	values[0][h.Size()-1] = b.start
	for _, e := range b.Extends {
		if old, ok := values[int64(e.PCR)]; ok {
			h.Reset()
			h.Write(old)
			h.Write(e.Digests[bank])
			values[int64(e.PCR)] = h.Sum(nil)
		}
	}
	return values
}

// Select returns the values of some PCRs of a bank after the boot.
func (b *Boot) Select(bank string, pcrs ...int64) map[int64][]byte {
	all, some := b.PCRs(bank), make(map[int64][]byte, len(pcrs))
	for _, pcr := range pcrs {
		some[pcr] = all[pcr]
	}
	return some
}
