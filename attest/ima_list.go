package attest

import (
	"bytes"
	"encoding/hex"

	"github.com/governed-execution/writ/denial"
)

// IMAList is an IMA list that has the right form, for people. It proves nothing: only Verify draws facts from a list.
type IMAList struct {
	Format  string // "binary" or "ascii"
	Hash    string // of the template hashes: "sha1", but for the lists that newer kernels show beside the usual one
	Entries []IMAEntry
	list    []byte // in binary form
	size    int
}

// IMAEntry is one entry of a list.
type IMAEntry struct {
	Number       int    `json:"number"` // from 1
	PCR          int    `json:"pcr"`
	Template     string `json:"template"`
	TemplateHash string `json:"template_hash"`
	Digest       string `json:"digest,omitempty"`    // as IMAFile has it
	Name         string `json:"name,omitempty"`      // as IMAFile has paths
	Signature    string `json:"signature,omitempty"` // security.ima, not verified
	Buffer       int    `json:"buffer,omitempty"`    // bytes of ima-buf
	Violation    bool   `json:"violation,omitempty"` // the kernel extended ones, and no digest covers digest and name
}

// ParseIMAList reads an IMA list for people, in either form that Linux shows. It checks the form (605, 908), and that each
// entry has the template hash that it gives (606).
func ParseIMAList(raw []byte) (*IMAList, error) {
	return guarded(func() (*IMAList, error) { return parseIMAList(raw) })
}

func parseIMAList(raw []byte) (*IMAList, error) {
	l := &IMAList{Format: "binary", list: raw, size: imaDigestSize(raw), Entries: []IMAEntry{}}
	if len(raw) > 2 && bytes.IndexByte(raw[:min(len(raw), 4)], 0) < 0 { // the PCR in binary has zeros
		var err error
		l.Format = "ascii"
		if l.list, l.size, err = binaryIMA(raw); err != nil {
			return nil, err
		}
	}
	l.Hash = map[int]string{20: "sha1", 32: "sha256", 48: "sha384", 64: "sha512"}[l.size]
	check := templateHash(l.size)
	for r := newIMAReader(l.list, l.size); ; {
		e, err := r.next()
		if err != nil {
			return nil, err
		}
		if e == nil {
			return l, nil
		}
		if !e.violation() && !check.of(e) {
			return nil, denial.New(denial.EventDigestMismatch, "entry %d of the IMA list does not have the hash that it gives", r.entries)
		}
		l.Entries = append(l.Entries, e.explain(r.entries))
	}
}

func (e *imaEntry) explain(number int) IMAEntry {
	out := IMAEntry{Number: number, PCR: int(e.pcr), Template: e.template, TemplateHash: hex.EncodeToString(e.digest), Violation: e.violation()}
	if e.known {
		out.Digest, out.Name, out.Signature, out.Buffer = e.digestText(), imaText(e.name), hex.EncodeToString(e.sig), len(e.buf)
	}
	return out
}

// IMAReplay is what a list gives for PCR 10 of one bank.
type IMAReplay struct {
	Value  string // after all entries
	Padded string // the same where the kernel extends SHA-1 template hashes with zeros behind, before Linux 5.8
}

// Replay extends PCR 10 of a bank, sha1, sha256, sha384 or sha512, with all entries. It refuses other banks (611).
func (l *IMAList) Replay(bank string) (IMAReplay, error) {
	var out IMAReplay
	for _, padded := range []bool{false, true} {
		p, err := l.replay(bank, padded)
		if err != nil {
			return IMAReplay{}, err
		}
		for r := newIMAReader(l.list, l.size); ; {
			e, err := r.next()
			if err != nil {
				return IMAReplay{}, err
			}
			if e == nil {
				break
			}
			if e.pcr == imaPCR {
				p.extend(e)
			}
		}
		if value := hex.EncodeToString(p.value); padded && l.size == 20 {
			out.Padded = value
		} else if !padded {
			out.Value = value
		}
	}
	return out, nil
}

func (l *IMAList) replay(bank string, padded bool) (*imaReplay, error) {
	h := templateBank(bank)
	if h == 0 {
		return nil, denial.New(denial.BankNotAllowed, "IMA does not extend such a bank")
	}
	return newIMAReplay(h, padded), nil
}

// IMAProof says how a list leads to a value of PCR 10.
type IMAProof struct {
	Entries int  // entries up to the value; those behind it were measured later, or by nobody
	Padded  bool // by SHA-1 template hashes alone, which Verify does not accept (611)
}

// Compare finds the beginning of the list that leads to a value of PCR 10 in a bank (603).
func (l *IMAList) Compare(bank string, pcr10 []byte) (IMAProof, error) {
	p, err := l.replay(bank, false)
	if err != nil {
		return IMAProof{}, err
	}
	proved, err := p.proved(l.list, l.size, pcr10)
	out := IMAProof{}
	if denial.Is(err, denial.LogReplayMismatch) && l.size == 20 && bank != "sha1" {
		old, _ := l.replay(bank, true)
		if again, padded := old.proved(l.list, l.size, pcr10); padded == nil {
			proved, err, out.Padded = again, nil, true
		}
	}
	if err != nil {
		return IMAProof{}, err
	}
	for r := newIMAReader(proved, l.size); len(r.r.rest) > 0; out.Entries++ {
		if _, err := r.next(); err != nil {
			return IMAProof{}, err
		}
	}
	return out, nil
}

// Unknown returns the entries among the first ones that would count as unknown to a policy: neither known nor signed, and
// neither boot_aggregate nor a buffer.
func (l *IMAList) Unknown(first int, ref IMAReference) ([]IMAEntry, error) {
	known, err := ref.compile()
	if err != nil {
		return nil, err
	}
	out := []IMAEntry{}
	for r := newIMAReader(l.list, l.size); r.entries < first; {
		e, err := r.next()
		if err != nil || e == nil {
			return out, err
		}
		own := e.known && (string(e.name) == "boot_aggregate" || e.buffer())
		if e.pcr != imaPCR || e.violation() || own || strongIMAHash(e.alg) != 0 && known.known[keyOf(e.verity, e.sum)] || known.signed(e) {
			continue
		}
		out = append(out, e.explain(r.entries))
	}
	return out, nil
}
