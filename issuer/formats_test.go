package issuer_test

import (
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/test/cddl"
	"github.com/governed-execution/writ/test/issuertest"
)

// TestWhatIsLoggedFitsItsCDDL holds the bytes of a real log against docs/formats: the decision input, every artifact, act
// and record.
func TestWhatIsLoggedFitsItsCDDL(t *testing.T) {
	w := issuertest.New(t)
	minted := w.Permit()
	second := w.Permit() // its input names the clock seen of the first
	other := issuertest.DelegatingWorld(w)
	child := issuertest.Must(w.Descend(other, nil, w.Delegation(w.Delegable(), w.Host, other, nil)))(t)
	for _, m := range [][]byte{minted.Artifact, second.Artifact, child.Artifact} {
		c, _, err := artifact.Inspect(m)
		if err != nil {
			t.Fatal(err)
		}
		s := cddl.Load(t, "../docs/formats", "decision.cddl", "request.cddl", "common.cddl")
		if err := s.Match("decision-input", cddl.Decode(t, blob(w, c.Policy.Input.Value))); err != nil {
			t.Error(err)
		}
		s = cddl.Load(t, "../docs/formats", "authz.cddl", "common.cddl")
		if err := s.Match("authz-artifact", cddl.Statement(t, m)); err != nil {
			t.Error(err)
		}
	}
	w.Rotate(record.PurposeLog)
	history := cddl.Load(t, "../docs/formats", "keys.cddl", "common.cddl")
	if err := history.Match("key-history", cddl.Decode(t, w.History())); err != nil {
		t.Error(err)
	}
	acts := cddl.Load(t, "../docs/formats", "acts.cddl", "record.cddl", "common.cddl")
	records := cddl.Load(t, "../docs/formats", "record.cddl", "common.cddl")
	authz := cddl.Load(t, "../docs/formats", "authz.cddl", "common.cddl")
	err := w.Tree.Leaves(w.Ctx, 0, w.Size(), func(i uint64, leaf []byte) error {
		v := cddl.Statement(t, leaf)
		if e := acts.Match("act", v); e != nil && records.Match("record-statement", v) != nil && authz.Match("authz-artifact", v) != nil {
			t.Errorf("entry %d fits nothing", i)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The status values and the causes of revocation are one table seen from two packages that may not import each other.
func TestCausesAreTheStatusValues(t *testing.T) {
	for v := artifact.StatusArtifact; v <= artifact.StatusAncestor; v++ {
		if got, want := denial.Of(v.Check()).Reason, record.Cause(v).Reason(); got != want {
			t.Errorf("status %d: got %v, want %v", v, got, want)
		}
	}
	if got, want := denial.Of(artifact.StatusValue(9).Check()).Reason, record.Cause(9).Reason(); got != want {
		t.Errorf("an unknown status: got %v, want %v", got, want)
	}
}
