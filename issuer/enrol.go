package issuer

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// BeginEnrolment checks an enrolment request and returns the credential that only the TPM with the EK can open for
// the AK. It checks, in this order: the request decodes; authorities have approved the EK (106, F25); the host is not
// revoked; then all of attest.CheckEnrolment. The pending state lives on the connection and nowhere else (K04).
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
	approved, err := i.approval(ctx, ek)
	if err != nil {
		return nil, err
	}
	candidate, err := attest.CheckEnrolment(req, attest.EnrolOptions{
		EKDigest: ek, Roots: i.roots, Now: i.now(), AllowListed: approved.Host.Listed,
	})
	if err != nil {
		return nil, err
	}
	a := &activation{until: i.now().Add(ChallengeLife), candidate: candidate, request: raw}
	if _, err := rand.Read(a.secret[:]); err != nil {
		return nil, fmt.Errorf("making activation secret: %w", err)
	}
	cred, err := candidate.MakeCredential(a.secret)
	if err != nil {
		return nil, err
	}
	conn.setPending(a)
	return &cred, nil
}

// approval returns the authorities' enrolment of an EK whose host is not revoked.
func (i *Issuer) approval(ctx context.Context, ek [32]byte) (*record.Enrolment, error) {
	var e record.Enrolment
	found, err := load(ctx, i.log, bucketApproved, ek[:], &e)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, denial.New(denial.NotEnrolled, "no authority has enrolled this EK")
	}
	if _, revoked, err := i.log.Value(ctx, bucketRevoked, revokedKey(record.CauseHost, e.ID)); err != nil || revoked {
		if err == nil {
			err = denial.New(denial.HostRevoked, "the host is revoked")
		}
		return nil, err
	}
	return &e, nil
}

// FinishEnrolment takes the opened secret. If it is right, the AK is bound to the host that the authorities named, and
// the record of it, with its receipt, is the answer.
func (i *Issuer) FinishEnrolment(ctx context.Context, conn *Connection, secret []byte) ([]byte, error) {
	out, err := i.finishEnrolment(ctx, conn, secret)
	if err != nil {
		return nil, i.refuseStranger(denial.Of(err).At(denial.StageEnrolment))
	}
	return out, nil
}

func (i *Issuer) finishEnrolment(ctx context.Context, conn *Connection, secret []byte) ([]byte, error) {
	a, err := conn.activate(secret, i.now())
	if err != nil {
		return nil, err
	}
	ek := a.candidate.EKDigest()
	version, err := i.log.Counter(ctx, counterRevoked)
	if err != nil {
		return nil, err
	}
	e, err := i.approval(ctx, ek)
	if err != nil {
		return nil, err
	}
	leaf, rec, err := i.enrolmentRecord(ctx, a, e)
	if err != nil {
		return nil, err
	}
	entry, err := enrolledEntry(leaf, a, e, rec)
	if err != nil {
		return nil, err
	}
	if err := i.keepChain(ctx, &entry, rec.Enrolled.GateKey, e); err != nil {
		return nil, err
	}
	entry.Guards = []tlog.Guard{{Counter: counterRevoked, Value: version, Reason: denial.HostRevoked}}
	done, err := i.log.Append(ctx, entry)
	if err != nil {
		return nil, err
	}
	return statement.Attach(leaf, done[0].Receipt)
}

func (i *Issuer) enrolmentRecord(ctx context.Context, a *activation, e *record.Enrolment) ([]byte, *record.Record, error) {
	payload, err := statement.Marshal(e)
	if err != nil {
		return nil, nil, err
	}
	act, request := statement.DigestOf(payload), statement.DigestOf(a.request)
	ek := a.candidate.EKDigest()
	rec := i.newRecord()
	rec.Event = record.EventEnrol
	rec.Enrolled = &record.Enrolled{Host: e.ID, AK: a.candidate.AKPublic(), EK: ek[:], Method: string(a.candidate.Method()),
		Enrolment: act[:], Request: request[:]}
	if k, ok := a.candidate.GateKey(); ok && e.Host.Gate != "" {
		rec.Enrolled.GateKey = &k
	}
	leaf, err := rec.Sign(ctx, i.record, e.ID)
	return leaf, rec, err
}

func enrolledEntry(leaf []byte, a *activation, e *record.Enrolment, rec *record.Record) (tlog.Entry, error) {
	digest := statement.DigestOf(leaf)
	name := a.candidate.AKName()
	host := hostState{ID: e.ID, Labels: e.Host.Labels, EK: rec.Enrolled.EK, AK: rec.Enrolled.AK, AKName: name,
		Gate: e.Host.Gate, Enrolment: digest[:]}
	row, err := put(bucketHost, []byte(e.ID), host)
	if err != nil {
		return tlog.Entry{}, err
	}
	entry := tlog.Entry{Leaf: leaf, Blobs: [][]byte{a.request}, Bumps: []string{counterEnrolment},
		Puts: []tlog.Put{row, {Bucket: bucketAK, Key: name, Value: []byte(e.ID)}}}
	return entry, nil
}

// keepChain registers a gate key that the AK has certified. A key that is registered already keeps its place in its
// chain of records.
func (i *Issuer) keepChain(ctx context.Context, entry *tlog.Entry, key *statement.Key, e *record.Enrolment) error {
	if key == nil {
		return nil
	}
	thumb := key.Thumbprint()
	state := gateState{Key: *key}
	if _, err := load(ctx, i.log, bucketGate, thumb[:], &state); err != nil {
		return err
	}
	state.Gate, state.Host = e.Host.Gate, e.ID
	row, err := put(bucketGate, thumb[:], state)
	entry.Puts = append(entry.Puts, row)
	return err
}
