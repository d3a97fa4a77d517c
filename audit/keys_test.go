package audit_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// rotated is a stage on which each key has been replaced, with something between, and an auditor's trust file of before.
func rotated(t *testing.T) (*stage, *artifact.Trust) {
	t.Helper()
	s := newStage(t)
	old := s.trust()
	for _, purpose := range record.Purposes() {
		_, _, err := s.ask(asking{})
		if err != nil {
			t.Fatal(err)
		}
		s.refuse(denial.LifetimeTooLong, asking{edit: func(r *artifact.RequestClaims) { r.Lifetime = 3000 }})
		s.tick()
		s.Rotate(purpose)
	}
	minted, _ := s.permit()
	s.run(minted, 1)
	return s, old
}

// TestP18_ABundleVerifiesWithATrustFileFromBeforeTheKeysChanged: genesis and the chain of changes are in the bundle.
func TestP18_ABundleVerifiesWithATrustFileFromBeforeTheKeysChanged(t *testing.T) {
	s, old := rotated(t)
	raw := s.export(audit.Query{})
	verify := func(trust *artifact.Trust, raw []byte) *audit.Report {
		t.Helper()
		return must(audit.Verify(s.Ctx, bytes.NewReader(raw), trust, audit.Options{Now: s.Now()}))(t)
	}
	today := *old
	today.PinKeys(s.Ring())
	learnt := must(old.Follow(s.History()))(t)
	for name, trust := range map[string]*artifact.Trust{"before": old, "today": must(artifact.ParseTrust(must(today.Marshal())(t)))(t), "followed": learnt} {
		if r := verify(trust, raw); r.Err() != nil || r.Limits == nil {
			t.Errorf("with a trust file of %s: %v\n%s", name, r.Err(), r.Text())
		}
	}
	first := s.export(audit.Query{To: 16}) // only what was there before the first change
	if r := verify(old, first); r.Err() != nil {
		t.Errorf("a part from before: %v", r.Err())
	}
	last := s.export(audit.Query{From: s.Size() - 3})
	if r := verify(old, last); r.Err() != nil {
		t.Errorf("a part from after: %v", r.Err())
	}

	// A bundle of before the last changes, held by an auditor who knows of those.
	s.tick()
	s.Rotate(record.PurposeLog)
	today.PinKeys(s.Ring())
	for name, trust := range map[string]*artifact.Trust{"today": must(artifact.ParseTrust(must(today.Marshal())(t)))(t), "followed": must(old.Follow(s.History()))(t)} {
		if r := verify(trust, raw); r.Err() != nil {
			t.Errorf("an older bundle with a trust file of %s: %v\n%s", name, r.Err(), r.Text())
		}
	}
}

// TestP19_AuditorsDecideByLoggedTime: what a compromised key signed is refuted from the time on, and stands before it.
func TestP19_AuditorsDecideByLoggedTime(t *testing.T) {
	s := newStage(t)
	old := s.trust()
	good, _ := s.permit()
	s.Advance(time.Minute)
	bad, _ := s.permit()
	next, steps := s.Replacement(record.PurposeArtifact, record.KeyCompromised)
	steps[1].Since = s.Seconds() - 30
	s.tick()
	s.Change(steps...)
	s.Keys[record.PurposeArtifact] = next
	after, _ := s.permit()
	r := must(audit.Verify(s.Ctx, bytes.NewReader(s.export(audit.Query{})), old, audit.Options{Now: s.Now()}))(t)
	for _, f := range r.Statements {
		want := audit.Proved
		if f.Index == bad.Index {
			want = audit.Refuted
		}
		if f.Index == good.Index || f.Index == bad.Index || f.Index == after.Index {
			if f.Verdict != want || want == audit.Refuted && f.Code != denial.KeyRevoked.Code() {
				t.Errorf("entry %d: got %s %d, want %s", f.Index, f.Verdict, f.Code, want)
			}
		}
	}
	if r.Bundle.Verdict != audit.Proved {
		t.Errorf("the bundle is %s: %s", r.Bundle.Verdict, r.Bundle.Why)
	}
}

// TestAForgedKeyHistoryIsRefuted: each change of the history has its statement in the log, and each of the log its place in the
// history.
func TestAForgedKeyHistoryIsRefuted(t *testing.T) {
	s, old := rotated(t)
	good := unpack(t, s.export(audit.Query{}))
	h := must(artifact.DecodeKeyHistory(good["keys/history.cbor"]))(t)
	more := func() artifact.KeyHistory { // a change that the log got later, with a receipt that is not of this tree
		return *must(artifact.DecodeKeyHistory(s.History()))(t)
	}
	for name, row := range map[string]struct {
		history func() artifact.KeyHistory
		want    denial.Reason
	}{
		"the last change left out": {func() artifact.KeyHistory { return artifact.KeyHistory{Genesis: h.Genesis, Changes: h.Changes[:3]} }, denial.KeyUnknown},
		"the first left out":       {func() artifact.KeyHistory { return artifact.KeyHistory{Genesis: h.Genesis, Changes: h.Changes[1:]} }, denial.StateRollback},
		"two changed places": {func() artifact.KeyHistory {
			c := [][][]byte{h.Changes[1], h.Changes[0], h.Changes[2], h.Changes[3]}
			return artifact.KeyHistory{Genesis: h.Genesis, Changes: c}
		}, denial.StateRollback},
		"a change with one signature": {func() artifact.KeyHistory {
			c := [][][]byte{h.Changes[0][:1], h.Changes[1], h.Changes[2], h.Changes[3]}
			return artifact.KeyHistory{Genesis: h.Genesis, Changes: c}
		}, denial.ThresholdNotMet},
		"a receipt of another entry": {func() artifact.KeyHistory {
			c := [][][]byte{{h.Changes[0][0], must(statement.Attach(leafOf(t, h.Changes[0][1]), receiptIn(t, h.Changes[0][0])))(t)}, h.Changes[1], h.Changes[2], h.Changes[3]}
			return artifact.KeyHistory{Genesis: h.Genesis, Changes: c}
		}, denial.ReceiptInvalid},
		"another genesis": {func() artifact.KeyHistory { return artifact.KeyHistory{Genesis: h.Genesis[:1], Changes: h.Changes} }, denial.ThresholdNotMet},
	} {
		t.Run(name, func(t *testing.T) {
			f := unpack(t, good.pack(t))
			f["keys/history.cbor"] = must(row.history().Encode())(t)
			r := must(audit.Verify(s.Ctx, bytes.NewReader(s.reseal(f, nil)), old, audit.Options{Now: s.Now()}))(t)
			wantRefuted(t, r, row.want)
		})
	}
	// A later change is no part of the bundle's range, and may be told of.
	s.tick()
	s.Rotate(record.PurposeStatus)
	f := unpack(t, good.pack(t))
	f["keys/history.cbor"] = must(more().Encode())(t)
	f["keys/scitt-keys.cbor"] = unpack(t, s.export(audit.Query{}))["keys/scitt-keys.cbor"]
	if r := must(audit.Verify(s.Ctx, bytes.NewReader(s.reseal(f, nil)), old, audit.Options{Now: s.Now()}))(t); r.Err() != nil {
		t.Errorf("got %v\n%s", r.Err(), r.Text())
	}
}

func leafOf(tb testing.TB, raw []byte) []byte {
	return must(statement.Decode(raw, 2*statement.MaxStatement))(tb).Leaf()
}

func receiptIn(tb testing.TB, raw []byte) []byte {
	return must(must(statement.Decode(raw, 2*statement.MaxStatement))(tb).Receipts())(tb)[0]
}

// TestAKeyChangeThatIsLeftOutIsMissed: a bundle about one execution has not every entry, but every change of keys up to its end.
func TestAKeyChangeThatIsLeftOutIsMissed(t *testing.T) {
	s := newStage(t)
	old := s.trust()
	minted, _ := s.permit()
	c := claimsOf(t, minted)
	s.tick()
	s.Rotate(record.PurposeStatus) // no statement of the bundle depends on it
	f := unpack(t, s.export(audit.Query{Execution: c.Execution.ID}))
	verify := func(raw []byte) *audit.Report {
		t.Helper()
		return must(audit.Verify(s.Ctx, bytes.NewReader(raw), old, audit.Options{Now: s.Now()}))(t)
	}
	if r := verify(s.reseal(f, nil)); r.Err() != nil {
		t.Fatalf("got %v\n%s", r.Err(), r.Text())
	}
	for _, index := range []uint64{s.Size() - 1, s.Size() - 2, s.Size() - 3, s.Size() - 4, s.Size() - 5} {
		raw, ok := f[audit.NameStatement(index)]
		if ok && must(statement.Decode(raw, 2*statement.MaxStatement))(t).Kind() == statement.KeyChange {
			delete(f, audit.NameStatement(index))
			delete(f, audit.NameReceipt(index))
			delete(f, audit.NameProof(index))
		}
	}
	r := verify(s.reseal(f, func(m *audit.Manifest) {
		for n, list := range m.Counts {
			m.Counts[n] = slices.DeleteFunc(list, func(c audit.Count) bool { return c.Kind == statement.KeyChange.String() })
		}
	}))
	wantRefuted(t, r, denial.ReceiptInvalid)
	if !strings.Contains(r.Bundle.Why, "key change that the bundle does not have") {
		t.Errorf("refused for another reason: %s", r.Bundle.Why)
	}
}
