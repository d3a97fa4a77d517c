package issuer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// Token gives the use of the issuer's keys.
type Token interface {
	// Signer returns the use of the key for a purpose that has the thumbprint; 904 if the token has none that may be used.
	Signer(ctx context.Context, purpose string, key statement.Thumbprint) (statement.Signer, error)
	// Release says that a key signs nothing more: the token may lose it.
	Release(key statement.Thumbprint)
}

// keys are the issuer's keys as the log has them, and the use of those that sign. They are replaced whole.
type keys struct {
	token Token
	mu    sync.RWMutex
	now   *inUse
	bound map[statement.Thumbprint]statement.Signer
}

// inUse is the ring after some number of key changes, with the use of the keys that are active in it.
type inUse struct {
	ring    *record.KeyRing
	signers map[string]statement.Signer // by purpose
}

// signer returns the use of the key that is active for a purpose (802 if none is).
func (u *inUse) signer(purpose string) (statement.Signer, error) {
	if s := u.signers[purpose]; s != nil {
		return s, nil
	}
	return nil, denial.New(denial.KeyRevoked, "no %s key is in use: authorities have suspended or retired it", purpose)
}

// guard demands that no key has changed since: what one of the keys signed is logged before the change, or not at all.
func (u *inUse) guard() tlog.Guard {
	return tlog.Guard{Counter: counterKeys, Value: u.ring.Sequence()}
}

// current returns the keys as the log has them now. Whoever signs with them adds their guard to what it appends.
func (k *keys) current(ctx context.Context, log *tlog.Log) (*inUse, error) {
	version, err := log.Counter(ctx, counterKeys)
	if err != nil {
		return nil, err
	}
	k.mu.RLock()
	now := k.now
	k.mu.RUnlock()
	if now != nil && now.ring.Sequence() >= version {
		return now, nil
	}
	ring, err := ReadKeys(ctx, log)
	if err != nil {
		return nil, err
	}
	return k.adopt(ctx, ring)
}

// adopt puts a ring in place of an older one and lets go of the keys that sign no more.
func (k *keys) adopt(ctx context.Context, ring *record.KeyRing) (*inUse, error) {
	next, err := k.bind(ctx, ring)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.now != nil && k.now.ring.Sequence() >= ring.Sequence() {
		return k.now, nil
	}
	k.now = next
	for id := range k.bound {
		if key := ring.Find(id); key == nil || key.State != record.KeyActive && key.State != record.KeySuspended {
			delete(k.bound, id)
			k.token.Release(id)
		}
	}
	return next, nil
}

// bind has the token give the use of every key that is active in a ring.
func (k *keys) bind(ctx context.Context, ring *record.KeyRing) (*inUse, error) {
	next := &inUse{ring: ring, signers: map[string]statement.Signer{}}
	for _, p := range record.Purposes() {
		key := ring.Active(p)
		if key == nil {
			continue
		}
		s, err := k.use(ctx, p, key.Key)
		if err != nil {
			return nil, err
		}
		next.signers[p] = s
	}
	return next, nil
}

func (k *keys) use(ctx context.Context, purpose string, key statement.Key) (statement.Signer, error) {
	id := key.Thumbprint()
	k.mu.RLock()
	s := k.bound[id]
	k.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	s, err := k.token.Signer(ctx, purpose, id)
	if err != nil {
		return nil, err
	}
	if !s.Key().Equal(key) {
		return nil, denial.New(denial.HSMKeyPolicy, "the %s key of the token is not the one that is in use", purpose)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.bound == nil {
		k.bound = map[statement.Thumbprint]statement.Signer{}
	}
	k.bound[id] = s
	return s, nil
}

// changes is what the keys of an issuer are read from: the log itself or a snapshot of it.
type changes interface {
	reader
	Counter(ctx context.Context, name string) (uint64, error)
	Find(ctx context.Context, digest statement.Digest) (uint64, bool, error)
	LoggedAt(ctx context.Context, index uint64) (uint64, error)
}

// ReadKeys returns every key that the issuer of a log ever had: it follows genesis and each key change, at its logged
// time. Rows that do not give an unbroken chain, or another number of changes than was counted, are 906.
func ReadKeys(ctx context.Context, log changes) (*record.KeyRing, error) {
	g, b, err := ReadGenesis(ctx, log)
	if err != nil {
		return nil, err
	}
	genesis, err := statement.Decode(b[0], statement.MaxStatement)
	if err != nil {
		return nil, err
	}
	version, err := log.Counter(ctx, counterKeys)
	if err != nil {
		return nil, err
	}
	ring := record.NewKeyRing(g, statement.DigestOf(genesis.Payload()))
	for n := uint64(1); n <= version; n++ {
		b, err := changeAt(ctx, log, n)
		if err == nil {
			ring, err = following(ctx, log, ring, b)
		}
		if err != nil {
			return nil, fmt.Errorf("following key change %d: %w", n, err)
		}
	}
	return ring, nil
}

// changeAt returns the act of a key change by its number.
func changeAt(ctx context.Context, log reader, n uint64) (record.Bundle, error) {
	raw, found, err := log.Value(ctx, bucketKeys, sequenceKey(n))
	if err == nil && !found {
		err = denial.New(denial.StoreFault, "a change of keys is missing in the rows of the log")
	}
	if err != nil {
		return nil, err
	}
	return record.DecodeBundle(raw)
}

func following(ctx context.Context, log changes, ring *record.KeyRing, b record.Bundle) (*record.KeyRing, error) {
	act, err := ring.Authorities().Verify(b, statement.KeyChange)
	if err != nil {
		return nil, err
	}
	index, found, err := log.Find(ctx, statement.DigestOf(act.Leaves()[0]))
	if err == nil && !found {
		err = denial.New(denial.StoreFault, "a change of keys is not in the log")
	}
	if err != nil {
		return nil, err
	}
	logged, err := log.LoggedAt(ctx, index)
	if err != nil {
		return nil, err
	}
	return ring.Apply(act, logged)
}

// CheckKeys reads the first size entries of a log and compares the key changes among them with a ring that its rows give: none may
// be missing there, or stand there alone (906).
func CheckKeys(ctx context.Context, log interface {
	Leaves(ctx context.Context, from, to uint64, fn func(index uint64, leaf []byte) error) error
}, size uint64, ring *record.KeyRing) error {
	var last statement.Digest
	seen := uint64(0)
	err := log.Leaves(ctx, 0, size, func(_ uint64, leaf []byte) error {
		env, err := statement.Decode(leaf, statement.MaxStatement)
		if err != nil || env.Kind() != statement.KeyChange {
			return err
		}
		digest := statement.DigestOf(env.Payload())
		if digest == last {
			return nil // another signature of the same act
		}
		last = digest
		seen++
		if told, ok := ring.Change(seen); !ok || told != digest {
			return denial.New(denial.StoreFault, "key change %d in the log is not the one in its rows", seen)
		}
		return nil
	})
	if err == nil && seen != ring.Sequence() {
		err = denial.New(denial.StoreFault, "the rows of the log have %d key changes, its entries %d", ring.Sequence(), seen)
	}
	return err
}

func sequenceKey(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

// keyEffect changes the states of the issuer's keys. It checks, in this order: what KeyRing.Apply does, as of now; the
// token has the use of every key that becomes active (903, 904). If the log key changes, the head over the act is the
// first of the new one.
func (i *Issuer) keyEffect(ctx context.Context, act *record.Act) (tlog.Entry, error) {
	use, err := i.keys.current(ctx, i.log)
	if err != nil {
		return tlog.Entry{}, err
	}
	now := uint64(i.now().Unix())
	ring, err := use.ring.Apply(act, now)
	if err != nil {
		return tlog.Entry{}, err
	}
	next, err := i.keys.bind(ctx, ring)
	if err != nil {
		return tlog.Entry{}, err
	}
	leaves, err := record.Bundle(act.Leaves()).Encode()
	if err != nil {
		return tlog.Entry{}, err
	}
	entry := tlog.Entry{After: now, Guards: []tlog.Guard{use.guard()}, Bumps: []string{counterKeys},
		Puts: []tlog.Put{{Bucket: bucketKeys, Key: sequenceKey(ring.Sequence()), Value: leaves}}}
	if err := i.reset(ctx, act, &entry); err != nil {
		return tlog.Entry{}, err
	}
	if log := next.signers[record.PurposeLog]; !log.Key().Equal(use.signers[record.PurposeLog].Key()) {
		entry.Signer = log
	}
	return entry, nil
}

// reset lets the next policies have any version, of the kinds for which a change of authorities says so.
func (i *Issuer) reset(ctx context.Context, act *record.Act, entry *tlog.Entry) error {
	c, err := record.ReadKeyChange(act.Payload())
	if err != nil || c.People == nil || len(c.People.Reset) == 0 {
		return err
	}
	guards, err := i.guards(ctx, counterPolicy)
	if err != nil {
		return err
	}
	entry.Guards = append(entry.Guards, guards...)
	for _, kind := range c.People.Reset {
		var state policyState
		if found, err := load(ctx, i.log, bucketPolicy, []byte(kind), &state); err != nil || !found {
			return errors.Join(err, denial.New(denial.NoActivePolicy, "no %s policy has been published: there is nothing to begin anew", kind))
		}
		state.Reset = true
		row, err := put(bucketPolicy, []byte(kind), state)
		if err != nil {
			return err
		}
		entry.Puts = append(entry.Puts, row)
	}
	return nil
}

// KeyRing returns the keys as the log has them now.
func (i *Issuer) KeyRing(ctx context.Context) (*record.KeyRing, error) {
	use, err := i.keys.current(ctx, i.log)
	if err != nil {
		return nil, err
	}
	return use.ring, nil
}

// KeyHistory returns genesis and every key change with its receipts: see artifact.KeyHistory.
func (i *Issuer) KeyHistory(ctx context.Context) ([]byte, error) {
	use, err := i.keys.current(ctx, i.log)
	if err != nil {
		return nil, err
	}
	_, genesis, err := ReadGenesis(ctx, i.log)
	if err != nil {
		return nil, err
	}
	h := artifact.KeyHistory{Genesis: genesis, Changes: [][][]byte{}}
	for n := range use.ring.Sequence() {
		b, err := changeAt(ctx, i.log, n+1)
		if err != nil {
			return nil, err
		}
		change := [][]byte{}
		for _, leaf := range b {
			raw, err := i.transparent(ctx, leaf)
			if err != nil {
				return nil, err
			}
			change = append(change, raw)
		}
		h.Changes = append(h.Changes, change)
	}
	if h.Epochs, err = i.epochs(ctx); err != nil {
		return nil, err
	}
	return h.Encode()
}

// transparent returns a leaf of the log with its receipt. It was committed, but the head over it may be about to be signed, or have found a log
// key that does not sign: then it is signed now, or this is 903 as well.
func (i *Issuer) transparent(ctx context.Context, leaf []byte) ([]byte, error) {
	index, found, err := i.log.Find(ctx, statement.DigestOf(leaf))
	if err == nil && !found {
		err = denial.New(denial.StoreFault, "a statement is not in the log")
	}
	if err != nil {
		return nil, err
	}
	r, err := i.log.Receipt(ctx, index)
	if errors.Is(err, tlog.ErrNotFound) {
		if err = i.log.SignHeads(ctx); err == nil {
			r, err = i.log.Receipt(ctx, index)
		}
	}
	if err != nil {
		return nil, err
	}
	return statement.Attach(leaf, r)
}

// openKeys reads the keys of the log and binds those in use. The log must sign with the log key of them (904).
func (i *Issuer) openKeys(ctx context.Context) error {
	if i.keys.token == nil {
		return denial.New(denial.HSMKeyPolicy, "there is no token with the issuer's keys")
	}
	use, err := i.keys.current(ctx, i.log)
	if err != nil {
		return err
	}
	if !i.log.Keys()[0].Equal(use.signers[record.PurposeLog].Key()) {
		return denial.New(denial.HSMKeyPolicy, "the log signs with another log key than the one that is in use")
	}
	return nil
}

// signer returns the use of the key that is active for a purpose, and the keys that it is one of.
func (i *Issuer) signer(ctx context.Context, purpose string) (*inUse, statement.Signer, error) {
	use, err := i.keys.current(ctx, i.log)
	if err != nil {
		return nil, nil, err
	}
	s, err := use.signer(purpose)
	return use, s, err
}

// signRecord signs a record as the leaf of an entry, which is stale if the keys change before it is appended.
func (i *Issuer) signRecord(ctx context.Context, entry *tlog.Entry, r *record.Record, subject string) error {
	use, s, err := i.signer(ctx, record.PurposeRecord)
	if err != nil {
		return err
	}
	entry.Guards = append(entry.Guards, use.guard())
	entry.Leaf, err = r.Sign(ctx, s, subject)
	return err
}
