// Package custody keeps the PKCS#11 module and its PIN in a process of their own. Open starts that process, which Serve
// is the body of, and gives the use of its keys; both are the same program, and speak over a socket pair that nobody
// else has.
//
// The signer process takes no digests and no finished structures: it gets purpose, kind, claims and payload, checks that
// these are a statement that the key is for, and composes what it signs itself. It can start no program, and open no
// network socket unless told that its module needs one; no core file is written of it.
//
// When the module crashes, hangs or eats memory, the process is replaced. Requests meanwhile are HSMUnavailable. No
// signature leaves this package that does not verify with the pinned key.
package custody

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/statement"
)

// Config says which token to use, and how to start the process for it. Whoever can change it can make that process load
// any library.
type Config struct {
	Module   string        // path of the PKCS#11 library
	Token    string        // label or serial number; exactly one token must match
	PINFile  string        // file with the user PIN; only the signer process reads it
	PIN      *os.File      // or an open descriptor with it: a file is left to the signer process, a pipe is moved into memory
	RetryPIN bool          // see hsm.Config
	Sessions int           // calls in the module at once; default 16
	Timeout  time.Duration // longest time of a call into the module; default 10 s
	Wait     time.Duration // longest time to wait for a session, then 907; default and maximum 2 s
	Network  bool          // the module needs network sockets; without it only Unix sockets can be opened
	Memory   uint64        // bytes of data that the process may have; default 1 GiB
	Env      []string      // variables for the module, added to those of this process

	// Command is the program and its first arguments that call Serve. Default: this program with "signer".
	Command []string
}

// maxInFlight is how many requests may be under way at once; more are Overloaded.
const maxInFlight = 4096

// Process is the signer process, and whatever follows it when it ends. Its methods may be called at the same time.
type Process struct {
	cfg     Config
	pin     *os.File // what the signer process inherits
	orphans atomic.Uint64
	starts  atomic.Uint64
	closed  chan struct{}
	done    chan struct{} // closed when nothing is started any more

	mu     sync.Mutex
	link   *link // nil while there is none that serves
	state  error // why there is none
	pinned map[statement.Thumbprint]hsm.Purpose
}

// Open starts the process and has it log in. As long as no login has succeeded, one that fails is not tried again: the
// PIN may be wrong, and a process that ended while it logged in may have used up a try (H13).
func Open(ctx context.Context, cfg Config) (*Process, error) {
	if cfg.Module == "" || cfg.Token == "" || (cfg.PINFile == "") == (cfg.PIN == nil) {
		return nil, errors.New("opening token: module, token and PIN are needed")
	}
	if cfg.Memory == 0 {
		cfg.Memory = 1 << 30
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if len(cfg.Command) == 0 {
		cfg.Command = []string{"/proc/self/exe", "signer"}
	}
	p := &Process{cfg: cfg, closed: make(chan struct{}), done: make(chan struct{}), pinned: map[statement.Thumbprint]hsm.Purpose{}}
	var err error
	if p.pin, err = keepPIN(cfg.PIN); err != nil {
		return nil, err
	}
	l, err := p.start(ctx)
	if err != nil {
		return nil, errors.Join(err, p.closePIN())
	}
	p.cfg.RetryPIN = false // it was for one try
	p.link = l
	go p.watch(l)
	return p, nil
}

func (p *Process) closePIN() error {
	if p.pin == nil {
		return nil
	}
	return p.pin.Close()
}

// Healthy returns nil if requests are served, or else the denial that they are answered with.
func (p *Process) Healthy() error {
	l, err := p.current()
	if err != nil {
		return err
	}
	return l.health()
}

func (p *Process) current() (*link, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link, p.state
}

// Orphans returns how many signatures came after their deadline or did not verify. All were discarded.
func (p *Process) Orphans() uint64 { return p.orphans.Load() }

// Starts returns how often a signer process was started.
func (p *Process) Starts() uint64 { return p.starts.Load() }

// Close ends the process.
func (p *Process) Close() error {
	p.mu.Lock()
	select {
	case <-p.closed:
		p.mu.Unlock()
		return nil
	default:
	}
	close(p.closed)
	p.link, p.state = nil, unavailable("the token is closed")
	p.mu.Unlock()
	<-p.done
	return p.closePIN()
}

func unavailable(why string) error { return denial.New(denial.HSMUnavailable, "%s", why) }

// Signer returns the use of the key for a purpose that has the pinned thumbprint: see hsm.Token.Signer.
func (p *Process) Signer(ctx context.Context, purpose hsm.Purpose, pinned statement.Thumbprint) (statement.Signer, error) {
	l, err := p.current()
	if err != nil {
		return nil, err
	}
	key, err := l.bind(ctx, purpose, pinned)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	p.pinned[pinned] = purpose
	p.mu.Unlock()
	return &signer{process: p, purpose: purpose, key: key}, nil
}

// Release lets go of a key that signs nothing more: the next signer process does not look for it.
func (p *Process) Release(key statement.Thumbprint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.pinned, key)
}

// Create makes the key for a purpose: see hsm.Token.Create.
func (p *Process) Create(ctx context.Context, purpose hsm.Purpose) (statement.Key, error) {
	return p.makeKey(ctx, opCreate, purpose, statement.Thumbprint{})
}

// Rotate makes another key beside the present one: see hsm.Token.Rotate.
func (p *Process) Rotate(ctx context.Context, purpose hsm.Purpose, present statement.Thumbprint) (statement.Key, error) {
	return p.makeKey(ctx, opRotate, purpose, present)
}

func (p *Process) makeKey(ctx context.Context, op op, purpose hsm.Purpose, present statement.Thumbprint) (statement.Key, error) {
	l, err := p.current()
	if err != nil {
		return statement.Key{}, err
	}
	raw, err := l.ask(ctx, op, keyRequest(purpose, present))
	if err != nil {
		return statement.Key{}, err
	}
	return statement.ParseKey(raw)
}

// Keys lists the keys of all purposes with what the token states about them.
func (p *Process) Keys(ctx context.Context) ([]hsm.Attributes, error) {
	var keys []wireKey
	if err := p.tell(ctx, opKeys, nil, &keys); err != nil {
		return nil, err
	}
	all := make([]hsm.Attributes, len(keys))
	for i, k := range keys {
		key, err := statement.ParseKey(k.COSE)
		if err != nil {
			return nil, err
		}
		all[i] = k.Attributes
		all[i].Key = key
	}
	return all, nil
}

// Attributes reads the facts about one key back from the token: see hsm.Token.Attributes.
func (p *Process) Attributes(ctx context.Context, thumbprint statement.Thumbprint) (hsm.Attributes, error) {
	all, err := p.Keys(ctx)
	if err != nil {
		return hsm.Attributes{}, err
	}
	for _, a := range all {
		if a.Key.Thumbprint() == thumbprint {
			return a, nil
		}
	}
	return hsm.Attributes{}, denial.New(denial.HSMKeyPolicy, "no key of the token has the thumbprint")
}

// Info returns what the module and the token say of themselves.
func (p *Process) Info(ctx context.Context) (info hsm.Info, err error) {
	return info, p.tell(ctx, opInfo, nil, &info)
}

// Probe asks the module what it can do: see hsm.Token.Probe.
func (p *Process) Probe(ctx context.Context) (probe hsm.Probe, err error) {
	return probe, p.tell(ctx, opProbe, nil, &probe)
}

// Try has a key made, tried and destroyed: see hsm.Token.Try. It takes a little more than twice as long as told.
func (p *Process) Try(ctx context.Context, each time.Duration) (trial hsm.Trial, err error) {
	return trial, p.tell(ctx, opTry, binary.BigEndian.AppendUint32(nil, uint32(each.Milliseconds())), &trial)
}

func (p *Process) tell(ctx context.Context, op op, body []byte, into any) error {
	l, err := p.current()
	if err != nil {
		return err
	}
	raw, err := l.ask(ctx, op, body)
	if err != nil {
		return err
	}
	return strictJSON(raw, into)
}
