package tlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

// Counter is a number that only ever rises, and lies elsewhere than the log: in a TPM. Value is zero before the first
// Raise, which may raise it to any value; each later one raises it by one.
type Counter interface {
	Value(ctx context.Context) (uint64, error)
	Raise(ctx context.Context) (uint64, error)
}

// anchor is what the file beside the log says: when the counter was raised to Count, the log had Size entries under Root.
type anchor struct {
	Count, Size uint64
	Root        receipt.Hash
}

// Anchor compares the log with a counter and raises the counter. The file Path.anchor holds the count that belongs to the
// files of the log: who restores all of them from a copy, this one included, cannot restore the counter.
//
// It refuses, in this order: a damaged file (906); a count that is less than the counter, or a missing file where the
// counter has been raised: the files are a copy of before (508, T07); a count that is more than the next: another counter
// (508); fewer entries than then (508), or another root of as many (325).
//
// The file is written, durably, before the counter is raised: killed in between, the next call finds the count one ahead
// and raises the counter. What was appended since the last call is not covered: call it at the start, and now and then.
func (l *Log) Anchor(ctx context.Context, c Counter) error {
	value, err := c.Value(ctx)
	if err != nil {
		return fmt.Errorf("reading counter: %w", err)
	}
	path := l.o.Path + ".anchor"
	old, found, err := readAnchor(path)
	if err != nil {
		return err
	}
	if err := l.checkAnchor(ctx, old, found, value); err != nil {
		return err
	}
	head := l.Head().Head
	if !found { // where a counter begins is not known before it is raised: a count of zero stands for that
		if err := writeAnchor(path, anchor{0, head.Size, head.Root}); err != nil {
			return err
		}
	}
	if value == 0 || old.Count == value+1 { // never raised, or killed before it was
		if value, err = raise(ctx, c); err != nil {
			return err
		}
	}
	if err := writeAnchor(path, anchor{value + 1, head.Size, head.Root}); err != nil {
		return err
	}
	_, err = raise(ctx, c)
	return err
}

func raise(ctx context.Context, c Counter) (uint64, error) {
	value, err := c.Raise(ctx)
	if err != nil {
		return 0, fmt.Errorf("raising counter: %w", err)
	}
	return value, nil
}

func (l *Log) checkAnchor(ctx context.Context, a anchor, found bool, value uint64) error {
	switch {
	case !found && value == 0:
		return nil
	case !found:
		return denial.New(denial.StateRollback, "the counter has been raised to %d for another log, or this one has lost its anchor", value)
	case a.Count < value && a.Count > 0:
		return denial.New(denial.StateRollback, "the log is a copy of when the counter stood at %d; it stands at %d", a.Count, value)
	case a.Count > value+1:
		return denial.New(denial.StateRollback, "the counter stands at %d, and is not the one that stood at %d", value, a.Count)
	case a.Size > l.Head().Size:
		return denial.New(denial.StateRollback, "the log has %d entries, and had %d", l.Head().Size, a.Size)
	}
	return l.checkRoot(ctx, receipt.Head{Size: a.Size, Root: a.Root})
}

func (a anchor) encode() []byte {
	b := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, a.Count), a.Size)
	b = append(b, a.Root[:]...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

func readAnchor(path string) (a anchor, found bool, err error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return a, false, nil
	}
	if err != nil {
		return a, false, fmt.Errorf("reading anchor: %w", err)
	}
	if len(b) == 8+8+32+32 {
		a = anchor{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:]), receipt.Hash(b[16:48])}
	}
	if !bytes.Equal(b, a.encode()) {
		return a, false, denial.New(denial.StoreFault, "the anchor beside the log is damaged")
	}
	return a, true, nil
}

// writeAnchor replaces the file durably: after a crash the old or the new one is there, whole.
func writeAnchor(path string, a anchor) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".anchor-")
	if err != nil {
		return fmt.Errorf("writing anchor: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(a.encode())
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = errors.Join(os.Rename(f.Name(), path), syncDir(path))
	}
	if err != nil {
		return fmt.Errorf("writing anchor: %w", err)
	}
	return nil
}
