// Package gate runs nothing without a valid artifact. It verifies artifact, receipt, pins, revocation, scope and code,
// has the host's TPM prove possession of the confirmation key, consumes a use, has its start record logged, and only
// then runs exactly the bytes that it checked. Every refusal is a record in the issuer's log too.
package gate

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Issuer is what a gate needs of the issuer: its log and its status lists. A refusal by the issuer unwraps to a
// *denial.Denial; any other error means that the issuer could not be reached. Neither is believed beyond what the trust
// file allows: receipts and lists are verified.
type Issuer interface {
	// Record appends a record of this gate and returns it with its receipt. The record that was appended last may come
	// again, and gets the same answer.
	Record(ctx context.Context, leaf []byte) (transparent []byte, err error)
	// Status returns the status list token at a URI of the issuer.
	Status(ctx context.Context, uri string) ([]byte, error)
	// Keys returns the issuer's key history.
	Keys(ctx context.Context) ([]byte, error)
}

// TPM is what a gate needs of the host's TPM. Host makes one.
type TPM interface {
	AK(ctx context.Context) (public []byte, err error)
	Clock(ctx context.Context) (attest.Clock, error)
	Signer(ctx context.Context, k *attester.Key) (statement.Signer, error)
}

// Host returns the TPM of this host as a gate uses it.
func Host(t *attester.TPM) TPM { return hostTPM{t} }

type hostTPM struct{ *attester.TPM }

func (h hostTPM) Signer(ctx context.Context, k *attester.Key) (statement.Signer, error) {
	return h.TPM.Signer(ctx, k)
}

// Options are what a gate is opened with. Whoever can change Trust, Issuer or TPM decides what runs; who can change
// State is told of at Init.
type Options struct {
	Trust    *artifact.Trust // the file; what has become of the issuer's keys since, the gate learns itself
	Audience string          // URI of this gate, as enrolled
	Issuer   Issuer
	TPM      TPM
	State    string           // directory made by Init
	Now      func() time.Time // default time.Now
	Cgroup   string           // directory of a control group (v2) that is delegated to the gate's user, or OwnCgroup: each program gets one below it; "": none

	Callers Callers // who may present what was given to whom; nil: whoever can call the gate

	caller func() (uint32, error) // default the kernel's word
	uptime func() time.Duration   // what clocks that are set cannot change; default the kernel's, which counts while the host sleeps
	tick   time.Duration          // how often a lease is looked at; default one second
	keep   keeping                // default this executable, and grace
}

// Gate is an enforcement point. It is safe for concurrent use, also by several processes on one state directory.
type Gate struct {
	o      Options
	state  *state
	signer statement.Signer
	keys   keys
}

// Open opens a gate over a state directory. A directory that Init did not make, or that has lost its history, is
// STATE_ROLLBACK.
func Open(ctx context.Context, o Options) (*Gate, error) {
	if o.Trust == nil || o.Audience == "" || o.Issuer == nil || o.TPM == nil {
		return nil, errors.New("opening gate: trust file, audience, issuer and TPM are needed")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.caller == nil {
		o.caller = caller
	}
	if o.uptime == nil {
		o.uptime, o.tick = uptime, time.Second
	}
	if o.keep.executable == "" {
		o.keep = keeping{executable: "/proc/self/exe", grace: grace}
	}
	o.keep.cgroup = o.Cgroup
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

// Command is one thing to run. Its standard input is always empty, and it gets no descriptor but the two named here.
type Command struct {
	Artifact []byte        // with its receipt, or a break-glass file; empty is NO_ARTIFACT
	CNF      *attester.Key // the confirmation key that the host holds
	Path     string        // absolute, without symbolic links; also argv[0]
	Args     []string      // after argv[0]
	Env      []string      // of the caller: only what the scope names is passed on
	Stdout   *os.File      // nil: /dev/null
	Stderr   *os.File
}

// argv returns the argument vector. Its first element is the path, so that no program is told another name than the one
// that the scope allows.
func (c Command) argv() []string { return append([]string{c.Path}, c.Args...) }

// Outcome is what became of a command.
type Outcome struct {
	Started bool
	Status  int            // exit status of the program, 128 plus the signal that ended it
	Denied  *denial.Denial // nil if it ran
	Left    int            // processes that it left behind, and that were killed
	Ended   *denial.Denial // why the gate ended it; nil if it ended by itself, or with ctx
	Logged  bool           // the start, or the denial, has a receipt
	Index   uint64         // of that record in the log
	Spooled bool           // records wait in the state directory for the issuer to be reachable
	Checks  []string       // one line for each check and its state
}

// Exec checks the command in denial.GateOrder, runs it and waits for it. The checks, in order:
//
//  1. all of artifact.Check up to the audience and the pins, with the issuer's keys as far as the gate has followed them: it asks
//     for changes before it refuses for a key, and before it asks for revocation; then revocation, with a status list that is
//     fetched now, is fresh (806), not older than one seen (508) and tells of no key change that the gate cannot get (806). For a break-glass
//     authorization: all of artifact.CheckBreakGlass, and whether it is revoked is asked with the start record;
//  2. scope: the scope names the path (404); the file is regular and reached without symbolic links (616); its bytes,
//     sealed in memory, and its arguments are allowed (404, 616, 619); a script's interpreter likewise (404, 616, 619);
//     what runs is an ELF program (619);
//  3. possession: the caller is one of the initiator's (704), where callers are named; AK and boot of this host are those of the artifact (701), and its TPM lets the confirmation key sign
//     over a nonce (702), unless the quorum of a break-glass authorization has waived attestation;
//  4. uses: one is left (504, 505) in an undamaged journal (508), and is now consumed;
//  5. start record: the issuer took it, consuming the use there too (504, 505, 508, 801 to 805, ...), and its receipt is
//     one of the pinned log (902);
//  6. run: memory is still sealed and holds the admitted bytes (617).
//
// When its lease ends (201, 801 to 807), or when ctx does, all that runs is sent SIGTERM, and ten seconds later SIGKILL. When the
// program ends, or the process of the gate does, what is left of it is killed. The main function of the gate calls Keep first. The error is a fault of the gate itself; a refusal is in the outcome.
func (g *Gate) Exec(ctx context.Context, cmd Command) (Outcome, error) {
	unlock, err := g.state.lock(ctx)
	if err != nil {
		return Outcome{}, err
	}
	defer unlock()
	s := &session{Gate: g, cmd: cmd, run: order(cmd.Artifact).Begin()}
	defer s.close()
	wait, err := s.start(ctx)
	if err != nil {
		return s.refused(ctx, denial.Of(err)), nil
	}
	unlock() // others may start while this one runs
	status := wait()
	ended := s.lease.over()
	out := Outcome{Started: true, Status: status.code(), Left: status.Left, Ended: ended, Logged: true, Index: s.index}
	relock, err := g.state.lock(context.WithoutCancel(ctx))
	if err != nil {
		return out, err
	}
	defer relock()
	s.ended(ctx, status, ended)
	out.Spooled, out.Checks = g.state.pending() > 0, s.run.Describe()
	return out, nil
}
