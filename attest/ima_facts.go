package attest

import (
	"crypto"
	"encoding/hex"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/governed-execution/writ/denial"
)

// What the facts of an IMA list may hold. More is refused, never left out.
const (
	maxIMAFacts = 1024      // different files, and as many different buffers
	maxIMAText  = 256 << 10 // bytes of their names, together
)

// imaFacts collects facts from the proved part of a list.
type imaFacts struct {
	ref  *imaReference
	out  IMA
	seen map[string]bool // files and buffers in out
	text int             // bytes of their names
}

// newIMAFacts checks an IMA list against quoted PCRs of one bank and returns the facts that it proves. The caller has
// verified the quote, and that it covers PCRs 0 to 10. It checks, in this order:
//  1. the list has the right form (605, 908), each entry the template hash that it gives (606), and a beginning of it gives
//     PCR 10 (603). One that gives it only as kernels before 5.8 extend, by its SHA-1 hashes, is 611;
//
// then of that beginning, in its order:
//  2. the template of each is known (614), it is not "ima", which holds SHA-1 alone, and the digest is by SHA-2 with 256
//     bits or more (611);
//  3. the first entry is boot_aggregate (603), by the hash of the quoted bank (611), and the digest of PCRs 0 to 9 or,
//     before Linux 5.8, 0 to 7 (603);
//  4. an ima-buf entry has the digest of its buffer (606);
//  5. what the facts list is within bounds (908).
//
// Every other entry counts as a file. Nothing covers the name of a template, so one that is not known here may hide a file
// and is refused (614), and ima-sig and ima-buf can be read as each other: but no file has the digest of its own
// signature, and a name that begins with "/" never makes an entry a buffer.
func newIMAFacts(list []byte, bank string, pcrs map[int64][]byte, ref *imaReference) (IMA, error) {
	h := strongIMAHash(bank)
	if h == 0 {
		return IMA{}, denial.New(denial.BankNotAllowed, "IMA is verified in the banks sha256 and sha384")
	}
	proved, err := newIMAReplay(h, false).proved(list, 20, pcrs[imaPCR])
	if denial.Is(err, denial.LogReplayMismatch) {
		if _, old := newIMAReplay(h, true).proved(list, 20, pcrs[imaPCR]); old == nil {
			err = denial.New(denial.BankNotAllowed, "this kernel extends PCR %d with SHA-1 hashes only: it needs Linux 5.8", imaPCR)
		}
	}
	if err != nil {
		return IMA{}, err
	}
	f := &imaFacts{ref: ref, seen: map[string]bool{}}
	f.out = IMA{Present: true, Files: []IMAFile{}, Buffers: []Buffer{}, Reference: ref.digest}
	for r := newIMAReader(proved, 20); ; {
		e, err := r.next()
		if err != nil {
			return IMA{}, err
		}
		if e == nil {
			return f.out, nil
		}
		if e.pcr != imaPCR {
			continue // PCR 10 does not cover it
		}
		if err := f.add(e, bank, h, pcrs); err != nil {
			return IMA{}, err
		}
	}
}

// add makes the checks 2 to 5 of newIMAFacts on one entry, and counts it.
func (f *imaFacts) add(e *imaEntry, bank string, h crypto.Hash, pcrs map[int64][]byte) error {
	f.out.Entries++
	if f.out.Entries > 1 && e.violation() {
		f.out.Violations++
		return nil
	}
	if !e.known && !e.violation() {
		return denial.New(denial.IMAUnknownFile, "an IMA entry has a template that is not known")
	}
	if e.known && (e.template == "ima" || strongIMAHash(e.alg) == 0) {
		return denial.New(denial.BankNotAllowed, "IMA measured with SHA-1 or another hash that proves nothing: boot with ima_hash=%s", bank)
	}
	aggregate := e.known && string(e.name) == "boot_aggregate" && !e.verity && e.template != "ima-buf"
	if f.out.Entries == 1 {
		return firstEntry(e, aggregate, bank, h, pcrs)
	}
	if aggregate && e.alg == bank && bootAggregate(h, pcrs, e.sum) {
		return nil // the list went on after kexec
	}
	if e.buffer() {
		return f.buffer(e)
	}
	return f.file(e)
}

// firstEntry makes the check 3 of newIMAFacts.
func firstEntry(e *imaEntry, aggregate bool, bank string, h crypto.Hash, pcrs map[int64][]byte) error {
	if !aggregate || e.violation() {
		return denial.New(denial.LogReplayMismatch, "the IMA list does not begin with boot_aggregate")
	}
	if e.alg != bank {
		return denial.New(denial.BankNotAllowed, "boot_aggregate is not of the quoted bank: boot with ima_hash=%s", bank)
	}
	if !bootAggregate(h, pcrs, e.sum) {
		return denial.New(denial.LogReplayMismatch, "boot_aggregate is not the digest of the quoted PCRs 0 to 9")
	}
	return nil
}

// buffer reports whether the entry is data without a file, and no file that poses as one.
func (e *imaEntry) buffer() bool {
	return e.known && e.template == "ima-buf" && !strings.HasPrefix(string(e.name), "/")
}

func (f *imaFacts) buffer(e *imaEntry) error {
	if !hashes(e.alg, e.buf, e.sum) {
		return denial.New(denial.EventDigestMismatch, "an ima-buf entry does not have the digest of its buffer")
	}
	b := Buffer{Name: imaText(e.name), Digest: e.digestText()}
	fresh, err := f.fresh("buffer "+b.Digest+" "+b.Name, len(b.Name), len(f.out.Buffers))
	if fresh {
		f.out.Buffers = append(f.out.Buffers, b)
	}
	return err
}

func (f *imaFacts) file(e *imaEntry) error {
	watched := f.ref.watches(e.name)
	known := f.ref.known[keyOf(e.verity, e.sum)]
	signed := (watched || !known) && f.ref.signed(e)
	if !known && !signed {
		f.out.Unknown++
	}
	if !watched {
		return nil
	}
	file := IMAFile{Path: imaText(e.name), Digest: e.digestText(), Signed: signed}
	fresh, err := f.fresh(fmt.Sprint("file ", file.Digest, signed, file.Path), len(file.Path), len(f.out.Files))
	if fresh {
		f.out.Files = append(f.out.Files, file)
	}
	return err
}

// fresh reports whether a file or a buffer is to be listed: it is not listed yet, and there is room for it.
func (f *imaFacts) fresh(key string, text, listed int) (bool, error) {
	if f.seen[key] {
		return false, nil
	}
	if f.text += text; listed >= maxIMAFacts || f.text > maxIMAText {
		return false, denial.New(denial.RequestLimit, "IMA measured more than %d different files that the policy watches, or buffers", maxIMAFacts)
	}
	f.seen[key] = true
	return true, nil
}

// digestText writes the digest of an entry as facts do.
func (e *imaEntry) digestText() string {
	text := e.alg + ":" + hex.EncodeToString(e.sum)
	if e.verity {
		return "verity:" + text
	}
	return text
}

// hashes reports whether sum is the digest of data.
func hashes(alg string, data, sum []byte) bool {
	h := strongIMAHash(alg)
	if h == 0 {
		return false
	}
	d := h.New()
	d.Write(data)
	return string(d.Sum(nil)) == string(sum)
}

// imaText writes a name so that two names never give the same text, and no text needs care where it is shown.
func imaText(name []byte) string {
	plain := utf8.Valid(name)
	for _, r := range string(name) {
		plain = plain && r != '\\' && unicode.IsPrint(r)
	}
	if plain {
		return string(name)
	}
	var b strings.Builder
	for len(name) > 0 {
		r, n := utf8.DecodeRune(name)
		if r != '\\' && unicode.IsPrint(r) && (r != utf8.RuneError || n > 1) {
			b.Write(name[:n])
		} else {
			for _, c := range name[:n] {
				fmt.Fprintf(&b, `\x%02x`, c)
			}
		}
		name = name[n:]
	}
	return b.String()
}
