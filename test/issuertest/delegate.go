package issuertest

import (
	"encoding/hex"
	"fmt"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/statement"
)

// Agent is an initiator who gets what Robot delegates, and nothing else: see Delegating.
const Agent = "spiffe://example/initiator/agent"

// Delegating returns a new version of the authorization policy, by which Robot's artifacts may be delegated to Agent, and
// Agent's in turn to Agent.
func (w *World) Delegating() string {
	code := hex.EncodeToString(Code[:])
	rule := func(name, initiator, more string, depth int) string {
		return fmt.Sprintf("\n[[rule]]\nname = %q\ninitiators = [%q]\n%saudiences = [%q, %q]\nlifetime = \"600s\"\nuses = 4\ndepth = %d\n\n[rule.hosts]\nenv = \"test\"\n\n"+
			"[[rule.scope]]\ntarget = %q\noperations = [\"execute\", \"read\", \"delegate\"]\ncode = [%q]\n", name, initiator, more, Gate, OtherGate, depth, Target, code)
	}
	return w.Authorization(rule("plan", Robot, "", 2), rule("act", Agent, fmt.Sprintf("delegators = [%q, %q]\n", Agent, Robot), 1))
}

// DelegatingWorld is New with the policy of Delegating in force, Agent registered, and a second host with OtherGate.
func DelegatingWorld(w *World) (other *Host) {
	w.Helper()
	w.Publish(w.Delegating())
	w.EnrolInitiator(Agent)
	return w.EnrolHost(OtherURI, OtherGate)
}

// Delegable asks for an artifact of Robot that may be delegated two deep.
func (w *World) Delegable() *issuer.Minted {
	w.Helper()
	return Must(w.Ask(Spoil{Claims: func(c *artifact.RequestClaims) {
		c.Scope[0].Terms.Operations |= artifact.Delegate
		c.Limits.Depth = 2
	}}))(w)
}

// Delegation returns what the holder of an artifact signs to let Agent have the like of it, on the host, within it in everything.
func (w *World) Delegation(parent *issuer.Minted, holder, to *Host, edit func(*artifact.DelegationClaims)) []byte {
	w.Helper()
	c, digest, err := artifact.Inspect(parent.Artifact)
	if err != nil {
		w.Fatal(err)
	}
	d := artifact.DelegationClaims{Delegator: holder.URI, Host: to.URI, Audience: to.Gate, Expires: c.Expires, IssuedAt: w.Seconds(), ID: Random(16),
		Scope: c.Scope.Canonical(), Limits: &artifact.Limits{Uses: c.Limits.MaxUses(), Depth: c.Limits.Depth - 1}, Parent: digest[:], Initiator: Agent}
	if edit != nil {
		edit(&d)
	}
	return Must(artifact.SignDelegation(w.Ctx, Must(statement.NewSigner(holder.TPM.CNF))(w), d))(w)
}

// Descend asks for an artifact by delegations.
func (w *World) Descend(to *Host, edit func(*artifact.RequestClaims), delegations ...[]byte) (*issuer.Minted, error) {
	w.Helper()
	a := w.Prepare(Spoil{Host: to, Initiator: Agent, Claims: func(c *artifact.RequestClaims) {
		c.Audience, c.Limits, c.Lifetime = to.Gate, &artifact.Limits{Uses: 1}, 60
		c.Scope[0].Terms.Operations |= artifact.Delegate
		for _, raw := range delegations {
			if d, err := artifact.InspectDelegation(raw); err == nil {
				c.Parents = append(c.Parents, d.Parent)
			}
		}
		if edit != nil {
			edit(c)
		}
	}})
	a.Delegations = delegations
	return a.Send()
}
