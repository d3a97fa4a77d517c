package predict

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"slices"
	"unicode/utf16"
)

// Keys are the Secure Boot variables of a machine, each a series of EFI_SIGNATURE_LIST (UEFI 2.10, section 32.4.1) as
// firmware returns it, without attributes in front. Enabled is whether Secure Boot is on.
type Keys struct {
	Enabled          bool
	PK, KEK, DB, DBX []byte
}

// Signature is one EFI_SIGNATURE_DATA with the type of its list.
type Signature struct {
	Type GUID
	Data []byte // owner and content, as PCR 7 is extended with it
}

// content returns the certificate or digest.
func (s Signature) content() []byte { return s.Data[16:] }

// SignatureList returns one EFI_SIGNATURE_LIST. All entries must have the same length.
func SignatureList(kind, owner GUID, entries ...[]byte) []byte {
	var b bytes.Buffer
	size := 0
	if len(entries) > 0 {
		size = 16 + len(entries[0])
	}
	b.Write(kind[:])
	for _, n := range []int{28 + size*len(entries), 0, size} {
		b.Write(binary.LittleEndian.AppendUint32(nil, uint32(n)))
	}
	for _, e := range entries {
		b.Write(owner[:])
		b.Write(e)
	}
	return b.Bytes()
}

// ParseSignatureLists reads a series of EFI_SIGNATURE_LIST to its last byte, or says that they are malformed.
func ParseSignatureLists(raw []byte) ([]Signature, error) {
	malformed := func() error { return errors.New("reading signature lists: they are malformed") }
	var out []Signature
	for len(raw) > 0 {
		if len(raw) < 28 {
			return nil, malformed()
		}
		length, header, size := binary.LittleEndian.Uint32(raw[16:]), binary.LittleEndian.Uint32(raw[20:]), binary.LittleEndian.Uint32(raw[24:])
		if uint64(length) > uint64(len(raw)) || length < 28 || header > length-28 || size < 16 || (length-28-header)%size != 0 {
			return nil, malformed()
		}
		for rest := raw[28+header : length]; len(rest) > 0; rest = rest[size:] {
			out = append(out, Signature{GUID(raw[:16]), rest[:size]})
		}
		raw = raw[length:]
	}
	return out, nil
}

// variableData returns UEFI_VARIABLE_DATA (TCG PC Client Firmware Profile, section 10.2.6), which PCR 7 is extended with.
func variableData(vendor GUID, name string, data []byte) []byte {
	text := utf16.Encode([]rune(name))
	out := slices.Clone(vendor[:])
	out = binary.LittleEndian.AppendUint64(out, uint64(len(text)))
	out = binary.LittleEndian.AppendUint64(out, uint64(len(data)))
	for _, c := range text {
		out = binary.LittleEndian.AppendUint16(out, c)
	}
	return append(out, data...)
}

// authority returns the entry of db by which firmware accepts the image: the first one whose certificate signed the image,
// or one of those that lead to the signer (EDK II, DxeImageVerificationLib).
func (k Keys) authority(i *Image) (Signature, error) {
	db, err := ParseSignatureLists(k.DB)
	if err != nil {
		return Signature{}, err
	}
	for _, s := range db {
		if s.Type != CertX509 {
			continue
		}
		root, err := x509.ParseCertificate(s.content())
		if err != nil {
			continue // firmware passes over what it cannot read
		}
		if slices.ContainsFunc(i.certs, func(c *x509.Certificate) bool { return c.Equal(root) || c.CheckSignatureFrom(root) == nil }) {
			return s, nil
		}
	}
	return Signature{}, errors.New("looking for the signer: no certificate in db signed the image, so that Secure Boot will not start it")
}
