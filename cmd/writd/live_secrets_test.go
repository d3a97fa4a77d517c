package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/secret"
	"github.com/governed-execution/writ/test/softhsm"
)

// TestH18_NoSecretInAWholeRun goes the whole way of an issuer, with everything that goes wrong, and searches for the PIN, the private key of
// TLS and the challenges: in all that its processes print, in their arguments and environment, in every answer and in every file. The search
// finds each of them where it must be, so that it would find it elsewhere.
func TestH18_NoSecretInAWholeRun(t *testing.T) {
	soft := softhsm.New(t)
	l := newLive(t, softTable(soft))
	hidden := secret.Set{}
	hidden.Add("the PIN", bytes.TrimSpace(must(os.ReadFile(soft.PINFile))(t)))
	block, _ := pem.Decode(must(os.ReadFile(l.path("tls.key")))(t))
	tlsKey := must(must(x509.ParsePKCS8PrivateKey(block.Bytes))(t).(*ecdsa.PrivateKey).Bytes())(t)
	hidden.Add("the TLS key", tlsKey)
	var answers bytes.Buffer // of the issuer, on both listeners
	hear := func(err error) {
		t.Helper()
		if err == nil {
			t.Error("what should have been refused was not")
		} else {
			fmt.Fprintln(&answers, err)
		}
	}

	l.must("doctor", "--try")
	l.must("keys", "list", "--json")
	l.serve()
	l.admit()
	m := l.enrol("spiffe://example/host/a")
	defer m.close()
	answers.Write(m.asked())

	// Challenges: one that is answered, one that is not, one that is answered on another connection.
	first, second := must(l.client.Dial(t.Context()))(t), must(l.client.Dial(t.Context()))(t)
	defer first.Close()
	defer second.Close()
	answered, open := must(first.Challenge(t.Context()))(t), must(first.Challenge(t.Context()))(t)
	hidden.Add("an answered challenge", answered.Challenge)
	hidden.Add("open challenge", open.Challenge)
	must(m.answer(t.Context(), first, answered))(t)
	_, err := m.answer(t.Context(), first, answered)
	hear(err)
	_, err = m.answer(t.Context(), second, open)
	hear(err)
	_, err = first.Mint(t.Context(), []byte("junk"), append([]byte("junk"), open.Challenge...))
	hear(err)

	// The admin socket, and what is not there.
	admin := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", l.path("admin.sock"))
	}}}
	for _, route := range []string{"/metrics", "/healthz", "/v1/export", "/v1/hosts?id=spiffe://example/host/a", "/nosuch?pin=1", "/v1/holds", "/debug/pprof/cmdline"} {
		resp := must(admin.Get("http://writd" + route))(t)
		must(io.Copy(&answers, resp.Body))(t)
		resp.Body.Close()
	}

	// The signer process crashes; its PIN is asked for again.
	old := l.signers()
	if len(old) != 1 {
		t.Fatalf("got signer processes %v, want one", old)
	}
	if err := syscall.Kill(old[0], syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	within(t, "another signer process serves", func() bool { now := l.signers(); return len(now) == 1 && now[0] != old[0] })
	within(t, "artifacts are minted again", func() bool {
		_, err := m.ask(t.Context())
		if err != nil && !denial.Is(err, denial.HSMUnavailable) {
			t.Fatalf("got %v", err)
		}
		return err == nil
	})
	for _, pid := range append(l.signers(), l.serving.Process.Pid) {
		l.searchProcess(pid, hidden)
	}
	l.must("backup", l.path("backup"))
	l.stop()

	// A wrong PIN, and one that others can read.
	l.token(tokenTable(soft.Module, soft.Label, l.path("wrong.pin"), soft.Env()))
	hidden.Add("a wrong PIN", []byte("hunter2-hunter2"))
	l.write("wrong.pin", []byte("hunter2-hunter2\n"))
	for _, mode := range []fs.FileMode{0o600, 0o644} {
		if err := os.Chmod(l.path("wrong.pin"), mode); err != nil {
			t.Fatal(err)
		}
		for _, command := range []string{"serve", "doctor", "keys list"} {
			if status, out := l.status(strings.Fields(command)...); status == 0 {
				t.Errorf("%s with a wrong PIN: %s", command, out)
			}
		}
	}

	// Everything that was said. It was said, and not to nobody.
	if said := l.said.String(); len(said) < 1000 || !strings.Contains(said, "serving") || answers.Len() < 5000 {
		t.Errorf("got %d bytes of output and %d of answers: the search is of nothing", len(said), answers.Len())
	}
	for _, name := range hidden.In([]byte(l.said.String())) {
		t.Errorf("%s is in the output of writd", name)
	}
	// Records and exports hold challenges that were answered, and no others.
	for _, name := range hidden.Without("an answered").In(answers.Bytes()) {
		t.Errorf("%s is in an answer", name)
	}
	found := map[string]bool{}
	for _, dir := range []string{l.dir, filepath.Dir(soft.ConfPath), "."} {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() || strings.HasSuffix(path, "_test.go") {
				return err
			}
			if strings.HasPrefix(d.Name(), "core") {
				t.Errorf("a core file was written: %s", path)
			}
			data, err := os.ReadFile(path)
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			for _, name := range hidden.Without("an answered").In(data) {
				if path == soft.PINFile || path == l.path("wrong.pin") || path == l.path("tls.key") {
					found[filepath.Base(path)] = true
					continue
				}
				t.Errorf("%s is in %s", name, path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(found) != 3 {
		t.Errorf("found secrets in %v, want in the three files that hold them: the search is wrong", found)
	}
	if got := hidden.In(must(os.ReadFile(l.path("log.db")))(t)); len(got) != 1 || got[0] != "an answered challenge" {
		t.Errorf("found %v in the log, want the answered challenge alone", got)
	}
}

// searchProcess looks at what other processes can see of one: arguments, environment and limits. A process that has closed itself
// to its user is closed to this one too, unless it is root's.
func (l *live) searchProcess(pid int, hidden secret.Set) {
	l.Helper()
	for _, name := range []string{"cmdline", "environ", "status", "limits", "comm"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if errors.Is(err, fs.ErrPermission) && os.Geteuid() != 0 {
			continue
		}
		if err != nil {
			l.Fatal(err)
		}
		for _, what := range hidden.In(data) {
			l.Errorf("%s is in /proc/%d/%s", what, pid, name)
		}
		if name == "limits" && !strings.Contains(string(data), "Max core file size        0                    0") {
			l.Errorf("process %d may write core files: %s", pid, data)
		}
	}
}
