package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softhsm"
	"github.com/governed-execution/writ/test/swtpm"
)

// The names that the demo gives.
const (
	issuerURI    = "https://issuer.example"
	hostA        = "spiffe://example/host/a"
	hostB        = "spiffe://example/host/b"
	gateA        = "https://gate.example/a"
	gateB        = "https://gate.example/b"
	robot        = "spiffe://example/initiator/nightly"
	agent        = "spiffe://example/initiator/agent"
	alice        = "mailto:alice@example.org"
	bob          = "mailto:bob@example.org"
	carol        = "mailto:carol@example.org"
	appraisalID  = issuerURI + "/policy/appraisal"
	authorizeID  = issuerURI + "/policy/authorization"
	programName  = "reconcile"
	otherProgram = "exfiltrate"
)

// host is a machine with its own TPM.
type host struct {
	uri, gate, tpm, state, config string
}

type demo struct {
	dir, bin string
	out      io.Writer
	token    *softhsm.Token
	tpmA     *swtpm.TPM
	tpmB     *swtpm.TPM
	boot     *bootlog.Boot
	a, b     host
	url      string
	server   *exec.Cmd
	heard    bytes.Buffer // everything that programs were told and have said
}

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

func (d *demo) title(format string, args ...any) {
	fmt.Fprintf(d.out, "\n== "+format+"\n", args...)
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, "   "+format+"\n", args...) }

// tell prints what a program wrote, without the working directory.
func (d *demo) tell(text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	for _, line := range strings.Split(strings.TrimRight(text, "\n"), "\n") {
		fmt.Fprintf(d.out, "     %s\n", strings.ReplaceAll(line, d.dir+"/", ""))
	}
}

// command runs a program and returns what it wrote and how it ended.
func (d *demo) command(ctx context.Context, name string, args ...string) (stdout, stderr string, status int, err error) {
	fmt.Fprintf(d.out, "   $ %s %s\n", name, strings.ReplaceAll(shell(args), d.dir+"/", ""))
	cmd := exec.CommandContext(ctx, filepath.Join(d.bin, name), args...)
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), d.token.Env()...)
	var outBuf, errBuf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &outBuf, &errBuf
	err = cmd.Run()
	fmt.Fprintf(&d.heard, "%s %q\n%s%s", name, args, outBuf.Bytes(), errBuf.Bytes())
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return outBuf.String(), errBuf.String(), exit.ExitCode(), nil
	}
	return outBuf.String(), errBuf.String(), 0, err
}

// shell writes arguments as a person would type them.
func shell(args []string) string {
	out := make([]string, len(args))
	for i, a := range args {
		if out[i] = a; strings.Contains(a, " ") {
			out[i] = "'" + a + "'"
		}
	}
	return strings.Join(out, " ")
}

// must runs a program that has to succeed, and tells what it wrote.
func (d *demo) must(ctx context.Context, name string, args ...string) (string, error) {
	stdout, stderr, status, err := d.command(ctx, name, args...)
	if err != nil {
		return "", err
	}
	d.tell(stdout)
	if status != 0 {
		d.tell(stderr)
		return "", fmt.Errorf("running %s: exit status %d", name, status)
	}
	return stdout, nil
}

// refused runs a program that has to be denied with the code, and tells how.
func (d *demo) refused(ctx context.Context, code int, name string, args ...string) error {
	stdout, stderr, status, err := d.command(ctx, name, args...)
	if err != nil {
		return err
	}
	d.tell(stdout + stderr)
	want := map[string]int{"writ": 1, "writ-gate": 126}[name]
	if status != want {
		return fmt.Errorf("running %s: exit status %d, not %d: this should have been denied", name, status, want)
	}
	if !strings.Contains(stderr, fmt.Sprintf("denied: %d ", code)) {
		return fmt.Errorf("running %s: not denied with %d", name, code)
	}
	if !strings.Contains(stderr, "logged at index") {
		return fmt.Errorf("running %s: the denial is not in the log", name)
	}
	return nil
}

func (d *demo) close() error {
	var err error
	if d.server != nil {
		err = errors.Join(d.server.Process.Signal(os.Interrupt), d.server.Wait())
	}
	for _, t := range []*swtpm.TPM{d.tpmA, d.tpmB} {
		if t != nil {
			err = errors.Join(err, t.Stop())
		}
	}
	return err
}

// on are the arguments of a command on a host, whose writ.toml says what would otherwise be flags.
func (d *demo) on(h host, args ...string) []string {
	return append([]string{"-c", d.path(h.config)}, args...)
}

// office are the arguments of a command of the authorities.
func (d *demo) office(args ...string) []string {
	return append([]string{"-c", d.path("office.toml")}, args...)
}

// acts are the arguments of a command that both authorities sign.
func (d *demo) acts(args ...string) []string {
	return append(d.office(args...), "--key", d.path("alice.pem"), "--key", d.path("bob.pem"))
}

// configs writes writ.toml for the office and for each host.
func (d *demo) configs() error {
	common := fmt.Sprintf("server = %q\nca = \"tls.pem\"\nissuer = %q\n", d.url, issuerURI)
	if err := os.WriteFile(d.path("office.toml"), []byte(common), 0o600); err != nil {
		return err
	}
	for _, h := range []host{d.a, d.b} {
		text := common + fmt.Sprintf("tpm = %q\neventlog = \"boot.log\"\nhost = %q\naudience = %q\ninitiator = %q\nkey = \"robot.pem\"\ntrust = %q\nstate = %q\n",
			h.tpm, h.uri, h.gate, robot, h.state+".trust.toml", h.state)
		if err := os.WriteFile(d.path(h.config), []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// freeAddress returns a loopback address that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// await waits until the issuer takes connections.
func (d *demo) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	address := strings.TrimPrefix(d.url, "https://")
	for {
		conn, err := (&tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}}).DialContext(ctx, "tcp", address) // is anybody there?
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for writd: %w", err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// field returns a member of a program's JSON output.
func field(out, name string) (string, error) {
	var m map[string]any
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		return "", fmt.Errorf("reading JSON: %w", err)
	}
	s, ok := m[name].(string)
	if !ok {
		return "", fmt.Errorf("reading JSON: no member %s", name)
	}
	return s, nil
}
