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
		p.Delegation, p.Ancestors = m.delegations[n], uint64(len(permit.Ancestors))
		m.parents = append(m.parents, *p)
		m.ancestors = descent(m.ancestors, permit)
	}
	in.Descend(m.parents)
	return nil
}

// bareDelegations decodes the delegations and takes away what stands in their unprotected headers, which anybody can add to. There
// is at most one for each parent (327).
func (m *minting) bareDelegations() error {
	if len(m.delegations) > len(m.verified.Claims().Parents) {
		return denial.New(denial.LineageChainInvalid, "there are more delegations than parents that the request names")
	}
	bare := make([][]byte, len(m.delegations))
	for n, raw := range m.delegations {
		env, err := statement.Decode(raw, artifact.MaxDelegation)
		if err != nil {
			return err
		}
		bare[n] = env.Leaf()
	}
	m.delegations = bare
	return nil
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
	leaf, key, logged, err := m.signedBy(ctx, digest)
	if err != nil || key == nil {
		return nil, permit, err
	}
	c, _, err := artifact.Inspect(leaf)
	if err != nil {
		return nil, permit, err
	}
	if permit, err = m.permitOf(ctx, c.ID); err != nil {
		return nil, permit, err
	}
	if !bytes.Equal(permit.Digest, digest[:]) {
		return nil, permit, denial.New(denial.StoreFault, "the log has an artifact that does not fit its rows")
	}
	p := &decision.Parent{Artifact: leaf, Key: key.Key}
	if key.Check(logged) != nil {
		p.Revoked = uint64(record.CauseKey)
		return p, permit, nil
	}
	err = m.inEpoch(ctx, c.ID)
	if err == nil {
		err = m.permitRevoked(ctx, permit)
	}
	if c, ok := causeFor(err); ok {
		p.Revoked, err = uint64(c), nil
	}
	return p, permit, err
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
