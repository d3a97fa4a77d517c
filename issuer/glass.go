package issuer

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// glassEffect publishes a break-glass authorization, without which no gate takes it. It checks, in this order: the payload
// and its scope (see record.ReadBreakGlass and artifact.Scope.Check); somebody of the quorum is left to review it (410); it is
// of now (410); the host is enrolled (106) with that gate (411), the initiator is enrolled (106); neither, nor the policy, is
// revoked (803 to 805), and the host not held (803); the policy that it names is in force (401) and has not expired (206), and declares all of it (410,
// 102); every earlier authorization has its review, or time for it (410); its id is new (504).
func (i *Issuer) glassEffect(ctx context.Context, act *record.Act) (entry tlog.Entry, err error) {
	g, err := record.ReadBreakGlass(act)
	if err != nil {
		return entry, err
	}
	scope, err := artifact.DecodeScope(g.Scope)
	if err != nil {
		return entry, err
	}
	people, err := i.authorities(ctx)
	if err != nil {
		return entry, err
	}
	if err := people.Reviewable(act); err != nil {
		return entry, err
	}
	now := uint64(i.now().Unix())
	if g.IssuedAt > now+uint64(artifact.Skew.Seconds()) || now >= g.Expires {
		return entry, denial.New(denial.BreakGlassInvalid, "the authorization is not valid now")
	}
	if entry.Guards, err = i.guards(ctx, counterPolicy, counterRevoked, counterEnrolment, counterGlass, counterReview); err != nil {
		return entry, err
	}
	if err := i.declared(ctx, g, scope, now); err != nil {
		return entry, err
	}
	if err := i.reviewed(ctx, now); err != nil {
		return entry, err
	}
	err = i.publishGlass(act, g, now, &entry)
	return entry, err
}

// guards reads counters, so that a transaction compares them.
func (i *Issuer) guards(ctx context.Context, counters ...string) (all []tlog.Guard, err error) {
	for _, c := range counters {
		n, err := i.log.Counter(ctx, c)
		if err != nil {
			return nil, err
		}
		all = append(all, tlog.Guard{Counter: c, Value: n})
	}
	return all, nil
}

// declared checks an authorization against what is enrolled, revoked and in force.
func (i *Issuer) declared(ctx context.Context, g *record.BreakGlass, scope artifact.Scope, now uint64) error {
	var h hostState
	found, err := load(ctx, i.log, bucketHost, []byte(g.Host), &h)
	switch {
	case err != nil:
		return err
	case !found:
		return denial.New(denial.NotEnrolled, "the host is not enrolled")
	case h.Gate != g.Audience:
		return denial.New(denial.AudienceMismatch, "the host is enrolled with another gate, or none")
	}
	kind, found, err := i.initiatorKind(ctx, g.Initiator)
	if err == nil && !found {
		err = denial.New(denial.NotEnrolled, "the initiator is not enrolled")
	}
	if err != nil {
		return err
	}
	for _, target := range []struct {
		cause record.Cause
		id    string
	}{{record.CauseHost, g.Host}, {record.CausePolicy, hex.EncodeToString(g.Policy.Hash)}, {record.CauseInitiator, g.Initiator}} {
		if err := i.notRevoked(ctx, target.cause, target.id); err != nil {
			return err
		}
	}
	if err := i.notHeld(ctx, g.Host); err != nil {
		return err
	}
	force, err := i.policies.current(ctx, i.log)
	if err != nil {
		return err
	}
	if s := force.states[record.Authorization]; s.ID != g.Policy.ID || s.Revision != g.Policy.Version || !bytes.Equal(s.Hash, g.Policy.Hash) {
		return denial.New(denial.PolicyHashMismatch, "the authorization names a policy that is not in force")
	}
	if err := force.authorization.CheckTime(now); err != nil {
		return err
	}
	policy, err := force.authorization.Authorization()
	if err != nil {
		return err
	}
	return decision.Declared(g, scope, policy, h.Labels, kind)
}

// initiatorKind returns what an enrolled initiator is.
func (i *Issuer) initiatorKind(ctx context.Context, uri string) (kind record.InitiatorKind, found bool, err error) {
	err = i.log.Each(ctx, bucketInitiator, nil, func(_, value []byte) error {
		var s initiatorState
		if err := statement.Unmarshal(value, &s); err != nil {
			return err
		}
		if s.ID == uri {
			kind, found = s.Kind, true
		}
		return nil
	})
	return kind, found, err
}

// reviewed refuses as long as the review of an earlier authorization is overdue.
func (i *Issuer) reviewed(ctx context.Context, now uint64) error {
	_, overdue, err := i.unreviewed(ctx, now)
	if err == nil && overdue > 0 {
		err = denial.New(denial.BreakGlassInvalid, "%d earlier authorization(s) should have been reviewed by now", overdue)
	}
	return err
}

// unreviewed counts the authorizations without a review, and those of them whose review is overdue.
func (i *Issuer) unreviewed(ctx context.Context, now uint64) (open, overdue int, err error) {
	err = i.log.Each(ctx, bucketUnreviewed, nil, func(_, value []byte) error {
		if len(value) != 8 {
			return denial.New(denial.StoreFault, "a row of break-glass authorizations is damaged")
		}
		open++
		if now >= binary.BigEndian.Uint64(value) {
			overdue++
		}
		return nil
	})
	return open, overdue, err
}

// publishGlass writes the rows of an authorization.
func (i *Issuer) publishGlass(act *record.Act, g *record.BreakGlass, now uint64, entry *tlog.Entry) error {
	digest, index := act.Digest(), i.indices.take()
	state, err := put(bucketGlass, digest[:], glassState{Payload: act.Payload(), Persons: act.Persons()})
	if err != nil {
		return err
	}
	permit, err := put(bucketPermit, indexKey(index), permitState{CTI: g.ID, Host: g.Host, Initiator: g.Initiator, Expires: g.Expires, Uses: 1,
		Gate: g.Audience, Digest: digest[:], Policies: []string{hex.EncodeToString(g.Policy.Hash)}, Glass: true})
	if err != nil {
		return err
	}
	entry.Puts = []tlog.Put{state, permit, {Bucket: bucketPermitOf, Key: g.ID, Value: indexKey(index)},
		{Bucket: bucketUnreviewed, Key: digest[:], Value: binary.BigEndian.AppendUint64(nil, now+record.ReviewWithin)}}
	entry.Once = []tlog.Once{{Set: onceGlass, Key: g.ID, Reason: denial.ArtifactReplayed}, {Set: onceStatus, Key: indexKey(index), Reason: denial.Internal}}
	entry.Bumps = []string{counterGlass}
	return nil
}

// reviewEffect takes the review of a break-glass authorization. It checks, in this order: the payload (911, 104); the log has
// the authorization (101); somebody has signed who had not signed it (410); it has no review yet (509).
func (i *Issuer) reviewEffect(ctx context.Context, act *record.Act) (tlog.Entry, error) {
	r, err := record.ReadReview(act)
	if err != nil {
		return tlog.Entry{}, err
	}
	var g glassState
	found, err := load(ctx, i.log, bucketGlass, r.Act, &g)
	if err == nil && !found {
		err = denial.New(denial.NoArtifact, "the log has no such break-glass authorization").Try("Give the act as it was published, and have the authorization logged first.")
	}
	if err == nil {
		err = record.Independent(act, g.Persons)
	}
	return tlog.Entry{
		Puts:  []tlog.Put{{Bucket: bucketUnreviewed, Key: r.Act}},
		Once:  []tlog.Once{{Set: onceReview, Key: r.Act, Reason: denial.RequestReplayed}},
		Bumps: []string{counterReview},
	}, err
}

// glassPayload returns the payload of a published authorization; nil if the log has none with this digest.
func (i *Issuer) glassPayload(ctx context.Context, digest []byte) ([]byte, error) {
	var g glassState
	_, err := load(ctx, i.log, bucketGlass, digest, &g)
	return g.Payload, err
}

// commitAttestation records what the host has proved, in one transaction with all that it changes.
func (m *minting) commitAttestation(ctx context.Context, d decision.Decision) error {
	ctx, cancel := settled(ctx)
	defer cancel()
	proof, err := d.Attestation()
	if err != nil {
		return denial.Of(err).At(denial.StageTransaction)
	}
	leaf, err := m.attestation(proof).Sign(ctx, m.key, m.genesis.Issuer)
	if err != nil {
		return denial.Of(err).At(denial.StageTransaction)
	}
	entry, err := m.attestationEntry(leaf)
	if err != nil {
		return denial.Of(err).At(denial.StageTransaction)
	}
	return m.commit(ctx, leaf, entry)
}

// attestation is the record of what the host has proved.
func (m *minting) attestation(proof decision.Attestation) *record.Record {
	r, g, attested := m.newRecord(), proof.BreakGlass(), proof.Attested()
	request, evidence, input := m.verified.Digest(), m.decoded.Digest(), statement.DigestOf(m.input)
	c, ap, az := m.verified.Claims(), m.force.states[record.Appraisal], m.force.states[record.Authorization]
	r.Event, r.Attested = record.EventAttest, &attested
	r.CTI, r.Artifact, r.RequestID = g.ID, c.BreakGlass, c.ID
	r.Workload, r.Initiator = g.Host, g.Initiator
	r.Request, r.Evidence, r.Input, r.Challenge, r.Exporter = request[:], evidence[:], input[:], m.nonce[:], m.exporter[:]
	r.Policy, r.Appraisal = &record.PolicyRef{ID: az.ID, Hash: az.Hash}, &record.PolicyRef{ID: ap.ID, Hash: ap.Hash}
	return r
}

func (m *minting) attestationEntry(leaf []byte) (tlog.Entry, error) {
	c, digest := m.verified.Claims(), statement.DigestOf(leaf)
	entry := tlog.Entry{
		Leaf:   leaf,
		Once:   []tlog.Once{{Set: onceRequest, Key: requestKey(c.Initiator, c.ID), Reason: denial.RequestReplayed}},
		Guards: m.guards,
		Puts:   []tlog.Put{{Bucket: bucketAttested, Key: digest[:], Value: c.BreakGlass}},
		Blobs:  [][]byte{m.evidence, m.verified.Leaf(), m.input},
	}
	var err error
	if entry.Names, err = trails(&entry); err != nil {
		return entry, err
	}
	return entry, m.clock.raise(&entry, m.reading(m.facts.Clock()))
}

// consumeGlass checks a start by break-glass beyond what every start must pass: it is on the host that was authorized (701),
// by the gate there; it names an attestation by that host for this very authorization, or exactly the persons who have
// waived it (102).
func (i *Issuer) consumeGlass(ctx context.Context, rec *record.Record, gate gateState, permit permitState, entry *tlog.Entry) error {
	if permit.Host != gate.Host || rec.Workload != permit.Host {
		return denial.New(denial.HostMismatch, "the break-glass authorization is for another host")
	}
	if rec.Glass.Attestation != nil {
		act, found, err := i.log.Value(ctx, bucketAttested, rec.Glass.Attestation)
		if err == nil && (!found || !bytes.Equal(act, permit.Digest)) {
			err = denial.New(denial.NoEvidence, "no host has attested this for the break-glass authorization")
		}
		if err != nil {
			return err
		}
	} else {
		payload, err := i.glassPayload(ctx, permit.Digest)
		if err != nil {
			return err
		}
		var g record.BreakGlass
		if err := statement.Unmarshal(payload, &g); err != nil {
			return err
		}
		if g.Waived == nil || !slices.Equal(g.Waived, rec.Glass.Waived) {
			return denial.New(denial.NoEvidence, "the quorum has not waived attestation so")
		}
	}
	entry.Bumps = append(entry.Bumps, counterGlassUse)
	return nil
}

// BreakGlass is how often break-glass was made use of since genesis, and what is still to be reviewed.
type BreakGlass struct {
	Published uint64
	Used      uint64
	Reviewed  uint64
	Open      int // without a review
	Overdue   int // of those, more than record.ReviewWithin old: nothing more is published until they have it
}

// BreakGlass counts the uses of break-glass.
func (i *Issuer) BreakGlass(ctx context.Context) (b BreakGlass, err error) {
	for counter, into := range map[string]*uint64{counterGlass: &b.Published, counterGlassUse: &b.Used, counterReview: &b.Reviewed} {
		if *into, err = i.log.Counter(ctx, counter); err != nil {
			return b, err
		}
	}
	b.Open, b.Overdue, err = i.unreviewed(ctx, uint64(i.now().Unix()))
	return b, err
}
