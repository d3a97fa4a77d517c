// Package hsm keeps the issuer's keys on a PKCS#11 token and signs with them: one key per purpose, made on the token,
// never extractable, for signing only. Open logs in, Token.Create makes a key, Token.Signer gives the use of one.
//
// A signer takes whole structures, hashes them itself, and lets no signature out that does not verify with the key
// pinned by the caller. When the module reports anything but success, the connection is given up, every call answers
// HSMUnavailable, and it is built again from nothing in the background; keys are found and checked as at a start.
package hsm

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Config says which token to use. Whoever can change it can make the issuer load any library.
type Config struct {
	// Module is the path of the PKCS#11 library. Only one Token per module can be open in a process.
	Module string
	// Token is the label or the serial number of the token. Exactly one must match.
	Token string
	// PIN returns the user PIN in a slice that is wiped after use: PINFromFile. It is called for each
	// login: once by Open, and once each time a lost connection is built again.
	PIN func() ([]byte, error)
	// RetryPIN says that an operator has corrected the PIN: Open may then log in although the token reports that
	// the last login failed. Without it Open does not, so that restarts cannot lock the token.
	RetryPIN bool
	// MaxSessions is how many calls may be in the module at once, beside one of the log key. Default 16.
	MaxSessions int
	// Wait is the longest time to wait for a session before Overloaded. Default and maximum 2 s.
	Wait time.Duration
	// Timeout is the longest time a call into the module may take. Default 10 s. One that takes longer is a lost token.
	Timeout time.Duration
}

const maxWait = 2 * time.Second

func (c Config) withDefaults() (Config, error) {
	if c.Module == "" || c.Token == "" || c.PIN == nil {
		return c, errors.New("opening token: module, token and PIN are needed")
	}
	if c.MaxSessions <= 0 {
		c.MaxSessions = 16
	}
	if c.Wait <= 0 || c.Wait > maxWait {
		c.Wait = maxWait
	}
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Second
	}
	return c, nil
}

// Token is one token, logged in. Its methods may be called at the same time.
type Token struct {
	cfg     Config
	mod     *pkcs11.Ctx
	rawSign func(pkcs11.SessionHandle, pkcs11.ObjectHandle, []byte) ([]byte, error)

	// Used by one goroutine at a time: Open, then whoever heals, then Close.
	initialized bool
	latched     bool   // the PIN was refused: no more logins
	serial      string // of the token that Open found; no other will do later

	orphans atomic.Uint64
	healing sync.WaitGroup
	closed  chan struct{}

	mu     sync.RWMutex
	conn   *conn // nil while there is none
	state  error // why there is none
	pinned map[statement.Thumbprint]Purpose
}

// conn is one login. Handles mean nothing outside of the conn that found them.
type conn struct {
	slot      uint
	info      Info
	keeper    pkcs11.SessionHandle   // holds the login and is never used
	sessions  []pkcs11.SessionHandle // each with a goroutine that takes jobs
	head      []pkcs11.SessionHandle // one more or none, for the log key alone: all that was signed waits for a tree head
	jobs      chan func(pkcs11.SessionHandle)
	headJobs  chan func(pkcs11.SessionHandle)
	handles   map[statement.Thumbprint]pkcs11.ObjectHandle // guarded by Token.mu
	calls     sync.WaitGroup                               // calls that may be in the module
	lost      chan struct{}                                // closed when the conn is given up
	diagnosed chan struct{}                                // closed after the first attempt to replace it
}

// Open loads the module, finds the token and logs in. A PIN that the token refuses is tried once (H13). A module that
// this process uses already is refused, because a login there would prove nothing about the PIN (H01).
func Open(ctx context.Context, cfg Config) (*Token, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	t := &Token{cfg: cfg, mod: pkcs11.New(cfg.Module), closed: make(chan struct{}), pinned: map[statement.Thumbprint]Purpose{}}
	if t.mod == nil {
		return nil, fmt.Errorf("loading PKCS#11 module %q: %w", cfg.Module, denial.New(denial.HSMUnavailable, "the module cannot be loaded"))
	}
	t.rawSign = t.signECDSA
	done := make(chan error, 1)
	go func() {
		c, err := t.connect(true)
		t.install(c, err)
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		go func() {
			<-done
			t.Close()
		}()
		err = denial.New(denial.HSMUnavailable, "the token did not answer in time")
	}
	if err != nil {
		return nil, fmt.Errorf("opening token %q: %w", cfg.Token, err)
	}
	return t, nil
}

// Healthy returns nil if calls are served, or else the denial that they are answered with.
func (t *Token) Healthy() error {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.state
}

// Orphans returns how many results, such as signatures, came after their deadline. All were discarded.
func (t *Token) Orphans() uint64 { return t.orphans.Load() }

// Close logs out. It waits for calls in the module, at most Config.Timeout; if one hangs still, it leaves the module
// as it is and returns an error.
func (t *Token) Close() error {
	t.mu.Lock()
	select {
	case <-t.closed:
		t.mu.Unlock()
		return nil
	default:
	}
	close(t.closed)
	c := t.conn
	t.conn, t.state = nil, denial.New(denial.HSMUnavailable, "the token is closed")
	if c != nil {
		close(c.lost)
		close(c.diagnosed)
	}
	t.mu.Unlock()

	idle := make(chan struct{})
	go func() {
		if c != nil {
			c.calls.Wait()
		}
		t.healing.Wait()
		t.disconnect()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-time.After(t.cfg.Timeout):
		return errors.New("closing token: a call into the module has not returned")
	}
}

// call runs f in a session of its own; see callFor.
func call[T any](ctx context.Context, t *Token, f func(*conn, pkcs11.SessionHandle) (T, error)) (T, error) {
	return callFor(ctx, t, Artifact, f)
}

// callFor runs f in a session of its own, which for the log key may be the one that is kept for it. It returns when f does or when the time is up, whichever is first; what f
// returns later is discarded (H16). If f reports a fault of the module, the connection is given up.
func callFor[T any](ctx context.Context, t *Token, p Purpose, f func(*conn, pkcs11.SessionHandle) (T, error)) (T, error) {
	type result struct {
		value T
		err   error
	}
	var none T
	c, err := t.enter(ctx)
	if err != nil {
		return none, err
	}
	done := make(chan result, 1)
	if err := t.dispatch(ctx, c, p, func(session pkcs11.SessionHandle) {
		value, err := f(c, session)
		c.calls.Done()
		done <- result{value, err}
	}); err != nil {
		c.calls.Done()
		return none, err
	}
	limit := time.NewTimer(t.cfg.Timeout)
	defer limit.Stop()
	select {
	case r := <-done:
		if isFault(r.err) {
			return none, t.fail(ctx, c, r.err)
		}
		return r.value, r.err
	case <-ctx.Done():
	case <-limit.C:
		t.giveUp(c, errors.New("a call into the module took too long"))
	}
	go func() {
		if late := <-done; late.err == nil {
			t.orphans.Add(1)
		}
	}()
	return none, denial.New(denial.HSMUnavailable, "the token did not answer in time")
}

// enter returns the conn that there is, and counts a call in it: whoever gets it calls c.calls.Done.
func (t *Token) enter(ctx context.Context) (*conn, error) {
	if ctx.Err() != nil {
		return nil, denial.New(denial.HSMUnavailable, "the time for a signature is up")
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.conn == nil {
		return nil, t.state
	}
	t.conn.calls.Add(1)
	return t.conn, nil
}

// dispatch waits for a free session and gives it the job.
func (t *Token) dispatch(ctx context.Context, c *conn, p Purpose, job func(pkcs11.SessionHandle)) error {
	var headJobs chan func(pkcs11.SessionHandle) // which nobody takes
	if p == Log {
		headJobs = c.headJobs
	}
	select {
	case c.jobs <- job:
		return nil
	case headJobs <- job:
		return nil
	default:
	}
	wait := time.NewTimer(t.cfg.Wait)
	defer wait.Stop()
	select {
	case c.jobs <- job:
		return nil
	case headJobs <- job:
		return nil
	case <-c.lost:
		return denial.New(denial.HSMUnavailable, "the connection to the token was lost")
	case <-wait.C:
	case <-ctx.Done():
	}
	return denial.New(denial.Overloaded, "every session of the token is busy")
}

// work begins to take jobs.
func (c *conn) work() {
	for _, session := range c.sessions {
		go c.serve(session, c.jobs)
	}
	for _, session := range c.head {
		go c.serve(session, c.headJobs)
	}
}

// serve does jobs in a session until the conn is given up. That one goroutine does them all, whose stack has grown, saves each
// call the growing of another.
func (c *conn) serve(session pkcs11.SessionHandle, jobs <-chan func(pkcs11.SessionHandle)) {
	for {
		select {
		case job := <-jobs:
			job(session)
		case <-c.lost:
			return
		}
	}
}
