package tlog

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"

	"github.com/transparency-dev/merkle/compact"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// Reader reads a log. A Log is a Reader of its latest state, where each call sees one state; Log.View gives a Reader of
// one state for several calls. What is read has been committed; Head says how much of it is under a signed head.
type Reader struct {
	q     querier
	heads func() []SignedHead
}

type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// View calls read with a Reader of one state of the log. Every entry under its Head is in that state. The Reader ends
// with the call.
func (l *Log) View(ctx context.Context, read func(Reader) error) error {
	heads := l.heads.snapshot() // before the snapshot, so that it holds what they cover
	tx, err := l.pool.BeginTx(ctx, nil)
	if err != nil {
		return readFault(err)
	}
	defer tx.Rollback()
	r := Reader{q: tx, heads: func() []SignedHead { return heads }}
	if _, err := r.size(ctx); err != nil { // the first read takes the snapshot
		return err
	}
	return read(r)
}

// lookups is the pool with each lookup prepared once, because SQLite takes longer to compile one than to answer it.
// Lookups are constants of this package, so there are few.
type lookups struct {
	*sql.DB
	mu       sync.RWMutex
	prepared map[string]*sql.Stmt
}

// QueryRowContext asks for one row.
func (l *lookups) QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row {
	s, err := l.prepare(ctx, query)
	if err != nil {
		return l.DB.QueryRowContext(ctx, query, args...)
	}
	return s.QueryRowContext(ctx, args...)
}

// QueryContext asks for rows.
func (l *lookups) QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error) {
	s, err := l.prepare(ctx, query)
	if err != nil {
		return nil, err
	}
	return s.QueryContext(ctx, args...)
}

func (l *lookups) prepare(ctx context.Context, query string) (*sql.Stmt, error) {
	l.mu.RLock()
	s := l.prepared[query]
	l.mu.RUnlock()
	if s != nil {
		return s, nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s := l.prepared[query]; s != nil {
		return s, nil
	}
	s, err := l.DB.PrepareContext(ctx, query)
	if err == nil {
		l.prepared[query] = s
	}
	return s, err
}

// one scans the one row of a query. It reports whether there is one. Once begun, it is not interrupted: the driver would
// start a goroutine for that, and the answer to a lookup by key is there before.
func (r Reader) one(ctx context.Context, into []any, query string, args ...any) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, readFault(err)
	}
	err := r.q.QueryRowContext(context.WithoutCancel(ctx), query, args...).Scan(into...)
	if errors.Is(err, sql.ErrNoRows) {
		return false, nil
	}
	return err == nil, readFault(err)
}

// each calls fn for each row of a query.
func (r Reader) each(ctx context.Context, fn func(scan func(...any) error) error, query string, args ...any) error {
	rows, err := r.q.QueryContext(ctx, query, args...)
	if err != nil {
		return readFault(err)
	}
	defer rows.Close()
	for rows.Next() {
		if err := fn(rows.Scan); err != nil {
			return err
		}
	}
	return readFault(rows.Err())
}

// size returns the number of entries that are committed.
func (r Reader) size(ctx context.Context) (n uint64, err error) {
	_, err = r.one(ctx, []any{&n}, "SELECT coalesce(max(size), 0) FROM heads")
	return n, err
}

// Value returns a row of a projection. It reports whether there is one.
func (r Reader) Value(ctx context.Context, bucket string, key []byte) (value []byte, ok bool, err error) {
	ok, err = r.one(ctx, []any{&value}, "SELECT value FROM state WHERE bucket = ? AND key = ?", bucket, blob(key))
	return value, ok, err
}

// Each calls fn for each row of a bucket whose key begins with prefix, in order of key, until fn returns an error.
func (r Reader) Each(ctx context.Context, bucket string, prefix []byte, fn func(key, value []byte) error) error {
	row := func(scan func(...any) error) error {
		var key, value []byte
		if err := scan(&key, &value); err != nil {
			return readFault(err)
		}
		return fn(key, value)
	}
	if end := after(prefix); end != nil {
		return r.each(ctx, row, "SELECT key, value FROM state WHERE bucket = ? AND key >= ? AND key < ? ORDER BY key", bucket, blob(prefix), end)
	}
	return r.each(ctx, row, "SELECT key, value FROM state WHERE bucket = ? AND key >= ? ORDER BY key", bucket, blob(prefix))
}

// LastKey returns the last key of a bucket. It reports whether there is one.
func (r Reader) LastKey(ctx context.Context, bucket string) (key []byte, ok bool, err error) {
	ok, err = r.one(ctx, []any{&key}, "SELECT key FROM state WHERE bucket = ? ORDER BY key DESC LIMIT 1", bucket)
	return key, ok, err
}

// after returns the least byte string greater than all that begin with prefix, nil if there is none.
func after(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			end := append([]byte{}, prefix[:i+1]...)
			end[i]++
			return end
		}
	}
	return nil
}

// Counter returns the value of a counter, zero if it was never raised.
func (r Reader) Counter(ctx context.Context, name string) (value uint64, err error) {
	_, err = r.one(ctx, []any{&value}, "SELECT value FROM counters WHERE name = ?", name)
	return value, err
}

// Spent returns the index of the entry that consumed the key of a set. It reports whether there is one.
func (r Reader) Spent(ctx context.Context, set string, key []byte) (index uint64, ok bool, err error) {
	ok, err = r.one(ctx, []any{&index}, "SELECT idx FROM spent WHERE name = ? AND key = ?", set, blob(key))
	return index, ok, err
}

// Size returns the number of entries that are committed, signed or not.
func (r Reader) Size(ctx context.Context) (uint64, error) { return r.size(ctx) }

// CountRows returns how many rows a bucket has.
func (r Reader) CountRows(ctx context.Context, bucket string) (n uint64, err error) {
	_, err = r.one(ctx, []any{&n}, "SELECT count(*) FROM state WHERE bucket = ?", bucket)
	return n, err
}

// CountSpent returns how many keys of a set are consumed.
func (r Reader) CountSpent(ctx context.Context, set string) (n uint64, err error) {
	_, err = r.one(ctx, []any{&n}, "SELECT count(*) FROM spent WHERE name = ?", set)
	return n, err
}

// Counters returns every counter that was ever raised.
func (r Reader) Counters(ctx context.Context) (map[string]uint64, error) {
	all := map[string]uint64{}
	err := r.each(ctx, func(scan func(...any) error) error {
		var name string
		var value uint64
		err := scan(&name, &value)
		all[name] = value
		return readFault(err)
	}, "SELECT name, value FROM counters")
	return all, err
}

// Blob returns stored data by its SHA-256. It reports whether there is any.
func (r Reader) Blob(ctx context.Context, digest statement.Digest) (data []byte, ok bool, err error) {
	if ok, err = r.one(ctx, []any{&data}, "SELECT data FROM blobs WHERE digest = ?", digest[:]); ok || err != nil {
		return data, ok, err
	}
	brought, err := r.Named(ctx, Name(digest[:nameSize]))
	for _, index := range slices.Backward(brought) { // the last who brought it has it longest
		if ok, err = r.one(ctx, []any{&data}, "SELECT data FROM payloads WHERE key >= ? AND key < ? AND digest = ?",
			payloadKey(index), payloadKey(index+1), digest[:]); ok || err != nil {
			return data, ok, err
		}
	}
	return nil, false, err
}

// BlobOf is Blob of data that the entry at an index brought, which spares the search for who did.
func (r Reader) BlobOf(ctx context.Context, index uint64, digest statement.Digest) (data []byte, ok bool, err error) {
	if ok, err = r.one(ctx, []any{&data}, "SELECT data FROM payloads WHERE key >= ? AND key < ? AND digest = ?",
		payloadKey(index), payloadKey(index+1), digest[:]); ok || err != nil {
		return data, ok, err
	}
	return r.Blob(ctx, digest)
}

// SizeAt returns how many entries had been logged before the time, in seconds since 1970 UTC.
func (r Reader) SizeAt(ctx context.Context, time uint64) (n uint64, err error) {
	_, err = r.one(ctx, []any{&n}, "SELECT coalesce(max(size), 0) FROM heads WHERE time < ?", time)
	return n, err
}

// LoggedAt returns the logged time of the entry at index, or ErrNotFound: that of the first head over it, signed or not.
func (r Reader) LoggedAt(ctx context.Context, index uint64) (time uint64, err error) {
	ok, err := r.one(ctx, []any{&time}, "SELECT time FROM heads WHERE size >= ? ORDER BY size LIMIT 1", max(index+1, 2))
	if err == nil && !ok {
		err = ErrNotFound
	}
	return time, err
}

// Leaf returns the entry at index, or ErrNotFound.
func (r Reader) Leaf(ctx context.Context, index uint64) (leaf []byte, err error) {
	ok, err := r.one(ctx, []any{&leaf}, "SELECT entry FROM leaves WHERE idx = ?", index)
	if err == nil && !ok {
		err = ErrNotFound
	}
	return leaf, err
}

// Leaves calls fn for the entries from index from up to, not including, index to, in order. If one of them is missing it
// returns ErrNotFound.
func (r Reader) Leaves(ctx context.Context, from, to uint64, fn func(index uint64, leaf []byte) error) error {
	next := from
	err := r.each(ctx, func(scan func(...any) error) error {
		var index uint64
		var leaf []byte
		if err := scan(&index, &leaf); err != nil {
			return readFault(err)
		}
		if index != next {
			return ErrNotFound
		}
		next++
		return fn(index, leaf)
	}, "SELECT idx, entry FROM leaves WHERE idx >= ? AND idx < ? ORDER BY idx", from, to)
	if err == nil && next < to {
		err = ErrNotFound
	}
	return err
}

// Head returns the newest signed head.
func (r Reader) Head() SignedHead {
	if heads := r.heads(); len(heads) > 0 {
		return heads[len(heads)-1]
	}
	return SignedHead{}
}

// HeadOver returns the first signed head of at least size entries, or ErrNotFound.
func (r Reader) HeadOver(ctx context.Context, size uint64) (SignedHead, error) {
	heads := r.heads() // before the query: what is stored meanwhile is found there
	var h SignedHead
	var root []byte
	ok, err := r.one(ctx, []any{&h.Size, &root, &h.Time, &h.Signed},
		"SELECT size, root, time, signed FROM heads WHERE size >= ? AND signed IS NOT NULL ORDER BY size LIMIT 1", size)
	if err != nil {
		return SignedHead{}, err
	}
	if ok && len(root) == len(h.Root) {
		h.Root = receipt.Hash(root)
		return h, nil
	}
	for _, h := range heads {
		if h.Size >= size {
			return h, nil
		}
	}
	return SignedHead{}, ErrNotFound
}

// Receipt returns the receipt of the entry at index under the first head that covers it, so that it says the same logged
// time whenever it is asked for. There is none, and ErrNotFound, while no head is signed or the entry is alone.
func (r Reader) Receipt(ctx context.Context, index uint64) ([]byte, error) {
	head, err := r.HeadOver(ctx, max(index+1, 2))
	if err != nil {
		return nil, err
	}
	path, err := r.Path(ctx, index, head.Size)
	if err != nil {
		return nil, err
	}
	return receipt.Make(head.Signed, head.Size, index, path)
}

// Path returns the inclusion path of the entry at index in the tree of the first size entries.
func (r Reader) Path(ctx context.Context, index, size uint64) ([]receipt.Hash, error) {
	return r.path(ctx, size, func(f fetch) ([]receipt.Hash, error) { return inclusionPath(index, size, f) })
}

// ConsistencyPath returns the proof that the tree of from entries is the beginning of that of to entries.
func (r Reader) ConsistencyPath(ctx context.Context, from, to uint64) ([]receipt.Hash, error) {
	return r.path(ctx, to, func(f fetch) ([]receipt.Hash, error) { return consistencyPath(from, to, f) })
}

func (r Reader) path(ctx context.Context, size uint64, build func(fetch) ([]receipt.Hash, error)) ([]receipt.Hash, error) {
	have, err := r.size(ctx)
	if err != nil {
		return nil, err
	}
	if size > have {
		return nil, ErrNotFound
	}
	return build(func(ids []compact.NodeID) ([][]byte, error) { return r.nodes(ctx, ids) })
}

// Consistency returns the consistency receipt from the tree of from entries to that of to entries, for which there must
// be a signed head.
func (r Reader) Consistency(ctx context.Context, from, to uint64) ([]byte, error) {
	head, err := r.HeadOver(ctx, to)
	if err != nil {
		return nil, err
	}
	if head.Size != to || from == 0 || from >= to {
		return nil, ErrNotFound
	}
	path, err := r.ConsistencyPath(ctx, from, to)
	if err != nil {
		return nil, err
	}
	return receipt.MakeConsistency(head.Signed, from, to, path)
}

// nodes returns the hashes of complete nodes.
func (r Reader) nodes(ctx context.Context, ids []compact.NodeID) ([][]byte, error) {
	hashes := make([][]byte, len(ids))
	for i, id := range ids {
		query, args := "SELECT hash FROM nodes WHERE level = ? AND idx = ?", []any{uint64(id.Level), id.Index}
		if id.Level == 0 {
			query, args = "SELECT hash FROM leaves WHERE idx = ?", args[1:]
		}
		ok, err := r.one(ctx, []any{&hashes[i]}, query, args...)
		if err != nil {
			return nil, err
		}
		if !ok || len(hashes[i]) != len(receipt.Hash{}) {
			return nil, denial.New(denial.StoreFault, "a node of the tree is missing")
		}
	}
	return hashes, nil
}
