package tlog

import (
	"context"

	"github.com/transparency-dev/merkle/compact"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// load checks what is stored, as Open says, and reads what appending and signing need.
func (l *Log) load(ctx context.Context) error {
	last, err := lastHead(ctx, l.Reader)
	if err != nil {
		return err
	}
	if err := l.checkCount(ctx, last.Size); err != nil {
		return err
	}
	edge, err := l.edgeAt(ctx, last.Size)
	if err != nil {
		return err
	}
	root, err := rootOf(last.Size, edge)
	if err != nil {
		return err
	}
	if last.Size > 0 && root != last.Root {
		return denial.New(denial.LogInconsistent, "the stored nodes do not give the root of the last head")
	}
	l.tree = tree{size: last.Size, edge: edge, time: last.Time}
	if err := l.loadSigned(ctx); err != nil {
		return err
	}
	return l.checkMark(ctx)
}

// lastHead returns the newest head, signed or not.
func lastHead(ctx context.Context, r Reader) (h receipt.Head, err error) {
	var root []byte
	ok, err := r.one(ctx, []any{&h.Size, &root, &h.Time}, "SELECT size, root, time FROM heads ORDER BY size DESC LIMIT 1")
	if err == nil && ok && len(root) != len(h.Root) {
		err = denial.New(denial.StoreFault, "the last head is damaged")
	}
	copy(h.Root[:], root)
	return h, err
}

// checkCount compares the first and the last index with the size of the last head. Scrub checks those between.
func (l *Log) checkCount(ctx context.Context, size uint64) error {
	var first, end uint64
	if _, err := l.one(ctx, []any{&first, &end},
		"SELECT coalesce((SELECT min(idx) FROM leaves), 0), coalesce((SELECT max(idx) FROM leaves) + 1, 0)"); err != nil {
		return err
	}
	if first != 0 || end != size {
		return denial.New(denial.StoreFault, "the log has other entries than its last head says")
	}
	return nil
}

func (l *Log) edgeAt(ctx context.Context, size uint64) ([][]byte, error) {
	return l.nodes(ctx, compact.RangeNodes(0, size, nil))
}

func (l *Log) rootAt(ctx context.Context, size uint64) (receipt.Hash, error) {
	edge, err := l.edgeAt(ctx, size)
	if err != nil {
		return receipt.Hash{}, err
	}
	return rootOf(size, edge)
}

// loadSigned verifies the newest head that is stored signed and collects those behind it, which are not.
func (l *Log) loadSigned(ctx context.Context) error {
	var h SignedHead
	var root []byte
	ok, err := l.one(ctx, []any{&h.Size, &root, &h.Time, &h.Signed},
		"SELECT size, root, time, signed FROM heads WHERE signed IS NOT NULL ORDER BY size DESC LIMIT 1")
	if err != nil {
		return err
	}
	if ok {
		copy(h.Root[:], root)
		if err := l.checkSigned(ctx, h); err != nil {
			return err
		}
		l.heads.add(h)
		l.stored = h.Size
	}
	return l.each(ctx, func(scan func(...any) error) error {
		var h receipt.Head
		var root []byte
		if err := scan(&h.Size, &root, &h.Time); err != nil {
			return readFault(err)
		}
		copy(h.Root[:], root)
		l.backlog = append(l.backlog, h)
		return l.checkRoot(ctx, h)
	}, "SELECT size, root, time FROM heads WHERE size > ? ORDER BY size", l.stored)
}

func (l *Log) checkRoot(ctx context.Context, h receipt.Head) error {
	root, err := l.rootAt(ctx, h.Size)
	if err == nil && root != h.Root {
		err = denial.New(denial.LogInconsistent, "the stored nodes do not give the root of a head")
	}
	return err
}

// checkSigned checks a stored head: its root, its signature, and that it says what its row says, of this log.
func (l *Log) checkSigned(ctx context.Context, h SignedHead) error {
	if err := l.checkRoot(ctx, h.Head); err != nil {
		return err
	}
	keys, err := l.trusted()
	if err != nil {
		return err
	}
	return checkClaims(h, keys, l.o.Issuer, l.o.LogID)
}

// checkClaims checks that a head is signed for what its row says, by one of the keys, for this issuer and log.
func checkClaims(h SignedHead, keys statement.Keys, issuer, log string) error {
	s, err := receipt.VerifyHead(h.Signed, h.Root, keys)
	if err != nil {
		return denial.New(denial.LogInconsistent, "a stored head is not signed by the log key")
	}
	if s.Head != h.Head || s.Issuer != issuer || s.Log != log {
		return denial.New(denial.LogInconsistent, "a stored head is of another log, size or time")
	}
	return nil
}

// trusted returns the log key and the earlier ones.
func (l *Log) trusted() (keys statement.Keys, err error) {
	for _, k := range l.Keys() {
		if err == nil {
			err = keys.Add(k, statement.Receipt)
		}
	}
	return keys, err
}

// checkMark compares the database with the mark beside it.
func (l *Log) checkMark(ctx context.Context) error {
	size, root, err := l.mark.read()
	if err != nil {
		return err
	}
	if l.o.Restored != nil {
		return l.restored(ctx, size, root)
	}
	if size == 0 {
		return nil
	}
	if size > l.tree.size {
		return denial.New(denial.StoreFault, "the log has lost acknowledged entries: it holds %d, its mark says %d", l.tree.size, size)
	}
	return l.checkRoot(ctx, receipt.Head{Size: size, Root: root})
}
