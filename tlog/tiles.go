package tlog

import (
	"context"
	"encoding/binary"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

// Tile returns a tile of hashes, or a bundle of entries, of the tree under the newest signed head (C2SP tlog-tiles); or
// ErrNotFound. A full tile never changes, nor does a partial one of a given width: both may be kept for ever. A tile of
// hashes is one range of rows, because the nodes of every eighth level are its hashes.
func (r Reader) Tile(ctx context.Context, t receipt.Tile) ([]byte, error) {
	if !t.In(r.Head().Size) {
		return nil, ErrNotFound
	}
	first := t.Index * receipt.TileWidth
	end := first + uint64(t.Width)
	switch {
	case t.Entries:
		return r.rowsOf(ctx, t, entryInBundle, "SELECT idx, entry FROM leaves WHERE idx >= ? AND idx < ? ORDER BY idx", first, end)
	case t.Level == 0:
		return r.rowsOf(ctx, t, hashInTile, "SELECT idx, hash FROM leaves WHERE idx >= ? AND idx < ? ORDER BY idx", first, end)
	}
	return r.rowsOf(ctx, t, hashInTile, "SELECT idx, hash FROM nodes WHERE level = ? AND idx >= ? AND idx < ? ORDER BY idx", 8*t.Level, first, end)
}

// rowsOf puts the rows of a tile together, which must be as many as it is wide and without gaps.
func (r Reader) rowsOf(ctx context.Context, t receipt.Tile, put func(data, row []byte) ([]byte, bool), query string, args ...any) (data []byte, err error) {
	next := t.Index * receipt.TileWidth
	err = r.each(ctx, func(scan func(...any) error) error {
		var index uint64
		var row []byte
		if err := scan(&index, &row); err != nil {
			return readFault(err)
		}
		grown, ok := put(data, row)
		if index != next || !ok {
			return denial.New(denial.StoreFault, "a row of a tile is missing or damaged")
		}
		data, next = grown, next+1
		return nil
	}, query, args...)
	if err == nil && next != t.Index*receipt.TileWidth+uint64(t.Width) {
		err = denial.New(denial.StoreFault, "a row of a tile is missing")
	}
	return data, err
}

func hashInTile(data, row []byte) ([]byte, bool) {
	return append(data, row...), len(row) == len(receipt.Hash{})
}

func entryInBundle(data, row []byte) ([]byte, bool) {
	if len(row) > 1<<16-1 {
		return nil, false
	}
	return append(binary.BigEndian.AppendUint16(data, uint16(len(row))), row...), true
}

// Checkpoint returns the newest signed head, and its checkpoint signed by the log key alone. It is ErrNotFound for a log
// without entries. A log that has stopped signs nothing more (902).
//
// Heads only ever grow, each from the one before, in a database that one process writes, so no two checkpoints contradict
// each other as long as nobody sets the database back: marks, witnesses and a counter of a TPM are there to notice that.
func (l *Log) Checkpoint(ctx context.Context) (receipt.Head, []byte, error) {
	if l.broken.Load() {
		return receipt.Head{}, nil, denial.New(denial.AuditUnavailable, "the log has stopped")
	}
	head := l.Head().Head
	if head.Size == 0 {
		return receipt.Head{}, nil, ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, signTimeout)
	defer cancel()
	raw, err := receipt.SignCheckpoint(ctx, l.keys.current(), receipt.Origin(l.o.LogID), head)
	if err != nil {
		return receipt.Head{}, nil, because(denial.HSMUnavailable, "the checkpoint cannot be signed", err)
	}
	return head, raw, nil
}

// Stop has the log take and sign nothing more until it is opened again, because somebody outside of it has shown that it
// is not what it was: a witness that saw a longer or another log.
func (l *Log) Stop() { l.broken.Store(true) }
