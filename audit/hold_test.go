package audit_test

import (
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/tlog"
)

// heldStage is a log in which the host is held: a copy of its TPM had come after it.
func heldStage(t *testing.T) *stage {
	t.Helper()
	s := newStage(t)
	copied := *s.Host.TPM
	s.Host.TPM.Clock.ResetCount++
	s.permit()
	s.Advance(10 * time.Second)
	s.refuse(denial.BootRollback, asking{tpm: &copied})
	if !s.lastRecord(record.EventDenial).Hold {
		t.Fatal("the host is not held")
	}
	return s
}

func TestK21_HoldIsAudited(t *testing.T) {
	s := heldStage(t)
	s.refuse(denial.BootRollback, asking{})
	s.Host.TPM.Clock.ResetCount = 0 // as it is now, whatever was seen of it
	s.enrolHost()
	s.permit()
	raw := s.export(audit.Query{})
	wantProved(t, s.verify(raw))
	for from := range s.Size() { // wherever a range begins, the hold is known
		if r := s.verify(s.export(audit.Query{From: from})); r.Verdict != audit.Proved {
			t.Fatalf("from %d:\n%s", from, r.Text())
		}
	}
	wantProved(t, s.verify(s.export(audit.Query{Host: hostURI})))
}

// An issuer that forgets that it held a host is found out by the record of it.
func TestK21_ForgottenHoldIsRefuted(t *testing.T) {
	s := heldStage(t)
	s.refuse(denial.BootRollback, asking{})
	in := must(decision.DecodeInput(s.blob(s.lastRecord(record.EventDenial).Input)))(t)
	in.Held = false
	d := decision.Decide(in, s.docs[record.Appraisal], s.docs[record.Authorization])
	if err := d.Denied(); err != nil {
		t.Fatal(err)
	}
	leaf := must(artifact.Sign(s.Ctx, s.Keys[record.PurposeArtifact], d.Claims()))(t)
	s.wantForged(t, must(s.Tree.Append(s.Ctx, tlog.Entry{Leaf: leaf, Blobs: [][]byte{must(in.Encode())(t)}}))(t)[0].Index, denial.BootRollback)
}
