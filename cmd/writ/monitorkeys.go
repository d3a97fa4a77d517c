package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/monitor"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
)

// The files that a monitor keeps of the history of the issuer's keys: the longest that it has followed, and one that it refused.
const (
	keptHistory    = "key-history"
	refusedHistory = "refused.key-history"
)

// keyGrace is for how many seconds a log key that was replaced may still have signed the newest checkpoint: the log publishes one
// every few seconds.
const keyGrace = 60

// keyWatch follows the keys of an issuer from look to look. What it has followed once is kept, so that neither a history that was
// rolled back nor another one passes, not even after a restart.
type keyWatch struct {
	trust *artifact.Trust
	ask   func(context.Context) ([]byte, error) // nil: the trust file names all keys
	dir   string
	say   io.Writer
}

// watchKeys reads the trust file and the history that was kept.
func (a *app) watchKeys(f *monitorFlags, say io.Writer) (*keyWatch, error) {
	t, err := readTrust(f.trust)
	if err != nil {
		return nil, err
	}
	w := &keyWatch{trust: t, dir: f.dir, say: say}
	switch {
	case f.history != "":
		w.ask = func(context.Context) ([]byte, error) { return readHistory(f.history) }
	case a.server != "" && a.ca != "":
		c, err := a.client()
		if err != nil {
			return nil, err
		}
		w.ask = c.Keys
	default:
		return w, nil
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making directory of the monitor: %w", err)
	}
	kept, err := readHistory(filepath.Join(f.dir, keptHistory))
	if errors.Is(err, fs.ErrNotExist) {
		return w, nil
	}
	if err == nil {
		w.trust, err = t.Follow(kept)
	}
	if err != nil {
		return nil, fmt.Errorf("reading kept history of keys: %w", err)
	}
	return w, nil
}

// follow asks for the history of the issuer's keys. It must continue what was followed before: a shorter one is 508, another one
// 325. It reports whether keys have changed since.
func (w *keyWatch) follow(ctx context.Context) (changed bool, err error) {
	if w.ask == nil {
		return false, nil
	}
	raw, err := w.ask(ctx)
	if err != nil {
		return false, fmt.Errorf("asking for the history of the keys: %w", err)
	}
	next, err := w.trust.Follow(raw)
	var d *denial.Denial
	if errors.As(err, &d) {
		return false, errors.Join(err, w.keepRefused(raw))
	}
	if err != nil {
		return false, err
	}
	before := w.trust
	w.trust = next
	if ring := before.KeyRing(); ring != nil {
		more := next.KeyRing().Sequence() - ring.Sequence()
		if more == 0 && len(before.Epochs()) == len(next.Epochs()) {
			return false, nil
		}
		if more > 0 {
			fmt.Fprintf(w.say, "writ: the issuer's keys have changed: %d changes are followed, %d more than at the last look\n", next.KeyRing().Sequence(), more)
		}
	}
	return true, monitor.Keep(filepath.Join(w.dir, keptHistory), raw)
}

// keepRefused keeps a history that was refused. One that is kept already gives way only to one that shows more: an answer that shows
// nothing, which anybody can make, takes no evidence away.
func (w *keyWatch) keepRefused(raw []byte) error {
	path := filepath.Join(w.dir, refusedHistory)
	if kept, err := readHistory(path); err == nil {
		if shown := w.shows(kept); shown != showsNothing && shown >= w.shows(raw) {
			return nil
		}
	}
	return monitor.Keep(path, raw)
}

// What a refused history shows about the issuer, the least first.
const (
	showsNothing = iota // it does not verify, or contradicts nothing
	showsOlder
	showsTwoHistories
)

func (w *keyWatch) shows(history []byte) int {
	if _, err := pinnedOnly(w.trust).Follow(history); err != nil {
		return showsNothing
	}
	switch _, err := w.trust.Follow(history); {
	case denial.Is(err, denial.LogInconsistent):
		return showsTwoHistories
	case denial.Is(err, denial.StateRollback):
		return showsOlder
	}
	return showsNothing
}

// look looks at the log once, with the keys as they are now. A checkpoint by a key that is not known is judged with a history that
// was asked for after it.
func (w *keyWatch) look(ctx context.Context, o monitor.Options) (*monitor.Report, error) {
	if _, err := w.follow(ctx); err != nil {
		return nil, err
	}
	for {
		now := time.Now()
		if !now.Before(w.trust.Expires) {
			return nil, denial.New(denial.PolicyExpired, "the trust file has expired")
		}
		r, err := monitor.Look(ctx, w.options(o, uint64(now.Unix())))
		if !denial.Is(err, denial.KeyUnknown) {
			return r, err
		}
		if changed, ferr := w.follow(ctx); ferr != nil || !changed {
			return nil, errors.Join(err, ferr)
		}
	}
}

// options are those for a look at a time, in seconds since 1970 UTC.
func (w *keyWatch) options(o monitor.Options, at uint64) monitor.Options {
	o.Keys, o.Earlier, o.Witnesses = append(w.trust.NoteKeys(at), w.trust.NoteKeys(at-keyGrace)...), w.trust.NoteKeys(0), w.trust.Witnesses
	if ring := w.trust.KeyRing(); ring != nil {
		for _, k := range ring.Keys() { // one that came and went meanwhile
			if k.Purpose == record.PurposeLog && at-keyGrace < k.From && k.From < at {
				o.Keys = append(o.Keys, w.trust.NoteKeys(k.From)...)
			}
		}
	}
	for _, e := range w.trust.Epochs() {
		o.Epochs = append(o.Epochs, monitor.Epoch{Number: e.Number, Size: e.Size, Root: receipt.Hash(e.Root), Covers: e.Covers, Words: e.Words()})
	}
	return o
}
