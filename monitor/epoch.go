package monitor

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

// Epoch is an epoch of the log, by an act that whoever gives it has verified: the log goes on behind Size entries under Root, and
// what it had behind them is lost.
type Epoch struct {
	Number uint64
	Size   uint64
	Root   receipt.Hash
	Covers func(size uint64, root [32]byte) bool // whether the act admits that a tree is lost which was seen
	Words  string                                // what is lost, for people
}

// goesOn checks that the log continues what it was at the look before. If it does not, because authorities have said that it has
// lost just that, it returns their epoch, and keeps what is lost in Dir.
func (o *Options) goesOn(ctx context.Context, last, now *seen) (*Epoch, error) {
	e, err := o.lost(ctx, last, now)
	if err != nil {
		return nil, err
	}
	if e == nil {
		return nil, o.continues(ctx, last, now, o.Log)
	}
	return e, Keep(filepath.Join(o.Dir, fmt.Sprintf("before-epoch-%d.checkpoint", e.Number)), last.raw)
}

// lost returns the epoch with which the tree of an older checkpoint was lost; nil if the newer one continues it, or no epoch covers it. The
// newer one has to begin with what the epoch says was restored (325).
func (o *Options) lost(ctx context.Context, old, now *seen) (*Epoch, error) {
	var covering *Epoch
	for i := range o.Epochs { // the newest
		if e := &o.Epochs[i]; old.Size > e.Size && e.Covers(old.Size, old.Root) {
			covering = e
		}
	}
	if covering == nil {
		return nil, nil
	}
	if old.Size <= now.Size {
		root, _, err := o.beginning(ctx, old.Size, now, o.Log)
		if err != nil || root == old.Root {
			return nil, err
		}
	}
	root, _, err := o.beginning(ctx, covering.Size, now, o.Log)
	if err == nil && root != covering.Root {
		err = denial.New(denial.LogInconsistent, "the log does not begin with the %d entries that epoch %d says were restored", covering.Size, covering.Number)
	}
	if err != nil {
		return nil, err
	}
	return covering, nil
}
