package issuer

import (
	"context"
	"encoding/hex"

	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// Apply takes an act of the authorities: a policy, an enrolment, a revocation, a key change, a break-glass
// authorization or the review of one. It checks, in this order: the signatures and the threshold; the act is for this issuer
// (706), in time and the next about its subject (201, 202, 409; see record.Act.Follows); the payload, and what the kind demands (see
// policyEffect, enrolmentEffect, revocationEffect, keyEffect, glassEffect, reviewEffect); each opening that the act carries opens a commitment in it (see opened); the
// act has had no effect before (509). Then all statements of the
// act and its effect are one transaction. It returns the transparent statements.
//
// Authorities may have changed while the act waited for its turn: it is verified by those whom the entry before it leaves.
func (i *Issuer) Apply(ctx context.Context, kind statement.Kind, b record.Bundle) ([][]byte, error) {
	people, err := i.authorities(ctx)
	if err != nil {
		return nil, i.refuse(ctx, &record.Record{}, denial.Of(err).At(denial.StageAct), nil, nil)
	}
	act, err := people.Verify(b, kind)
	if err != nil {
		return nil, i.refuseCounted(denial.Of(err).At(denial.StageAct), tooFewSigned(b, kind, err))
	}
	openings, err := b.Openings()
	if err != nil {
		return nil, i.refuseCounted(denial.Of(err).At(denial.StageAct), false)
	}
	ctx, cancel := settled(ctx)
	defer cancel()
	i.acting.Lock()
	defer i.acting.Unlock()
	var done []tlog.Appended
	err = untilFresh(func() error {
		done, err = i.apply(ctx, people, act, openings)
		return err
	})
	if err == nil {
		return attachAll(act.Leaves(), done)
	}
	return nil, i.refuseAct(ctx, act, denial.Of(err).At(denial.StageAct))
}

// tooFewSigned reports whether what an act lacks are further signatures: the first that it has is of an authority, who may
// be told.
func tooFewSigned(b record.Bundle, kind statement.Kind, err error) bool {
	return len(b) > 0 && (denial.Is(err, record.ShortOf(kind)) || denial.Is(err, denial.DualControlMissing))
}

// authorities returns who signs acts as the log has it now.
func (i *Issuer) authorities(ctx context.Context) (*record.Authorities, error) {
	use, err := i.keys.current(ctx, i.log)
	if err != nil {
		return nil, err
	}
	return use.ring.Authorities(), nil
}

// apply logs an act, which people have verified, with its effect.
func (i *Issuer) apply(ctx context.Context, people *record.Authorities, act *record.Act, openings [][]byte) ([]tlog.Appended, error) {
	use, err := i.keys.current(ctx, i.log)
	if err != nil {
		return nil, err
	}
	if now := use.ring.Authorities(); now != people {
		if act, err = now.Verify(act.Leaves(), act.Kind()); err != nil {
			return nil, err
		}
	}
	if act.Claims().Issuer != i.genesis.Issuer {
		return nil, denial.New(denial.IdentityConflict, "the act is for another issuer")
	}
	place, err := i.placeOf(ctx, act)
	if err != nil {
		return nil, err
	}
	effect, err := i.effectOf(ctx, act)
	if err != nil {
		return nil, err
	}
	effect.Guards, effect.Bumps = append(append(effect.Guards, use.guard()), place.Guards...), append(effect.Bumps, place.Bumps...)
	if effect.Blobs, err = opened(act, openings); err != nil {
		return nil, err
	}
	digest := act.Digest()
	effect.Once = append(effect.Once, tlog.Once{Set: onceAct, Key: digest[:], Reason: denial.RequestReplayed})
	entries := make([]tlog.Entry, len(act.Leaves()))
	entries[0] = effect
	for n, leaf := range act.Leaves() {
		entries[n].Leaf = leaf
	}
	return i.append(ctx, entries...)
}

// placeOf checks that an act is in time and the next about its subject, and returns what an entry needs so that it stays so. Kinds
// that are good once by an id of their own have no order.
func (i *Issuer) placeOf(ctx context.Context, act *record.Act) (tlog.Entry, error) {
	if !act.Kind().Acts() {
		return tlog.Entry{}, nil
	}
	counter := counterOf(act.Kind(), act.Claims().Subject)
	before, err := i.log.Counter(ctx, counter)
	if err != nil {
		return tlog.Entry{}, err
	}
	return tlog.Entry{Guards: []tlog.Guard{{Counter: counter, Value: before}}, Bumps: []string{counter}}, act.Follows(before, uint64(i.now().Unix()))
}

// counterOf returns the counter of acts of a kind about a subject.
func counterOf(kind statement.Kind, subject string) string {
	return counterAct + kind.String() + "/" + subject
}

// NextAct returns the number that the next act of a kind about a subject must have.
func (i *Issuer) NextAct(ctx context.Context, kind statement.Kind, subject string) (uint64, error) {
	if !record.IsAct(kind) || !kind.Acts() {
		return 0, denial.New(denial.WrongType, "acts of kind %s have no numbers", kind)
	}
	n, err := i.log.Counter(ctx, counterOf(kind, subject))
	return n + 1, err
}

func attachAll(leaves [][]byte, done []tlog.Appended) ([][]byte, error) {
	out := make([][]byte, len(leaves))
	for n := range leaves {
		var err error
		if out[n], err = statement.Attach(leaves[n], done[n].Receipt); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// refuseAct logs the refusal of an act that enough authorities signed. One that has had its effect is public, so that
// whoever sends it again is a stranger who could fill the log: that is counted.
func (i *Issuer) refuseAct(ctx context.Context, act *record.Act, d *denial.Denial) error {
	digest := act.Digest()
	if _, applied, err := i.log.Spent(ctx, onceAct, digest[:]); err != nil || applied {
		return i.refuseCounted(d, true)
	}
	return i.refuse(ctx, &record.Record{Initiator: act.Persons()[0]}, d, nil, nil)
}

func (i *Issuer) effectOf(ctx context.Context, act *record.Act) (tlog.Entry, error) {
	switch act.Kind() {
	case statement.Policy:
		return i.policyEffect(ctx, act)
	case statement.Enrolment:
		return i.enrolmentEffect(ctx, act)
	case statement.Revocation:
		return i.revocationEffect(ctx, act)
	case statement.BreakGlass:
		return i.glassEffect(ctx, act)
	case statement.Review:
		return i.reviewEffect(ctx, act)
	case statement.KeyChange:
		return i.keyEffect(ctx, act)
	}
	return tlog.Entry{}, denial.New(denial.WrongType, "an act is a policy, an enrolment, a revocation, a key change, a break-glass authorization or its review")
}

// opened returns the openings of personal data that an act carries, to be stored beside the log. It refuses one that opens no
// commitment of the act (312, 911). An act may carry fewer than it has commitments: then the authorities keep the others.
func opened(act *record.Act, openings [][]byte) ([][]byte, error) {
	if len(openings) == 0 {
		return nil, nil
	}
	var e record.Enrolment
	if act.Kind() != statement.Enrolment {
		return nil, denial.New(denial.PayloadForm, "only an enrolment has commitments to personal data")
	}
	if err := statement.Unmarshal(act.Payload(), &e); err != nil {
		return nil, err
	}
	for _, raw := range openings {
		if _, err := e.Opens(raw); err != nil {
			return nil, err
		}
	}
	return openings, nil
}

func put(bucket string, key []byte, value any) (tlog.Put, error) {
	enc, err := statement.Marshal(value)
	return tlog.Put{Bucket: bucket, Key: key, Value: enc}, err
}

// policyEffect puts a policy in force. It checks, in this order: the payload (911, 104); the document compiles (407), is
// the one that the payload names (401) and has not expired (206); its version is above the one in force (402), unless authorities have reset that (P04); where it does not
// only narrow that one, the whole quorum has signed (409; P11).
func (i *Issuer) policyEffect(ctx context.Context, act *record.Act) (tlog.Entry, error) {
	p, doc, err := firmwarepolicy.Published(act.Payload())
	if err != nil {
		return tlog.Entry{}, err
	}
	if err := doc.CheckTime(uint64(i.now().Unix())); err != nil {
		return tlog.Entry{}, err
	}
	var current policyState
	version, err := i.log.Counter(ctx, counterPolicy)
	if err != nil {
		return tlog.Entry{}, err
	}
	found, err := load(ctx, i.log, bucketPolicy, []byte(p.Kind), &current)
	if err != nil {
		return tlog.Entry{}, err
	}
	if found && !current.Reset && p.Revision <= current.Revision {
		return tlog.Entry{}, denial.New(denial.PolicyRollback, "version %d is in force, %d is not above it", current.Revision, p.Revision)
	}
	if err := i.mayWiden(ctx, act, &current, doc); err != nil {
		return tlog.Entry{}, err
	}
	digest, hash := act.Digest(), doc.Hash()
	state := policyState{ID: p.ID, Revision: p.Revision, Hash: hash[:], Document: p.Document, Act: digest[:]}
	row, err := put(bucketPolicy, []byte(p.Kind), state)
	return tlog.Entry{
		Puts:   []tlog.Put{row, {Bucket: bucketPublished, Key: []byte(hex.EncodeToString(state.Hash)), Value: []byte(p.ID)}},
		Guards: []tlog.Guard{{Counter: counterPolicy, Value: version}},
		Bumps:  []string{counterPolicy},
	}, err
}

// mayWiden refuses an act with fewer signatures than the quorum if its policy does not only narrow the one in force.
func (i *Issuer) mayWiden(ctx context.Context, act *record.Act, current *policyState, new *firmwarepolicy.Document) error {
	var old *firmwarepolicy.Document
	if current.Document != nil {
		var err error
		if old, err = firmwarepolicy.Decode(current.Document); err != nil {
			return err
		}
	}
	if c := firmwarepolicy.Diff(old, new); c.Widens() {
		people, err := i.authorities(ctx)
		if err != nil {
			return err
		}
		return people.CheckQuorum(act, c.Why())
	}
	return nil
}

// enrolmentEffect registers an initiator, or approves the EK of a host, which is enrolled when its TPM has answered.
// Host and EK are bound to each other for ever (706; K18 to K20). Approving the same pair again, with other labels or
// another gate, is allowed: the host is then enrolled no longer until its TPM has answered anew. A host that was held is then
// held no more, and its TPM's counters begin where they are.
func (i *Issuer) enrolmentEffect(ctx context.Context, act *record.Act) (tlog.Entry, error) {
	var e record.Enrolment
	if err := statement.Unmarshal(act.Payload(), &e); err != nil {
		return tlog.Entry{}, err
	}
	if err := e.Check(); err != nil {
		return tlog.Entry{}, err
	}
	if e.Initiator != nil {
		return i.initiatorEffect(ctx, act, &e)
	}
	entry := tlog.Entry{Puts: []tlog.Put{{Bucket: bucketApproved, Key: e.Host.EK, Value: act.Payload()}}}
	var old record.Enrolment
	found, err := load(ctx, i.log, bucketApproved, e.Host.EK, &old)
	switch {
	case err != nil:
		return tlog.Entry{}, err
	case found && old.ID != e.ID:
		return tlog.Entry{}, denial.New(denial.IdentityConflict, "this EK is enrolled under another host id")
	case found:
		entry.Bumps = []string{counterEnrolment}
		entry.Puts = append(entry.Puts, tlog.Put{Bucket: bucketHost, Key: []byte(e.ID)})
		if err := i.release(ctx, &entry, e.ID, e.Host.EK); err != nil {
			return tlog.Entry{}, err
		}
	default:
		entry.Once = []tlog.Once{
			{Set: onceHost, Key: []byte(e.ID), Reason: denial.IdentityConflict},
			{Set: onceEK, Key: e.Host.EK, Reason: denial.IdentityConflict},
		}
	}
	return entry, nil
}

// release has the entry end the hold of a host, if it is held: what was seen of its TPM counts no more.
func (i *Issuer) release(ctx context.Context, entry *tlog.Entry, host string, ek []byte) error {
	version, err := i.log.Counter(ctx, counterRevoked)
	if err != nil {
		return err
	}
	c, err := i.readClock(ctx, ek)
	if err != nil {
		return err
	}
	_, held, err := i.log.Value(ctx, bucketHeld, []byte(host))
	if err != nil {
		return err
	}
	entry.Guards = append(entry.Guards, tlog.Guard{Counter: counterRevoked, Value: version})
	if !held {
		return nil
	}
	entry.Guards = append(entry.Guards, tlog.Guard{Counter: c.counter(), Value: c.version})
	entry.Puts = append(entry.Puts, tlog.Put{Bucket: bucketHeld, Key: []byte(host)}, tlog.Put{Bucket: bucketHighWater, Key: ek})
	entry.Bumps = append(entry.Bumps, counterRevoked, c.counter())
	return nil
}

// initiatorEffect registers a key of an initiator. Another one may follow, but of the same kind (706): rules of policies, and
// break-glass, ask what an initiator is, and there must be one answer.
func (i *Issuer) initiatorEffect(ctx context.Context, act *record.Act, e *record.Enrolment) (tlog.Entry, error) {
	kind, found, err := i.initiatorKind(ctx, e.ID)
	switch {
	case err != nil:
		return tlog.Entry{}, err
	case found && kind != e.Initiator.Kind:
		return tlog.Entry{}, denial.New(denial.IdentityConflict, "the initiator is enrolled as another kind, %s", kind)
	}
	key := e.Initiator.Key.Thumbprint()
	digest := act.Digest()
	row, err := put(bucketInitiator, key[:], initiatorState{ID: e.ID, Kind: e.Initiator.Kind, Key: e.Initiator.Key, Enrolment: digest[:]})
	return tlog.Entry{
		Puts: []tlog.Put{row},
		Once: []tlog.Once{{Set: onceKey, Key: key[:], Reason: denial.IdentityConflict}},
	}, err
}

// revocationEffect revokes. It checks, in this order: the payload (911, 104); the log knows what is revoked, so that a
// slip of the pen does not pass for a revocation (106 for a host or an initiator, 101 for an artifact, 108 for a policy).
func (i *Issuer) revocationEffect(ctx context.Context, act *record.Act) (tlog.Entry, error) {
	var r record.Revocation
	if err := statement.Unmarshal(act.Payload(), &r); err != nil {
		return tlog.Entry{}, err
	}
	if err := r.Check(); err != nil {
		return tlog.Entry{}, err
	}
	known, err := i.knows(ctx, r.Cause, r.Target)
	if err != nil {
		return tlog.Entry{}, err
	}
	if !known {
		return tlog.Entry{}, denial.New(unknown[r.Cause], "the log knows no such %s", r.Cause).
			Try("See that it is named exactly as the log has it: nothing else can be revoked.")
	}
	return tlog.Entry{
		Puts:  []tlog.Put{{Bucket: bucketRevoked, Key: revokedKey(r.Cause, r.Target), Value: act.Payload()}},
		Bumps: []string{counterRevoked},
	}, nil
}

// unknown is why a revocation of something that the log does not know is refused.
var unknown = map[record.Cause]denial.Reason{record.CauseArtifact: denial.NoArtifact, record.CauseHost: denial.NotEnrolled,
	record.CauseInitiator: denial.NotEnrolled, record.CausePolicy: denial.NoActivePolicy}

// knows reports whether the log holds what a revocation names.
func (i *Issuer) knows(ctx context.Context, c record.Cause, target string) (found bool, err error) {
	switch c {
	case record.CauseArtifact:
		cti, hexErr := hex.DecodeString(target)
		if hexErr != nil || hex.EncodeToString(cti) != target {
			return false, nil
		}
		_, found, err = i.log.Value(ctx, bucketPermitOf, cti)
	case record.CauseHost:
		_, found, err = i.log.Spent(ctx, onceHost, []byte(target))
	case record.CausePolicy:
		_, found, err = i.log.Value(ctx, bucketPublished, []byte(target))
	case record.CauseInitiator:
		err = i.log.Each(ctx, bucketInitiator, nil, func(_, value []byte) error {
			var s initiatorState
			if err := statement.Unmarshal(value, &s); err != nil {
				return err
			}
			found = found || s.ID == target
			return nil
		})
	}
	return found, err
}
