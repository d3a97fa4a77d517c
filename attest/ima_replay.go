package attest

import (
	"bytes"
	"crypto"
	"crypto/sha1" // of template hashes only, which decide nothing
	"hash"

	"github.com/governed-execution/writ/denial"
)

// imaReplay extends a PCR as the kernel did for the entries of an IMA list.
type imaReplay struct {
	hash   hash.Hash
	padded bool // kernels before 5.8 extend every bank with the SHA-1 template hash, and zeros behind it
	value  []byte
	sum    []byte // scratch space for one digest
}

func newIMAReplay(h crypto.Hash, padded bool) *imaReplay {
	return &imaReplay{hash: h.New(), padded: padded, value: make([]byte, h.Size()), sum: make([]byte, 0, h.Size())}
}

// measured returns the digest that the kernel extended for an entry, until the next call.
func (p *imaReplay) measured(e *imaEntry) []byte {
	p.sum = p.sum[:0]
	switch {
	case p.padded:
		p.sum = append(p.sum, e.digest...)
		if e.violation() {
			p.sum = append(p.sum[:0], bytes.Repeat([]byte{0xFF}, len(e.digest))...)
		}
		p.sum = append(p.sum, make([]byte, max(0, p.hash.Size()-len(p.sum)))...)
	case e.violation():
		p.sum = append(p.sum, bytes.Repeat([]byte{0xFF}, p.hash.Size())...)
	default:
		p.hash.Reset()
		e.covered(p.hash)
		p.sum = p.hash.Sum(p.sum)
	}
	return p.sum
}

func (p *imaReplay) extend(e *imaEntry) {
	sum := p.measured(e)
	p.hash.Reset()
	p.hash.Write(p.value)
	p.hash.Write(sum)
	p.value = p.hash.Sum(p.value[:0])
}

// proved returns the part of a list that gives the quoted value of PCR 10. The kernel adds to the list before it extends
// the PCR, and goes on doing so while the quote is made: what follows that part nobody has signed, and it is left out. The
// check is total, and takes time proportional to the list. It refuses, in the order of the list: what is not a list (605,
// 908), and a template hash that is not that of its entry (606); then a list that does not lead to the quoted value (603).
func (p *imaReplay) proved(list []byte, size int, quoted []byte) ([]byte, error) {
	r := newIMAReader(list, size)
	check := templateHash(size)
	found := -1
	for {
		e, err := r.next()
		if err != nil {
			return nil, err
		}
		if e == nil {
			break
		}
		if found >= 0 {
			continue
		}
		if !e.violation() && !check.of(e) {
			return nil, denial.New(denial.EventDigestMismatch, "entry %d of the IMA list does not have the hash that it gives", r.entries)
		}
		if e.pcr != imaPCR {
			continue
		}
		if p.extend(e); bytes.Equal(p.value, quoted) {
			found = len(list) - len(r.r.rest)
		}
	}
	if found < 0 {
		return nil, denial.New(denial.LogReplayMismatch, "no beginning of the IMA list gives PCR %d", imaPCR)
	}
	return list[:found], nil
}

// templateCheck compares template hashes.
type templateCheck struct {
	hash hash.Hash
	sum  []byte
}

// templateHash returns the check for template hashes of a size.
func templateHash(size int) *templateCheck {
	switch size {
	case 32:
		return &templateCheck{hash: crypto.SHA256.New()}
	case 48:
		return &templateCheck{hash: crypto.SHA384.New()}
	case 64:
		return &templateCheck{hash: crypto.SHA512.New()}
	}
	return &templateCheck{hash: sha1.New()}
}

// of reports whether the list gives the right template hash for an entry.
func (c *templateCheck) of(e *imaEntry) bool {
	c.hash.Reset()
	e.covered(c.hash)
	c.sum = c.hash.Sum(c.sum[:0])
	return bytes.Equal(c.sum, e.digest)
}

// templateBank returns the hash of a bank that IMA may extend, SHA-1 among them, 0 for any other.
func templateBank(bank string) crypto.Hash {
	if bank == "sha1" {
		return crypto.SHA1
	}
	return strongIMAHash(bank)
}

// bootAggregate reports whether sum is the digest of PCRs 0 to 9, or of 0 to 7, which kernels before 5.8 hash.
func bootAggregate(h crypto.Hash, pcrs map[int64][]byte, sum []byte) bool {
	for _, last := range []int{9, 7} {
		d := h.New()
		for p := range last + 1 {
			d.Write(pcrs[int64(p)])
		}
		if bytes.Equal(d.Sum(nil), sum) {
			return true
		}
	}
	return false
}
