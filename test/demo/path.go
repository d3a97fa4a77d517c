package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softhsm"
	"github.com/governed-execution/writ/test/swtpm"
)

// parts makes the hardware: a token, and two machines with a TPM that have booted.
func (d *demo) parts(ctx context.Context) (err error) {
	d.title("1. Real parts: a PKCS#11 token and two machines with a TPM")
	if d.token, err = softhsm.Init(d.path("token")); err != nil {
		return err
	}
	d.say("SoftHSM token made; its PIN is in a file that only this user can read")
	d.boot = bootlog.New(bootlog.Options{})
	if d.tpmA, err = swtpm.Start(ctx, d.path("tpm-a"), swtpm.Options{CA: d.path("tpm-ca")}); err != nil {
		return err
	}
	if d.tpmB, err = swtpm.Start(ctx, d.path("tpm-b"), swtpm.Options{CA: d.path("tpm-ca")}); err != nil {
		return err
	}
	var extends []swtpm.Extend
	for _, e := range d.boot.Extends {
		extends = append(extends, swtpm.Extend(e))
	}
	for _, t := range []*swtpm.TPM{d.tpmA, d.tpmB} {
		if err := t.ExtendAll(ctx, extends); err != nil {
			return err
		}
	}
	d.say("two software TPMs with vendor certificates; each was extended by the %d measurements of a whole UEFI boot", len(extends))
	d.a = host{hostA, gateA, d.tpmA.Socket, d.path("gate-a"), "a.toml"}
	d.b = host{hostB, gateB, d.tpmB.Socket, d.path("gate-b"), "b.toml"}
	if err := os.WriteFile(d.path("boot.log"), d.boot.Log, 0o600); err != nil {
		return err
	}
	return d.roots()
}

func (d *demo) roots() error {
	root, err := d.tpmA.Root()
	if err != nil {
		return err
	}
	between, err := d.tpmA.Intermediate()
	if err != nil {
		return err
	}
	for name, der := range map[string][]byte{"tpm-root.pem": root.Raw, "tpm-intermediate.pem": between.Raw} {
		if err := os.WriteFile(d.path(name), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// issuer makes the keys and the log, and starts the issuer.
func (d *demo) issuer(ctx context.Context) error {
	d.title("2. Keys on the token, and a genesis statement that two of three people sign")
	for _, who := range []string{"alice", "bob", "carol", "robot", "agent"} {
		if _, err := d.must(ctx, "writ", "key", "new", "--out", d.path(who+".pem")); err != nil {
			return err
		}
	}
	address, err := freeAddress()
	if err != nil {
		return err
	}
	d.url = "https://" + address
	config := fmt.Sprintf("url = %q\nlisten = %q\nadmin_socket = %q\nlog = %q\ntls_cert = %q\ntls_key = %q\ntpm_roots = [%q]\n\n[token]\nmodule = %q\ntoken = %q\npin_file = %q\n",
		d.url, address, d.path("admin.sock"), d.path("log.db"), d.path("tls.pem"), d.path("tls.key"), d.path("tpm-root.pem"),
		d.token.Module, d.token.Label, d.token.PINFile)
	if err := os.WriteFile(d.path("writd.toml"), []byte(config), 0o600); err != nil {
		return err
	}
	if err := d.configs(); err != nil {
		return err
	}
	d.say("writd.toml says where token and log are; office.toml, a.toml and b.toml where the issuer is, and who asks from which host")
	for _, args := range [][]string{
		{"writd", "init", "--config", d.path("writd.toml"), "--issuer", issuerURI, "--self-signed-tls", "--authority", alice + "=" + d.path("alice.pem.pub"),
			"--authority", bob + "=" + d.path("bob.pem.pub"), "--authority", carol + "=" + d.path("carol.pem.pub"), "--role", "break-glass=2", "--draft", d.path("genesis.draft")},
		{"writ", "sign", d.path("genesis.draft"), "--key", d.path("alice.pem"), "-o", d.path("genesis.act")},
		{"writ", "sign", d.path("genesis.act"), "--key", d.path("bob.pem")},
		{"writd", "init", "--config", d.path("writd.toml"), "--genesis", d.path("genesis.act")},
		{"writd", "keys", "list", "--config", d.path("writd.toml")},
	} {
		if _, err := d.must(ctx, args[0], args[1:]...); err != nil {
			return err
		}
	}
	return d.serve(ctx)
}

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
	return d.await(ctx)
}

// enrol admits both hosts and both initiators.
func (d *demo) enrol(ctx context.Context) error {
	d.title("3. Enrolment: people name the TPMs they own, and each TPM proves that it is the one")
	for _, who := range [][]string{{robot, "service", "robot"}, {agent, "agent", "agent"}} {
		if _, err := d.must(ctx, "writ", d.acts("initiator", "approve", "--id", who[0], "--kind", who[1], "--public", d.path(who[2]+".pem.pub"))...); err != nil {
			return err
		}
	}
	for _, h := range []host{d.a, d.b} {
		out, err := d.must(ctx, "writ", d.on(h, "host", "status", "--json")...)
		if err != nil {
			return err
		}
		ek, err := firstEK(out)
		if err != nil {
			return err
		}
		if _, err := d.must(ctx, "writ", d.acts("host", "approve", "--id", h.uri, "--ek", ek, "--label", "env=demo", "--gate", h.gate)...); err != nil {
			return err
		}
		if _, err := d.must(ctx, "writ", d.on(h, "host", "enroll", "--gate-state", h.state, "--intermediate", d.path("tpm-intermediate.pem"))...); err != nil {
			return err
		}
	}
	return nil
}

func firstEK(out string) (string, error) {
	var status struct {
		EKs []struct{ Digest string }
	}
	if err := json.Unmarshal([]byte(out), &status); err != nil || len(status.EKs) == 0 {
		return "", fmt.Errorf("reading host status: %w", err)
	}
	return status.EKs[0].Digest, nil
}

// policies writes, signs and publishes both policies.
func (d *demo) policies(ctx context.Context) error {
	d.title("4. Policy: what a host must have booted, and who may run what, signed by two people")
	if err := d.programs(ctx); err != nil {
		return err
	}
	if _, err := d.must(ctx, "writ", d.on(d.a, "policy", "new", "--from-host", "--id", appraisalID, "--out", d.path("appraisal.toml"))...); err != nil {
		return err
	}
	if err := d.writeAuthorization(); err != nil {
		return err
	}
	for _, name := range []string{"appraisal.toml", "authorization.toml"} {
		if _, err := d.must(ctx, "writ", "policy", "lint", d.path(name)); err != nil {
			return err
		}
		if _, err := d.must(ctx, "writ", d.acts("policy", "sign", d.path(name))...); err != nil {
			return err
		}
	}
	for _, h := range []host{d.a, d.b} {
		stdout, stderr, status, err := d.command(ctx, "writd", "trust", "--config", d.path("writd.toml"), "--audience", h.gate)
		if err != nil || status != 0 {
			return fmt.Errorf("making trust file: %s %w", stderr, err)
		}
		if h.uri == hostA {
			stdout += fmt.Sprintf("\n[break_glass]\ntargets = [%q]\n", "file:"+d.path(programName))
		}
		if err := os.WriteFile(h.state+".trust.toml", []byte(stdout), 0o600); err != nil {
			return err
		}
	}
	d.say("the gates got their trust files: genesis digest, issuer keys, accepted policies; that of gate a also lists what break-glass may run")
	return nil
}

// programs builds the program that may run, and puts another beside it that may not.
func (d *demo) programs(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", d.path(programName), "./test/demo/workload")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("building the demo's program: %w: %s", err, out)
	}
	data, err := os.ReadFile(d.path(programName))
	if err != nil {
		return err
	}
	return os.WriteFile(d.path(otherProgram), append(data, 0), 0o700)
}

func (d *demo) writeAuthorization() error {
	data, err := os.ReadFile(d.path(programName))
	if err != nil {
		return err
	}
	sum := sha256.Sum256(data)
	text := fmt.Sprintf(`schema = 1
kind = "authorization"
id = %q
version = 1
expires = 2036-01-01T00:00:00Z

[[rule]]
name = "nightly-reconciliation"
initiators = [%q]
audiences = [%q, %q]
lifetime = "10m"
uses = 1
depth = 1

[rule.hosts]
env = "demo"

[[rule.scope]]
target = %q
operations = ["execute", "delegate"]
code = [%[6]q]

[[rule]]
name = "agents-of-the-night"
initiators = [%[9]q]
delegators = [%[2]q]
audiences = [%[4]q]
lifetime = "1m"
uses = 1

[rule.hosts]
env = "demo"

[[rule.scope]]
target = %[5]q
operations = ["execute"]
code = [%[6]q]

[[break_glass]]
name = "restore"
initiators = [%[2]q]
host_ids = [%[7]q]
audiences = [%[3]q]
lifetime = "30m"

[[break_glass.scope]]
target = %[5]q
operations = ["execute"]
code = [%[6]q]
parameters = [%[8]q]
`, authorizeID, robot, gateA, gateB, "file:"+d.path(programName), hex.EncodeToString(sum[:]), hostA,
		hex.EncodeToString(artifact.ParametersDigest([]string{d.path(programName)}).Value), agent)
	return os.WriteFile(d.path("authorization.toml"), []byte(text), 0o600)
}

// ask returns the arguments of writ request.
func (d *demo) ask(h host, out string, more ...string) []string {
	args := d.on(h, "request", "-o", d.path(out))
	if !contains(more, "--exec") {
		args = append(args, "--exec", d.path(programName))
	}
	return append(args, more...)
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// gate returns the arguments of writ-gate exec.
func (d *demo) gate(h host, artifact string, program string) []string {
	args := []string{"exec", "-c", d.path(h.config)}
	if artifact != "" {
		args = append(args, "--artifact", d.path(artifact))
	}
	return append(args, "--", d.path(program))
}

// permit is the whole path, once.
func (d *demo) permit(ctx context.Context) error {
	d.title("5. A permit: fresh quote, decision, signature on the token, receipt of the log, and the program runs")
	if _, err := d.must(ctx, "writ", d.ask(d.a, "permit.cose", "--save-request", d.path("request.cose"))...); err != nil {
		return err
	}
	if _, err := d.must(ctx, "writ", "inspect", "artifact", d.path("permit.cose")); err != nil {
		return err
	}
	out, err := d.must(ctx, "writ-gate", d.gate(d.a, "permit.cose", programName)...)
	if err == nil && !strings.Contains(out, "reconciled 42 accounts") {
		err = fmt.Errorf("running the program: it did not run")
	}
	return err
}
