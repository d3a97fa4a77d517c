package audit

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// keySet is the informational key set: the keys that the issuer has or had, and those of everybody who is or was an authority.
func keySet(ring *record.KeyRing) ([]byte, error) {
	var set []statement.Key
	for _, k := range ring.Keys() {
		set = append(set, k.Key)
	}
	for _, a := range ring.Everybody() {
		set = append(set, a.Key)
	}
	return statement.Marshal(set)
}

// tlogPolicy is the informational policy for the checkpoint (C2SP tlog-policy): the log by each key that it has or had, the
// newest first. It names no witness: whom to believe is for who reads it.
func tlogPolicy(g *record.Genesis, ring *record.KeyRing) ([]byte, error) {
	var text []byte
	for _, k := range ring.Of(record.PurposeLog) {
		key, err := receipt.LogNoteKey(receipt.Origin(g.Log), k)
		if err != nil {
			return nil, err
		}
		text = fmt.Appendf(text, "log %s\n", key)
	}
	return append(text, "quorum none\n"...), nil
}

// checkpoint checks the checkpoint of the bundle: a signature by a log key that was in use then (305, 301), of this log and of the
// size and root of the tree head in the manifest (325); if the auditor names witnesses, so many of their operators as they
// demand have cosigned it (326).
func (v *verifier) checkpoint() error {
	raw, err := v.read(namePoint)
	if err != nil {
		return err
	}
	c, err := receipt.VerifyCheckpoint(raw, v.trust.NoteKeys(v.m.Head.Time), v.trust.Witnesses)
	if err != nil {
		return err
	}
	if c.Size != v.m.Head.Size || c.Root != v.m.Head.Root {
		return denial.New(denial.LogInconsistent, "the checkpoint is of another tree head than that of the bundle")
	}
	v.point, v.pointRaw = c, raw
	if v.trust.Witnesses == nil {
		v.report.Limits = append(v.report.Limits, "no witnesses were named, so no cosignature of the checkpoint was counted: that others were shown the same log is not shown here")
	}
	return nil
}

// proved checks the proof of an entry under the checkpoint, and that its detached receipt is the one beside the statement (324).
func (v *verifier) proved(e *entry, beside []byte) error {
	detached, err := v.read(nameReceipt(e.index))
	if err != nil {
		return err
	}
	if !bytes.Equal(detached, beside) {
		return denial.New(denial.ReceiptInvalid, "the detached receipt is not the one beside the statement")
	}
	raw, err := v.read(nameProof(e.index))
	if err != nil {
		return err
	}
	return receipt.VerifyProof(raw, e.leaf, e.index, v.pointRaw, v.point)
}

// informational checks what is there for people and other programs: the key set and the policy for checkpoints are those that
// follow from the key history (305).
func (v *verifier) informational() error {
	keys, err := keySet(v.ring)
	if err != nil {
		return err
	}
	if raw, err := v.read(nameKeys); err != nil || !bytes.Equal(raw, keys) {
		return errors.Join(onlyFault(err), denial.New(denial.KeyUnknown, "the key set of the bundle is not that of its key history"))
	}
	policy, err := tlogPolicy(v.world.genesis, v.ring)
	if err != nil {
		return err
	}
	if raw, err := v.read(nameTrust); err != nil || !bytes.Equal(raw, policy) {
		return errors.Join(onlyFault(err), denial.New(denial.KeyUnknown, "the checkpoint policy of the bundle does not follow from its key history"))
	}
	return nil
}

// statusLists checks that the status lists are signed by a status key of the issuer (301, 305), which was active while the
// bundle was made (208, 802), by its issuer (706). They are numbered from 0, and there is one at least (324).
func (v *verifier) statusLists() error {
	for n := 0; ; n++ {
		raw, err := v.read(nameStatus(n))
		if err != nil {
			return err
		}
		if raw == nil && n == 0 {
			return denial.New(denial.ReceiptInvalid, "the bundle has no status list")
		}
		if raw == nil {
			return nil
		}
		env, err := statement.Decode(raw, maxStatus)
		if err != nil {
			return err
		}
		signed, err := env.Verify(v.keys, statement.StatusList)
		if err != nil {
			return err
		}
		if signed.Claims().Issuer != v.trust.Issuer {
			return denial.New(denial.IdentityConflict, "a status list is another issuer's")
		}
		id := signed.Key().Thumbprint()
		if err := v.trust.CheckThen(id, v.sealed); err != nil && v.trust.CheckThen(id, v.m.Head.Time) != nil {
			return err
		}
	}
}
