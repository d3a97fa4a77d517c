package witness

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/tlog"
)

// Limits of time.
const (
	patience = 8 * time.Second  // for all witnesses together (T19)
	refresh  = 10 * time.Minute // after which witnesses cosign an idle log again, so that its age can be told (T18)
)

// Options say which log is published, and who cosigns it.
type Options struct {
	Log       *tlog.Log
	Origin    string
	Path      string     // file in which the newest published checkpoint is kept
	Witnesses []Endpoint // none: the log signs alone
	Epoch     uint64     // index of the log's newest epoch: until enough operators have cosigned more, a witness that holds what was lost stops nothing
	Threshold int        // operators of witnesses that must cosign; with witnesses at least 1
	Client    *http.Client
	Now       func() time.Time // default time.Now
}

// Publisher keeps the newest checkpoint that enough operators have cosigned. It is safe for concurrent use.
type Publisher struct {
	o       Options
	demand  *receipt.Witnesses // nil without witnesses
	asked   []*asked
	mu      sync.Mutex // held while a checkpoint is published
	at      time.Time  // of the last one
	current atomic.Pointer[published]
	fault   atomic.Pointer[error]
	states  []atomic.Pointer[State] // of each witness
}

// State is how it stands with one witness.
type State struct {
	Operator string
	Name     string
	Size     uint64    // of the newest checkpoint that it cosigned since the start; 0 if none
	At       time.Time // when it did
	Fault    error     // why it did not at the last attempt; nil if it did, or was not asked yet
}

type published struct {
	raw  []byte
	head receipt.Head // with the time at which the log signed it; zero if that is not known
	*receipt.Checkpoint
}

// New reads the checkpoint that was published last. It refuses, in this order: witnesses that are not well chosen, a
// threshold that is unset or too high (326); a kept checkpoint that is not of this log and its keys (324, 325, 305, 301); a log
// that is shorter than it (508, T07) or does not continue it (325, T10). Then it publishes once, and refuses (508, 325) if
// as many operators of witnesses as the threshold demands have seen a longer or another log. Witnesses that do not answer
// keep nobody from starting.
func New(ctx context.Context, o Options) (*Publisher, error) {
	p := &Publisher{o: o}
	if p.o.Now == nil {
		p.o.Now = time.Now
	}
	if p.o.Client == nil {
		p.o.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if len(o.Witnesses) > 0 || o.Threshold != 0 {
		p.demand = &receipt.Witnesses{Threshold: o.Threshold}
		for _, w := range o.Witnesses {
			p.demand.List = append(p.demand.List, w.Witness)
			p.asked = append(p.asked, &asked{Endpoint: w, http: p.o.Client})
		}
		if err := p.demand.Check(); err != nil {
			return nil, err
		}
		p.states = make([]atomic.Pointer[State], len(o.Witnesses))
		for i, w := range o.Witnesses {
			p.states[i].Store(&State{Operator: w.Operator, Name: w.Key.Name()})
		}
	}
	if err := p.recall(ctx); err != nil {
		return nil, err
	}
	if err := p.Publish(ctx); denial.Is(err, denial.StateRollback) || denial.Is(err, denial.LogInconsistent) {
		return nil, err
	}
	return p, nil
}

// keys returns the log key and those before it.
func (p *Publisher) keys() (all []receipt.NoteKey, err error) {
	for _, k := range p.o.Log.Keys() {
		key, err := receipt.LogNoteKey(p.o.Origin, k)
		if err != nil {
			return nil, err
		}
		all = append(all, key)
	}
	return all, nil
}

// recall reads the kept checkpoint and compares it with the log.
func (p *Publisher) recall(ctx context.Context) error {
	raw, err := os.ReadFile(p.o.Path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading kept checkpoint: %w", err)
	}
	keys, err := p.keys()
	if err != nil {
		return err
	}
	kept, err := receipt.VerifyCheckpoint(raw, keys, nil) // by other witnesses, perhaps, and under an earlier key
	if err != nil {
		return fmt.Errorf("reading kept checkpoint: %w", err)
	}
	head := p.o.Log.Head().Head
	if err := p.continues(ctx, head, kept); err != nil {
		return err
	}
	if kept.Size != head.Size {
		head = receipt.Head{}
	}
	p.current.Store(&published{raw, head, kept})
	return nil
}

// continues checks that the head continues a checkpoint.
func (p *Publisher) continues(ctx context.Context, head receipt.Head, old *receipt.Checkpoint) error {
	var path []receipt.Hash
	if old.Size <= head.Size {
		var err error
		if path, err = p.o.Log.ConsistencyPath(ctx, old.Size, head.Size); err != nil {
			return err
		}
	}
	return (&receipt.Checkpoint{Origin: p.o.Origin, Size: head.Size, Root: head.Root}).Follows(old, path)
}

// Publish has the newest head signed and cosigned, and publishes it if enough operators have. With nothing new it does
// nothing, except that it has the checkpoint of an idle log cosigned again from time to time. Its error is kept for Fault.
//
// If as many operators of witnesses as the threshold demands have seen a longer log (508) or another one (325), the log is
// stopped: it is not the one that it was. A single witness's word, below the threshold, is only an error; so is that of all (326) as long as
// none of them has followed the log into its newest epoch, since they hold what was lost.
func (p *Publisher) Publish(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.publish(ctx)
	p.fault.Store(&err)
	return err
}

func (p *Publisher) publish(ctx context.Context) error {
	now, last := p.o.Now(), p.current.Load()
	if last != nil && last.Size == p.o.Log.Head().Size && (p.demand == nil || now.Before(p.at.Add(refresh))) {
		return nil
	}
	head, raw, err := p.o.Log.Checkpoint(ctx)
	if errors.Is(err, tlog.ErrNotFound) {
		return nil // nothing to publish yet
	}
	if err != nil {
		return err
	}
	if last != nil {
		if err := p.continues(ctx, head, last.Checkpoint); err != nil {
			p.o.Log.Stop()
			return err
		}
	}
	if raw, err = p.cosign(ctx, head, raw); err != nil {
		return err
	}
	keys, err := p.keys()
	if err != nil {
		return err
	}
	c, err := receipt.VerifyCheckpoint(raw, keys, p.demand)
	if err != nil {
		return err
	}
	if err := keep(p.o.Path, raw); err != nil {
		return err
	}
	p.current.Store(&published{raw, head, c})
	p.at = now
	return nil
}

// cosign asks all witnesses at once and adds what they sign.
func (p *Publisher) cosign(ctx context.Context, head receipt.Head, raw []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	path := func(ctx context.Context, size uint64) ([]receipt.Hash, error) {
		return p.o.Log.ConsistencyPath(ctx, size, head.Size)
	}
	signed, errs := make([][]byte, len(p.asked)), make([]error, len(p.asked))
	var wg sync.WaitGroup
	for i, w := range p.asked {
		wg.Go(func() { signed[i], errs[i] = w.cosign(ctx, head.Size, raw, path) })
	}
	wg.Wait()
	against := map[string]error{}
	whole := raw
	for i, w := range p.asked {
		p.note(i, head.Size, errs[i])
		if denial.Is(errs[i], denial.StateRollback) || denial.Is(errs[i], denial.LogInconsistent) {
			against[w.Operator] = errs[i]
		}
		if errs[i] == nil {
			whole = append(whole[:len(whole):len(whole)], signed[i][len(raw):]...)
		}
	}
	if p.demand != nil && len(against) >= p.demand.Threshold && !p.followed() {
		return nil, denial.New(denial.ThresholdNotMet, "%d operators of witnesses hold what the log had before epoch entry %d: give them the act, so that they begin anew", len(against), p.o.Epoch)
	}
	if p.demand != nil && len(against) >= p.demand.Threshold {
		p.o.Log.Stop()
		for _, err := range against {
			return nil, err
		}
	}
	keys, err := p.keys()
	if err != nil {
		return nil, err
	}
	if _, err := receipt.VerifyCheckpoint(whole, keys, p.demand); err != nil {
		return nil, errors.Join(append([]error{err}, errs...)...)
	}
	return whole, nil
}

// followed reports whether witnesses have followed the log into its newest epoch: then their word against it stops it.
func (p *Publisher) followed() bool {
	c := p.current.Load()
	return p.o.Epoch == 0 || c != nil && c.Size > p.o.Epoch
}

// note remembers what came of asking a witness.
func (p *Publisher) note(i int, size uint64, err error) {
	next := *p.states[i].Load()
	if next.Fault = err; err == nil {
		next.Size, next.At = size, p.o.Now()
	}
	p.states[i].Store(&next)
}

// Witnesses returns how it stands with each witness, in the order of Options.
func (p *Publisher) Witnesses() (all []State) {
	for i := range p.states {
		all = append(all, *p.states[i].Load())
	}
	return all
}

// Threshold returns how many distinct operators must cosign; 0 without witnesses.
func (p *Publisher) Threshold() int {
	if p.demand == nil {
		return 0
	}
	return p.demand.Threshold
}

// keep replaces a file durably, so that after a crash either the old or the new one is there, whole.
func keep(path string, data []byte) (err error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("keeping checkpoint: %w", err)
	}
	defer dir.Close()
	f, err := os.CreateTemp(dir.Name(), ".checkpoint-")
	if err != nil {
		return fmt.Errorf("keeping checkpoint: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = errors.Join(os.Rename(f.Name(), path), dir.Sync())
	}
	if err != nil {
		return fmt.Errorf("keeping checkpoint: %w", err)
	}
	return nil
}

// Checkpoint returns the newest published checkpoint as it is served, nil before there is one.
func (p *Publisher) Checkpoint() []byte {
	if c := p.current.Load(); c != nil {
		return c.raw
	}
	return nil
}

// Newest returns the head of the newest published checkpoint and the checkpoint; a zero head and nil before there is one.
func (p *Publisher) Newest() (receipt.Head, []byte) {
	if c := p.current.Load(); c != nil && c.head != (receipt.Head{}) {
		return c.head, c.raw
	}
	return receipt.Head{}, nil
}

// Published returns the newest published checkpoint, the zero Checkpoint before there is one.
func (p *Publisher) Published() receipt.Checkpoint {
	if c := p.current.Load(); c != nil {
		return *c.Checkpoint
	}
	return receipt.Checkpoint{}
}

// Fault returns why the last attempt to publish failed, nil if it did not.
func (p *Publisher) Fault() error {
	if err := p.fault.Load(); err != nil {
		return *err
	}
	return nil
}
