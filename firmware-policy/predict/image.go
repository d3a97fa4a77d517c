package predict

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"slices"
)

// Image is a PE/COFF image that firmware starts.
type Image struct {
	raw      []byte
	checksum int // offset of the field
	security int // offset of the entry of the data directory that names the signatures
	headers  int // size of the headers
	end      int // of what is hashed: signatures lie behind it
	sections []section
	certs    []*x509.Certificate
}

// section is one row of the table of sections.
type section struct {
	name    string
	virtual uint32 // size in memory
	size    uint32 // and in the file
	offset  uint32
}

// securityDirectory is the index of IMAGE_DIRECTORY_ENTRY_SECURITY.
const securityDirectory = 4

// ParseImage reads a PE32+ image (Microsoft PE format; the offsets are those of its tables).
func ParseImage(raw []byte) (*Image, error) {
	const (
		signatureAt = 0x3c // of the offset of "PE"
		fileHeader  = 4 + 20
		directories = 112 // in the optional header
		header      = 40  // of a section
		mostHeaders = 96  // what Windows loads
	)
	le := binary.LittleEndian
	if len(raw) < 64 || string(raw[:2]) != "MZ" {
		return nil, malformed("it is no PE image")
	}
	start := uint64(le.Uint32(raw[signatureAt:]))
	optional := start + fileHeader
	if optional+directories > uint64(len(raw)) || string(raw[start:start+4]) != "PE\x00\x00" || le.Uint16(raw[optional:]) != 0x20b {
		return nil, malformed("it is no PE32+ image")
	}
	count, size := int(le.Uint16(raw[start+6:])), uint64(le.Uint16(raw[start+20:]))
	i := &Image{raw: raw, checksum: int(optional) + 64, security: int(optional) + directories + 8*securityDirectory,
		headers: int(le.Uint32(raw[optional+60:])), end: len(raw)}
	table := optional + size
	if count > mostHeaders || le.Uint32(raw[optional+108:]) <= securityDirectory || table < uint64(i.security)+8 ||
		table+uint64(count)*header > uint64(i.headers) || i.headers > len(raw) {
		return nil, malformed("its headers are not as long as it says")
	}
	for h := raw[table:]; len(i.sections) < count; h = h[header:] {
		name, _, _ := bytes.Cut(h[:8], []byte{0})
		s := section{string(name), le.Uint32(h[8:]), le.Uint32(h[16:]), le.Uint32(h[20:])}
		if uint64(s.offset)+uint64(s.size) > uint64(len(raw)) {
			return nil, malformed("a section is longer than it")
		}
		i.sections = append(i.sections, s)
	}
	return i, i.findSignatures()
}

// findSignatures reads the signatures, which must be the last thing in the file.
func (i *Image) findSignatures() error {
	at, size := binary.LittleEndian.Uint32(i.raw[i.security:]), binary.LittleEndian.Uint32(i.raw[i.security+4:])
	if size == 0 {
		return nil
	}
	if uint64(at)+uint64(size) != uint64(len(i.raw)) || int(at) < i.headers {
		return malformed("its signatures are not at its end")
	}
	i.end = int(at)
	return i.readSignatures(i.raw[at:])
}

func malformed(why string) error { return fmt.Errorf("reading image: %s", why) }

// readSignatures reads the certificates in a series of WIN_CERTIFICATE, each aligned to eight bytes.
func (i *Image) readSignatures(table []byte) error {
	for len(table) >= 8 {
		n := int(binary.LittleEndian.Uint32(table))
		if n < 8 || n > len(table) {
			return malformed("a signature is longer than the table")
		}
		const signedData = 2 // WIN_CERT_TYPE_PKCS_SIGNED_DATA
		if binary.LittleEndian.Uint16(table[6:]) == signedData {
			certs, err := pkcs7Certificates(table[8:n])
			if err != nil {
				return err
			}
			i.certs = append(i.certs, certs...)
		}
		table = table[min((n+7)&^7, len(table)):]
	}
	return nil
}

// pkcs7Certificates returns the certificates in a PKCS #7 SignedData (RFC 2315, section 9.1).
func pkcs7Certificates(der []byte) ([]*x509.Certificate, error) {
	var outer struct {
		Type    asn1.ObjectIdentifier
		Content asn1.RawValue // [0]
	}
	var data struct {
		Version      int
		Algorithms   asn1.RawValue
		Content      asn1.RawValue
		Certificates asn1.RawValue `asn1:"optional,tag:0"`
	}
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		return nil, malformed("a signature is no PKCS #7")
	}
	if _, err := asn1.Unmarshal(outer.Content.Bytes, &data); err != nil {
		return nil, malformed("a signature is no SignedData")
	}
	certs, err := x509.ParseCertificates(data.Certificates.Bytes)
	if err != nil {
		return nil, malformed("a certificate of a signature is malformed")
	}
	return certs, nil
}

// Authenticode returns the digest of the image by which firmware measures and verifies it: of everything but the checksum,
// the entry of the directory that names the signatures, and the signatures (Windows Authenticode Portable Executable
// Signature Format, "Calculating the PE Image Hash").
func (i *Image) Authenticode(h crypto.Hash) []byte {
	sum := h.New()
	sum.Write(i.raw[:i.checksum])
	sum.Write(i.raw[i.checksum+4 : i.security])
	sum.Write(i.raw[i.security+8 : i.headers])
	hashed := i.headers
	sections := slices.SortedStableFunc(slices.Values(i.sections), func(a, b section) int { return cmp.Compare(a.offset, b.offset) })
	for _, s := range sections {
		if to := int(s.offset) + int(s.size); to <= i.end {
			sum.Write(i.raw[s.offset:to])
			hashed += int(s.size)
		}
	}
	if hashed < i.end {
		sum.Write(i.raw[hashed:i.end])
	}
	return sum.Sum(nil)
}

// Section returns the content of a section, nil if there is none of that name.
func (i *Image) Section(name string) []byte {
	for _, s := range i.sections {
		if s.name == name {
			return i.raw[s.offset : s.offset+min(s.virtual, s.size)]
		}
	}
	return nil
}
