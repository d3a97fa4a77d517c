// Package peimage makes small PE images for tests: they have the form of what firmware starts, and nothing in them runs.
package peimage

import (
	"bytes"
	"debug/pe"
	"encoding/binary"
)

// Part is a section of an image.
type Part struct{ Name, Content string }

// securityDirectory is the index of IMAGE_DIRECTORY_ENTRY_SECURITY.
const securityDirectory = 4

// Image returns a PE32+ image with the given sections, each padded to 512 bytes in the file, and bytes behind them.
func Image(signature []byte, parts ...Part) []byte {
	const headers = 1024
	var b bytes.Buffer
	le := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) } // a bytes.Buffer takes everything
	b.WriteString("MZ")
	b.Write(make([]byte, 0x3c-2))
	le(uint32(0x40))
	b.WriteString("PE\x00\x00")
	le(pe.FileHeader{Machine: pe.IMAGE_FILE_MACHINE_AMD64, NumberOfSections: uint16(len(parts)), SizeOfOptionalHeader: 240})
	optional := pe.OptionalHeader64{Magic: 0x20b, SizeOfHeaders: headers, NumberOfRvaAndSizes: 16, CheckSum: 0xDEADBEEF}
	size := uint32(headers)
	for _, p := range parts {
		size += uint32(len(p.Content)+511) &^ 511
	}
	if signature != nil {
		optional.DataDirectory[securityDirectory] = pe.DataDirectory{VirtualAddress: size, Size: uint32(len(signature))}
	}
	le(optional)
	at := uint32(headers)
	for _, p := range parts {
		h := pe.SectionHeader32{VirtualSize: uint32(len(p.Content)), SizeOfRawData: uint32(len(p.Content)+511) &^ 511, PointerToRawData: at}
		copy(h.Name[:], p.Name)
		le(h)
		at += h.SizeOfRawData
	}
	b.Write(make([]byte, headers-b.Len()))
	for _, p := range parts {
		b.WriteString(p.Content)
		b.Write(make([]byte, (512-len(p.Content)%512)%512))
	}
	b.Write(signature)
	return b.Bytes()
}

// Parts are the sections of a unified kernel image of systemd-stub 252.
func Parts() []Part {
	return []Part{{".sdmagic", "#### LoaderInfo: systemd-stub 252.39-1 ####\n"}, {".osrel", "ID=test\n"}, {".cmdline", "quiet"}, {".initrd", "the initrd"},
		{".linux", string(Image(nil, Part{".text", "kernel"}))}}
}
