package artifact

import (
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Epoch is an epoch of the log: from Logged on it goes on behind a backup, by an act of its authorities.
type Epoch struct {
	record.Epoch
	Logged  uint64 // seconds since 1970 UTC
	Persons []string
	Act     statement.Digest // of the payload
}

// Lost reports whether a tree head, of so many entries at a logged time, is of what was lost: larger than what was restored, and from before the
// act that says so. Of a head that says no time the caller passes 0.
func (e *Epoch) Lost(size, logged uint64) bool { return size > e.Size && logged < e.Logged }

// Epochs returns the epochs that were followed, in order.
func (t *Trust) Epochs() []Epoch {
	if t == nil {
		return nil
	}
	return t.epochs
}

// epochs checks the epochs of a history, each in this order: it was logged under one head of a log key (324, 305); it is signed by enough
// of those who were authorities there (326; see record.Authorities.Verify), its payload is complete and of its number (see
// record.ReadEpoch), for this issuer, log and genesis (706); the key of the head counted at that time (208, 802); it is the next, in time
// (201, 202, 409); it is the entry behind those that it says were restored (324), and they have the root that it says, as its own
// receipt shows (325).
func (f *follower) epochs(all [][][]byte) (list []Epoch, err error) {
	f.index, f.time = 0, 0 // key changes have an order of their own
	keys, err := f.ring.StatementKeys()
	if err != nil {
		return nil, err
	}
	for n, act := range all {
		e, err := f.epoch(act, uint64(n), keys)
		if err != nil {
			return nil, err
		}
		list = append(list, *e)
	}
	return list, nil
}

func (f *follower) epoch(raws [][]byte, before uint64, keys statement.Keys) (*Epoch, error) {
	leaves, envelopes, err := decodeAll(raws)
	if err != nil {
		return nil, err
	}
	var head, first *receipt.Proof
	for _, env := range envelopes {
		if head, err = f.logged(env, keys, head); err != nil {
			return nil, err
		}
		if first == nil {
			first = head
		}
	}
	act, err := f.authoritiesAt(first.Index).Verify(leaves, statement.Epoch)
	if err != nil {
		return nil, err
	}
	e, err := record.ReadEpoch(act)
	if err != nil {
		return nil, err
	}
	if act.Claims().Issuer != f.trust.Issuer || e.Log != f.trust.Log || statement.Digest(e.Genesis) != f.trust.Genesis {
		return nil, denial.New(denial.IdentityConflict, "the epoch is of another log")
	}
	if err := f.ring.Find(head.Key).CheckThen(head.Time); err != nil {
		return nil, err
	}
	if err := act.Followed(before, head.Time); err != nil {
		return nil, err
	}
	receipts, err := envelopes[0].Receipts()
	if err != nil {
		return nil, err
	}
	return &Epoch{*e, head.Time, act.Persons(), act.Digest()}, BeginsAt(e, first, receipts[0])
}

// BeginsAt checks that an epoch stands directly behind the entries that it says were restored (324), and that these have the root
// that it says (325). The receipt is that of the act's first statement, and has verified.
func BeginsAt(e *record.Epoch, proof *receipt.Proof, raw []byte) error {
	if proof.Index != e.Size {
		return denial.New(denial.ReceiptInvalid, "the epoch stands at entry %d, and says that %d were restored", proof.Index, e.Size)
	}
	root, err := receipt.Preceding(raw)
	if err == nil && root != receipt.Hash(e.Root) {
		err = denial.New(denial.LogInconsistent, "the entries before the epoch have another root than it says")
	}
	return err
}

// keepsEpochs refuses epochs that do not continue those that were followed before.
func (t *Trust) keepsEpochs(old *Trust) error {
	if len(t.epochs) < len(old.epochs) {
		return denial.New(denial.StateRollback, "the log has had %d epochs, and these are %d", len(old.epochs), len(t.epochs))
	}
	for i := range old.epochs {
		if t.epochs[i].Act != old.epochs[i].Act {
			return denial.New(denial.LogInconsistent, "another epoch stands in the place of number %d", i+1)
		}
	}
	return nil
}

// decodeAll decodes transparent statements.
func decodeAll(raws [][]byte) (leaves record.Bundle, all []*statement.Envelope, err error) {
	for _, raw := range raws {
		env, err := statement.Decode(raw, 2*statement.MaxStatement)
		if err != nil {
			return nil, nil, err
		}
		leaves, all = append(leaves, env.Leaf()), append(all, env)
	}
	return leaves, all, nil
}
