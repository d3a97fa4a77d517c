package audit_test

import (
	"strings"
	"testing"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/test/cddl"
)

// TestBytesFitTheirCDDL holds a whole bundle against docs/formats, and sees that no rule is left over.
func TestBytesFitTheirCDDL(t *testing.T) {
	s := newStage(t)
	_, requests := s.story()
	schema := cddl.Load(t, "../docs/formats", "bundle.cddl", "common.cddl")
	match := func(rule string, value any, name string) {
		if err := schema.Match(rule, value); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, q := range []audit.Query{{}, {Execution: requests[0].Execution.ID}, {Host: hostURI}} {
		f := unpack(t, s.export(q))
		if q.Execution == nil {
			f["manifest.cbor"] = unpack(t, s.reseal(f, func(m *audit.Manifest) { m.Lacks = [][]audit.Lack{{{Index: 17, Part: "input", Reason: "lost"}}} }))["manifest.cbor"]
		}
		match("manifest", cddl.Decode(t, f["manifest.cbor"]), "manifest")
		match("bundle-seal", cddl.Statement(t, f["manifest.cose"]), "seal")
		for name, raw := range f {
			if strings.HasPrefix(name, "capsules/") {
				match("capsule", cddl.Statement(t, raw), name)
			}
		}
	}
	shared := cddl.Load(t, "../docs/formats", "common.cddl").Rules()
	for rule := range schema.Rules() {
		if _, ok := shared[rule]; !ok && !schema.Used[rule] {
			t.Errorf("no sample reaches rule %s", rule)
		}
	}
}
