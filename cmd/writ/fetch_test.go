package main

import (
	"bytes"
	"context"
	"encoding/pem"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// call runs writ and returns its exit status and output.
func call(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), args, strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

// admin answers on a Unix socket as an issuer's admin socket does.
func admin(t *testing.T, answer http.HandlerFunc) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: answer}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return socket
}

func TestPullWritesTheBundle(t *testing.T) {
	var query string
	bundle := bytes.Repeat([]byte("bundle"), 1<<18)
	socket := admin(t, func(w http.ResponseWriter, r *http.Request) {
		query = r.URL.Path + "?" + r.URL.RawQuery
		w.Write(bundle)
	})
	out := filepath.Join(t.TempDir(), "b.tar")
	status, stdout, stderr := call(t, "audit", "pull", "--admin", socket, "--from", "3", "--to", "9", "-o", out, "--json")
	if status != exitYes || stderr != "" || !strings.Contains(stdout, `"bytes":1572864`) {
		t.Errorf("status %d, output %q %q", status, stdout, stderr)
	}
	if query != "/v1/exports?from=3&to=9" {
		t.Errorf("asked for %q", query)
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, bundle) {
		t.Errorf("the file holds %d bytes (%v)", len(got), err)
	}
}

// TestPullIsOfTheWholeLog: the host in the configuration is the one that asks, and makes no pull one of that host alone.
func TestPullIsOfTheWholeLog(t *testing.T) {
	dir, query := t.TempDir(), "none"
	socket := admin(t, func(w http.ResponseWriter, r *http.Request) { query = r.URL.RawQuery })
	config := filepath.Join(dir, "writ.toml")
	if err := os.WriteFile(config, []byte("host = \"spiffe://example/host/a\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	pull := []string{"-c", config, "audit", "pull", "--admin", socket, "-o", filepath.Join(dir, "b.tar")}
	if status, _, stderr := call(t, pull...); status != exitYes || query != "" {
		t.Errorf("status %d, asked for %q: %s", status, query, stderr)
	}
	if status, _, stderr := call(t, append(pull, "--host", "urn:x:b")...); status != exitYes || query != "host=urn%3Ax%3Ab" {
		t.Errorf("status %d, asked for %q: %s", status, query, stderr)
	}
}

func TestPullLeavesNoHalfBundle(t *testing.T) {
	problem, code := denial.Known(denial.New(denial.AuditUnavailable, "the log is not there")).Encode()
	for name, row := range map[string]struct {
		answer http.HandlerFunc
		want   int
	}{
		"aborted": {func(w http.ResponseWriter, _ *http.Request) {
			w.Write(make([]byte, 1<<20))
			panic(http.ErrAbortHandler)
		}, exitFault},
		"refused": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(code)
			w.Write(problem)
		}, exitDenied},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			out := filepath.Join(dir, "b.tar")
			if err := os.WriteFile(out, []byte("earlier"), 0o600); err != nil {
				t.Fatal(err)
			}
			if status, _, stderr := call(t, "audit", "pull", "--admin", admin(t, row.answer), "-o", out); status != row.want || stderr == "" {
				t.Errorf("status %d, want %d: %s", status, row.want, stderr)
			}
			left, err := os.ReadDir(dir)
			if err != nil || len(left) != 1 {
				t.Errorf("%d files are left (%v)", len(left), err)
			}
			if got, err := os.ReadFile(out); err != nil || string(got) != "earlier" {
				t.Errorf("the earlier bundle is gone: %q %v", got, err)
			}
		})
	}
}

func TestInterruptedPull(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	socket := admin(t, func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	var out, errs bytes.Buffer
	dir := t.TempDir()
	status := run(ctx, []string{"audit", "pull", "--admin", socket, "-o", filepath.Join(dir, "b.tar")}, nil, &out, &errs)
	if status != exitFault || !strings.Contains(errs.String(), "pulling bundle: context canceled") {
		t.Errorf("status %d: %s", status, errs.String())
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("%d files are left", len(left))
	}
}

func TestProgressIsForTerminals(t *testing.T) {
	var told, file bytes.Buffer
	p := &progress{w: &file, to: &told}
	for range 5 {
		if _, err := p.Write(make([]byte, 600<<10)); err != nil {
			t.Fatal(err)
		}
	}
	p.end()
	if got, want := told.String(), "\r1 MiB\r2 MiB\n"; got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	if terminal(&told) != nil {
		t.Error("a buffer passes for a terminal")
	}
}

// genesisServer answers with an act over TLS, and returns the arguments that reach it.
func genesisServer(t *testing.T, act []byte) []string {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/genesis" {
			w.WriteHeader(http.StatusNotFound)
		}
		w.Write(act)
	}))
	t.Cleanup(srv.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	return []string{"genesis", "fetch", "--server", srv.URL, "--ca", ca}
}

func TestGenesisFetch(t *testing.T) {
	k := newKit(t)
	act := k.files["genesis.act"]
	b := must(record.DecodeBundle(act))(t)
	digest := statement.DigestOf(must(statement.Decode(b[0], statement.MaxStatement))(t).Payload())
	args := append(genesisServer(t, act), "-o", filepath.Join(t.TempDir(), "g.act"))
	out := args[len(args)-1]
	if status, _, stderr := call(t, append(args, "--digest", strings.Repeat("0", 64))...); status != exitDenied || !strings.Contains(stderr, "305 KEY_UNKNOWN") {
		t.Errorf("another digest: status %d: %s", status, stderr)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("a refused genesis was written")
	}
	for _, pin := range []string{"", digest.String()} {
		status, stdout, stderr := call(t, append(args, "--digest", pin)...)
		if status != exitYes || !strings.Contains(stdout, digest.String()) {
			t.Errorf("pin %q: status %d: %s%s", pin, status, stdout, stderr)
		}
	}
	if got := must(os.ReadFile(out))(t); !bytes.Equal(got, act) {
		t.Error("the file is not the act")
	}
}

func TestGenesisThatNobodySignedIsRefused(t *testing.T) {
	k := newKit(t)
	b := must(record.DecodeBundle(k.files["genesis.act"]))(t)
	b[0][len(b[0])-1] ^= 1
	args := genesisServer(t, must(b.Encode())(t))
	if status, _, stderr := call(t, append(args, "-o", filepath.Join(t.TempDir(), "g.act"))...); status != exitDenied || !strings.Contains(stderr, "301 SIGNATURE_INVALID") {
		t.Errorf("status %d: %s", status, stderr)
	}
}

// A pull that broke off goes on where it ended, and ends in the same bytes.
func TestPullGoesOn(t *testing.T) {
	bundle, calls := bytes.Repeat([]byte("bundle"), 1<<18), 0
	socket := admin(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", `"one"`)
		if calls++; calls == 1 {
			w.Header().Set("Content-Length", "1572864")
			w.Write(bundle[:1<<20])
			panic(http.ErrAbortHandler)
		}
		if r.Header.Get("If-Range") != `"one"` || r.Header.Get("Range") == "" {
			t.Errorf("call %d asks with %v", calls, r.Header)
		}
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(bundle))
	})
	dir := t.TempDir()
	out := filepath.Join(dir, "b.tar")
	if status, _, stderr := call(t, "audit", "pull", "--admin", socket, "-o", out); status != exitFault || stderr == "" {
		t.Fatalf("broken off: status %d: %s", status, stderr)
	}
	if _, err := os.Stat(out); err == nil {
		t.Error("half a bundle has the name of a whole one")
	}
	if status, _, stderr := call(t, "audit", "pull", "--admin", socket, "-o", out); status != exitYes {
		t.Fatalf("going on: status %d: %s", status, stderr)
	}
	if got, err := os.ReadFile(out); err != nil || !bytes.Equal(got, bundle) {
		t.Errorf("the file holds %d bytes (%v)", len(got), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d files are left", len(left))
	}
}

func TestK21_StatusOfAHeldHost(t *testing.T) {
	answer := `{"id":"spiffe://example/host/a","labels":{"env":"test"},"ek":"aa","ak":"bb","gate":"https://gate.example/a"`
	var asked string
	socket := admin(t, func(w http.ResponseWriter, r *http.Request) {
		asked = r.URL.Query().Get("id")
		fmt.Fprint(w, answer+"}")
	})
	args := []string{"host", "status", "--admin", socket, "--id", "spiffe://example/host/a"}
	if status, stdout, stderr := call(t, args...); status != exitYes || asked != "spiffe://example/host/a" || !strings.Contains(stdout, "label env=test") || strings.Contains(stdout, "held") {
		t.Errorf("got %d, %q, %q, asked for %q", status, stdout, stderr, asked)
	}
	answer += `,"held":"2026-11-30T12:00:00Z"`
	if status, stdout, stderr := call(t, append(args, "--json")...); status != exitDenied || !strings.Contains(stdout, `"held":"2026-11-30T12:00:00Z"`) || !strings.Contains(stderr, "507") {
		t.Errorf("got %d, %q, %q", status, stdout, stderr)
	}
	for name, args := range map[string][]string{"no id": {"--admin", socket}, "no socket": {"--id", "spiffe://example/host/a"}} {
		if status, _, _ := call(t, append([]string{"host", "status"}, args...)...); status != exitMisuse {
			t.Errorf("%s: got %d", name, status)
		}
	}
	answer += `,"more":1`
	if status, _, _ := call(t, args...); status != exitFault {
		t.Errorf("another answer: got %d", status)
	}
}
