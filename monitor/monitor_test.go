package monitor

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
	"github.com/governed-execution/writ/tlog"
)

const testOrigin = "issuer.example/log"

var testNow = time.Unix(1_800_000_000, 0)

// history is a log and where it is served. Several can have one key: then the log has several histories.
type history struct {
	testing.TB
	signer statement.Signer
	log    *tlog.Log
	url    string
	spoil  func(path string, data []byte) []byte // of what is served; nil: nothing
}

func newHistory(tb testing.TB, signer statement.Signer) *history {
	tb.Helper()
	log, err := tlog.Open(context.Background(), tlog.Options{Path: filepath.Join(tb.TempDir(), "log.db"), Signer: signer, Issuer: "https://issuer.example", LogID: "https://" + testOrigin})
	if err != nil {
		tb.Fatal(err)
	}
	h := &history{TB: tb, signer: signer, log: log}
	srv := httptest.NewServer(h)
	h.url = srv.URL
	tb.Cleanup(func() {
		srv.Close()
		if err := log.Close(); err != nil {
			tb.Error(err)
		}
	})
	return h
}

// ServeHTTP serves checkpoint and tiles as the issuer does.
func (h *history) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var data []byte
	var err error
	if r.URL.Path == "/checkpoint" {
		data = h.checkpoint()
	} else if t, ok := receipt.ParseTile(r.URL.Path[1:]); ok && !t.Entries {
		data, err = h.log.Tile(r.Context(), t)
	} else {
		err = os.ErrNotExist
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	if h.spoil != nil {
		data = h.spoil(r.URL.Path, data)
	}
	_, _ = w.Write(data)
}

func (h *history) checkpoint() []byte {
	_, raw, err := h.log.Checkpoint(context.Background())
	if err != nil {
		h.Error(err)
	}
	return raw
}

// add appends entries of a word until the log has so many.
func (h *history) add(word string, size uint64) *history {
	h.Helper()
	var entries []tlog.Entry
	for n := h.log.Head().Size; n < size; n++ {
		entries = append(entries, tlog.Entry{Leaf: fmt.Appendf(nil, "%s %d", word, n)})
	}
	if _, err := h.log.Append(context.Background(), entries...); err != nil {
		h.Fatal(err)
	}
	return h
}

func (h *history) options(views ...string) Options {
	h.Helper()
	key, err := receipt.LogNoteKey(testOrigin, h.signer.Key())
	if err != nil {
		h.Fatal(err)
	}
	return Options{Log: h.url, Keys: []receipt.NoteKey{key}, Dir: h.TempDir(), Views: views, Now: func() time.Time { return testNow }}
}

func look(tb testing.TB, o Options) *Report {
	tb.Helper()
	r, err := Look(tb.Context(), o)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func refused(tb testing.TB, o Options, want denial.Reason) {
	tb.Helper()
	if _, err := Look(tb.Context(), o); !denial.Is(err, want) {
		tb.Errorf("got %v, want %v", err, want)
	}
}

func (o *Options) evidence(tb testing.TB) []string {
	tb.Helper()
	found, err := filepath.Glob(filepath.Join(o.Dir, "evidence", "*"))
	if err != nil {
		tb.Fatal(err)
	}
	return found
}

func TestALogThatGrowsIsFollowed(t *testing.T) {
	h := newHistory(t, stock.Signer(t))
	o := h.options()
	var last uint64
	for _, size := range []uint64{1, 2, 255, 256, 257, 257, 600, 1000} {
		if size > last {
			h.add("entry", size)
		}
		r := look(t, o)
		if r.Size != size || r.Origin != testOrigin || (r.Since == nil) != (last == 0) || r.Since != nil && *r.Since != last {
			t.Errorf("%d entries: got %+v", size, r)
		}
		if kept, err := os.ReadFile(filepath.Join(o.Dir, "checkpoint")); err != nil || !bytes.Equal(kept[:40], h.checkpoint()[:40]) {
			t.Errorf("%d entries: kept %q, %v", size, kept, err)
		}
		last = size
	}
}

// T09, T10: a log that shows another history than before, or to others, is found out, and the evidence convinces who was not there.
func TestT09T10_TwoHistoriesAreFoundAndTheEvidenceStays(t *testing.T) {
	signer := stock.Signer(t)
	for name, c := range map[string]struct{ honest, forked uint64 }{
		"T10 one size, two roots": {300, 300}, "T09 longer": {300, 700}, "T09 of a power of two": {256, 700}, "T09 one entry": {1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			honest := newHistory(t, signer).add("entry", c.honest)
			o := honest.options()
			look(t, o)
			// The log goes on with another history under the same key.
			forked := newHistory(t, signer).add("other", c.forked)
			o.Log = forked.url
			refused(t, o, denial.LogInconsistent)
			found := o.evidence(t)
			if len(found) != 1 {
				t.Fatalf("evidence: %v", found)
			}
			if err := VerifyEvidence(found[0], o.Keys); err != nil {
				t.Errorf("the evidence does not verify: %v", err)
			}
			if err := VerifyEvidence(found[0], newHistory(t, stock.Signer(t)).options().Keys); !denial.Is(err, denial.KeyUnknown) {
				t.Errorf("with the key of another log: got %v", err)
			}
			// It stays an alarm, whatever the log shows from now on.
			o.Log = honest.url
			refused(t, o, denial.LogInconsistent)
			if again := o.evidence(t); !slices.Equal(again, found) {
				t.Errorf("the evidence became %v", again)
			}
		})
	}
}

func TestT09_WhatOthersAreShownIsCompared(t *testing.T) {
	signer := stock.Signer(t)
	honest := newHistory(t, signer).add("entry", 300)
	for name, c := range map[string]struct {
		word string
		size uint64
		file bool
		want denial.Reason
	}{
		"the same":              {"entry", 300, false, 0},
		"older":                 {"entry", 100, false, 0},
		"older, a file":         {"entry", 100, true, 0},
		"T10 another":           {"other", 300, false, denial.LogInconsistent},
		"T10 another, a file":   {"other", 300, true, denial.LogInconsistent},
		"T09 another, shorter":  {"other", 100, true, denial.LogInconsistent},
		"T09 another, longer":   {"other", 400, false, denial.LogInconsistent},
		"T18 ahead":             {"entry", 400, false, denial.CheckpointStale},
		"T18 ahead, a file":     {"entry", 400, true, denial.CheckpointStale},
		"ahead, another's file": {"other", 400, true, denial.CheckpointStale},
	} {
		t.Run(name, func(t *testing.T) {
			view := newHistory(t, signer).add(c.word, c.size)
			from := view.url
			if c.file {
				from = filepath.Join(t.TempDir(), "theirs")
				if err := os.WriteFile(from, view.checkpoint(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			o := honest.options(from)
			if c.want == 0 {
				if r := look(t, o); len(r.Views) != 1 || r.Views[0].Size != c.size || r.Views[0].Error != "" {
					t.Errorf("got %+v", r)
				}
				return
			}
			refused(t, o, c.want)
			found := o.evidence(t)
			if (len(found) == 1) != (c.want == denial.LogInconsistent) {
				t.Fatalf("evidence: %v", found)
			}
			for _, dir := range found {
				if err := VerifyEvidence(dir, o.Keys); err != nil {
					t.Errorf("the evidence does not verify: %v", err)
				}
			}
			if _, err := os.Stat(filepath.Join(o.Dir, "checkpoint")); c.want == denial.LogInconsistent && err == nil {
				t.Log("the first look at a log of two histories kept its checkpoint")
				t.Fail()
			}
		})
	}
}

// A view that nobody serves, or that the log has not signed, accuses nobody.
func TestAViewThatIsNotOfTheLogAccusesNobody(t *testing.T) {
	honest := newHistory(t, stock.Signer(t)).add("entry", 300)
	other := newHistory(t, stock.Signer(t)).add("other", 300)
	r := look(t, honest.options(other.url, "http://127.0.0.1:1/log", filepath.Join(t.TempDir(), "none")))
	if len(r.Views) != 3 || slices.ContainsFunc(r.Views, func(v View) bool { return v.Error == "" || v.Size != 0 }) {
		t.Errorf("got %+v", r)
	}
}

func TestT07_ALogThatWasSetBackIsRefused(t *testing.T) {
	signer := stock.Signer(t)
	o := newHistory(t, signer).add("entry", 300).options()
	look(t, o)
	back := newHistory(t, signer).add("entry", 299)
	o.Log = back.url
	refused(t, o, denial.StateRollback)
	if kept, err := os.ReadFile(filepath.Join(o.Dir, "refused.checkpoint")); err != nil || !bytes.HasPrefix(kept, []byte(testOrigin+"\n299\n")) {
		t.Errorf("what was refused is not kept: %q, %v", kept, err)
	}
	back.add("entry", 301)
	if r := look(t, o); r.Size != 301 || *r.Since != 300 {
		t.Errorf("after it had caught up: %+v", r)
	}
}

func TestT13_TilesThatDoNotFitAccuseNobodyOfAFork(t *testing.T) {
	h := newHistory(t, stock.Signer(t)).add("entry", 300)
	o := h.options()
	look(t, o)
	h.add("entry", 700)
	for name, spoil := range map[string]func(string, []byte) []byte{
		"a bit": func(path string, data []byte) []byte {
			if strings.HasPrefix(path, "/tile/") {
				data = slices.Clone(data)
				data[len(data)-1] ^= 1
			}
			return data
		},
		"short": func(path string, data []byte) []byte {
			if strings.HasPrefix(path, "/tile/") {
				data = data[:len(data)-1]
			}
			return data
		},
	} {
		h.spoil = spoil
		refused(t, o, denial.ReceiptInvalid)
		if found := o.evidence(t); len(found) != 0 {
			t.Errorf("%s: evidence %v", name, found)
		}
	}
	h.spoil = func(path string, data []byte) []byte {
		return bytes.Replace(data, []byte("\n700\n"), []byte("\n701\n"), 1)
	}
	refused(t, o, denial.SignatureInvalid)
	h.spoil = func(string, []byte) []byte { return make([]byte, maxCheckpoint+1) }
	if _, err := Look(t.Context(), o); err == nil {
		t.Error("a checkpoint without end is taken")
	}
	h.spoil = nil
	if r := look(t, o); r.Size != 700 {
		t.Errorf("got %+v", r)
	}
}

// cosigned has a witness cosign what is served.
func cosigned(t *testing.T, h *history, at time.Time) receipt.Witness {
	t.Helper()
	public, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := receipt.WitnessNoteKey("w.example", public)
	if err != nil {
		t.Fatal(err)
	}
	id := strings.Split(key.String(), "+")[1]
	h.spoil = func(path string, data []byte) []byte {
		if path != "/checkpoint" {
			return data
		}
		text := string(data[:bytes.Index(data, []byte("\n\n"))+1])
		sig := ed25519.Sign(priv, fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", at.Unix(), text))
		var raw []byte
		if _, err := fmt.Sscanf(id, "%x", &raw); err != nil {
			t.Error(err)
		}
		raw = append(binary.BigEndian.AppendUint64(raw, uint64(at.Unix())), sig...)
		return append(slices.Clone(data), "— w.example "+base64.StdEncoding.EncodeToString(raw)+"\n"...)
	}
	return receipt.Witness{Operator: "w", Key: key}
}

// T18, T11, T12: an old cosignature is that of a log that is kept back; without enough of them nothing is kept.
func TestT18_ACheckpointThatIsKeptBackIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		age       time.Duration
		threshold int
		known     bool
		want      denial.Reason
	}{
		"fresh": {23 * time.Hour, 1, true, 0}, "25 h old": {25 * time.Hour, 1, true, denial.CheckpointStale},
		"T12 no threshold": {0, 0, true, denial.ThresholdNotMet}, "T11 of another witness": {0, 1, false, denial.ThresholdNotMet},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHistory(t, stock.Signer(t)).add("entry", 5)
			o := h.options()
			one := cosigned(t, h, testNow.Add(-c.age))
			if !c.known {
				spoil := h.spoil
				one = cosigned(t, h, testNow)
				h.spoil = spoil
			}
			o.Witnesses = &receipt.Witnesses{Threshold: c.threshold, List: []receipt.Witness{one}}
			if c.want != 0 {
				refused(t, o, c.want)
				if kept, _ := os.ReadDir(o.Dir); len(kept) != 0 {
					t.Errorf("kept %v", kept)
				}
				return
			}
			if r := look(t, o); r.Cosigned != uint64(testNow.Add(-c.age).Unix()) || !slices.Equal(r.Operators, []string{"w"}) {
				t.Errorf("got %+v", r)
			}
		})
	}
}

// Evidence that was changed, or of one history, convinces nobody.
func TestOtherFilesAreNoEvidence(t *testing.T) {
	signer := stock.Signer(t)
	o := newHistory(t, signer).add("entry", 300).options()
	look(t, o)
	o.Log = newHistory(t, signer).add("other", 700).url
	refused(t, o, denial.LogInconsistent)
	dir := o.evidence(t)[0]
	same := newHistory(t, signer).add("other", 300)
	for name, change := range map[string]func(name string, data []byte) []byte{
		"a bit of the root":        func(name string, data []byte) []byte { return flip(data, name == namePath, 3) },
		"a bit of the path":        func(name string, data []byte) []byte { return flip(data, name == namePath, 50) },
		"no path":                  func(name string, data []byte) []byte { return cut(data, name == namePath, 45) },
		"nothing":                  func(name string, data []byte) []byte { return cut(data, name == namePath, 0) },
		"a checkpoint unsigned":    func(name string, data []byte) []byte { return flip(data, name == nameLonger, len(data)-9) },
		"a checkpoint changed":     func(name string, data []byte) []byte { return flip(data, name == nameShorter, len(testOrigin)+6) },
		"the same history, a part": func(name string, data []byte) []byte { return swap(data, name == nameShorter, same.checkpoint()) },
	} {
		changed := t.TempDir()
		for _, name := range []string{nameShorter, nameLonger, namePath} {
			data, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(changed, name), change(name, data), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if err := VerifyEvidence(changed, o.Keys); err == nil {
			t.Errorf("%s: it is evidence", name)
		}
	}
	if err := VerifyEvidence(t.TempDir(), o.Keys); err == nil {
		t.Error("an empty directory is evidence")
	}
}

func flip(data []byte, yes bool, at int) []byte {
	if yes {
		data[at] ^= 1
	}
	return data
}

func cut(data []byte, yes bool, at int) []byte {
	if yes {
		data = data[:at]
	}
	return data
}

func swap(data []byte, yes bool, by []byte) []byte {
	if yes {
		return by
	}
	return data
}

// What cannot be kept is a fault, and a kept checkpoint that was changed is no starting point.
func TestWhatIsKeptIsVerifiedToo(t *testing.T) {
	h := newHistory(t, stock.Signer(t)).add("entry", 5)
	o := h.options()
	look(t, o)
	path := filepath.Join(o.Dir, "checkpoint")
	kept, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"empty": nil, "of another size": bytes.Replace(kept, []byte("\n5\n"), []byte("\n4\n"), 1)} {
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Look(t.Context(), o); err == nil {
			t.Errorf("%s: it is followed", name)
		}
	}
	o.Dir = filepath.Join(path, "below a file")
	if _, err := Look(t.Context(), o); err == nil {
		t.Error("without a directory it looks")
	}
}
