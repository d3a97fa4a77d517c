package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/monitor"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/tlog"
)

// serveLog serves a log of so many entries, with a word in each, under the key. The trust file names it.
func serveLog(t *testing.T, signer statement.Signer, word string, size int) string {
	t.Helper()
	log, err := tlog.Open(t.Context(), tlog.Options{Path: filepath.Join(t.TempDir(), "log.db"), Signer: signer, Issuer: "https://issuer.example", LogID: "https://issuer.example/log"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range size {
		if _, err := log.Append(t.Context(), tlog.Entry{Leaf: fmt.Appendf(nil, "%s %d", word, i)}); err != nil {
			t.Fatal(err)
		}
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := strings.TrimPrefix(r.URL.Path, "/log/")
		var data []byte
		var err error
		if tile, ok := receipt.ParseTile(path); ok {
			data, err = log.Tile(r.Context(), tile)
		} else {
			_, data, err = log.Checkpoint(r.Context())
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusNotFound)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(func() {
		srv.Close()
		log.Close()
	})
	return srv.URL
}

// TestMonitorFollowsALogAndKeepsEvidence: T09, T10 as somebody calls it who has a trust file and nothing else.
func TestMonitorFollowsALogAndKeepsEvidence(t *testing.T) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := statement.NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text, err := (&artifact.Trust{Version: 1, Expires: time.Now().Add(time.Hour).Truncate(time.Second), Genesis: statement.Digest{1}, Issuer: "https://issuer.example",
		Log: "https://issuer.example/log", RevocationAge: time.Minute, Lifetime: time.Hour, Keys: []artifact.TrustKey{{Purpose: artifact.PurposeLog, Key: signer.Key()}},
		Policies: []artifact.Pin{{ID: "https://issuer.example/policy", MinVersion: 1}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	trust, kept, prom := filepath.Join(dir, "trust.toml"), filepath.Join(dir, "monitor"), filepath.Join(dir, "writ.prom")
	if err := os.WriteFile(trust, text, 0o600); err != nil {
		t.Fatal(err)
	}
	call := func(want int, args ...string) (string, string) {
		t.Helper()
		var out, errs bytes.Buffer
		if got := run(t.Context(), append([]string{"monitor"}, args...), nil, &out, &errs); got != want {
			t.Errorf("writ monitor %v: got %d, want %d\n%s%s", args, got, want, out.String(), errs.String())
		}
		return out.String(), errs.String()
	}
	honest, other := serveLog(t, signer, "entry", 5), serveLog(t, signer, "other", 9)
	base := []string{"--trust", trust, "--dir", kept, "--textfile", prom}
	if out, _ := call(exitYes, append(base, "--server", honest, "--view", "nowhere")...); !strings.Contains(out, "5 entries") || !strings.Contains(out, "first look") || !strings.Contains(out, "NOT compared with nowhere") {
		t.Errorf("got %q", out)
	}
	out, _ := call(exitYes, append(base, "--log", honest+"/log", "--json")...)
	var r struct{ Entries, Continues int }
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.Entries != 5 || r.Continues != 5 {
		t.Errorf("got %q, %v", out, err)
	}
	if text, err := os.ReadFile(prom); err != nil || !strings.Contains(string(text), "writ_monitor_entries 5\n") || !strings.Contains(string(text), "writ_monitor_refused_code 0\n") {
		t.Errorf("metrics: %q, %v", text, err)
	}
	if _, errs := call(exitDenied, append(base, "--server", honest, "--view", other+"/log", "--every", "1h")...); !strings.Contains(errs, "325 LOG_INCONSISTENT") {
		t.Errorf("got %q", errs)
	}
	if text, err := os.ReadFile(prom); err != nil || !strings.Contains(string(text), "writ_monitor_refused_code 325\n") {
		t.Errorf("metrics: %q, %v", text, err)
	}
	call(exitDenied, append(base, "--server", honest)...) // for ever
	found, err := filepath.Glob(filepath.Join(kept, "evidence", "*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("evidence: %v, %v", found, err)
	}
	if out, _ := call(exitYes, "evidence", found[0], "--trust", trust); !strings.Contains(out, "has signed two histories") {
		t.Errorf("got %q", out)
	}
	call(exitFault, "evidence", kept, "--trust", trust)
	call(exitMisuse, base...)
	call(exitMisuse, append(base, "--server", honest, "--max-age", "0s")...)
	call(exitFault, "--trust", trust, "--dir", filepath.Join(dir, "else"), "--server", "http://127.0.0.1:1")
}

// T09: a checkpoint may be by any log key that was in use in the last minute, also one that came and went in it; by none that went before.
func TestT09_LogKeysOfTheLastMinute(t *testing.T) {
	w := issuertest.New(t)
	watch := keyWatch{trust: w.Trust()}
	name := func() string {
		key, err := receipt.LogNoteKey(receipt.Origin(issuertest.Log), w.Keys[record.PurposeLog].Key())
		if err != nil {
			t.Fatal(err)
		}
		return key.String()
	}
	keys := []string{name()}
	w.Advance(10 * time.Minute)
	for range 2 {
		w.Rotate(record.PurposeLog)
		keys = append(keys, name())
		w.Advance(10 * time.Second)
	}
	followed, err := watch.trust.Follow(w.History())
	if err != nil {
		t.Fatal(err)
	}
	watch.trust = followed
	for after, want := range map[time.Duration][]string{0: keys, 45 * time.Second: keys[1:], 55 * time.Second: keys[2:]} {
		got := map[string]bool{}
		for _, k := range watch.options(monitor.Options{}, w.Seconds()+uint64(after.Seconds())).Keys {
			got[k.String()] = true
		}
		if len(got) != len(want) {
			t.Errorf("%s later: got %d keys, want %d", after, len(got), len(want))
		}
		for _, k := range want {
			if !got[k] {
				t.Errorf("%s later: a log key of the last minute is not one", after)
			}
		}
	}
}
