package issuer

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"time"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
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
var consumed = []string{onceAct, onceRequest, onceHost, onceEK, onceStatus, onceKey, onceUse, onceGlass, onceReview, onceDelegation}

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
