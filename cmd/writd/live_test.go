package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/issuer/client"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/test/stock"
)

// The names in a live issuer.
const (
	liveIssuer = "https://issuer.example"
	liveGate   = "https://gate.example/a"
	liveRobot  = "spiffe://example/initiator/robot"
	liveTarget = "file:/usr/bin/report"
)

// live is an issuer as an operator has it: writd with its signer process and its files, initialized, served by a process of its
// own; and hosts that ask it over TLS.
type live struct {
	testing.TB
	dir     string
	url     string
	people  []statement.Signer // two authorities
	robot   statement.Signer
	vendor  *softtpm.Vendor
	boot    *bootlog.Boot
	said    *transcript // by every process
	serving *exec.Cmd
	client  *client.Client

	patience time.Duration // with a command of writd
}

// transcript keeps everything that processes write, or the last of it.
type transcript struct {
	mu   sync.Mutex
	b    bytes.Buffer
	last int // bytes to keep at least; 0: all
}

// Write implements io.Writer.
func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.last > 0 && t.b.Len() > 2*t.last {
		t.b.Next(t.b.Len() - t.last)
	}
	return t.b.Write(p)
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

func must[T any](v T, err error) func(testing.TB) T { return stock.Must(v, err) }

// newLive initializes an issuer with a token, which is the table token of the configuration, and other settings before it.
func newLive(tb testing.TB, token string, settings ...string) *live {
	tb.Helper()
	dir := must(os.MkdirTemp("", "live"))(tb) // short enough for a socket
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	l := &live{TB: tb, dir: dir, people: []statement.Signer{stock.Signer(tb), stock.Signer(tb)}, robot: stock.Signer(tb),
		vendor: softtpm.NewVendor(tb), boot: bootlog.New(bootlog.Options{}), said: &transcript{}, patience: time.Minute}
	address := freeAddress(tb)
	l.url = "https://" + address
	text := fmt.Sprintf("url = %q\nlisten = %q\nadmin_socket = %q\nlog = %q\ntls_cert = %q\ntls_key = %q\ntpm_roots = [%q]\n%s\n"+
		"[limits]\nrate = 100000\npeer_rate = 100000\n[token]\n%s",
		l.url, address, l.path("admin.sock"), l.path("log.db"), l.path("tls.pem"), l.path("tls.key"), l.path("roots.pem"), strings.Join(settings, "\n"), token)
	l.write("writd.toml", []byte(text))
	l.write("roots.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: l.vendor.Root.Raw}))
	args := []string{"init", "--issuer", liveIssuer, "--self-signed-tls", "--draft", l.path("genesis")}
	for i, p := range l.people {
		l.write(fmt.Sprintf("person%d.pub", i), must(p.Key().PEM())(tb))
		args = append(args, "--authority", fmt.Sprintf("%s=%s", person(i), l.path(fmt.Sprintf("person%d.pub", i))))
	}
	l.must(args...)
	draft := must(record.DecodeDraft(must(os.ReadFile(l.path("genesis")))(tb)))(tb)
	act := must(draft.Sign(tb.Context(), l.people[0]))(tb)
	act = must(act.Cosign(tb.Context(), l.people[1]))(tb)
	l.write("genesis", must(act.Encode())(tb))
	l.must("init", "--genesis", l.path("genesis"))
	return l
}

func person(i int) string { return fmt.Sprintf("mailto:person%d@example.org", i) }

func freeAddress(tb testing.TB) string {
	tb.Helper()
	l := must(net.Listen("tcp", "127.0.0.1:0"))(tb)
	defer l.Close()
	return l.Addr().String()
}

func (l *live) path(name string) string { return filepath.Join(l.dir, name) }

func (l *live) write(name string, data []byte) {
	l.Helper()
	if err := os.WriteFile(l.path(name), data, 0o600); err != nil {
		l.Fatal(err)
	}
}

// token replaces the tokens of the configuration.
func (l *live) token(tables string) {
	l.Helper()
	config, _, _ := strings.Cut(string(must(os.ReadFile(l.path("writd.toml")))(l)), "[token]")
	l.write("writd.toml", []byte(config+"[token]\n"+tables))
}

// command is writd as a process, in which this test program is it.
func (l *live) command(args ...string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", append(args, "--config", l.path("writd.toml"))...)
	cmd.Env = append(os.Environ(), beWritd+"=1")
	cmd.Stdout, cmd.Stderr = l.said, l.said
	return cmd
}

// writ builds the program writ, and returns its file.
func (l *live) writ() string {
	l.Helper()
	program := l.path("writ")
	build := exec.CommandContext(l.Context(), "go", "build", "-o", program, "../writ")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		l.Fatalf("building writ: %v\n%s", err, out)
	}
	return program
}

// status runs a command of writd and returns its exit status with what it wrote.
func (l *live) status(args ...string) (int, string) {
	l.Helper()
	var out transcript
	cmd := l.command(args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	tooLong := time.AfterFunc(l.patience, func() { _ = cmd.Process.Kill() })
	defer tooLong.Stop()
	err := cmd.Run()
	fmt.Fprint(l.said, out.String())
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), out.String()
	}
	if err != nil {
		l.Fatal(err)
	}
	return 0, out.String()
}

// must runs a command of writd that has to succeed.
func (l *live) must(args ...string) string {
	l.Helper()
	status, out := l.status(args...)
	if status != 0 {
		l.Fatalf("writd %s: exit status %d\n%s", args[0], status, out)
	}
	return out
}

// serve starts writd, and returns when it takes connections.
func (l *live) serve() {
	l.Helper()
	cmd := l.command("serve")
	if err := cmd.Start(); err != nil {
		l.Fatal(err)
	}
	l.serving = cmd
	l.Cleanup(l.stop)
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // stop and kill say why it ended
		close(ended)
	}()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(must(os.ReadFile(l.path("tls.pem")))(l))
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(30 * time.Second); ; {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(l.url, "https://"), &tls.Config{RootCAs: roots})
		if err == nil {
			conn.Close()
			break
		}
		select {
		case <-tick.C:
		case <-ended:
			l.Fatalf("writd serve ended: %s", l.said)
		case <-limit:
			l.Fatalf("waiting for writd: %v", err)
		}
	}
	l.client = must(client.New(l.url, roots))(l)
}

// stop ends writd as a service manager does.
func (l *live) stop() {
	if l.serving != nil {
		_ = l.serving.Process.Signal(syscall.SIGTERM)
		l.gone(l.serving.Process.Pid)
		l.serving = nil
	}
}

// gone waits until a process is gone.
func (l *live) gone(pid int) {
	l.Helper()
	within(l, "the process ends", func() bool { return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) })
}

// within waits until something holds. Its limit is that of a machine which does much else; how fast a token heals is tested where it
// is healed.
func within(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(30 * time.Second); !holds(); {
		select {
		case <-tick.C:
		case <-limit:
			tb.Fatalf("waited in vain: %s", what)
		}
	}
}

// apply has both authorities sign an act, and sends it.
func (l *live) apply(kind statement.Kind, payload any) error {
	l.Helper()
	raw := must(statement.Marshal(payload))(l)
	c := statement.Claims{Issuer: liveIssuer, Subject: must(record.SubjectOf(kind, liveIssuer, raw))(l)}
	if kind.Acts() {
		c.IssuedAt, c.Expires = uint64(time.Now().Unix()), uint64(time.Now().Unix())+3600
		var err error
		if c.Sequence, err = l.client.NextAct(l.Context(), kind, c.Subject); err != nil {
			return err
		}
	}
	var b record.Bundle
	for _, p := range l.people {
		b = must(record.SignAct(l.Context(), b, p, kind, c, raw))(l)
	}
	_, err := l.client.Apply(l.Context(), kind, b)
	return err
}

func (l *live) applied(kind statement.Kind, payload any) {
	l.Helper()
	if err := l.apply(kind, payload); err != nil {
		l.Fatal(err)
	}
}

// admit registers the initiator and both policies.
func (l *live) admit() {
	l.Helper()
	now := uint64(time.Now().Unix())
	l.applied(statement.Enrolment, record.Enrolment{Version: record.Version, ID: liveRobot, Time: now, Nonce: stock.Random(16),
		Initiator: &record.Initiator{Kind: record.Service, Key: l.robot.Key()}})
	for _, text := range []string{l.appraisal(), l.authorization()} {
		if err := l.putInForce(text); err != nil {
			l.Fatal(err)
		}
	}
}

// putInForce publishes a policy.
func (l *live) putInForce(text string) error {
	l.Helper()
	doc := must(firmwarepolicy.ParseTOML([]byte(text)))(l)
	return l.apply(statement.Policy, record.Policy{Version: record.Version, Kind: record.PolicyKind(doc.Kind()), ID: doc.ID(),
		Revision: doc.Version(), Document: doc.Canonical(), Time: uint64(time.Now().Unix())})
}

func (l *live) appraisal() string {
	return fmt.Sprintf(`schema = 1
kind = "appraisal"
id = "https://issuer.example/policy/hosts"
version = 1
expires = 2036-01-01T00:00:00Z

[pcrs]
bank = "sha256"
quote = [0, 4, 7, 11]
bind = [4, 7, 11]

[limits]
evidence_age = "30s"

[reference]
pcr4 = [%q]

[[require]]
name = "boot-programs"
expr = "facts.pcr[4] in ref.pcr4"
`, hex.EncodeToString(l.boot.PCRs("sha256")[4]))
}

var liveCode = sha256.Sum256([]byte("the program"))

func (l *live) authorization() string {
	return fmt.Sprintf(`schema = 1
kind = "authorization"
id = "https://issuer.example/policy/who"
version = 1
expires = 2036-01-01T00:00:00Z

[[rule]]
name = "report"
initiators = [%q]
audiences = [%q]
lifetime = "10m"
uses = 1

[rule.hosts]
env = "test"

[[rule.scope]]
target = %q
operations = ["execute"]
code = [%q]
`, liveRobot, liveGate, liveTarget, hex.EncodeToString(liveCode[:]))
}

// machine is an enrolled host. It asks on one connection at a time.
type machine struct {
	live    *live
	uri     string
	tpm     *softtpm.TPM
	gate    statement.Signer // key of its gate; nil: it has none
	session *client.Session

	unchecked []byte // an artifact that nobody has verified yet
}

// enrol admits a host and enrols it.
func (l *live) enrol(uri string) *machine { l.Helper(); return l.enrolGate(uri, "") }

// enrolGate admits a host and enrols it, with a key of its gate if there is one.
func (l *live) enrolGate(uri, gate string) *machine {
	l.Helper()
	m := &machine{live: l, uri: uri, tpm: l.vendor.New(l, softtpm.Options{})}
	m.tpm.CNF = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(l)
	ek := m.tpm.EKDigest()
	l.applied(statement.Enrolment, record.Enrolment{Version: record.Version, ID: uri, Time: uint64(time.Now().Unix()), Nonce: stock.Random(16),
		Host: &record.Host{EK: ek[:], Labels: map[string]string{"env": "test"}, Gate: gate}})
	s := must(l.client.Dial(l.Context()))(l)
	defer s.Close()
	request := m.tpm.EnrolRequest()
	if gate != "" {
		var key *ecdsa.PrivateKey
		request, key = m.tpm.GateRequest(l)
		m.gate = must(statement.NewSigner(key))(l)
	}
	cred := must(s.BeginEnrolment(l.Context(), must(request.Encode())(l)))(l)
	secret := must(m.tpm.Activate(attest.Credential{Blob: cred.Blob, Secret: cred.Secret}))(l)
	must(s.FinishEnrolment(l.Context(), secret))(l)
	return m
}

// ask asks for an artifact, on a new connection if the last one failed.
func (m *machine) ask(ctx context.Context) (raw []byte, err error) {
	if m.session == nil {
		if m.session, err = m.live.client.Dial(ctx); err != nil {
			return nil, err
		}
	}
	defer func() {
		var refused *client.RefusedError
		if err != nil && !errors.As(err, &refused) {
			m.close()
		}
	}()
	ch, err := m.session.Challenge(ctx)
	if err != nil {
		return nil, err
	}
	return m.answer(ctx, m.session, ch)
}

// spoil is what a request and its evidence get wrong; nil: nothing.
type spoil struct {
	by      statement.Signer // who signs the request as liveRobot
	claims  func(*artifact.RequestClaims)
	request func([]byte) []byte
	want    func(*attest.Want)
	boot    *bootlog.Boot
	parts   func(*softtpm.Evidence)
}

// answer asks for an artifact with evidence that answers the challenge, on the session.
func (m *machine) answer(ctx context.Context, session *client.Session, ch *wire.Challenge) ([]byte, error) {
	return m.answerWrongly(ctx, session, ch, spoil{})
}

func (m *machine) answerWrongly(ctx context.Context, session *client.Session, ch *wire.Challenge, s spoil) ([]byte, error) {
	request, err := m.request(ctx, s)
	if err != nil {
		return nil, err
	}
	evidence, err := m.evidence(session, ch, request, s)
	if err != nil {
		return nil, err
	}
	return session.Mint(ctx, request, evidence)
}

// request has the initiator sign what the machine asks for.
func (m *machine) request(ctx context.Context, s spoil) ([]byte, error) {
	now := uint64(time.Now().Unix())
	thumb := must(statement.NewKey(m.tpm.CNF.Public()))(m.live).Thumbprint()
	c := artifact.RequestClaims{Initiator: liveRobot, Host: m.uri, Audience: liveGate,
		IssuedAt: now, Expires: now + 120, ID: stock.Random(16), Lifetime: 600, Confirmation: artifact.Thumbprint{Key: thumb[:]},
		Execution: artifact.Execution{ID: stock.Random(16)}, Scope: artifact.Scope{{Target: liveTarget, Terms: artifact.Terms{
			Operations: artifact.Execute, Code: []artifact.Digest{artifact.SHA256Digest(liveCode)}}}}}
	if s.claims != nil {
		s.claims(&c)
	}
	if s.by == nil {
		s.by = m.live.robot
	}
	raw, err := artifact.SignRequest(ctx, s.by, c)
	if err == nil && s.request != nil {
		raw = s.request(raw)
	}
	return raw, err
}

// evidence answers a challenge of the session.
func (m *machine) evidence(session *client.Session, ch *wire.Challenge, request []byte, s spoil) ([]byte, error) {
	want := attest.Want{AK: m.tpm.AK, Challenge: attest.Nonce(ch.Challenge), Request: statement.DigestOf(request), Exporter: session.Exporter(),
		Selection: attest.Selection{Bank: ch.Bank}}
	for _, p := range ch.Quote {
		want.Selection.PCRs = append(want.Selection.PCRs, int(p))
	}
	for _, p := range ch.Bind {
		want.Bind = append(want.Bind, int(p))
	}
	if s.want != nil {
		s.want(&want)
	}
	boot := m.live.boot
	if s.boot != nil {
		boot = s.boot
	}
	parts := m.tpm.Evidence(m.live, want, boot.PCRs(ch.Bank), boot.Log)
	if s.parts != nil {
		s.parts(&parts)
	}
	return parts.Encode()
}

func (m *machine) close() {
	if m.session != nil {
		m.session.Close()
		m.session = nil
	}
}

// asked returns an artifact, verified as a relying party does with the trust file of the issuer.
func (m *machine) asked() []byte {
	m.live.Helper()
	raw := must(m.ask(m.live.Context()))(m.live)
	m.live.verify(raw)
	return raw
}

// verify verifies artifacts as a relying party does, with the trust file that writd prints.
func (l *live) verify(artifacts ...[]byte) {
	l.Helper()
	trust := must(artifact.ParseTrust([]byte(l.must("trust", "--audience", liveGate))))(l)
	status := map[string]*artifact.Status{}
	for _, raw := range artifacts {
		c, _, err := artifact.Inspect(raw)
		if err != nil {
			l.Fatal(err)
		}
		if status[c.Status.List.URI] == nil {
			token := must(l.client.Status(l.Context(), c.Status.List.URI))(l)
			status[c.Status.List.URI] = must(artifact.VerifyStatus(token, trust, time.Now(), 0))(l)
		}
		if _, err := artifact.Verify(raw, artifact.Want{Trust: trust, Now: time.Now(), Status: status[c.Status.List.URI]}); err != nil {
			l.Fatalf("an artifact that was given out does not verify: %v", err)
		}
	}
}

// signer returns the signer processes of the issuer that serves.
func (l *live) signers() (pids []int) {
	l.Helper()
	children := must(filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", l.serving.Process.Pid)))(l)
	for _, path := range children {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // the thread has ended
		}
		for _, word := range strings.Fields(string(data)) {
			var pid int
			if _, err := fmt.Sscan(word, &pid); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}
