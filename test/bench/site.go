package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net"
	"path/filepath"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/issuer/server"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/tlog"
)

// The names that the benchmark gives.
const (
	issuerURI = "https://issuer.example"
	logURI    = issuerURI + "/log"
	gateURI   = "https://gate.example/a"
	robotURI  = "spiffe://example/initiator/robot"
	personURI = "mailto:alice@example.org"
	program   = "file:/usr/bin/report"
)

// site is an issuer on real parts: keys on a PKCS#11 token, the log in SQLite, TLS 1.3 on loopback.
type site struct {
	dir     string
	kind    string // of token
	token   *token
	signers map[hsm.Purpose]*switched
	genesis *record.Genesis
	log     *tlog.Log
	others  []*tlog.Log // of the parts
	issuer  *issuer.Issuer
	ap, az  *firmwarepolicy.Document
	url     string
	cert    tls.Certificate
	stop    context.CancelFunc
	served  chan error
}

// newSite makes keys on a token of a kind, genesis and log, admits the hosts and their initiator, publishes both policies
// and listens.
func newSite(ctx context.Context, dir, kind string, hosts made) (*site, error) {
	s := &site{dir: dir, kind: kind, signers: map[hsm.Purpose]*switched{}, served: make(chan error, 1)}
	var err error
	if s.token, err = openToken(ctx, kind, dir); err != nil {
		return nil, err
	}
	person, err := newPerson()
	if err != nil {
		return nil, err
	}
	if err := s.start(ctx, person, hosts); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// Signer returns the use of a key that genesis names.
func (s *site) Signer(_ context.Context, purpose string, id statement.Thumbprint) (statement.Signer, error) {
	p, err := hsm.ParsePurpose(purpose)
	if err != nil {
		return nil, err
	}
	if k := s.signers[p]; k != nil && k.Key().Thumbprint() == id {
		return k, nil
	}
	return nil, denial.New(denial.HSMKeyPolicy, "no %s key has the thumbprint", purpose)
}

// Release has nothing to do: a benchmark changes no keys.
func (s *site) Release(statement.Thumbprint) {}

func newPerson() (statement.Signer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return statement.NewSigner(key)
}

func (s *site) start(ctx context.Context, person statement.Signer, hosts made) error {
	root, err := x509.ParseCertificate(hosts.Root)
	if err != nil {
		return fmt.Errorf("reading root: %w", err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	s.url = "https://" + listener.Addr().String()
	if err := s.bootstrap(ctx, person, root); err != nil {
		return err
	}
	s.issuer, err = issuer.Open(ctx, issuer.Options{Log: s.log, Roots: []*x509.Certificate{root}, Base: s.url, Rate: unlimited,
		Token: s})
	if err != nil {
		return err
	}
	if err := s.admit(ctx, person, hosts); err != nil {
		return err
	}
	if err := s.publish(ctx, person); err != nil {
		return err
	}
	if s.cert, err = selfSigned(); err != nil {
		return err
	}
	srv := server.New(server.Options{Issuer: s.issuer, Certificate: s.cert, Limits: server.Limits{
		Connections: unlimited, PeerConnections: unlimited, Rate: unlimited, PeerRate: unlimited}})
	ctx, s.stop = context.WithCancel(ctx)
	go func() { s.served <- srv.Serve(ctx, listener, nil) }()
	return nil
}

// bootstrap makes a key for each purpose and a log that begins with genesis.
func (s *site) bootstrap(ctx context.Context, person statement.Signer, root *x509.Certificate) error {
	now, sum := uint64(time.Now().Unix()), sha256.Sum256(root.Raw)
	g := &record.Genesis{Version: record.Version, Issuer: issuerURI, Log: logURI, Time: now, Epoch: random(16), Roots: [][]byte{sum[:]},
		Authorities: []record.Authority{{Person: personURI, Key: person.Key()}}, OnePerson: true, Quorums: map[record.Role]record.Quorum{}, Keys: map[string]statement.Key{}}
	for _, role := range record.Roles() {
		g.Quorums[role] = record.Quorum{Threshold: 1, Persons: []string{personURI}}
	}
	for _, p := range hsm.Purposes() {
		signer, err := s.token.signer(ctx, p)
		if err != nil {
			return err
		}
		g.Keys[p.String()], s.signers[p] = signer.Key(), signer
	}
	act, err := sign(ctx, person, statement.Genesis, g)
	if err != nil {
		return err
	}
	s.genesis = g
	if s.log, err = s.openLog(ctx, "log.db"); err != nil {
		return err
	}
	_, err = issuer.Bootstrap(ctx, s.log, act, s.signers[hsm.Record], nil, time.Now())
	return err
}

// signatures returns how many the token has made, of all and of them tree heads: as many as there were commits.
func (s *site) signatures() (all, heads int64) {
	for p, signer := range s.signers {
		n := signer.signatures.Load()
		if all += n; p == hsm.Log {
			heads = n
		}
	}
	return all, heads
}

// openLog makes a log under the site's log key.
func (s *site) openLog(ctx context.Context, name string) (*tlog.Log, error) {
	return tlog.Open(ctx, tlog.Options{Path: filepath.Join(s.dir, name), Signer: s.signers[hsm.Log], Issuer: issuerURI, LogID: logURI})
}

func sign(ctx context.Context, person statement.Signer, kind statement.Kind, payload any) (record.Bundle, error) {
	enc, err := statement.Marshal(payload)
	if err != nil {
		return nil, err
	}
	subject, err := record.SubjectOf(kind, issuerURI, enc)
	if err != nil {
		return nil, err
	}
	c := statement.Claims{Issuer: issuerURI, Subject: subject}
	if kind.Acts() {
		now := uint64(time.Now().Unix())
		c.IssuedAt, c.Expires, c.Sequence = now, now+3600, 1
	}
	return record.SignAct(ctx, nil, person, kind, c, enc)
}

// admit has the authority name the hosts and the initiator.
func (s *site) admit(ctx context.Context, person statement.Signer, hosts made) error {
	var robot statement.Key
	if err := statement.Unmarshal(hosts.Robot, &robot); err != nil {
		return err
	}
	now := uint64(time.Now().Unix())
	all := []record.Enrolment{{ID: robotURI, Initiator: &record.Initiator{Kind: record.Service, Key: robot}}}
	for i, ek := range hosts.EKs {
		all = append(all, record.Enrolment{ID: hostURI(i), Host: &record.Host{EK: ek, Labels: map[string]string{"env": "bench"}}})
	}
	for _, e := range all {
		e.Version, e.Time, e.Nonce = record.Version, now, random(16)
		act, err := sign(ctx, person, statement.Enrolment, e)
		if err != nil {
			return err
		}
		if _, err := s.issuer.Apply(ctx, statement.Enrolment, act); err != nil {
			return err
		}
	}
	return nil
}

// publish puts an appraisal policy in force that is written from the facts of such a host, and a policy that lets the
// initiator run the one program on them.
func (s *site) publish(ctx context.Context, person statement.Signer) (err error) {
	facts, _, err := exampleFacts()
	if err != nil {
		return err
	}
	text, err := firmwarepolicy.FromClaims(issuerURI+"/policy/appraisal", uint64(time.Now().Add(time.Hour).Unix()), facts.Claims())
	if err != nil {
		return err
	}
	if s.ap, err = firmwarepolicy.ParseTOML(text); err != nil {
		return err
	}
	if s.az, err = firmwarepolicy.ParseTOML([]byte(authorization())); err != nil {
		return err
	}
	for kind, doc := range map[record.PolicyKind]*firmwarepolicy.Document{record.Appraisal: s.ap, record.Authorization: s.az} {
		act, err := sign(ctx, person, statement.Policy, record.Policy{Version: record.Version, Kind: kind, ID: doc.ID(),
			Revision: doc.Version(), Document: doc.Canonical(), Time: uint64(time.Now().Unix())})
		if err != nil {
			return err
		}
		if _, err := s.issuer.Apply(ctx, statement.Policy, act); err != nil {
			return err
		}
	}
	return nil
}

func authorization() string {
	return fmt.Sprintf(`schema = 1
kind = "authorization"
id = %q
version = 1
expires = %s

[[rule]]
name = "bench"
initiators = [%q]
audiences = [%q]
lifetime = "10m"
uses = 1

[rule.hosts]
env = "bench"

[[rule.scope]]
target = %q
operations = ["execute"]
code = [%q]
`, issuerURI+"/policy/authorization", time.Now().Add(time.Hour).UTC().Format(time.RFC3339), robotURI, gateURI, program, hex.EncodeToString(code()))
}

// unlimited is a rate and a number of connections that the load does not reach.
const unlimited = 1 << 20

// code is the digest of the one program.
func code() []byte {
	sum := sha256.Sum256([]byte("the program"))
	return sum[:]
}

// selection and bind are what every quote covers and what every cnf key is bound to.
var selection, bind = attest.Selection{Bank: "sha256", PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 12}}, []int{0, 2, 3, 4, 7, 9, 11}

// exampleFacts are the verified facts of a host like those of the load, and its encoded evidence.
func exampleFacts() (*attest.Facts, *example, error) {
	tpm, boot := softtpm.NewVendor(setup{}).New(setup{}, softtpm.Options{}), bootlog.New(bootlog.Options{})
	want := attest.Want{AK: tpm.AK, Challenge: attest.NewNonce(), Request: statement.DigestOf([]byte("request")),
		Exporter: [32]byte(random(32)), Selection: selection, Bind: bind}
	raw, err := tpm.Evidence(setup{}, want, boot.PCRs("sha256"), boot.Log).Encode()
	if err != nil {
		return nil, nil, err
	}
	e := &example{raw: raw, want: want}
	facts, err := e.verify()
	return facts, e, err
}

// example is evidence and what the verifier wants of it.
type example struct {
	raw  []byte
	want attest.Want
}

func (e *example) verify() (*attest.Facts, error) {
	ev, err := attest.DecodeEvidence(e.raw)
	if err != nil {
		return nil, err
	}
	return attest.Verify(ev, e.want)
}

// trust is what a relying party of the site holds to be true.
func (s *site) trust() *artifact.Trust {
	t := &artifact.Trust{Version: 1, Expires: time.Now().Add(time.Hour), Issuer: issuerURI, Log: logURI, Audience: gateURI,
		RevocationAge: artifact.DefaultRevocationAge, Lifetime: artifact.DefaultLifetime,
		Policies: []artifact.Pin{{ID: s.ap.ID(), MinVersion: 1}, {ID: s.az.ID(), MinVersion: 1}}}
	for _, purpose := range record.Purposes() {
		t.Keys = append(t.Keys, artifact.TrustKey{Purpose: artifact.Purpose(purpose), Key: s.genesis.Keys[purpose]})
	}
	return t
}

func (s *site) close() error {
	var err error
	if s.stop != nil {
		s.stop()
		err = <-s.served
	}
	if s.log != nil {
		err = errors.Join(err, s.log.Close())
	}
	for _, l := range s.others {
		err = errors.Join(err, l.Close())
	}
	return errors.Join(err, s.token.close())
}

// selfSigned makes a TLS certificate for loopback, for an hour.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, NotBefore: time.Now().Add(-time.Minute),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails: it stops the program instead
	return b
}

func hostURI(i int) string { return fmt.Sprintf("spiffe://example/host/%d", i) }
