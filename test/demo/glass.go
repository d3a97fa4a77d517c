package main

import (
	"context"
	"fmt"
	"strings"
)

// breakGlass lets people allow one run in place of the issuer's decision, and shows how little that lets through.
func (d *demo) breakGlass(ctx context.Context) error {
	d.title("6. Break-glass: two people allow one run, where policy declares it and the gate lists it; a third must join the review")
	glass := d.path("go.glass")
	for _, args := range [][]string{
		d.office("break-glass", "draft", "--policy", d.path("authorization.toml"), "--rule", "restore", "--host", hostA, "--audience", gateA, "--initiator", robot,
			"--why", "the nightly run failed and the books are open", "--exec", d.path(programName), "-o", d.path("go.draft")),
		{"sign", d.path("go.draft"), "--key", d.path("alice.pem"), "-o", d.path("go.act")},
		{"sign", d.path("go.act"), "--key", d.path("bob.pem")},
		d.office("break-glass", "publish", d.path("go.act"), "-o", glass),
	} {
		if _, err := d.must(ctx, "writ", args...); err != nil {
			return err
		}
	}
	d.title("102: before the host has attested; 410: at a gate whose trust file does not list it")
	if err := d.refused(ctx, 102, "writ-gate", d.gate(d.a, "go.glass", programName)...); err != nil {
		return err
	}
	if err := d.refused(ctx, 410, "writ-gate", d.gate(d.b, "go.glass", programName)...); err != nil {
		return err
	}
	d.title("…and with its proof: once, and 504 the second time")
	if _, err := d.must(ctx, "writ", d.on(d.a, "break-glass", "attest", glass)...); err != nil {
		return err
	}
	out, err := d.must(ctx, "writ-gate", d.gate(d.a, "go.glass", programName)...)
	if err == nil && !strings.Contains(out, "reconciled 42 accounts") {
		err = fmt.Errorf("running the program: it did not run")
	}
	if err != nil {
		return err
	}
	if err := d.refused(ctx, 504, "writ-gate", d.gate(d.a, "go.glass", programName)...); err != nil {
		return err
	}
	_, err = d.must(ctx, "writ", d.office("break-glass", "review", glass, "--verdict", "justified", "--finding", "the run was due and the host was as it should be",
		"--key", d.path("bob.pem"), "--key", d.path("carol.pem"))...)
	return err
}
