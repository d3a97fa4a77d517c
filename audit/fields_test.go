package audit_test

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/issuertest"
)

// field is an item of some bytes that a change of one bit turns into another of the same form.
type field struct {
	path string
	at   int // of the byte that changes
}

// walker finds the fields of CBOR data: every key and every value that is no array or map, also those in byte strings that
// hold CBOR themselves. Of a long array it takes the first and the last element, since all have one form.
type walker struct {
	data   []byte
	fields []field
}

// longArray is how many elements of an array are walked one by one.
const longArray = 6

func (w *walker) add(path string, at int) { w.fields = append(w.fields, field{path, at}) }

// item walks the item at an offset and returns where it ends; false if there is none.
func (w *walker) item(at int, path string) (end int, ok bool) {
	major, n, at2, ok := head(w.data, at)
	if !ok {
		return 0, false
	}
	switch major {
	case 0, 1: // integers
		w.add(path, at2-1)
		return at2, true
	case 2, 3: // strings
		return w.text(major, n, at, at2, path)
	case 4:
		return w.array(n, at2, path)
	case 5:
		return w.pairs(n, at2, path)
	case 6:
		return w.item(at2, path)
	}
	if n == 20 || n == 21 { // false and true
		w.add(path, at)
	}
	return at2, true
}

func (w *walker) text(major byte, n uint64, at, from int, path string) (int, bool) {
	end := from + int(n)
	switch {
	case end > len(w.data):
		return 0, false
	case major == 2 && w.nested(from, end, path):
	case n == 0:
		w.add(path+" (empty)", at)
	default:
		w.add(path, end-1)
	}
	return end, true
}

// nested walks a byte string that is one CBOR array, map or tagged item.
func (w *walker) nested(from, end int, path string) bool {
	major, _, _, ok := head(w.data[:end], from)
	if !ok || major < 4 || major > 6 {
		return false
	}
	inner := walker{data: w.data[:end]}
	to, ok := inner.item(from, path)
	if !ok || to != end || len(inner.fields) == 0 {
		return false
	}
	w.fields = append(w.fields, inner.fields...)
	return true
}

func (w *walker) array(n uint64, at int, path string) (int, bool) {
	for i := range n {
		before := len(w.fields)
		end, ok := w.item(at, fmt.Sprintf("%s[%d]", path, i))
		if !ok {
			return 0, false
		}
		if n > longArray && i > 0 && i+1 < n {
			w.fields = w.fields[:before]
		}
		at = end
	}
	return at, true
}

func (w *walker) pairs(n uint64, at int, path string) (int, bool) {
	for range n {
		name, ok := keyName(w.data, at)
		if !ok {
			return 0, false
		}
		end, ok := w.item(at, path+"."+name+" (key)")
		if !ok {
			return 0, false
		}
		if at, ok = w.item(end, path+"."+name); !ok {
			return 0, false
		}
	}
	return at, true
}

func keyName(data []byte, at int) (string, bool) {
	major, n, from, ok := head(data, at)
	switch {
	case !ok:
		return "", false
	case major == 0:
		return fmt.Sprint(n), true
	case major == 1:
		return fmt.Sprint(-1 - int64(n)), true
	case major == 3 && from+int(n) <= len(data) && utf8.Valid(data[from:from+int(n)]):
		return string(data[from : from+int(n)]), true
	}
	return "", false
}

// head reads the head of an item.
func head(data []byte, at int) (major byte, n uint64, end int, ok bool) {
	if at >= len(data) {
		return 0, 0, 0, false
	}
	major, low := data[at]>>5, data[at]&31
	if low < 24 {
		return major, uint64(low), at + 1, true
	}
	size := 1 << (low - 24)
	if low > 27 || at+1+size > len(data) || major == 7 {
		return 0, 0, 0, false
	}
	var wide [8]byte
	copy(wide[8-size:], data[at+1:at+1+size])
	n = binary.BigEndian.Uint64(wide[:])
	return major, n, at + 1 + size, n < 1<<40 || major < 2
}

// fieldsOf returns the fields of a member of a bundle: of CBOR, or the lines of a note.
func fieldsOf(t *testing.T, name string, data []byte) []field {
	t.Helper()
	w := walker{data: data}
	if strings.HasSuffix(name, ".tlog-proof") || name == "checkpoint" || name == "tlog-policy" {
		at := 0
		for i, line := range bytes.SplitAfter(data, []byte("\n")) {
			if len(line) > 1 {
				w.add(fmt.Sprintf("line %d", i+1), at+len(line)-2)
			}
			at += len(line)
		}
		return w.fields
	}
	if end, ok := w.item(0, ""); !ok || end != len(data) {
		t.Fatalf("%s: no CBOR", name)
	}
	return w.fields
}

// uncovered are the fields that no check holds, each with the reason.
var uncovered = map[string]string{
	"manifest.cbor .4.1": "the same entries are a bundle of a range that begins one later: what stands before it is context",
	"manifest.cbor .9":   "what every bundle of this issuer lacks is its word for people; nothing is concluded from it",
}

func excused(field string) bool {
	for known := range uncovered {
		if field == known || strings.HasPrefix(field, known+"[") {
			return true
		}
	}
	return false
}

// sample is which part of the fields a test tries, unless FIELDS=all: make fields tries them all.
const sample = 13

// T24: every field counts. The fields of one member of each form are found by walking its bytes, and one bit of each is changed
// by an issuer that is dishonest: it signs the manifest anew, and the payloads of capsules. Each change must refute the statement that the
// member belongs to, or, where it belongs to none, the bundle.
func TestT24_EveryFieldCounts(t *testing.T) {
	s := newStage(t)
	s.enrolCarol()
	m, _ := s.permit()
	s.run(m, 1)
	s.refuse(denial.SecureBootOff, asking{boot: bootlog.New(bootlog.Options{NoSecureBoot: true})})
	raw := s.export(audit.Query{Disclose: []string{"team"}})
	good := unpack(t, raw)
	wantProved(t, s.verify(raw))
	owners := ownersOf(t, good)
	n, tried := 0, 0
	try := func(field string, owner int, bundle func() []byte) {
		if n++; n%sample != 0 && os.Getenv("FIELDS") != "all" && !strings.HasPrefix(field, "manifest") {
			return
		}
		tried++
		if why := s.survives(bundle(), owner); (why != "") != excused(field) {
			t.Errorf("%s: %s", field, cmp.Or(why, "is refuted: take it off the list"))
		}
	}
	for _, name := range oneOfEach(t, good) {
		for _, f := range fieldsOf(t, name, good[name]) {
			try(name+" "+f.path, owners[name], func() []byte { return s.spoil(good, name, f.at) })
		}
		if !strings.HasPrefix(name, "capsules/") {
			continue
		}
		payload := must(statement.Decode(good[name], 9<<20))(t).Payload()
		for _, f := range fieldsOf(t, name, payload) {
			try(name+" payload"+f.path, owners[name], func() []byte {
				changed := maps.Clone(good)
				changed[name] = s.signedAgain(good[name], spoilt(payload, f.at))
				return s.reseal(changed, nil)
			})
		}
	}
	t.Logf("%d of %d fields tried", tried, n)
	if n < 2000 {
		t.Errorf("the walk has found %d fields only", n)
	}
}

func spoilt(data []byte, at int) []byte {
	data = bytes.Clone(data)
	data[at] ^= 1
	return data
}

// spoil changes a bit of a member, and has the issuer sign the manifest anew.
func (s *stage) spoil(good files, name string, at int) []byte {
	s.Helper()
	f := maps.Clone(good)
	f[name] = spoilt(f[name], at)
	switch name {
	case "manifest.cose":
		return f.pack(s)
	case "manifest.cbor":
		hash := sha256.Sum256(f[name])
		f["manifest.cose"] = must(s.Issuer.SealManifest(s.Ctx, issuertest.Log, hash[:]))(s)
		return f.pack(s)
	}
	return s.reseal(f, nil)
}

// signedAgain is a capsule with another payload, signed by the issuer.
func (s *stage) signedAgain(capsule, payload []byte) []byte {
	s.Helper()
	return must(s.Issuer.SealCapsule(s.Ctx, must(statement.Decode(capsule, 9<<20))(s).Claims().Subject, payload))(s)
}

// ofBundle is the owner of what belongs to no statement.
const ofBundle = -1

// ownersOf returns by member the index of the statement that it belongs to.
func ownersOf(t *testing.T, f files) map[string]int {
	t.Helper()
	owners := map[string]int{}
	for name := range f {
		owners[name] = ofBundle
	}
	for name := range f {
		var index uint64
		if _, err := fmt.Sscanf(name, "statements/%d.scitt", &index); err != nil {
			continue
		}
		e := must(statement.Decode(f[name], 1<<20))(t)
		for _, member := range []string{name, audit.NameReceipt(index), audit.NameProof(index), audit.NameCapsule(e.Digest())} {
			owners[member] = int(index)
		}
		if index < 2 {
			owners[name] = ofBundle // genesis
		}
	}
	return owners
}

// oneOfEach returns a member of every form: of the statements one of each kind and event, of capsules one for each of these.
func oneOfEach(t *testing.T, f files) (names []string) {
	t.Helper()
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(f)) {
		form, _, _ := strings.Cut(name, "/")
		switch form {
		case "statements":
			form = formOf(t, f[name])
		case "capsules":
			var c audit.Capsule
			if err := statement.Unmarshal(must(statement.Decode(f[name], 9<<20))(t).Payload(), &c); err != nil {
				t.Fatal(err)
			}
			form += formOf(t, c.Outcome.Value)
		case "receipts":
			form = name[:len("receipts/co")]
		}
		if !seen[form] {
			seen[form], names = true, append(names, name)
		}
	}
	return names
}

func formOf(t *testing.T, raw []byte) string {
	t.Helper()
	e := must(statement.Decode(raw, 1<<20))(t)
	if e.Kind() != statement.Record {
		return e.Kind().String()
	}
	var r record.Record
	if err := statement.Unmarshal(e.Payload(), &r); err != nil {
		t.Fatal(err)
	}
	return r.Event.String()
}

// survives says why a bundle is not refuted as it should be; empty: it is.
func (s *stage) survives(bundle []byte, owner int) string {
	s.Helper()
	r := s.verify(bundle)
	switch {
	case r.Verdict != audit.Refuted || r.Err() == nil:
		return string(r.Verdict)
	case owner == ofBundle && r.Bundle.Verdict == audit.Refuted:
		return ""
	}
	for _, f := range r.Statements {
		if f.Verdict == audit.Refuted && (int(f.Index) == owner || owner == ofBundle) {
			return ""
		}
	}
	return fmt.Sprintf("entry %d is not refuted: %v", owner, r.Err())
}
