package issuer

import (
	"context"
	"encoding/hex"
	"errors"
	"slices"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// decideAndCommit decides, signs and commits, and does so again if a policy, a revocation, an enrolment, a change of keys
// or another clock of the host came in between (F23, P18).
func (m *minting) decideAndCommit(ctx context.Context) error {
	again := false
	err := untilFresh(func() error {
		if again {
			if err := m.findHost(ctx); err != nil {
				return denial.Of(err).At(denial.StageTransaction)
			}
		}
		again = true
		d, err := m.decide(ctx)
		if err != nil {
			return err
		}
		if m.glass {
			return m.commitAttestation(ctx, d)
		}
		return m.commitPermit(ctx, d)
	})
	if err != nil {
		return denial.Of(err).At(denial.StageTransaction)
	}
	return nil
}

// decide makes a decision on the state as it is now. The counters are read first: what is read after them is at least as
// new, and the transaction compares them.
func (m *minting) decide(ctx context.Context) (d decision.Decision, err error) {
	if m.force, err = m.policies.current(ctx, m.log); err != nil {
		return d, denial.Of(err).At(denial.StageRevocation)
	}
	revoked, err := m.log.Counter(ctx, counterRevoked)
	if err != nil {
		return d, denial.Of(err).At(denial.StageRevocation)
	}
	use, err := m.useKeys(ctx)
	if err != nil {
		return d, denial.Of(err).At(denial.StageRevocation)
	}
	m.guards = []tlog.Guard{use.guard(), {Counter: counterPolicy, Value: m.force.version}, {Counter: counterRevoked, Value: revoked},
		{Counter: counterEnrolment, Value: m.enrolment}}
	in, err := m.newInput(ctx)
	if err != nil {
		return d, denial.Of(err).At(denial.StageRevocation)
	}
	d = decision.Decide(in, m.force.appraisal, m.force.authorization)
	if m.input = d.Input(); m.input == nil {
		if m.input, err = in.Encode(); err != nil {
			return d, err
		}
	}
	if err := d.Denied(); err != nil {
		return d, err
	}
	return d, nil
}

// newInput reads the state that the decision depends on.
func (m *minting) newInput(ctx context.Context) (*decision.Input, error) {
	ak, err := attest.AKThumbprint(m.host.AK)
	if err != nil {
		return nil, err
	}
	if m.clock, err = m.readClock(ctx, m.host.EK); err != nil {
		return nil, err
	}
	if !m.glass {
		m.index = m.indices.take()
	}
	key := m.initiator.Key.Thumbprint()
	in := &decision.Input{
		Issuer: m.genesis.Issuer, Time: uint64(m.now().Unix()), Exporter: m.exporter[:], ID: random(16),
		Challenge: m.nonce[:], Challenged: uint64(m.challenged.Unix()),
		Host:          decision.Host{ID: m.host.ID, Labels: m.host.Labels, AK: ak[:], EK: m.host.EK, Enrolment: m.host.Enrolment},
		Initiator:     decision.Initiator{ID: m.initiator.ID, Kind: uint64(m.initiator.Kind), Key: key[:], Enrolment: m.initiator.Enrolment},
		Appraisal:     policyName(m.force.states[record.Appraisal]),
		Authorization: policyName(m.force.states[record.Authorization]),
		HighWater:     m.clock.seen(),
		StatusURI:     m.StatusURI(m.index / ListSize), StatusIndex: m.index % ListSize,
	}
	in.Attach(m.facts, m.verified)
	if err := m.descend(ctx, in); err != nil {
		return nil, err
	}
	if m.glass {
		if in.BreakGlass, err = m.glassPayload(ctx, m.verified.Claims().BreakGlass); err != nil {
			return nil, err
		}
	}
	_, held, err := m.log.Value(ctx, bucketHeld, []byte(m.host.ID))
	if err != nil {
		return nil, err
	}
	in.Held = held || m.clock.contradicts(m.reading(in.Facts.Clock))
	in.Revoked, err = m.revocationView(ctx, in)
	return in, err
}

func policyName(s policyState) decision.Policy {
	return decision.Policy{ID: s.ID, Version: s.Revision, Hash: s.Hash}
}

// revocationView returns the causes of revocation that hold for the request, ascending.
func (m *minting) revocationView(ctx context.Context, in *decision.Input) ([]uint64, error) {
	view := []uint64{}
	for _, target := range []struct {
		cause record.Cause
		id    string
	}{
		{record.CauseHost, m.host.ID},
		{record.CausePolicy, hex.EncodeToString(in.Appraisal.Hash)},
		{record.CausePolicy, hex.EncodeToString(in.Authorization.Hash)},
		{record.CauseInitiator, m.initiator.ID},
	} {
		_, revoked, err := m.log.Value(ctx, bucketRevoked, revokedKey(target.cause, target.id))
		if err != nil {
			return nil, err
		}
		if c := uint64(target.cause); revoked && !slices.Contains(view, c) {
			view = append(view, c)
		}
	}
	return view, nil
}

// useKeys takes the key that the answer will be signed with. An attestation for a break-glass authorization is a record.
func (m *minting) useKeys(ctx context.Context) (use *inUse, err error) {
	purpose := record.PurposeArtifact
	if m.glass {
		purpose = record.PurposeRecord
	}
	use, m.key, err = m.signer(ctx, purpose)
	return use, err
}

// commitPermit signs the artifact and appends it in one transaction with all that it changes. Without a signature there is
// nothing to append, so that too is a failure of the transaction.
func (m *minting) commitPermit(ctx context.Context, d decision.Decision) error {
	ctx, cancel := settled(ctx)
	defer cancel()
	permit, err := d.Permit()
	if err != nil {
		return denial.Of(err).At(denial.StageTransaction)
	}
	c := permit.Claims()
	leaf, err := artifact.Sign(ctx, m.key, c)
	if err != nil {
		return denial.Of(err).At(denial.StageTransaction)
	}
	entry, err := m.entry(leaf, c)
	if err != nil {
		return denial.Of(err).At(denial.StageTransaction)
	}
	return m.commit(ctx, leaf, entry)
}

// commit appends what the decision came to.
func (m *minting) commit(ctx context.Context, leaf []byte, entry tlog.Entry) error {
	done, err := m.log.Append(ctx, entry)
	switch {
	case errors.Is(err, tlog.ErrStale):
		return err
	case err != nil:
		return denial.Of(err).At(denial.StageTransaction)
	case done[0].Receipt == nil:
		return denial.New(denial.NoReceipt, "the log gave no receipt").At(denial.StageMint)
	}
	raw, err := statement.Attach(leaf, done[0].Receipt)
	if err != nil {
		return denial.Of(err).At(denial.StageMint)
	}
	m.minted = &Minted{Artifact: raw, Index: done[0].Index}
	return nil
}

func (m *minting) entry(leaf []byte, c artifact.Claims) (tlog.Entry, error) {
	digest, r := statement.DigestOf(leaf), m.verified.Claims()
	permit, err := put(bucketPermit, indexKey(m.index), permitState{
		CTI: c.ID, Host: c.Subject, Initiator: c.Initiator.Principal, Expires: c.Expires, Uses: c.Limits.MaxUses(), Gate: c.Audience,
		Digest: digest[:], Policies: []string{hex.EncodeToString(c.Policy.Appraisal.Hash.Value), hex.EncodeToString(c.Policy.Hash.Value)}, Ancestors: m.ancestors})
	if err != nil {
		return tlog.Entry{}, err
	}
	entry := tlog.Entry{
		Leaf: leaf,
		Once: []tlog.Once{
			{Set: onceRequest, Key: requestKey(r.Initiator, r.ID), Reason: denial.RequestReplayed},
			{Set: onceStatus, Key: indexKey(m.index), Reason: denial.Internal},
		},
		Guards:  m.guards,
		Puts:    []tlog.Put{permit, {Bucket: bucketPermitOf, Key: c.ID, Value: indexKey(m.index)}},
		Names:   artifactTrails(&c),
		Blobs:   [][]byte{m.evidence, m.verified.Leaf(), m.input},
		Digests: []statement.Digest{m.decoded.Digest(), m.verified.Digest(), statement.Digest(c.Policy.Input.Value)},
	}
	if err := m.spendDelegations(&entry); err != nil {
		return tlog.Entry{}, err
	}
	return entry, m.clock.raise(&entry, m.reading(m.facts.Clock()))
}

// reading returns what the evidence says of the TPM whose clock it shows.
func (m *minting) reading(now attest.Clock) reading {
	r := reading{clock: now, challenged: m.challenged, arrived: m.arrived}
	if m.facts != nil {
		r.boot = m.facts.BootKey()
	}
	return r
}

// holds reports whether the refused evidence shows that there is a second TPM, and the host is not held for it yet. It was
// signed by the enrolled AK, whatever else was wrong with it.
func (m *minting) holds(ctx context.Context) (bool, error) {
	now, err := m.decoded.Clock()
	if err != nil {
		return false, err
	}
	c, err := m.readClock(ctx, m.host.EK)
	if err != nil || !c.contradicts(m.reading(now)) {
		return false, err
	}
	_, held, err := m.log.Value(ctx, bucketHeld, []byte(m.host.ID))
	return !held, err
}

// refused answers a denial: logged if the AK's or the initiator's signature has verified, counted otherwise. That an
// initiator comes too often is counted too: else it could fill the log by it.
func (m *minting) refused(ctx context.Context, d *denial.Denial) error {
	if m.asked == nil && !m.quoted || m.throttled {
		return m.refuseCounted(d, m.asked != nil)
	}
	about := &record.Record{Workload: m.host.ID}
	var blobs [][]byte
	if m.asked != nil {
		digest := m.asked.Digest()
		about.Initiator, about.Request = m.initiator.ID, digest[:]
		blobs = append(blobs, m.asked.Leaf())
	}
	if m.verified != nil {
		about.RequestID = m.verified.Claims().ID
	}
	if m.quoted {
		digest := m.decoded.Digest()
		about.Evidence, about.Exporter, about.Challenge = digest[:], m.exporter[:], m.nonce[:]
		blobs = append(blobs, m.evidence)
	}
	if m.input != nil {
		digest := statement.DigestOf(m.input)
		about.Input = digest[:]
		blobs = append(blobs, m.input)
	}
	if s, ok := m.force.states[record.Authorization]; ok {
		about.Policy = &record.PolicyRef{ID: s.ID, Hash: s.Hash}
	}
	if s, ok := m.force.states[record.Appraisal]; ok {
		about.Appraisal = &record.PolicyRef{ID: s.ID, Hash: s.Hash}
	}
	if m.quoted {
		hold, err := m.holds(context.WithoutCancel(ctx))
		if err != nil {
			return m.refuseCounted(unlogged(err), true)
		}
		about.Hold = hold
	}
	return m.refuse(ctx, about, d, m.run.States(), func(ctx context.Context) (tlog.Entry, error) {
		entry := tlog.Entry{Blobs: blobs}
		if about.Hold {
			entry.Puts = append(entry.Puts, tlog.Put{Bucket: bucketHeld, Key: []byte(m.host.ID), Value: indexKey(uint64(m.arrived.Unix()))})
			entry.Bumps = append(entry.Bumps, counterRevoked)
		}
		if !m.quoted {
			return entry, nil
		}
		now, err := m.decoded.Clock() // signed, whatever else was wrong
		if err != nil {
			return entry, err
		}
		c, err := m.readClock(ctx, m.host.EK)
		if err != nil {
			return entry, err
		}
		return entry, c.raise(&entry, m.reading(now))
	})
}
