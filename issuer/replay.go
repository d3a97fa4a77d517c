package issuer

import (
	"bytes"
	"context"
	"encoding/hex"
	"strconv"
	"strings"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/decision"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// read goes on with the entries up to one.
func (p *replay) read(ctx context.Context, r tlog.Reader, to uint64) error {
	return r.Leaves(ctx, p.next, to, func(index uint64, leaf []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		env, err := statement.Decode(leaf, statement.MaxStatement)
		if err != nil {
			return err
		}
		p.next = index + 1
		switch kind := env.Kind(); {
		case kind == statement.Genesis:
			p.genesis = append(p.genesis, leaf)
			return nil
		case kind == statement.Artifact:
			return p.artifact(ctx, r, index, env)
		case kind == statement.Record:
			return p.record(ctx, r, index, env)
		case record.IsAct(kind):
			return p.statementOfAct(ctx, r, index, env)
		}
		return nil
	})
}

func (p *replay) artifact(ctx context.Context, r tlog.Reader, index uint64, env *statement.Envelope) error {
	c, err := artifact.DecodeClaims(env.Payload())
	if err != nil {
		return err
	}
	list, err := strconv.ParseUint(c.Status.List.URI[strings.LastIndexByte(c.Status.List.URI, '/')+1:], 10, 64)
	if err != nil {
		return differs("the status list of an artifact", index)
	}
	status, digest := indexKey(list*ListSize+c.Status.List.Index), env.Digest()
	ancestors, err := p.ancestors(ctx, r, &c)
	if err != nil {
		return err
	}
	permit, err := put(bucketPermit, status, permitState{
		Ancestors: ancestors, CTI: c.ID, Host: c.Subject, Initiator: c.Initiator.Principal, Expires: c.Expires, Uses: c.Limits.MaxUses(), Gate: c.Audience,
		Digest: digest[:], Policies: []string{hex.EncodeToString(c.Policy.Appraisal.Hash.Value), hex.EncodeToString(c.Policy.Hash.Value)}})
	if err != nil {
		return err
	}
	if err := p.row(ctx, r, index, bucketPermit, status, permit.Value); err != nil {
		return err
	}
	if err := p.row(ctx, r, index, bucketPermitOf, c.ID, status); err != nil {
		return err
	}
	if err := p.consume(ctx, r, index, onceStatus, status); err != nil {
		return err
	}
	ek, now := string(p.hosts[c.Subject].EK), c.Environment.Clock
	clock := attest.Clock{Milliseconds: now.Milliseconds, Resets: now.Resets, Restarts: now.Restarts}
	if seen, there := p.clocks[ek]; !there || beyond(clock, seen) {
		p.clocks[ek] = clock
	}
	if err := p.delegations(ctx, r, index, &c); err != nil {
		return err
	}
	return p.request(ctx, r, index, c.Policy.Request.Value)
}

// ancestors returns what an artifact descends from, by the rows of its parents, which stand before it and have been compared.
func (p *replay) ancestors(ctx context.Context, r tlog.Reader, c *artifact.Claims) (all [][]byte, err error) {
	for _, parent := range c.Lineage.Parents {
		var permit permitState
		status, found, err := r.Value(ctx, bucketPermitOf, parent.ID)
		if err == nil && found {
			found, err = load(ctx, r, bucketPermit, status, &permit)
		}
		if err != nil || !found {
			return nil, firstOf(err, differs("the parent of an artifact", p.next-1))
		}
		all = descent(all, permit)
	}
	return all, nil
}

// delegations demands that each delegation that an artifact rests on is consumed. They stand in the input of the decision; where that is
// deleted, they are only counted.
func (p *replay) delegations(ctx context.Context, r tlog.Reader, index uint64, c *artifact.Claims) error {
	if len(c.Lineage.Parents) == 0 {
		return nil
	}
	raw, found, err := p.kept(ctx, r, index, c.Policy.Input.Value, "the input of a decision")
	if err != nil {
		return err
	}
	if !found {
		p.spent[onceDelegation] += uint64(len(c.Lineage.Parents))
		return nil
	}
	in, err := decision.DecodeInput(raw)
	if err != nil {
		return err
	}
	if len(in.Parents) != len(c.Lineage.Parents) {
		return differs("the parents of an artifact", index)
	}
	for i := range in.Parents {
		key, err := delegationKey(&in.Parents[i])
		if err == nil {
			err = p.consume(ctx, r, index, onceDelegation, key)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// kept returns a payload that was kept with an entry; false if it has been deleted.
func (p *replay) kept(ctx context.Context, r tlog.Reader, index uint64, digest []byte, what string) ([]byte, bool, error) {
	if len(digest) != len(statement.Digest{}) {
		return nil, false, differs(what, index)
	}
	raw, found, err := r.BlobOf(ctx, index, statement.Digest(digest))
	if err != nil || found {
		return raw, found, err
	}
	var gone uint64
	if _, err := load(ctx, r, bucketPurged, []byte("index"), &gone); err != nil {
		return nil, false, err
	}
	if index >= gone {
		return nil, false, differs(what, index)
	}
	return nil, false, nil
}

// request demands that the request with a digest is consumed. Its id stands in the payload that was kept of it; where that is deleted, the
// request is only counted.
func (p *replay) request(ctx context.Context, r tlog.Reader, index uint64, digest []byte) error {
	raw, found, err := p.kept(ctx, r, index, digest, "the request of an artifact")
	if err != nil {
		return err
	}
	if !found {
		p.spent[onceRequest]++
		return nil
	}
	env, err := statement.Decode(raw, statement.MaxStatement)
	if err != nil {
		return err
	}
	var c artifact.RequestClaims
	if err := statement.Unmarshal(env.Payload(), &c); err != nil {
		return err
	}
	return p.consume(ctx, r, index, onceRequest, requestKey(c.Initiator, c.ID))
}

func (p *replay) record(ctx context.Context, r tlog.Reader, index uint64, env *statement.Envelope) error {
	var rec record.Record
	if err := statement.Unmarshal(env.Payload(), &rec); err != nil {
		return err
	}
	if kid, ok := env.KeyID(); ok {
		if gate, of := p.gates[string(kid[:])]; of {
			return p.gateRecord(ctx, r, index, env, &rec, kid, gate)
		}
	}
	switch {
	case rec.Hold:
		p.setDigest(bucketHeld, []byte(rec.Workload), unknownValue)
		p.counters[counterRevoked]++
	case rec.Enrolled != nil:
		return p.enrolled(index, env, rec.Enrolled)
	case rec.Attested != nil:
		digest := env.Digest()
		if err := p.row(ctx, r, index, bucketAttested, digest[:], rec.Artifact); err != nil {
			return err
		}
		return p.request(ctx, r, index, rec.Request)
	case rec.Retention != nil:
		return p.retention(rec.Retention, rec.Time)
	}
	return nil
}

func (p *replay) retention(t *record.Retention, at uint64) error {
	switch t.Act {
	case record.Held:
		p.counters[counterHold]++
		return p.setState(bucketHold, []byte(t.Name), Hold{t.Name, t.Index, t.Reason, at})
	case record.Released:
		p.drop(bucketHold, []byte(t.Name))
		p.counters[counterHold]++
	case record.Deleted:
		p.purged = t.Index
	}
	return nil
}

func (p *replay) gateRecord(ctx context.Context, r tlog.Reader, index uint64, env *statement.Envelope, rec *record.Record, kid statement.Thumbprint, gate gateState) error {
	digest := env.Digest()
	gate.Epoch, gate.Next, gate.Previous = rec.Emitter.Epoch, gate.Next+1, digest[:]
	p.gates[string(kid[:])] = gate
	p.counters[counterChain+kid.String()]++
	if err := p.setState(bucketGate, kid[:], gate); err != nil || rec.Event != record.EventStart {
		return err
	}
	if rec.Glass != nil {
		p.counters[counterGlassUse]++
	}
	return p.consume(ctx, r, index, onceUse, useKey(rec.CTI, rec.Execution.Use))
}

func (p *replay) enrolled(index uint64, env *statement.Envelope, e *record.Enrolled) error {
	a, ok := p.approved[string(e.EK)]
	if !ok || a.ID != e.Host || !bytes.Equal(a.act[:], e.Enrolment) {
		return differs("an enrolment that authorities have not approved", index)
	}
	name, err := attest.Name(e.AK)
	if err != nil {
		return err
	}
	digest := env.Digest()
	host := hostState{ID: e.Host, Labels: a.Host.Labels, EK: e.EK, AK: e.AK, AKName: name, Gate: a.Host.Gate, Enrolment: digest[:]}
	if e.GateKey != nil {
		thumb := e.GateKey.Thumbprint()
		host.GateKey = thumb[:]
		gate := p.gates[string(thumb[:])]
		gate.Key, gate.Gate, gate.Host = *e.GateKey, a.Host.Gate, e.Host
		p.gates[string(thumb[:])] = gate
		if err := p.setState(bucketGate, thumb[:], gate); err != nil {
			return err
		}
	}
	if p.has(bucketHost, []byte(e.Host)) {
		p.counters[counterEnrolment]++
	}
	p.hosts[e.Host] = host
	p.set(bucketAK, name, []byte(e.Host))
	return p.setState(bucketHost, []byte(e.Host), host)
}

// statementOfAct takes a statement of an act. The first one carries its effect; the others stand behind it.
func (p *replay) statementOfAct(ctx context.Context, r tlog.Reader, index uint64, env *statement.Envelope) error {
	payload, kind := env.Payload(), env.Kind()
	act := statement.DigestOf(payload)
	if act == p.act {
		p.leaves = append(p.leaves, env.Leaf())
		return p.keepAct(kind)
	}
	p.act, p.leaves = act, record.Bundle{env.Leaf()}
	if err := p.consume(ctx, r, index, onceAct, act[:]); err != nil {
		return err
	}
	if name := counterOf(kind, env.Claims().Subject); kind.Acts() && name != counterKeys {
		p.counters[name]++
	}
	switch kind {
	case statement.Policy:
		return p.policy(payload, act)
	case statement.Enrolment:
		return p.enrolment(ctx, r, index, payload, act)
	case statement.Revocation:
		var v record.Revocation
		if err := statement.Unmarshal(payload, &v); err != nil {
			return err
		}
		p.counters[counterRevoked]++
		p.set(bucketRevoked, revokedKey(v.Cause, v.Target), payload)
		return nil
	case statement.BreakGlass:
		return p.breakGlass(ctx, r, index, payload, act)
	case statement.Review:
		var v record.Review
		if err := statement.Unmarshal(payload, &v); err != nil {
			return err
		}
		p.counters[counterReview]++
		p.drop(bucketUnreviewed, v.Act)
		return p.consume(ctx, r, index, onceReview, v.Act)
	case statement.Epoch:
		var e record.Epoch
		if err := statement.Unmarshal(payload, &e); err != nil {
			return err
		}
		if err := p.setState(bucketEpoch, []byte("newest"), epochState{e.Number, e.Size, env.Claims().IssuedAt}); err != nil {
			return err
		}
	default: // a change of keys or of authorities
		p.changes = append(p.changes, act)
		p.counters[counterKeys]++
		if err := p.reset(payload); err != nil {
			return err
		}
	}
	return p.keepAct(kind)
}

// keepAct notes the row of an act that is kept whole, with the statements that have been read of it.
func (p *replay) keepAct(kind statement.Kind) error {
	var bucket string
	n := uint64(len(p.changes))
	switch kind {
	case statement.Policy, statement.Enrolment, statement.Revocation, statement.BreakGlass, statement.Review:
		return nil
	case statement.Epoch:
		var e record.Epoch
		env, err := statement.Decode(p.leaves[0], statement.MaxStatement)
		if err == nil {
			err = statement.Unmarshal(env.Payload(), &e)
		}
		if err != nil {
			return err
		}
		bucket, n = bucketEpoch, e.Number
	default:
		bucket = bucketKeys
	}
	kept, err := p.leaves.Encode()
	if err == nil {
		p.set(bucket, sequenceKey(n), kept)
	}
	return err
}

func (p *replay) policy(payload []byte, act statement.Digest) error {
	var v record.Policy
	if err := statement.Unmarshal(payload, &v); err != nil {
		return err
	}
	doc, err := firmwarepolicy.Decode(v.Document)
	if err != nil {
		return err
	}
	hash := doc.Hash()
	p.counters[counterPolicy]++
	p.set(bucketPublished, []byte(hex.EncodeToString(hash[:])), []byte(v.ID))
	state := policyState{ID: v.ID, Revision: v.Revision, Hash: hash[:], Document: v.Document, Act: act[:]}
	p.policies[v.Kind] = state
	return p.setState(bucketPolicy, []byte(v.Kind), state)
}

// reset notes the policies whose versions begin anew by a change of authorities.
func (p *replay) reset(payload []byte) error {
	c, err := record.ReadKeyChange(payload)
	if err != nil || c.People == nil {
		return err
	}
	for _, kind := range c.People.Reset {
		state := p.policies[kind]
		state.Reset = true
		if err := p.setState(bucketPolicy, []byte(kind), state); err != nil {
			return err
		}
	}
	return nil
}

func (p *replay) enrolment(ctx context.Context, r tlog.Reader, index uint64, payload []byte, act statement.Digest) error {
	var e record.Enrolment
	if err := statement.Unmarshal(payload, &e); err != nil {
		return err
	}
	if e.Initiator != nil {
		key := e.Initiator.Key.Thumbprint()
		if err := p.setState(bucketInitiator, key[:], initiatorState{ID: e.ID, Kind: e.Initiator.Kind, Key: e.Initiator.Key, Enrolment: act[:]}); err != nil {
			return err
		}
		return p.consume(ctx, r, index, onceKey, key[:])
	}
	ek, id := string(e.Host.EK), []byte(e.ID)
	_, again := p.approved[ek]
	p.approved[ek] = approvedHost{e, act}
	p.set(bucketApproved, e.Host.EK, payload)
	if !again {
		if err := p.consume(ctx, r, index, onceHost, id); err != nil {
			return err
		}
		return p.consume(ctx, r, index, onceEK, e.Host.EK)
	}
	p.counters[counterEnrolment]++
	p.drop(bucketHost, id)
	if p.has(bucketHeld, id) {
		p.drop(bucketHeld, id)
		delete(p.clocks, ek)
		p.counters[counterRevoked]++
	}
	return nil
}

func (p *replay) breakGlass(ctx context.Context, r tlog.Reader, index uint64, payload []byte, act statement.Digest) error {
	var g record.BreakGlass
	if err := statement.Unmarshal(payload, &g); err != nil {
		return err
	}
	logged, err := r.LoggedAt(ctx, index)
	if err != nil {
		return err
	}
	p.counters[counterGlass]++
	p.setDigest(bucketGlass, act[:], act)
	p.setDigest(bucketUnreviewed, act[:], unknownValue)
	p.due[string(act[:])] = logged + record.ReviewWithin
	status, found, err := r.Value(ctx, bucketPermitOf, g.ID) // the entry does not tell its place in the status list
	if err != nil {
		return err
	}
	if !found {
		return differs(bucketPermitOf, index)
	}
	p.many[bucketPermitOf]++
	permit, err := put(bucketPermit, status, permitState{CTI: g.ID, Host: g.Host, Initiator: g.Initiator, Expires: g.Expires, Uses: 1,
		Gate: g.Audience, Digest: act[:], Policies: []string{hex.EncodeToString(g.Policy.Hash)}, Glass: true})
	if err != nil {
		return err
	}
	if err := p.row(ctx, r, index, bucketPermit, status, permit.Value); err != nil {
		return err
	}
	if err := p.consume(ctx, r, index, onceStatus, status); err != nil {
		return err
	}
	return p.consume(ctx, r, index, onceGlass, g.ID)
}
