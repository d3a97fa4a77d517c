package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"time"

	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/swtpm"
)

// denials provokes every refusal for real.
func (d *demo) denials(ctx context.Context) error {
	d.title("8. Denials: each provoked for real, each with its code, where it was decided, and its place in the log")
	for _, step := range []func(context.Context) error{d.noArtifact, d.expired, d.changed, d.otherScope, d.replayed, d.wrongLog, d.otherHost, d.revoked, d.pcrChanged} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (d *demo) noArtifact(ctx context.Context) error {
	d.title("101: run without an artifact")
	return d.refused(ctx, 101, "writ-gate", d.gate(d.a, "", programName)...)
}

func (d *demo) expired(ctx context.Context) error {
	d.title("201: after expiry")
	if _, err := d.must(ctx, "writ", d.ask(d.a, "short.cose", "--lifetime", "1s")...); err != nil {
		return err
	}
	d.say("(waiting for the second to pass)")
	select {
	case <-time.After(2100 * time.Millisecond):
	case <-ctx.Done():
		return ctx.Err()
	}
	return d.refused(ctx, 201, "writ-gate", d.gate(d.a, "short.cose", programName)...)
}

func (d *demo) changed(ctx context.Context) error {
	d.title("301: one byte of the artifact changed")
	raw, err := os.ReadFile(d.path("permit.cose"))
	if err != nil {
		return err
	}
	at := bytes.Index(raw, []byte(hostA)) // the first byte of a name that the signature covers
	if at < 0 {
		return fmt.Errorf("changing the artifact: it does not name the host")
	}
	raw[at] ^= 1
	if err := os.WriteFile(d.path("changed.cose"), raw, 0o600); err != nil {
		return err
	}
	if err := copyFile(d.path("permit.cose.cnf"), d.path("changed.cose.cnf")); err != nil {
		return err
	}
	return d.refused(ctx, 301, "writ-gate", d.gate(d.a, "changed.cose", programName)...)
}

func (d *demo) otherScope(ctx context.Context) error {
	d.title("404: another program, asked for at the issuer and tried at the gate")
	if err := d.refused(ctx, 404, "writ", d.ask(d.a, "other.cose", "--exec", d.path(otherProgram))...); err != nil {
		return err
	}
	if _, err := d.must(ctx, "writ", d.ask(d.a, "scope.cose")...); err != nil {
		return err
	}
	return d.refused(ctx, 404, "writ-gate", d.gate(d.a, "scope.cose", otherProgram)...)
}

func (d *demo) replayed(ctx context.Context) error {
	d.title("504: the artifact used a second time; 509: the request sent a second time, with fresh evidence")
	if err := d.refused(ctx, 504, "writ-gate", d.gate(d.a, "permit.cose", programName)...); err != nil {
		return err
	}
	return d.refused(ctx, 509, "writ", d.ask(d.a, "again.cose", "--resend-request", d.path("request.cose"), "--cnf", d.path("permit.cose.cnf"))...)
}

func (d *demo) wrongLog(ctx context.Context) error {
	d.title("603: the boot log of another kernel command line, complete in itself, that does not fit the quote")
	other := bootlog.New(bootlog.Options{CommandLine: "root=/dev/vda2 ro console=ttyS0 init=/bin/sh"})
	if err := os.WriteFile(d.path("forged.log"), other.Log, 0o600); err != nil {
		return err
	}
	return d.refused(ctx, 603, "writ", d.ask(d.a, "forged.cose", "--eventlog", d.path("forged.log"))...)
}

func (d *demo) otherHost(ctx context.Context) error {
	d.title("701: the artifact carried to a second host, whose gate even accepts the audience")
	if _, err := d.must(ctx, "writ", d.ask(d.a, "carried.cose", "--audience", gateB)...); err != nil {
		return err
	}
	return d.refused(ctx, 701, "writ-gate", d.gate(d.b, "carried.cose", programName)...)
}

func (d *demo) revoked(ctx context.Context) error {
	d.title("801: revoked by one authority, and refused from that moment on")
	out, _, status, err := d.command(ctx, "writ", append(d.ask(d.a, "revoked.cose"), "--json")...)
	if err != nil || status != 0 {
		return fmt.Errorf("asking for an artifact: exit status %d: %w", status, err)
	}
	id, err := field(out, "id")
	if err != nil {
		return err
	}
	if _, err := d.must(ctx, "writ", d.office("revoke", "artifact", id, "--key", d.path("alice.pem"), "--why", "the demo says so")...); err != nil {
		return err
	}
	return d.refused(ctx, 801, "writ-gate", d.gate(d.a, "revoked.cose", programName)...)
}

func (d *demo) pcrChanged(ctx context.Context) error {
	d.title("702: a PCR changes after issuance, and the TPM itself refuses the proof of possession")
	if _, err := d.must(ctx, "writ", d.ask(d.a, "stale.cose")...); err != nil {
		return err
	}
	sum := sha256.Sum256([]byte("something else was loaded"))
	if err := d.tpmA.ExtendAll(ctx, []swtpm.Extend{{PCR: 14, Digests: map[string][]byte{"sha256": sum[:]}}}); err != nil {
		return err
	}
	d.say("(PCR 14 of host a was extended)")
	return d.refused(ctx, 702, "writ-gate", d.gate(d.a, "stale.cose", programName)...)
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, data, 0o600)
}

// audit pulls the evidence and decides again, offline.
func (d *demo) audit(ctx context.Context) error {
	d.title("9. Audit: the evidence is pulled, verified and decided again, without asking the issuer")
	if _, err := d.must(ctx, "writ", "audit", "pull", "--admin", d.path("admin.sock"), "-o", d.path("evidence.tar")); err != nil {
		return err
	}
	if _, err := d.must(ctx, "writ", "audit", "verify", d.path("evidence.tar"), "--trust", d.a.state+".trust.toml"); err != nil {
		return err
	}
	d.title("…and with one byte of it changed")
	raw, err := os.ReadFile(d.path("evidence.tar"))
	if err != nil {
		return err
	}
	at := bytes.LastIndex(raw, []byte(hostA))
	if at < 0 {
		return fmt.Errorf("changing the bundle: it does not name the host")
	}
	raw[at] ^= 1
	if err := os.WriteFile(d.path("tampered.tar"), raw, 0o600); err != nil {
		return err
	}
	_, stderr, status, err := d.command(ctx, "writ", "audit", "verify", d.path("tampered.tar"), "--trust", d.a.state+".trust.toml")
	if err != nil {
		return err
	}
	d.tell(stderr)
	if status != 1 {
		return fmt.Errorf("verifying the changed bundle: exit status %d, not 1", status)
	}
	return nil
}
