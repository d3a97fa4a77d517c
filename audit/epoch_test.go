package audit_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
)

// restore puts a backup in the place of the log, by an epoch.
func (s *stage) restore(backup string, edit func(*record.Epoch)) {
	s.Helper()
	s.tick()
	if err := s.Restore(backup, edit); err != nil {
		s.Fatal(err)
	}
}

// P20: an auditor sees an epoch, what is lost with it, and that what was given out before is among that; without the act it is a
// fork as ever.
func TestP20_AuditorsSeeTheEpochAndTheGap(t *testing.T) {
	s := newStage(t)
	first, _ := s.permit()
	backup := s.Backup()
	lost, _ := s.permit()
	s.permit()
	earlier := unpack(t, s.export(audit.Query{}))["manifest.cose"]
	_, checkpoint, err := s.Tree.Checkpoint(s.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	size := s.Tree.Head().Size
	s.restore(backup, nil)
	after, _ := s.permit()
	s.run(after, 1)
	for s.Tree.Head().Size <= size {
		s.permit()
	}
	verify := func(raw []byte, known ...[]byte) *audit.Report {
		t.Helper()
		return must(audit.Verify(s.Ctx, bytes.NewReader(raw), s.trust(), audit.Options{Now: s.Now(), Known: known}))(t)
	}
	index := s.Issuer.Epoch().Index
	for name, q := range map[string]audit.Query{"whole": {}, "before": {To: after.Index}, "after": {From: after.Index}} {
		r := verify(s.export(q))
		wantProved(t, r)
		if len(r.Epochs) != 1 || r.Epochs[0].Number != 1 || r.Epochs[0].Index != index || !r.Epochs[0].Known || r.Epochs[0].To != size || len(r.Epochs[0].Persons) != 2 || len(r.Epochs[0].Given) != 0 {
			t.Errorf("%s: got %+v", name, r.Epochs)
		}
		if !strings.Contains(r.Text(), "ALARM: epoch 1, from entry ") || !strings.Contains(r.Text(), "as they were before are lost") {
			t.Errorf("%s: got %s", name, r.Text())
		}
	}
	whole := s.export(audit.Query{})
	r := verify(whole, first.Artifact, lost.Artifact, earlier, checkpoint)
	wantProved(t, r)
	if got := r.Epochs[0].Given; len(got) != 3 { // the first artifact is not lost
		t.Errorf("got %q", got)
	}
	var page bytes.Buffer
	if err := audit.WriteReport(&page, s.tell(whole)); err != nil || !strings.Contains(page.String(), "Epochs of the log") || !strings.Contains(page.String(), "the disk is gone") {
		t.Errorf("the report for people does not tell of the epoch: %v", err)
	}
	t.Run("withheld from the history", func(t *testing.T) {
		f := unpack(t, whole)
		h := must(artifact.DecodeKeyHistory(f["keys/history.cbor"]))(t)
		h.Epochs = nil
		f["keys/history.cbor"] = must(h.Encode())(t)
		wantRefuted(t, verify(s.reseal(f, nil)), denial.ReceiptInvalid)
	})

	// Where the act does not say how much is lost, whatever was given out may be.
	s = newStage(t)
	backup = s.Backup()
	lost, _ = s.permit()
	s.restore(backup, func(e *record.Epoch) { e.Lost = nil })
	s.permit()
	r = verify(s.export(audit.Query{}), lost.Artifact)
	wantProved(t, r)
	if r.Epochs[0].Known || len(r.Epochs[0].Given) != 1 {
		t.Errorf("got %+v", r.Epochs)
	}
}
