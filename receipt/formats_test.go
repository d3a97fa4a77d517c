package receipt

import (
	"testing"

	"github.com/governed-execution/writ/test/cddl"
)

func TestReceiptsFitTheirCDDL(t *testing.T) {
	f := newFixture(t, 9)
	s := cddl.Load(t, "../docs/formats", "receipt.cddl", "common.cddl")
	consistency, err := MakeConsistency(f.signedHead(9), 4, 9, f.consistencyPath(4, 9))
	if err != nil {
		t.Fatal(err)
	}
	for name, raw := range map[string][]byte{"inclusion": f.receipt(3, 9), "consistency": consistency} {
		if err := s.Match("receipt", cddl.Statement(t, raw)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if s.Match("receipt", cddl.Statement(t, f.signedHead(9))) == nil {
		t.Error("a signed head without a proof fits the CDDL of receipts")
	}
}
