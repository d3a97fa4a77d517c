package tlog

import (
	"bytes"
	"context"
	"time"

	"github.com/transparency-dev/merkle/compact"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// Scrub reads everything and computes it again. It checks, in this order: the tables and indices fit each other; each
// entry has its place, its leaf hash, its digest and its place in the index; each node is that of its leaves, and there are no others; each head
// has the root of the tree of its size, no earlier time than the one before it, and a signature of the log key or an
// earlier one if it is stored signed; each blob has its digest. What does not fit is StoreFault, or LogInconsistent for a
// head, and then nothing more is appended or signed until the log is opened again.
func (l *Log) Scrub(ctx context.Context) error {
	keys, err := l.trusted()
	if err != nil {
		return err
	}
	err = l.View(ctx, func(r Reader) error { return scrubber{r, keys, l.o.Issuer, l.o.LogID}.scrub(ctx) })
	if denial.Is(err, denial.StoreFault) || denial.Is(err, denial.LogInconsistent) {
		l.broken.Store(true)
	}
	if err == nil {
		l.scrubbed.Store(l.o.Now().Unix())
	}
	return err
}

// ScrubOn scrubs each time the channel gives, until ctx ends, and tells what came of it.
func (l *Log) ScrubOn(ctx context.Context, tick <-chan time.Time, tell func(error)) {
	for {
		select {
		case <-tick:
			tell(l.Scrub(ctx))
		case <-ctx.Done():
			return
		}
	}
}

// Scrubbed returns when Scrub last found everything as it must be, in seconds since 1970 UTC; 0 if not since Open.
func (l *Log) Scrubbed() int64 { return l.scrubbed.Load() }

// Check makes the checks of Scrub on a log that another process may be writing, with the keys of the log, present and
// earlier, from the caller. It returns the number of entries. Nothing is written.
func (r *ReadOnly) Check(ctx context.Context, keys []statement.Key, issuer, log string) (size uint64, err error) {
	var trusted statement.Keys
	for _, k := range keys {
		if err := trusted.Add(k, statement.Receipt); err != nil {
			return 0, err
		}
	}
	err = r.View(ctx, func(view Reader) (err error) {
		if size, err = view.size(ctx); err != nil {
			return err
		}
		return scrubber{view, trusted, issuer, log}.scrub(ctx)
	})
	return size, err
}

// scrubber reads one state of a log and compares it with what it must be.
type scrubber struct {
	Reader
	keys   statement.Keys
	issuer string
	log    string
}

func (r scrubber) scrub(ctx context.Context) error {
	var verdict string
	if _, err := r.one(ctx, []any{&verdict}, "PRAGMA integrity_check(1)"); err != nil {
		return err
	}
	if verdict != "ok" {
		return denial.New(denial.StoreFault, "the tables of the log are damaged")
	}
	size, err := r.size(ctx)
	if err != nil {
		return err
	}
	heads, err := r.scrubTree(ctx, size)
	if err != nil {
		return err
	}
	if err := r.scrubHeads(ctx, heads); err != nil {
		return err
	}
	return r.scrubBlobs(ctx)
}

// scrubTree builds the tree from the entries, compares every node and returns the roots of the sizes that have heads.
func (r scrubber) scrubTree(ctx context.Context, size uint64) (map[uint64]receipt.Hash, error) {
	roots := map[uint64]receipt.Hash{}
	if err := r.each(ctx, func(scan func(...any) error) error {
		var n uint64
		err := scan(&n)
		roots[n] = receipt.Hash{}
		return readFault(err)
	}, "SELECT size FROM heads"); err != nil {
		return nil, err
	}
	var inner, stored uint64
	tree, index := ranges.NewEmptyRange(0), r.scrubIndex(size)
	if err := r.each(ctx, func(scan func(...any) error) error {
		at := tree.End()
		created, digest, names, err := scrubLeaf(scan, tree)
		if err == nil {
			err = index.add(ctx, at, digest, names)
		}
		if err != nil {
			return err
		}
		inner += uint64(len(created)) - 1
		if err := r.compare(ctx, created); err != nil {
			return err
		}
		if _, ok := roots[tree.End()]; ok {
			roots[tree.End()], err = rootOf(tree.End(), tree.Hashes())
		}
		return err
	}, "SELECT idx, hash, digest, names, entry FROM leaves ORDER BY idx"); err != nil {
		return nil, err
	}
	if _, err := r.one(ctx, []any{&stored}, "SELECT count(*) FROM nodes"); err != nil {
		return nil, err
	}
	if tree.End() != size || stored != inner {
		return nil, denial.New(denial.StoreFault, "the log has entries or nodes too many or too few")
	}
	return roots, index.end(ctx)
}

type node struct {
	id   compact.NodeID
	hash []byte
}

// scrubLeaf checks one row and appends it to the tree. It returns the leaf and the nodes that it completes, and what the
// entry is found by.
func scrubLeaf(scan func(...any) error, tree *compact.Range) (created []node, digest, names []byte, err error) {
	var index uint64
	var hash, entry []byte
	if err := scan(&index, &hash, &digest, &names, &entry); err != nil {
		return nil, nil, nil, readFault(err)
	}
	wantHash, wantDigest := receipt.LeafHash(entry), statement.DigestOf(entry)
	if index != tree.End() || !bytes.Equal(hash, wantHash[:]) || !bytes.Equal(digest, wantDigest[:]) {
		return nil, nil, nil, denial.New(denial.StoreFault, "entry %d is missing or damaged", tree.End())
	}
	err = tree.Append(hash, func(id compact.NodeID, hash []byte) { created = append(created, node{id, hash}) })
	return created, digest, names, err
}

// compare compares nodes with what is stored.
func (r Reader) compare(ctx context.Context, created []node) error {
	ids := make([]compact.NodeID, len(created))
	for i := range created {
		ids[i] = created[i].id
	}
	stored, err := r.nodes(ctx, ids)
	if err != nil {
		return err
	}
	for i := range created {
		if !bytes.Equal(stored[i], created[i].hash) {
			return denial.New(denial.StoreFault, "a node of the tree is damaged")
		}
	}
	return nil
}

func (r scrubber) scrubHeads(ctx context.Context, roots map[uint64]receipt.Hash) error {
	var last uint64
	return r.each(ctx, func(scan func(...any) error) error {
		var h SignedHead
		var root []byte
		if err := scan(&h.Size, &root, &h.Time, &h.Signed); err != nil {
			return readFault(err)
		}
		h.Root = roots[h.Size]
		if !bytes.Equal(root, h.Root[:]) || h.Time < last {
			return denial.New(denial.LogInconsistent, "the head of %d entries has another root or an earlier time", h.Size)
		}
		last = h.Time
		if h.Signed == nil {
			return nil
		}
		return checkClaims(h, r.keys, r.issuer, r.log)
	}, "SELECT size, root, time, signed FROM heads ORDER BY size")
}

func (r scrubber) scrubBlobs(ctx context.Context) error {
	return r.each(ctx, func(scan func(...any) error) error {
		var digest, data []byte
		if err := scan(&digest, &data); err != nil {
			return readFault(err)
		}
		if want := statement.DigestOf(data); !bytes.Equal(digest, want[:]) {
			return denial.New(denial.StoreFault, "a blob is damaged")
		}
		return nil
	}, "SELECT digest, data FROM payloads UNION ALL SELECT digest, data FROM blobs")
}
