package gate

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/softtpm"
)

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
	uptime  *stopwatch // what has passed on the host, whatever its clock of the day is set to
	state   string
	trusted *artifact.Trust
	gate    *Gate
	keeper  int    // process number of the one of the program that was begun last
	child   string // path of the test program
}

func newRig(tb testing.TB, w *world, name string) *rig {
	tb.Helper()
	r := &rig{world: w, name: name, uptime: newStopwatch(), line: &line{issuer: w.issuer}, state: filepath.Join(tb.TempDir(), "state"), trusted: w.trust()}
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

// permit is what an artifact is asked for.
type permit struct {
	scope    artifact.Scope
	uses     uint64
	lifetime uint64        // seconds; 0: 300
	session  uint64        // seconds
	audience string        // "": the rig's gate
	cnf      *attester.Key // of an earlier artifact; nil: a new one
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

func (r *rig) approve(ek [32]byte) {
	r.tb.Helper()
	r.apply(statement.Enrolment, &record.Enrolment{Version: record.Version, ID: hostURI + r.name, Time: r.seconds(), Nonce: nonce(r.tb),
		Host: &record.Host{EK: ek[:], Labels: map[string]string{}, Gate: gateURI + r.name}})
}

// options are those of the rig's gate.
func (r *rig) options() Options {
	return Options{Trust: r.trusted, Audience: gateURI + r.name, Issuer: r.line, TPM: r.tpm, State: r.state, Now: r.clock.now, uptime: r.uptime.passed, tick: time.Millisecond, keep: kept(r.tb)}
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
		Scope: p.scope, Execution: artifact.Execution{ID: nonce(r.tb)}, Limits: &artifact.Limits{Uses: max(p.uses, 1), Session: p.session}, Lifetime: p.lifetime}))(r.tb)
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

// edit changes the bytes of a file.
func edit(tb testing.TB, path string, change func([]byte) []byte) {
	tb.Helper()
	data := must(os.ReadFile(path))(tb)
	if err := os.WriteFile(path, change(bytes.Clone(data)), 0o600); err != nil {
		tb.Fatal(err)
	}
}
