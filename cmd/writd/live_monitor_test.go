package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/governed-execution/writ/record"
)

// TestMonitorFollowsKeys lets the program writ monitor an issuer that is served while its log key is replaced: it goes on. Then an older
// history of the keys is served, as an operator would who wants an old key believed again: that is an alarm, with both histories
// kept, and stays one when the monitor is started again (T07, T09).
func TestMonitorFollowsKeys(t *testing.T) {
	l := newLive(t, softTable(softToken(t)))
	program := l.writ()
	l.serve()
	l.admit()
	l.write("trust.toml", []byte(l.must("trust", "--audience", liveGate)))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(must(os.ReadFile(l.path("tls.pem")))(t))
	front := must(url.Parse(l.url))(t)
	proxy := httputil.NewSingleHostReverseProxy(front)
	proxy.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	var older atomic.Pointer[[]byte] // what is served as the history of the keys; nil: the issuer's own
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if history := older.Load(); history != nil && r.URL.Path == "/v1/keys" {
			w.Header().Set("Content-Type", "application/cbor")
			_, _ = w.Write(*history)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	srv.StartTLS()
	defer srv.Close()
	l.write("front.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}))
	monitor := func(args ...string) (*exec.Cmd, *transcript) {
		var said transcript
		cmd := exec.Command(program, append([]string{"monitor", "--trust", l.path("trust.toml"), "--server", srv.URL, "--ca", l.path("front.pem"),
			"--dir", l.path("monitor")}, args...)...)
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill() })
		return cmd, &said
	}
	running, said := monitor("--every", "50ms")
	within(t, "it has looked", func() bool { return strings.Contains(said.String(), "continues the ") })
	before := must(l.client.Keys(t.Context()))(t)
	for n, purpose := range []string{record.PurposeLog, record.PurposeRecord, record.PurposeLog} {
		l.change("rotate", purpose)
		within(t, "it has followed the keys", func() bool {
			_, later, found := strings.Cut(said.String(), "keys have changed: "+string(rune('1'+n))+" changes are followed")
			return found && strings.Contains(later, "continues the ")
		})
	}
	size := l.must("fsck")
	size, _, _ = strings.Cut(size, " ")
	within(t, "it has seen a checkpoint by the new log key", func() bool { return strings.Contains(said.String(), ": "+size+" entries") })

	older.Store(&before)
	refused := func(cmd *exec.Cmd, said *transcript) {
		t.Helper()
		var exit *exec.ExitError
		if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(said.String(), "508 STATE_ROLLBACK") {
			t.Errorf("got %v of a history that was rolled back:\n%s", err, said)
		}
	}
	refused(running, said)
	again, said := monitor()
	refused(again, said)
	kept, shown := must(os.ReadFile(filepath.Join(l.path("monitor"), "key-history")))(t), must(os.ReadFile(filepath.Join(l.path("monitor"), "refused.key-history")))(t)
	if string(shown) != string(before) || len(kept) <= len(before) {
		t.Errorf("kept %d bytes, and as refused %d, of histories of which the refused one has %d", len(kept), len(shown), len(before))
	}
	older.Store(nil)
	once, said := monitor()
	if err := once.Wait(); err != nil {
		t.Errorf("got %v of the issuer's own history:\n%s", err, said)
	}
}
