package audit_test

import (
	"encoding/hex"
	"strings"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/tlog"
)

// family is a stage with an artifact, its child on another host, and the child of that, back on the first.
type family struct {
	*stage
	other                   *issuertest.Host
	root, child, grandchild *issuer.Minted
}

func newFamily(t testing.TB) *family {
	t.Helper()
	s := newStage(t)
	f := &family{stage: s, other: issuertest.DelegatingWorld(s.World)}
	s.docs[record.Authorization] = must(firmwarepolicy.Decode(s.lastPolicy()))(t)
	s.tick()
	f.root = s.Delegable()
	s.tick()
	f.child = must(s.Descend(f.other, func(c *artifact.RequestClaims) { c.Limits.Depth = 1 }, s.Delegation(f.root, s.Host, f.other, nil)))(t)
	s.tick()
	f.grandchild = must(s.Descend(s.Host, shortly, s.Delegation(f.child, f.other, s.Host, nil)))(t)
	return f
}

// shortly asks for less time than a grandparent's child has.
func shortly(c *artifact.RequestClaims) { c.Lifetime = 20 }

// lastPolicy returns the document of the last policy act.
func (s *stage) lastPolicy() (doc []byte) {
	s.Helper()
	err := s.Tree.Leaves(s.Ctx, 0, s.Size(), func(_ uint64, leaf []byte) error {
		env := must(statement.Decode(leaf, statement.MaxStatement))(s)
		if env.Kind() != statement.Policy {
			return nil
		}
		var p record.Policy
		err := statement.Unmarshal(env.Payload(), &p)
		doc = p.Document
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	return doc
}

// permitAnyway signs and logs what follows from the input of the last refusal, after edit: what an issuer with a changed program could do.
func (f *family) permitAnyway(edit func(*decision.Input)) uint64 {
	f.Helper()
	in := must(decision.DecodeInput(f.blob(f.lastRecord(record.EventDenial).Input)))(f)
	if edit != nil {
		edit(in)
	}
	d := decision.Decide(in, f.docs[record.Appraisal], f.docs[record.Authorization])
	if err := d.Denied(); err != nil {
		f.Fatal(err)
	}
	leaf := must(artifact.Sign(f.Ctx, f.Keys[record.PurposeArtifact], d.Claims()))(f)
	return must(f.Tree.Append(f.Ctx, tlog.Entry{Leaf: leaf, Blobs: [][]byte{d.Input()}}))(f)[0].Index
}

// An auditor follows the lineage, and finds all of it in the bundle of the last execution.
func TestX20_AuditorFollowsTheLineage(t *testing.T) {
	f := newFamily(t)
	f.run(f.grandchild, 1)
	d := f.Delegation(f.root, f.Host, f.other, func(d *artifact.DelegationClaims) { d.Expires++ })
	if _, err := f.Descend(f.other, nil, d); !denial.Is(err, denial.DelegationExceeded) {
		t.Fatal(err)
	}
	wantProved(t, f.verify(f.export(audit.Query{})))
	c := claimsOf(t, f.grandchild)
	a := f.tell(f.export(audit.Query{Execution: c.Execution.ID}))
	wantProved(t, a.Report)
	l := must(audit.Trace(a.Items, a.People, hex.EncodeToString(c.Execution.ID)))(t)
	for _, m := range []*issuer.Minted{f.root, f.child, f.grandchild} {
		if fi := finding(t, a.Report, m.Index); fi.Verdict != audit.Proved {
			t.Errorf("entry %d is %s: %s", m.Index, fi.Verdict, fi.Why)
		}
	}
	for _, m := range []*issuer.Minted{f.root, f.child} {
		if text, want := l.Text(), "delegated from artifact "+hex.EncodeToString(claimsOf(t, m).ID); len(l.Origin) != 1 || !strings.Contains(text, want) {
			t.Errorf("%q is not in the lineage:\n%s", want, text)
		}
	}
	// Of a bundle that begins after them nothing can be said about the parents.
	r := f.verify(f.export(audit.Query{From: f.grandchild.Index}))
	if fi := finding(t, r, f.grandchild.Index); fi.Verdict != audit.Unchecked || r.Verdict == audit.Refuted {
		t.Errorf("got %s, %s: %s", r.Verdict, fi.Verdict, fi.Why)
	}
}

// X20, X21: what a dishonest issuer lets descend, the log refutes.
func TestX20_ForgedDescentIsRefuted(t *testing.T) {
	for name, c := range map[string]struct {
		forge func(t *testing.T, f *family) uint64
		want  denial.Reason
	}{
		"one delegation for two": {func(t *testing.T, f *family) uint64 {
			d := f.Delegation(f.root, f.Host, f.other, nil)
			must(f.Descend(f.other, nil, d))(t)
			f.tick()
			if _, err := f.Descend(f.other, nil, d); !denial.Is(err, denial.DelegationExceeded) {
				t.Fatal(err)
			}
			return f.permitAnyway(nil)
		}, denial.DelegationExceeded},
		"a revoked parent": {func(t *testing.T, f *family) uint64 {
			d := f.Delegation(f.root, f.Host, f.other, nil)
			f.revoke(record.CauseArtifact, hex.EncodeToString(claimsOf(t, f.root).ID))
			if _, err := f.Descend(f.other, nil, d); !denial.Is(err, denial.AncestorRevoked) {
				t.Fatal(err)
			}
			return f.permitAnyway(func(in *decision.Input) { in.Parents[0].Revoked = 0 })
		}, denial.ArtifactRevoked},
		"a revoked ancestor": {func(t *testing.T, f *family) uint64 {
			d := f.Delegation(f.child, f.other, f.Host, nil)
			f.revoke(record.CauseArtifact, hex.EncodeToString(claimsOf(t, f.root).ID))
			if _, err := f.Descend(f.Host, shortly, d); !denial.Is(err, denial.AncestorRevoked) {
				t.Fatal(err)
			}
			return f.permitAnyway(func(in *decision.Input) { in.Parents[0].Revoked = 0 })
		}, denial.AncestorRevoked},
		"a parent that was never logged": {func(t *testing.T, f *family) uint64 { return f.orphan(t, f.Keys[record.PurposeArtifact], true) }, denial.LineageChainInvalid},
		"a parent in another form":       {func(t *testing.T, f *family) uint64 { return f.orphan(t, f.Keys[record.PurposeArtifact], false) }, denial.LogInconsistent},
		"a parent by a stranger":         {func(t *testing.T, f *family) uint64 { return f.orphan(t, issuertest.NewKey(t), true) }, denial.KeyUnknown},
		"a refusal for a revocation that never was": {func(t *testing.T, f *family) uint64 {
			if _, err := f.Descend(f.other, nil, f.Delegation(f.root, f.Host, f.other, func(d *artifact.DelegationClaims) { d.Expires++ })); err == nil {
				t.Fatal("permitted")
			}
			r := f.lastRecord(record.EventDenial)
			in := must(decision.DecodeInput(f.blob(r.Input)))(t)
			in.Parents[0].Revoked = uint64(record.CauseInitiator)
			encoded := must(in.Encode())(t)
			digest := statement.DigestOf(encoded)
			r.Input, r.Reasons, r.Emitter.Seq = digest[:], []uint64{uint64(denial.AncestorRevoked.Code())}, r.Emitter.Seq+1
			leaf := must(r.Sign(f.Ctx, f.Keys[record.PurposeRecord], issuerURI))(t)
			return must(f.Tree.Append(f.Ctx, tlog.Entry{Leaf: leaf, Blobs: [][]byte{encoded}}))(t)[0].Index
		}, denial.LogInconsistent},
		"fewer ancestors than there are": {func(t *testing.T, f *family) uint64 {
			if _, err := f.Descend(f.Host, nil, f.Delegation(f.child, f.other, f.Host, nil)); !denial.Is(err, denial.DelegationExceeded) {
				t.Fatal(err)
			}
			return f.permitAnyway(func(in *decision.Input) { in.Parents[0].Ancestors, in.Request.Lifetime = 0, 20 })
		}, denial.LogInconsistent},
		"a start after the root was revoked": {func(t *testing.T, f *family) uint64 {
			f.revoke(record.CauseArtifact, hex.EncodeToString(claimsOf(t, f.root).ID))
			if _, err := f.report(f.grandchild, record.EventStart, nil); !denial.Is(err, denial.AncestorRevoked) {
				t.Fatal(err)
			}
			c := claimsOf(t, f.grandchild)
			return f.append(f.Report(f.Host, f.grandchild, record.EventStart, func(r *record.Record) {
				r.Initiator, r.Policy = c.Initiator.Principal, &record.PolicyRef{ID: c.Policy.ID, Hash: c.Policy.Hash.Value}
			}))
		}, denial.AncestorRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFamily(t)
			index := c.forge(t, f)
			f.wantForged(t, index, c.want)
		})
	}
}

// orphan has a child permitted of an artifact like the root that is not in the log: with another id, or the root's with another expiry.
func (f *family) orphan(t *testing.T, key statement.Signer, otherID bool) uint64 {
	t.Helper()
	c := claimsOf(t, f.root)
	if c.Expires--; otherID {
		c.ID = nonce(16)
		c.Lineage.Root = c.ID
	}
	leaf := must(artifact.Sign(f.Ctx, key, c))(t)
	d := f.Delegation(&issuer.Minted{Artifact: leaf}, f.Host, f.other, nil)
	if _, err := f.Descend(f.other, nil, d); !denial.Is(err, denial.LineageChainInvalid) {
		t.Fatal(err)
	}
	return f.permitAnyway(func(in *decision.Input) {
		in.Parents = []decision.Parent{{Artifact: leaf, Key: key.Key(), Delegation: d}}
	})
}

// What an initiator sends in place of a delegation is refused, and does not spoil the evidence of an honest issuer.
func TestX20_JunkIsNoForgery(t *testing.T) {
	f := newFamily(t)
	parent := claimsOf(t, f.child).Lineage.Parents[0].Statement
	for name, raw := range map[string][]byte{"junk": {0xa0}, "an artifact": f.child.Artifact, "nothing": {}, "too long": make([]byte, artifact.MaxDelegation+1)} {
		f.tick()
		if _, err := f.Descend(f.other, func(c *artifact.RequestClaims) { c.Parents = []artifact.ParentDigest{parent} }, raw); err == nil {
			t.Errorf("%s: permitted", name)
		}
	}
	wantProved(t, f.verify(f.export(audit.Query{})))
}

// Of a part of the log that lacks an ancestor nothing is proved that depends on it, and nothing refuted.
func TestX20_WhatABundleLacksIsUnchecked(t *testing.T) {
	for name, c := range map[string]struct {
		revoke func(f *family)
		forged audit.Verdict // a grandchild that a dishonest issuer permits all the same
	}{
		"the root is revoked": {func(f *family) { f.revoke(record.CauseArtifact, hex.EncodeToString(claimsOf(t, f.root).ID)) }, audit.Refuted},
		"its initiator is":    {func(f *family) { f.revoke(record.CauseInitiator, issuertest.Robot) }, audit.Unchecked},
	} {
		f := newFamily(t)
		d := f.Delegation(f.child, f.other, f.Host, nil)
		c.revoke(f)
		if _, err := f.Descend(f.Host, shortly, d); !denial.Is(err, denial.AncestorRevoked) {
			t.Fatal(err)
		}
		refusal := f.Size() - 1
		r := f.verify(f.export(audit.Query{From: f.child.Index}))
		if fi := finding(t, r, refusal); fi.Verdict == audit.Refuted {
			t.Errorf("%s: the honest refusal is refuted: %s", name, fi.Why)
		}
		forged := f.permitAnyway(func(in *decision.Input) { in.Parents[0].Revoked = 0 })
		r = f.verify(f.export(audit.Query{From: f.child.Index}))
		if fi := finding(t, r, forged); fi.Verdict != c.forged {
			t.Errorf("%s: the forged permit is %s: %s", name, fi.Verdict, fi.Why)
		}
	}
}
