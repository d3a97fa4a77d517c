package audit

import (
	"bytes"
	"slices"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// recorded checks a record: by the issuer, if its key is one of the trust file, else by a gate. One by the issuer is
// signed (301) and complete (104, 312, 911), by that issuer and in no chain (910), dated when it was logged (202, 205), and
// has a number of its own (508).
func (v *verifier) recorded(e *entry, f *Finding) error {
	id, ok := e.env.KeyID()
	if !ok || !v.keys.Has(id, statement.Record) {
		return v.gate(e, f)
	}
	signed, err := v.issued(e)
	if err != nil {
		return err
	}
	r, err := record.Read(signed)
	if err != nil {
		return err
	}
	if r.Emitter.URI != v.trust.Issuer || r.Previous != nil {
		return denial.New(denial.NotPermitted, "a record of the issuer names another emitter, or a chain")
	}
	if err := dated(r.Time, e.logged); err != nil {
		return err
	}
	if v.world.emitted.add(keyOf(string(r.Emitter.Epoch), numbered(r.Emitter.Seq)...)) {
		return denial.New(denial.StateRollback, "an earlier record has the same number")
	}
	switch r.Event {
	case record.EventDenial:
		return v.denied(e, r, f)
	case record.EventEnrol:
		return v.activation(e, r, f)
	case record.EventAttest:
		return v.attestation(e, r, f)
	case record.EventSummary:
		f.leave("counts of refused strangers are the issuer's signed word")
		return nil
	case record.EventKey:
		return v.birth(r, f)
	case record.EventKept:
		f.leave("which payloads were deleted or held is the issuer's signed word")
		return nil
	}
	return denial.New(denial.NotPermitted, "starts and ends are recorded by gates")
}

// birth checks that the key is none that the issuer has for another purpose, nor in place of that of genesis. One that it does
// not have yet may be announced by a key change.
func (v *verifier) birth(r *record.Record, f *Finding) error {
	k := v.world.ring.Find(r.Birth.Key.Thumbprint())
	if k != nil && k.Purpose != r.Birth.Purpose || record.KindsOf(r.Birth.Purpose) == nil {
		return denial.New(denial.KeyUnknown, "the key is one that the issuer has for another purpose")
	}
	f.leave("how a token made and keeps a key is the issuer's signed word")
	return nil
}

// activation checks the record of an enrolment, in this order: it is of the newest act that approves this EK, for this
// host (106), which was not revoked (803); the enrolment request is the recorded one (325), and EK, chain, AK and gate
// key in it pass every check of attest.CheckEnrolment again (3xx, 620, 702, 803, 806), against the TPM vendors that were in
// force then (see vendors);
// AK, gate key and method are those recorded (325). That the TPM opened its credential cannot be shown again, so the
// verdict is unchecked at best.
func (v *verifier) activation(e *entry, r *record.Record, f *Finding) error {
	en := r.Enrolled
	approved, ok := v.world.approvals[string(en.EK)]
	if !ok || approved.act != sum(en.Enrolment) || approved.ID != en.Host {
		return denial.New(denial.NotEnrolled, "the newest act of the authorities about this EK is another, or for another host")
	}
	if v.world.revoked[revocation{record.CauseHost, en.Host}] {
		return denial.New(denial.HostRevoked, "the host had been revoked")
	}
	caps, complete, err := v.capsule(e)
	if err != nil {
		return err
	}
	if complete {
		if err := v.candidate(r, approved.Enrolment, caps.Chain.value()); err != nil {
			return err
		}
	}
	v.world.admit(e.digest, en, approved.Enrolment)
	if !complete {
		f.leave("the issuer no longer has the enrolment request")
		return nil
	}
	f.leave("keys and certificates pass; that the TPM opened its credential is the issuer's signed word")
	return nil
}

// candidate checks an enrolment request again.
func (v *verifier) candidate(r *record.Record, approved *record.Enrolment, raw []byte) error {
	en := r.Enrolled
	request, err := attest.DecodeEnrolRequest(raw)
	if err != nil {
		return err
	}
	trust, err := v.vendors(r.Time, approved)
	if err != nil {
		return err
	}
	c, err := attest.CheckEnrolment(request, attest.EnrolOptions{EKDigest: [32]byte(sum(en.EK)), Roots: trust.roots, Rules: trust.rules,
		Now: time.Unix(int64(min(r.Time, 1<<53)), 0), AllowListed: approved.Host.Listed || !trust.complete})
	if err != nil {
		return err
	}
	key, ok := c.GateKey()
	ok = ok && approved.Host.Gate != ""
	method := string(c.Method())
	if !trust.complete && method == string(attest.MethodList) {
		method = en.Method // a root that is not here may be the one that it leads to
	}
	if !bytes.Equal(c.AKPublic(), en.AK) || ok != (en.GateKey != nil) || ok && !key.Equal(*en.GateKey) || method != en.Method {
		return denial.New(denial.LogInconsistent, "the enrolment request leads to another record")
	}
	return nil
}

// admit puts an enrolment record in force, and makes its host and gate key known.
func (w *world) admit(digest statement.Digest, en *record.Enrolled, approved *record.Enrolment) {
	h := &host{id: en.Host, labels: approved.Host.Labels, ek: en.EK, ak: en.AK, request: sum(en.Request)}
	w.enrolled[digest], w.current[h.id] = h, digest
	if name, err := attest.Name(en.AK); err == nil {
		w.aks[string(name)] = h
	}
	if en.GateKey == nil {
		return
	}
	id := en.GateKey.Thumbprint()
	if w.gates[id] == nil { // a key that is enrolled again keeps its place in its chain
		w.gates[id] = &gate{key: *en.GateKey}
	}
	w.gates[id].uri, w.gates[id].host, w.gates[id].enrolment = approved.Host.Gate, en.Host, digest
}

// denied makes a refusal of the issuer again, as far as the bundle holds what it was made on. With a decision input:
// all of decided, then the same code, stage and requirements follow from it. With evidence alone: verified again, it
// fails with the same code at the same stage. What was refused before that, or in the transaction, depended on state
// that no statement shows: unchecked.
func (v *verifier) denied(e *entry, r *record.Record, f *Finding) error {
	if r.Hold {
		defer func() { v.world.held[r.Workload] = true }()
	}
	caps, complete, err := v.capsule(e)
	if err != nil {
		return err
	}
	switch {
	case !complete:
		f.leave("the issuer no longer has all that the refusal was decided on")
		return nil
	case caps.Input != nil:
		return v.decidedAgain(e, r, caps, f)
	case denial.Reason(r.Reasons[0]).Condition() == denial.ConditionUndecidable:
		f.leave("it was not decided: the issuer refused before it could be, or could not")
		return nil
	case caps.Evidence != nil:
		return v.verifiedAgain(r, caps)
	case caps.Request != nil:
		f.leave("the refusal came before the evidence was verified, and depended on the connection")
	default:
		f.leave("the refusal depended on state that no statement shows")
	}
	return nil
}

// decidedAgain checks a refusal that has a decision input.
func (v *verifier) decidedAgain(e *entry, r *record.Record, c *capsule, f *Finding) error {
	d, err := v.decided(e, c)
	if err != nil {
		return err
	}
	if err := v.about(r, d); err != nil {
		return err
	}
	if err := v.descendsFalsely(d.in, f); err != nil {
		return err
	}
	_ = v.world.tick(d.in) // it may have been refused for just that
	again := decision.Decide(d.in, d.appraisal, d.authorization).Denied()
	if again != nil {
		return sameRefusal(r, again)
	}
	reason, stage := denial.Reason(r.Reasons[0]), denial.Stage(r.Stage)
	late := stage == denial.StageTransaction || stage == denial.StageMint
	switch {
	case reason == denial.RequestReplayed && late && v.world.requests.has(requestKey(d.in)):
		return nil
	case reason == denial.DelegationExceeded && late && v.spent(d.in):
		return nil
	case late || reason.Condition() == denial.ConditionUndecidable:
		f.leave("the decision was a permit; what became of it in the transaction depended on state that no statement shows")
		return nil
	}
	return denial.New(denial.LogInconsistent, "decided again, the input leads to a permit")
}

// about checks that a refusal tells of what it was decided on, and of revocations that were in the log by then.
func (v *verifier) about(r *record.Record, d *decided) error {
	in := d.in
	if r.Initiator != in.Initiator.ID || r.Workload != in.Host.ID || !bytes.Equal(r.RequestID, in.Request.ID) ||
		!bytes.Equal(r.Challenge, in.Challenge) || !bytes.Equal(r.Exporter, in.Exporter) {
		return denial.New(denial.LogInconsistent, "the record tells of another request than the one decided on")
	}
	known := v.world.causes(in.Host.ID, in.Initiator.ID, in.Appraisal.Hash, in.Authorization.Hash)
	if in.Held && !r.Hold && !v.world.held[in.Host.ID] {
		return denial.New(denial.LogInconsistent, "the refusal was decided on a hold that is not in the log")
	}
	for _, c := range in.Revoked {
		if !slices.Contains(known, c) {
			return denial.New(denial.LogInconsistent, "the refusal was decided on a revocation that is not in the log")
		}
	}
	return nil
}

// verifiedAgain checks a refusal that has evidence and no decision input.
func (v *verifier) verifiedAgain(r *record.Record, c *capsule) error {
	ev, err := attest.DecodeEvidence(c.Evidence.value())
	if err != nil {
		return err
	}
	name, err := ev.AKName()
	if err != nil {
		return err
	}
	h := v.world.aks[string(name)]
	if h == nil || h.id != r.Workload {
		return denial.New(denial.NotEnrolled, "no enrolment in the log gives the host this AK")
	}
	if c.Request == nil || r.Appraisal == nil {
		return denial.New(denial.LogInconsistent, "the record names no request or no policy for its evidence")
	}
	known, ok := v.world.policies[[32]byte(sum(r.Appraisal.Hash))]
	if !ok || known.kind != record.Appraisal || known.doc.ID() != r.Appraisal.ID {
		return denial.New(denial.PolicyHashMismatch, "the policy named is not one that authorities had signed by then")
	}
	policy, err := known.doc.Appraisal()
	if err != nil {
		return err
	}
	request, err := artifact.DecodeRequest(c.Request.value())
	if err != nil {
		return err
	}
	_, err = v.evidence(c.Evidence.value(), evidenceOf{host: h, challenge: r.Challenge, exporter: r.Exporter,
		request: request.Digest(), selection: policy.Selection(), bind: policy.Bind(), audit: policy.Audit(), ima: policy.IMA()})
	if err != nil {
		return sameRefusal(r, denial.Of(err))
	}
	return denial.New(denial.LogInconsistent, "verified again, the evidence passes")
}

// sameRefusal checks that a record tells of exactly this denial.
func sameRefusal(r *record.Record, d *denial.Denial) error {
	if int(r.Reasons[0]) != d.Reason.Code() || r.Stage != uint64(d.Stage) || !slices.Equal(r.Requirements, d.Requirements) {
		return denial.New(denial.LogInconsistent, "made again, the refusal is %d at stage %q", d.Reason.Code(), d.Stage)
	}
	return nil
}
