package decision_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
)

const plannerURI = "spiffe://example/initiator/planner"

// descent is a scene whose request names parents, of which the planner's artifact is the root.
type descent struct {
	*scene
	issuer, holder statement.Signer // the artifact key, and the cnf key of the parents
}

// newDescent makes a request that descends from n artifacts of one lineage, under a policy that lets the planner delegate.
func newDescent(t *testing.T, n int) *descent {
	t.Helper()
	d := &descent{newScene(t), stock.Signer(t), stock.Signer(t)}
	d.az = authorization(t, plannerURI)
	d.name()
	for i := range n {
		p := d.parent(t, byte(i+1), nil, nil)
		digest := statement.DigestOf(p.Artifact)
		d.in.Parents, d.in.Request.Parents = append(d.in.Parents, p), append(d.in.Request.Parents, digest[:])
	}
	return d
}

// parent returns an artifact of the planner, and its delegation, which is within it in everything.
func (d *descent) parent(t *testing.T, id byte, edit func(*artifact.Claims), delegate func(*artifact.DelegationClaims)) decision.Parent {
	t.Helper()
	plain := newScene(t)
	c := must(plain.decide().Permit())(t).Claims()
	c.ID, c.Lineage.Root, c.Lineage.Depth, c.Initiator.Principal = fill(16, id), fill(16, 99), 1, plannerURI
	c.Lineage.Parents = []artifact.Parent{{ID: fill(16, 99), Statement: fill(32, 1), Delegation: fill(32, 1)}}
	c.Confirmation.Key = d.holder.Key()
	c.Scope = c.Scope.Canonical()
	c.Scope[0].Terms.Operations |= artifact.Delegate
	c.Limits = &artifact.Limits{Uses: 2, Depth: 1}
	c.Expires = d.in.Time + 600
	if edit != nil {
		edit(&c)
	}
	leaf := must(artifact.Sign(t.Context(), d.issuer, c))(t)
	digest := statement.DigestOf(leaf)
	r := d.in.Request
	dc := artifact.DelegationClaims{Delegator: c.Subject, Host: r.Host, Audience: r.Audience, Initiator: r.Initiator, Expires: c.Expires, IssuedAt: d.in.Time,
		ID: fill(16, id), Scope: r.Scope, Limits: &artifact.Limits{Uses: 2}, Parent: digest[:]}
	if delegate != nil {
		delegate(&dc)
	}
	return decision.Parent{Artifact: leaf, Key: d.issuer.Key(), Delegation: must(artifact.SignDelegation(t.Context(), d.holder, dc))(t)}
}

func (d *descent) replace(i int, p decision.Parent) {
	digest := statement.DigestOf(p.Artifact)
	d.in.Parents[i], d.in.Request.Parents[i] = p, digest[:]
}

// X20: what descends from several artifacts names each, and one root; only an input that was given its parents permits.
func TestX20_ParentsAreToldInTheClaims(t *testing.T) {
	d := newDescent(t, 2)
	c := d.decide().Claims()
	if err := d.decide().Denied(); err != nil {
		t.Fatal(err)
	}
	if c.Lineage.Depth != 2 || !bytes.Equal(c.Lineage.Root, fill(16, 99)) || len(c.Lineage.Parents) != 2 || c.Initiator.Actor == nil || c.Initiator.Actor.Principal != plannerURI {
		t.Errorf("got %+v, %+v", c.Lineage, c.Initiator)
	}
	d.in.Parents[1].Ancestors = artifact.MaxAncestors - 2
	if err := d.decide().Denied(); err != nil {
		t.Errorf("as many ancestors as there may be: %v", err)
	}
	d.in.Parents[1].Ancestors = 0
	for i, p := range c.Lineage.Parents {
		digest, delegation := statement.DigestOf(d.in.Parents[i].Artifact), statement.DigestOf(d.in.Parents[i].Delegation)
		if !bytes.Equal(p.ID, fill(16, byte(i+1))) || !bytes.Equal(p.Statement, digest[:]) || !bytes.Equal(p.Delegation, delegation[:]) {
			t.Errorf("parent %d: got %+v", i, p)
		}
	}
	must(c.Encode())(t)

	named := d.request.Claims()
	named.Parents = d.in.Request.Parents
	parents := d.in.Parents
	live := d.in
	live.Attach(d.facts, withParents(t, d, named))
	live.Parents = parents
	d.in = live
	if _, err := d.decide().Permit(); !denial.Is(err, denial.Internal) {
		t.Errorf("an input that was never given its parents permits: %v", err)
	}
	d.in.Descend(parents)
	must(d.decide().Permit())(t)
}

// withParents returns a verified request with these claims.
func withParents(t *testing.T, d *descent, c artifact.RequestClaims) *artifact.Request {
	t.Helper()
	signer := stock.Signer(t)
	raw := must(artifact.SignRequest(t.Context(), signer, c))(t)
	return must(artifact.VerifyRequest(must(artifact.DecodeRequest(raw))(t), signer.Key(), time.Unix(int64(d.in.Time), 0)))(t)
}

// X20: each thing that a parent must be.
func TestX20_EachParentIsChecked(t *testing.T) {
	other := stock.Signer(t)
	for name, c := range map[string]struct {
		spoil  func(*testing.T, *descent)
		reason denial.Reason
	}{
		"one missing":      {func(_ *testing.T, d *descent) { d.in.Parents = d.in.Parents[:1] }, denial.LineageChainInvalid},
		"one more":         {func(t *testing.T, d *descent) { d.in.Parents = append(d.in.Parents, d.parent(t, 9, nil, nil)) }, denial.LineageChainInvalid},
		"in another order": {func(_ *testing.T, d *descent) { slices.Reverse(d.in.Parents) }, denial.LineageChainInvalid},
		"twice the same":   {func(_ *testing.T, d *descent) { d.replace(1, d.in.Parents[0]) }, denial.LineageChainInvalid},
		"another key":      {func(_ *testing.T, d *descent) { d.in.Parents[1].Key = other.Key() }, denial.LineageChainInvalid},
		"no key":           {func(_ *testing.T, d *descent) { d.in.Parents[1].Key = statement.Key{} }, denial.LineageChainInvalid},
		"of another issuer": {func(t *testing.T, d *descent) {
			d.replace(1, d.parent(t, 9, func(c *artifact.Claims) { c.Issuer += ".other" }, nil))
		}, denial.LineageChainInvalid},
		"of another lineage": {func(t *testing.T, d *descent) {
			d.replace(1, d.parent(t, 9, func(c *artifact.Claims) { c.Lineage.Root = fill(16, 98) }, nil))
		}, denial.LineageChainInvalid},
		"of another origin": {func(t *testing.T, d *descent) {
			d.replace(1, d.parent(t, 9, func(c *artifact.Claims) { c.Lineage.Origin += "x" }, nil))
		}, denial.LineageChainInvalid},
		"revoked":                 {func(_ *testing.T, d *descent) { d.in.Parents[1].Revoked = 3 }, denial.AncestorRevoked},
		"revoked for what is new": {func(_ *testing.T, d *descent) { d.in.Parents[1].Revoked = 99 }, denial.AncestorRevoked},
		"as many as can be":       {func(_ *testing.T, d *descent) { d.in.Parents[1].Ancestors = artifact.MaxAncestors - 1 }, denial.DelegationExceeded},
		"more than any has":       {func(_ *testing.T, d *descent) { d.in.Parents[1].Ancestors = 1<<64 - 1 }, denial.DelegationExceeded},
		"a delegation of another": {func(_ *testing.T, d *descent) { d.in.Parents[1].Delegation = d.in.Parents[0].Delegation }, denial.LineageChainInvalid},
		"no delegation":           {func(_ *testing.T, d *descent) { d.in.Parents[1].Delegation = nil }, denial.LineageChainInvalid},
		"X21 a wider request": {func(_ *testing.T, d *descent) {
			d.in.Request.Scope = d.in.Request.Scope.Canonical()
			d.in.Request.Scope[0].Terms.Operations |= artifact.Read
		}, denial.DelegationExceeded},
		"X21 a narrower second parent": {func(t *testing.T, d *descent) {
			d.replace(1, d.parent(t, 9, func(c *artifact.Claims) { c.Limits.Uses = 1 }, func(c *artifact.DelegationClaims) { c.Limits.Uses = 1 }))
		}, denial.DelegationExceeded},
		"another delegator": {func(t *testing.T, d *descent) {
			d.replace(1, d.parent(t, 9, func(c *artifact.Claims) { c.Initiator.Principal = robotURI }, nil))
		}, denial.DelegationExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDescent(t, 2)
			c.spoil(t, d)
			got := d.decide().Denied()
			if got == nil || got.Reason != c.reason || got.Stage != denial.StageAuthorization {
				t.Fatalf("got %v, want %s", got, c.reason)
			}
			if strings.Contains(got.Error(), "%!") {
				t.Error(got)
			}
		})
	}
}
