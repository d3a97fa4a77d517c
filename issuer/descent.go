package issuer

import (
	"bytes"
	"context"
	"slices"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// maxAncestors is how many artifacts one may descend from: what each status list and each use has to look at.
const maxAncestors = 64

// descend reads what the request would have its artifact descend from, and puts it into the input. Where it stops, at a parent that
// is no artifact in the log or came without a delegation, the decision refuses.
func (m *minting) descend(ctx context.Context, in *decision.Input) error {
	named := m.verified.Claims().Parents
	if len(named) == 0 {
		return nil
	}
	m.parents, m.ancestors = nil, nil
	for n, digest := range named {
		if n >= len(m.delegations) {
			break
		}
		p, permit, err := m.parent(ctx, statement.Digest(digest))
		if err != nil {
			return err
		}
		if p == nil {
			break
		}
		if p.Delegation, err = bare(m.delegations[n]); err != nil {
			return denial.Of(err).At(denial.StageAuthorization)
		}
		m.parents = append(m.parents, *p)
		m.ancestors = descent(m.ancestors, permit)
	}
	if len(m.ancestors) > maxAncestors {
		return denial.New(denial.DelegationExceeded, "an artifact descends from at most %d others", maxAncestors).At(denial.StageAuthorization)
	}
	in.Descend(m.parents)
	return nil
}

// bare returns a statement without what stands in its unprotected header, which anybody can add to.
func bare(raw []byte) ([]byte, error) {
	env, err := statement.Decode(raw, artifact.MaxDelegation)
	if err != nil {
		return nil, err
	}
	return env.Leaf(), nil
}

// descent adds a parent and what it descends from, each once.
func descent(all [][]byte, parent permitState) [][]byte {
	for _, cti := range append([][]byte{parent.CTI}, parent.Ancestors...) {
		if !slices.ContainsFunc(all, func(a []byte) bool { return bytes.Equal(a, cti) }) {
			all = append(all, cti)
		}
	}
	return all
}

// parent reads an artifact from the log, with the key that signed it and the cause for which it is revoked: also if that key may not be
// believed any more (CauseKey), or if the log was restored from a backup since (CauseArtifact). It returns nil if there is none.
func (m *minting) parent(ctx context.Context, digest statement.Digest) (*decision.Parent, permitState, error) {
	var permit permitState
	index, found, err := m.log.Find(ctx, digest)
	if err != nil || !found {
		return nil, permit, err
	}
	leaf, err := m.log.Leaf(ctx, index)
	if err != nil {
		return nil, permit, err
	}
	env, err := statement.Decode(leaf, statement.MaxStatement)
	if err != nil {
		return nil, permit, err
	}
	if env.Kind() != statement.Artifact {
		return nil, permit, nil
	}
	c, err := artifact.DecodeClaims(env.Payload())
	if err != nil {
		return nil, permit, err
	}
	if permit, err = m.permitOf(ctx, c.ID); err != nil {
		return nil, permit, err
	}
	use, err := m.keys.current(ctx, m.log)
	if err != nil {
		return nil, permit, err
	}
	kid, _ := env.KeyID()
	key := use.ring.Find(kid)
	if key == nil || !bytes.Equal(permit.Digest, digest[:]) {
		return nil, permit, denial.New(denial.StoreFault, "the log has an artifact that does not fit its rows")
	}
	logged, err := m.log.LoggedAt(ctx, index)
	if err != nil {
		return nil, permit, err
	}
	p := &decision.Parent{Artifact: leaf, Key: key.Key}
	switch {
	case key.Check(logged) != nil:
		p.Revoked = uint64(record.CauseKey)
	case m.since.Index != 0 && index < m.since.Index:
		p.Revoked = uint64(record.CauseArtifact)
	default:
		p.Revoked, err = m.causeOf(ctx, permit)
	}
	return p, permit, err
}

// causeOf returns the cause for which an artifact is revoked, 0 if it is not.
func (i *Issuer) causeOf(ctx context.Context, p permitState) (uint64, error) {
	err := i.permitRevoked(ctx, p)
	if c, ok := causeFor(err); ok {
		return uint64(c), nil
	}
	return 0, err
}

// spendDelegations has a permit consume each delegation that it rests on.
func (m *minting) spendDelegations(entry *tlog.Entry) error {
	for i := range m.parents {
		key, err := delegationKey(&m.parents[i])
		if err != nil {
			return err
		}
		entry.Once = append(entry.Once, tlog.Once{Set: onceDelegation, Key: key, Reason: denial.DelegationExceeded})
	}
	return nil
}

// delegationKey names a delegation by its parent and its id: a signature can be written in another way, and the digest of the statement
// with it.
func delegationKey(p *decision.Parent) ([]byte, error) {
	c, err := artifact.InspectDelegation(p.Delegation)
	if err != nil {
		return nil, err
	}
	return append(bytes.Clone(c.Parent), c.ID...), nil
}
