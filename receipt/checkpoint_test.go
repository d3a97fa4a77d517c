package receipt

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"strconv"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

const testOrigin = "issuer.example/log"

// cosigner is a witness in memory.
type cosigner struct {
	priv ed25519.PrivateKey
	key  NoteKey
}

func newCosigner(t testing.TB, name string) cosigner {
	t.Helper()
	pub, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := WitnessNoteKey(name, pub)
	if err != nil {
		t.Fatal(err)
	}
	return cosigner{priv, key}
}

// line returns the line that the witness puts under a checkpoint at a time.
func (c cosigner) line(checkpoint []byte, time uint64) []byte {
	text, _, _ := strings.Cut(string(checkpoint), "\n\n")
	message := "cosignature/v1\ntime " + strconv.FormatUint(time, 10) + "\n" + text + "\n"
	sig := append(binary.BigEndian.AppendUint64(nil, time), ed25519.Sign(c.priv, []byte(message))...)
	return []byte(signature{name: c.key.name, id: c.key.id, sig: sig}.line())
}

func (f *fixture) checkpoint(size uint64) []byte {
	f.t.Helper()
	raw, err := SignCheckpoint(context.Background(), f.signer, testOrigin, f.headAt(size))
	if err != nil {
		f.t.Fatal(err)
	}
	return raw
}

func (f *fixture) noteKeys() []NoteKey {
	f.t.Helper()
	k, err := LogNoteKey(testOrigin, f.signer.Key())
	if err != nil {
		f.t.Fatal(err)
	}
	return []NoteKey{k}
}

func join(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

func TestACheckpointVerifiesWithTheCosignaturesOfDistinctOperators(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 9)
	a, b := newCosigner(t, "a.example/w"), newCosigner(t, "b.example/w")
	w := &Witnesses{Threshold: 2, List: []Witness{{"A", a.key}, {"B", b.key}}}
	cp := f.checkpoint(9)
	c, err := VerifyCheckpoint(join(cp, b.line(cp, testTime+5), newCosigner(t, "c.example").line(cp, 1), a.line(cp, testTime)), f.noteKeys(), w)
	if err != nil {
		t.Fatal(err)
	}
	if c.Origin != testOrigin || c.Size != 9 || c.Root != f.headAt(9).Root || c.Time != testTime || strings.Join(c.Operators, " ") != "A B" {
		t.Errorf("got %+v", c)
	}
	if c, err := VerifyCheckpoint(cp, f.noteKeys(), nil); err != nil || c.Size != 9 || c.Time != 0 {
		t.Errorf("without witnesses: got %+v, %v", c, err)
	}
}

func TestCheckpointsThatAreRefused(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 9)
	a, b := newCosigner(t, "a.example/w"), newCosigner(t, "b.example/w")
	second := newCosigner(t, "a.example/second")
	w := &Witnesses{Threshold: 2, List: []Witness{{"A", a.key}, {"A", second.key}, {"B", b.key}}}
	cp, keys := f.checkpoint(9), f.noteKeys()
	good := join(cp, a.line(cp, 1), b.line(cp, 2))
	if _, err := VerifyCheckpoint(good, keys, w); err != nil {
		t.Fatal(err)
	}
	edit := func(old, new string) []byte { return bytes.Replace(good, []byte(old), []byte(new), 1) }
	other, err := SignCheckpoint(context.Background(), f.signer, "other.example/log", f.headAt(9))
	if err != nil {
		t.Fatal(err)
	}
	twice := &Witnesses{Threshold: 2, List: []Witness{{"A", a.key}, {"B", a.key}}}
	for name, row := range map[string]struct {
		raw    []byte
		keys   []NoteKey
		w      *Witnesses
		reason denial.Reason
	}{
		"T11 the same witness twice":              {join(cp, a.line(cp, 1), a.line(cp, 2)), keys, w, denial.ThresholdNotMet},
		"T11 two witnesses of one operator":       {join(cp, a.line(cp, 1), second.line(cp, 2)), keys, w, denial.ThresholdNotMet},
		"T11 one key as two operators":            {good, keys, twice, denial.ThresholdNotMet},
		"T12 threshold 0":                         {good, keys, &Witnesses{List: w.List}, denial.ThresholdNotMet},
		"T12 negative threshold":                  {good, keys, &Witnesses{Threshold: -1, List: w.List}, denial.ThresholdNotMet},
		"T12 more than there are operators":       {good, keys, &Witnesses{Threshold: 3, List: w.List}, denial.ThresholdNotMet},
		"T15 other origin":                        {other, keys, nil, denial.LogInconsistent},
		"no signatures":                           {[]byte("a\n"), keys, nil, denial.ReceiptInvalid},
		"empty":                                   {nil, keys, nil, denial.ReceiptInvalid},
		"other size":                              {edit("\n9\n", "\n8\n"), keys, nil, denial.SignatureInvalid},
		"leading zero":                            {edit("\n9\n", "\n09\n"), keys, nil, denial.ReceiptInvalid},
		"extension line":                          {edit("\n\n", "\nmore\n\n"), keys, nil, denial.ReceiptInvalid},
		"control character":                       {edit("\n9\n", "\n9\r\n"), keys, nil, denial.ReceiptInvalid},
		"a line that is no signature":             {join(good, []byte("— x\n")), keys, nil, denial.ReceiptInvalid},
		"a last line without newline":             {good[:len(good)-1], keys, nil, denial.ReceiptInvalid},
		"unknown log key":                         {good, newFixture(t, 1).noteKeys(), nil, denial.KeyUnknown},
		"a cosignature under another checkpoint":  {join(cp, a.line(cp, 1), b.line(f.checkpoint(8), 2)), keys, w, denial.SignatureInvalid},
		"a log signature of another under ours":   {join(cp, bytes.SplitAfter(f.checkpoint(8), []byte("\n\n"))[1]), keys, nil, denial.SignatureInvalid},
		"cosigned and not signed by the log":      {join(cp[:bytes.Index(cp, []byte("\n\n"))+2], a.line(cp, 1), b.line(cp, 1)), keys, w, denial.KeyUnknown},
		"too long":                                {join(good, bytes.Repeat(a.line(cp, 1), 600)), keys, nil, denial.ReceiptInvalid},
		"a witness key where a log key should be": {good, []NoteKey{a.key}, nil, denial.LogInconsistent},
	} {
		if _, err := VerifyCheckpoint(row.raw, row.keys, row.w); !denial.Is(err, row.reason) {
			t.Errorf("%s: got %v, want %v", name, err, row.reason)
		}
	}
}

func TestT18_ACheckpointThatIsKeptBackIsStale(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 9)
	a, b := newCosigner(t, "a.example/w"), newCosigner(t, "b.example/w")
	w := &Witnesses{Threshold: 2, List: []Witness{{"A", a.key}, {"B", b.key}}}
	cp := f.checkpoint(9)
	const now, day = testTime + 100_000, 24 * 3600
	c, err := VerifyCheckpoint(join(cp, a.line(cp, now-25*3600), b.line(cp, now)), f.noteKeys(), w)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.FreshSince(now - day); !denial.Is(err, denial.CheckpointStale) { // only one operator of two is fresh
		t.Errorf("25 h old: got %v, want %v", err, denial.CheckpointStale)
	}
	if err := c.FreshSince(now - 26*3600); err != nil {
		t.Errorf("25 h old, 26 h allowed: %v", err)
	}
}

func TestAClientThatKeepsItsLastCheckpointIsNotForked(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 9)
	verified := func(f *fixture, size uint64) *Checkpoint {
		c, err := VerifyCheckpoint(f.checkpoint(size), f.noteKeys(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	fork := &fixture{t: t, signer: f.signer, tree: newFixture(t, 3).tree}
	fork.tree.AppendData([]byte("other"), []byte("b"), []byte("c"), []byte("d"), []byte("e"), []byte("f"), []byte("g"))
	old := verified(f, 5)
	if err := verified(f, 9).Follows(old, f.consistencyPath(5, 9)); err != nil {
		t.Fatalf("honest: %v", err)
	}
	if err := verified(f, 5).Follows(old, nil); err != nil {
		t.Fatalf("the same again: %v", err)
	}
	other := *verified(f, 9)
	other.Origin = "other.example/log"
	for name, row := range map[string]struct {
		c      *Checkpoint
		path   []Hash
		reason denial.Reason
	}{
		"T07 rolled back":                 {verified(f, 4), nil, denial.StateRollback},
		"T09 fork":                        {verified(fork, 9), fork.consistencyPath(5, 9), denial.LogInconsistent},
		"T09 fork, path of the real tree": {verified(fork, 9), f.consistencyPath(5, 9), denial.LogInconsistent},
		"T10 same size, other root":       {verified(fork, 5), nil, denial.LogInconsistent},
		"T15 other log":                   {&other, f.consistencyPath(5, 9), denial.LogInconsistent},
		"no path":                         {verified(f, 9), nil, denial.LogInconsistent},
	} {
		if err := row.c.Follows(old, row.path); !denial.Is(err, row.reason) {
			t.Errorf("%s: got %v, want %v", name, err, row.reason)
		}
	}
}

func TestVerifierKeysAreReadAsTheyAreWritten(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 1)
	for _, k := range []NoteKey{f.noteKeys()[0], newCosigner(t, "w.example/1").key} {
		again, err := ParseNoteKey(k.String())
		if err != nil || again.String() != k.String() || again.id != k.id || again.Name() != k.Name() {
			t.Errorf("%s: got %s, %v", k, again, err)
		}
		for _, bad := range []string{"", "x", "x+y", "+" + k.String(), strings.Replace(k.String(), "+", "++", 1), "x" + k.String()[len(k.Name())-1:] + "=", k.String()[:len(k.String())-4]} {
			if _, err := ParseNoteKey(bad); err == nil {
				t.Errorf("%q was read", bad)
			}
		}
	}
	if _, err := ParseNoteKey("w+00000000+" + lineEncoding.EncodeToString(make([]byte, 33))); err == nil {
		t.Error("a key of type 0 was read")
	}
	if _, err := WitnessNoteKey("w", make([]byte, 32)); err == nil { // a point of small order: anybody signs for it
		t.Error("a weak key was read")
	}
	if _, err := LogNoteKey(testOrigin, statement.Key{}); err == nil {
		t.Error("no key was named")
	}
}

func TestOnlyWhatAWitnessSignedIsAdded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, 9)
	a, b := newCosigner(t, "a.example/w"), newCosigner(t, "b.example/w")
	cp := f.checkpoint(9)
	added, err := AddCosignatures(cp, join(b.line(cp, 1), a.line(cp, 2)), a.key)
	if err != nil || !bytes.Equal(added, join(cp, a.line(cp, 2))) {
		t.Errorf("got %q, %v", added, err)
	}
	for name, row := range map[string]struct {
		lines  []byte
		reason denial.Reason
	}{
		"another key":        {b.line(cp, 1), denial.KeyUnknown},
		"another checkpoint": {a.line(f.checkpoint(8), 1), denial.SignatureInvalid},
		"no lines":           {nil, denial.ReceiptInvalid},
		"other text":         {[]byte("<html>"), denial.ReceiptInvalid},
	} {
		if _, err := AddCosignatures(cp, row.lines, a.key); !denial.Is(err, row.reason) {
			t.Errorf("%s: got %v, want %v", name, err, row.reason)
		}
	}
}

func FuzzCheckpoint(f *testing.F) {
	x := newFixture(f, 9)
	a := newCosigner(f, "a.example/w")
	cp := x.checkpoint(9)
	f.Add(join(cp, a.line(cp, 1)))
	f.Add(cp)
	keys, w := x.noteKeys(), &Witnesses{Threshold: 1, List: []Witness{{"A", a.key}}}
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := VerifyCheckpoint(raw, keys, w)
		if err == nil && (c.Size != 9 || c.Root != x.headAt(9).Root || c.Origin != testOrigin) {
			t.Errorf("a checkpoint that was never signed verifies: %q", raw)
		}
	})
}
