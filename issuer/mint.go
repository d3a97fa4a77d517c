package issuer

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
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

// MaxTries is how often a request is decided anew because a policy or a revocation changed while it was.
const MaxTries = 4

// Challenge gives out a challenge of the connection, and what the appraisal policy in force wants quoted.
func (i *Issuer) Challenge(_ context.Context, conn *Connection) (*wire.Challenge, error) {
	force, err := i.policies.current()
	if err != nil {
		return nil, i.refuseStranger(denial.Of(err))
	}
	n, err := conn.challengeAt(i.now())
	if err != nil {
		return nil, i.refuseStranger(denial.Of(err))
	}
	want := force.evidence.Selection()
	return &wire.Challenge{Challenge: n[:], TTL: uint64(ChallengeLife.Seconds()), Bank: want.Bank, Quote: int64s(want.PCRs),
		Bind: int64s(force.evidence.Bind()), Policy: force.states[record.Appraisal].Hash}, nil
}

func int64s(in []int) []int64 {
	out := make([]int64, len(in))
	for i, v := range in {
		out[i] = int64(v)
	}
	return out
}

// Minted is an artifact as it leaves: with its receipt.
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
	initiator  initiatorState
	verified   *artifact.Request // not nil once the initiator's signature has verified
	facts      *attest.Facts
	challenged time.Time // when the challenge was given out
	quoted     bool      // the enrolled AK's signature has verified
	input      []byte
	force      inForce
	revoked    uint64 // counterRevoked that the decision was made on
	permit     decision.Permit
	minted     *Minted
}

// Mint answers a request with an artifact or a *Refusal. The order of its checks is denial.IssuanceOrder; this is the
// only user of the artifact key. The artifact leaves with its receipt, after the transaction that consumed the request
// id and compared the versions decided on.
func (i *Issuer) Mint(ctx context.Context, conn *Connection, exporter [32]byte, request, evidence []byte) (*Minted, error) {
	conn.minting.Lock()
	defer conn.minting.Unlock()
	m := &minting{Issuer: i, conn: conn, exporter: exporter, run: denial.IssuanceOrder().Begin(), request: request, evidence: evidence}
	if err := m.steps(ctx); err != nil {
		return nil, m.refused(ctx, denial.Of(err))
	}
	if err := m.run.Allowed(); err != nil {
		return nil, m.refused(ctx, denial.Of(err))
	}
	i.minted.Add(1)
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
		{m.challenge, []denial.Stage{denial.StageChallenge}},
		{m.attest, []denial.Stage{denial.StageQuote, denial.StageBinding, denial.StageFacts}},
		{func() error { return m.decideAndCommit(ctx) }, []denial.Stage{denial.StageRevocation, denial.StageAppraisal,
			denial.StageAuthorization, denial.StageTransaction, denial.StageMint}},
	}
	for _, s := range steps {
		if err := m.run.Check(s.check, s.stages...); err != nil {
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
	m.decoded, err = attest.DecodeEvidence(m.evidence)
	return err
}

// caller finds the host by the AK that the evidence names and the initiator by the key that signed the request, and
// verifies the request.
func (m *minting) caller(ctx context.Context) error {
	name, err := m.decoded.AKName()
	if err != nil {
		return err
	}
	id, found, err := m.log.Value(ctx, bucketAK, name)
	if err != nil {
		return err
	}
	if found {
		found, err = load(ctx, m.log, bucketHost, id, &m.host)
	}
	if err != nil {
		return err
	}
	if !found || string(m.host.AKName) != string(name) {
		return denial.New(denial.NotEnrolled, "no enrolled host has this AK")
	}
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
	verified, err := artifact.VerifyRequest(m.signed, m.initiator.Key, m.now())
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
	}
	return nil
}

func (m *minting) challenge() (err error) {
	if m.force, err = m.policies.current(); err != nil {
		return err
	}
	n, err := m.decoded.Challenge()
	if err != nil {
		return err
	}
	m.challenged, err = m.conn.find(n, m.now())
	return err
}

// attest verifies the evidence. The challenge is spent as soon as the AK's signature over it has verified.
func (m *minting) attest() error {
	n, err := m.decoded.Challenge()
	if err != nil {
		return err
	}
	m.facts, err = attest.Verify(m.decoded, attest.Want{AK: m.host.AK, Challenge: n, Request: m.verified.Digest(),
		Exporter: m.exporter, Selection: m.force.evidence.Selection(), Bind: m.force.evidence.Bind()})
	if m.quoted = err == nil || denial.Of(err).Stage > denial.StageQuote; m.quoted {
		m.conn.spend(n)
	}
	return err
}

// decideAndCommit decides, signs and commits, and does so again if a policy or a revocation came in between (F23).
func (m *minting) decideAndCommit(ctx context.Context) error {
	for range MaxTries {
		in, err := m.newInput(ctx)
		if err != nil {
			return denial.Of(err).At(denial.StageRevocation)
		}
		d := decision.Decide(in, m.force.appraisal, m.force.authorization)
		if m.input, err = in.Encode(); err != nil {
			return err
		}
		if m.permit, err = d.Permit(); err != nil {
			return err
		}
		err = m.commit(ctx)
		if !errors.Is(err, tlog.ErrStale) {
			return err
		}
		if m.force, err = m.policies.current(); err != nil {
			return err
		}
	}
	return denial.New(denial.Overloaded, "policies changed faster than the request could be decided").At(denial.StageTransaction)
}

// newInput reads the state that the decision depends on. The counters are read first: what is read after them is at
// least as new, and the transaction compares them.
func (m *minting) newInput(ctx context.Context) (*decision.Input, error) {
	var err error
	if m.revoked, err = m.log.Counter(ctx, counterRevoked); err != nil {
		return nil, err
	}
	in := &decision.Input{
		Issuer: m.genesis.Issuer, Time: uint64(m.now().Unix()), Exporter: m.exporter[:], ID: make([]byte, 16), Revoked: []uint64{},
		Initiator:     decision.Initiator{ID: m.initiator.ID, Kind: uint64(m.initiator.Kind), Enrolment: m.initiator.Enrolment},
		Appraisal:     policyName(m.force.states[record.Appraisal]),
		Authorization: policyName(m.force.states[record.Authorization]),
		StatusIndex:   m.indices.take(),
	}
	if _, err := rand.Read(in.ID); err != nil {
		return nil, fmt.Errorf("making artifact id: %w", err)
	}
	n, err := m.decoded.Challenge()
	if err != nil {
		return nil, err
	}
	in.Challenge, in.Challenged = n[:], uint64(m.challenged.Unix())
	in.StatusURI, in.StatusIndex = m.StatusURI(in.StatusIndex/ListSize), in.StatusIndex%ListSize
	key := m.initiator.Key.Thumbprint()
	in.Initiator.Key = key[:]
	if in.Host, err = m.hostOf(); err != nil {
		return nil, err
	}
	in.Attach(m.facts, m.verified)
	if err := m.revocationView(ctx, in); err != nil {
		return nil, err
	}
	var seen attest.Clock
	found, err := load(ctx, m.log, bucketHighWater, m.host.AKName, &seen)
	if found {
		in.HighWater = &seen
	}
	return in, err
}

func (m *minting) hostOf() (decision.Host, error) {
	thumb, err := attest.AKThumbprint(m.host.AK)
	if err != nil {
		return decision.Host{}, err
	}
	return decision.Host{ID: m.host.ID, Labels: m.host.Labels, AK: thumb[:], EK: m.host.EK, Enrolment: m.host.Enrolment}, nil
}

func policyName(s policyState) decision.Policy {
	return decision.Policy{ID: s.ID, Version: s.Revision, Hash: s.Hash}
}

func (m *minting) revocationView(ctx context.Context, in *decision.Input) error {
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
			return err
		}
		if c := uint64(target.cause); revoked && !slices.Contains(in.Revoked, c) {
			in.Revoked = append(in.Revoked, c)
		}
	}
	return nil
}

// commit signs the artifact and appends it in one transaction with all that it changes.
func (m *minting) commit(ctx context.Context) error {
	claims := m.permit.Claims()
	leaf, err := artifact.Sign(ctx, m.artifact, claims)
	if err != nil {
		return denial.Of(err).At(denial.StageMint)
	}
	entry, err := m.entry(ctx, leaf, claims)
	if err != nil {
		return err
	}
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
	m.minted = &Minted{Artifact: raw, Index: done[0].Index}
	return err
}

func (m *minting) entry(ctx context.Context, leaf []byte, c artifact.Claims) (tlog.Entry, error) {
	index, err := m.indexOf(c)
	if err != nil {
		return tlog.Entry{}, err
	}
	digest := statement.DigestOf(leaf)
	state := permitState{CTI: c.ID, Host: m.host.ID, Initiator: m.initiator.ID, Expires: c.Expires, Uses: c.Limits.MaxUses(), Gate: c.Audience,
		Digest: digest[:], Policies: []string{hex.EncodeToString(c.Policy.Appraisal.Hash.Value), hex.EncodeToString(c.Policy.Hash.Value)}}
	permit, err := put(bucketPermit, indexKey(index), state)
	if err != nil {
		return tlog.Entry{}, err
	}
	clock, err := m.highWater(ctx)
	if err != nil {
		return tlog.Entry{}, err
	}
	r := m.verified.Claims()
	return tlog.Entry{
		Leaf: leaf,
		Once: []tlog.Once{
			{Set: onceRequest, Key: requestKey(r.Initiator, r.ID), Reason: denial.RequestReplayed},
			{Set: onceStatus, Key: indexKey(index), Reason: denial.Internal},
		},
		Guards: []tlog.Guard{{Counter: counterPolicy, Value: m.force.version}, {Counter: counterRevoked, Value: m.revoked}},
		Puts:   append(clock, permit, tlog.Put{Bucket: bucketPermitOf, Key: c.ID, Value: indexKey(index)}),
		Blobs:  [][]byte{m.evidence, m.request, m.input},
	}, nil
}

// indexOf returns the global status index of the claims.
func (m *minting) indexOf(c artifact.Claims) (uint64, error) {
	var list uint64
	if _, err := fmt.Sscanf(c.Status.List.URI, m.base+"/v1/status/%d", &list); err != nil {
		return 0, fmt.Errorf("reading status list number: %w", err)
	}
	return list*ListSize + c.Status.List.Index, nil
}

// highWater raises the furthest clock seen of the AK.
func (m *minting) highWater(ctx context.Context) ([]tlog.Put, error) {
	if m.facts == nil {
		return nil, nil
	}
	var seen attest.Clock
	found, err := load(ctx, m.log, bucketHighWater, m.host.AKName, &seen)
	if err != nil {
		return nil, err
	}
	now := m.facts.Claims().Clock
	if found {
		now = decision.Later(now, &seen)
	}
	row, err := put(bucketHighWater, m.host.AKName, now)
	return []tlog.Put{row}, err
}

// refused answers a denial: logged if the AK's or the initiator's signature has verified, counted otherwise.
func (m *minting) refused(ctx context.Context, d *denial.Denial) error {
	if m.verified == nil && !m.quoted {
		return m.refuseStranger(d)
	}
	about := &record.Record{Workload: m.host.ID}
	extra := tlog.Entry{}
	if m.verified != nil {
		c, digest := m.verified.Claims(), statement.DigestOf(m.request)
		about.RequestID, about.Initiator, about.Request = c.ID, c.Initiator, digest[:]
		extra.Blobs = append(extra.Blobs, m.request)
	}
	if m.quoted {
		digest := m.decoded.Digest()
		about.Evidence, about.Exporter = digest[:], m.exporter[:]
		if n, err := m.decoded.Challenge(); err == nil {
			about.Challenge = n[:]
		}
		extra.Blobs = append(extra.Blobs, m.evidence)
	}
	if m.input != nil {
		digest := statement.DigestOf(m.input)
		about.Input = digest[:]
		extra.Blobs = append(extra.Blobs, m.input)
	}
	if s, ok := m.force.states[record.Authorization]; ok {
		about.Policy = &record.PolicyRef{ID: s.ID, Hash: s.Hash}
	}
	if s, ok := m.force.states[record.Appraisal]; ok {
		about.Appraisal = &record.PolicyRef{ID: s.ID, Hash: s.Hash}
	}
	if clock, err := m.highWater(ctx); err == nil {
		extra.Puts = clock
	}
	return m.refuse(ctx, about, d, m.run.States(), extra)
}
