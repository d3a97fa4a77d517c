package attest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"unicode/utf16"
	"unicode/utf8"
)

// efiGUID is a GUID in the byte order of UEFI.
type efiGUID [16]byte

var (
	efiGlobalVariable = efiGUID{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	efiImageSecurity  = efiGUID{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
	signatureX509     = efiGUID{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	signatureSHA256   = efiGUID{0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28}
)

// readGUID takes a GUID.
func readGUID(r *logReader) (g efiGUID) {
	copy(g[:], r.take(16))
	return g
}

// String returns the GUID as people write it, in lower case.
func (g efiGUID) String() string {
	return fmt.Sprintf("%08x-%04x-%04x-%x-%x", binary.LittleEndian.Uint32(g[:]), binary.LittleEndian.Uint16(g[4:]),
		binary.LittleEndian.Uint16(g[6:]), g[8:10], g[10:])
}

// efiVariable is a UEFI_VARIABLE_DATA: the name and the content of a variable as they were measured.
type efiVariable struct {
	guid efiGUID
	name string
	data []byte
}

// parseVariable decodes a UEFI_VARIABLE_DATA that fills raw exactly and whose name is text.
func parseVariable(raw []byte) (*efiVariable, error) {
	r := &logReader{rest: raw}
	var v efiVariable
	copy(v.guid[:], r.take(16))
	units, size := r.u64(), r.u64()
	if r.short || units > uint64(len(r.rest))/2 {
		return nil, malformed("a UEFI variable is shorter than its fields give")
	}
	name, ok := utf16Text(r.take(2 * units))
	v.name, v.data = name, r.take(size)
	if !ok || r.short || len(r.rest) > 0 {
		return nil, malformed("a UEFI variable has a name that is not text or another length than its fields give")
	}
	return &v, nil
}

// secureBootVariable returns which of SecureBoot, PK, KEK, db and dbx the variable is, or "" for any other.
func (v *efiVariable) secureBootVariable() string {
	switch {
	case v.guid == efiGlobalVariable && (v.name == "SecureBoot" || v.name == "PK" || v.name == "KEK"),
		v.guid == efiImageSecurity && (v.name == "db" || v.name == "dbx"):
		return v.name
	}
	return ""
}

// check refuses a Secure Boot variable whose content has no meaning. Firmware that was never set up has it empty.
func (v *efiVariable) check() error {
	switch v.secureBootVariable() {
	case "":
		return nil
	case "SecureBoot":
		if len(v.data) > 1 {
			return malformed("the SecureBoot variable has more than one byte")
		}
		return nil
	}
	_, err := parseSignatureLists(v.data)
	return err
}

// signatureCount is how many entries of one type a signature database holds.
type signatureCount struct {
	kind    efiGUID
	entries int
}

// parseSignatureLists checks that data is whole EFI_SIGNATURE_LISTs (UEFI 2.10, section 32.4.1) and counts their
// entries. A signature header belongs to no entry and is not read. The result grows with the number of lists, each of
// which takes at least 28 bytes, and never with a size that a list claims.
func parseSignatureLists(data []byte) ([]signatureCount, error) {
	var counts []signatureCount
	for rest := data; len(rest) > 0; {
		l, after, err := nextSignatureList(rest)
		if err != nil {
			return nil, err
		}
		counts, rest = append(counts, signatureCount{l.kind, len(l.entries) / l.size}), after
	}
	return counts, nil
}

// signatureList is an EFI_SIGNATURE_LIST: entries of one type and size, each of which begins with the GUID of its owner.
type signatureList struct {
	kind    efiGUID
	size    int
	entries []byte
}

// nextSignatureList takes the first list of data.
func nextSignatureList(data []byte) (l signatureList, rest []byte, err error) {
	r := &logReader{rest: data}
	copy(l.kind[:], r.take(16))
	size, header, entry := r.u32(), r.u32(), r.u32()
	const fixed = 28
	if r.short || size < fixed || header > size-fixed {
		return l, nil, malformed("a signature list is shorter than its fields give")
	}
	body := r.take(uint64(size) - fixed)
	if r.short || entry < 16 {
		return l, nil, malformed("a signature list is shorter than its fields give")
	}
	l.entries = body[header:]
	if len(l.entries) == 0 || uint64(len(l.entries))%uint64(entry) != 0 {
		return l, nil, malformed("a signature list does not hold whole entries")
	}
	l.size = int(entry)
	return l, r.rest, nil
}

// eachSignature gives each entry of whole EFI_SIGNATURE_LISTs to f.
func eachSignature(data []byte, f func(kind efiGUID, entry []byte)) error {
	for rest := data; len(rest) > 0; {
		l, after, err := nextSignatureList(rest)
		if err != nil {
			return err
		}
		for e := range slices.Chunk(l.entries, l.size) {
			f(l.kind, e)
		}
		rest = after
	}
	return nil
}

// utf16Text decodes little-endian UTF-16 that holds no NUL. What is not valid UTF-16 is not text.
func utf16Text(raw []byte) (string, bool) {
	if len(raw)%2 != 0 {
		return "", false
	}
	units := make([]uint16, len(raw)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(raw[2*i:])
		if units[i] == 0 {
			return "", false
		}
	}
	text := make([]byte, 0, len(units))
	for i := 0; i < len(units); i++ {
		c := rune(units[i])
		if utf16.IsSurrogate(c) {
			if i+1 == len(units) {
				return "", false
			}
			if c = utf16.DecodeRune(c, rune(units[i+1])); c == utf8.RuneError {
				return "", false
			}
			i++
		}
		text = utf8.AppendRune(text, c)
	}
	return string(text), true
}
