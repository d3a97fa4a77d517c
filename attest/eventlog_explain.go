package attest

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// EventLog explains a boot log to people. It proves nothing: only a quote that the log replays to does, and even then no
// digest covers the type of an event.
type EventLog struct {
	Banks  []string `json:"banks"` // digest algorithms of the log; one without a name is given by its number
	Events []Event  `json:"events"`
	OS     []Event  `json:"os"` // what systemd measured afterwards, by its own log
	log    *bootLog
	system []osEvent
	os     []byte // the log of systemd
}

// Event is one record of a boot log.
type Event struct {
	Number      int               `json:"number"` // from 1; the header is not counted
	PCR         int               `json:"pcr"`    // -1 for a record that belongs to none
	Type        string            `json:"type"`   // no digest covers it
	Digests     map[string]string `json:"digests"`
	Size        int               `json:"size"`        // of the data, in bytes
	Description string            `json:"description"` // what the data says; on one line, and not trusted unless Covered
	Covered     bool              `json:"covered"`     // each digest that is not SHA-1 is that of the data described
}

// ParseLog reads a crypto-agile boot log for people. It refuses what replay would refuse as malformed.
func ParseLog(raw []byte) (*EventLog, error) {
	l, err := parseLog(raw)
	if err != nil {
		return nil, err
	}
	out := &EventLog{log: l, Events: make([]Event, len(l.events)), OS: []Event{}}
	for _, b := range l.banks {
		out.Banks = append(out.Banks, bankName(b.id))
	}
	for i := range l.events {
		out.Events[i] = l.explain(i)
	}
	return out, nil
}

// AddOS adds the log of systemd (/run/log/systemd/tpm2-measure.log). It refuses what replay would refuse as malformed.
func (l *EventLog) AddOS(raw []byte) error {
	system, err := parseOSLog(raw)
	if err != nil {
		return err
	}
	l.os, l.system, l.OS = raw, system, make([]Event, len(system))
	for i := range system {
		l.OS[i] = system[i].explain(i)
	}
	return nil
}

// explain describes one event of the system.
func (e *osEvent) explain(i int) Event {
	out := Event{Number: i + 1, PCR: int(e.pcr), Type: "systemd", Size: len(e.text), Digests: map[string]string{}, Covered: e.text != ""}
	out.Description = "something without a text"
	if e.text != "" {
		out.Description = quoteText([]byte(e.text))
	}
	checked := false
	for _, b := range knownBanks {
		digest := e.digests[b.name]
		if digest == nil {
			continue
		}
		out.Digests[b.name] = hex.EncodeToString(digest)
		if b.hash != 0 {
			checked = true
			h := b.hash.New()
			h.Write([]byte(e.text))
			out.Covered = out.Covered && string(h.Sum(nil)) == string(digest)
		}
	}
	out.Covered = out.Covered && checked
	return out
}

// Replay returns, in hexadecimal, the value that the log gives each PCR that it extends, in a bank with SHA-2 digests.
func (l *EventLog) Replay(bank string) (map[int64]string, error) {
	column := l.log.bank(bank)
	if column < 0 || l.log.banks[column].hash == 0 {
		return nil, fmt.Errorf("replaying bank %q: the log has no such bank of SHA-2 digests", bank)
	}
	h := l.log.banks[column].hash.New()
	b := &bankReplay{log: l.log, bank: column, hash: h}
	for i := range l.log.events {
		e := &l.log.events[i]
		if digest := l.log.digest(i, column); e.extends() && digest != nil {
			b.extend(e.pcr, digest)
		}
	}
	for i := range l.system {
		if digest := l.system[i].digests[bank]; digest != nil {
			b.extend(l.system[i].pcr, digest)
		}
	}
	values := make(map[int64]string)
	for pcr, v := range b.values {
		if v != nil {
			values[int64(pcr)] = hex.EncodeToString(v)
		}
	}
	return values, nil
}

// explain describes one event.
func (l *bootLog) explain(i int) Event {
	e := &l.events[i]
	description, measured := describe(e)
	out := Event{Number: i + 1, PCR: int(e.pcr), Type: e.kind.String(), Size: len(e.data), Digests: map[string]string{},
		Description: description, Covered: measured != nil && e.extends()}
	if e.pcr == noPCR {
		out.PCR = -1
	}
	checked := false
	for b, bank := range l.banks {
		digest := l.digest(i, b)
		if digest == nil {
			continue
		}
		out.Digests[bankName(bank.id)] = hex.EncodeToString(digest)
		if bank.name == "sha1" {
			continue
		}
		checked = true
		if bank.hash == 0 {
			out.Covered = false
		} else if out.Covered {
			h := bank.hash.New()
			h.Write(measured)
			out.Covered = string(h.Sum(nil)) == string(digest)
		}
	}
	out.Covered = out.Covered && checked
	return out
}

// describe says in words what the data of an event means, and which bytes a digest must cover for that to hold.
func describe(e *logEvent) (text string, measured []byte) {
	switch e.kind {
	case evSeparator:
		return fmt.Sprintf("separator %x", clip(e.data)), e.data
	case evAction, evOmitBootDevices, evCompactHash:
		return quoteText(e.data), e.data
	case evNoAction:
		return describeNoAction(e.data), nil
	case evCRTMVersion:
		if text, ok := utf16Text(trimNUL16(e.data)); ok {
			return "firmware version " + quoteText([]byte(text)), e.data
		}
	case evVariableConfig, evVariableBoot, evVariableBoot2, evAuthority:
		if v, err := parseVariable(e.data); err == nil {
			return describeVariable(v), e.data
		}
	case evBootApplication, evBootDriver, evRuntimeDriver:
		return describeImage(e.data), nil
	case evIPL:
		return describeIPL(e)
	case evEventTag:
		if len(e.data) > 8 && uint64(binary.LittleEndian.Uint32(e.data[4:])) == uint64(len(e.data)-8) {
			return fmt.Sprintf("tag %#08x %s", binary.LittleEndian.Uint32(e.data), quoteText(e.data[8:])), e.data
		}
	case evGPT, evGPT2:
		if len(e.data) >= 100 {
			return fmt.Sprintf("partition table with %d partitions", binary.LittleEndian.Uint64(e.data[92:])), e.data
		}
	}
	return fmt.Sprintf("%d bytes", len(e.data)), e.data
}

func describeNoAction(data []byte) string {
	rest, ok := strings.CutPrefix(string(data), startupLocality)
	if ok && len(rest) == 1 {
		return fmt.Sprintf("TPM2_Startup came from locality %d", rest[0])
	}
	name, _, _ := strings.Cut(string(data), "\x00")
	return "remark " + quoteText([]byte(name))
}

func describeVariable(v *efiVariable) string {
	name := "variable " + quoteText([]byte(v.name))
	switch v.secureBootVariable() {
	case "":
		return fmt.Sprintf("%s, %d bytes", name, len(v.data))
	case "SecureBoot":
		return fmt.Sprintf("%s = %x", name, clip(v.data))
	}
	if len(v.data) >= 16 && efiGUID(v.data[:16]) != signatureX509 && efiGUID(v.data[:16]) != signatureSHA256 {
		return fmt.Sprintf("one entry of %s, %d bytes", name, len(v.data))
	}
	counts, err := parseSignatureLists(v.data)
	if err != nil {
		return name + ", malformed"
	}
	certificates, hashes, other := 0, 0, 0
	for _, c := range counts {
		switch c.kind {
		case signatureX509:
			certificates += c.entries
		case signatureSHA256:
			hashes += c.entries
		default:
			other += c.entries
		}
	}
	return fmt.Sprintf("%s with %d certificates, %d hashes, %d other entries", name, certificates, hashes, other)
}

// describeImage reads the path out of an EFI_IMAGE_LOAD_EVENT.
func describeImage(data []byte) string {
	r := &logReader{rest: data}
	r.take(24) // location, length and link-time address in memory
	path := &logReader{rest: r.take(r.u64())}
	var files []string
	for len(path.rest) > 0 && !path.short {
		node := path.u16()
		body := path.take(uint64(max(path.u16(), 4)) - 4)
		if name, ok := utf16Text(trimNUL16(body)); node == 0x0404 && ok { // media device path, file path
			files = append(files, name)
		}
	}
	if len(files) == 0 {
		return "program without a file path"
	}
	return "program " + quoteText([]byte(strings.Join(files, "")))
}

// describeIPL reads what GRUB, shim and systemd log.
func describeIPL(e *logEvent) (string, []byte) {
	if text, measured := grubCommand(e); text != "" {
		return "GRUB command " + quoteText([]byte(text)), measured
	}
	if text, measured := commandLine(e); text != "" && (e.pcr != 8 || isPlain(text)) {
		return "kernel command line " + quoteText([]byte(text)), measured
	}
	if section, measured := stubSection(e); section != "" {
		return "section " + section + " of a unified kernel image", measured
	}
	if text, ok := utf16Text(trimNUL16(e.data)); ok && isPlain(text) {
		return quoteText([]byte(text)), e.data
	}
	return quoteText(e.data), e.data
}

// isPlain reports whether text is printable ASCII, which bytes that are no UTF-16 hardly ever give.
func isPlain(text string) bool {
	return text != "" && strings.IndexFunc(text, func(c rune) bool { return c < ' ' || c > '~' }) < 0
}

func trimNUL16(b []byte) []byte {
	for len(b) >= 2 && len(b)%2 == 0 && b[len(b)-1] == 0 && b[len(b)-2] == 0 {
		b = b[:len(b)-2]
	}
	return b
}

// clip bounds what is shown of data.
func clip(b []byte) []byte { return b[:min(len(b), 160)] }

// quoteText shows text from a log as one line that no terminal acts on, and other data in hexadecimal.
func quoteText(b []byte) string {
	b = []byte(strings.TrimRight(string(b), "\x00"))
	shown, more := clip(b), ""
	if len(shown) < len(b) {
		for len(shown) > 0 && !utf8.Valid(shown) && utf8.Valid(b) {
			shown = shown[:len(shown)-1]
		}
		more = fmt.Sprintf(" and %d more bytes", len(b)-len(shown))
	}
	if !utf8.Valid(b) || strings.Contains(string(b), "\x00") {
		return hex.EncodeToString(shown) + more
	}
	return strconv.QuoteToASCII(string(shown)) + more
}
