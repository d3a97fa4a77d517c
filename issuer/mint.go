package issuer

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// Challenge gives out a challenge of the connection, and what the appraisal policy in force wants quoted.
func (i *Issuer) Challenge(ctx context.Context, conn *Connection) (*wire.Challenge, error) {
	force, err := i.policies.current(ctx, i.log)
	if err != nil {
		return nil, i.refuseStranger(err)
	}
	n, err := conn.challengeAt(i.now())
	if err != nil {
		return nil, i.refuseStranger(err)
	}
	want := force.evidence.Selection()
	return &wire.Challenge{Challenge: n[:], TTL: min(uint64(ChallengeLife.Seconds()), force.evidence.EvidenceAge()), Bank: want.Bank, Quote: int64s(want.PCRs),
		Bind: int64s(force.evidence.Bind()), Policy: force.states[record.Appraisal].Hash, Audit: force.evidence.Audit()}, nil
}

func int64s(in []int) []int64 {
	out := make([]int64, len(in))
	for i, v := range in {
		out[i] = int64(v)
	}
	return out
}

// Minted is what leaves for a request, with its receipt: an artifact, or the attestation record for a break-glass
// authorization.
type Minted struct {
	Artifact []byte
	Index    uint64 // of its leaf
}

// minting is one request on its way through the issuance order.
type minting struct {
	*Issuer
	conn       *Connection
	exporter   [32]byte
	run        *denial.Run
	request    []byte // as submitted
	evidence   []byte
	decoded    *attest.Evidence
	signed     *artifact.UnverifiedRequest
	host       hostState
	enrolment  uint64 // counterEnrolment that host was read under
	initiator  initiatorState
	asked      *artifact.SignedRequest // not nil once the initiator's signature has verified
	verified   *artifact.Request       // not nil once what it asks for is well-formed and in time
	throttled  bool
	facts      *attest.Facts
	nonce      attest.Nonce // challenge that the evidence names
	challenged time.Time    // when it was given out
	arrived    time.Time    // when the evidence came
	quoted     bool         // the enrolled AK's signature has verified
	force      inForce
	input      []byte // canonical, of the last decision
	index      uint64 // status index of the last decision
	clock      clock
	guards     []tlog.Guard     // what the last decision was made on
	key        statement.Signer // that signs the answer to the last decision
	minted     *Minted
	glass      bool // an attestation for a break-glass authorization is asked for, and no artifact
}

// Mint answers a request with an artifact or a *Refusal. The order of its checks is denial.IssuanceOrder; this is the
// only user of the artifact key. The artifact leaves with its receipt, after the transaction that consumed the request
// id and compared the versions decided on.
func (i *Issuer) Mint(ctx context.Context, conn *Connection, exporter [32]byte, request, evidence []byte) (*Minted, error) {
	m := &minting{Issuer: i, conn: conn, exporter: exporter, run: denial.IssuanceOrder().Begin(), request: request, evidence: evidence}
	return m.pass(ctx)
}

// Attest answers a request that names a break-glass authorization with a record of what the host has proved, or a *Refusal.
// All checks are those of Mint, but that people have authorized it in place of the policy's rules (see decision.Decide). No
// artifact comes of it, and the artifact key is not used.
func (i *Issuer) Attest(ctx context.Context, conn *Connection, exporter [32]byte, request, evidence []byte) (*Minted, error) {
	m := &minting{Issuer: i, conn: conn, exporter: exporter, run: denial.IssuanceOrder().Begin(), request: request, evidence: evidence, glass: true}
	return m.pass(ctx)
}

// pass takes a request through all checks.
func (m *minting) pass(ctx context.Context) (*Minted, error) {
	m.conn.minting.Lock()
	defer m.conn.minting.Unlock()
	m.arrived = m.now()
	err := m.steps(ctx)
	if err == nil {
		err = m.run.Allowed()
	}
	if err != nil {
		return nil, m.refused(ctx, denial.Of(err))
	}
	if !m.glass {
		m.Issuer.minted.Add(1)
	}
	return m.minted, nil
}

func (m *minting) steps(ctx context.Context) error {
	steps := []struct {
		check  func() error
		stages []denial.Stage
	}{
		{m.limits, []denial.Stage{denial.StageLimits}},
		{m.decode, []denial.Stage{denial.StageDecode}},
		{func() error { return m.caller(ctx) }, []denial.Stage{denial.StageCaller}},
		{func() error { return m.challenge(ctx) }, []denial.Stage{denial.StageChallenge}},
		{m.attest, []denial.Stage{denial.StageQuote, denial.StageBinding, denial.StageFacts}},
		{func() error { return m.decideAndCommit(ctx) }, []denial.Stage{denial.StageRevocation, denial.StageAppraisal,
			denial.StageAuthorization, denial.StageTransaction, denial.StageMint}},
	}
	for _, s := range steps {
		present := func() error {
			if ctx.Err() != nil {
				return denial.New(denial.Internal, "the caller is gone")
			}
			return s.check()
		}
		if err := m.run.Check(present, s.stages...); err != nil {
			return err
		}
	}
	return nil
}

func (m *minting) limits() error {
	if len(m.evidence) > attest.MaxEvidence {
		return denial.New(denial.RequestLimit, "evidence has at most %d bytes", attest.MaxEvidence)
	}
	return nil
}

func (m *minting) decode() (err error) {
	if m.signed, err = artifact.DecodeRequest(m.request); err != nil {
		return err
	}
	if m.decoded, err = attest.DecodeEvidence(m.evidence); err != nil {
		return err
	}
	m.nonce, err = m.decoded.Challenge()
	return err
}

// caller finds the host by the AK that the evidence names (106) and the initiator by the key that signed the request
// (305), that it signed (3xx), that it does not come too often for this host (907), what it asks for (see
// artifact.SignedRequest.Check), that it is by this initiator (706), for this host (701) and of this epoch of the log (509).
func (m *minting) caller(ctx context.Context) error {
	if err := m.findHost(ctx); err != nil {
		return err
	}
	var err error
	kid, ok := m.signed.KeyID()
	if ok {
		ok, err = load(ctx, m.log, bucketInitiator, kid[:], &m.initiator)
	}
	if err != nil {
		return err
	}
	if !ok {
		return denial.New(denial.KeyUnknown, "no registered initiator has this key")
	}
	if m.asked, err = artifact.AuthenticateRequest(m.signed, m.initiator.Key); err != nil {
		return err
	}
	// An initiator is held back for each host that it names: nobody can use up what another may ask.
	if m.throttled = !m.rates.admit(string(kid[:])+string(m.host.AKName), m.now()); m.throttled {
		return denial.New(denial.Overloaded, "too many requests by this initiator for this host")
	}
	verified, err := m.asked.Check(m.now())
	if err != nil {
		return err
	}
	m.verified = verified
	c := verified.Claims()
	switch {
	case c.Initiator != m.initiator.ID:
		return denial.New(denial.IdentityConflict, "the key belongs to another initiator")
	case c.Host != m.host.ID:
		return denial.New(denial.HostMismatch, "the request is for another host than the AK's")
	case c.IssuedAt <= m.since.Void:
		return denial.New(denial.RequestReplayed, "the log was restored since the request was signed: whether it was answered before is not known any more")
	case m.glass != (c.BreakGlass != nil):
		return denial.New(denial.WrongType, "a request for an artifact names no break-glass authorization, one for an attestation does")
	}
	return nil
}

// findHost reads the host that has the AK which the evidence names, its counter first.
func (m *minting) findHost(ctx context.Context) error {
	name, err := m.decoded.AKName()
	if err == nil {
		m.enrolment, err = m.log.Counter(ctx, counterEnrolment)
	}
	if err != nil {
		return err
	}
	var h hostState
	id, found, err := m.log.Value(ctx, bucketAK, name)
	if found {
		found, err = load(ctx, m.log, bucketHost, id, &h)
	}
	switch {
	case err != nil:
		return err
	case !found || !bytes.Equal(h.AKName, name):
		return denial.New(denial.NotEnrolled, "no enrolled host has this AK")
	}
	m.host = h
	return nil
}

func (m *minting) challenge(ctx context.Context) (err error) {
	if m.force, err = m.policies.current(ctx, m.log); err != nil {
		return err
	}
	m.challenged, err = m.conn.find(m.nonce, m.now())
	return err
}

// attest verifies the evidence. The challenge is spent as soon as the AK's signature over it has verified.
func (m *minting) attest() (err error) {
	m.facts, err = attest.Verify(m.decoded, attest.Want{AK: m.host.AK, Challenge: m.nonce, Request: m.verified.Digest(),
		Exporter: m.exporter, Selection: m.force.evidence.Selection(), Bind: m.force.evidence.Bind(),
		Audit: m.force.evidence.Audit(), IMA: m.force.evidence.IMA(), Logs: m.logs})
	if m.quoted = err == nil || denial.Of(err).Stage > denial.StageQuote; m.quoted {
		m.conn.spend(m.nonce)
	}
	return err
}

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
		Digest: digest[:], Policies: []string{hex.EncodeToString(c.Policy.Appraisal.Hash.Value), hex.EncodeToString(c.Policy.Hash.Value)}})
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
