package issuer

import (
	"bytes"
	"context"
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
	conn        *Connection
	exporter    [32]byte
	run         *denial.Run
	request     []byte // as submitted
	evidence    []byte
	delegations [][]byte // as submitted, one for each parent that the request names
	decoded     *attest.Evidence
	signed      *artifact.UnverifiedRequest
	host        hostState
	enrolment   uint64 // counterEnrolment that host was read under
	initiator   initiatorState
	asked       *artifact.SignedRequest // not nil once the initiator's signature has verified
	verified    *artifact.Request       // not nil once what it asks for is well-formed and in time
	throttled   bool
	facts       *attest.Facts
	nonce       attest.Nonce // challenge that the evidence names
	challenged  time.Time    // when it was given out
	arrived     time.Time    // when the evidence came
	quoted      bool         // the enrolled AK's signature has verified
	force       inForce
	input       []byte // canonical, of the last decision
	index       uint64 // status index of the last decision
	clock       clock
	guards      []tlog.Guard      // what the last decision was made on
	parents     []decision.Parent // of the last decision
	ancestors   [][]byte          // ctis of all that the answer to it would descend from
	key         statement.Signer  // that signs the answer to the last decision
	minted      *Minted
	glass       bool // an attestation for a break-glass authorization is asked for, and no artifact
}

// Mint answers a request with an artifact or a *Refusal. The order of its checks is denial.IssuanceOrder; this is the
// only user of the artifact key. The artifact leaves with its receipt, after the transaction that consumed the request
// id and compared the versions decided on. A request that names parents comes with a delegation of each, in their order.
func (i *Issuer) Mint(ctx context.Context, conn *Connection, exporter [32]byte, request, evidence []byte, delegations ...[]byte) (*Minted, error) {
	m := &minting{Issuer: i, conn: conn, exporter: exporter, run: denial.IssuanceOrder().Begin(), request: request, evidence: evidence, delegations: delegations}
	return m.pass(ctx)
}

// Attest answers a request that names a break-glass authorization with a record of what the host has proved, or a *Refusal.
// All checks are those of Mint, but that people have authorized it in place of the policy's rules (see decision.Decide). No
// artifact comes of it, and the artifact key is not used.
func (i *Issuer) Attest(ctx context.Context, conn *Connection, exporter [32]byte, request, evidence []byte, delegations ...[]byte) (*Minted, error) {
	m := &minting{Issuer: i, conn: conn, exporter: exporter, run: denial.IssuanceOrder().Begin(), request: request, evidence: evidence, delegations: delegations, glass: true}
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
// artifact.SignedRequest.Check), that it is by this initiator (706), for this host (701), of this epoch of the log (509), and comes with
// delegations that decode (308 to 313), none too many (327).
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
	return m.bareDelegations()
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
		Audit: m.force.evidence.Audit(), IMA: m.force.evidence.IMA(), Known: m.known})
	if m.quoted = err == nil || denial.Of(err).Stage > denial.StageQuote; m.quoted {
		m.conn.spend(m.nonce)
	}
	return err
}
