package issuer

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// ListSize is the number of artifacts in one status list: 32 KiB before compression.
const ListSize = 1 << 16

// StatusLife is for how long a status list token is served before it is signed anew, in seconds. For how long a gate
// may go on with it is for its trust file to say.
const StatusLife = 10

// indices hands out status indices. Those of requests that were denied are not used again before a restart, or ever.
type indices struct {
	mu   sync.Mutex
	next uint64
}

func (x *indices) take() uint64 {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.next++
	return x.next - 1
}

// load goes on behind the last index that an artifact has.
func (x *indices) load(ctx context.Context, log *tlog.Log) error {
	last, found, err := log.LastKey(ctx, bucketPermit)
	if err == nil && found && len(last) != 8 {
		err = denial.New(denial.StoreFault, "the place of an artifact in the status list has %d bytes", len(last))
	}
	if err != nil {
		return fmt.Errorf("finding the last status index: %w", err)
	}
	if found {
		x.next = binary.BigEndian.Uint64(last) + 1
	}
	return nil
}

// maxLists is how many status lists are kept ready.
const maxLists = 64

// lists keeps status lists ready, each under a lock of its own, so that none waits for another's signature.
type lists struct {
	mu  sync.Mutex
	all map[uint64]*list
}

func (ls *lists) at(n uint64) *list {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l, ok := ls.all[n]
	if !ok {
		if ls.all == nil || len(ls.all) >= maxLists {
			ls.all = map[uint64]*list{}
		}
		l = &list{}
		ls.all[n] = l
	}
	return l
}

// list is a status list. Its values change with a revocation, a hold or a change of keys and never otherwise: what is revoked gets no new artifact.
type list struct {
	mu      sync.Mutex
	values  []artifact.StatusValue
	version uint64 // counterRevoked that the values show
	keys    *inUse // that the token was signed under
	token   []byte // nil until signed
	issued  uint64
}

// StatusURI returns the address of status list n.
func (i *Issuer) StatusURI(n uint64) string {
	return i.base + "/v1/status/" + strconv.FormatUint(n, 10)
}

// Status returns the token of status list n, signed at most StatusLife ago and never before the last revocation or change of keys. A list
// that no artifact can name is NOT_PERMITTED.
func (i *Issuer) Status(ctx context.Context, n uint64) ([]byte, error) {
	i.indices.mu.Lock()
	last := i.indices.next / ListSize
	i.indices.mu.Unlock()
	if n > last {
		return nil, i.refuseStranger(denial.New(denial.NotPermitted, "there is no such status list"))
	}
	l := i.lists.at(n)
	l.mu.Lock()
	defer l.mu.Unlock()
	token, err := i.signedStatus(ctx, n, l)
	if err != nil {
		return nil, i.refuseStranger(err)
	}
	return token, nil
}

func (i *Issuer) signedStatus(ctx context.Context, n uint64, l *list) ([]byte, error) {
	version, err := i.log.Counter(ctx, counterRevoked)
	if err != nil {
		return nil, err
	}
	use, signer, err := i.signer(ctx, record.PurposeStatus)
	if err != nil {
		return nil, err
	}
	now := uint64(i.now().Unix())
	fresh := l.values != nil && l.version == version && l.keys == use
	if fresh && l.token != nil && now >= l.issued && now < l.issued+StatusLife {
		return l.token, nil
	}
	if !fresh {
		values, err := i.statuses(ctx, n, use.ring)
		if err != nil {
			return nil, err
		}
		l.values, l.version = values, version
	}
	life := uint64(artifact.MaxRevocationAge / time.Second)
	list := artifact.StatusList{Issuer: i.genesis.Issuer, URI: i.StatusURI(n), IssuedAt: now, Expires: now + life, TTL: life, Values: l.values, Since: i.since.Since}
	if n := use.ring.Sequence(); n > 0 {
		head := use.ring.Head()
		list.Keys = &artifact.KeyPin{Change: n, Digest: head[:]}
	}
	l.token, err = artifact.SignStatus(ctx, signer, list)
	l.issued, l.keys = now, use
	return l.token, err
}

// statuses reads the values of list n. While nothing is revoked, and no artifact key has fallen or rests, that costs nothing.
func (i *Issuer) statuses(ctx context.Context, n uint64, ring *record.KeyRing) ([]artifact.StatusValue, error) {
	values := make([]artifact.StatusValue, ListSize)
	revoked, err := i.revocations(ctx)
	if err != nil || len(revoked) == 0 && !fallen(ring) {
		return values, err
	}
	prefix := indexKey(n * ListSize)[:6] // a list is 2^16 indices: all keys with the same first six bytes
	var above forebears
	err = i.log.Each(ctx, bucketPermit, prefix, func(key, value []byte) error {
		var p permitState
		if err := statement.Unmarshal(value, &p); err != nil {
			return err
		}
		at := binary.BigEndian.Uint64(key) % ListSize
		if values[at] = artifact.StatusValue(p.cause(revoked)); values[at] == artifact.StatusValid {
			above.add(at, p.Ancestors)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return values, i.inherit(ctx, values, &above, revoked)
}

// fallen reports whether some artifact key counts no more for all that it has signed.
func fallen(ring *record.KeyRing) bool {
	return slices.ContainsFunc(ring.Keys(), func(k record.IssuerKey) bool {
		return k.Purpose == record.PurposeArtifact && (k.State == record.KeyCompromised || k.State == record.KeySuspended || len(k.Gaps) > 0)
	})
}

// forebears are the artifacts that others of a list descend from, each once.
type forebears struct {
	ids []string         // ctis
	at  map[string]int32 // the place of each in ids
	of  map[uint64][]int32
}

func (f *forebears) add(heir uint64, ancestors [][]byte) {
	if f.at == nil {
		f.at, f.of = map[string]int32{}, map[uint64][]int32{}
	}
	for _, cti := range ancestors {
		n, ok := f.at[string(cti)]
		if !ok {
			n = int32(len(f.ids))
			f.ids = append(f.ids, string(cti))
			f.at[string(cti)] = n
		}
		f.of[heir] = append(f.of[heir], n)
	}
}

// inherit sets the values of artifacts that descend from one that is revoked, or was signed by a key that counts no more.
func (i *Issuer) inherit(ctx context.Context, values []artifact.StatusValue, above *forebears, revoked map[string]record.Cause) error {
	gone := make([]bool, len(above.ids))
	for n, cti := range above.ids {
		p, err := i.permitOf(ctx, []byte(cti))
		if err != nil {
			return err
		}
		if gone[n] = p.cause(revoked) != 0; gone[n] {
			continue
		}
		err = i.believed(ctx, p)
		if _, gone[n] = causeFor(err); err != nil && !gone[n] && !denial.Is(err, denial.KeyOutsideValidity) {
			return err
		}
		gone[n] = err != nil
	}
	for heir, all := range above.of {
		if slices.ContainsFunc(all, func(n int32) bool { return gone[n] }) {
			values[heir] = artifact.StatusValue(record.CauseAncestor)
		}
	}
	return nil
}

// revocations returns all that is revoked, by cause and target. A host that is held is among it while it is held.
func (i *Issuer) revocations(ctx context.Context) (map[string]record.Cause, error) {
	all := map[string]record.Cause{}
	err := i.log.Each(ctx, bucketRevoked, nil, func(key, _ []byte) error {
		all[string(key)] = record.Cause(key[0])
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = i.log.Each(ctx, bucketHeld, nil, func(key, _ []byte) error {
		all[string(revokedKey(record.CauseHost, string(key)))] = record.CauseHost
		return nil
	})
	return all, err
}

// cause returns why the artifact is revoked, zero if it is not: its own revocation first, then host, policy, initiator.
func (p permitState) cause(revoked map[string]record.Cause) record.Cause {
	keys := [][]byte{revokedKey(record.CauseArtifact, hex.EncodeToString(p.CTI)), revokedKey(record.CauseHost, p.Host)}
	for _, hash := range p.Policies {
		keys = append(keys, revokedKey(record.CausePolicy, hash))
	}
	for _, k := range append(keys, revokedKey(record.CauseInitiator, p.Initiator)) {
		if c, ok := revoked[string(k)]; ok {
			return c
		}
	}
	return 0
}
