package audit_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"strings"
	"testing"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

// T11, T12: an auditor who names witnesses takes no bundle whose checkpoint they have not cosigned; one who names none is told.
func TestT11_WitnessesOfTheAuditorMustHaveCosigned(t *testing.T) {
	s := newStage(t)
	s.permit()
	raw := s.export(audit.Query{})
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &receipt.Witnesses{Threshold: 1, List: []receipt.Witness{{Operator: "one", Key: must(receipt.WitnessNoteKey("witness.example", public))(t)}}}
	trust := s.trust()
	trust.Witnesses = w
	r := must(audit.Verify(s.Ctx, bytes.NewReader(raw), trust, audit.Options{Now: s.Now()}))(t)
	wantRefuted(t, r, denial.ThresholdNotMet)
	trust.Witnesses = &receipt.Witnesses{List: w.List}
	r = must(audit.Verify(s.Ctx, bytes.NewReader(raw), trust, audit.Options{Now: s.Now()}))(t)
	wantRefuted(t, r, denial.ThresholdNotMet)
	r = s.verify(raw)
	wantProved(t, r)
	if !strings.Contains(r.Text(), "no cosignature of the checkpoint was counted") {
		t.Errorf("that no witness was counted is not told:\n%s", r.Text())
	}
}

// TestLayoutHoldsEveryPart sees that each statement has its receipt and proof, and that what is never there is named.
func TestLayoutHoldsEveryPart(t *testing.T) {
	s := newStage(t)
	_, requests := s.story()
	for _, q := range []audit.Query{{}, {From: 9, To: 14}, {Execution: requests[0].Execution.ID}, {Host: hostURI}} {
		f := unpack(t, s.export(q))
		for name := range f {
			index, ok := strings.CutPrefix(name, "statements/")
			index = strings.TrimSuffix(index, ".scitt")
			if ok && (f["receipts/"+index+".receipt"] == nil || f["proofs/"+index+".tlog-proof"] == nil) {
				t.Errorf("%+v: entry %s has no receipt or no proof", q, index)
			}
		}
		for _, name := range []string{"checkpoint", "tlog-policy", "keys/scitt-keys.cbor", "status/0000000000000000.cwt", "manifest.cbor", "manifest.cose"} {
			if f[name] == nil {
				t.Errorf("%+v: there is no %s", q, name)
			}
		}
		for _, a := range f.manifest(t).Absent {
			if a.Part == "" || a.Reason == "" {
				t.Errorf("%+v: %+v", q, a)
			}
		}
		if len(f.manifest(t).Absent) != 3 {
			t.Errorf("%+v: %d parts are said to be absent, want certs, corim and tsa", q, len(f.manifest(t).Absent))
		}
	}
}
