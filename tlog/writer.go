package tlog

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"

	"github.com/transparency-dev/merkle/compact"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// Limits of one transaction, and how much is written before the write-ahead log is copied into the database.
const (
	maxBatch        = 256
	maxBatchBytes   = 16 << 20
	checkpointBytes = 16 << 20
)

// request is one call of Append.
type request struct {
	ctx     context.Context
	entries []Entry
	sums    []sums // of the entries
	weight  int
	first   uint64 // index of the first entry
	refused error
	done    chan answer // buffered: a caller who gave up blocks nobody
}

// sums are the hashes over an entry.
type sums struct {
	leaf   receipt.Hash // RFC 6962
	digest statement.Digest
	blobs  []statement.Digest
	names  []byte // all that it is found by beside its digest
}

func sumsOf(e *Entry) sums {
	s := sums{leaf: receipt.LeafHash(e.Leaf), digest: statement.DigestOf(e.Leaf), blobs: e.Digests,
		names: make([]byte, 0, nameSize*(len(e.Names)+len(e.Blobs)))}
	for _, n := range e.Names {
		s.names = append(s.names, n[:]...)
	}
	if s.blobs == nil {
		for _, b := range e.Blobs {
			s.blobs = append(s.blobs, statement.DigestOf(b))
		}
	}
	for i := range s.blobs {
		s.names = append(s.names, s.blobs[i][:nameSize]...)
	}
	return s
}

// newRequest hashes the entries: in the goroutines of the callers, so that the writer need not.
func newRequest(ctx context.Context, entries []Entry) *request {
	r := &request{ctx: ctx, entries: entries, sums: make([]sums, len(entries)), weight: weight(entries), done: make(chan answer, 1)}
	for i := range entries {
		r.sums[i] = sumsOf(&entries[i])
	}
	return r
}

func (r *request) changesKey() bool {
	return slices.ContainsFunc(r.entries, func(e Entry) bool { return e.Signer != nil })
}

// onlySigns reports whether the request is one of SignHeads.
func (r *request) onlySigns() bool { return len(r.entries) == 0 }

type answer struct {
	appended []Appended
	err      error
}

// batch is one transaction on its way: what it adds, and for the signer the requests that wait for its head.
type batch struct {
	head     receipt.Head
	requests []*request
	growth   growth
	counters map[string]uint64 // that the requests raised, and others
	weight   int
	signer   statement.Signer // the log key from this batch on, if another than before
	caughtUp chan error       // if set, the batch is empty and asks whether the backlog is signed
}

// runWriter is the writer goroutine.
func (l *Log) runWriter() {
	defer close(l.batches)
	for r := range l.queue {
		l.write(l.gather(r))
	}
}

// gather takes what waits in the queue besides the first request. Before that it gives way: callers who could run have
// their turn, and what they ask for is in the same transaction. Else a writer that is woken by each of many callers, who
// share few cores, would commit for nearly each of them. Where nobody else can run it costs nothing.
func (l *Log) gather(first *request) []*request {
	runtime.Gosched()
	requests, bytes := []*request{first}, first.weight
	for len(requests) < maxBatch && bytes < maxBatchBytes {
		select {
		case r, ok := <-l.queue:
			if !ok {
				return requests
			}
			requests, bytes = append(requests, r), bytes+r.weight
		default:
			return requests
		}
	}
	return requests
}

// write appends the requests in one transaction, answers those that are refused and leaves the others to the signer.
func (l *Log) write(requests []*request) {
	b, err := l.appendBatch(requests)
	for _, r := range requests {
		if err != nil {
			r.done <- answer{err: err}
		} else if r.refused != nil || r.onlySigns() {
			r.done <- answer{err: r.refused}
		}
	}
	if err == nil && len(b.requests) > 0 {
		l.batches <- b
		l.checkpoint(b.weight)
	}
}

// appendBatch stages and commits the requests. Any error concerns them all.
func (l *Log) appendBatch(requests []*request) (*batch, error) {
	if l.broken.Load() {
		return nil, denial.New(denial.AuditUnavailable, "the log stopped after a fault of its store")
	}
	// No earlier head may be left to a new key: it was not in use then.
	if l.behind.Load() || slices.ContainsFunc(requests, func(r *request) bool { return r.changesKey() || r.onlySigns() }) {
		if err := l.catchUp(); err != nil {
			return nil, err
		}
	}
	now, err := l.clock()
	if err != nil {
		return nil, err
	}
	if _, err := l.db.exec("BEGIN IMMEDIATE"); err != nil {
		return nil, l.undo(err)
	}
	newest, err := l.updateHeads()
	if err != nil {
		return nil, l.undo(err)
	}
	b, err := l.stage(requests, now)
	if err != nil || len(b.requests) == 0 {
		return b, l.undo(err)
	}
	ended := l.cache.begin(b.requests, b.counters)
	err = l.commit()
	ended(err == nil)
	if err != nil {
		return nil, l.undo(err)
	}
	l.tree, l.stored = tree{size: b.head.Size, edge: b.growth.edge(), time: now}, newest
	l.heads.forget(newest)
	if err := l.remark(b.head.Size, b.head.Root); err != nil {
		return nil, l.fail(err)
	}
	return b, nil
}

// clock returns the time of the next head, which is never before that of the last one.
func (l *Log) clock() (uint64, error) {
	now := l.o.Now().Unix()
	if now <= 0 || uint64(now) < l.tree.time {
		return 0, denial.New(denial.ClockUntrusted, "the clock stands before the last entry of the log")
	}
	return uint64(now), nil
}

// undo rolls the transaction back. If err is more than a disk that is full or not writable, or the rollback fails, it is
// not known what the store holds, and the log stops.
func (l *Log) undo(err error) error {
	back := l.db.rollback()
	switch {
	case err == nil && back == nil:
		return nil
	case back == nil && harmless(err):
		return because(denial.AuditUnavailable, "the log cannot take the entry", err)
	}
	return l.fail(errors.Join(err, back))
}

// fail stops the log: what is on the disk must be checked first.
func (l *Log) fail(err error) error {
	l.broken.Store(true)
	return because(denial.AuditUnavailable, "the store of the log failed", err)
}

// stage writes every request that is not refused, the nodes that become complete and the new head.
func (l *Log) stage(requests []*request, now uint64) (*batch, error) {
	b := &batch{}
	s, err := findStaged(l.db, requests, now)
	if err != nil {
		return nil, err
	}
	next := l.tree.size
	for _, r := range requests {
		if err := r.ctx.Err(); err != nil {
			r.refused = fmt.Errorf("appending: %w", err)
		} else if r.refused = s.admit(r); r.refused == nil && !r.onlySigns() {
			r.first = next
			b.requests, b.weight = append(b.requests, r), b.weight+r.weight
			next += uint64(len(r.entries))
		}
	}
	if len(b.requests) == 0 {
		return b, nil
	}
	if err := s.write(l.db, b.requests); err != nil {
		return nil, err
	}
	b.head, b.counters = receipt.Head{Size: next, Time: now}, s.counters
	return b, l.grow(b)
}

// grow adds the leaves of the batch to the tree and writes leaves, nodes, index and head.
func (l *Log) grow(b *batch) error {
	n := b.head.Size - l.tree.size
	leaves, items, rows := make([]receipt.Hash, 0, n), make([]item, 0, 8*n), make([]any, 0, 5*n)
	next := l.tree.size
	for _, r := range b.requests {
		for i, e := range r.entries {
			if e.Signer != nil {
				b.signer = e.Signer
			}
			sum := &r.sums[i]
			leaves, items = append(leaves, sum.leaf), appendItems(items, next, sum.digest[:], sum.names)
			rows = append(rows, next, sum.leaf[:], sum.digest[:], sum.names, e.Leaf)
			next++
		}
	}
	b.growth = grow(l.tree, leaves)
	b.head.Root = b.growth.root()
	if err := l.db.insert("leaves (idx, hash, digest, names, entry)", 5, rows, ""); err != nil {
		return err
	}
	rows = rows[:0]
	b.growth.completed(func(id compact.NodeID, hash receipt.Hash) { rows = append(rows, uint64(id.Level), id.Index, hash[:]) })
	if err := l.db.insert("nodes (level, idx, hash)", 3, rows, ""); err != nil {
		return err
	}
	if err := l.db.extendIndex(l.tree.size, next, items); err != nil {
		return err
	}
	_, err := l.db.exec("INSERT INTO heads (size, root, time) VALUES (?, ?, ?)", b.head.Size, b.head.Root[:], b.head.Time)
	return err
}

// checkpoint copies the write-ahead log into the database once enough has been written. Readers are not disturbed.
func (l *Log) checkpoint(weight int) {
	l.dirty += weight + 64<<10
	if l.dirty < checkpointBytes {
		return
	}
	l.dirty = 0
	if err := l.copyBack("PASSIVE"); err != nil {
		l.broken.Store(true)
	}
}

// truncate leaves one file behind instead of two.
func (l *Log) truncate() error { return l.copyBack("TRUNCATE") }

func (l *Log) copyBack(mode string) error {
	var busy, pages, copied int64
	err := l.db.conn.QueryRowContext(context.Background(), "PRAGMA wal_checkpoint("+mode+")").Scan(&busy, &pages, &copied)
	if err != nil {
		return fmt.Errorf("copying the write-ahead log: %w", err)
	}
	return nil
}
