package attest

import (
	"bytes"
	"crypto"
	"encoding/binary"

	"github.com/governed-execution/writ/denial"
)

// What an IMA list may cost. A server of some weeks has 5,000 entries of 130 bytes.
const (
	maxIMAEntries = 1 << 17
	maxIMAName    = 64  // of a template
	legacyName    = 256 // what the template hash of "ima" covers of a name, with zeros behind it
)

// imaEntry is one entry of an IMA list (Linux, security/integrity/ima/ima_fs.c). Every slice is a part of the list.
type imaEntry struct {
	pcr      uint32
	digest   []byte // template hash as the list gives it
	template string
	data     []byte // the template data, which the template hash covers; of "ima" without the zeros

	// What the fields of a known template say. No digest covers the name of the template: a reading that the data
	// allows under two names must not be to anybody's good, see newIMAFacts.
	known  bool
	verity bool   // the digest is that of fs-verity, not of the file's bytes
	alg    string // of sum, as the kernel names it
	sum    []byte // of the file or the buffer
	name   []byte // path, or name of the buffer
	sig    []byte // templates with a signature
	buf    []byte // ima-buf
}

// violation reports whether the entry tells of a file that changed while it was measured, or could have. The kernel gives
// it a template hash of zeros and extends the PCR with ones, so that no digest covers its data.
func (e *imaEntry) violation() bool { return allBytes(e.digest, 0) }

func allBytes(b []byte, want byte) bool {
	for _, c := range b {
		if c != want {
			return false
		}
	}
	return true
}

// covered writes what the template hash covers to h.
func (e *imaEntry) covered(h interface{ Write([]byte) (int, error) }) {
	if e.template != "ima" || !e.known {
		h.Write(e.data)
		return
	}
	var padded [legacyName]byte
	copy(padded[:], e.name)
	h.Write(e.sum)
	h.Write(padded[:])
}

// imaReader reads the entries of a list in the form of binary_runtime_measurements, on a machine that is little-endian.
type imaReader struct {
	r       logReader
	size    int // of a template hash: 20 but for the lists of other algorithms that newer kernels show beside it
	entries int
	entry   imaEntry
}

func newIMAReader(list []byte, size int) *imaReader {
	return &imaReader{r: logReader{rest: list}, size: size}
}

// next returns the next entry, which is good until the following call, nil at the end. It refuses what is not a whole entry (605), a field that does not fit its
// template (605), and more than maxIMAEntries entries (908). An entry of a template that is not known has no fields.
func (i *imaReader) next() (*imaEntry, error) {
	if len(i.r.rest) == 0 {
		return nil, nil
	}
	if i.entries++; i.entries > maxIMAEntries {
		return nil, denial.New(denial.RequestLimit, "the IMA list has more than %d entries", maxIMAEntries)
	}
	e := &i.entry
	*e = imaEntry{pcr: i.r.u32(), digest: i.r.take(uint64(i.size))}
	name := i.r.take(uint64(i.r.u32()))
	if i.r.short || e.pcr >= pcrCount || !templateName(name) {
		return nil, i.malformed("is cut short, or has no PCR or no template")
	}
	e.template = templateString(name)
	if e.template == "ima" {
		return e, i.legacy(e)
	}
	e.data = i.r.take(uint64(i.r.u32()))
	if i.r.short {
		return nil, i.malformed("is cut short")
	}
	if !e.read() && !e.violation() {
		return nil, i.malformed("does not have the fields of its template")
	}
	return e, nil
}

func (i *imaReader) malformed(what string) error {
	return denial.New(denial.LogMalformed, "entry %d of the IMA list %s", i.entries, what)
}

// legacy reads the data of the oldest template: a digest and a name, without a length around them.
func (i *imaReader) legacy(e *imaEntry) error {
	from := i.r.rest
	e.sum = i.r.take(20)
	e.name = i.r.take(uint64(i.r.u32()))
	if i.r.short {
		return i.malformed("is cut short")
	}
	if len(e.name) >= legacyName || bytes.IndexByte(e.name, 0) >= 0 {
		return i.malformed("does not have the fields of its template")
	}
	e.data, e.alg, e.known = from[:len(from)-len(i.r.rest)], "sha1", true
	return nil
}

// templateName reports whether b can be the name of a template, or the list of fields that stands for one without a name.
func templateName(b []byte) bool {
	for _, c := range b {
		if c != '-' && c != '|' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return len(b) > 0 && len(b) <= maxIMAName
}

// templateString returns the name as a string, without an allocation for a known one.
func templateString(b []byte) string {
	for _, known := range [...]string{"ima", "ima-ng", "ima-ngv2", "ima-sig", "ima-sigv2", "ima-buf", "ima-modsig"} {
		if string(b) == known {
			return known
		}
	}
	return string(b)
}

// read reads the fields of a known template. It reports false if the data does not have them; of an unknown template
// nothing is read.
func (e *imaEntry) read() bool {
	r := &logReader{rest: e.data}
	field := func() []byte { return r.take(uint64(r.u32())) }
	v2 := e.template == "ima-ngv2" || e.template == "ima-sigv2"
	switch e.template {
	case "ima-ng", "ima-ngv2":
		e.known = e.readDigest(field(), v2) && e.readName(field())
	case "ima-sig", "ima-sigv2":
		e.known = e.readDigest(field(), v2) && e.readName(field())
		e.sig = field()
	case "ima-buf":
		e.known = e.readDigest(field(), false) && e.readName(field())
		e.buf = field()
	case "ima-modsig": // the digest without the appended signature, and that signature, are not read
		e.known = e.readDigest(field(), false) && e.readName(field())
		e.sig, _, _ = field(), field(), field()
	default:
		return true
	}
	e.known = e.known && !r.short && len(r.rest) == 0
	return e.known
}

// readDigest reads a field d-ng, "sha256:" NUL digest, or d-ngv2, "ima:sha256:" NUL digest.
func (e *imaEntry) readDigest(b []byte, v2 bool) bool {
	head, sum, ok := bytes.Cut(b, []byte(":\x00"))
	if v2 {
		var kind []byte
		if kind, head, _ = bytes.Cut(head, []byte{':'}); string(kind) == "verity" {
			e.verity = true
		} else if string(kind) != "ima" {
			return false
		}
	}
	alg, size := imaHash(head)
	e.alg, e.sum = alg, sum
	return ok && size > 0 && len(sum) == size
}

// readName reads a field n-ng: a text with a NUL behind it.
func (e *imaEntry) readName(b []byte) bool {
	n := bytes.IndexByte(b, 0)
	if n < 0 || n != len(b)-1 {
		return false
	}
	e.name = b[:n]
	return true
}

// imaHash returns a hash algorithm as the kernel names it (crypto/hash_info.c), and its size.
func imaHash(name []byte) (string, int) {
	for _, h := range [...]struct {
		name string
		size int
	}{{"sha256", 32}, {"sha1", 20}, {"sha384", 48}, {"sha512", 64}, {"sha224", 28}, {"md5", 16}, {"rmd160", 20}, {"sm3", 32},
		{"sm3-256", 32}, {"sm3_256", 32}, {"sha3-256", 32}, {"sha3-384", 48}, {"sha3-512", 64}, {"streebog256", 32}, {"streebog512", 64}} {
		if string(name) == h.name {
			return h.name, h.size
		}
	}
	return "", 0
}

// strongIMAHash returns the hash behind a name that a fact may rest on, 0 for any other.
func strongIMAHash(alg string) crypto.Hash {
	switch alg {
	case "sha256":
		return crypto.SHA256
	case "sha384":
		return crypto.SHA384
	case "sha512":
		return crypto.SHA512
	}
	return 0
}

// imaDigestSize finds how long the template hashes of a list are, by the name of the first template behind the first.
func imaDigestSize(list []byte) int {
	for _, size := range []int{20, 32, 48, 64} {
		at := 4 + size
		if len(list) < at+4 {
			break
		}
		n := uint64(binary.LittleEndian.Uint32(list[at:]))
		if n <= maxIMAName && uint64(len(list)-at-4) >= n && templateName(list[at+4:at+4+int(n)]) {
			return size
		}
	}
	return 20
}
