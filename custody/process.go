package custody

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/statement"
)

// The times of the watchdog. A token is back within 5 s of a fault that has passed (H10), however it failed.
const (
	pulse        = 500 * time.Millisecond // between two questions for health
	grace        = 500 * time.Millisecond // for an answer about health, and for one that the token's own limit makes
	illness      = 3                      // bad answers in a row, then the process is replaced
	firstDelay   = 50 * time.Millisecond  // before a process is replaced
	longestDelay = time.Second
	startTime    = 10 * time.Second // for a process to start and log in
	endTime      = 2 * time.Second  // for a process to end by itself
)

// The descriptors of the signer process beyond standard input, output and error.
const (
	socketFD = 3
	pinFD    = 4
)

// start starts a signer process and prepares it.
func (p *Process) start(ctx context.Context) (*link, error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	p.starts.Add(1)
	conn, err := p.spawn()
	if err != nil {
		return nil, err
	}
	l := newLink(conn, &p.orphans)
	if err := p.prepare(ctx, l); err != nil {
		end(l)
		return nil, err
	}
	return l, nil
}

// prepare has the process log in and bind every key that a Signer was made for.
func (p *Process) prepare(ctx context.Context, l *link) error {
	c := p.cfg
	body, err := json.Marshal(settings{Module: c.Module, Token: c.Token, PINFile: c.PINFile, RetryPIN: c.RetryPIN,
		Network: c.Network, Sessions: c.Sessions, Timeout: c.Timeout, Wait: c.Wait, Memory: c.Memory})
	if err != nil {
		return fmt.Errorf("encoding settings: %w", err)
	}
	if _, err := l.ask(ctx, opOpen, body); err != nil {
		return err
	}
	p.mu.Lock()
	pinned := maps.Clone(p.pinned)
	p.mu.Unlock()
	for thumbprint, purpose := range pinned {
		if _, err := l.bind(ctx, purpose, thumbprint); err != nil {
			return err
		}
	}
	return nil
}

// child is the socket to a signer process; closing it ends the process.
type child struct {
	*net.UnixConn
	cmd   *exec.Cmd
	ended chan struct{}
	why   error // how it ended, once it has
}

// spawn starts the program with one end of a socket pair and, where there is one, the descriptor of the PIN.
func (p *Process) spawn() (*child, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("making socket pair: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "signer"), os.NewFile(uintptr(fds[1]), "issuer")
	defer ours.Close()
	defer theirs.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		return nil, fmt.Errorf("making socket pair: %w", err)
	}
	cmd := exec.Command(p.cfg.Command[0], p.cfg.Command[1:]...)
	cmd.Env = append(os.Environ(), p.cfg.Env...)
	// Its output goes nowhere: a module may print anything, and a crash prints registers.
	cmd.ExtraFiles = []*os.File{theirs}
	if p.pin != nil {
		cmd.ExtraFiles = append(cmd.ExtraFiles, p.pin)
	}
	if err := startLazily(cmd); err != nil {
		return nil, errors.Join(fmt.Errorf("starting signer process: %w", err), conn.Close())
	}
	c := &child{UnixConn: conn.(*net.UnixConn), cmd: cmd, ended: make(chan struct{})}
	go func() {
		c.why = cmd.Wait()
		close(c.ended)
	}()
	return c, nil
}

// slack is how much later than asked a thread of the signer process may wake by time alone. The Go runtime has one that looks every 20 µs
// what the others do, as long as a call is in the module; on the core of a token in software that costs a tenth of a signature.
const slack = time.Millisecond

// startLazily starts a program whose threads have the slack, which they inherit.
func startLazily(cmd *exec.Cmd) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, uintptr(slack), 0, 0, 0); err != nil {
		return fmt.Errorf("setting timer slack: %w", err)
	}
	defer unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0) // what it was
	return cmd.Start()
}

// Close ends the process: by itself, when it sees that the socket is closed, or after endTime by force. It returns at once.
func (c *child) Close() error {
	err := c.UnixConn.Close()
	go func() {
		select {
		case <-c.ended:
		case <-time.After(endTime):
			_ = c.cmd.Process.Signal(syscall.SIGKILL)
		}
	}()
	return err
}

// watch looks after one signer process after the other until Close.
func (p *Process) watch(l *link) {
	defer close(p.done)
	for l != nil {
		why := p.attend(l)
		p.replace(nil, why)
		if ended := end(l); ended != nil {
			p.replace(nil, fmt.Errorf("%w: %w", why, ended)) // for the operator
		}
		l = p.restart()
	}
}

// end closes the link and waits until the process is gone, so that a token that serves one process serves the next. It
// returns how the process ended.
func end(l *link) error {
	l.close()
	<-l.conn.ended
	return l.conn.why
}

// attend returns when the process must be replaced: because it has ended, gives no answer, or is ill for too long although
// no person is needed. It returns too when nothing is wanted any more.
func (p *Process) attend(l *link) error {
	tick := time.NewTicker(pulse)
	defer tick.Stop()
	for bad := 0; bad < illness; {
		select {
		case <-l.dead:
			return unavailable("the signer process has ended")
		case <-p.closed:
			return unavailable("the token is closed")
		case <-tick.C:
		}
		switch err := l.check(grace); {
		case err == nil, errors.Is(err, hsm.ErrPIN), denial.Is(err, denial.HSMKeyPolicy):
			bad = 0 // another process would find the same
		default:
			bad++
		}
	}
	return l.health()
}

// restart starts processes until one serves. After a login that needs a person it gives up.
func (p *Process) restart() *link {
	for delay := firstDelay; ; delay = min(2*delay, longestDelay) {
		select {
		case <-time.After(delay):
		case <-p.closed:
			return nil
		}
		l, err := p.start(context.Background())
		if err == nil && p.replace(l, nil) {
			return l
		}
		if err == nil {
			end(l)
			return nil
		}
		p.replace(nil, unavailableFor(err))
		if errors.Is(err, hsm.ErrPIN) {
			<-p.closed
			return nil
		}
	}
}

// unavailableFor returns err as a denial.
func unavailableFor(err error) error {
	var d *denial.Denial
	if errors.As(err, &d) {
		return err
	}
	return fmt.Errorf("%w: %w", denial.New(denial.HSMUnavailable, "the signer process does not start"), err)
}

// replace puts a process, or the reason why there is none, in place. It reports whether it is still wanted.
func (p *Process) replace(l *link, why error) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		return false
	default:
		p.link, p.state = l, why
		return true
	}
}

var _ statement.Signer = (*signer)(nil)
