package main

import (
	"context"
	"fmt"
	"strings"
)

// delegation lets an agent on the second host do a part of what the first host may, and shows that it is a part, and ends with it.
func (d *demo) delegation(ctx context.Context) error {
	d.title("7. Delegation: the TPM of host a signs what an agent on host b may ask for, and policy says who may delegate to whom")
	byAgent := func(out string, more ...string) []string {
		return d.ask(d.b, out, append([]string{"--initiator", agent, "--key", d.path("agent.pem")}, more...)...)
	}
	d.title("406: the agent asks for itself")
	if err := d.refused(ctx, 406, "writ", byAgent("own.cose")...); err != nil {
		return err
	}
	d.title("…and with a delegation: once each")
	out, _, status, err := d.command(ctx, "writ", append(d.ask(d.a, "parent.cose", "--depth", "1"), "--json")...)
	if err != nil || status != 0 {
		return fmt.Errorf("asking for an artifact: exit status %d: %w", status, err)
	}
	id, err := field(out, "id")
	if err != nil {
		return err
	}
	for _, n := range []string{"1", "2"} {
		file := d.path("delegation" + n + ".cose")
		if _, err := d.must(ctx, "writ", d.on(d.a, "delegate", "--artifact", d.path("parent.cose"), "--to-initiator", agent, "--to-host", hostB, "--to-audience", gateB,
			"-o", file)...); err != nil {
			return err
		}
		if _, err := d.must(ctx, "writ", byAgent("child"+n+".cose", "--lifetime", "1m", "--delegation", file)...); err != nil {
			return err
		}
	}
	out, err = d.must(ctx, "writ-gate", d.gate(d.b, "child1.cose", programName)...)
	if err == nil && !strings.Contains(out, "reconciled 42 accounts") {
		err = fmt.Errorf("running the program: it did not run")
	}
	if err != nil {
		return err
	}
	if err := d.refused(ctx, 406, "writ", byAgent("third.cose", "--lifetime", "1m", "--delegation", d.path("delegation1.cose"))...); err != nil {
		return err
	}
	d.title("807: what the artifact was delegated from is revoked, and the artifact with it")
	if _, err := d.must(ctx, "writ", d.office("revoke", "artifact", id, "--key", d.path("alice.pem"), "--why", "the plan has changed")...); err != nil {
		return err
	}
	return d.refused(ctx, 807, "writ-gate", d.gate(d.b, "child2.cose", programName)...)
}
