package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/governed-execution/writ/test/vm/talk"
)

// The names that the demo gives.
const (
	issuerURI   = "https://issuer.example"
	hostURI     = "spiffe://example/host/vm"
	gateURI     = "https://gate.example/vm"
	robot       = "spiffe://example/initiator/nightly"
	alice       = "mailto:alice@example.org"
	bob         = "mailto:bob@example.org"
	appraisalID = issuerURI + "/policy/appraisal"
	authorizeID = issuerURI + "/policy/authorization"
	workload    = "/bin/reconcile"
)

func (d *demo) path(name string) string { return filepath.Join(d.dir, name) }

func (d *demo) title(format string, args ...any) { fmt.Fprintf(d.out, "\n== "+format+"\n", args...) }

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.out, "   "+format+"\n", args...) }

// tell prints what a program wrote, without the working directory.
func (d *demo) tell(text string) {
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		if line != "" {
			fmt.Fprintf(d.out, "     %s\n", strings.ReplaceAll(line, d.dir+"/", ""))
		}
	}
}

// here runs a program on this machine, which has to succeed, and tells what it wrote.
func (d *demo) here(ctx context.Context, name string, args ...string) (string, error) {
	out, err := d.quietly(ctx, name, args...)
	d.tell(out)
	return out, err
}

// quietly runs a program on this machine, which has to succeed.
func (d *demo) quietly(ctx context.Context, name string, args ...string) (string, error) {
	fmt.Fprintf(d.out, "   $ %s %s\n", name, strings.ReplaceAll(strings.Join(args, " "), d.dir+"/", ""))
	cmd := exec.CommandContext(ctx, filepath.Join(d.bin, name), args...)
	cmd.Dir = d.dir
	cmd.Env = append(os.Environ(), d.token.Env()...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("running %s: %w: %s", name, err, stderr.String())
	}
	return stdout.String(), nil
}

// there runs a program in the virtual machine.
func (d *demo) there(ctx context.Context, name string, args ...string) (*talk.Reply, error) {
	fmt.Fprintf(d.out, "   vm# %s %s\n", name, strings.Join(args, " "))
	r, err := d.machine.Ask(ctx, talk.Request{Op: talk.Run, Args: append([]string{"/bin/" + name}, args...)})
	if err == nil {
		d.tell(string(r.Stdout))
		d.tell(string(r.Stderr))
	}
	return r, err
}

// must runs a program in the virtual machine that has to succeed.
func (d *demo) must(ctx context.Context, name string, args ...string) (*talk.Reply, error) {
	r, err := d.there(ctx, name, args...)
	if err == nil && r.Status != 0 {
		err = fmt.Errorf("running %s in the machine: exit status %d", name, r.Status)
	}
	return r, err
}

// refused runs a program in the virtual machine that has to be denied with the code, and to say every one of the words.
func (d *demo) refused(ctx context.Context, code int, words []string, name string, args ...string) error {
	r, err := d.there(ctx, name, args...)
	if err != nil {
		return err
	}
	if want := map[string]int{"writ": 1, "writ-gate": 126}[name]; r.Status != want {
		return fmt.Errorf("running %s in the machine: exit status %d, not %d: this should have been denied", name, r.Status, want)
	}
	for _, w := range append([]string{fmt.Sprintf("denied: %d ", code), "logged at index"}, words...) {
		if !strings.Contains(string(r.Stderr), w) {
			return fmt.Errorf("running %s in the machine: the denial does not say %q", name, w)
		}
	}
	return nil
}

// put writes a file in the virtual machine.
func (d *demo) put(ctx context.Context, path string, data []byte) error {
	_, err := d.machine.Ask(ctx, talk.Request{Op: talk.Put, Path: path, Mode: 0o600, Data: data})
	return err
}

// office are the arguments of a command of the authorities, acts those of one that both sign.
func (d *demo) office(args ...string) []string {
	return append([]string{"-c", d.path("office.toml")}, args...)
}

func (d *demo) acts(args ...string) []string {
	return append(d.office(args...), "--key", d.path("alice.pem"), "--key", d.path("bob.pem"))
}

// certificate makes the issuer's TLS certificate, for the two addresses by which this machine and the virtual one know it.
func (d *demo) certificate() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making TLS key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(0, 0, 1), IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 0, 2, 2)}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("making TLS certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("making TLS key: %w", err)
	}
	return errors.Join(os.WriteFile(d.path("tls.key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600),
		os.WriteFile(d.path("tls.pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

// serve starts the issuer and waits until it takes connections.
func (d *demo) serve(ctx context.Context) error {
	log, err := os.Create(d.path("writd.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	d.say("$ writd serve --config writd.toml &")
	d.server = exec.Command(d.bin+"/writd", "serve", "--config", d.path("writd.toml"))
	d.server.Env = append(os.Environ(), d.token.Env()...)
	d.server.Stderr = log
	if err := d.server.Start(); err != nil {
		d.server = nil
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		dialer := &tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true}} // is anybody there?
		if conn, err := dialer.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", d.port)); err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for writd: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

// freePort returns a port of the loopback address that nobody listens on.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}
