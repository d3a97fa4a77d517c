package audit_test

import (
	"bytes"
	"testing"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// What the issuer gave out before stands in its log, whatever part of it a bundle holds; what is not genuine proves nothing.
func TestKnownStatementsAreHeldAgainstTheLog(t *testing.T) {
	s := newStage(t)
	m, _ := s.permit()
	_, then, err := s.Tree.Checkpoint(s.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	earlier := unpack(t, s.export(audit.Query{}))["manifest.cose"]
	later, _ := s.permit()
	s.run(later, 1)
	whole, part := s.export(audit.Query{}), s.export(audit.Query{From: later.Index})
	verify := func(raw []byte, known ...[]byte) *audit.Report {
		return must(audit.Verify(s.Ctx, bytes.NewReader(raw), s.trust(), audit.Options{Now: s.Now(), Known: known}))(t)
	}
	wantProved(t, verify(whole, m.Artifact, then, earlier, later.Artifact))
	wantProved(t, verify(part, later.Artifact))
	if r := verify(part, m.Artifact); r.Verdict != audit.Unchecked || r.Bundle.Why == "" {
		t.Errorf("a bundle without the proof: got %s", r.Verdict)
	}
	changed := bytes.Clone(m.Artifact)
	changed[len(changed)-1] ^= 1 // the proof's last hash
	other := newStage(t)
	foreign, _ := other.permit()
	for name, c := range map[string]struct {
		known []byte
		want  denial.Reason
	}{
		"nothing":                     {nil, denial.ReceiptInvalid},
		"an artifact without receipt": {must(statement.Decode(m.Artifact, 1<<20))(t).Leaf(), denial.NoReceipt},
		"one of another issuer":       {foreign.Artifact, denial.KeyUnknown},
		"one that was changed":        {changed, denial.ReceiptInvalid},
		"a checkpoint by a stranger":  {must(receipt.SignCheckpoint(s.Ctx, issuertest.NewKey(t), receipt.Origin(issuertest.Log), s.Tree.Head().Head))(t), denial.KeyUnknown},
	} {
		t.Run(name, func(t *testing.T) { wantRefuted(t, verify(whole, c.known), c.want) })
	}
}
