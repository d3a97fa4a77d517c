package attest

import (
	"bytes"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"
)

// firmwareVersion takes the version that firmware measured into PCR 0. Only firmware writes there before the separator,
// and the digest covers the text.
func (r *factReader) firmwareVersion(i int, e *logEvent, digest string) {
	if e.kind != evCRTMVersion || r.facts.Platform.Version != "" || !r.covers(r.log.digest(i, r.bank), e.data) {
		return
	}
	if text, ok := utf16Text(trimNUL16(e.data)); ok && isPlain(text) {
		r.facts.Platform.Version = text
		r.prove(i, e, digest, "platform.version", -1)
	}
}

// Actions of PCR 7 that say what firmware did not protect (PC Client Platform Firmware Profile, section "EV_EFI_ACTION").
const (
	actionDebug = "UEFI Debug Mode"
	actionDMA   = "DMA Protection Disabled"
)

// platformState takes an action of PCR 7. Its text was checked, and no event of another type can hold such a text there,
// so neither of both states can be hidden.
func (r *factReader) platformState(i int, e *logEvent, digest string) {
	switch strings.TrimRight(string(e.data), "\x00") {
	case actionDebug:
		r.facts.Platform.Debug = true
		r.prove(i, e, digest, "platform.debug", -1)
	case actionDMA:
		r.facts.Platform.DMAUnprotected = true
		r.prove(i, e, digest, "platform.dma_unprotected", -1)
	}
}

// partitions takes one event of PCR 5: a partition table that a digest covers, an action or a separator, whose text was
// checked, or what no fact tells of.
func (r *factReader) partitions(i int, e *logEvent, digest string) {
	switch e.kind {
	case evAction, evSeparator:
		return
	case evGPT, evGPT2:
		if disk, ok := parseGPT(e.data); ok && r.covers(r.log.digest(i, r.bank), e.data) {
			r.prove(i, e, digest, "disks", len(r.facts.Disks))
			r.facts.Disks = append(r.facts.Disks, disk)
			return
		}
	}
	r.facts.Unexplained[5]++
}

const (
	gptHeader = 92  // bytes of an EFI_PARTITION_TABLE_HEADER
	gptEntry  = 128 // bytes of an EFI_PARTITION_ENTRY
)

// parseGPT reads a UEFI_GPT_DATA: a header, the number of entries, and that many entries.
func parseGPT(data []byte) (Disk, bool) {
	r := &logReader{rest: data}
	header, n := &logReader{rest: r.take(gptHeader)}, r.u64()
	if r.short || !bytes.HasPrefix(header.rest, []byte("EFI PART")) || n > uint64(len(r.rest)) || n*gptEntry != uint64(len(r.rest)) {
		return Disk{}, false
	}
	header.take(56)
	d := Disk{GUID: readGUID(header).String(), Partitions: make([]Partition, 0, n)}
	for range n {
		entry := &logReader{rest: r.take(gptEntry)}
		p := Partition{Type: readGUID(entry).String(), GUID: readGUID(entry).String()}
		entry.take(24) // first and last block, attributes
		if name, ok := utf16Text(trimNUL16(entry.rest)); ok {
			p.Name = name
		}
		d.Partitions = append(d.Partitions, p)
	}
	return d, true
}

// shim takes what shim measured into PCR 7. The digest of an insecure MokSBState is known, so no label can hide it. Of
// several SbatLevels the lowest counts, so that one more proves nothing better.
func (r *factReader) shim(i int, e *logEvent, digest string) {
	measured := r.log.digest(i, r.bank)
	if r.covers(measured, insecureMOK) {
		r.facts.Shim.Insecure = true
		r.prove(i, e, digest, "shim.insecure", -1)
		return
	}
	if len(e.data) < 16 || efiGUID(e.data[:16]) != shimLock {
		return
	}
	v, err := parseVariable(e.data)
	if err != nil || v.name != "SbatLevel" || !r.covers(measured, e.data) {
		return
	}
	r.prove(i, e, digest, "shim.sbat", -1)
	r.facts.Shim.lower(parseSBAT(v.data))
}

// shimLock is the vendor GUID of the variables of shim.
var shimLock = efiGUID{0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23}

// insecureMOK is the UEFI_VARIABLE_DATA of MokSBState with the value 1: shim verifies nothing that it starts.
var insecureMOK = append(append(shimLock[:len(shimLock):len(shimLock)], 10, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0),
	"M\x00o\x00k\x00S\x00B\x00S\x00t\x00a\x00t\x00e\x00\x01"...)

// lower takes one SbatLevel.
func (s *Shim) lower(date int64, generations map[string]int64) {
	if s.SBAT == 0 || date < s.SBAT {
		s.SBAT = date
	}
	if len(s.Generations) == 0 {
		s.Generations = generations
		return
	}
	for name, n := range s.Generations {
		s.Generations[name] = min(n, generations[name])
	}
}

// parseSBAT reads a SbatLevel: lines of a component and its least generation, the first with the date of the level. What
// is not such a line counts as absent.
func parseSBAT(data []byte) (date int64, generations map[string]int64) {
	generations = map[string]int64{}
	for n, line := range strings.Split(strings.TrimRight(string(data), "\x00\n"), "\n") {
		fields := strings.Split(strings.TrimSuffix(line, "\r"), ",")
		if len(fields) < 2 || !isPlain(fields[0]) {
			continue
		}
		if n == 0 && fields[0] == "sbat" && len(fields) > 2 && len(fields[2]) == 10 {
			date = decimal(fields[2])
		}
		if g := decimal(fields[1]); g > 0 {
			generations[fields[0]] = g
		}
	}
	return date, generations
}

// decimal reads a number without sign, 0 if it is none or does not fit.
func decimal(text string) int64 {
	n, err := strconv.ParseUint(text, 10, 63)
	if err != nil {
		return 0
	}
	return int64(n)
}

// stubSections are the sections that systemd-stub measures, in its order. It does not measure .pcrsig, whose signatures
// rest on the others: no digest covers that section but the one of the whole image in PCR 4.
var stubSections = [...]string{".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".dtbauto", ".uname",
	".sbat", ".pcrpkey", ".profile", ".hwids", ".efifw"}

// stubSection returns which section an event of PCR 11 says that it measures, "" if none, and the bytes that
// systemd-stub measures of the name.
func stubSection(e *logEvent) (section string, measured []byte) {
	if e.kind != evIPL || e.pcr != 11 {
		return "", nil
	}
	label, ok := utf16Text(trimNUL16(e.data))
	if !ok || !slices.Contains(stubSections[:], label) {
		return "", nil
	}
	return label, append([]byte(label), 0)
}

// stubReader reads PCR 11 as systemd-stub extends it: for each section first with its name and then with its content. The
// digest of the name tells which section it is; labels are not looked at.
type stubReader struct {
	names   map[string]string // digest of a name to the name
	section string            // whose content comes next
	over    bool              // something else has come
}

// read takes one event of PCR 11.
func (s *stubReader) read(r *factReader, i int, e *logEvent, digest []byte) {
	if s.names == nil {
		s.names = make(map[string]string, len(stubSections))
		for _, name := range stubSections {
			s.names[string(r.hashed(append([]byte(name), 0)))] = name
		}
	}
	name, known := s.names[string(digest)]
	_, twice := r.facts.Sections[name]
	switch {
	case s.section != "":
		text := hex.EncodeToString(digest)
		r.prove(i, e, text, "sections."+s.section, -1)
		r.facts.Sections[s.section], s.section = text, ""
	case known && !twice && !s.over:
		s.section = name
	default:
		s.over = true
		r.facts.Unexplained[11]++
	}
}

// end counts a name without a content.
func (s *stubReader) end(r *factReader) {
	if s.section != "" {
		r.facts.Unexplained[11]++
	}
}
