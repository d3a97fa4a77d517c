package issuer

import (
	"context"

	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// Apply takes an act of the authorities: a policy, an enrolment or a revocation. It checks, in this order: the
// signatures and the threshold; the payload; what the kind demands (policies: the document compiles, its version
// rises, 402; enrolments: the id and the key are not another's, 706). Then all statements of the act and its effect
// are one transaction; an act has effect once (509). It returns the transparent statements.
func (i *Issuer) Apply(ctx context.Context, kind statement.Kind, b record.Bundle) ([][]byte, error) {
	act, err := i.authorities.Verify(b, kind)
	if err != nil {
		return nil, i.refuseStranger(denial.Of(err).At(denial.StageAct))
	}
	effect, err := i.effectOf(ctx, act)
	if err != nil {
		return nil, i.refuseAct(ctx, act, err)
	}
	digest := act.Digest()
	effect.Once = append(effect.Once, tlog.Once{Set: onceAct, Key: digest[:], Reason: denial.RequestReplayed})
	entries := make([]tlog.Entry, len(act.Leaves()))
	for n, leaf := range act.Leaves() {
		entries[n].Leaf = leaf
	}
	effect.Leaf = entries[0].Leaf
	entries[0] = effect
	done, err := i.log.Append(ctx, entries...)
	if err != nil {
		return nil, i.refuseAct(ctx, act, err)
	}
	if err := i.reload(ctx, kind); err != nil {
		return nil, err
	}
	return attachAll(act.Leaves(), done)
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

// refuseAct logs the refusal of an act that enough authorities signed.
func (i *Issuer) refuseAct(ctx context.Context, act *record.Act, err error) error {
	d := denial.Of(err).At(denial.StageAct)
	return i.refuse(ctx, &record.Record{Initiator: act.Persons()[0]}, d, nil, tlog.Entry{})
}

func (i *Issuer) effectOf(ctx context.Context, act *record.Act) (tlog.Entry, error) {
	switch act.Kind() {
	case statement.Policy:
		return i.policyEffect(ctx, act)
	case statement.Enrolment:
		return i.enrolmentEffect(ctx, act)
	case statement.Revocation:
		return i.revocationEffect(ctx, act)
	}
	return tlog.Entry{}, denial.New(denial.WrongType, "an act is a policy, an enrolment or a revocation")
}

func put(bucket string, key []byte, value any) (tlog.Put, error) {
	enc, err := statement.Marshal(value)
	return tlog.Put{Bucket: bucket, Key: key, Value: enc}, err
}

func (i *Issuer) policyEffect(ctx context.Context, act *record.Act) (tlog.Entry, error) {
	var p record.Policy
	if err := statement.Unmarshal(act.Payload(), &p); err != nil {
		return tlog.Entry{}, err
	}
	if err := p.Check(); err != nil {
		return tlog.Entry{}, err
	}
	state, err := checkPolicy(p, uint64(i.now().Unix()))
	if err != nil {
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
	if found && p.Revision <= current.Revision {
		return tlog.Entry{}, denial.New(denial.PolicyRollback, "version %d is in force, %d is not above it", current.Revision, p.Revision)
	}
	digest := act.Digest()
	state.Act = digest[:]
	row, err := put(bucketPolicy, []byte(p.Kind), state)
	return tlog.Entry{
		Puts:   []tlog.Put{row},
		Guards: []tlog.Guard{{Counter: counterPolicy, Value: version, Reason: denial.PolicyRollback}},
		Bumps:  []string{counterPolicy},
	}, err
}

// checkPolicy compiles the document and checks that the payload repeats what the document says.
func checkPolicy(p record.Policy, now uint64) (policyState, error) {
	doc, err := firmwarepolicy.Decode(p.Document)
	if err != nil {
		return policyState{}, err
	}
	if string(doc.Kind()) != string(p.Kind) || doc.ID() != p.ID || doc.Version() != p.Revision {
		return policyState{}, denial.New(denial.PolicyHashMismatch, "payload and document name different policies")
	}
	if err := doc.CheckTime(now); err != nil {
		return policyState{}, err
	}
	hash := doc.Hash()
	return policyState{ID: p.ID, Revision: p.Revision, Hash: hash[:], Document: p.Document}, nil
}

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
	// A host: its EK is approved; it is enrolled when its TPM has answered. Host and EK are bound to each other for
	// ever (K18, K20); approving the same pair again, with other labels, is allowed.
	entry := tlog.Entry{Bumps: []string{counterEnrolment}, Puts: []tlog.Put{{Bucket: bucketApproved, Key: e.Host.EK, Value: act.Payload()}}}
	var old record.Enrolment
	found, err := load(ctx, i.log, bucketApproved, e.Host.EK, &old)
	if err != nil {
		return tlog.Entry{}, err
	}
	if found && old.ID != e.ID {
		return tlog.Entry{}, denial.New(denial.IdentityConflict, "this EK is enrolled under another host id")
	}
	if !found {
		entry.Once = []tlog.Once{
			{Set: onceHost, Key: []byte(e.ID), Reason: denial.IdentityConflict},
			{Set: onceEK, Key: e.Host.EK, Reason: denial.IdentityConflict},
		}
	}
	return entry, nil
}

func (i *Issuer) initiatorEffect(ctx context.Context, act *record.Act, e *record.Enrolment) (tlog.Entry, error) {
	key := e.Initiator.Key.Thumbprint()
	digest := act.Digest()
	row, err := put(bucketInitiator, key[:], initiatorState{ID: e.ID, Kind: e.Initiator.Kind, Key: e.Initiator.Key, Enrolment: digest[:]})
	return tlog.Entry{
		Puts:  []tlog.Put{row},
		Once:  []tlog.Once{{Set: onceKey, Key: key[:], Reason: denial.IdentityConflict}},
		Bumps: []string{counterEnrolment},
	}, err
}

func (i *Issuer) revocationEffect(ctx context.Context, act *record.Act) (tlog.Entry, error) {
	var r record.Revocation
	if err := statement.Unmarshal(act.Payload(), &r); err != nil {
		return tlog.Entry{}, err
	}
	if err := r.Check(); err != nil {
		return tlog.Entry{}, err
	}
	return tlog.Entry{
		Puts:  []tlog.Put{{Bucket: bucketRevoked, Key: revokedKey(r.Cause, r.Target), Value: act.Payload()}},
		Bumps: []string{counterRevoked},
	}, nil
}
