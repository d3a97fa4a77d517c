// Package gate runs nothing without a valid artifact. It verifies artifact, receipt, pins, revocation, scope and code,
// has the host's TPM prove possession of the confirmation key, consumes a use, has its start record logged, and only
// then runs exactly the bytes that it checked. Every refusal is a record in the issuer's log too.
package gate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Issuer is what a gate needs of the issuer: its log and its status lists. A refusal unwraps to a *denial.Denial; any
// other error means that the issuer could not be reached.
type Issuer interface {
	// Record appends a record of this gate and returns it with its receipt.
	Record(ctx context.Context, leaf []byte) (transparent []byte, err error)
	// Status returns the status list token at a URI of the issuer.
	Status(ctx context.Context, uri string) ([]byte, error)
}

// TPM is what a gate needs of the host's TPM.
type TPM interface {
	AK(ctx context.Context) (public []byte, err error)
	Clock(ctx context.Context) (attest.Clock, error)
	Signer(ctx context.Context, k *attester.Key) (*attester.Signer, error)
}

// Options are what a gate is opened with.
type Options struct {
	Trust    *artifact.Trust
	Audience string // URI of this gate, as enrolled
	Issuer   Issuer
	TPM      TPM
	State    string // directory made by Init
	Now      func() time.Time
}

// Gate is an enforcement point. It is safe for concurrent use, also by several processes on one state directory.
type Gate struct {
	o      Options
	state  *state
	signer statement.Signer
}

// Open opens a gate over a state directory. A directory that Init did not make, or that has lost its history, is
// STATE_ROLLBACK.
func Open(ctx context.Context, o Options) (*Gate, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	s, err := openState(o.State)
	if err != nil {
		return nil, err
	}
	key, err := attester.ReadKey(s.path(keyFile))
	if err != nil {
		return nil, fmt.Errorf("opening gate key: %w", err)
	}
	signer, err := o.TPM.Signer(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("opening gate key: %w", err)
	}
	return &Gate{o: o, state: s, signer: signer}, nil
}

// Command is one thing to run.
type Command struct {
	Artifact []byte        // with its receipt; empty is NO_ARTIFACT
	CNF      *attester.Key // the confirmation key that the host holds
	Path     string        // absolute, without symbolic links
	Argv     []string      // argv[0] included
	Env      []string      // of the caller: only what the scope names is passed on
	Stdout   *os.File
	Stderr   *os.File
}

// Outcome is what became of a command.
type Outcome struct {
	Started bool
	Status  int            // exit status of the program, 128 plus the signal that ended it
	Denied  *denial.Denial // nil if it ran
	Logged  bool           // the start, or the denial, has a receipt
	Index   uint64         // of that record in the log
	Spooled bool           // a record waits in the state directory for the issuer to be reachable
	Checks  []string       // one line for each check and its state
}

// session is one command on its way through the gate order.
type session struct {
	*Gate
	cmd       Command
	run       *denial.Run
	statusErr error
	claims    artifact.Claims // unverified until artifact is set
	digest    statement.Digest
	artifact  *artifact.Artifact
	program   *program
	use       uint64
	start     statement.Digest
	index     uint64
}

// Exec checks the command in denial.GateOrder and runs it. The error is a fault of the gate itself; a refusal is in the
// outcome.
func (g *Gate) Exec(ctx context.Context, cmd Command) (Outcome, error) {
	s := &session{Gate: g, cmd: cmd, run: denial.GateOrder().Begin()}
	defer func() { s.program.close() }()
	unlock, err := g.state.lock()
	if err != nil {
		return Outcome{}, err
	}
	defer unlock()
	if err := s.steps(ctx); err != nil {
		return s.refused(ctx, denial.Of(err)), nil
	}
	if err := s.run.Allowed(); err != nil {
		return s.refused(ctx, denial.Of(err)), nil
	}
	out := Outcome{Started: true, Logged: true, Index: s.index, Checks: s.run.Describe()}
	out.Status, err = s.program.run(cmd, s.environment(), s.directory(), unlock)
	if err != nil {
		out.Started = false
	}
	relock, lockErr := g.state.lock()
	if lockErr != nil {
		return out, errors.Join(err, lockErr)
	}
	defer relock()
	out.Spooled = s.ended(ctx, out.Status) != nil
	return out, err
}

func (s *session) steps(ctx context.Context) error {
	want := artifact.Want{Trust: s.o.Trust, Now: s.o.Now(), Audience: s.o.Audience, Status: s.status(ctx)}
	a, err := artifact.Check(s.run, s.cmd.Artifact, want)
	if err != nil {
		if d := denial.Of(err); d.Stage == denial.StageGateRevocation && s.statusErr != nil {
			return denial.Of(s.statusErr).At(denial.StageGateRevocation)
		}
		return err
	}
	s.artifact, s.claims, s.digest = a, a.Claims(), a.Digest()
	for _, step := range []struct {
		check func() error
		stage denial.Stage
	}{
		{s.scope, denial.StageScope},
		{func() error { return s.possession(ctx) }, denial.StagePossession},
		{s.consume, denial.StageUses},
		{func() error { return s.startRecord(ctx) }, denial.StageStartRecord},
		{func() error { return s.program.stillSealed() }, denial.StageRun},
	} {
		if err := s.run.Check(step.check, step.stage); err != nil {
			return err
		}
	}
	return nil
}

// status fetches and verifies the status list that the artifact names. What goes wrong is told at the revocation check.
func (s *session) status(ctx context.Context) *artifact.Status {
	var err error
	if s.claims, s.digest, err = artifact.Inspect(s.cmd.Artifact); err != nil {
		return nil
	}
	uri := s.claims.Status.List.URI
	token, err := s.o.Issuer.Status(ctx, uri)
	if err != nil {
		s.statusErr = denial.New(denial.RevocationUnknown, "the issuer's status list cannot be had")
		return nil
	}
	status, err := artifact.VerifyStatus(token, s.o.Trust, s.o.Now(), s.state.seen(uri))
	if err == nil {
		err = s.state.see(uri, status.IssuedAt())
	}
	if err != nil {
		s.statusErr = err
		return nil
	}
	return status
}

// scope loads the program into sealed memory and admits exactly those bytes with these arguments.
func (s *session) scope() (err error) {
	if s.program, err = load(s.cmd.Path); err != nil {
		return err
	}
	for _, use := range s.program.uses(s.cmd.Argv) {
		if _, err := s.claims.Scope.Admit(use); err != nil {
			return err
		}
	}
	return nil
}

// possession checks that this is the host and the boot that the artifact was issued to, and that its TPM lets the
// confirmation key sign: which it refuses if a PCR that the key is bound to has changed.
func (s *session) possession(ctx context.Context) error {
	env := s.claims.Environment
	public, err := s.o.TPM.AK(ctx)
	if err != nil {
		return err
	}
	name, err := attest.Name(public)
	if err != nil {
		return err
	}
	if string(name) != string(env.AK.Name) {
		return denial.New(denial.HostMismatch, "the artifact was issued to another host")
	}
	clock, err := s.o.TPM.Clock(ctx)
	if err != nil {
		return err
	}
	if string(artifact.BootSeed(name, uint32(clock.Resets), uint32(clock.Restarts))) != string(s.claims.BootSeed) {
		return denial.New(denial.HostMismatch, "the host has been restarted since the artifact was issued")
	}
	return s.prove(ctx)
}

func (s *session) prove(ctx context.Context) error {
	if s.cmd.CNF == nil {
		return denial.New(denial.KeyBinding, "the confirmation key is missing")
	}
	signer, err := s.o.TPM.Signer(ctx, s.cmd.CNF)
	if err != nil {
		return err
	}
	var nonce artifact.GateNonce
	if _, err := rand.Read(nonce[:]); err != nil {
		return err
	}
	params := artifact.ParametersDigest(s.cmd.Argv)
	proof, err := artifact.SignPossession(ctx, signer, artifact.Possession{Holder: s.claims.Subject, Audience: s.claims.Audience,
		Artifact: s.digest, Parameters: params, Nonce: nonce, IssuedAt: uint64(s.o.Now().Unix())})
	if err != nil {
		return err
	}
	return artifact.VerifyPossession(proof, s.artifact, nonce, params, s.o.Now())
}

// consume takes the next use of the artifact, durably, before anything happens with it.
func (s *session) consume() error {
	most := s.claims.Limits.MaxUses()
	n, err := s.state.consume(s.claims.ID, s.claims.Expires, most)
	if err != nil {
		return err
	}
	if n > most {
		if most == 1 {
			return denial.New(denial.ArtifactReplayed, "the artifact has been used")
		}
		return denial.New(denial.UseCountExceeded, "the artifact's %d uses are gone", most)
	}
	s.use = n
	return nil
}

// startRecord has the start logged and checks the receipt.
func (s *session) startRecord(ctx context.Context) error {
	r := s.newRecord(record.EventStart)
	code, args := s.program.digest, artifact.ParametersDigest(s.cmd.Argv)
	r.Execution = &record.Execution{ID: s.claims.Execution.ID, Use: s.use, Code: code[:], Args: args.Value}
	if s.program.script != nil {
		script := s.program.script.digest
		r.Execution.Script = script[:]
	}
	sent, err := s.send(ctx, r)
	if err != nil {
		return err
	}
	s.start, s.index = sent.digest, sent.index
	return nil
}

func (s *session) ended(ctx context.Context, status int) error {
	r := s.newRecord(record.EventEnd)
	r.Execution = &record.Execution{ID: s.claims.Execution.ID, Use: s.use, Start: s.start[:], Status: int64(status)}
	_, err := s.send(context.WithoutCancel(ctx), r)
	return err
}

// newRecord starts a record about the artifact at hand.
func (s *session) newRecord(e record.Event) *record.Record {
	r := &record.Record{Version: record.Version, Event: e, Time: uint64(s.o.Now().Unix())}
	if len(s.claims.ID) > 0 {
		digest := s.digest
		r.CTI, r.Artifact = s.claims.ID, digest[:]
	}
	if s.artifact != nil {
		r.Workload, r.Initiator = s.claims.Subject, s.claims.Initiator.Principal
		r.Policy = &record.PolicyRef{ID: s.claims.Policy.ID, Hash: s.claims.Policy.Hash.Value}
	}
	return r
}

// refused logs the denial and returns the outcome.
func (s *session) refused(ctx context.Context, d *denial.Denial) Outcome {
	out := Outcome{Denied: d, Checks: s.run.Describe()}
	r := s.newRecord(record.EventDenial)
	r.FillDenial(d, s.run.States())
	sent, err := s.send(context.WithoutCancel(ctx), r)
	if out.Logged = err == nil; out.Logged {
		out.Index = sent.index
	}
	out.Spooled = s.state.pending() > 0
	return out
}

// environment returns what the scope names of the caller's environment, and nothing else (X05).
func (s *session) environment() []string {
	var out []string
	for _, p := range s.claims.Scope {
		if c := p.Terms.Constraints; c != nil && p.Target == fileURI(s.cmd.Path) {
			out = append(out, allowed(s.cmd.Env, c.Env)...)
		}
	}
	return out
}

func (s *session) directory() string {
	for _, p := range s.claims.Scope {
		if c := p.Terms.Constraints; c != nil && p.Target == fileURI(s.cmd.Path) && c.Directory != "" {
			return c.Directory
		}
	}
	return "/"
}
