package issuer

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// ListSize is the number of artifacts in one status list: 32 KiB before compression.
const ListSize = 1 << 16

// StatusLife is for how long a status list token is served before it is signed anew, in seconds; its ttl.
const StatusLife = 10

// indices hands out status indices and remembers which artifact each is.
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

// lists caches signed status list tokens. A token is signed anew when a revocation came or StatusLife has passed.
type lists struct {
	mu     sync.Mutex
	tokens map[uint64]token
}

type token struct {
	raw     []byte
	version uint64 // counterRevoked that it shows
	issued  uint64
}

// StatusURI returns the address of status list n.
func (i *Issuer) StatusURI(n uint64) string {
	return i.base + "/v1/status/" + strconv.FormatUint(n, 10)
}

// loadPermits finds the first status index that no artifact has.
func (i *Issuer) loadPermits(ctx context.Context) error {
	err := i.log.Each(ctx, bucketPermit, nil, func(key, _ []byte) error {
		if len(key) == 8 {
			i.indices.next = max(i.indices.next, binary.BigEndian.Uint64(key)+1)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading permits: %w", err)
	}
	return nil
}

// Status returns the token of status list n, signed at most StatusLife ago and never before the last revocation.
func (i *Issuer) Status(ctx context.Context, n uint64) ([]byte, error) {
	if n > 1<<32 {
		return nil, denial.New(denial.RequestLimit, "no such status list")
	}
	version, err := i.log.Counter(ctx, counterRevoked)
	if err != nil {
		return nil, err
	}
	now := uint64(i.now().Unix())
	i.lists.mu.Lock()
	defer i.lists.mu.Unlock()
	if t, ok := i.lists.tokens[n]; ok && t.version == version && now < t.issued+StatusLife {
		return t.raw, nil
	}
	raw, err := i.signStatus(ctx, n, now)
	if err != nil {
		return nil, err
	}
	if i.lists.tokens == nil || len(i.lists.tokens) > 1024 {
		i.lists.tokens = map[uint64]token{}
	}
	i.lists.tokens[n] = token{raw, version, now}
	return raw, nil
}

func (i *Issuer) signStatus(ctx context.Context, n, now uint64) ([]byte, error) {
	values := make([]artifact.StatusValue, ListSize)
	revoked, err := i.revocations(ctx)
	if err != nil {
		return nil, err
	}
	if len(revoked) > 0 {
		if err := i.fill(ctx, n, values, revoked); err != nil {
			return nil, err
		}
	}
	return artifact.SignStatus(ctx, i.status, artifact.StatusList{
		Issuer: i.genesis.Issuer, URI: i.StatusURI(n), IssuedAt: now, Expires: now + uint64(artifact.MaxRevocationAge/time.Second), TTL: StatusLife, Values: values})
}

// revocations returns all that is revoked, by cause and target.
func (i *Issuer) revocations(ctx context.Context) (map[string]record.Cause, error) {
	all := map[string]record.Cause{}
	err := i.log.Each(ctx, bucketRevoked, nil, func(key, _ []byte) error {
		all[string(key)] = record.Cause(key[0])
		return nil
	})
	return all, err
}

func (i *Issuer) fill(ctx context.Context, n uint64, values []artifact.StatusValue, revoked map[string]record.Cause) error {
	prefix := indexKey(n * ListSize)[:6] // a list is 2^16 indices: all keys with the same first six bytes
	return i.log.Each(ctx, bucketPermit, prefix, func(key, value []byte) error {
		var p permitState
		if err := statement.Unmarshal(value, &p); err != nil {
			return err
		}
		values[binary.BigEndian.Uint64(key)%ListSize] = artifact.StatusValue(p.cause(revoked))
		return nil
	})
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
