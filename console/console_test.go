package console

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/stock"
	"github.com/governed-execution/writ/witness"
)

// site is a console of a whole issuer behind a real listener on loopback.
type site struct {
	*issuertest.World
	console *Console
	address string
	server  *x509.CertPool
	servers authority // signs certificates of servers
	ca      authority
	mu      sync.Mutex // held while readers changes beside a browser, which the race detector does not see through
	readers []Reader
	broken  error // of the list of readers
	sick    error // what Health says
	unseen  error // why the newest checkpoint is not published
	permit  *issuer.Minted
	refused uint64 // index of a denial
}

// authority signs client certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(tb testing.TB) authority {
	tb.Helper()
	return newAuthorityOf(tb, stock.Key(tb))
}

func newAuthorityOf(tb testing.TB, key *ecdsa.PrivateKey) authority {
	tb.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "console CA"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der := issuertest.Must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(tb)
	return authority{issuertest.Must(x509.ParseCertificate(der))(tb), key}
}

// issue makes a certificate of a key. The change may be nil.
func (a authority) issue(tb testing.TB, name string, key *ecdsa.PrivateKey, change func(*x509.Certificate)) *tls.Certificate {
	tb.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	if change != nil {
		change(template)
	}
	der := issuertest.Must(x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key))(tb)
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: issuertest.Must(x509.ParseCertificate(der))(tb)}
}

// open serves a console of an issuer that has permitted and denied.
func open(tb testing.TB) *site {
	tb.Helper()
	s := &site{World: issuertest.New(tb), ca: newAuthority(tb)}
	s.happen()
	server := newAuthority(tb)
	s.servers = server
	s.server = x509.NewCertPool()
	s.server.AddCert(server.cert)
	o := s.options()
	o.Certificate = *server.issue(tb, "console", stock.Key(tb), nil)
	s.console = issuertest.Must(New(o))(tb)
	l := issuertest.Must(net.Listen("tcp", "127.0.0.1:0"))(tb)
	s.address = l.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.console.Serve(ctx, l) }()
	tb.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			tb.Error(err)
		}
	})
	return s
}

func (s *site) options() Options {
	return Options{Log: s.Tree, Index: s.Issuer, Head: func() receipt.Head { return s.Tree.Head().Head }, Genesis: s.Issuer.Genesis(), Keys: s.Issuer.KeyRing, Now: s.Now,
		Health: func() error { return s.sick }, Counts: s.Issuer.Counts, Readers: s.list, BreakGlass: func(ctx context.Context) (BreakGlass, error) {
			b, err := s.Issuer.BreakGlass(ctx)
			return BreakGlass{b.Published, b.Used, b.Open, b.Overdue}, err
		},
		Witnessed: s, Scrubbed: func() int64 { return s.Now().Add(-2 * time.Hour).Unix() }, ClientCAs: []*x509.Certificate{s.ca.cert}}
}

func (s *site) list() ([]Reader, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.readers), s.broken
}

// Published, Fault, Witnesses and Threshold tell of a log that two of three witnesses cosign.
func (s *site) Published() receipt.Checkpoint {
	h := s.Tree.Head().Head
	return receipt.Checkpoint{Size: h.Size, Root: h.Root, Time: h.Time, Operators: []string{"Beispiel Notariat", "Example Notary"}}
}

func (s *site) Threshold() int { return 2 }
func (s *site) Fault() error   { return s.unseen }
func (s *site) Witnesses() []witness.State {
	h := s.Tree.Head().Head
	at := time.Unix(int64(h.Time), 0)
	return []witness.State{{Operator: "Example Notary", Name: "witness.example/one", Size: h.Size, At: at}, {Operator: "Beispiel Notariat", Name: "zeuge.example/1", Size: h.Size, At: at},
		{Operator: "Third University", Name: "log-witness.third.example/w", Size: h.Size - 7, At: at.Add(-3 * time.Minute), Fault: errors.New("<html> of a proxy")}}
}

// happen has an execution run, and requests refused.
func (s *site) happen() {
	s.Helper()
	s.permit = s.Permit()
	s.Advance(3 * time.Second)
	start := s.report(record.EventStart, nil)
	s.Advance(2 * time.Second)
	s.report(record.EventEnd, start)
	s.Advance(20 * time.Second)
	for _, spoil := range []issuertest.Spoil{
		{Boot: bootlog.New(bootlog.Options{NoSecureBoot: true})},
		{Claims: func(c *artifact.RequestClaims) { c.Scope[0].Target = "file:/usr/bin/other" }},
		{Claims: func(c *artifact.RequestClaims) { c.Lifetime = 3000 }},
	} {
		s.Advance(time.Minute)
		_, err := s.Ask(spoil)
		var ref *issuer.Refusal
		if !errors.As(err, &ref) || !ref.Logged {
			s.Fatalf("got %v", err)
		}
		if s.refused == 0 {
			s.refused = ref.Index
		}
	}
	s.Advance(time.Minute)
	next, steps := s.Replacement(record.PurposeArtifact, record.KeyRetired)
	change := s.KeyChange(steps...)
	change.Why = "its cryptoperiod is over"
	s.Apply(statement.KeyChange, change)
	s.Keys[record.PurposeArtifact] = next
	s.Advance(time.Second)
	other := s.EnrolHost(issuertest.OtherURI, issuertest.OtherGate)
	if _, err := s.Ask(issuertest.Spoil{Host: other, Claims: func(c *artifact.RequestClaims) { c.Audience = issuertest.OtherGate }}); err != nil {
		s.Fatal(err)
	}
	s.Advance(time.Minute)
	s.Publish(s.Authorization())
	s.Advance(time.Minute)
	s.Publish(s.Authorization())
	s.Approve(s.NewHost("spiffe://example/host/c", "https://gate.example/c"))
	s.Revoke(record.CauseHost, issuertest.OtherURI)
	claims, _, err := artifact.Inspect(s.permit.Artifact)
	if err != nil {
		s.Fatal(err)
	}
	s.Revoke(record.CausePolicy, hex.EncodeToString(claims.Policy.Hash.Value))
	s.Advance(30 * time.Second)
	s.Permit()
}

// report has the gate write a record about the permit.
func (s *site) report(event record.Event, start []byte) []byte {
	s.Helper()
	c, _, err := artifact.Inspect(s.permit.Artifact)
	if err != nil {
		s.Fatal(err)
	}
	leaf := s.Report(s.Host, s.permit, event, func(r *record.Record) {
		r.Initiator, r.Policy = c.Initiator.Principal, &record.PolicyRef{ID: c.Policy.ID, Hash: c.Policy.Hash.Value}
		r.Execution.Start = start
	})
	issuertest.Must(s.Issuer.Take(s.Ctx, leaf))(s)
	s.Host.Follow(leaf)
	return s.Host.Chain.Previous
}

// enrol makes a reader with roles, and returns the certificate.
func (s *site) enrol(name string, roles ...Role) *tls.Certificate {
	s.Helper()
	cert := s.ca.issue(s, name, stock.Key(s), nil)
	s.readers = append(s.readers, Reader{Name: name, SPKI: SPKIOf(cert.Leaf), Roles: roles})
	return cert
}

func (s *site) client(cert *tls.Certificate) *http.Client {
	config := &tls.Config{RootCAs: s.server}
	if cert != nil {
		config.Certificates = []tls.Certificate{*cert}
	}
	transport := &http.Transport{TLSClientConfig: config}
	s.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// ask sends a request, and returns the status and the page.
func (s *site) ask(via *http.Client, method, path string) (int, string, http.Header) {
	s.Helper()
	req := issuertest.Must(http.NewRequest(method, "https://"+s.address+path, nil))(s)
	resp, err := via.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer resp.Body.Close()
	return resp.StatusCode, string(issuertest.Must(io.ReadAll(resp.Body))(s)), resp.Header
}

// execution returns the id of the execution that ran.
func (s *site) execution() string {
	s.Helper()
	c, _, err := artifact.Inspect(s.permit.Artifact)
	if err != nil {
		s.Fatal(err)
	}
	return hex.EncodeToString(c.Execution.ID)
}

// A19, A21: each role sees exactly its pages. The table below is written by hand; it must name every route.
func TestA19_EachRoleSeesItsPages(t *testing.T) {
	s := open(t)
	want := map[string][]Role{
		"/{$}":             {Operator, Custodian, PolicyAuthor, Auditor},
		"/decisions":       {Auditor},
		"/entries/{index}": {Auditor},
		"/lineage/{id}":    {Auditor},
		"/hosts":           {Operator, PolicyAuthor, Auditor},
		"/policies":        {PolicyAuthor, Auditor},
		"/keys":            {Custodian, Auditor},
		"/log":             {Operator, Custodian, Auditor},
	}
	if len(want) != len(table()) {
		t.Errorf("there are %d routes, the matrix has %d", len(table()), len(want))
	}
	decided := s.execution()
	for _, role := range Roles() {
		via := s.client(s.enrol(string(role), role))
		for _, p := range table() {
			path := strings.NewReplacer("{$}", "", "{index}", "1", "{id}", decided).Replace(p.pattern)
			for _, method := range []string{"GET", "POST", "PUT", "DELETE", "PATCH"} {
				status, body, _ := s.ask(via, method, path)
				good := method == "GET" && slices.Contains(want[p.pattern], role)
				if (status == http.StatusOK) != good || !good && !strings.Contains(body, "910 NOT_PERMITTED") {
					t.Errorf("%s: %s %s: status %d, want it shown: %t", role, method, path, status, good)
				}
			}
		}
		if _, body, _ := s.ask(via, "GET", "/"); role != Auditor && strings.Contains(body, issuertest.Robot) {
			t.Errorf("the overview tells the %s who asked", role)
		}
		for _, path := range []string{"/metrics", "/debug/pprof/", "/healthz", "/v1/exports", "/..%2f", "/pages/style.css", "/entries/"} {
			if status, body, _ := s.ask(via, "GET", path); status == http.StatusOK || !strings.Contains(body, "910 NOT_PERMITTED") {
				t.Errorf("A21: %s gets %s: status %d", role, path, status)
			}
		}
	}
}

// A01 to A04: who has no certificate by the CA gets no connection; who has one and is no reader gets no page.
func TestA01_OnlyReadersGetIn(t *testing.T) {
	s := open(t)
	key := stock.Key(t)
	good := s.ca.issue(t, "ada", key, nil)
	s.readers = []Reader{{Name: "ada", SPKI: SPKIOf(good.Leaf), Roles: []Role{Auditor}}}
	if status, _, _ := s.ask(s.client(good), "GET", "/decisions"); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	for name, cert := range map[string]*tls.Certificate{
		"A01 no certificate":           nil,
		"A01 of another CA":            newAuthority(t).issue(t, "ada", key, nil),
		"A01 expired":                  s.ca.issue(t, "ada", key, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }),
		"A01 for servers only":         s.ca.issue(t, "ada", key, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }),
		"A02 none, and another SNI":    nil,
		"A24 TLS 1.2":                  good,
		"A01 its own CA, self-signed ": selfSigned(t, key),
	} {
		t.Run(name, func(t *testing.T) {
			config := &tls.Config{RootCAs: s.server, InsecureSkipVerify: strings.HasPrefix(name, "A02")}
			if strings.HasPrefix(name, "A02") {
				config.ServerName = "localhost.example"
			}
			if strings.HasPrefix(name, "A24") {
				config.MaxVersion = tls.VersionTLS12
			}
			if cert != nil {
				config.Certificates = []tls.Certificate{*cert}
			}
			if got, err := sayOverTLS(s.address, config); err == nil {
				t.Errorf("got an answer: %q", got)
			}
		})
	}
	for name, cert := range map[string]*tls.Certificate{
		"A03 the same name, another key": s.ca.issue(t, "ada", stock.Key(t), nil),
		"A04 renewed with another key":   s.ca.issue(t, "ada", stock.Key(t), func(c *x509.Certificate) { c.SerialNumber = big.NewInt(9) }),
	} {
		if status, body, _ := s.ask(s.client(cert), "GET", "/decisions"); status != http.StatusForbidden || strings.Contains(body, issuertest.Robot) {
			t.Errorf("%s: status %d", name, status)
		}
	}
	renewed := s.ca.issue(t, "somebody else", key, nil) // A03: the name does not count
	via := s.client(renewed)
	if status, _, _ := s.ask(via, "GET", "/decisions"); status != http.StatusOK {
		t.Errorf("renewed with the same key: status %d", status)
	}
	s.readers = nil // A04: taken from the list while connected
	if status, body, _ := s.ask(via, "GET", "/decisions"); status == http.StatusOK || strings.Contains(body, issuertest.Robot) {
		t.Errorf("a reader who was taken from the list: status %d", status)
	}
	s.broken = errors.New("the file is gone")
	if status, _, _ := s.ask(via, "GET", "/"); status == http.StatusOK {
		t.Error("without a list of readers there are readers")
	}
}

func selfSigned(tb testing.TB, key *ecdsa.PrivateKey) *tls.Certificate {
	tb.Helper()
	return newAuthorityOf(tb, key).issue(tb, "ada", key, nil)
}

// sayOverTLS sends a request over one connection. With TLS 1.3 a refusal comes after the client's handshake.
func sayOverTLS(address string, config *tls.Config) (string, error) {
	conn, err := tls.Dial("tcp", address, config)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, "GET /decisions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"); err != nil {
		return "", err
	}
	data, err := io.ReadAll(conn)
	return string(data), err
}

func TestA01_WithoutACAItDoesNotStart(t *testing.T) {
	s := open(t)
	o := s.options()
	o.ClientCAs = nil
	if _, err := New(o); err == nil {
		t.Error("a console without the CA of its readers starts")
	}
}

func TestReadersAreChecked(t *testing.T) {
	good := Reader{Name: "ada", SPKI: [32]byte{1}, Roles: []Role{Auditor}}
	for name, list := range map[string][]Reader{
		"no name":                    {{SPKI: good.SPKI, Roles: good.Roles}},
		"no key":                     {{Name: "ada", Roles: good.Roles}},
		"no role":                    {{Name: "ada", SPKI: good.SPKI}},
		"new role":                   {{Name: "ada", SPKI: good.SPKI, Roles: []Role{"root"}}},
		"key twice":                  {good, good},
		"A03 subject without issuer": {{Name: "ada", Subject: "1", Roles: good.Roles}},
		"A03 issuer without subject": {{Name: "ada", SPKI: good.SPKI, Issuer: "https://login.example", Roles: good.Roles}},
		"subject twice":              {{Name: "ada", Issuer: "i", Subject: "1", Roles: good.Roles}, {Name: "bob", Issuer: "i", Subject: "1", Roles: good.Roles}},
	} {
		if CheckReaders(list) == nil {
			t.Errorf("%s passes", name)
		}
	}
	if err := CheckReaders([]Reader{good}); err != nil {
		t.Error(err)
	}
}

// Who signs from now on says little without who went: a page of a change of authorities says both.
func TestPagesTellWhoGoesAndComes(t *testing.T) {
	s := open(t)
	via := s.client(s.enrol("ada", PolicyAuthor, Auditor))
	s.Advance(time.Minute)
	at := s.Size()
	s.HandedOver(s.HandOver())
	for _, path := range []string{"/policies", "/entries/" + index(at)} {
		_, body, _ := s.ask(via, "GET", path)
		for _, want := range []string{"change of authorities", issuertest.Alice + " goes, with key ",
			"root takes 2 of " + issuertest.Bob + ", " + issuertest.Carol + "; it took 2 of " + issuertest.Alice + ", " + issuertest.Bob} {
			if !strings.Contains(body, want) {
				t.Errorf("%s: %q is not on the page", path, want)
			}
		}
	}
}

// The pages say what the log says, and the browser may do nothing with them but show them.
func TestPagesTellTheLog(t *testing.T) {
	s := open(t)
	via := s.client(s.enrol("ada", Auditor))
	ek := s.Host.TPM.EKDigest()
	for path, want := range map[string][]string{
		"/":                                 {"Healthy", "Latest decisions", issuertest.Robot},
		"/decisions":                        {"permitted", "denied 608", "SECURE_BOOT_OFF", `http-equiv="refresh"`},
		"/decisions?show=denied":            {"SCOPE_DENIED", "LIFETIME_TOO_LONG"},
		"/entries/" + index(s.refused):      {"Denied: 608 SECURE_BOOT_OFF", "secure-boot-on", "failed", "not run", "What to try"},
		"/entries/" + index(s.permit.Index): {"Permitted", "Secure Boot", "receipt", "verified: entry", hex.EncodeToString(ek[:])},
		"/lineage/" + s.execution():         {"<svg", issuertest.Alice, "ended with status 0", "TPM with EK"},
		"/hosts":                            {issuertest.HostURI, "revoked", "approved only", "enrolled", "Secure Boot on"},
		"/policies":                         {"in force", "superseded", "withdrawn", issuertest.Bob, "revocation of the host"},
		"/keys":                             {"artifact", "extractable = false", "key change 1", "retired", "its cryptoperiod is over", "pre-active to active"},
		"/log": {"Root", "608", "Newest tree head", "cosignatures of 2 distinct operators", "Example Notary", "log-witness.third.example/w", "not cosigning",
			"does not answer as a witness does", "every hash as it must be"},
	} {
		status, body, header := s.ask(via, "GET", path)
		if status != http.StatusOK {
			t.Errorf("%s: status %d", path, status)
		}
		for _, text := range want {
			if !strings.Contains(strings.ReplaceAll(body, "Receipt", "receipt"), text) {
				t.Errorf("%s: %q is not on the page", path, text)
			}
		}
		if strings.Contains(body, "<script") || strings.Contains(body, "style=") {
			t.Errorf("%s: a script or an inline style is on the page", path)
		}
		if csp := header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'self'") || header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers are %v", path, header)
		}
	}
	if _, body, _ := s.ask(via, "GET", "/decisions?show=denied"); strings.Contains(body, `"tag yes">permitted`) {
		t.Error("a permit stands among the denials")
	}
	if _, body, _ := s.ask(via, "GET", "/decisions?before=5"); strings.Contains(body, "refresh") {
		t.Error("an older page loads itself again")
	}
	for _, row := range []struct {
		path, code string
		status     int
	}{
		{"/entries/999", "908", http.StatusNotFound},
		{"/entries/01", "908", http.StatusNotFound},
		{"/entries/x", "908", http.StatusNotFound},
		{"/entries/-1", "908", http.StatusNotFound},
		{"/entries/" + strings.Repeat("9", 4000), "908", http.StatusNotFound},
		{"/entries/", "910", http.StatusNotFound},
		{"/entries/1/2", "910", http.StatusNotFound},
		{"/lineage/00", "908", http.StatusNotFound},
		{"/lineage/" + strings.Repeat("0", 32), "101", http.StatusNotFound},
		{"/lineage/" + strings.Repeat("0", 4000), "908", http.StatusNotFound},
		{"/none", "910", http.StatusNotFound},
		{"/decisions?show=all", "908", http.StatusBadRequest},
		{"/decisions?before=x", "908", http.StatusBadRequest},
		{"/decisions?before=99999999999999999999", "908", http.StatusBadRequest},
	} {
		if status, body, _ := s.ask(via, "GET", row.path); status != row.status || !strings.Contains(body, row.code) {
			t.Errorf("%.40s: status %d, want %d", row.path, status, row.status)
		}
	}
	for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS"} {
		if status, _, header := s.ask(via, method, "/log"); status != http.StatusMethodNotAllowed || header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: status %d, Allow: %q", method, status, header.Get("Allow"))
		}
	}
	if status, _, _ := s.ask(s.client(s.enrol("custodian", Custodian)), "GET", "/decisions"); status != http.StatusForbidden {
		t.Errorf("a page of another role: status %d", status)
	}
	s.sick = denial.New(denial.AuditUnavailable, "the store has failed")
	if _, body, _ := s.ask(via, "GET", "/log"); !strings.Contains(body, "Unhealthy") || !strings.Contains(body, "902") {
		t.Error("a failed store is not told")
	}
	s.unseen = denial.New(denial.ThresholdNotMet, "1 of 2 operators of witnesses have cosigned")
	if _, body, _ := s.ask(via, "GET", "/log"); !strings.Contains(body, "The newest checkpoint is not published") || !strings.Contains(body, "326 THRESHOLD_NOT_MET") {
		t.Error("a checkpoint that is not published is not told")
	}
	if _, body, _ := s.ask(via, "GET", "/log"); strings.Contains(body, "of a proxy") {
		t.Error("what a witness's machine said is on the page")
	}
}

// What peers have chosen is text, whatever it looks like.
func TestPagesEscapeWhatOthersChose(t *testing.T) {
	s := open(t)
	via := s.client(s.enrol("<b>ada", Auditor))
	evil := `"><img src=x onerror=alert(1)>`
	s.EnrolInitiator("urn:x:" + evil)
	for _, path := range []string{"/decisions", "/policies", "/entries/" + index(s.Size()-1), "/?" + url.QueryEscape(evil)} {
		if _, body, _ := s.ask(via, "GET", path); strings.Contains(body, "<img") || strings.Contains(body, "<b>ada") {
			t.Errorf("%s: markup of others is markup here", path)
		}
	}
}

func index(i uint64) string { return new(big.Int).SetUint64(i).String() }

// P21: break-glass is told on the first page, to every reader, from its publication until its review.
func TestP21_OverviewTellsOfBreakGlass(t *testing.T) {
	s := open(t)
	via := s.client(s.enrol("ada", PolicyAuthor))
	shows := func(want ...string) {
		t.Helper()
		_, body, _ := s.ask(via, "GET", "/")
		for _, w := range want {
			if !strings.Contains(body, w) {
				t.Errorf("the overview lacks %q", w)
			}
		}
	}
	if _, body, _ := s.ask(via, "GET", "/"); strings.Contains(body, "Break-glass") {
		t.Error("the overview tells of what never was")
	}
	doc := s.DeclareGlass(true)
	draft := s.DraftGlass(doc)
	draft.Waived = []string{issuertest.Alice, issuertest.Bob}
	g := s.PublishGlass(draft, issuertest.Alice, issuertest.Bob)
	shows("Break-glass", "1 authorization since genesis, 0 used", "1 without a review yet")
	s.Advance(25 * time.Hour)
	shows("The review of 1 is overdue")
	s.ReviewGlass(g, false, issuertest.Alice, issuertest.Carol)
	shows("All have been reviewed")
	if _, body, _ := s.ask(via, "GET", "/policies"); !strings.Contains(body, "break-glass review: not justified") || !strings.Contains(body, "looked at") {
		t.Error("the page of changes lacks the review")
	}
}
