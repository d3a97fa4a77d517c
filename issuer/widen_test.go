package issuer_test

import (
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// P11: one person may narrow, where genesis says so; to widen takes the quorum.
func TestP11_WideningTakesTheQuorum(t *testing.T) {
	w := issuertest.Founded(t, issuertest.OneMayNarrow)
	alone := func(p record.Policy) error {
		_, err := w.Issuer.Apply(w.Ctx, statement.Policy, w.Sign(statement.Policy, p, issuertest.Alice))
		return err
	}
	if ref := w.Refusal(alone(w.Policy(w.Authorization())), denial.DualControlMissing); !ref.Known || !ref.Logged {
		t.Errorf("the first policy, by one: %+v", ref)
	}
	w.Publish(w.Authorization())
	edited := func(old, new string) record.Policy { return w.Policy(strings.Replace(w.Authorization(), old, new, 1)) }
	if err := alone(edited("uses = 2", "uses = 1")); err != nil {
		t.Errorf("narrower, by one: %v", err)
	}
	w.Refusal(alone(edited("uses = 2", "uses = 2")), denial.DualControlMissing) // wider than what is in force now
	w.Refusal(alone(edited("https://issuer.example/policy/who", "https://issuer.example/policy/else")), denial.DualControlMissing)
	if err := alone(edited("uses = 2", "uses = 1")); err != nil {
		t.Errorf("another version of the same, by one: %v", err)
	}
	w.Publish(w.Authorization())

	both := issuertest.New(t)
	p := both.Policy(strings.Replace(both.Authorization(), "uses = 2", "uses = 1", 1))
	_, err := both.Issuer.Apply(both.Ctx, statement.Policy, both.Sign(statement.Policy, p, issuertest.Alice))
	both.Refusal(err, denial.PolicyUnsigned) // P05: genesis lets nobody narrow alone
}
