package gate

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
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
	base      = "https://issuer.example:8443"
	hostURI   = "spiffe://example/host/"
	gateURI   = "https://gate.example/"
	robotURI  = "spiffe://example/robot"
	alice     = "mailto:alice@example.org"
	whatURI   = "https://issuer.example/policy/appraisal"
	whoURI    = "https://issuer.example/policy/authorization"
)

func must[T any](v T, err error) func(testing.TB) T {
	return func(tb testing.TB) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

func newKey(tb testing.TB) (*ecdsa.PrivateKey, statement.Signer) {
	tb.Helper()
	priv := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(tb)
	return priv, must(statement.NewSigner(priv))(tb)
}

func nonce(tb testing.TB) []byte {
	tb.Helper()
	b := make([]byte, 16)
	must(rand.Read(b))(tb)
	return b
}

// clock is a clock that tests set.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

// world is an issuer with a log of its own, one authority, one initiator, both policies, and a machine's boot.
type world struct {
	tb     testing.TB
	clock  clock
	people map[string]statement.Signer // alice and the robot
	keys   map[string]statement.Signer // of the issuer, by purpose
	log    *tlog.Log
	issuer *issuer.Issuer
	vendor *softtpm.Vendor
	boot   *bootlog.Boot
	root   statement.Digest // genesis

	codes   []string // that the authorization policy allows
	version uint64   // of that policy
}

func newWorld(tb testing.TB, roots ...*x509.Certificate) *world {
	tb.Helper()
	w := &world{tb: tb, people: map[string]statement.Signer{}, keys: map[string]statement.Signer{}, vendor: softtpm.NewVendor(tb),
		boot: bootlog.New(bootlog.Options{})}
	for _, name := range []string{alice, robotURI} {
		_, w.people[name] = newKey(tb)
	}
	roots = append(roots, w.vendor.Root)
	g := &record.Genesis{Version: record.Version, Issuer: issuerURI, Log: logURI, Time: w.seconds(), Epoch: nonce(tb),
		Authorities: []record.Authority{{Person: alice, Key: w.people[alice].Key()}},
		Quorums:     map[record.Role]record.Quorum{}, Keys: map[string]statement.Key{}}
	for _, r := range roots {
		sum := sha256.Sum256(r.Raw)
		g.Roots = append(g.Roots, sum[:])
	}
	for _, r := range record.Roles() {
		g.Quorums[r] = record.Quorum{Threshold: 1, Persons: []string{alice}}
	}
	for _, p := range record.Purposes() {
		_, w.keys[p] = newKey(tb)
		g.Keys[p] = w.keys[p].Key()
	}
	act := w.act(statement.Genesis, g)
	w.root = statement.DigestOf(act[0])
	ctx := context.Background() // not tb.Context, which has ended when the log is closed
	w.log = must(tlog.Open(ctx, tlog.Options{Path: filepath.Join(tb.TempDir(), "log"), Signer: w.keys[record.PurposeLog],
		Issuer: issuerURI, LogID: logURI, Now: w.clock.now}))(tb)
	tb.Cleanup(func() {
		if err := w.log.Close(); err != nil {
			tb.Error(err)
		}
	})
	must(issuer.Bootstrap(ctx, w.log, act, w.keys[record.PurposeRecord], nil, w.clock.now()))(tb)
	w.issuer = must(issuer.Open(ctx, issuer.Options{Log: w.log, Roots: roots, Base: base, Now: w.clock.now,
		Signers: issuer.Signers{Artifact: w.keys[record.PurposeArtifact], Record: w.keys[record.PurposeRecord], Status: w.keys[record.PurposeStatus]}}))(tb)
	w.apply(statement.Enrolment, &record.Enrolment{Version: record.Version, ID: robotURI, Time: w.seconds(), Nonce: nonce(tb),
		Initiator: &record.Initiator{Kind: record.Service, Key: w.people[robotURI].Key()}})
	w.publish(record.Appraisal, whatURI, fmt.Sprintf(appraisalPolicy, w.boot.PCRs("sha256")[4]))
	return w
}

// appraisalPolicy accepts the machine's boot; %s is the value of PCR 4.
const appraisalPolicy = `
schema = 1
kind = "appraisal"
id = "` + whatURI + `"
version = 1
expires = 2040-01-01T00:00:00Z
[pcrs]
bank = "sha256"
quote = [0, 4, 7, 11, 14]
bind = [7, 11, 14]
[limits]
evidence_age = "60s"
[[require]]
name = "secure-boot-on"
code = "SECURE_BOOT_OFF"
expr = "facts.secure_boot.enabled"
[[require]]
name = "boot-programs"
expr = "facts.pcr[4] == '%x'"
`

// authorizationPolicy lets the robot run some code anywhere, for an hour, a hundred times.
const authorizationPolicy = `
schema = 1
kind = "authorization"
id = "` + whoURI + `"
version = %d
expires = 2040-01-01T00:00:00Z
[[rule]]
name = "anything"
initiators = ["` + robotURI + `"]
audiences = ["` + gateURI + `a", "` + gateURI + `b"]
lifetime = "1h"
uses = 100
[[rule.scope]]
target = "file:/*"
operations = ["execute"]
code = %q
`

// allow has a policy published that allows the code of the scope too.
func (w *world) allow(scope artifact.Scope) {
	w.tb.Helper()
	before := len(w.codes)
	for _, p := range scope {
		for _, d := range p.Terms.Code {
			if code := hex.EncodeToString(d.Value); !slices.Contains(w.codes, code) {
				w.codes = append(w.codes, code)
			}
		}
	}
	if len(w.codes) > before {
		w.version++
		text := fmt.Sprintf(authorizationPolicy, w.version, w.codes)
		w.publish(record.Authorization, whoURI, strings.ReplaceAll(text, "\" \"", "\", \""))
	}
}

func (w *world) seconds() uint64 { return uint64(w.clock.now().Unix()) }

func (w *world) act(kind statement.Kind, payload any) record.Bundle {
	w.tb.Helper()
	enc := must(statement.Marshal(payload))(w.tb)
	return must(record.SignAct(context.Background(), nil, w.people[alice], kind, statement.Claims{Issuer: issuerURI, Subject: "urn:writ:test"}, enc))(w.tb)
}

func (w *world) apply(kind statement.Kind, payload any) {
	w.tb.Helper()
	must(w.issuer.Apply(context.Background(), kind, w.act(kind, payload)))(w.tb)
}

func (w *world) publish(kind record.PolicyKind, id, text string) {
	w.tb.Helper()
	doc := must(firmwarepolicy.ParseTOML([]byte(text)))(w.tb)
	w.apply(statement.Policy, &record.Policy{Version: record.Version, Kind: kind, ID: id, Revision: doc.Version(), Document: doc.Canonical(), Time: w.seconds()})
}

func (w *world) revoke(cause record.Cause, target string) {
	w.tb.Helper()
	w.apply(statement.Revocation, &record.Revocation{Version: record.Version, Cause: cause, Target: target, Time: w.seconds(), Why: "test", Nonce: nonce(w.tb)})
}

// trust returns the trust file that pins this world.
func (w *world) trust() *artifact.Trust {
	t := &artifact.Trust{Version: 1, Expires: w.clock.now().AddDate(1, 0, 0), Genesis: w.root, Issuer: issuerURI, Log: logURI,
		RevocationAge: time.Minute, Lifetime: time.Hour, Policies: []artifact.Pin{{ID: whatURI, MinVersion: 1}, {ID: whoURI, MinVersion: 1}}}
	for purpose, s := range w.keys {
		t.Keys = append(t.Keys, artifact.TrustKey{Purpose: artifact.Purpose(purpose), Key: s.Key()})
	}
	return t
}

// records returns the records of gates and of the issuer in the log, in order.
func (w *world) records() []*record.Record {
	w.tb.Helper()
	var out []*record.Record
	err := w.log.Leaves(context.Background(), 0, w.log.Head().Size, func(_ uint64, leaf []byte) error {
		env, err := statement.Decode(leaf, statement.MaxStatement)
		if err != nil || env.Kind() != statement.Record {
			return err
		}
		var r record.Record
		if err := statement.Unmarshal(env.Payload(), &r); err != nil {
			return err
		}
		out = append(out, &r)
		return nil
	})
	if err != nil {
		w.tb.Fatal(err)
	}
	return out
}

// story returns what a gate has had logged, in words, and checks that it is one unbroken chain.
func (w *world) story(gate string) (words []string) {
	w.tb.Helper()
	next := uint64(0)
	for _, r := range w.records() {
		if r.Emitter.URI != gate {
			continue
		}
		if r.Emitter.Seq != next || (r.Previous == nil) != (next == 0) {
			w.tb.Errorf("record %d of the gate stands at place %d", r.Emitter.Seq, next)
		}
		next++
		word := r.Event.String()
		switch {
		case r.Event == record.EventDenial:
			word = strconv.FormatUint(r.Reasons[0], 10)
		case r.Event == record.EventStart:
			word = fmt.Sprintf("start %d", r.Execution.Use)
		case r.Event == record.EventEnd:
			word = fmt.Sprintf("end %d", r.Execution.Status)
		}
		words = append(words, word)
	}
	return words
}

// line is the way to the issuer, as a gate sees it. What it does to a call can be changed.
type line struct {
	issuer *issuer.Issuer
	mu     sync.Mutex
	record func(ctx context.Context, leaf []byte, pass func() ([]byte, error)) ([]byte, error)
	status func(uri string, pass func() ([]byte, error)) ([]byte, error)
	asked  []string // status lists
}

var errDown = errors.New("reaching issuer: connection refused")

// overTheWire is what is left of a refusal when it has come through HTTP.
func overTheWire(err error) error {
	var r *issuer.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r) && r.Known:
		return denial.Known(r.Denial).Denial()
	}
	return denial.Stranger(denial.Of(err)).Denial()
}

func (l *line) Record(ctx context.Context, leaf []byte) ([]byte, error) {
	pass := func() ([]byte, error) {
		raw, err := l.issuer.Take(ctx, leaf)
		return raw, overTheWire(err)
	}
	l.mu.Lock()
	f := l.record
	l.mu.Unlock()
	if f != nil {
		return f(ctx, leaf, pass)
	}
	return pass()
}

func (l *line) Status(ctx context.Context, uri string) ([]byte, error) {
	pass := func() ([]byte, error) {
		n, err := strconv.ParseUint(strings.TrimPrefix(uri, base+"/v1/status/"), 10, 64)
		if err != nil {
			return nil, errDown
		}
		raw, err := l.issuer.Status(ctx, n)
		return raw, overTheWire(err)
	}
	l.mu.Lock()
	l.asked = append(l.asked, uri)
	f := l.status
	l.mu.Unlock()
	if f != nil {
		return f(uri, pass)
	}
	return pass()
}

// onRecord changes what happens to records; nil makes the line whole again.
func (l *line) onRecord(f func(ctx context.Context, leaf []byte, pass func() ([]byte, error)) ([]byte, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.record = f
}

func (l *line) onStatus(f func(uri string, pass func() ([]byte, error)) ([]byte, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status = f
}

func down(context.Context, []byte, func() ([]byte, error)) ([]byte, error) { return nil, errDown }

// lost lets the record reach the issuer and loses the answer.
func lost(_ context.Context, _ []byte, pass func() ([]byte, error)) ([]byte, error) {
	if _, err := pass(); err != nil {
		return nil, err
	}
	return nil, errDown
}

// machine is a host whose TPM is made of software keys.
type machine struct {
	*softtpm.TPM
	mu   sync.Mutex
	keys map[string]*ecdsa.PrivateKey // by TPM2B_PUBLIC
}

func (m *machine) AK(ctx context.Context) ([]byte, error) { return m.TPM.AK, context.Cause(ctx) }

func (m *machine) Clock(context.Context) (attest.Clock, error) {
	c := m.TPM.Clock
	return attest.Clock{Milliseconds: c.Clock, Resets: uint64(c.ResetCount), Restarts: uint64(c.RestartCount), Safe: bool(c.Safe)}, nil
}

func (m *machine) Signer(_ context.Context, k *attester.Key) (statement.Signer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	priv, ok := m.keys[string(k.Public)]
	if !ok {
		return nil, denial.New(denial.HostMismatch, "the key was not made by this TPM")
	}
	return statement.NewSigner(priv)
}

// keep makes the key one of this TPM's.
func (m *machine) keep(role attester.Role, public []byte, priv *ecdsa.PrivateKey) *attester.Key {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.keys[string(public)] = priv
	k := &attester.Key{Role: role, Public: public, Private: []byte("held by the test")}
	if role == attester.CNF {
		k.Bank, k.PCRs = "sha256", []int{7, 11, 14}
	}
	return k
}

// rig is a gate on an enrolled machine.
type rig struct {
	*world
	name    string
	machine *machine // nil on a host with a TPM of its own
	tpm     TPM
	mint    func(permit) ([]byte, *attester.Key) // gets an artifact on the real path: challenge, evidence, decision, log
	line    *line
	state   string
	trusted *artifact.Trust
	gate    *Gate
	child   string // path of the test program
}

func newRig(tb testing.TB, w *world, name string) *rig {
	tb.Helper()
	r := &rig{world: w, name: name, line: &line{issuer: w.issuer}, state: filepath.Join(tb.TempDir(), "state"), trusted: w.trust()}
	r.machine = &machine{TPM: w.vendor.New(tb, softtpm.Options{}), keys: map[string]*ecdsa.PrivateKey{}}
	r.tpm, r.mint = r.machine, r.mintSoftly
	req, priv := r.machine.GateRequest(tb)
	conn := issuer.NewConnection()
	r.approve(r.machine.EKDigest())
	cred := must(w.issuer.BeginEnrolment(context.Background(), conn, must(req.Encode())(tb)))(tb)
	must(w.issuer.FinishEnrolment(context.Background(), conn, must(r.machine.Activate(*cred))(tb)))(tb)
	if err := Init(r.state, r.machine.keep(attester.Gate, req.GateKey, priv)); err != nil {
		tb.Fatal(err)
	}
	r.child = r.program("child", childProgram(tb))
	r.reopen()
	return r
}

func (r *rig) approve(ek [32]byte) {
	r.tb.Helper()
	r.apply(statement.Enrolment, &record.Enrolment{Version: record.Version, ID: hostURI + r.name, Time: r.seconds(), Nonce: nonce(r.tb),
		Host: &record.Host{EK: ek[:], Labels: map[string]string{}, Gate: gateURI + r.name}})
}

// options are those of the rig's gate.
func (r *rig) options() Options {
	return Options{Trust: r.trusted, Audience: gateURI + r.name, Issuer: r.line, TPM: r.tpm, State: r.state, Now: r.clock.now}
}

// reopen opens the gate anew, as the next process does.
func (r *rig) reopen() {
	r.tb.Helper()
	r.gate = must(Open(context.Background(), r.options()))(r.tb)
}

// program writes a file that may be executed.
func (r *rig) program(name string, content []byte) string {
	r.tb.Helper()
	dir := must(filepath.EvalSymlinks(r.tb.TempDir()))(r.tb)
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, content, 0o700); err != nil {
		r.tb.Fatal(err)
	}
	return path
}

// permit is what an artifact is asked for.
type permit struct {
	scope    artifact.Scope
	uses     uint64
	lifetime uint64 // seconds; 0: 300
	audience string // "": the rig's gate
}

// file returns the permission to execute a file as it is now. Nil args are not pinned.
func file(tb testing.TB, path string, args []string, c *artifact.Constraints) artifact.Permission {
	tb.Helper()
	terms := artifact.Terms{Operations: artifact.Execute, Constraints: c}
	data := must(os.ReadFile(path))(tb)
	terms.Code = []artifact.Digest{artifact.SHA256Digest(sha256.Sum256(data))}
	if args != nil {
		d := artifact.ParametersDigest(append([]string{path}, args...))
		terms.Parameters = &d
	}
	return artifact.Permission{Target: "file:" + path, Terms: terms}
}

// request signs a request for the permit with the given confirmation key.
func (r *rig) request(p permit, cnf statement.Key) []byte {
	r.tb.Helper()
	if p.audience == "" {
		p.audience = gateURI + r.name
	}
	if p.lifetime == 0 {
		p.lifetime = 300
	}
	thumb := cnf.Thumbprint()
	return must(artifact.SignRequest(context.Background(), r.people[robotURI], artifact.RequestClaims{Initiator: robotURI, Host: hostURI + r.name,
		Audience: p.audience, IssuedAt: r.seconds(), Expires: r.seconds() + 60, ID: nonce(r.tb), Confirmation: artifact.Thumbprint{Key: thumb[:]},
		Scope: p.scope, Execution: artifact.Execution{ID: nonce(r.tb)}, Limits: &artifact.Limits{Uses: max(p.uses, 1)}, Lifetime: p.lifetime}))(r.tb)
}

func (r *rig) mintSoftly(p permit) ([]byte, *attester.Key) {
	r.tb.Helper()
	priv, signer := newKey(r.tb)
	ctx, conn := context.Background(), issuer.NewConnection()
	exporter := [32]byte{1}
	r.allow(p.scope)
	ch := must(r.issuer.Challenge(ctx, conn))(r.tb)
	request := r.request(p, signer.Key())
	point := must(priv.PublicKey.Bytes())(r.tb)
	r.machine.Edit.CNF = func(p *tpm2.TPMTPublic) {
		p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
	}
	want := attest.Want{Challenge: attest.Nonce(ch.Challenge), Request: must(artifact.DecodeRequest(request))(r.tb).Digest(), Exporter: exporter,
		Selection: attest.Selection{Bank: "sha256", PCRs: []int{0, 4, 7, 11, 14}}, Bind: []int{7, 11, 14}}
	evidence := r.machine.Evidence(r.tb, want, r.boot.PCRs("sha256"), r.boot.Log)
	minted, err := r.issuer.Mint(ctx, conn, exporter, request, must(evidence.Encode())(r.tb))
	if err != nil {
		r.tb.Fatalf("minting: %v", err)
	}
	return minted.Artifact, r.machine.keep(attester.CNF, evidence.CNF, priv)
}

// command returns the command that runs the child with the arguments, under an artifact for just that.
func (r *rig) command(args ...string) Command {
	r.tb.Helper()
	return r.commandFor(permit{scope: artifact.Scope{file(r.tb, r.child, nil, nil)}}, r.child, args...)
}

func (r *rig) commandFor(p permit, path string, args ...string) Command {
	r.tb.Helper()
	raw, cnf := r.mint(p)
	return Command{Artifact: raw, CNF: cnf, Path: path, Args: args}
}

// exec runs a command and returns the outcome with what it wrote to standard output.
func (r *rig) exec(cmd Command) (Outcome, string) {
	r.tb.Helper()
	out, text, err := r.try(cmd)
	if err != nil {
		r.tb.Fatal(err)
	}
	return out, text
}

func (r *rig) try(cmd Command) (Outcome, string, error) {
	r.tb.Helper()
	f := must(os.CreateTemp(r.tb.TempDir(), "out"))(r.tb)
	defer f.Close()
	cmd.Stdout, cmd.Stderr = f, f
	out, err := r.gate.Exec(context.Background(), cmd)
	return out, string(must(os.ReadFile(f.Name()))(r.tb)), err
}

// refuses checks that the command is denied with the reason and that nothing ran.
func (r *rig) refuses(cmd Command, want denial.Reason) Outcome {
	r.tb.Helper()
	out, text := r.exec(cmd)
	wantDenied(r.tb, out, want)
	if text != "" {
		r.tb.Errorf("something ran: %q", text)
	}
	return out
}

func wantDenied(tb testing.TB, out Outcome, want denial.Reason) {
	tb.Helper()
	switch {
	case out.Started:
		tb.Errorf("the program was started; want the denial %d %s", want.Code(), want)
	case out.Denied == nil:
		tb.Errorf("no denial; want %d %s", want.Code(), want)
	case !denial.Is(out.Denied, want):
		tb.Errorf("got %v at %s, want %d %s", out.Denied, out.Denied.Stage, want.Code(), want)
	}
}

// runs checks that the command runs and ends with the status, and returns what it wrote.
func (r *rig) runs(cmd Command, status int) string {
	r.tb.Helper()
	out, text := r.exec(cmd)
	if out.Denied != nil || !out.Started || !out.Logged || out.Status != status {
		r.tb.Fatalf("got %+v, want a logged run that ends with %d; it wrote %q", out, status, text)
	}
	return text
}

// mark returns a path that does not exist, and a function that reports whether it exists now.
func (r *rig) mark() (path string, ran func() bool) {
	path = filepath.Join(r.tb.TempDir(), "mark")
	return path, func() bool {
		_, err := os.Stat(path)
		return err == nil
	}
}

// edit changes the bytes of a file.
func edit(tb testing.TB, path string, change func([]byte) []byte) {
	tb.Helper()
	data := must(os.ReadFile(path))(tb)
	if err := os.WriteFile(path, change(bytes.Clone(data)), 0o600); err != nil {
		tb.Fatal(err)
	}
}
