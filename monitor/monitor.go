package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

// DefaultMaxAge is the greatest age of the cosignatures of witnesses, unless Options says otherwise (T18).
const DefaultMaxAge = 24 * time.Hour

// Options say which log is followed, and by what it is judged.
type Options struct {
	Log       string             // URL below which the log is served as C2SP tlog-tiles
	Keys      []receipt.NoteKey  // of the log, that sign its newest checkpoint
	Earlier   []receipt.NoteKey  // of the log, that signed what was kept, and may have signed what others were shown
	Witnesses *receipt.Witnesses // whose cosignatures are demanded; nil: none, and then no age is judged
	MaxAge    time.Duration      // of the cosignatures; default DefaultMaxAge
	Views     []string           // what others are shown: URLs of logs, or files of checkpoints
	Epochs    []Epoch            // of the log, that its authorities have signed, in order
	Dir       string             // where the last checkpoint and evidence are kept
	Web       Web
	Now       func() time.Time // default time.Now
}

// Report is what a look at the log showed.
type Report struct {
	Origin    string   `json:"origin"`
	Size      uint64   `json:"entries"`
	Root      string   `json:"root"`
	Cosigned  uint64   `json:"cosigned,omitempty"` // when as many operators as are demanded had cosigned, in seconds since 1970 UTC
	Operators []string `json:"operators,omitempty"`
	Since     *uint64  `json:"continues,omitempty"` // entries at the look before; nil at the first, and where those are lost
	Epoch     uint64   `json:"epoch,omitempty"`     // number of the newest epoch
	Lost      []string `json:"lost,omitempty"`      // what has been lost since the look before, for people
	Views     []View   `json:"views,omitempty"`
}

// View is what came of a comparison with what somebody else was shown.
type View struct {
	From  string `json:"from"`
	Size  uint64 `json:"entries,omitempty"`
	Error string `json:"error,omitempty"` // why there was nothing to compare
}

// Look fetches the newest checkpoint once. It refuses, in this order: any look after evidence of two histories was found, as long
// as it lies in Dir (325); a checkpoint that receipt.VerifyCheckpoint refuses (324, 325, 305, 301, 326); one whose
// cosignatures are too old (207, T18); one of a shorter log than before (508, T07); tiles that do not fit the checkpoint (324, T13);
// a log that does not continue what it was at the look before, or in a view (325, T09, T10); one that is behind a view (207). Where
// authorities have said that just this is lost (see Epoch), that is told loudly in place of 508 and 325, and not refused.
// A view that cannot be read, or is not signed by the log, is told and refuses nothing: else anybody could.
//
// The checkpoint is kept only if nothing is refused. Where the log has signed two histories, both checkpoints are kept as
// evidence that others can check, with VerifyEvidence, for ever.
func Look(ctx context.Context, o Options) (*Report, error) {
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making directory of the monitor: %w", err)
	}
	if err := o.before(); err != nil {
		return nil, err
	}
	last, err := o.last()
	if err != nil {
		return nil, err
	}
	now, err := o.fetch(ctx)
	if err != nil {
		return nil, err
	}
	r := &Report{}
	if last != nil {
		lost, err := o.goesOn(ctx, last, now)
		if err != nil {
			return nil, o.refused(now, err)
		}
		if r.Since = &last.Size; lost != nil {
			r.Since, r.Lost = nil, append(r.Lost, fmt.Sprintf("epoch %d: the log had %d entries at the last look; %s", lost.Number, last.Size, lost.Words))
		}
	}
	if n := len(o.Epochs); n > 0 {
		r.Epoch = o.Epochs[n-1].Number
	}
	if now, err = o.compare(ctx, now, r); err != nil {
		return nil, err
	}
	r.Origin, r.Size, r.Root, r.Cosigned, r.Operators = now.Origin, now.Size, fmt.Sprintf("%x", now.Root), now.Time, now.Operators
	return r, Keep(filepath.Join(o.Dir, "checkpoint"), now.raw)
}

// seen is a verified checkpoint with its bytes.
type seen struct {
	*receipt.Checkpoint
	raw []byte
}

// last returns the checkpoint of the look before; nil if there was none.
func (o *Options) last() (*seen, error) {
	raw, err := os.ReadFile(filepath.Join(o.Dir, "checkpoint"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading kept checkpoint: %w", err)
	}
	c, err := receipt.VerifyCheckpoint(raw, o.all(), nil) // by other witnesses, perhaps
	if err != nil {
		return nil, fmt.Errorf("reading kept checkpoint: %w", err)
	}
	return &seen{c, raw}, nil
}

// refused keeps a checkpoint that the log has signed and that was refused: another day it may be evidence.
func (o *Options) refused(c *seen, err error) error {
	return errors.Join(err, Keep(filepath.Join(o.Dir, "refused.checkpoint"), c.raw))
}

// fetch returns the newest checkpoint of the log.
func (o *Options) fetch(ctx context.Context) (*seen, error) {
	raw, err := o.Web.checkpoint(ctx, o.Log)
	if err != nil {
		return nil, err
	}
	c, err := receipt.VerifyCheckpoint(raw, o.Keys, o.Witnesses)
	if err != nil {
		return nil, err
	}
	if oldest := o.Now().Add(-o.MaxAge).Unix(); o.Witnesses != nil && oldest > 0 {
		if err := c.FreshSince(uint64(oldest)); err != nil {
			return nil, err
		}
	}
	return &seen{c, raw}, nil
}

// continues checks that a checkpoint continues an older one, by the tiles that are served at a URL.
func (o *Options) continues(ctx context.Context, old, next *seen, url string) error {
	root, path, err := o.beginning(ctx, old.Size, next, url)
	if err == nil && root != old.Root {
		err = o.fork(old, next, root, path)
	}
	return err
}

// beginning returns the root of the first entries of a checkpoint's tree, and the path from it that shows that.
func (o *Options) beginning(ctx context.Context, size uint64, next *seen, url string) (receipt.Hash, []receipt.Hash, error) {
	if size > next.Size {
		return receipt.Hash{}, nil, denial.New(denial.StateRollback, "the log has %d entries, and had %d before", next.Size, size)
	}
	root, path, err := receipt.TilePrefix(size, next.Size, func(t receipt.Tile) ([]byte, error) {
		if size == next.Size {
			return nil, errSame
		}
		return o.Web.tile(ctx, url, t)
	})
	switch {
	case errors.Is(err, errSame):
		root, path = next.Root, nil
	case err != nil:
		return root, nil, err
	}
	return root, path, next.VerifyPrefix(size, root, path)
}

// errSame says that two trees are of one size, so that their roots can be compared without tiles.
var errSame = errors.New("no tile is needed")

// compare holds the checkpoint against those of the views, and returns it, or a newer one that was fetched meanwhile.
func (o *Options) compare(ctx context.Context, now *seen, r *Report) (*seen, error) {
	for _, from := range o.Views {
		view, err := o.view(ctx, from)
		if err != nil {
			r.Views = append(r.Views, View{From: from, Error: err.Error()})
			continue
		}
		if view.Size > now.Size { // the log may have grown since
			newer, err := o.fetch(ctx)
			if err == nil {
				err = o.continues(ctx, now, newer, o.Log)
			}
			if err != nil {
				return nil, err
			}
			now = newer
		}
		if lost, err := o.lost(ctx, view, now); err != nil {
			return nil, err
		} else if lost != nil {
			r.Views = append(r.Views, View{From: from, Error: fmt.Sprintf("it is of %d entries, of which epoch %d has lost some", view.Size, lost.Number)})
			continue
		}
		if view.Size > now.Size {
			return nil, o.behind(ctx, now, view, from)
		}
		if err := o.continues(ctx, view, now, o.Log); err != nil {
			return nil, err
		}
		r.Views = append(r.Views, View{From: from, Size: view.Size})
	}
	return now, nil
}

// behind says what a view that is ahead of the log means: two histories, if its own tiles show that; else a log that is
// kept back.
func (o *Options) behind(ctx context.Context, now, view *seen, from string) error {
	if isURL(from) {
		if err := o.continues(ctx, now, view, from); denial.Is(err, denial.LogInconsistent) {
			return err
		}
	}
	return denial.New(denial.CheckpointStale, "the log shows %d entries here, and %d to others", now.Size, view.Size)
}

// view returns the checkpoint that somebody else was shown.
func (o *Options) view(ctx context.Context, from string) (*seen, error) {
	var raw []byte
	var err error
	if isURL(from) {
		raw, err = o.Web.checkpoint(ctx, from)
	} else {
		raw, err = readSmall(from)
	}
	if err != nil {
		return nil, err
	}
	c, err := receipt.VerifyCheckpoint(raw, o.all(), nil)
	if err != nil {
		return nil, err
	}
	return &seen{c, raw}, nil
}

// all returns every key of the log.
func (o *Options) all() []receipt.NoteKey { return slices.Concat(o.Keys, o.Earlier) }
