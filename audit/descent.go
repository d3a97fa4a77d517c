package audit

import (
	"bytes"
	"encoding/hex"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
)

// descends checks what an artifact descends from against the log, for each parent in this order: the key that is said to have signed it is
// an artifact key of the issuer (305), and it verifies; its entry counts (807), and an earlier entry is this artifact (327, 325); the log was
// not restored since (801), and it was not revoked, nor what it descends from (801 to 807); it descends from as many as was said, and was not
// said to be revoked (325). That the parent's holder signed the delegation,
// and that nothing is wider than it, follows from deciding again. What the bundle does not have, because it is a part of the log, is left unchecked.
func (v *verifier) descends(d *decided, f *Finding) error {
	for i := range d.in.Parents {
		p, parent, err := v.parent(&d.in.Parents[i], f)
		if err != nil {
			return err
		}
		if parent == nil {
			continue
		}
		if err := v.world.restored(v.world.permits[keyOf(string(parent.ID))]); err != nil {
			return err
		}
		above, err := v.permitRevoked(parent, f)
		switch {
		case err != nil:
			return err
		case above >= 0 && uint64(above) != p.Ancestors:
			return denial.New(denial.LogInconsistent, "the parent descends from %d artifacts, and was said to descend from %d", above, p.Ancestors)
		case p.Revoked != 0:
			return denial.New(denial.LogInconsistent, "the artifact was decided on the revocation of a parent that is not in the log")
		}
	}
	return nil
}

// parent returns a parent as the log has it; nil if the bundle does not have it.
func (v *verifier) parent(p *decision.Parent, f *Finding) (*decision.Parent, *artifact.Claims, error) {
	if key := v.world.ring.Find(p.Key.Thumbprint()); key == nil || key.Purpose != record.PurposeArtifact {
		return p, nil, denial.New(denial.KeyUnknown, "a parent was signed by another than an artifact key of the issuer")
	}
	a, err := p.Ancestor()
	if err != nil {
		return p, nil, err
	}
	c, digest := a.Claims(), a.Digest()
	known, err := v.permitOf(c.ID)
	switch {
	case err != nil:
		return p, nil, err
	case v.world.disbelieved.has(keyOf(string(c.ID))):
		return p, nil, denial.New(denial.AncestorRevoked, "the parent does not count: its entry is refuted")
	case known == nil && v.part():
		f.leave("a parent of the artifact is not in the bundle")
		return p, nil, nil
	case known == nil:
		return p, nil, denial.New(denial.LineageChainInvalid, "no earlier artifact in the log is the parent")
	case known.digest != digest:
		return p, nil, denial.New(denial.LogInconsistent, "the parent decided on is not the artifact in the log")
	}
	return p, known.claims, nil
}

// permitRevoked refuses an artifact that is revoked as world.permitRevoked does, and then one that descends from such an artifact, or
// from one that does not count (807), or from more than artifact.MaxAncestors (406). It returns from how many it descends, less than 0 if that is not known:
// a bundle that is a part of the log may lack one, and what else is revoked of that one is then left unchecked.
func (v *verifier) permitRevoked(c *artifact.Claims, f *Finding) (above int, err error) {
	if err := v.world.permitRevoked(c); err != nil {
		return 0, err
	}
	next, known, whole := c.Lineage.Parents, seen{}, true
	for ; len(next) > 0; next = next[1:] {
		id := next[0].ID
		if known.add(keyOf(string(id))) {
			continue
		}
		if len(known) > artifact.MaxAncestors {
			return 0, denial.New(denial.DelegationExceeded, "an artifact descends from at most %d others", artifact.MaxAncestors)
		}
		p, err := v.permitOf(id)
		switch {
		case err != nil:
			return 0, err
		case v.world.revoked[revocation{record.CauseArtifact, hex.EncodeToString(id)}] || v.world.disbelieved.has(keyOf(string(id))):
			return 0, denial.New(denial.AncestorRevoked, "an artifact that it descends from had been revoked, or does not count")
		case p == nil:
			whole = false
		case v.world.permitRevoked(p.claims) != nil:
			return 0, denial.New(denial.AncestorRevoked, "an artifact that it descends from had been revoked")
		default:
			next = append(next, p.claims.Lineage.Parents...)
		}
	}
	if !whole {
		f.leave("an artifact that it descends from is not in the bundle")
		return -1, nil
	}
	return len(known), nil
}

// delegationKeys names the delegations that a decision rests on, each by its parent and its id.
func delegationKeys(in *decision.Input) (keys [][32]byte) {
	for i := range in.Parents {
		if c, err := artifact.InspectDelegation(in.Parents[i].Delegation); err == nil {
			keys = append(keys, keyOf(string(bytes.Clone(c.Parent)), c.ID...))
		}
	}
	return keys
}

// spend takes note of the delegations that an artifact rests on, and refuses one that an earlier artifact rests on (406).
func (v *verifier) spend(in *decision.Input) error {
	for _, key := range delegationKeys(in) {
		if v.world.delegations.add(key) {
			return denial.New(denial.DelegationExceeded, "an earlier artifact rests on the same delegation")
		}
	}
	return nil
}

// spent reports whether an earlier artifact rests on one of the delegations of a decision.
func (v *verifier) spent(in *decision.Input) bool {
	for _, key := range delegationKeys(in) {
		if v.world.delegations.has(key) {
			return true
		}
	}
	return false
}

// descendsFalsely refuses a refusal that was decided on the revocation of a parent that is not in the log. What a key counts for depends on
// times that are checked with its changes, and a host may be held no more: that is left unchecked.
func (v *verifier) descendsFalsely(in *decision.Input, f *Finding) error {
	for i := range in.Parents {
		p, parent, err := v.parent(&in.Parents[i], f)
		if denial.Is(err, denial.AncestorRevoked) {
			continue
		}
		if err != nil {
			return err
		}
		if parent == nil || p.Revoked == 0 || v.world.restored(v.world.permits[keyOf(string(parent.ID))]) != nil {
			continue
		}
		above, err := v.permitRevoked(parent, f)
		switch cause := record.Cause(p.Revoked); {
		case isFault(err):
			return err
		case err != nil || above < 0:
		case cause == record.CauseKey || cause == record.CauseHost || cause == record.CauseAncestor:
			f.leave("the refusal was decided on a key, a host or an ancestor of a parent that did not count, which may have passed")
		default:
			return denial.New(denial.LogInconsistent, "the refusal was decided on the revocation of a parent that is not in the log")
		}
	}
	return nil
}
