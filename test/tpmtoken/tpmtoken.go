// Package tpmtoken makes PKCS#11 tokens of TPMs for tests and the benchmark: tpm2-pkcs11 on a swtpm of its own for each.
//
// Between the module and the TPM runs tpm2-abrmd, on a message bus of its own. A TPM has room for three loaded objects,
// and so has each client of /dev/tpmrm0; the module loads every key that it uses and keeps it, and an issuer has four.
//
// The keys are in the TPM. The store, a file, has them wrapped, and everything that the module states of them.
package tpmtoken

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/governed-execution/writ/test/need"
	"github.com/governed-execution/writ/test/swtpm"
)

// Token is an initialized token without keys, with everything that runs behind it. It is for one goroutine.
type Token struct {
	Module  string // path of the PKCS#11 library
	Label   string // label of the token
	PINFile string // file with the user PIN, mode 0600
	Store   string // directory of the module's store

	dir    string
	tpm    *swtpm.TPM
	bus    *exec.Cmd
	broker *exec.Cmd
}

// Env returns what the environment of a process must have to find the token.
func (t *Token) Env() []string {
	return []string{"TPM2_PKCS11_STORE=" + t.Store, "TPM2_PKCS11_TCTI=" + tcti, "DBUS_SESSION_BUS_ADDRESS=" + t.address(),
		"TPM2_PKCS11_LOG_LEVEL=0", "TSS2_LOG=all+NONE"}
}

const tcti = "tabrmd:bus_type=session"

func (t *Token) socket() string { return filepath.Join(t.dir, "bus") }

func (t *Token) address() string { return "unix:path=" + t.socket() }

// New makes a token that lives as long as the test, and points this process at it; such a test cannot be parallel. Where
// a part is missing the test is skipped, or fails if REQUIRE_ALL=1.
func New(t testing.TB) *Token {
	t.Helper()
	need.Have(t, Available())
	dir, err := os.MkdirTemp("", "tpmtoken") // short enough for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	token, err := Init(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := token.Stop(); err != nil {
			t.Error(err)
		}
	})
	for _, v := range token.Env() {
		for i := range v {
			if v[i] == '=' {
				t.Setenv(v[:i], v[i+1:])
				break
			}
		}
	}
	return token
}

// Available returns an error that names the first missing part.
func Available() error {
	if err := swtpm.Available(); err != nil {
		return err
	}
	for _, name := range []string{"dbus-daemon", "tpm2-abrmd", "tpm2_ptool", "tpm2_getrandom"} {
		if _, err := find(name); err != nil {
			return fmt.Errorf("finding tpm2-pkcs11: %w; run: test/deps/install", err)
		}
	}
	_, err := module()
	return err
}

// find looks into /usr/sbin too, where tpm2-abrmd is, and where the PATH of a person does not lead.
func find(name string) (string, error) {
	if path, err := exec.LookPath(name); err == nil {
		return path, nil
	}
	return exec.LookPath("/usr/sbin/" + name)
}

func module() (string, error) {
	for _, pattern := range []string{"/usr/lib/*/pkcs11/libtpm2_pkcs11.so", "/usr/lib*/pkcs11/libtpm2_pkcs11.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", errors.New("finding tpm2-pkcs11: libtpm2_pkcs11.so is not installed; run: test/deps/install")
}

// Init makes a TPM and a token of it in a directory. The caller must Stop it. The path must be short: a Unix socket in it
// has at most 107 bytes.
func Init(ctx context.Context, dir string) (*Token, error) {
	library, err := module()
	if err != nil {
		return nil, err
	}
	t := &Token{Module: library, Label: "writ", PINFile: filepath.Join(dir, "pin"), Store: filepath.Join(dir, "store"), dir: dir}
	if err := os.MkdirAll(t.Store, 0o700); err != nil {
		return nil, fmt.Errorf("making store: %w", err)
	}
	if t.tpm, err = swtpm.Start(ctx, filepath.Join(dir, "tpm"), swtpm.Options{}); err != nil {
		return nil, err
	}
	if err := t.startBus(ctx); err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	if err := t.StartBroker(ctx); err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	if err := t.initialize(ctx); err != nil {
		return nil, errors.Join(err, t.Stop())
	}
	return t, nil
}

// initialize makes the token as docs/operating.md says. tpm2_ptool takes a PIN as an argument only; these are random, and
// for this token.
func (t *Token) initialize(ctx context.Context) error {
	pin := rand.Text()
	if err := os.WriteFile(t.PINFile, []byte(pin+"\n"), 0o600); err != nil {
		return fmt.Errorf("writing PIN file: %w", err)
	}
	for _, args := range [][]string{
		{"init", "--path", t.Store},
		{"addtoken", "--pid", "1", "--label", t.Label, "--userpin", pin, "--sopin", rand.Text(), "--path", t.Store},
	} {
		cmd := exec.CommandContext(ctx, "tpm2_ptool", args...)
		cmd.Env = append(append(os.Environ(), t.Env()...), "TPM2TOOLS_TCTI="+tcti)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("making token: tpm2_ptool %s: %w: %s", args[0], err, out)
		}
	}
	return nil
}

const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>session</type>
  <listen>%s</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow send_destination="*" eavesdrop="true"/>
    <allow eavesdrop="true"/>
    <allow own="*"/>
  </policy>
</busconfig>
`

// startBus starts a message bus that only this user can use.
func (t *Token) startBus(ctx context.Context) error {
	config := filepath.Join(t.dir, "bus.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, busConfig, t.address()), 0o600); err != nil {
		return fmt.Errorf("writing configuration of the bus: %w", err)
	}
	t.bus = exec.Command("dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile")
	if err := t.bus.Start(); err != nil {
		t.bus = nil
		return fmt.Errorf("starting bus: %w", err)
	}
	return await(ctx, "the bus", func() bool {
		conn, err := net.Dial("unix", t.socket())
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// StartBroker starts the resource manager, which Init has done already. It returns when that serves.
func (t *Token) StartBroker(ctx context.Context) error {
	path, err := find("tpm2-abrmd")
	if err != nil {
		return fmt.Errorf("starting resource manager: %w", err)
	}
	args := []string{"--session", "--tcti=swtpm:path=" + t.tpm.Socket, "--flush-all"}
	if os.Geteuid() == 0 {
		args = append(args, "--allow-root")
	}
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), t.Env()...)
	log, err := os.OpenFile(filepath.Join(t.dir, "broker.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("opening log: %w", err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting resource manager: %w", err)
	}
	t.broker = cmd
	return await(ctx, "the resource manager", func() bool {
		ask := exec.CommandContext(ctx, "tpm2_getrandom", "--hex", "8")
		ask.Env = append(append(os.Environ(), t.Env()...), "TPM2TOOLS_TCTI="+tcti)
		return ask.Run() == nil
	})
}

// await asks until it is so. What it waits for says no earlier that it is.
func await(ctx context.Context, what string, so func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", what, ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// Processes returns the ids of the processes behind the token.
func (t *Token) Processes() []int {
	return []int{t.tpm.Process(), t.bus.Process.Pid, t.broker.Process.Pid}
}

// StopBroker ends the resource manager: for the module the TPM is then gone.
func (t *Token) StopBroker() error {
	cmd := t.broker
	t.broker = nil
	return end(cmd)
}

// Stop ends everything that runs behind the token. It may be called twice.
func (t *Token) Stop() error {
	err := t.StopBroker()
	bus := t.bus
	t.bus = nil
	return errors.Join(err, end(bus), t.tpm.Stop())
}

// end ends a process and waits for it.
func end(cmd *exec.Cmd) error {
	if cmd == nil {
		return nil
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ending %s: %w", cmd.Path, err)
	}
	patience := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
	defer patience.Stop()
	_ = cmd.Wait() // how it ended does not matter
	return nil
}
