package console

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/need"
	"github.com/governed-execution/writ/test/npm"
)

// chromium returns the browser, or skips.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	need.Missing(t, "Chromium is needed; test/deps/install chromium installs it")
	return ""
}

// front answers a browser, which has no client certificate, on loopback, and asks the console with one.
func (s *site) front(cert *tls.Certificate) string { return s.frontOf(s.address, cert) }

func (s *site) frontOf(address string, cert *tls.Certificate) string {
	s.Helper()
	target := &url.URL{Scheme: "https", Host: address}
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }, Transport: s.client(cert).Transport}
	srv := httptest.NewServer(proxy)
	s.Cleanup(srv.Close)
	return srv.URL
}

// browse has a browser load a page, and returns its document and what the browser complained about.
func browse(t *testing.T, args ...string) (document, complaints string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, chromium(t), append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-extensions", "--no-first-run",
		"--hide-scrollbars", "--enable-logging=stderr", "--user-data-dir=" + t.TempDir()}, args...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("running Chromium: %v\n%s", err, errs.String())
	}
	for line := range strings.Lines(errs.String()) {
		if strings.Contains(line, "CONSOLE") {
			complaints += line
		}
	}
	return out.String(), complaints
}

// Pages look as they should in a real browser: the policy on content lets the style sheet through, and nothing breaks it.
func TestPagesInARealBrowser(t *testing.T) {
	chromium(t)
	s := open(t)
	base := s.front(s.enrol("Ada Auditor", Auditor))
	for path, want := range map[string]string{"/decisions": "SECURE_BOOT_OFF", "/lineage/" + s.execution(): "<svg"} {
		document, complaints := browse(t, "--dump-dom", base+path)
		if !strings.Contains(document, want) || complaints != "" {
			t.Errorf("%s: complaints %q, document of %d bytes", path, complaints, len(document))
		}
	}
	hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.console.headers(w, "text/html")
		_, _ = w.Write([]byte(`<p id="a">quiet</p><script>document.getElementById("a").textContent="a script ran"</script>`))
	}))
	defer hostile.Close()
	if document, complaints := browse(t, "--dump-dom", hostile.URL); strings.Contains(document, ">a script ran") || complaints == "" {
		t.Errorf("under the headers of the console a script runs: %q %q", document, complaints)
	}
}

// TestScreenshots makes the pictures of docs/, and leaves them in the directory SCREENSHOTS if it is set: make screenshots.
func TestScreenshots(t *testing.T) {
	chromium(t)
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	s := open(t)
	base := s.front(s.enrol("Ada Auditor", Auditor))
	for name, shot := range map[string]struct{ url, size string }{
		"console-overview":  {base + "/", "1280,860"},
		"console-decisions": {base + "/decisions", "1280,640"},
		"console-denied":    {base + "/entries/" + index(s.refused), "1280,1460"},
		"console-permitted": {base + "/entries/" + index(s.permit.Index), "1280,1480"},
		"console-lineage":   {base + "/lineage/" + s.execution(), "1960,1290"},
		"console-hosts":     {base + "/hosts", "1280,480"},
		"console-policies":  {base + "/policies", "1280,1010"},
		"console-keys":      {base + "/keys", "1280,860"},
		"console-signin":    {s.frontOf(s.openSignIn(nil).address, nil) + "/decisions", "1280,420"},
		"console-log":       {base + "/log", "1280,1110"},
		"report":            {"file://" + s.auditReport(t), "1180,4700"},
	} {
		path := filepath.Join(dir, name+".png")
		browse(t, "--window-size="+shot.size, "--screenshot="+path, shot.url)
		if info, err := os.Stat(path); err != nil || info.Size() < 10<<10 {
			t.Errorf("%s: no picture (%v)", name, err)
		}
	}
}

// auditReport writes the report of the whole log as an auditor does, and returns its path.
func (s *site) auditReport(t *testing.T) string {
	t.Helper()
	b := issuertest.Must(audit.Build(s.Ctx, s.Tree, s.Issuer, audit.Query{}))(t)
	defer b.Close()
	var bundle, page bytes.Buffer
	if err := b.Write(s.Ctx, &bundle); err != nil {
		t.Fatal(err)
	}
	account := issuertest.Must(audit.Tell(s.Ctx, &bundle, s.Trust(), audit.Options{Now: s.Now()}))(t)
	if err := account.Report.Err(); err != nil {
		t.Fatal(err)
	}
	if err := audit.WriteReport(&page, account); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(path, page.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// signInAt runs an OpenID Connect provider that others wrote, and returns the address, the authorization endpoint and the keys.
func signInAt(t *testing.T, redirect string) (issuer, authorize string, keys []byte) {
	t.Helper()
	dir := npm.Install(t, filepath.Join("..", "test", "oidc"), "package.json", "provider.js")
	run := exec.Command("node", filepath.Join(dir, "provider.js"), testClient, redirect, testSubject)
	stdin := issuertest.Must(run.StdinPipe())(t)
	stdout := bufio.NewReader(issuertest.Must(run.StdoutPipe())(t))
	var said bytes.Buffer
	run.Stderr = &said
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		if err := run.Wait(); err != nil || t.Failed() {
			t.Errorf("provider: %v\n%s", err, said.String())
		}
	})
	var about struct {
		Issuer, Authorize string
		Keys              json.RawMessage
	}
	if err := json.Unmarshal(issuertest.Must(stdout.ReadBytes('\n'))(t), &about); err != nil {
		t.Fatal(err)
	}
	return about.Issuer, about.Authorize, about.Keys
}

// TestSignInInARealBrowser: Chromium follows from the console to the provider of others and back, with its own rules for
// cookies, redirections and forms.
func TestSignInInARealBrowser(t *testing.T) {
	chromium(t)
	s := open(t)
	g := s.openSignIn(func(address string, o *SignIn) {
		var keys []byte
		o.Issuer, o.Authorize, keys = signInAt(t, address+"/signin")
		o.Keys = func() ([]byte, error) { return keys, nil }
	})
	s.Advance(time.Since(s.Now())) // the provider's is that of the machine
	s.mu.Lock()
	s.readers = []Reader{{Name: "Ada", Issuer: g.signIn.Issuer, Subject: testSubject, Roles: []Role{Auditor}}}
	s.mu.Unlock()
	pin := pin(g.leaf)
	document, complaints := browse(t, "--dump-dom", pin, g.signIn.Address+"/decisions")
	if !strings.Contains(document, "Sign in") || strings.Contains(document, issuertest.Robot) || complaints != "" {
		t.Errorf("a stranger sees %q, complaints %q", document, complaints)
	}
	to := g.signIn.Address + "/signin?to=/entries/" + index(s.refused) // a page that does not load itself again
	document, complaints = browse(t, "--dump-dom", "--virtual-time-budget=20000", pin, to)
	if !strings.Contains(document, "Ada · auditor") || !strings.Contains(document, "608 SECURE_BOOT_OFF") || complaints != "" {
		t.Errorf("after signing in: complaints %q, document %q", complaints, document)
	}
	s.mu.Lock()
	s.readers[0].Subject = "somebody else"
	s.mu.Unlock()
	if document, _ = browse(t, "--dump-dom", "--virtual-time-budget=20000", pin, to); !strings.Contains(document, "You are not signed in") {
		t.Errorf("somebody else sees %q", document)
	}
}

// pin has Chromium take a certificate that no authority of its own has signed.
func pin(c *x509.Certificate) string {
	spki := SPKIOf(c)
	return "--ignore-certificate-errors-spki-list=" + base64.StdEncoding.EncodeToString(spki[:])
}
