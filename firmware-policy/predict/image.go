package predict

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/x509"
	"debug/pe"
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
	sections []*pe.Section
	certs    []*x509.Certificate
}

// securityDirectory is the index of IMAGE_DIRECTORY_ENTRY_SECURITY.
const securityDirectory = 4

// ParseImage reads a PE32+ image.
func ParseImage(raw []byte) (*Image, error) {
	f, err := pe.NewFile(bytes.NewReader(raw))
	if err != nil {
		return nil, malformed("it is no PE image")
	}
	h, ok := f.OptionalHeader.(*pe.OptionalHeader64)
	if !ok || h.NumberOfRvaAndSizes <= securityDirectory {
		return nil, malformed("it is no PE32+ image with a directory of signatures")
	}
	optional := int(binary.LittleEndian.Uint32(raw[0x3c:])) + 4 + 20
	i := &Image{raw: raw, checksum: optional + 64, security: optional + 112 + 8*securityDirectory, headers: int(h.SizeOfHeaders), end: len(raw), sections: f.Sections}
	if dir := h.DataDirectory[securityDirectory]; dir.Size != 0 {
		if uint64(dir.VirtualAddress)+uint64(dir.Size) != uint64(len(raw)) {
			return nil, malformed("its signatures are not at its end")
		}
		i.end = int(dir.VirtualAddress)
		if err := i.readSignatures(raw[i.end:]); err != nil {
			return nil, err
		}
	}
	if i.headers > i.end || i.security+8 > i.headers {
		return nil, malformed("its headers are longer than it")
	}
	return i, nil
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
	sections := slices.SortedStableFunc(slices.Values(i.sections), func(a, b *pe.Section) int { return cmp.Compare(a.Offset, b.Offset) })
	for _, s := range sections {
		from, to := uint64(s.Offset), uint64(s.Offset)+uint64(s.Size)
		if s.Size == 0 || to > uint64(i.end) {
			continue
		}
		sum.Write(i.raw[from:to])
		hashed += int(s.Size)
	}
	if hashed < i.end {
		sum.Write(i.raw[hashed:i.end])
	}
	return sum.Sum(nil)
}

// Section returns the content of a section, nil if there is none of that name.
func (i *Image) Section(name string) []byte {
	for _, s := range i.sections {
		if s.Name == name {
			end := uint64(s.Offset) + uint64(min(s.VirtualSize, s.Size))
			if end > uint64(len(i.raw)) {
				return nil
			}
			return i.raw[s.Offset:end]
		}
	}
	return nil
}
