package audit

import (
	"bytes"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// tagSign1 is the first byte of a tagged COSE_Sign1 (RFC 9052); no checkpoint begins with it.
const tagSign1 = 0xd2

// known checks that what the issuer gave out before stands in the log of this bundle: each is a statement with its receipt, or a
// checkpoint, and genuine (3xx, 208). The log has not become shorter than it was then (508). The statement is the one at its index,
// under the same head, and the head of then is the beginning of the one of now (325). A bundle of a part of the log may lack the
// proof of that; then the bundle is unchecked. What an epoch says is lost is told of, and contradicts nothing.
func (v *verifier) known() error {
	for _, raw := range v.o.Known {
		head, err := v.given(raw)
		if err != nil {
			return err
		}
		if head.Time != 0 && v.lost(head) {
			continue
		}
		err = v.grown(head)
		if head.Time == 0 && (denial.Is(err, denial.StateRollback) || denial.Is(err, denial.LogInconsistent)) && v.lost(head) {
			continue // a checkpoint says no time: it is lost if the log does not continue it
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// given verifies what was given out, holds a statement against the one at its index, and returns the head of then. A
// checkpoint says no time.
func (v *verifier) given(raw []byte) (receipt.Head, error) {
	if !bytes.HasPrefix(raw, []byte{tagSign1}) {
		c, err := receipt.VerifyCheckpoint(raw, v.trust.NoteKeys(0), nil)
		if err != nil {
			return receipt.Head{}, err
		}
		return receipt.Head{Size: c.Size, Root: c.Root}, nil
	}
	env, err := statement.Decode(raw, maxTransparent)
	if err != nil {
		return receipt.Head{}, err
	}
	proof, _, err := v.transparent(raw, env)
	if err != nil {
		return receipt.Head{}, err
	}
	if v.isLost(headOf(proof)) != nil {
		return headOf(proof), nil
	}
	now, err := v.entry(proof.Index)
	if err != nil || now == nil {
		return headOf(proof), err
	}
	again, _, err := v.transparent(now.raw, now.outer)
	if err != nil {
		return receipt.Head{}, err
	}
	if !bytes.Equal(now.leaf, env.Leaf()) || headOf(again) != headOf(proof) {
		return receipt.Head{}, denial.New(denial.LogInconsistent, "entry %d was given out as another, or under another tree head", proof.Index)
	}
	return headOf(proof), nil
}

// grown checks that the head of the bundle continues a head of before.
func (v *verifier) grown(old receipt.Head) error {
	now := v.m.Head
	switch {
	case old.Size > now.Size:
		return denial.New(denial.StateRollback, "the log had %d entries, and has %d now", old.Size, now.Size)
	case old.Size == now.Size && (old.Root != now.Root || old.Time != 0 && old.Time != now.Time):
		return denial.New(denial.LogInconsistent, "two tree heads of one size differ")
	case old.Size == now.Size:
		return nil
	}
	raw, err := v.read(nameHead(old.Size))
	switch {
	case err != nil:
		return err
	case raw == nil && (v.part() || v.m.Query.To < now.Size):
		v.report.Bundle.leave("the bundle has no proof of a tree head that was given out; a bundle of the whole log has")
		return nil
	case raw == nil:
		return denial.New(denial.LogInconsistent, "the log never had a tree head that was given out")
	}
	newer, err := v.proofs.VerifyConsistency(raw, old)
	if err == nil && (newer.Size != now.Size || newer.Root != now.Root) {
		err = denial.New(denial.LogInconsistent, "a tree head leads to another one than that of the bundle")
	}
	return err
}

func headOf(p *receipt.Proof) receipt.Head {
	return receipt.Head{Size: p.Size, Root: p.Root, Time: p.Time}
}
