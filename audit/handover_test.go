package audit_test

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
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
	// Who went, and what changed in each role: as data, for people, and on the page. Carol had been there for break-glass.
	if got := a.Report.Handovers; len(got) != 1 || got[0].Index != change || got[0].Number != 1 || got[0].Why != "a test" || len(got[0].Signed) != 3 {
		t.Fatalf("got %+v", got)
	}
	one := a.Report.Handovers[0]
	if p := one.Persons; len(p) != 1 || p[0].Person != issuertest.Alice || !slices.Contains(p[0].Before, s.Keys[issuertest.Alice].Key().Thumbprint().String()) || p[0].Then != nil {
		t.Errorf("persons: got %+v", one.Persons)
	}
	root := slices.IndexFunc(one.Roles, func(r audit.RoleChange) bool { return r.Role == "root" })
	if root < 0 || !slices.Equal(one.Roles[root].Before.Persons, []string{issuertest.Alice, issuertest.Bob}) || !slices.Equal(one.Roles[root].Then.Persons, []string{issuertest.Bob, issuertest.Carol}) {
		t.Errorf("roles: got %+v", one.Roles)
	}
	var page bytes.Buffer
	if err := audit.WriteReport(&page, a); err != nil || !strings.Contains(page.String(), "change of authorities") {
		t.Errorf("the report does not tell of the change: %v", err)
	}
	for _, want := range []string{issuertest.Alice + " goes, with key ", "break-glass takes nobody; it took 2 of ",
		"root takes 2 of " + issuertest.Bob + ", " + issuertest.Carol + "; it took 2 of " + issuertest.Alice + ", " + issuertest.Bob} {
		if !strings.Contains(page.String(), want) || !strings.Contains(a.Report.Text(), want) {
			t.Errorf("page or text lack %q\n%s", want, a.Report.Text())
		}
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
