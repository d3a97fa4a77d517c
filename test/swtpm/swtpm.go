// Package swtpm runs software TPMs (swtpm) for tests and the demonstration. Every TPM has its own directory, its own
// seeds and EK certificates from a CA in that directory, and listens on a Unix socket.
package swtpm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// maxSocketPath is the room in sockaddr_un, less the suffix of the control socket and the final zero.
const maxSocketPath = 107 - len(".ctrl")

// Options are the choices at the making of a TPM. The zero Options are usable.
type Options struct {
	Banks []string // PCR banks to allocate; default sha256 alone
	CA    string   // directory of the CA that signs the EK certificates; made on first use; default: one for this TPM
}

// TPM is one running software TPM. It is not safe for concurrent use.
type TPM struct {
	Socket string // path of the command socket; swtpm serves one client at a time, a second one waits

	dir  string
	ca   string
	cmd  *exec.Cmd
	done chan error
}

// Available returns an error that names the first missing program.
func Available() error {
	for _, name := range []string{"swtpm", "swtpm_setup", "swtpm_localca"} {
		if _, err := exec.LookPath(name); err != nil {
			return fmt.Errorf("looking for %s: %w", name, err)
		}
	}
	return nil
}

// Start manufactures a TPM in dir, or takes the one that is there already, and powers it on. The caller must Stop it.
// The path of dir must be short: a Unix socket in it has at most 107 bytes.
func Start(ctx context.Context, dir string, o Options) (*TPM, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("finding TPM directory: %w", err)
	}
	t := &TPM{Socket: filepath.Join(dir, "tpm"), dir: dir, ca: o.CA}
	if len(t.Socket) > maxSocketPath {
		return nil, fmt.Errorf("starting swtpm: a socket path has at most %d bytes, %d needed", maxSocketPath, len(t.Socket))
	}
	if t.ca == "" {
		t.ca = filepath.Join(dir, "ca")
	}
	if t.ca, err = filepath.Abs(t.ca); err != nil {
		return nil, fmt.Errorf("finding CA directory: %w", err)
	}
	if _, err := os.Stat(t.state()); errors.Is(err, os.ErrNotExist) {
		if err := t.manufacture(ctx, o.Banks); err != nil {
			return nil, err
		}
	}
	return t, t.powerOn(ctx)
}

func (t *TPM) state() string { return filepath.Join(t.dir, "state") }

// powerOn starts the process and returns when it accepts connections.
func (t *TPM) powerOn(ctx context.Context) error {
	log, err := os.OpenFile(filepath.Join(t.dir, "swtpm.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening swtpm log: %w", err)
	}
	defer log.Close()
	t.removeSockets()
	// Not bound to ctx: the TPM lives until Stop.
	cmd := exec.Command("swtpm", "socket", "--tpm2",
		"--tpmstate", "dir="+t.state(),
		"--server", "type=unixio,path="+t.Socket,
		"--ctrl", "type=unixio,path="+t.Socket+".ctrl",
		"--flags", "not-need-init,startup-clear")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting swtpm: %w", err)
	}
	t.cmd, t.done = cmd, make(chan error, 1)
	go func(done chan<- error) { done <- cmd.Wait() }(t.done)
	if err := t.await(ctx); err != nil {
		return errors.Join(err, t.kill())
	}
	return nil
}

// await dials until the TPM accepts or its process ends.
func (t *TPM) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for {
		if conn, err := net.Dial("unix", t.Socket); err == nil {
			return conn.Close()
		}
		select {
		case err := <-t.done:
			t.done <- err
			return fmt.Errorf("starting swtpm: it ended early: %v: %s", err, tail(filepath.Join(t.dir, "swtpm.log")))
		case <-ctx.Done():
			return fmt.Errorf("waiting for swtpm: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// Stop shuts the TPM down in order, ends its process and waits for it. If a client still holds the connection, the
// TPM loses power without TPM2_Shutdown, as a host that crashes. Stop may be called twice.
func (t *TPM) Stop() error {
	if t.cmd == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = t.shutdown(ctx) // a client that is still connected may prevent it
	return t.kill()
}

// Reset is one power cycle: PCRs start anew and resetCount rises by one. Connections of clients end.
func (t *TPM) Reset(ctx context.Context) error {
	if err := t.Stop(); err != nil {
		return err
	}
	return t.powerOn(ctx)
}

// Clone powers on a second TPM in dir that has a copy of the state of this one, which must be stopped: the same seeds, keys
// and counters, like a virtual machine that was copied.
func (t *TPM) Clone(ctx context.Context, dir string) (*TPM, error) {
	if t.cmd != nil {
		return nil, errors.New("copying TPM: it is running")
	}
	if err := os.CopyFS(filepath.Join(dir, filepath.Base(t.state())), os.DirFS(t.state())); err != nil {
		return nil, fmt.Errorf("copying TPM: %w", err)
	}
	return Start(ctx, dir, Options{CA: t.ca})
}

// Process returns the id of the process of a TPM that is powered on.
func (t *TPM) Process() int { return t.cmd.Process.Pid }

func (t *TPM) kill() error {
	cmd, done := t.cmd, t.done
	t.cmd = nil
	defer t.removeSockets()
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping swtpm: %w", err)
	}
	patience := time.NewTimer(5 * time.Second)
	defer patience.Stop()
	select {
	case <-done:
		return nil
	case <-patience.C:
	}
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("killing swtpm: %w", err)
	}
	<-done
	return nil
}

func (t *TPM) removeSockets() {
	_ = os.Remove(t.Socket)
	_ = os.Remove(t.Socket + ".ctrl")
}

// tail returns the end of a log file for an error message.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-600):]))
}
