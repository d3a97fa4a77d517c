package audit

import (
	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// KeyNow is a key of the issuer and where it is in its life, as far as key changes tell. Times are logged times.
type KeyNow struct {
	Purpose    string `json:"purpose"`
	Thumbprint string `json:"thumbprint"`
	State      string `json:"state"`
	Since      uint64 `json:"since,omitempty"` // of the state; 0 where the log does not say
	Note       string `json:"note,omitempty"`
	Never      bool   `json:"never,omitempty"` // it has not signed anything that counts
	From       uint64 `json:"from,omitempty"`  // its signatures count from then on; 0: from genesis on
	Until      uint64 `json:"until,omitempty"` // and not from then on
	Entry      uint64 `json:"entry"`           // of the last key change about it; 0: genesis
}

// KeysNow tells the states of the keys of a ring, with the entry of the last change about each; nil: not told.
func KeysNow(ring *record.KeyRing, changed map[statement.Thumbprint]uint64) (all []KeyNow) {
	for _, k := range ring.Keys() {
		now := KeyNow{Purpose: k.Purpose, Thumbprint: k.Key.Thumbprint().String(), State: k.State.String(), Entry: changed[k.Key.Thumbprint()]}
		now.Since, now.Note = k.Since()
		now.From, now.Until = k.Counts()
		now.Never = now.From == 0
		if now.From == 1 { // from genesis on
			now.From = 0
		}
		if now.Since == 1 {
			now.Since = 0
		}
		all = append(all, now)
	}
	return all
}

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
	v.ring, v.epochs = bare.KeyRing(), bare.Epochs()
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
func (v *verifier) keyChange(act *record.Act, e *entry) error {
	next, err := v.world.ring.Apply(act, e.logged)
	if err != nil {
		return err
	}
	if same, ok := v.ring.Change(next.Sequence()); !ok || same != act.Digest() {
		return denial.New(denial.ReceiptInvalid, "the key history of the bundle does not hold the key change")
	}
	c, err := record.ReadKeyChange(act.Payload())
	if err != nil {
		return err
	}
	for _, s := range c.Steps {
		v.world.changed[statement.Thumbprint(s.Key)] = e.index
	}
	if c.People != nil {
		v.handedOver(act, c, v.world.ring.Authorities().People(), e)
		for _, kind := range c.People.Reset {
			v.world.reset[kind] = true
		}
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
