package issuer

import (
	"bytes"
	"context"
	"encoding/hex"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// RecordSkew is how far a gate's clock may be from the issuer's, in seconds.
const RecordSkew = 300

// Take appends a gate's record. It checks, in this order: the statement decodes (3xx) and verifies with the key of an
// enrolled gate (305, 301, 311); the very record that ended the gate's chain is answered again; the record is complete
// (104, 312, 911), of a kind that gates write and by that gate (910); a start is of now (205); the gate's host is enrolled with it
// (910) and not revoked (803), nor held if it is a start (803); it continues the gate's chain (508). A start record also consumes its use:
// the artifact is ours (305) and for this gate (411), the log was not restored since (801), it is not revoked, nor what it descends from,
// and its host not held (801 to 805, 807); one by break-glass says so, and no other does (311), and passes consumeGlass; it has not expired
// (201), and its use number is within the artifact's (505) and unused (504). It returns the transparent statement.
func (i *Issuer) Take(ctx context.Context, raw []byte) ([]byte, error) {
	v, gate, err := i.verifyGate(ctx, raw)
	if err != nil {
		return nil, i.refuseStranger(denial.Of(err).At(denial.StageStartRecord))
	}
	ctx, cancel := settled(ctx)
	defer cancel()
	if digest := v.Digest(); bytes.Equal(digest[:], gate.Previous) {
		return i.again(ctx, v) // the gate did not hear our answer
	}
	var rec *record.Record
	var entry tlog.Entry
	var done []tlog.Appended
	err = untilFresh(func() (err error) {
		if entry, rec, err = i.gateEntry(ctx, v, gate); err != nil {
			return err
		}
		done, err = i.append(ctx, entry)
		return err
	})
	if err == nil {
		return statement.Attach(entry.Leaf, done[0].Receipt)
	}
	return nil, i.refuseRecord(ctx, v, rec, gate, denial.Of(err).At(denial.StageStartRecord))
}

// refuseRecord logs the refusal of a gate's record. Records of the log may be public, and whoever sends one again, or one that was
// refused long ago, is a stranger who could fill the log: that is counted.
func (i *Issuer) refuseRecord(ctx context.Context, v *statement.Verified, rec *record.Record, gate gateState, d *denial.Denial) error {
	about := &record.Record{Workload: gate.Host}
	for _, digest := range v.Digests() {
		if _, logged, err := i.log.Find(ctx, digest); err != nil || logged {
			return i.refuseCounted(d, true)
		}
	}
	if rec != nil {
		if rec.Time+RecordSkew < uint64(i.now().Unix()) {
			return i.refuseCounted(d, true)
		}
		about.CTI, about.Artifact, about.RequestID = rec.CTI, rec.Artifact, rec.RequestID
	}
	return i.refuse(ctx, about, d, nil, nil)
}

// again answers a record that stands in the log already.
func (i *Issuer) again(ctx context.Context, v *statement.Verified) ([]byte, error) {
	raw, err := i.transparent(ctx, v.Leaf())
	if err != nil {
		return nil, i.refuseCounted(denial.Of(err).At(denial.StageStartRecord), true)
	}
	return raw, nil
}

func (i *Issuer) verifyGate(ctx context.Context, raw []byte) (*statement.Verified, gateState, error) {
	var gate gateState
	env, err := statement.Decode(raw, statement.MaxStatement)
	if err != nil {
		return nil, gate, err
	}
	kid, ok := env.KeyID()
	if !ok {
		return nil, gate, denial.New(denial.KeyUnknown, "kid is not a thumbprint")
	}
	found, err := load(ctx, i.log, bucketGate, kid[:], &gate)
	if err != nil {
		return nil, gate, err
	}
	if !found {
		return nil, gate, denial.New(denial.KeyUnknown, "no enrolled gate has this key")
	}
	var keys statement.Keys
	if err := keys.Add(gate.Key, statement.Record); err != nil {
		return nil, gate, err
	}
	v, err := env.Verify(keys, statement.Record)
	return v, gate, err
}

func (i *Issuer) gateEntry(ctx context.Context, v *statement.Verified, gate gateState) (tlog.Entry, *record.Record, error) {
	rec, err := record.Read(v)
	if err != nil {
		return tlog.Entry{}, nil, err
	}
	if err := i.checkGateRecord(rec, gate); err != nil {
		return tlog.Entry{}, rec, err
	}
	enrolled, err := i.log.Counter(ctx, counterEnrolment)
	if err != nil {
		return tlog.Entry{}, rec, err
	}
	if err := i.ownsGate(ctx, gate); err != nil {
		return tlog.Entry{}, rec, err
	}
	revoked, err := i.log.Counter(ctx, counterRevoked)
	if err != nil {
		return tlog.Entry{}, rec, err
	}
	if err := i.notRevoked(ctx, record.CauseHost, gate.Host); err != nil {
		return tlog.Entry{}, rec, err
	}
	if rec.Event == record.EventStart { // what a held host has run, and refused, it still tells
		if err := i.notHeld(ctx, gate.Host); err != nil {
			return tlog.Entry{}, rec, err
		}
	}
	entry, err := chain(v, rec, gate)
	if err != nil {
		return tlog.Entry{}, rec, err
	}
	entry.Guards = append(entry.Guards, tlog.Guard{Counter: counterEnrolment, Value: enrolled})
	if rec.Event == record.EventStart {
		entry.Guards = append(entry.Guards, tlog.Guard{Counter: counterRevoked, Value: revoked})
		err = i.consumeUse(ctx, rec, gate, &entry)
	}
	return entry, rec, err
}

// hintGate is what to try about a gate that is not the one that is enrolled.
const hintGate = "Enrol the host again with \"writ host enroll\" under the gate's present key, as its authorities have approved it."

// ownsGate refuses a gate key that is not the one of its host's enrolment, or whose gate authorities have taken away.
func (i *Issuer) ownsGate(ctx context.Context, gate gateState) error {
	var h hostState
	found, err := load(ctx, i.log, bucketHost, []byte(gate.Host), &h)
	thumb := gate.Key.Thumbprint()
	if err == nil && (!found || h.Gate == "" || h.Gate != gate.Gate || !bytes.Equal(h.GateKey, thumb[:])) {
		err = denial.New(denial.NotPermitted, "the host is not enrolled with this gate and this key").Try(hintGate)
	}
	return err
}

func (i *Issuer) checkGateRecord(rec *record.Record, gate gateState) error {
	now := uint64(i.now().Unix())
	switch {
	case rec.Event != record.EventStart && rec.Event != record.EventEnd && rec.Event != record.EventDenial:
		return denial.New(denial.NotPermitted, "a gate writes starts, ends and denials only").Try("Send the records that a gate writes, and no others.")
	case rec.Emitter.URI != gate.Gate:
		return denial.New(denial.NotPermitted, "the emitter is not this gate").Try(hintGate)
	case rec.Event == record.EventStart && (rec.Time+RecordSkew < now || rec.Time > now+RecordSkew):
		return denial.New(denial.EvidenceStale, "the gate's clock is more than %d s away", RecordSkew)
	}
	return nil
}

// chain makes the entry that continues the gate's chain: same epoch, next number, digest of the record before. A gate
// that starts over, because its state is gone, must do so with a new epoch at zero, and only if it never wrote before.
func chain(v *statement.Verified, rec *record.Record, gate gateState) (tlog.Entry, error) {
	first := gate.Next == 0 && gate.Epoch == nil
	if !first && !bytes.Equal(rec.Emitter.Epoch, gate.Epoch) || rec.Emitter.Seq != gate.Next || !bytes.Equal(rec.Previous, gate.Previous) {
		return tlog.Entry{}, denial.New(denial.StateRollback, "the record does not continue the gate's chain at number %d", gate.Next)
	}
	digest := v.Digest()
	thumb := gate.Key.Thumbprint()
	next := gate
	next.Epoch, next.Next, next.Previous = rec.Emitter.Epoch, gate.Next+1, digest[:]
	row, err := put(bucketGate, thumb[:], next)
	counter := counterChain + thumb.String()
	return tlog.Entry{
		Leaf:   v.Leaf(),
		Puts:   []tlog.Put{row},
		Guards: []tlog.Guard{{Counter: counter, Value: gate.Next, Reason: denial.StateRollback}},
		Bumps:  []string{counter},
	}, err
}

func (i *Issuer) consumeUse(ctx context.Context, rec *record.Record, gate gateState, entry *tlog.Entry) error {
	permit, err := i.permitOf(ctx, rec.CTI)
	if err != nil {
		return err
	}
	if !bytes.Equal(permit.Digest, rec.Artifact) || permit.Gate != gate.Gate {
		return denial.New(denial.AudienceMismatch, "the artifact is not for this gate")
	}
	if err := i.inEpoch(ctx, rec.CTI); err != nil {
		return err
	}
	if err := i.permitRevoked(ctx, permit); err != nil {
		return err
	}
	if permit.Glass != (rec.Glass != nil) {
		return denial.New(denial.WrongType, "an artifact and a break-glass authorization are not each other")
	}
	if permit.Glass {
		if err := i.consumeGlass(ctx, rec, gate, permit, entry); err != nil {
			return err
		}
	}
	switch n := rec.Execution.Use; {
	case max(rec.Time, uint64(i.now().Unix())) >= permit.Expires: // neither clock revives an artifact
		return denial.New(denial.Expired, "the artifact has expired")
	case n == 0 || n > permit.Uses:
		return denial.New(denial.UseCountExceeded, "the artifact allows %d uses", permit.Uses)
	default:
		entry.Once = append(entry.Once, tlog.Once{Set: onceUse, Key: useKey(rec.CTI, n), Reason: denial.ArtifactReplayed})
	}
	return nil
}

// permitOf returns what the log knows of an artifact of ours.
func (i *Issuer) permitOf(ctx context.Context, cti []byte) (permitState, error) {
	var p permitState
	idx, found, err := i.log.Value(ctx, bucketPermitOf, cti)
	if err != nil {
		return p, err
	}
	if found {
		found, err = load(ctx, i.log, bucketPermit, idx, &p)
	}
	if err == nil && !found {
		err = denial.New(denial.KeyUnknown, "no artifact of this issuer has this id")
	}
	return p, err
}

// permitRevoked refuses an artifact that is revoked, or whose host, initiator or policy is, or whose host is held, and then one that
// descends from such an artifact, or from one by a key that counts no more (807).
func (i *Issuer) permitRevoked(ctx context.Context, p permitState) error {
	if err := i.itselfRevoked(ctx, p); err != nil {
		return err
	}
	for _, cti := range p.Ancestors {
		a, err := i.permitOf(ctx, cti)
		if err != nil {
			return err
		}
		if err := i.itselfRevoked(ctx, a); err != nil {
			return ancestorRevoked(err)
		}
		if err := i.believed(ctx, a); err != nil {
			return ancestorRevoked(err)
		}
	}
	return nil
}

// ancestorRevoked is what the revocation of an artifact means for one that descends from it. Any other error stays what it is.
func ancestorRevoked(err error) error {
	if _, ok := causeFor(err); !ok {
		return err
	}
	return denial.New(denial.AncestorRevoked, "an artifact that it descends from is refused: %s", denial.Of(err).Detail)
}

// causeFor returns the cause of revocation that leads to an error; false if none does.
func causeFor(err error) (record.Cause, bool) {
	for c := record.CauseArtifact; c <= record.CauseAncestor; c++ {
		if denial.Is(err, c.Reason()) {
			return c, true
		}
	}
	return 0, false
}

// believed checks that the key which signed an artifact counts (see record.IssuerKey.Check).
func (i *Issuer) believed(ctx context.Context, p permitState) error {
	_, key, logged, err := i.signedBy(ctx, statement.Digest(p.Digest))
	if err != nil {
		return err
	}
	if key == nil {
		return denial.New(denial.StoreFault, "the log has an artifact that does not fit its rows")
	}
	return key.Check(logged)
}

// signedBy returns an artifact of the log, the key that signed it, and when it was logged; no key if the log has no such artifact.
func (i *Issuer) signedBy(ctx context.Context, digest statement.Digest) (leaf []byte, key *record.IssuerKey, logged uint64, err error) {
	index, found, err := i.log.Find(ctx, digest)
	if err != nil || !found {
		return nil, nil, 0, err
	}
	if leaf, err = i.log.Leaf(ctx, index); err != nil {
		return nil, nil, 0, err
	}
	env, err := statement.Decode(leaf, statement.MaxStatement)
	if err != nil || env.Kind() != statement.Artifact {
		return nil, nil, 0, err
	}
	use, err := i.keys.current(ctx, i.log)
	if err != nil {
		return nil, nil, 0, err
	}
	kid, _ := env.KeyID()
	if key = use.ring.Find(kid); key == nil {
		return nil, nil, 0, denial.New(denial.StoreFault, "the log has an artifact by a key that the issuer never had")
	}
	logged, err = i.log.LoggedAt(ctx, index)
	return leaf, key, logged, err
}

func (i *Issuer) itselfRevoked(ctx context.Context, p permitState) error {
	if err := i.notRevoked(ctx, record.CauseArtifact, hex.EncodeToString(p.CTI)); err != nil {
		return err
	}
	if err := i.notRevoked(ctx, record.CauseHost, p.Host); err != nil {
		return err
	}
	if err := i.notHeld(ctx, p.Host); err != nil {
		return err
	}
	for _, id := range p.Policies {
		if err := i.notRevoked(ctx, record.CausePolicy, id); err != nil {
			return err
		}
	}
	return i.notRevoked(ctx, record.CauseInitiator, p.Initiator)
}

func (i *Issuer) notRevoked(ctx context.Context, c record.Cause, target string) error {
	_, revoked, err := i.log.Value(ctx, bucketRevoked, revokedKey(c, target))
	if err == nil && revoked {
		err = denial.New(c.Reason(), "the %s is revoked", c)
	}
	return err
}

// notHeld refuses a host that is held, as its status lists do.
func (i *Issuer) notHeld(ctx context.Context, host string) error {
	_, held, err := i.log.Value(ctx, bucketHeld, []byte(host))
	if err == nil && held {
		err = denial.New(denial.HostRevoked, "the host is held, because its TPM was there twice or was put back: authorities must approve it anew")
	}
	return err
}
