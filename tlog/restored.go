package tlog

import (
	"context"
	"fmt"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

// Restored says that authorities let the log go on behind a head, although it had more entries. Whoever gives it has
// verified their act.
type Restored struct {
	Head    receipt.Head                              // that the log stands at; its time does not matter
	Act     statement.Digest                          // of the first entry that is to follow
	Entries uint64                                    // that the act has
	Covered func(size uint64, root receipt.Hash) bool // whether the act admits that a tree is lost which was seen
}

// restored takes the place of checkMark: the log is exactly the one that was restored, or has the act behind it and nothing else (508),
// the head is as the act says (325), and the act covers what the mark says (508). The mark is lowered with the act and never
// before: if a crash came between, it is here.
func (l *Log) restored(ctx context.Context, size uint64, root receipt.Hash) error {
	r := l.o.Restored
	if l.tree.size < r.Head.Size {
		return denial.New(denial.StateRollback, "the log has %d entries, and the epoch is of one with %d", l.tree.size, r.Head.Size)
	}
	if err := l.checkRoot(ctx, r.Head); err != nil {
		return err
	}
	begun := l.tree.size > r.Head.Size
	if begun {
		index, found, err := l.Find(ctx, r.Act)
		if err != nil {
			return err
		}
		if !found || index != r.Head.Size || l.tree.size != r.Head.Size+r.Entries {
			return denial.New(denial.StateRollback, "the log has %d entries, and the epoch is of one with %d", l.tree.size, r.Head.Size)
		}
	}
	if size <= l.tree.size {
		if size == 0 {
			return nil
		}
		return l.checkRoot(ctx, receipt.Head{Size: size, Root: root})
	}
	if !r.Covered(size, root) {
		return denial.New(denial.StateRollback, "the mark beside the log says %d entries, and the epoch does not cover that they are lost", size)
	}
	if !begun {
		return nil
	}
	own, err := l.rootAt(ctx, l.tree.size)
	if err != nil {
		return err
	}
	return l.mark.write(l.tree.size, own)
}

// AnchorEpoch ties a log that goes on in a new epoch to the counter, which must stand where the act says (508): then that act
// cannot serve again for another backup. A counter that was never raised is another machine's, and begins with this log. It may be
// called again if a crash came in between.
func (l *Log) AnchorEpoch(ctx context.Context, c Counter, stands uint64) error {
	if l.o.Restored == nil {
		return fmt.Errorf("anchoring epoch: the log was not restored")
	}
	value, err := c.Value(ctx)
	if err != nil {
		return fmt.Errorf("reading counter: %w", err)
	}
	path, head := l.o.Path+".anchor", l.Head().Head
	old, found, err := readAnchor(path)
	if err != nil {
		return err
	}
	switch {
	case found && value > 0 && old.Count == value && old.Size > l.o.Restored.Head.Size && old.Size <= head.Size:
		return l.checkRoot(ctx, receipt.Head{Size: old.Size, Root: old.Root}) // done before
	case value != stands:
		return denial.New(denial.StateRollback, "the counter stands at %d, and the epoch says %d", value, stands)
	case value == 0:
		if err := writeAnchor(path, anchor{0, head.Size, head.Root}); err != nil {
			return err
		}
		return l.Anchor(ctx, c)
	}
	if err := writeAnchor(path, anchor{value + 1, head.Size, head.Root}); err != nil {
		return err
	}
	_, err = raise(ctx, c)
	return err
}

// Anchored returns what the anchor beside a log says: the count and the head of then; zeros if there is none.
func Anchored(path string) (count uint64, head receipt.Head, err error) {
	a, _, err := readAnchor(path + ".anchor")
	return a.Count, receipt.Head{Size: a.Size, Root: a.Root}, err
}

// Marked returns what the mark beside a log says; a zero head if there is none.
func Marked(path string) (receipt.Head, error) {
	m, err := openMark(path + ".mark")
	if err != nil {
		return receipt.Head{}, err
	}
	size, root, err := m.read()
	if cerr := m.close(); err == nil {
		err = cerr
	}
	return receipt.Head{Size: size, Root: root}, err
}

// Last returns the newest head, signed or not; zero of an empty log.
func (r *ReadOnly) Last(ctx context.Context) (receipt.Head, error) { return lastHead(ctx, r.Reader) }
