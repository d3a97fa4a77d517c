package attest_test

import (
	"testing"

	"github.com/governed-execution/writ/test/cddl"
	"github.com/governed-execution/writ/test/softtpm"
)

func TestEvidenceFitsItsCDDL(t *testing.T) {
	s := cddl.Load(t, "../docs/formats", "evidence.cddl", "common.cddl")
	w := newWorld(t, softtpm.Options{})
	if err := s.Match("evidence-collection", cddl.Decode(t, encode(t, w.evidence(t)))); err != nil {
		t.Error(err)
	}
	gate, _ := w.tpm.GateRequest(t)
	host := w.tpm.EnrolRequest()
	for name, r := range map[string]interface{ Encode() ([]byte, error) }{"gate": gate, "host": host} {
		raw, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Match("enrol-request", cddl.Decode(t, raw)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if s.Match("evidence-collection", cddl.Decode(t, raw)) == nil {
			t.Errorf("%s: an enrolment request fits as evidence", name)
		}
	}
}
