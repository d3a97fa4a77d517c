package bootlog

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"hash/crc32"
	"math/big"
	"time"
	"unicode/utf16"
)

// guid is a GUID in the byte order of UEFI.
type guid [16]byte

var (
	globalVariable  = guid{0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c}
	imageSecurity   = guid{0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f}
	shimLock        = guid{0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23}
	signatureX509   = guid{0xa1, 0x59, 0xc0, 0xa5, 0xe4, 0x94, 0xa7, 0x4a, 0x87, 0xb5, 0xab, 0x15, 0x5c, 0x2b, 0xf0, 0x72}
	signatureSHA256 = guid{0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28}
	owner           = guid{0x57, 0x52, 0x49, 0x54, 0x20, 0x74, 0x65, 0x73, 0x74, 0x20, 0x6f, 0x77, 0x6e, 0x65, 0x72, 0x2e}
	linuxPartition  = guid{0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4}
	systemPartition = guid{0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b}
)

// utf16z encodes text as little-endian UTF-16 with a NUL.
func utf16z(text string) []byte {
	var out []byte
	for _, u := range append(utf16.Encode([]rune(text)), 0) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

// variable is a UEFI_VARIABLE_DATA.
func variable(g guid, name string, value []byte) []byte {
	units := utf16.Encode([]rune(name))
	out := binary.LittleEndian.AppendUint64(g[:len(g):len(g)], uint64(len(units)))
	out = binary.LittleEndian.AppendUint64(out, uint64(len(value)))
	for _, u := range units {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return append(out, value...)
}

// secureBootVariables are the configuration of PCR 7 and its separator.
func (o Options) secureBootVariables() []Event {
	value := []byte{0}
	if !o.NoSecureBoot {
		value[0] = 1
	}
	revoked := sha256.Sum256([]byte("a revoked loader"))
	config := func(g guid, name string, value []byte) Event {
		return Event{PCR: 7, Type: VariableConfig, Data: variable(g, name, value)}
	}
	return []Event{
		config(globalVariable, "SecureBoot", value),
		config(globalVariable, "PK", signatureList(signatureX509, certificate(o.PlatformKey))),
		config(globalVariable, "KEK", signatureList(signatureX509, certificate("key exchange key"))),
		config(imageSecurity, "db", signatureList(signatureX509, certificate(dbKey))),
		config(imageSecurity, "dbx", signatureList(signatureSHA256, revoked[:])),
		{PCR: 7, Type: Separator, Data: make([]byte, 4)},
	}
}

const dbKey = "image signing key"

// authority says which entry of db verified an image.
func authority() Event {
	entry := append(owner[:len(owner):len(owner)], certificate(dbKey)...)
	return Event{PCR: 7, Type: VariableAuthority, Data: variable(imageSecurity, "db", entry)}
}

// signatureList is an EFI_SIGNATURE_LIST with one entry.
func signatureList(kind guid, entry []byte) []byte {
	out := kind[:len(kind):len(kind)]
	out = binary.LittleEndian.AppendUint32(out, uint32(28+16+len(entry)))
	out = binary.LittleEndian.AppendUint32(out, 0)
	out = binary.LittleEndian.AppendUint32(out, uint32(16+len(entry)))
	return append(append(out, owner[:]...), entry...)
}

// certificate makes a self-signed certificate: Ed25519, which real firmware does not know, because its signatures are the
// same every time.
func certificate(name string) []byte {
	seed := sha256.Sum256([]byte("bootlog " + name))
	key := ed25519.NewKeyFromSeed(seed[:])
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(seed[:8]),
		Subject:               pkix.Name{Organization: []string{"Writ tests"}, CommonName: name},
		NotBefore:             time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		NotAfter:              time.Date(2046, 1, 1, 0, 0, 0, 0, time.UTC),
		BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		panic("bootlog: " + err.Error())
	}
	return der
}

// devicePath is a file on the system partition.
func devicePath(file string) []byte {
	node := func(kind, sub byte, body []byte) []byte {
		return append(binary.LittleEndian.AppendUint16([]byte{kind, sub}, uint16(4+len(body))), body...)
	}
	partition := binary.LittleEndian.AppendUint32(nil, 1)
	partition = binary.LittleEndian.AppendUint64(partition, 2048)
	partition = binary.LittleEndian.AppendUint64(partition, 1<<20)
	partition = append(append(partition, owner[:]...), 2, 2) // GPT, by GUID
	return bytes.Join([][]byte{node(4, 1, partition), node(4, 4, utf16z(file)), node(0x7F, 0xFF, nil)}, nil)
}

// image is an EFI_IMAGE_LOAD_EVENT of PCR 4. An empty path is an image that was loaded from memory.
func image(path string, content []byte) Event {
	var device []byte
	if path != "" {
		device = devicePath(path)
	}
	data := binary.LittleEndian.AppendUint64(nil, 0x7D0C3018)
	data = binary.LittleEndian.AppendUint64(data, uint64(len(content)))
	data = binary.LittleEndian.AppendUint64(data, 0)
	data = binary.LittleEndian.AppendUint64(data, uint64(len(device)))
	return Event{PCR: 4, Type: BootApplication, Data: append(data, device...), Measured: content}
}

// gpt is the partition table of a disk with two partitions (UEFI_GPT_DATA).
func gpt() Event {
	var entries []byte
	for i, kind := range []guid{systemPartition, linuxPartition} {
		entry := append(kind[:len(kind):len(kind)], owner[:]...)
		entry = binary.LittleEndian.AppendUint64(entry, uint64(2048+i<<20))
		entry = binary.LittleEndian.AppendUint64(entry, uint64(2047+(i+1)<<20))
		entries = append(entries, append(entry, make([]byte, 128-len(entry))...)...)
	}
	h := append([]byte("EFI PART"), 0, 0, 1, 0, 92, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
	for _, lba := range []uint64{1, 1 << 22, 34, 1<<22 - 34} {
		h = binary.LittleEndian.AppendUint64(h, lba)
	}
	h = append(h, owner[:]...)
	h = binary.LittleEndian.AppendUint64(h, 2)
	h = binary.LittleEndian.AppendUint32(h, 2)
	h = binary.LittleEndian.AppendUint32(h, 128)
	h = binary.LittleEndian.AppendUint32(h, crc32.ChecksumIEEE(entries))
	binary.LittleEndian.PutUint32(h[16:], crc32.ChecksumIEEE(h))
	return Event{PCR: 5, Type: GPT, Data: append(binary.LittleEndian.AppendUint64(h, 2), entries...)}
}
