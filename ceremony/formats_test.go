package ceremony

import (
	"testing"

	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/test/cddl"
)

// TestTranscriptsFitTheirCDDL holds every step, with and without a quote, against docs/formats.
func TestTranscriptsFitTheirCDDL(t *testing.T) {
	people := cast(t)
	s := parse(t, source(t, people, steps))
	h := &held{s, hold(t, s, people, newToken(t), nil, 8).Transcript(), people}
	e := h.entry(t, 6)
	e.Quote = &record.HostQuote{Attest: []byte{1}, Signature: []byte{2}, AK: []byte{3}, Bank: "sha256", PCRs: map[int64][]byte{7: make([]byte, 32)}}
	abandoned := h.entry(t, 8)
	abandoned.Do, abandoned.Why = Abandon, "torn"
	all := append(h.transcript, h.sign(t, e, people...), h.sign(t, abandoned, people[0]))
	schema := cddl.Load(t, "../docs/formats", "ceremony.cddl", "record.cddl", "common.cddl")
	for i, step := range all {
		for _, raw := range step {
			if err := schema.Match("ceremony-statement", cddl.Statement(t, raw)); err != nil {
				t.Errorf("step %d: %v", i+1, err)
			}
		}
	}
	for _, rule := range []string{"ceremony", "birth", "host-quote"} {
		if !schema.Used[rule] {
			t.Errorf("no step reaches rule %s", rule)
		}
	}
	bad := h.entry(t, 8)
	bad.Do = "regret"
	if schema.Match("ceremony-statement", cddl.Statement(t, h.sign(t, bad, people[0])[0])) == nil {
		t.Error("an action that there is not fits the CDDL")
	}
}
