package audit_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/tlog"
)

const (
	issuerURI = "https://issuer.example"
	logURI    = "https://issuer.example/log"
	hostURI   = "spiffe://example/host/a"
	gateURI   = "https://gate.example/a"
	robotURI  = "spiffe://example/initiator/robot"
	mallory   = "spiffe://example/initiator/mallory"
	alice     = "mailto:alice@example.org"
	bob       = "mailto:bob@example.org"
	target    = "file:/usr/bin/reconcile"
)

var code = sha256.Sum256([]byte("the program"))

// stage is a whole issuer in memory of software keys, with a host, its gate and an initiator. Its clock is its own.
type stage struct {
	testing.TB
	ctx    context.Context
	clock  time.Time
	log    *tlog.Log
	issuer *issuer.Issuer
	act    record.Bundle // genesis
	keys   map[string]statement.Signer
	vendor *softtpm.Vendor
	tpm    *softtpm.TPM
	boot   *bootlog.Boot
	gate   statement.Signer
	chain  struct {
		epoch, previous []byte
		next            uint64
	}
	policies map[record.PolicyKind]uint64 // versions in force
	docs     map[record.PolicyKind]*firmwarepolicy.Document
}

func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func newSigner(tb testing.TB) statement.Signer {
	tb.Helper()
	return must(statement.NewSigner(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(tb)))(tb)
}

func nonce(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

// newStage bootstraps a log and an issuer, enrols a host with a gate and two initiators, and publishes both policies.
func newStage(tb testing.TB) *stage {
	tb.Helper()
	s := &stage{TB: tb, ctx: context.Background(), clock: softtpm.Now, keys: map[string]statement.Signer{}, vendor: softtpm.NewVendor(tb),
		boot: bootlog.New(bootlog.Options{}), policies: map[record.PolicyKind]uint64{},
		docs: map[record.PolicyKind]*firmwarepolicy.Document{}}
	for _, name := range append(record.Purposes(), alice, bob, robotURI, mallory) {
		s.keys[name] = newSigner(tb)
	}
	s.tpm = s.vendor.New(tb, softtpm.Options{})
	s.bootstrap()
	s.enrolInitiator(robotURI)
	s.enrolInitiator(mallory)
	s.enrolHost()
	s.publish(s.appraisal(""))
	s.publish(s.authorization("600s"))
	return s
}

func (s *stage) now() time.Time { return s.clock }

// tick lets a second pass.
func (s *stage) tick() { s.clock = s.clock.Add(time.Second) }

func (s *stage) bootstrap() {
	s.Helper()
	root := sha256.Sum256(s.vendor.Root.Raw)
	g := record.Genesis{Version: record.Version, Issuer: issuerURI, Log: logURI, Time: uint64(s.clock.Unix()), Epoch: nonce(16),
		Authorities: []record.Authority{{Person: alice, Key: s.keys[alice].Key()}, {Person: bob, Key: s.keys[bob].Key()}},
		Quorums:     map[record.Role]record.Quorum{}, Keys: map[string]statement.Key{}, Roots: [][]byte{root[:]}}
	for _, r := range record.Roles() {
		g.Quorums[r] = record.Quorum{Threshold: 2, Persons: []string{alice, bob}}
	}
	var births []record.Birth
	for _, p := range record.Purposes() {
		g.Keys[p] = s.keys[p].Key()
		births = append(births, record.Birth{Purpose: p, Key: g.Keys[p], Attributes: map[string]string{"extractable": "false"}, Token: map[string]string{"model": "none"}})
	}
	s.act = s.signed(statement.Genesis, logURI, g, alice, bob)
	s.log = must(tlog.Open(s.ctx, tlog.Options{Path: filepath.Join(s.TempDir(), "log.db"), Signer: s.keys[record.PurposeLog],
		Issuer: issuerURI, LogID: logURI, Now: s.now}))(s)
	s.Cleanup(func() { s.log.Close() })
	must(issuer.Bootstrap(s.ctx, s.log, s.act, s.keys[record.PurposeRecord], births, s.clock))(s)
	s.issuer = must(issuer.Open(s.ctx, issuer.Options{Log: s.log, Base: issuerURI, Now: s.now, Roots: []*x509.Certificate{s.vendor.Root},
		Signers: issuer.Signers{Artifact: s.keys[record.PurposeArtifact], Record: s.keys[record.PurposeRecord], Status: s.keys[record.PurposeStatus]}}))(s)
}

// signed makes an act.
func (s *stage) signed(kind statement.Kind, subject string, payload any, persons ...string) record.Bundle {
	s.Helper()
	raw := must(statement.Marshal(payload))(s)
	var b record.Bundle
	for _, p := range persons {
		b = must(record.SignAct(s.ctx, b, s.keys[p], kind, statement.Claims{Issuer: issuerURI, Subject: subject}, raw))(s)
	}
	return b
}

func (s *stage) apply(kind statement.Kind, subject string, payload any) {
	s.Helper()
	s.tick()
	must(s.issuer.Apply(s.ctx, kind, s.signed(kind, subject, payload, alice, bob)))(s)
}

func (s *stage) seconds() uint64 { return uint64(s.clock.Unix()) }

func (s *stage) enrolInitiator(id string) {
	s.Helper()
	s.apply(statement.Enrolment, id, record.Enrolment{Version: record.Version, ID: id, Time: s.seconds(), Nonce: nonce(16),
		Initiator: &record.Initiator{Kind: record.Service, Key: s.keys[id].Key()}})
}

// approve has authorities approve the host's EK.
func (s *stage) approve() {
	s.Helper()
	ek := s.tpm.EKDigest()
	s.apply(statement.Enrolment, hostURI, record.Enrolment{Version: record.Version, ID: hostURI, Time: s.seconds(), Nonce: nonce(16),
		Host: &record.Host{EK: ek[:], Labels: map[string]string{"env": "test"}, Gate: gateURI}})
}

func (s *stage) enrolHost() {
	s.Helper()
	s.approve()
	request, key := s.tpm.GateRequest(s)
	s.gate = must(statement.NewSigner(key))(s)
	s.chain.epoch = nonce(16)
	conn := issuer.NewConnection()
	cred := must(s.issuer.BeginEnrolment(s.ctx, conn, must(request.Encode())(s)))(s)
	secret := must(s.tpm.Activate(*cred))(s)
	must(s.issuer.FinishEnrolment(s.ctx, conn, secret))(s)
}

func (s *stage) publish(toml string) {
	s.Helper()
	doc := must(firmwarepolicy.ParseTOML([]byte(toml)))(s)
	kind := record.PolicyKind(doc.Kind())
	s.policies[kind], s.docs[kind] = doc.Version(), doc
	s.apply(statement.Policy, doc.ID(), record.Policy{Version: record.Version, Kind: kind, ID: doc.ID(), Revision: doc.Version(),
		Document: doc.Canonical(), Time: s.seconds()})
}

// appraisal returns the next version of the appraisal policy, with more at its end.
func (s *stage) appraisal(more string) string {
	return fmt.Sprintf(`schema = 1
kind = "appraisal"
id = "https://issuer.example/policy/hosts"
version = %d
expires = 2030-01-01T00:00:00Z

[pcrs]
bank = "sha256"
quote = [0, 4, 7, 11]
bind = [4, 7, 11]

[limits]
evidence_age = "30s"

[reference]
pcr4 = [%q]

[[require]]
name = "secure-boot-on"
code = "SECURE_BOOT_OFF"
expr = "facts.secure_boot.enabled"

[[require]]
name = "boot-programs"
expr = "facts.pcr[4] in ref.pcr4"
%s`, s.policies[record.Appraisal]+1, hex.EncodeToString(s.boot.PCRs("sha256")[4]), more)
}

func (s *stage) authorization(lifetime string) string {
	return fmt.Sprintf(`schema = 1
kind = "authorization"
id = "https://issuer.example/policy/who"
version = %d
expires = 2030-01-01T00:00:00Z

[[rule]]
name = "reconcile"
initiators = [%q, %q]
audiences = [%q]
lifetime = %q
uses = 2

[rule.hosts]
env = "test"

[[rule.scope]]
target = %q
operations = ["execute"]
code = [%q]
`, s.policies[record.Authorization]+1, robotURI, mallory, gateURI, lifetime, target, hex.EncodeToString(code[:]))
}

func (s *stage) revoke(c record.Cause, target string) {
	s.Helper()
	s.apply(statement.Revocation, issuerURI, record.Revocation{Version: record.Version, Cause: c, Target: target, Time: s.seconds(),
		Why: "a test", Nonce: nonce(16)})
}

// asking is one attempt to get an artifact. Nil fields are those of a good one.
type asking struct {
	initiator string
	edit      func(*artifact.RequestClaims)
	boot      *bootlog.Boot
	tpm       *softtpm.TPM
	want      func(*attest.Want)
	log       []byte // in place of the boot's
	foreign   bool   // the challenge is of another connection
	beside    bool   // something stands beside the request's signature
}

func (s *stage) requestClaims(a asking) artifact.RequestClaims {
	return artifact.RequestClaims{Initiator: a.initiator, Host: hostURI, Audience: gateURI, Expires: s.seconds() + 60, IssuedAt: s.seconds(),
		ID: nonce(16), Scope: artifact.Scope{{Target: target, Terms: artifact.Terms{Operations: artifact.Execute, Code: []artifact.Digest{artifact.SHA256Digest(code)}}}},
		Execution: artifact.Execution{ID: nonce(16)}, Limits: &artifact.Limits{Uses: 2}, Lifetime: 300}
}

// ask asks for an artifact as a host does.
func (s *stage) ask(a asking) (*issuer.Minted, *artifact.RequestClaims, error) {
	s.Helper()
	s.tick()
	if a.initiator == "" {
		a.initiator = robotURI
	}
	a.tpm = cmp.Or(a.tpm, s.tpm)
	conn := issuer.NewConnection()
	ch := must(s.issuer.Challenge(s.ctx, conn))(s)
	want := attest.Want{AK: a.tpm.AK, Challenge: attest.Nonce(ch.Challenge), Selection: attest.Selection{Bank: ch.Bank}}
	for _, p := range ch.Quote {
		want.Selection.PCRs = append(want.Selection.PCRs, int(p))
	}
	for _, p := range ch.Bind {
		want.Bind = append(want.Bind, int(p))
	}
	copy(want.Exporter[:], nonce(32))
	exporter := want.Exporter
	c := s.requestClaims(a)
	cnf := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(s)
	thumb := must(statement.NewKey(cnf.Public()))(s).Thumbprint()
	c.Confirmation = artifact.Thumbprint{Key: thumb[:]}
	if a.edit != nil {
		a.edit(&c)
	}
	raw := must(artifact.SignRequest(s.ctx, s.keys[a.initiator], c))(s)
	want.Request = statement.DigestOf(raw)
	if a.want != nil {
		a.want(&want)
	}
	tpm := *a.tpm
	tpm.Edit.CNF = func(p *tpm2.TPMTPublic) { // the request names the key, and the quote the request
		point := must(cnf.PublicKey.Bytes())(s)[1:]
		p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[:32]}, Y: tpm2.TPM2BECCParameter{Buffer: point[32:]}})
	}
	a.boot = cmp.Or(a.boot, s.boot)
	ev := tpm.Evidence(s, want, a.boot.PCRs("sha256"), a.boot.Log)
	if a.log != nil {
		ev.BootLog = a.log
	}
	encoded := must(ev.Encode())(s)
	if a.foreign {
		conn = issuer.NewConnection()
	}
	if a.beside {
		raw = must(statement.Attach(raw, []byte("noise")))(s)
	}
	minted, err := s.issuer.Mint(s.ctx, conn, exporter, raw, encoded)
	return minted, &c, err
}

// permit gets an artifact.
func (s *stage) permit() (*issuer.Minted, *artifact.RequestClaims) {
	s.Helper()
	m, c, err := s.ask(asking{})
	if err != nil {
		s.Fatal(err)
	}
	return m, c
}

// refuse asks and must be refused, with a logged denial.
func (s *stage) refuse(want denial.Reason, a asking) {
	s.Helper()
	_, _, err := s.ask(a)
	if !denial.Is(err, want) {
		s.Fatalf("got %v, want %d %s", err, want.Code(), want)
	}
}

// report has the gate write a record about an artifact, and returns its digest.
func (s *stage) report(minted *issuer.Minted, event record.Event, edit func(*record.Record)) (statement.Digest, error) {
	s.Helper()
	s.tick()
	claims, digest, err := artifact.Inspect(minted.Artifact)
	if err != nil {
		s.Fatal(err)
	}
	r := record.Record{Version: record.Version, Event: event, Time: s.seconds(), CTI: claims.ID, Artifact: digest[:], Workload: hostURI,
		Initiator: claims.Initiator.Principal, Policy: &record.PolicyRef{ID: claims.Policy.ID, Hash: claims.Policy.Hash.Value},
		Emitter: record.Emitter{URI: gateURI, Epoch: s.chain.epoch, Seq: s.chain.next}, Previous: s.chain.previous}
	if event == record.EventStart || event == record.EventEnd {
		r.Execution = &record.Execution{ID: claims.Execution.ID, Use: 1, Code: code[:]}
	}
	if edit != nil {
		edit(&r)
	}
	leaf := must(r.Sign(s.ctx, s.gate, gateURI))(s)
	own := statement.DigestOf(leaf)
	if _, err := s.issuer.Take(s.ctx, leaf); err != nil {
		return own, err
	}
	s.chain.next, s.chain.previous = s.chain.next+1, own[:]
	return own, nil
}

// run has the gate record a start and an end.
func (s *stage) run(minted *issuer.Minted, use uint64) {
	s.Helper()
	start := must(s.report(minted, record.EventStart, func(r *record.Record) { r.Execution.Use = use }))(s)
	must(s.report(minted, record.EventEnd, func(r *record.Record) { r.Execution.Use, r.Execution.Start = use, start[:] }))(s)
}

// trust returns the auditor's trust file.
func (s *stage) trust() *artifact.Trust {
	s.Helper()
	genesis := must(statement.Decode(s.act[0], statement.MaxStatement))(s)
	t := &artifact.Trust{Version: 1, Expires: s.clock.AddDate(1, 0, 0), Genesis: statement.DigestOf(genesis.Payload()), Issuer: issuerURI, Log: logURI,
		RevocationAge: artifact.DefaultRevocationAge, Lifetime: artifact.DefaultLifetime,
		Policies: []artifact.Pin{{ID: "https://issuer.example/policy/who", MinVersion: 1}, {ID: "https://issuer.example/policy/hosts", MinVersion: 1}},
		TPMRoots: []artifact.TPMRoot{{PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.vendor.Root.Raw}))}}}
	for _, p := range record.Purposes() {
		t.Keys = append(t.Keys, artifact.TrustKey{Purpose: artifact.Purpose(p), Key: s.keys[p].Key()})
	}
	return must(artifact.ParseTrust(must(t.Marshal())(s)))(s)
}

// export returns the bundle of a query.
func (s *stage) export(q audit.Query) []byte {
	s.Helper()
	s.tick()
	b := must(audit.Build(s.ctx, s.log, s.log.Head().Head, s.issuer, q))(s)
	defer b.Close()
	var out, again bytes.Buffer
	if err := b.Write(s.ctx, &out); err != nil {
		s.Fatal(err)
	}
	if err := b.Write(s.ctx, &again); err != nil || !bytes.Equal(out.Bytes(), again.Bytes()) {
		s.Fatalf("writing the bundle again: %v, or other bytes", err)
	}
	return out.Bytes()
}

// verify verifies a bundle as the auditor.
func (s *stage) verify(raw []byte) *audit.Report {
	s.Helper()
	return must(audit.Verify(s.ctx, bytes.NewReader(raw), s.trust(), audit.Options{Now: s.clock}))(s)
}
