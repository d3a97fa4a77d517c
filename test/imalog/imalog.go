// Package imalog makes IMA lists as Linux does, with the values of PCR 10 that they lead to.
package imalog

import (
	"bytes"
	"crypto"
	"crypto/sha1"
	_ "crypto/sha512" // for the banks
	"encoding/binary"
)

// List is an IMA list in the form of binary_runtime_measurements.
type List struct {
	Bytes []byte
	pcr   map[string][]byte // PCR 10 by bank
	last  map[string][]byte // what the last entry extended, by bank
}

// banks returns the hash of each bank.
func banks() map[string]crypto.Hash {
	return map[string]crypto.Hash{"sha1": crypto.SHA1, "sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}
}

// Empty returns a list without entries.
func Empty() *List {
	l := &List{pcr: map[string][]byte{}, last: map[string][]byte{}}
	for bank, h := range banks() {
		l.pcr[bank] = make([]byte, h.Size())
	}
	return l
}

// New returns a list with boot_aggregate for the PCRs of a bank.
func New(bank string, pcrs map[int64][]byte) *List {
	l := Empty()
	l.Add(10, "ima-ng", Digest(bank, Aggregate(bank, pcrs, 9)), Name("boot_aggregate"))
	return l
}

// Aggregate returns the digest of PCRs 0 to last.
func Aggregate(bank string, pcrs map[int64][]byte, last int64) []byte {
	h := banks()[bank].New()
	for p := int64(0); p <= last; p++ {
		h.Write(pcrs[p])
	}
	return h.Sum(nil)
}

// Sum returns the digest of a text.
func Sum(bank, text string) []byte {
	h := banks()[bank].New()
	h.Write([]byte(text))
	return h.Sum(nil)
}

// Digest returns a field d-ng.
func Digest(alg string, sum []byte) []byte { return append([]byte(alg+":\x00"), sum...) }

// Name returns a field n-ng.
func Name(name string) []byte { return []byte(name + "\x00") }

// File adds an ima-ng entry for a file with this content.
func (l *List) File(path, content string) {
	l.Add(10, "ima-ng", Digest("sha256", Sum("sha256", content)), Name(path))
}

// Buffer adds an ima-buf entry.
func (l *List) Buffer(name, data string) {
	l.Add(10, "ima-buf", Digest("sha256", Sum("sha256", data)), Name(name), []byte(data))
}

// Add adds an entry of any template but "ima".
func (l *List) Add(pcr uint32, template string, fields ...[]byte) {
	var data []byte
	for _, f := range fields {
		data = append(binary.LittleEndian.AppendUint32(data, uint32(len(f))), f...)
	}
	sum := sha1.Sum(data)
	l.write(pcr, sum[:], template, append(binary.LittleEndian.AppendUint32(nil, uint32(len(data))), data...))
	l.extend(pcr, func(bank string, h crypto.Hash) []byte { return Sum(bank, string(data)) })
}

// Legacy adds an entry of template "ima".
func (l *List) Legacy(path string, digest [20]byte) {
	data := append(binary.LittleEndian.AppendUint32(digest[:], uint32(len(path))), path...)
	covered := append(digest[:20:20], path...)
	covered = append(covered, make([]byte, 276-len(covered))...)
	sum := sha1.Sum(covered)
	l.write(10, sum[:], "ima", data)
	l.extend(10, func(bank string, h crypto.Hash) []byte { return Sum(bank, string(covered)) })
}

// Violation adds an entry that tells of a file which changed while it was measured.
func (l *List) Violation(path string) {
	var data []byte
	for _, f := range [][]byte{Digest("sha256", make([]byte, 32)), Name(path)} {
		data = append(binary.LittleEndian.AppendUint32(data, uint32(len(f))), f...)
	}
	l.write(10, make([]byte, 20), "ima-ng", append(binary.LittleEndian.AppendUint32(nil, uint32(len(data))), data...))
	l.extend(10, func(bank string, h crypto.Hash) []byte { return bytes.Repeat([]byte{0xFF}, h.Size()) })
}

func (l *List) write(pcr uint32, sum []byte, template string, rest []byte) {
	l.Bytes = append(binary.LittleEndian.AppendUint32(l.Bytes, pcr), sum...)
	l.Bytes = append(binary.LittleEndian.AppendUint32(l.Bytes, uint32(len(template))), template...)
	l.Bytes = append(l.Bytes, rest...)
}

func (l *List) extend(pcr uint32, digest func(string, crypto.Hash) []byte) {
	for bank, h := range banks() {
		l.last[bank] = digest(bank, h)
		if pcr == 10 {
			l.pcr[bank] = Sum(bank, string(l.pcr[bank])+string(l.last[bank]))
		}
	}
}

// PCR10 returns the value that the list gives.
func (l *List) PCR10(bank string) []byte { return bytes.Clone(l.pcr[bank]) }

// Last returns what the last entry extended, by bank.
func (l *List) Last() map[string][]byte {
	out := map[string][]byte{}
	for bank, d := range l.last {
		out[bank] = bytes.Clone(d)
	}
	return out
}
