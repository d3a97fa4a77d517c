package issuer

import (
	"context"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// Restoration is an epoch that enough authorities have signed, for the log that is here: see VerifyEpoch.
type Restoration struct {
	Epoch *record.Epoch
	act   *record.Act
}

// VerifyEpoch checks an epoch against a log that is to go on from a backup, in this order: signatures and threshold, of those who are
// authorities at its end (326, 409; see record.Authorities.Verify); the payload (104, 911, 409); it is for this issuer, log and genesis (706). Whether the log
// stands at the head that it names is for tlog.Open to say, and whether it is its turn for Begin.
func VerifyEpoch(ctx context.Context, log changes, b record.Bundle) (*Restoration, error) {
	g, genesis, err := ReadGenesis(ctx, log)
	if err != nil {
		return nil, err
	}
	ring, err := ReadKeys(ctx, log)
	if err != nil {
		return nil, err
	}
	act, err := ring.Authorities().Verify(b, statement.Epoch)
	if err != nil {
		return nil, err
	}
	e, err := record.ReadEpoch(act)
	if err != nil {
		return nil, err
	}
	first, err := statement.Decode(genesis[0], statement.MaxStatement)
	if err != nil {
		return nil, err
	}
	if act.Claims().Issuer != g.Issuer || e.Log != g.Log || statement.Digest(e.Genesis) != statement.DigestOf(first.Payload()) {
		return nil, denial.New(denial.IdentityConflict, "the epoch is of another log")
	}
	return &Restoration{e, act}, nil
}

// Restored returns what the log has to be opened with.
func (r *Restoration) Restored() *tlog.Restored {
	return &tlog.Restored{Head: receipt.Head{Size: r.Epoch.Size, Root: receipt.Hash(r.Epoch.Root)}, Act: statement.DigestOf(r.act.Leaves()[0]), Entries: uint64(len(r.act.Leaves())),
		Covered: func(size uint64, root receipt.Hash) bool { return r.Epoch.Covers(size, root) }}
}

// Begin makes the act the next entries of the log, or finds that a run which was cut short has done so. It checks, in this order: the log
// ends at the head that the act names (508, 325); the act is in time and the next epoch (201, 202, 409).
func (r *Restoration) Begin(ctx context.Context, log *tlog.Log, now time.Time) error {
	leaves, e := r.act.Leaves(), r.Epoch
	head := log.Head().Head
	index, found, err := log.Find(ctx, statement.DigestOf(leaves[0]))
	switch {
	case err != nil:
		return err
	case found && index == e.Size && head.Size == e.Size+uint64(len(leaves)):
		return nil
	case head.Size != e.Size:
		return denial.New(denial.StateRollback, "the log has %d entries, and the epoch is of one with %d", head.Size, e.Size)
	case head.Root != receipt.Hash(e.Root):
		return denial.New(denial.LogInconsistent, "the log has another root than the epoch says")
	}
	counter := counterOf(statement.Epoch, r.act.Claims().Subject)
	before, err := log.Counter(ctx, counter)
	if err != nil {
		return err
	}
	if err := r.act.Follows(before, uint64(now.Unix())); err != nil {
		return err
	}
	digest := r.act.Digest()
	row, err := put(bucketEpoch, []byte("newest"), epochState{e.Number, e.Size, r.act.Claims().IssuedAt})
	if err != nil {
		return err
	}
	kept, err := record.Bundle(leaves).Encode()
	if err != nil {
		return err
	}
	entries := make([]tlog.Entry, len(leaves))
	entries[0] = tlog.Entry{After: r.act.Claims().IssuedAt, Puts: []tlog.Put{row, {Bucket: bucketEpoch, Key: sequenceKey(e.Number), Value: kept}},
		Guards: []tlog.Guard{{Counter: counter, Value: before}}, Bumps: []string{counter},
		Once: []tlog.Once{{Set: onceAct, Key: digest[:], Reason: denial.RequestReplayed}}}
	for n, leaf := range leaves {
		entries[n].Leaf = leaf
	}
	if entries, err = indexed(entries); err != nil {
		return err
	}
	_, err = log.Append(ctx, entries...)
	return err
}

// Epoch is where the log has begun to count anew: behind a backup that was not its newest state. The zero Epoch is the first.
type Epoch struct {
	Number uint64
	Index  uint64 // of the act
	Since  uint64 // logged time, seconds since 1970 UTC
	Void   uint64 // requests that were signed up to then may have been answered in what is lost
}

// epochState is the newest epoch in the rows of the log.
type epochState struct {
	Number  uint64 `cbor:"1,keyasint"`
	Index   uint64 `cbor:"2,keyasint"`
	Drafted uint64 `cbor:"3,keyasint"` // what is lost was logged before that
}

// initiatorSkew is by how many seconds the clock of an initiator may be ahead.
const initiatorSkew = 60

// readEpoch returns the newest epoch. It changes only while no issuer is open.
func readEpoch(ctx context.Context, log *tlog.Log) (Epoch, error) {
	var s epochState
	found, err := load(ctx, log, bucketEpoch, []byte("newest"), &s)
	if err != nil || !found {
		return Epoch{}, err
	}
	since, err := log.LoggedAt(ctx, s.Index)
	return Epoch{s.Number, s.Index, since, max(since, s.Drafted+initiatorSkew)}, err
}

// NextEpoch returns the number that the next epoch of a log has, which may be served meanwhile.
func NextEpoch(ctx context.Context, log interface {
	Counter(ctx context.Context, name string) (uint64, error)
}, issuer string) (uint64, error) {
	n, err := log.Counter(ctx, counterOf(statement.Epoch, record.EpochSubject(issuer)))
	return n + 1, err
}

// Epoch returns the newest epoch.
func (i *Issuer) Epoch() Epoch { return i.since }

// epochs returns every epoch with its receipts, for the key history.
func (i *Issuer) epochs(ctx context.Context) (all [][][]byte, err error) {
	for n := range i.since.Number {
		raw, found, err := i.log.Value(ctx, bucketEpoch, sequenceKey(n+1))
		if err == nil && !found {
			err = denial.New(denial.StoreFault, "an epoch is missing in the rows of the log")
		}
		if err != nil {
			return nil, err
		}
		b, err := record.DecodeBundle(raw)
		if err != nil {
			return nil, err
		}
		act := [][]byte{}
		for _, leaf := range b {
			t, err := i.transparent(ctx, leaf)
			if err != nil {
				return nil, err
			}
			act = append(act, t)
		}
		all = append(all, act)
	}
	return all, nil
}

// inEpoch refuses what was permitted before the log was restored: a revocation of it, and its uses, may be lost.
func (i *Issuer) inEpoch(ctx context.Context, cti []byte) error {
	if i.since.Number == 0 {
		return nil
	}
	status, found, err := i.log.Value(ctx, bucketPermitOf, cti)
	if err != nil || !found {
		return err
	}
	index, _, err := i.log.Spent(ctx, onceStatus, status)
	if err == nil && index < i.since.Index {
		err = denial.New(denial.ArtifactRevoked, "the log was restored since: whether it was revoked or used is not known any more")
	}
	return err
}
