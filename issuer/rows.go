package issuer

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// What a decision reads are rows that follow from the entries. The tree says nothing of them: whoever can write to the database could
// have a request count as new or a host as not revoked, and no hash would differ. So they are computed again from the entries (T16).

// rowsSlice is how many entries are read at a time, so that nothing waits long for what recomputes.
const rowsSlice = 2000

// Recompute is CheckRows on the log of the issuer while it serves, at no more than half of one core. Where a row is not what the entries
// say, nothing more is appended or signed until the log is opened again.
func (i *Issuer) Recompute(ctx context.Context) error {
	_, err := checkRows(ctx, i.log.Reader, i.log.View, rest)
	if ctx.Err() == nil && denial.Is(err, denial.StoreFault) {
		i.log.Stop()
	}
	return err
}

// CheckRows computes every row that a decision depends on again from the entries, and compares it with what is stored: what is
// consumed, the states of hosts, gates, initiators, policies and keys, revocations and holds, the status list, and the counters. What differs
// is 906. It takes a reader of the log's latest state and how to read one state of it, and returns the number of entries.
//
// It remembers what there are few of. Rows of which each artifact or record has its own are compared one by one as their entry is read,
// and counted in the end. The high-water mark of a TPM may be ahead of what the entries say, which permits nothing: a quote that was refused
// raises it too.
func CheckRows(ctx context.Context, latest tlog.Reader, view func(context.Context, func(tlog.Reader) error) error) (uint64, error) {
	return checkRows(ctx, latest, view, func(context.Context, time.Duration) {})
}

// rest waits for as long as something took.
func rest(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func checkRows(ctx context.Context, latest tlog.Reader, view func(context.Context, func(tlog.Reader) error) error,
	between func(context.Context, time.Duration)) (size uint64, err error) {
	p := &replay{rows: map[rowName]statement.Digest{}, few: map[string]uint64{}, many: map[string]uint64{}, spent: map[string]uint64{}, counters: map[string]uint64{},
		approved: map[string]approvedHost{}, hosts: map[string]hostState{}, gates: map[string]gateState{}, clocks: map[string]attest.Clock{}, due: map[string]uint64{}, policies: map[record.PolicyKind]policyState{}}
	for {
		began := time.Now()
		if size, err = latest.Size(ctx); err != nil {
			return 0, err
		}
		if size-p.next <= rowsSlice {
			break
		}
		if err := p.read(ctx, latest, p.next+rowsSlice); err != nil {
			return 0, err
		}
		between(ctx, time.Since(began))
	}
	err = view(ctx, func(r tlog.Reader) (err error) {
		if size, err = r.Size(ctx); err != nil {
			return err
		}
		if err := p.read(ctx, r, size); err != nil {
			return err
		}
		return p.finish(ctx, r)
	})
	return size, err
}

// replay is what the entries up to the next one have come to.
type replay struct {
	next     uint64
	rows     map[rowName]statement.Digest // digest of the value
	few      map[string]uint64            // bucket -> how many of rows
	many     map[string]uint64            // bucket -> how many rows were compared one by one
	spent    map[string]uint64            // set -> how many keys
	counters map[string]uint64
	approved map[string]approvedHost // by EK digest
	hosts    map[string]hostState
	gates    map[string]gateState    // by key thumbprint
	clocks   map[string]attest.Clock // by EK digest: the furthest that an artifact shows
	due      map[string]uint64       // digest of a break-glass act without a review -> when it must be due at the latest
	act      statement.Digest        // of the payload of the act that the last entry is a statement of
	leaves   record.Bundle           // its statements
	changes  []statement.Digest      // payloads of changes of keys
	policies map[record.PolicyKind]policyState
	genesis  record.Bundle
	purged   uint64
}

type rowName struct{ bucket, key string }

// approvedHost is an enrolment of a host by authorities, and the digest of its payload.
type approvedHost struct {
	record.Enrolment
	act statement.Digest
}

// unknownValue stands for a value that the entries do not tell.
var unknownValue = statement.Digest{}

// exact are the buckets of which every row is remembered.
var exact = []string{bucketHost, bucketAK, bucketApproved, bucketGate, bucketInitiator, bucketPolicy, bucketPublished, bucketRevoked,
	bucketHeld, bucketGlass, bucketUnreviewed, bucketKeys, bucketEpoch, bucketHold}

// single are the buckets of which each row is compared as its entry is read.
var single = []string{bucketPermit, bucketPermitOf, bucketAttested}

// consumed are the sets of which each key is compared as its entry is read.
var consumed = []string{onceAct, onceRequest, onceHost, onceEK, onceStatus, onceKey, onceUse, onceGlass, onceReview}

func differs(what string, index uint64) error {
	return denial.New(denial.StoreFault, "the rows of the log do not follow from its entries: %s, at entry %d", what, index)
}

func (p *replay) set(bucket string, key, value []byte) {
	p.setDigest(bucket, key, statement.DigestOf(value))
}

func (p *replay) setDigest(bucket string, key []byte, value statement.Digest) {
	name := rowName{bucket, string(key)}
	if _, there := p.rows[name]; !there {
		p.few[bucket]++
	}
	p.rows[name] = value
}

func (p *replay) drop(bucket string, key []byte) {
	name := rowName{bucket, string(key)}
	if _, there := p.rows[name]; there {
		p.few[bucket]--
		delete(p.rows, name)
	}
}

func (p *replay) has(bucket string, key []byte) bool {
	_, there := p.rows[rowName{bucket, string(key)}]
	return there
}

func (p *replay) setState(bucket string, key []byte, state any) error {
	row, err := put(bucket, key, state)
	if err == nil {
		p.set(bucket, key, row.Value)
	}
	return err
}

// consume demands that the entry at index consumed a key.
func (p *replay) consume(ctx context.Context, r tlog.Reader, index uint64, set string, key []byte) error {
	at, found, err := r.Spent(ctx, set, key)
	if err == nil && (!found || at != index) {
		err = differs("what was consumed once ("+set+")", index)
	}
	p.spent[set]++
	return err
}

// row demands that a row is there.
func (p *replay) row(ctx context.Context, r tlog.Reader, index uint64, bucket string, key, want []byte) error {
	value, found, err := r.Value(ctx, bucket, key)
	if err == nil && (!found || !bytes.Equal(value, want)) {
		err = differs(bucket, index)
	}
	p.many[bucket]++
	return err
}

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
	permit, err := put(bucketPermit, status, permitState{
		CTI: c.ID, Host: c.Subject, Initiator: c.Initiator.Principal, Expires: c.Expires, Uses: c.Limits.MaxUses(), Gate: c.Audience,
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
	return p.request(ctx, r, index, c.Policy.Request.Value)
}

// request demands that the request with a digest is consumed. Its id stands in the payload that was kept of it; where that is deleted, the
// request is only counted.
func (p *replay) request(ctx context.Context, r tlog.Reader, index uint64, digest []byte) error {
	if len(digest) != len(statement.Digest{}) {
		return differs("the request of an artifact", index)
	}
	raw, found, err := r.BlobOf(ctx, index, statement.Digest(digest))
	if err != nil {
		return err
	}
	if !found {
		var gone uint64
		if _, err := load(ctx, r, bucketPurged, []byte("index"), &gone); err != nil {
			return err
		}
		if index >= gone {
			return differs("the payload of a request", index)
		}
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

// finish compares what has been remembered, and that there is nothing more than what follows from the entries.
func (p *replay) finish(ctx context.Context, r tlog.Reader) error {
	for _, bucket := range exact {
		if err := p.compare(ctx, r, bucket); err != nil {
			return err
		}
	}
	for _, bucket := range single {
		if n, err := r.CountRows(ctx, bucket); err != nil || n != p.many[bucket] {
			return firstOf(err, differs("rows too many or too few in "+bucket, p.next))
		}
	}
	for _, set := range consumed {
		if n, err := r.CountSpent(ctx, set); err != nil || n != p.spent[set] {
			return firstOf(err, differs("too much or too little was consumed once ("+set+")", p.next))
		}
	}
	if err := p.compareCounters(ctx, r); err != nil {
		return err
	}
	if err := p.compareClocks(ctx, r); err != nil {
		return err
	}
	var gone uint64
	if _, err := load(ctx, r, bucketPurged, []byte("index"), &gone); err != nil || gone != p.purged {
		return firstOf(err, differs(bucketPurged, p.next))
	}
	genesis, err := p.genesis.Encode()
	if err != nil {
		return err
	}
	if act, found, err := r.Value(ctx, bucketGenesis, []byte("act")); err != nil || !found || !bytes.Equal(act, genesis) {
		return firstOf(err, differs(bucketGenesis, 0))
	}
	return nil
}

func firstOf(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

// compare compares the rows of a bucket.
func (p *replay) compare(ctx context.Context, r tlog.Reader, bucket string) error {
	found := uint64(0)
	err := r.Each(ctx, bucket, nil, func(key, value []byte) error {
		want, there := p.rows[rowName{bucket, string(key)}]
		found++
		ok := there && (want == unknownValue || want == statement.DigestOf(value))
		switch bucket {
		case bucketGlass:
			var g glassState
			ok = there && statement.Unmarshal(value, &g) == nil && want == statement.DigestOf(g.Payload)
		case bucketUnreviewed:
			ok = there && len(value) == 8 && binary.BigEndian.Uint64(value) <= p.due[string(key)]
		}
		if !ok {
			return differs(bucket, p.next)
		}
		return nil
	})
	if err == nil && found != p.few[bucket] {
		err = differs("rows are missing in "+bucket, p.next)
	}
	return err
}

// compareCounters compares the counters, but for the versions of high-water marks, which refusals raise too.
func (p *replay) compareCounters(ctx context.Context, r tlog.Reader) error {
	stored, err := r.Counters(ctx)
	if err != nil {
		return err
	}
	for name, value := range stored {
		if !strings.HasPrefix(name, counterClock) && value != p.counters[name] {
			return differs("the counter "+name, p.next)
		}
	}
	for name, value := range p.counters {
		if stored[name] != value {
			return differs("the counter "+name, p.next)
		}
	}
	return nil
}

// compareClocks demands that no high-water mark is behind what an artifact shows.
func (p *replay) compareClocks(ctx context.Context, r tlog.Reader) error {
	for ek, seen := range p.clocks {
		var mark markState
		found, err := load(ctx, r, bucketHighWater, []byte(ek), &mark)
		if err != nil || !found || beyond(seen, mark.Clock) {
			return firstOf(err, differs(bucketHighWater, p.next))
		}
	}
	return nil
}
