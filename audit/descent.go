package audit

import (
	"bytes"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
)

// descends checks what an artifact descends from against the log, for each parent in this order: the key that is said to have signed it is
// an artifact key of the issuer (305); an earlier entry is this artifact (327, 325); it was not revoked, nor what it descends from, nor the log
// restored since (801 to 807). That the parent's holder signed the delegation, and that nothing is wider than it, follows
// from deciding again. A parent that the bundle does not have, because it is a part of the log, is left unchecked.
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
		if err := v.permitRevoked(parent); err != nil {
			return err
		}
		if p.Revoked != 0 {
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

// permitRevoked refuses an artifact that is revoked as world.permitRevoked does, and then one that descends from such an artifact (807),
// as far as the bundle has what it descends from.
func (v *verifier) permitRevoked(c *artifact.Claims) error {
	if err := v.world.permitRevoked(c); err != nil {
		return err
	}
	above, seen := c.Lineage.Parents, seen{}
	for len(above) > 0 {
		id := above[0].ID
		above = above[1:]
		if seen.add(keyOf(string(id))) {
			continue
		}
		p, err := v.permitOf(id)
		if err != nil {
			return err
		}
		if p == nil {
			continue
		}
		if v.world.permitRevoked(p.claims) != nil {
			return denial.New(denial.AncestorRevoked, "an artifact that it descends from had been revoked")
		}
		above = append(above, p.claims.Lineage.Parents...)
	}
	return nil
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

// descendsFalsely refuses a refusal that was decided on the revocation of a parent that is not in the log. What an artifact key counts for
// depends on times that are checked with its changes.
func (v *verifier) descendsFalsely(in *decision.Input, f *Finding) error {
	for i := range in.Parents {
		p, parent, err := v.parent(&in.Parents[i], f)
		if err != nil {
			return err
		}
		if parent == nil || p.Revoked == 0 || record.Cause(p.Revoked) == record.CauseKey ||
			v.world.restored(v.world.permits[keyOf(string(parent.ID))]) != nil || v.permitRevoked(parent) != nil {
			continue
		}
		return denial.New(denial.LogInconsistent, "the refusal was decided on the revocation of a parent that is not in the log")
	}
	return nil
}
