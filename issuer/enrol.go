package issuer

import (
	"context"
	"fmt"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// BeginEnrolment checks an enrolment request and returns the credential that only the TPM with the EK can open for
// the AK. It checks, in this order: the request decodes; authorities have approved the EK (106, F25); the host is not
// revoked; anchors, if there are any, are in force, unless authorities vouch for the EK (206, 804); then all of
// attest.CheckEnrolment with the TPM vendors that genesis and anchors name. The pending state lives on the connection and nowhere else (K04).
func (i *Issuer) BeginEnrolment(ctx context.Context, conn *Connection, raw []byte) (*attest.Credential, error) {
	cred, err := i.beginEnrolment(ctx, conn, raw)
	if err != nil {
		return nil, i.refuseStranger(denial.Of(err).At(denial.StageEnrolment))
	}
	return cred, nil
}

func (i *Issuer) beginEnrolment(ctx context.Context, conn *Connection, raw []byte) (*attest.Credential, error) {
	req, err := attest.DecodeEnrolRequest(raw)
	if err != nil {
		return nil, err
	}
	ek, err := req.EKDigest()
	if err != nil {
		return nil, err
	}
	approved, act, err := i.approval(ctx, ek)
	if err != nil {
		return nil, err
	}
	v, err := i.vendorsFor(ctx, approved)
	if err != nil {
		return nil, err
	}
	candidate, err := attest.CheckEnrolment(req, attest.EnrolOptions{
		EKDigest: ek, Roots: v.roots, Rules: v.rules, Now: i.now(), AllowListed: approved.Host.Listed,
	})
	if err != nil {
		return nil, err
	}
	a := &activation{secret: [32]byte(random(32)), until: i.now().Add(ChallengeLife), candidate: candidate, request: raw, act: act, vendors: v}
	cred, err := candidate.MakeCredential(a.secret)
	if err != nil {
		return nil, err
	}
	conn.setPending(a)
	return &cred, nil
}

// approval returns the authorities' enrolment of an EK whose host is not revoked, and the digest of its payload.
func (i *Issuer) approval(ctx context.Context, ek [32]byte) (*record.Enrolment, statement.Digest, error) {
	var act statement.Digest
	payload, found, err := i.log.Value(ctx, bucketApproved, ek[:])
	if err == nil && !found {
		err = denial.New(denial.NotEnrolled, "no authority has enrolled this EK")
	}
	if err != nil {
		return nil, act, err
	}
	var e record.Enrolment
	if err := statement.Unmarshal(payload, &e); err != nil {
		return nil, act, fmt.Errorf("reading %s row: %w", bucketApproved, err)
	}
	return &e, statement.DigestOf(payload), i.notRevoked(ctx, record.CauseHost, e.ID)
}

// FinishEnrolment takes the opened secret, once (K03). If it is right, the AK is bound to the host that the authorities
// named, if they have not named it anew meanwhile (106) or revoked it (803), or changed the anchors (321, 206, 804); the record of it, with its receipt, is the
// answer.
func (i *Issuer) FinishEnrolment(ctx context.Context, conn *Connection, secret []byte) ([]byte, error) {
	a, err := conn.activate(secret, i.now())
	if err != nil {
		return nil, i.refuseStranger(denial.Of(err).At(denial.StageEnrolment))
	}
	ctx, cancel := settled(ctx)
	defer cancel()
	var entry tlog.Entry
	var done []tlog.Appended
	err = untilFresh(func() (err error) {
		if entry, err = i.enrolment(ctx, a); err != nil {
			return err
		}
		done, err = i.append(ctx, entry)
		return err
	})
	if err == nil {
		return statement.Attach(entry.Leaf, done[0].Receipt)
	}
	return nil, i.refuseStranger(denial.Of(err).At(denial.StageEnrolment))
}

// enrolment makes the entry that binds an activated AK to its host.
func (i *Issuer) enrolment(ctx context.Context, a *activation) (tlog.Entry, error) {
	entry := tlog.Entry{Keeps: [][]byte{a.request}} // as long as the host's evidence is verified again
	for _, name := range []string{counterRevoked, counterEnrolment} {
		value, err := i.log.Counter(ctx, name)
		if err != nil {
			return entry, err
		}
		entry.Guards = append(entry.Guards, tlog.Guard{Counter: name, Value: value})
	}
	e, act, err := i.approval(ctx, a.candidate.EKDigest())
	if err != nil {
		return entry, err
	}
	if act != a.act {
		return entry, denial.New(denial.NotEnrolled, "authorities have enrolled this EK anew meanwhile")
	}
	v, err := i.vendorsFor(ctx, e)
	if err != nil {
		return entry, err
	}
	if err := v.same(a.vendors); err != nil {
		return entry, err
	}
	entry.Guards = append(entry.Guards, tlog.Guard{Counter: counterPolicy, Value: v.version})
	rec, err := i.enrolmentRecord(ctx, a, e, &entry)
	if err != nil {
		return entry, err
	}
	if err := i.bindHost(ctx, &entry, a, e, rec); err != nil {
		return entry, err
	}
	return entry, i.keepChain(ctx, &entry, rec.GateKey, e)
}

func (i *Issuer) enrolmentRecord(ctx context.Context, a *activation, e *record.Enrolment, entry *tlog.Entry) (*record.Enrolled, error) {
	ek, request := a.candidate.EKDigest(), statement.DigestOf(a.request)
	rec := i.newRecord()
	rec.Event = record.EventEnrol
	rec.Enrolled = &record.Enrolled{Host: e.ID, AK: a.candidate.AKPublic(), EK: ek[:], Method: string(a.candidate.Method()),
		Enrolment: a.act[:], Request: request[:]}
	if k, ok := a.candidate.GateKey(); ok && e.Host.Gate != "" {
		rec.Enrolled.GateKey = &k
	}
	return rec.Enrolled, i.signRecord(ctx, entry, rec, e.ID)
}

// bindHost writes the rows of the host and its AK. Requests by an AK that the host had before are decided anew.
func (i *Issuer) bindHost(ctx context.Context, entry *tlog.Entry, a *activation, e *record.Enrolment, rec *record.Enrolled) error {
	digest, name := statement.DigestOf(entry.Leaf), a.candidate.AKName()
	host := hostState{ID: e.ID, Labels: e.Host.Labels, EK: rec.EK, AK: rec.AK, AKName: name, Gate: e.Host.Gate, Enrolment: digest[:]}
	if rec.GateKey != nil {
		thumb := rec.GateKey.Thumbprint()
		host.GateKey = thumb[:]
	}
	row, err := put(bucketHost, []byte(e.ID), host)
	if err != nil {
		return err
	}
	_, again, err := i.log.Value(ctx, bucketHost, []byte(e.ID))
	if again {
		entry.Bumps = append(entry.Bumps, counterEnrolment)
	}
	entry.Puts = append(entry.Puts, row, tlog.Put{Bucket: bucketAK, Key: name, Value: []byte(e.ID)})
	return err
}

// keepChain registers a gate key that the AK has certified. A key that is registered already keeps its place in its
// chain of records, which no record may continue meanwhile.
func (i *Issuer) keepChain(ctx context.Context, entry *tlog.Entry, key *statement.Key, e *record.Enrolment) error {
	if key == nil {
		return nil
	}
	thumb := key.Thumbprint()
	var state gateState
	if _, err := load(ctx, i.log, bucketGate, thumb[:], &state); err != nil {
		return err
	}
	state.Key, state.Gate, state.Host = *key, e.Host.Gate, e.ID
	row, err := put(bucketGate, thumb[:], state)
	entry.Puts = append(entry.Puts, row)
	entry.Guards = append(entry.Guards, tlog.Guard{Counter: counterChain + thumb.String(), Value: state.Next})
	return err
}
