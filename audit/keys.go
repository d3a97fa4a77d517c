package audit

import (
	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// follow reads the key history of the bundle and goes on with the keys that follow from the genesis that the trust file pins.
// A trust file that was written after the last change in the bundle says itself which keys count, and when.
func (v *verifier) follow() error {
	raw, err := v.read(nameHistory)
	if err != nil {
		return err
	}
	if raw == nil {
		return denial.New(denial.ClaimAbsent, "the bundle has no key history")
	}
	if v.told, err = artifact.DecodeKeyHistory(raw); err != nil {
		return err
	}
	bare, err := (&artifact.Trust{Genesis: v.trust.Genesis, Issuer: v.trust.Issuer, Log: v.trust.Log}).Follow(raw)
	if err != nil {
		return err
	}
	v.ring = bare.KeyRing()
	switch next, err := v.trust.Follow(raw); {
	case err == nil:
		v.trust = next
	case denial.Is(err, denial.StateRollback):
		v.report.Limits = append(v.report.Limits, "the trust file knows of later key changes than the bundle: its own keys were used")
	default:
		return err
	}
	if v.keys, err = v.trust.StatementKeys(); err != nil {
		return err
	}
	v.proofs = receipt.NewVerifier(v.keys)
	for _, k := range v.ring.Keys() {
		if k.Purpose == record.PurposeLog && k.State == record.KeyCompromised {
			v.report.Limits = append(v.report.Limits, "a log key fell: that entries under its heads are in this order is shown by a later key, but when they were logged is its own word")
		}
	}
	return nil
}

// keyChange checks a change of the issuer's keys: it is the next of the chain at its logged time (see record.KeyRing.Apply), and
// stands in the key history of the bundle at the same place (324).
func (v *verifier) keyChange(act *record.Act, logged uint64) error {
	next, err := v.world.ring.Apply(act, logged)
	if err != nil {
		return err
	}
	if same, ok := v.ring.Change(next.Sequence()); !ok || same != act.Digest() {
		return denial.New(denial.ReceiptInvalid, "the key history of the bundle does not hold the key change")
	}
	v.world.ring = next
	return nil
}

// followed checks that the key history holds no change that the log does not have up to the end of the bundle's range (324).
func (v *verifier) followed() error {
	seen := v.world.ring.Sequence()
	if seen >= uint64(len(v.told.Changes)) {
		return nil
	}
	for _, raw := range v.told.Changes[seen] {
		env, err := statement.Decode(raw, maxTransparent)
		if err != nil {
			return err
		}
		index, err := v.place(env)
		if err != nil {
			return err
		}
		if index < v.m.Query.To {
			return denial.New(denial.ReceiptInvalid, "the key history tells of a key change that the bundle does not have")
		}
	}
	return nil
}

// place returns the index of a statement of the key history, whose receipt may be under a key that has fallen since.
func (v *verifier) place(env *statement.Envelope) (uint64, error) {
	receipts, err := env.Receipts()
	if err != nil {
		return 0, err
	}
	if len(receipts) != 1 {
		return 0, denial.New(denial.ReceiptInvalid, "a statement of the key history has exactly one receipt")
	}
	keys, err := v.ring.StatementKeys()
	if err != nil {
		return 0, err
	}
	proof, err := receipt.Verify(receipts[0], env.Leaf(), keys)
	if err != nil {
		return 0, err
	}
	return proof.Index, nil
}
