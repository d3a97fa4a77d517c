package audit_test

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// TestAuditorsFollowChangesOfAuthorities: each act is decided by who the authorities were at its place in the log.
func TestAuditorsFollowChangesOfAuthorities(t *testing.T) {
	s := newStage(t)
	old := s.trust()
	s.permit()
	s.tick()
	s.EnrolInitiator("spiffe://example/before") // by alice and bob
	late := s.Sign(statement.Enrolment, s.Initiator("spiffe://example/late"), issuertest.Alice, issuertest.Bob)
	s.tick()
	change := s.Size()
	s.HandedOver(s.HandOver())
	s.tick()
	s.EnrolInitiator("spiffe://example/after") // by bob and carol
	s.permit()
	raw := s.export(audit.Query{})
	a := must(audit.Tell(s.Ctx, bytes.NewReader(raw), old, audit.Options{Now: s.Now()}))(t)
	if err := a.Report.Err(); err != nil {
		t.Fatalf("%v\n%s", err, a.Report.Text())
	}
	it := a.Items[change]
	if it.Act == nil || !strings.HasPrefix(it.Act.What, "change of authorities: enrolment takes 2 of "+issuertest.Bob+", "+issuertest.Carol) || it.Act.Number != 1 || it.Act.Expires == 0 {
		t.Errorf("entry %d: got %+v", change, it.Act)
	}
	for _, who := range []string{issuertest.Alice, issuertest.Carol} {
		if id := s.Keys[who].Key().Thumbprint().String(); a.People[id] != who {
			t.Errorf("the key of %s is told to be of %q", who, a.People[id])
		}
	}
	var page bytes.Buffer
	if err := audit.WriteReport(&page, a); err != nil || !strings.Contains(page.String(), "change of authorities") {
		t.Errorf("the report does not tell of the change: %v", err)
	}

	// An act of who is gone, which the operator logs all the same.
	forged := s.append(late...)
	r := must(audit.Verify(s.Ctx, bytes.NewReader(s.export(audit.Query{})), old, audit.Options{Now: s.Now()}))(t)
	if f := r.Statements[forged]; f.Verdict != audit.Refuted || f.Code != denial.KeyUnknown.Code() {
		t.Errorf("an act of who is gone: got %s %d", f.Verdict, f.Code)
	}

	// The history without the change, which the log has.
	f := unpack(t, raw)
	h := must(artifact.DecodeKeyHistory(f["keys/history.cbor"]))(t)
	h.Changes = h.Changes[:0]
	f["keys/history.cbor"] = must(h.Encode())(t)
	wantRefuted(t, must(audit.Verify(s.Ctx, bytes.NewReader(s.reseal(f, nil)), old, audit.Options{Now: s.Now()}))(t), denial.ReceiptInvalid)

	// Who has followed the change goes back to no history without it.
	followed := must(old.Follow(s.History()))(t)
	if _, err := followed.Follow(f["keys/history.cbor"]); !denial.Is(err, denial.StateRollback) {
		t.Errorf("a history without the change: got %v", err)
	}
}

// TestP04_VersionsBeginAnewByAuthoritiesAlone: a stolen policy key has used up the versions. Only a change of authorities lets a
// lower one follow, once, and the auditor decides the same.
func TestP04_VersionsBeginAnewByAuthoritiesAlone(t *testing.T) {
	s := newStage(t)
	old := s.trust()
	version := func(n int) record.Policy {
		text := regexp.MustCompile(`(?m)^version = \d+$`).ReplaceAllString(s.Authorization(), fmt.Sprintf("version = %d", n))
		return s.Policy(text)
	}
	s.tick()
	s.Apply(statement.Policy, version(9_000_000))
	apply := func(p record.Policy) error {
		_, err := s.Issuer.Apply(s.Ctx, statement.Policy, s.Sign(statement.Policy, p, s.Persons...))
		return err
	}
	if err := apply(version(5)); !denial.Is(err, denial.PolicyRollback) {
		t.Fatalf("before: got %v", err)
	}
	s.tick()
	s.HandedOver(s.HandOver()) // which resets nothing
	if err := apply(version(5)); !denial.Is(err, denial.PolicyRollback) {
		t.Fatalf("after a change that resets nothing: got %v", err)
	}
	c := s.HandOver()
	c.People.Reset = []record.PolicyKind{record.Appraisal}
	s.tick()
	s.Apply(statement.KeyChange, c)
	if err := apply(version(5)); !denial.Is(err, denial.PolicyRollback) {
		t.Fatalf("after a reset of another kind: got %v", err)
	}
	c = s.HandOver()
	c.People.Reset = []record.PolicyKind{record.Anchors}
	if _, err := s.Issuer.Apply(s.Ctx, statement.KeyChange, s.Sign(statement.KeyChange, c, s.Persons...)); !denial.Is(err, denial.NoActivePolicy) {
		t.Errorf("a reset of policies that there are none of: got %v", err)
	}
	c.People.Reset = []record.PolicyKind{record.Authorization}
	s.tick()
	s.Apply(statement.KeyChange, c)
	s.tick()
	if err := apply(version(5)); err != nil {
		t.Fatalf("after the reset: got %v", err)
	}
	if err := apply(version(4)); !denial.Is(err, denial.PolicyRollback) {
		t.Errorf("a second time: got %v", err)
	}
	if r := must(audit.Verify(s.Ctx, bytes.NewReader(s.export(audit.Query{})), old, audit.Options{Now: s.Now()}))(t); r.Err() != nil {
		t.Errorf("%v\n%s", r.Err(), r.Text())
	}
	// The operator logs a lower version without a reset.
	forged := s.append(s.Sign(statement.Policy, version(3), s.Persons...)...)
	r := must(audit.Verify(s.Ctx, bytes.NewReader(s.export(audit.Query{})), old, audit.Options{Now: s.Now()}))(t)
	if f := r.Statements[forged]; f.Verdict != audit.Refuted || f.Code != denial.PolicyRollback.Code() {
		t.Errorf("a lower version: got %s %d", f.Verdict, f.Code)
	}
}
