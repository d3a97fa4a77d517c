package issuer_test

import (
	"bytes"
	"crypto/elliptic"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

func claimsOf(t testing.TB, m *issuer.Minted) artifact.Claims {
	t.Helper()
	c, _, err := artifact.Inspect(m.Artifact)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestADelegatedArtifactTellsItsLineage: three generations, by the keys of two hosts, each told in the claims.
func TestADelegatedArtifactTellsItsLineage(t *testing.T) {
	w := issuertest.New(t)
	other := issuertest.DelegatingWorld(w)
	root := w.Delegable()
	first := w.Delegation(root, w.Host, other, nil)
	child := issuertest.Must(w.Descend(other, func(c *artifact.RequestClaims) { c.Limits.Depth = 1 }, first))(t)
	second := w.Delegation(child, other, w.Host, nil)
	grandchild := issuertest.Must(w.Descend(w.Host, nil, second))(t)

	r, c, g := claimsOf(t, root), claimsOf(t, child), claimsOf(t, grandchild)
	_, digest, _ := artifact.Inspect(root.Artifact)
	delegation := statement.DigestOf(first)
	want := artifact.Lineage{Root: r.ID, Depth: 1, Origin: issuertest.Robot, Parents: []artifact.Parent{{ID: r.ID, Statement: digest[:], Delegation: delegation[:]}}}
	if got := fmt.Sprint(c.Lineage); got != fmt.Sprint(want) {
		t.Errorf("child: got %s, want %v", got, want)
	}
	if !bytes.Equal(g.Lineage.Root, r.ID) || g.Lineage.Depth != 2 || g.Lineage.Origin != issuertest.Robot || !bytes.Equal(g.Lineage.Parents[0].ID, c.ID) {
		t.Errorf("grandchild: got %+v", g.Lineage)
	}
	if a := g.Initiator.Actor; a == nil || a.Principal != issuertest.Agent || a.Actor == nil || a.Actor.Principal != issuertest.Robot {
		t.Errorf("grandchild: got initiator %+v", g.Initiator)
	}
	if _, err := w.Descend(other, nil, w.Delegation(grandchild, w.Host, other, func(d *artifact.DelegationClaims) { d.Limits.Depth = 0 })); true {
		w.Refusal(err, denial.DelegationExceeded) // no generation is left
	}
	recomputed(w)
}

// X20, X21: what is not delegated by the holder, or wider than the parent or the delegation, gets nothing.
func TestX21_WhatIsWiderIsRefused(t *testing.T) {
	w := issuertest.New(t)
	other := issuertest.DelegatingWorld(w)
	root := w.Delegable()
	permit := issuertest.Must(w.Ask(issuertest.Spoil{}))(t) // that nobody may delegate
	type (
		dc = *artifact.DelegationClaims
		rc = *artifact.RequestClaims
	)
	terms := func(s artifact.Scope) *artifact.Terms { return &s[0].Terms }
	for name, c := range map[string]struct {
		delegation func(dc)
		request    func(rc)
		want       denial.Reason
	}{
		"X21 a verb more in the delegation": {func(d dc) { terms(d.Scope).Operations |= artifact.Read }, nil, denial.DelegationExceeded},
		"X21 a verb more in the request":    {nil, func(c rc) { terms(c.Scope).Operations |= artifact.Read }, denial.DelegationExceeded},
		"a verb that was left out":          {func(d dc) { terms(d.Scope).Operations = artifact.Execute }, nil, denial.DelegationExceeded},
		"another target":                    {func(d dc) { d.Scope[0].Target += "2" }, nil, denial.DelegationExceeded},
		"other code":                        {func(d dc) { terms(d.Scope).Code = []artifact.Digest{artifact.SHA256Digest([32]byte{1})} }, nil, denial.DelegationExceeded},
		"longer than the artifact":          {func(d dc) { d.Expires++ }, nil, denial.DelegationExceeded},
		"longer than the delegation":        {func(d dc) { d.Expires = d.IssuedAt + 30 }, nil, denial.DelegationExceeded},
		"a delegation that has expired":     {func(d dc) { d.IssuedAt -= 10; d.Expires = d.IssuedAt + 10 }, nil, denial.Expired},
		"a delegation of the future":        {func(d dc) { d.IssuedAt += 62 }, nil, denial.NotYetValid},
		"more uses than the artifact":       {func(d dc) { d.Limits.Uses = 3 }, nil, denial.DelegationExceeded},
		"more uses than the delegation":     {func(d dc) { d.Limits.Uses = 1 }, func(c rc) { c.Limits.Uses = 2 }, denial.DelegationExceeded},
		"a generation more":                 {func(d dc) { d.Limits.Depth = 2 }, nil, denial.DelegationExceeded},
		"deeper than the delegation":        {func(d dc) { d.Limits.Depth = 0 }, func(c rc) { c.Limits.Depth = 1 }, denial.DelegationExceeded},
		"X20 of another artifact":           {func(d dc) { d.Parent = make([]byte, 32) }, nil, denial.LineageChainInvalid},
		"X20 another parent":                {nil, func(c rc) { c.Parents[0] = make([]byte, 32) }, denial.LineageChainInvalid},
		"X20 one parent twice":              {nil, func(c rc) { c.Parents = append(c.Parents, c.Parents[0]) }, denial.LineageChainInvalid},
		"X20 a delegation and no parent":    {nil, func(c rc) { c.Parents = nil }, denial.LineageChainInvalid},
		"by another than the holder":        {func(d dc) { d.Delegator = issuertest.OtherURI }, nil, denial.LineageChainInvalid},
		"for another host":                  {func(d dc) { d.Host = issuertest.HostURI }, nil, denial.HostMismatch},
		"for another gate":                  {func(d dc) { d.Audience = issuertest.Gate }, nil, denial.AudienceMismatch},
		"for another initiator":             {func(d dc) { d.Initiator = issuertest.Robot }, nil, denial.InitiatorDenied},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.For(t)
			before := artifacts(w)
			_, err := w.Descend(other, c.request, w.Delegation(root, w.Host, other, c.delegation))
			if ref := w.Refusal(err, c.want); !ref.Logged || artifacts(w) != before {
				t.Errorf("logged: %v, artifacts: %d more", ref.Logged, artifacts(w)-before)
			}
		})
	}
	if _, err := w.Descend(other, nil, w.Delegation(permit, w.Host, other, func(d *artifact.DelegationClaims) { d.Limits.Depth = 0 })); true {
		w.Refusal(err, denial.DelegationExceeded)
	}
	// By another key than the parent's cnf key.
	holder := *w.Host
	tpm := *w.Host.TPM
	tpm.CNF, holder.TPM = other.TPM.CNF, &tpm
	_, err := w.Descend(other, nil, w.Delegation(root, &holder, other, nil))
	w.Refusal(err, denial.LineageChainInvalid)
	// Without a delegation, and without a parent where the rule demands one.
	_, err = w.Descend(other, nil)
	w.Refusal(err, denial.DelegationExceeded)
	_, err = w.Descend(other, func(c *artifact.RequestClaims) {
		_, digest, _ := artifact.Inspect(root.Artifact)
		c.Parents = []artifact.ParentDigest{digest[:]}
	})
	w.Refusal(err, denial.LineageChainInvalid)
	recomputed(w)
}

// A delegation is good for one artifact, also if its signature is written in another way.
func TestADelegationIsConsumedOnce(t *testing.T) {
	w := issuertest.New(t)
	other := issuertest.DelegatingWorld(w)
	d := w.Delegation(w.Delegable(), w.Host, other, nil)
	issuertest.Must(w.Descend(other, nil, d))(t)
	_, err := w.Descend(other, nil, d)
	w.Refusal(err, denial.DelegationExceeded)
	_, err = w.Descend(other, nil, otherSignature(t, d))
	w.Refusal(err, denial.DelegationExceeded)
	recomputed(w)
}

// X20: with an artifact, or its host, initiator or policy, all that descends from it is revoked: no more of it comes about, and gates see 807.
func TestX20_RevocationReachesWhatDescends(t *testing.T) {
	for name, revoke := range map[string]func(*issuertest.World, artifact.Claims){
		"the artifact":  func(w *issuertest.World, c artifact.Claims) { w.Revoke(record.CauseArtifact, fmt.Sprintf("%x", c.ID)) },
		"its host":      func(w *issuertest.World, c artifact.Claims) { w.Revoke(record.CauseHost, c.Subject) },
		"its initiator": func(w *issuertest.World, c artifact.Claims) { w.Revoke(record.CauseInitiator, c.Initiator.Principal) },
	} {
		t.Run(name, func(t *testing.T) {
			w := issuertest.New(t)
			other := issuertest.DelegatingWorld(w)
			third := w.EnrolHost("spiffe://example/host/c", issuertest.OtherGate)
			root := w.Delegable()
			child := issuertest.Must(w.Descend(other, func(c *artifact.RequestClaims) { c.Limits.Depth = 1 }, w.Delegation(root, w.Host, other, nil)))(t)
			again := w.Delegation(root, w.Host, other, nil)
			below := w.Delegation(child, other, third, nil)
			grandchild := issuertest.Must(w.Descend(third, nil, w.Delegation(child, other, third, nil)))(t)
			bystander := issuertest.Must(w.Ask(issuertest.Spoil{Host: third, Initiator: issuertest.Robot, Claims: func(c *artifact.RequestClaims) { c.Audience = third.Gate }}))(t)

			revoke(w, claimsOf(t, root))
			for _, raw := range [][]byte{again, below} {
				to := map[bool]*issuertest.Host{true: other, false: third}[bytes.Equal(raw, again)]
				_, err := w.Descend(to, nil, raw)
				w.Refusal(err, denial.AncestorRevoked)
			}
			status := issuertest.Must(w.Issuer.Status(w.Ctx, 0))(t)
			list := issuertest.Must(artifact.VerifyStatus(status, w.Trust(), w.Now(), 0))(t)
			for what, m := range map[string]struct {
				*issuer.Minted
				want []denial.Reason
			}{
				"root": {root, []denial.Reason{denial.ArtifactRevoked, denial.HostRevoked, denial.InitiatorRevoked}}, "child": {child, []denial.Reason{denial.AncestorRevoked}},
				"grandchild": {grandchild, []denial.Reason{denial.AncestorRevoked}}, "bystander": {bystander, []denial.Reason{0, denial.InitiatorRevoked}},
			} {
				v, err := list.Value(claimsOf(t, m.Minted).Status.List)
				if err != nil {
					t.Fatal(err)
				}
				got := denial.Reason(0)
				if err := v.Check(); err != nil {
					got = denial.Of(err).Reason
				}
				if !slices.Contains(m.want, got) {
					t.Errorf("%s: got %s, want one of %v", what, got, m.want)
				}
			}
			_, err := w.Issuer.Take(w.Ctx, w.Report(third, grandchild, record.EventStart, nil))
			w.Refusal(err, denial.AncestorRevoked)
			recomputed(w)
		})
	}
}

// A parent whose key is not believed any more, or that was logged before the log was restored, has no children.
func TestAParentMustBeBelieved(t *testing.T) {
	w := issuertest.New(t)
	other := issuertest.DelegatingWorld(w)
	d := w.Delegation(w.Delegable(), w.Host, other, nil)
	w.Advance(time.Minute)
	_, steps := w.Replacement(record.PurposeArtifact, record.KeySuspended)
	w.Change(steps...)
	_, err := w.Descend(other, nil, d)
	w.Refusal(err, denial.AncestorRevoked)
}

// An artifact key that fell takes along what descends from what it signed, also if another key signed that.
func TestX20_AFallenKeyReachesWhatDescends(t *testing.T) {
	w := issuertest.New(t)
	other := issuertest.DelegatingWorld(w)
	root := w.Delegable()
	w.Advance(time.Second)
	first := w.Keys[record.PurposeArtifact].Key()
	w.Rotate(record.PurposeArtifact)
	child := issuertest.Must(w.Descend(other, func(c *artifact.RequestClaims) { c.Limits.Depth = 1 }, w.Delegation(root, w.Host, other, nil)))(t)
	value := func() artifact.StatusValue {
		list := issuertest.Must(artifact.VerifyStatus(issuertest.Must(w.Issuer.Status(w.Ctx, 0))(t), w.Trust(), w.Now(), 0))(t)
		return issuertest.Must(list.Value(claimsOf(t, child).Status.List))(t)
	}
	if v := value(); v != artifact.StatusValid {
		t.Fatalf("before it, the child has status %d", v)
	}
	step := w.Step(record.PurposeArtifact, first, record.KeyRetired, record.KeyCompromised)
	step.Since = w.Seconds() - 600
	w.Advance(time.Second)
	w.Change(step)
	if v := value(); v != artifact.StatusAncestor {
		t.Errorf("the child has status %d", v)
	}
	_, err := w.Descend(w.Host, func(c *artifact.RequestClaims) { c.Lifetime = 20 }, w.Delegation(child, other, w.Host, nil))
	w.Refusal(err, denial.AncestorRevoked)
	other.Chain.Epoch = issuertest.Random(16)
	_, err = w.Issuer.Take(w.Ctx, w.Report(other, child, record.EventStart, nil))
	w.Refusal(err, denial.AncestorRevoked)
	recomputed(w)
}

func recomputed(w *issuertest.World) {
	w.Helper()
	if err := w.Issuer.Recompute(w.Ctx); err != nil {
		w.Error(err)
	}
}

// otherSignature returns the statement with s of its ECDSA signature replaced by n-s, which verifies too.
func otherSignature(t testing.TB, raw []byte) []byte {
	t.Helper()
	out := bytes.Clone(raw)
	s := out[len(out)-32:]
	n := elliptic.P256().Params().N
	new(big.Int).Sub(n, new(big.Int).SetBytes(s)).FillBytes(s)
	return out
}
