package record

import (
	"context"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/cddl"
	"github.com/governed-execution/writ/test/stock"
)

const formats = "../docs/formats"

func TestActsFitTheirCDDL(t *testing.T) {
	g, p := genesis(t)
	n, ek := make([]byte, 16), make([]byte, 32)
	samples := map[string][]byte{
		"genesis-statement":    sign(t, statement.Genesis, g, p.alice)[0],
		"policy-statement":     sign(t, statement.Policy, Policy{Version, Appraisal, "https://x/p", 3, []byte{1}, 1}, p.alice)[0],
		"enrolment-statement":  sign(t, statement.Enrolment, Enrolment{Version, "spiffe://x/h", 1, n, &Host{ek, map[string]string{"a": "b"}, "https://gate", true}, nil, map[string][]byte{"name": ek}}, p.alice)[0],
		"revocation-statement": sign(t, statement.Revocation, Revocation{Version, CauseHost, "spiffe://x/h", 1, "lost", n}, p.alice)[0],
		"act":                  sign(t, statement.Enrolment, Enrolment{Version, "spiffe://x/i", 1, n, nil, &Initiator{Agent, p.bob.Key()}, nil}, p.alice)[0],
	}
	glass := BreakGlass{Version, n, "spiffe://x/h", "https://gate", "spiffe://x/i", aScope, Declared{"https://x/p", ek, 1, "restore"}, 1, 2, "fire",
		[]string{"mailto:alice@example.org", "mailto:bob@example.org"}}
	samples["break-glass-statement"] = sign(t, statement.BreakGlass, glass, p.alice)[0]
	samples["review-statement"] = sign(t, statement.Review, Review{Version, ek, 1, true, "fire", n}, p.alice)[0]
	samples["epoch-statement"] = sign(t, statement.Epoch, Epoch{Version, 1, ek, "https://x/log", 3, ek, &Lost{Size: 9, Root: ek}, 4, 1, "fire"}, p.alice)[0]
	ring := newRingKit(t)
	samples["key-change-statement"] = ring.sign(ring.change(ring.announce(PurposeLog, stock.Signer(t))))[0]
	samples["succession-statement"] = ring.announce(PurposeLog, stock.Signer(t)).Succession
	s := cddl.Load(t, formats, "acts.cddl", "record.cddl", "common.cddl")
	for rule, raw := range samples {
		if err := s.Match(rule, cddl.Statement(t, raw)); err != nil {
			t.Errorf("%s: %v", rule, err)
		}
	}
	handed := ring.handOver(stock.Signer(t))
	handed.People.Reset = []PolicyKind{Anchors, Authorization}
	if err := s.Match("key-change-statement", cddl.Statement(t, ring.sign(handed)[0])); err != nil {
		t.Errorf("a change of authorities: %v", err)
	}
	bad := sign(t, statement.Revocation, Revocation{Version, CauseAncestor, "spiffe://x/h", 1, "", n}, p.alice)[0]
	if s.Match("revocation-statement", cddl.Statement(t, bad)) == nil {
		t.Error("a revocation of an ancestor fits the CDDL")
	}
}

// aScope is the encoded scope of one file to execute: what artifact.Scope.Encode writes.
var aScope = append([]byte{0x81, 0x82, 0x67, 'f', 'i', 'l', 'e', ':', '/', 'x', 0xa2, 0x00, 0x01, 0x01, 0x81, 0x82, 0x2f, 0x58, 0x20}, make([]byte, 32)...)

func TestRecordsFitTheirCDDL(t *testing.T) {
	s := cddl.Load(t, formats, "record.cddl", "common.cddl")
	signer := stock.Signer(t)
	d32 := make([]byte, 32)
	key := stock.Signer(t).Key()
	denied := valid()
	denied.Counts, denied.Since = nil, 0
	denied.FillDenial(&denial.Denial{Reason: denial.PCRNotAllowed, Stage: denial.StageAppraisal, Detail: "x", Requirements: []string{"boot"}}, map[uint64]uint8{1: 1, 9: 2})
	denied.RequestID, denied.Workload, denied.Initiator = make([]byte, 16), "spiffe://x/h", "spiffe://x/i"
	denied.Policy, denied.Appraisal = &PolicyRef{ID: "https://x/p", Hash: d32}, &PolicyRef{ID: "https://x/q", Hash: d32}
	denied.Input, denied.Evidence, denied.Request, denied.Challenge, denied.Exporter = d32, d32, d32, d32, d32
	start, birth, enrolled := valid(), valid(), valid()
	for _, r := range []*Record{start, birth, enrolled} {
		r.Counts, r.Since = nil, 0
	}
	start.Event, start.Previous, start.CTI, start.Artifact = EventEnd, d32, make([]byte, 16), d32
	start.Execution = &Execution{ID: make([]byte, 16), Use: 1, Code: d32, Args: d32, Script: d32, Start: d32, Status: 3}
	birth.Event, birth.Birth = EventKey, &Birth{"log", key, map[string]string{"CKA_LOCAL": "true"}, map[string]string{"label": "x"},
		&Ceremony{d32, d32, []string{"mailto:a@x", "mailto:b@x", "mailto:c@x"}, &HostQuote{[]byte{1}, []byte{2}, []byte{3}, "sha256", map[int64][]byte{0: d32}}}}
	enrolled.Event, enrolled.Enrolled = EventEnrol, &Enrolled{"spiffe://x/h", []byte{1}, d32, "chain", d32, &key, d32}
	glass, attested := valid(), valid()
	for _, r := range []*Record{glass, attested} {
		r.Counts, r.Since, r.CTI, r.Artifact = nil, 0, make([]byte, 16), d32
	}
	glass.Event, glass.Execution, glass.Glass = EventStart, start.Execution, &Glass{Waived: []string{"mailto:a@x", "mailto:b@x"}}
	attested.Policy, attested.Appraisal, attested.Workload = denied.Policy, denied.Appraisal, "spiffe://x/h"
	attested.Event, attested.Attested = EventAttest, &Attested{key, make([]byte, 34), d32, 9}
	for name, r := range map[string]*Record{"break-glass": glass, "attested": attested, "summary": valid(), "denial": denied, "end": start, "birth": birth, "enrolled": enrolled} {
		leaf, err := r.Sign(context.Background(), signer, "urn:x:1")
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if err := s.Match("record-statement", cddl.Statement(t, leaf)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for rule := range s.Rules() {
		if rule == "record" && !s.Used[rule] {
			t.Errorf("no sample reaches rule %s", rule)
		}
	}
}
