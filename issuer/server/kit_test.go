package server

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/client"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/test/issuertest"
)

// site is an issuer behind a real listener on loopback.
type site struct {
	*issuertest.World
	server  *Server
	address string
	roots   *x509.CertPool
	client  *client.Client
	socket  string
	stop    context.CancelFunc
	ended   chan error
}

// certificate returns a self-signed certificate for loopback.
func certificate(tb testing.TB) (tls.Certificate, *x509.CertPool) {
	tb.Helper()
	key := issuertest.Must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(tb)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign}
	der := issuertest.Must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(tb)
	pool := x509.NewCertPool()
	pool.AddCert(issuertest.Must(x509.ParseCertificate(der))(tb))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

// open serves a whole issuer. The function may change the server before it listens.
func open(tb testing.TB, l Limits, change func(*Server)) *site {
	tb.Helper()
	s := &site{World: issuertest.New(tb), ended: make(chan error, 1)}
	public := issuertest.Must(net.Listen("tcp", "127.0.0.1:0"))(tb)
	s.address = public.Addr().String()
	s.Base = "https://" + s.address
	s.Reopen()
	s.socket = filepath.Join(tb.TempDir(), "admin.sock")
	admin := issuertest.Must(net.Listen("unix", s.socket))(tb)
	cert, roots := certificate(tb)
	s.roots = roots
	s.server = New(Options{Issuer: s.Issuer, Certificate: cert, Limits: l})
	if change != nil {
		change(s.server)
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	go func() { s.ended <- s.server.Serve(ctx, public, admin) }()
	tb.Cleanup(func() { s.close() })
	s.client = issuertest.Must(client.New(s.Base, roots))(tb)
	return s
}

// close stops serving and returns what Serve returned.
func (s *site) close() error {
	s.stop()
	err := <-s.ended
	s.ended <- err
	return err
}

// dial opens a session.
func (s *site) dial() *client.Session {
	s.Helper()
	session := issuertest.Must(s.client.Dial(s.Ctx))(s)
	s.Cleanup(func() { session.Close() })
	return session
}

// prepare makes a request with evidence for a challenge that came over a session.
func (s *site) prepare(session *client.Session, ch *wire.Challenge, spoil issuertest.Spoil) issuertest.Attempt {
	s.Helper()
	spoil.Challenge, spoil.Exporter = ch, session.Exporter()
	return s.Prepare(spoil)
}

// mint gets an artifact over a session.
func (s *site) mint(session *client.Session, spoil issuertest.Spoil) ([]byte, error) {
	s.Helper()
	a := s.prepare(session, issuertest.Must(session.Challenge(s.Ctx))(s), spoil)
	return session.Mint(s.Ctx, a.Request, a.Evidence)
}

// raw opens a TLS connection to write anything to.
func (s *site) raw() *tls.Conn {
	s.Helper()
	conn := issuertest.Must(tls.Dial("tcp", s.address, s.config()))(s)
	s.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		s.Fatal(err)
	}
	return conn
}

func (s *site) config() *tls.Config { return &tls.Config{RootCAs: s.roots, ServerName: "127.0.0.1"} }

// heard is what came back.
type heard struct {
	status int
	header http.Header
	body   []byte
}

// say writes bytes to a fresh connection and reads one answer.
func (s *site) say(text string) heard {
	s.Helper()
	conn := s.raw()
	defer conn.Close()
	go io.WriteString(conn, text) // the server may answer before it has read all
	return s.hear(conn)
}

func (s *site) hear(conn net.Conn) heard {
	s.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	body := issuertest.Must(io.ReadAll(resp.Body))(s)
	return heard{resp.StatusCode, resp.Header, body}
}

// counts returns how often each code was refused.
func (s *site) counts() map[int]uint64 {
	_, denied := s.Issuer.Counts()
	return denied
}

// wantProblem checks that an answer is the problem that a stranger gets for the reason, byte for byte.
func wantProblem(t *testing.T, a heard, reason denial.Reason) {
	t.Helper()
	wantStatus(t, a, reason, denial.Stranger(denial.New(reason, "")).Status)
}

// wantStatus is wantProblem where the status says how the request was made.
func wantStatus(t *testing.T, a heard, reason denial.Reason, status int) {
	t.Helper()
	p := denial.Stranger(denial.New(reason, ""))
	p.Status = status
	body, _ := p.Encode()
	if a.status != status || string(a.body) != string(body) || a.header.Get("Content-Type") != wire.MediaProblem {
		t.Errorf("got HTTP %d %s %q, want %d %q", a.status, a.header.Get("Content-Type"), a.body, status, body)
	}
}

// alive checks that the issuer still mints.
func (s *site) alive() {
	s.Helper()
	issuertest.Must(s.mint(s.dial(), issuertest.Spoil{}))(s)
}
