package attest_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/test/cddl"
	"github.com/governed-execution/writ/test/softtpm"
)

func TestEvidenceFitsItsCDDL(t *testing.T) {
	s := cddl.Load(t, "../docs/formats", "evidence.cddl", "common.cddl")
	w := newWorld(t, softtpm.Options{})
	if err := s.Match("evidence-collection", cddl.Decode(t, encode(t, w.evidence(t)))); err != nil {
		t.Error(err)
	}
	audited := newAuditedWorld(t, []string{"sha256", "sha384"}, softtpm.Options{})
	if err := s.Match("evidence-collection", cddl.Decode(t, encode(t, audited.evidence(t)))); err != nil {
		t.Errorf("with an audit session: %v", err)
	}
	text, err := os.ReadFile("../docs/formats/evidence.cddl")
	if template := tpm2.Marshal(attest.BootKeyTemplate()); err != nil || !strings.Contains(string(text), fmt.Sprintf("template %x %x %x %x %x %x %x",
		template[:2], template[2:4], template[4:8], template[8:10], template[10:12], template[12:14], template[14:])) {
		t.Errorf("the boot key's template %x is not described (%v)", template, err)
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
