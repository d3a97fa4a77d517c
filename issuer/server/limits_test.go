package server

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// admin gets a path from the admin socket.
func (s *site) admin(path string) heard {
	s.Helper()
	conn := issuertest.Must(net.Dial("unix", s.socket))(s)
	defer conn.Close()
	issuertest.Must(io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n"))(s)
	return s.hear(conn)
}

// post is a request with a body.
func post(path, media, body string, headers ...string) string {
	text := "POST " + path + " HTTP/1.1\r\nHost: issuer\r\n"
	if media != "" {
		text += "Content-Type: " + media + "\r\n"
	}
	for _, h := range headers {
		text += h + "\r\n"
	}
	return text + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

func bare(method, path string, headers ...string) string {
	return method + " " + path + " HTTP/1.1\r\nHost: issuer\r\n" + strings.Join(append(headers, ""), "\r\n") + "\r\n"
}

func TestStrangersHearTheConditionAndNothingElse(t *testing.T) {
	s := open(t, Limits{}, nil)
	long := strings.Repeat("x", maxBody+1)
	mint := string(issuertest.Must(statement.Marshal(wire.Mint{Request: []byte("noise"), Evidence: []byte("noise")}))(t))
	for _, row := range []struct {
		name, text string
		reason     denial.Reason
		status     int
	}{
		{"A11 no content type", post("/v1/artifacts", "", mint), denial.RequestLimit, http.StatusUnsupportedMediaType},
		{"A11 another content type", post("/v1/artifacts", "application/cbor", mint), denial.RequestLimit, http.StatusUnsupportedMediaType},
		{"A11 a parameter", post("/v1/artifacts", wire.MediaMint+"; charset=utf-8", mint), denial.RequestLimit, http.StatusUnsupportedMediaType},
		{"A11 two content types", post("/v1/artifacts", wire.MediaMint, mint, "Content-Type: "+wire.MediaMint), denial.RequestLimit, http.StatusUnsupportedMediaType},
		{"A09 gzip", post("/v1/artifacts", wire.MediaMint, mint, "Content-Encoding: gzip"), denial.RequestLimit, http.StatusUnsupportedMediaType},
		{"A09 identity", post("/v1/artifacts", wire.MediaMint, mint, "Content-Encoding: identity"), denial.RequestLimit, http.StatusUnsupportedMediaType},
		{"A07 too long, as declared", bare("POST", "/v1/artifacts", "Content-Type: "+wire.MediaMint, "Content-Length: 9999999999"), denial.RequestLimit, http.StatusRequestEntityTooLarge},
		{"A07 enrolment too long", post("/v1/enrol", wire.MediaEnrol, long), denial.RequestLimit, http.StatusRequestEntityTooLarge},
		{"A07 activation too long", post("/v1/enrol/activate", wire.MediaActivation, long), denial.RequestLimit, http.StatusRequestEntityTooLarge},
		{"A07 record too long", post("/v1/records", wire.MediaStatement, long), denial.RequestLimit, http.StatusRequestEntityTooLarge},
		{"A07 act too long", bare("POST", "/v1/acts/policy", "Content-Type: "+wire.MediaAct, "Content-Length: 2000000"), denial.RequestLimit, http.StatusRequestEntityTooLarge},
		{"A08 chunks without end", bare("POST", "/v1/enrol", "Content-Type: "+wire.MediaEnrol, "Transfer-Encoding: chunked") +
			strings.Repeat("8000\r\n"+strings.Repeat("x", 0x8000)+"\r\n", 4), denial.RequestLimit, http.StatusRequestEntityTooLarge},
		{"A08 chunks that break off", bare("POST", "/v1/enrol", "Content-Type: "+wire.MediaEnrol, "Transfer-Encoding: chunked") + "4\r\nabcd\r\nZZ\r\n", denial.RequestLimit, http.StatusRequestTimeout},
		{"a challenge with a body", post("/v1/challenges", "", "x"), denial.RequestLimit, http.StatusRequestEntityTooLarge},
		{"a challenge with a content type", post("/v1/challenges", "text/plain", ""), denial.RequestLimit, http.StatusUnsupportedMediaType},
		{"A10 no such route", bare("GET", "/v2/challenges"), denial.NotPermitted, http.StatusNotFound},
		{"A10 the root", bare("GET", "/"), denial.NotPermitted, http.StatusNotFound},
		{"A10 another method", bare("GET", "/v1/challenges"), denial.NotPermitted, http.StatusMethodNotAllowed},
		{"A10 DELETE", bare("DELETE", "/v1/genesis"), denial.NotPermitted, http.StatusMethodNotAllowed},
		{"A10 OPTIONS of all", bare("OPTIONS", "*"), denial.NotPermitted, http.StatusNotFound},
		{"A10 TRACE", bare("TRACE", "/v1/genesis"), denial.NotPermitted, http.StatusMethodNotAllowed},
		{"A10 a method that nobody knows", bare("MINT", "/v1/artifacts"), denial.NotPermitted, http.StatusMethodNotAllowed},
		{"A10 method override", post("/v1/genesis", "", "", "X-HTTP-Method-Override: GET"), denial.NotPermitted, http.StatusMethodNotAllowed},
		{"A10 two slashes", bare("GET", "//v1/genesis"), denial.NotPermitted, http.StatusNotFound},
		{"A10 two slashes within", bare("GET", "/v1//genesis"), denial.NotPermitted, http.StatusNotFound},
		{"A10 an encoded slash", bare("GET", "/v1%2fgenesis"), denial.NotPermitted, http.StatusNotFound},
		{"A10 up and down", bare("GET", "/v1/x/../genesis"), denial.NotPermitted, http.StatusNotFound},
		{"A10 up and down, encoded", bare("GET", "/v1/status/%2e%2e/genesis"), denial.NotPermitted, http.StatusNotFound},
		{"A10 a slash behind", bare("GET", "/v1/genesis/"), denial.NotPermitted, http.StatusNotFound},
		{"A10 in capitals", bare("GET", "/V1/GENESIS"), denial.NotPermitted, http.StatusNotFound},
		{"an act of no kind", post("/v1/acts/genesis", wire.MediaAct, ""), denial.NotPermitted, http.StatusNotFound},
		{"an act of a kind with a slash", post("/v1/acts/policy%2f", wire.MediaAct, ""), denial.NotPermitted, http.StatusNotFound},
		{"a list that is no number", bare("GET", "/v1/status/x"), denial.NotPermitted, http.StatusNotFound},
		{"a list with a zero before it", bare("GET", "/v1/status/00"), denial.NotPermitted, http.StatusNotFound},
		{"a list with a sign", bare("GET", "/v1/status/+0"), denial.NotPermitted, http.StatusNotFound},
		{"a list that no artifact names", bare("GET", "/v1/status/7"), denial.NotPermitted, http.StatusNotFound},
		{"A21 metrics", bare("GET", "/metrics"), denial.NotPermitted, http.StatusNotFound},
		{"A21 pprof", bare("GET", "/debug/pprof/"), denial.NotPermitted, http.StatusNotFound},
		{"A21 exports", bare("GET", "/v1/exports"), denial.NotPermitted, http.StatusNotFound},
		{"A21 hosts", bare("GET", "/v1/hosts?id=x"), denial.NotPermitted, http.StatusNotFound},
		{"mint: not CBOR", post("/v1/artifacts", wire.MediaMint, "noise"), denial.StructureLimit, http.StatusForbidden},
		{"mint: noise within", post("/v1/artifacts", wire.MediaMint, mint), denial.WrongType, http.StatusForbidden},
		{"mint: a byte more", post("/v1/artifacts", wire.MediaMint, mint+"x"), denial.TrailingData, http.StatusForbidden},
		{"enrolment: noise", post("/v1/enrol", wire.MediaEnrol, "noise"), denial.StructureLimit, http.StatusForbidden},
		{"activation: of nothing", post("/v1/enrol/activate", wire.MediaActivation, "\xa1\x01\x41\x00"), denial.ChallengeUnknown, http.StatusForbidden},
		{"act: noise", post("/v1/acts/policy", wire.MediaAct, "noise"), denial.StructureLimit, http.StatusForbidden},
		{"act: of nobody", post("/v1/acts/policy", wire.MediaAct, "\x81\x41\x00"), denial.WrongType, http.StatusForbidden},
		{"record: noise", post("/v1/records", wire.MediaStatement, "noise"), denial.WrongType, http.StatusForbidden},
	} {
		t.Run(row.name, func(t *testing.T) {
			before := s.counts()[row.reason.Code()]
			size := s.Size()
			a := s.say(row.text)
			wantStatus(t, a, row.reason, row.status)
			if allow := a.header.Get("Allow"); (row.status == http.StatusMethodNotAllowed) != (allow != "") {
				t.Errorf("HTTP %d with Allow: %q", a.status, allow)
			}
			if got := s.counts()[row.reason.Code()]; got != before+1 || s.Size() != size {
				t.Errorf("counted %d times with %s, want once; %d entries more, want none", got-before, row.reason, s.Size()-size)
			}
		})
	}
	s.alive()
}

func TestA07_HeadersAreLimited(t *testing.T) {
	s := open(t, Limits{}, nil)
	if a := s.say(bare("GET", "/v1/genesis", "X-Filler: "+strings.Repeat("x", 12<<10))); a.status != http.StatusOK {
		t.Errorf("12 KiB of headers: HTTP %d", a.status)
	}
	if a := s.say(bare("GET", "/v1/genesis", "X-Filler: "+strings.Repeat("x", 24<<10))); a.status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("24 KiB of headers: HTTP %d", a.status)
	}
	s.alive()
}

func TestA05_A12_RateIsLimitedByTheAddressThatConnects(t *testing.T) {
	s := open(t, Limits{PeerRate: 5}, nil)
	limited := false
	for n := range 10 {
		conn, err := tls.Dial("tcp", s.address, s.config())
		if err != nil {
			limited = true // the connection itself
			break
		}
		issuertest.Must(io.WriteString(conn, bare("GET", "/v1/genesis", fmt.Sprintf("X-Forwarded-For: 192.0.2.%d", n), fmt.Sprintf("X-Real-IP: 192.0.2.%d", n))))(t)
		a := s.hear(conn)
		conn.Close()
		if a.status == http.StatusServiceUnavailable {
			limited = true
			wantProblem(t, a, denial.Overloaded)
			if a.header.Get("Retry-After") == "" {
				t.Error("no Retry-After")
			}
			break
		}
	}
	if !limited {
		t.Error("ten requests passed a limit of five")
	}
}

func TestLimiter(t *testing.T) {
	l, now := newLimiter(Limits{Rate: 100, PeerRate: 3}), time.Unix(0, 0)
	pass := func(peer string, n int) (passed int) {
		for range n {
			if l.allow(peer, now) {
				passed++
			}
		}
		return passed
	}
	if got := pass("a", 10); got != 3 {
		t.Errorf("got %d of one address, want 3", got)
	}
	if got := pass("b", 2); got != 2 {
		t.Errorf("got %d of another, want 2", got)
	}
	now = now.Add(time.Second)
	total := 0
	for n := range 200 {
		total += pass(fmt.Sprint("peer", n), 1)
	}
	if total != 100 {
		t.Errorf("got %d of all, want 100", total)
	}
	for n := range 3 * maxPeers {
		pass(fmt.Sprint("many", n), 1)
	}
	if len(l.peers) > maxPeers {
		t.Errorf("%d addresses are remembered", len(l.peers))
	}
	for addr, want := range map[string]string{"192.0.2.1:99": "192.0.2.1", "[2001:db8:1:2:3::4]:99": "2001:db8:1:2::", "[2001:db8:1:2:ffff::9]:1": "2001:db8:1:2::", "@": "@"} {
		if got := peerOf(addr); got != want {
			t.Errorf("peerOf(%q) = %q, want %q", addr, got, want)
		}
	}
}

// from opens a TCP connection from a loopback address of its own.
func (s *site) from(address string) net.Conn {
	s.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: 10 * time.Second}
	conn := issuertest.Must(d.DialContext(s.Ctx, "tcp", s.address))(s)
	s.Cleanup(func() { conn.Close() })
	return conn
}

// closedWithoutTLS reports whether the server closes the connection before it says anything.
func closedWithoutTLS(conn net.Conn) bool {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	n, err := conn.Read(make([]byte, 1))
	timeout, _ := err.(net.Error)
	return n == 0 && err != nil && (timeout == nil || !timeout.Timeout())
}

func TestA06_ConnectionsAreLimitedBeforeTLS(t *testing.T) {
	s := open(t, Limits{Connections: 5, PeerConnections: 2}, nil)
	first := s.from("127.0.0.2")
	s.from("127.0.0.2")
	if !closedWithoutTLS(s.from("127.0.0.2")) {
		t.Error("a third connection of one address")
	}
	s.from("127.0.0.3")
	s.alive() // one more of another
	first.Close()
	// The place is given back once the server has noticed: a new connection then gets as far as TLS.
	deadline := time.Now().Add(10 * time.Second)
	for {
		conn := tls.Client(s.from("127.0.0.2"), s.config())
		if conn.Handshake() == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the place of a closed connection is not given back")
		}
	}
}

func TestA06_SlowCallersDoNotStopOthers(t *testing.T) {
	s := open(t, Limits{PeerConnections: 300, PeerRate: 1000}, nil)
	for n := range 250 {
		conn := s.from("127.0.0.2")
		switch n % 3 {
		case 0: // no TLS at all
		case 1: // half a ClientHello
			issuertest.Must(conn.Write([]byte{0x16, 3, 1, 2, 0, 1}))(t)
		case 2: // half a request
			client := tls.Client(conn, s.config())
			issuertest.Must(io.WriteString(client, "POST /v1/artifacts HTTP/1.1\r\nHost: issuer\r\nX-"))(t)
		}
	}
	for range 5 {
		s.alive()
	}
}

func TestTimeoutsAreSet(t *testing.T) {
	s := open(t, Limits{}, nil)
	p := s.server.public
	if p.ReadHeaderTimeout != 5*time.Second || p.ReadTimeout != 15*time.Second || p.IdleTimeout <= 0 || p.WriteTimeout <= 0 || p.MaxHeaderBytes != 16<<10 {
		t.Errorf("got timeouts %s %s %s %s", p.ReadHeaderTimeout, p.ReadTimeout, p.WriteTimeout, p.IdleTimeout)
	}
}

func TestA24_OnlyTLS13(t *testing.T) {
	s := open(t, Limits{}, nil)
	for name, change := range map[string]func(*tls.Config){
		"TLS 1.2":    func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
		"HTTP/2":     func(c *tls.Config) { c.NextProtos = []string{"h2"} },
		"wrong CA":   func(c *tls.Config) { _, c.RootCAs = certificate(t) },
		"wrong name": func(c *tls.Config) { c.ServerName = "issuer.example" },
	} {
		cfg := s.config()
		change(cfg)
		if conn, err := tls.Dial("tcp", s.address, cfg); err == nil {
			conn.Close()
			t.Errorf("%s is taken", name)
		}
	}
	conn := s.raw()
	if v := conn.ConnectionState().Version; v != tls.VersionTLS13 {
		t.Errorf("got TLS version %x", v)
	}
}

func TestA02_OddNamesGetTheSameServer(t *testing.T) {
	s := open(t, Limits{}, nil)
	cfg := s.config()
	cfg.ServerName, cfg.InsecureSkipVerify = "metrics.internal", true
	conn := issuertest.Must(tls.Dial("tcp", s.address, cfg))(t)
	defer conn.Close()
	issuertest.Must(io.WriteString(conn, bare("GET", "/metrics")))(t)
	wantStatus(t, s.hear(conn), denial.NotPermitted, http.StatusNotFound)
}

func TestA25_NothingIsResumed(t *testing.T) {
	s := open(t, Limits{}, nil)
	cfg := s.config()
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	var exporters []string
	for range 3 {
		conn := issuertest.Must(tls.Dial("tcp", s.address, cfg))(t)
		issuertest.Must(io.WriteString(conn, bare("GET", "/v1/genesis", "Connection: close")))(t)
		s.hear(conn) // a ticket would come before it
		state := conn.ConnectionState()
		if state.DidResume {
			t.Error("a session was resumed")
		}
		exporters = append(exporters, string(issuertest.Must(state.ExportKeyingMaterial(wire.ExporterLabel, nil, 32))(t)))
		conn.Close()
	}
	if exporters[0] == exporters[1] || exporters[1] == exporters[2] {
		t.Error("two connections have one exporter")
	}
}

func TestA23_PanicsAreDenials(t *testing.T) {
	s := open(t, Limits{}, func(srv *Server) {
		routes := srv.public.Handler
		srv.public.Handler = srv.recover(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/panic" {
				var m map[string]int
				m["x"] = 1
			}
			if r.URL.Path == "/abort" {
				panic(http.ErrAbortHandler)
			}
			routes.ServeHTTP(w, r)
		}))
	})
	wantProblem(t, s.say(bare("GET", "/panic")), denial.Internal)
	if got := s.counts()[denial.Internal.Code()]; got != 1 {
		t.Errorf("counted %d panics, want 1", got)
	}
	conn := s.raw()
	issuertest.Must(io.WriteString(conn, bare("GET", "/abort")))(t)
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("an answer that was to be cut off is answered")
	}
	if got := s.counts()[denial.Internal.Code()]; got != 1 {
		t.Errorf("counted %d panics after an answer was cut off, want 1", got)
	}
	// In the middle of a decision it is a denial like any other.
	s.Keys[record.PurposeArtifact].Once(func() { panic("the token's driver") })
	_, err := s.mint(s.dial(), issuertest.Spoil{})
	if p := refused(t, err, denial.Internal); !p.Logged {
		t.Error("a panic in the middle of a decision is not logged")
	}
	// While that denial is made it is a fault of the transport.
	s.Keys[record.PurposeRecord].Once(func() { panic("the token's driver") })
	_, err = s.mint(s.dial(), issuertest.Spoil{Claims: func(c *artifact.RequestClaims) { c.Lifetime = 601 }})
	refusedAsStranger(t, err, denial.ConditionUndecidable)
	s.alive()
}

func TestServeEndsWithALastSummary(t *testing.T) {
	before := runtime.NumGoroutine()
	s := open(t, Limits{}, nil)
	s.say(bare("GET", "/nothing"))
	s.say(bare("GET", "/nothing"))
	session := s.dial()
	issuertest.Must(session.Challenge(s.Ctx))(t) // idle from now on
	size := s.Size()
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if r := s.Record(size); s.Size() != size+1 || r.Event != record.EventSummary || r.Counts[uint64(denial.NotPermitted.Code())] != 2 {
		t.Errorf("got record %+v", r)
	}
	if conn, err := tls.Dial("tcp", s.address, s.config()); err == nil {
		conn.Close()
		t.Error("the issuer still listens")
	}
	session.Close()
	if err := s.Tree.Close(); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(20 * time.Second)
	for runtime.NumGoroutine() > before+2 { // the closed client's own may linger
		select {
		case <-deadline:
			buf := make([]byte, 1<<16)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestListenerThatFailsEndsServe(t *testing.T) {
	s := open(t, Limits{}, nil)
	l := issuertest.Must(net.Listen("tcp", "127.0.0.1:0"))(t)
	l.Close()
	cert, _ := certificate(t)
	other := New(Options{Issuer: s.Issuer, Certificate: cert})
	if err := other.Serve(s.Ctx, l, nil); err == nil {
		t.Error("Serve returned nil without a listener")
	}
}

// TestTheOwnerIsToldWhyThereIsNoBundle: who has the admin socket is no stranger, and counts as none.
func TestTheOwnerIsToldWhyThereIsNoBundle(t *testing.T) {
	s := open(t, Limits{}, nil)
	answer := s.admin("/v1/exports?from=1&to=9000")
	p, err := denial.ParseProblem(answer.body)
	if err != nil || p.Details == nil || p.Details.Code != denial.RequestLimit.Code() || p.Details.Detail == "" {
		t.Errorf("got %d %s (%v), want 908 and why", answer.status, answer.body, err)
	}
}
