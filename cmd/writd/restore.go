package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// restoreFlags are what "writd restore" takes.
type restoreFlags struct {
	draft, why, act string
	seen, again     []string
	valid           time.Duration
}

func restoreCommand(path *string) *cobra.Command {
	var f restoreFlags
	cmd := &cobra.Command{
		Use:   "restore --draft FILE --why REASON | --act FILE",
		Short: "Let the log go on from a backup that is not its newest state, by an act of the authorities",
		Long: `Restore is for a log of which entries are lost for good: the mark beside it, the counter in the TPM, the last checkpoint or
witnesses say that it had more, and writd serve refuses it (906, 508). Put the newest backup in place first.

With --draft it checks the whole log, gathers what is known of what is lost, here and in the checkpoints of --seen, and drafts an
epoch. Authorities of the role root read it (writ inspect statement FILE) and sign it (writ sign). With --act the epoch becomes the
next entry of the log, and mark and counter go on from it. It is good for this log at this head, once.

From then on every artifact from before is void, and so is every request that was signed before. Acts of the authorities that are lost,
above all revocations, have to be given again: with --again they are logged before the log is served.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (f.draft == "") == (f.act == "") || f.draft != "" && f.why == "" || f.draft == "" && (f.why != "" || len(f.seen) > 0) || f.act == "" && len(f.again) > 0 {
				return fmt.Errorf("%w: give --draft FILE with --why, or --act FILE", errMisuse)
			}
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			if c.serving() {
				return fmt.Errorf("%w: writd is serving this log: it has nothing to restore", errMisuse)
			}
			if f.draft != "" {
				return c.draftEpoch(cmd, &f)
			}
			return c.restore(cmd, &f)
		},
	}
	cmd.Flags().StringVar(&f.draft, "draft", "", "write the act for the authorities to sign to this file")
	cmd.Flags().StringVar(&f.why, "why", "", "the reason, for people; it stands in the log")
	cmd.Flags().StringArrayVar(&f.seen, "seen", nil, "file of a checkpoint that somebody keeps of this log, such as a monitor; repeat")
	cmd.Flags().DurationVar(&f.valid, "approval", record.DefaultApproval, "for how long the approvals are good, at most 720h")
	cmd.Flags().StringVar(&f.act, "act", "", "file of the signed act")
	cmd.Flags().StringArrayVar(&f.again, "again", nil, "file of a signed act that was lost, to be logged next; repeat, in order")
	return cmd
}

// draftEpoch writes the draft of an epoch of the log that is here.
func (c *config) draftEpoch(cmd *cobra.Command, f *restoreFlags) error {
	ctx := cmd.Context()
	if _, err := c.check(ctx); err != nil {
		return err
	}
	view, err := tlog.OpenReadOnly(ctx, c.Log)
	if err != nil {
		return err
	}
	defer view.Close()
	e, g, err := c.epochOf(ctx, view)
	if err != nil {
		return err
	}
	head := receipt.Head{Size: e.Size, Root: receipt.Hash(e.Root)}
	lost, err := c.seen(ctx, g, head, f.seen)
	if err != nil {
		return err
	}
	if lost.Size > head.Size {
		e.Lost = &record.Lost{Size: lost.Size, Root: lost.Root[:]}
	}
	if c.TPM != "" {
		if err := c.counting(ctx, func(n tlog.Counter) (err error) { e.Counter, err = n.Value(ctx); return err }); err != nil {
			return err
		}
	}
	e.Time, e.Why = uint64(time.Now().Unix()), f.why
	if err := e.Check(); err != nil {
		return err
	}
	d, err := record.NewDraft(statement.Epoch, g.Issuer, e, e.Number, time.Now(), f.valid)
	if err != nil {
		return err
	}
	data, err := d.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.draft, data, 0o644); err != nil {
		return fmt.Errorf("writing draft: %w", err)
	}
	return output(cmd, map[string]any{"draft": f.draft, "epoch": e.Number, "entries": e.Size, "lost": e.Words(), "act": statement.DigestOf(d.Payload).String()},
		fmt.Sprintf("epoch %d drafted in %s: the log goes on behind its first %d entries; %s\nauthorities read it with: writ inspect statement %s\nand sign it with: writ sign %s --key KEY",
			e.Number, f.draft, e.Size, e.Words(), f.draft, f.draft))
}

// epochOf returns what an epoch says of the log that is here.
func (c *config) epochOf(ctx context.Context, view *tlog.ReadOnly) (*record.Epoch, *record.Genesis, error) {
	g, act, err := issuer.ReadGenesis(ctx, view)
	if err != nil {
		return nil, nil, err
	}
	env, err := statement.Decode(act[0], statement.MaxStatement)
	if err != nil {
		return nil, nil, err
	}
	head, err := view.Last(ctx)
	if err != nil {
		return nil, nil, err
	}
	n, err := issuer.NextEpoch(ctx, view, g.Issuer)
	genesis := statement.DigestOf(env.Payload())
	return &record.Epoch{Version: record.Version, Number: n, Genesis: genesis[:], Log: g.Log, Size: head.Size, Root: head.Root[:]}, g, err
}

// seen returns the largest tree that the files beside the log, or a checkpoint in other files, say that it had.
func (c *config) seen(ctx context.Context, g *record.Genesis, here receipt.Head, files []string) (receipt.Head, error) {
	largest, err := tlog.Marked(c.Log)
	if err != nil {
		return here, err
	}
	_, anchored, err := tlog.Anchored(c.Log)
	if err != nil {
		return here, err
	}
	all := []receipt.Head{anchored}
	if kept, err := c.checkpointIn(ctx, g, c.Log+".checkpoint"); err == nil {
		all = append(all, kept)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return here, err
	}
	for _, name := range files {
		kept, err := c.checkpointIn(ctx, g, name)
		if err != nil {
			return here, err
		}
		all = append(all, kept)
	}
	for _, h := range all {
		if h.Size == largest.Size && h.Root != largest.Root {
			return here, denial.New(denial.LogInconsistent, "two trees of %d entries are known, and they differ: find out first which one is this log's", h.Size)
		}
		if h.Size > largest.Size {
			largest = h
		}
	}
	return largest, nil
}

// checkpointIn reads a checkpoint of the log, under any of its keys.
func (c *config) checkpointIn(ctx context.Context, g *record.Genesis, name string) (receipt.Head, error) {
	raw, err := command.ReadFile(name, command.Small)
	if err != nil {
		return receipt.Head{}, fmt.Errorf("reading checkpoint: %w", err)
	}
	_, ring, err := c.readKeys(ctx)
	if err != nil {
		return receipt.Head{}, err
	}
	var keys []receipt.NoteKey
	for _, k := range ring.Of(record.PurposeLog) {
		key, err := receipt.LogNoteKey(receipt.Origin(g.Log), k)
		if err != nil {
			return receipt.Head{}, err
		}
		keys = append(keys, key)
	}
	p, err := receipt.VerifyCheckpoint(raw, keys, nil)
	if err != nil {
		return receipt.Head{}, fmt.Errorf("reading checkpoint %s: %w", name, err)
	}
	return receipt.Head{Size: p.Size, Root: p.Root}, nil
}

// restore begins the epoch, and then logs again what was lost.
func (c *config) restore(cmd *cobra.Command, f *restoreFlags) (err error) {
	ctx := cmd.Context()
	r, err := c.readEpoch(ctx, f.act)
	if err != nil {
		return err
	}
	e := r.Epoch
	if e.Counter != 0 && c.TPM == "" {
		return denial.New(denial.StateRollback, "the epoch names the counter of a TPM, and the configuration names no TPM")
	}
	if err := c.counterStands(ctx, r); err != nil {
		return err
	}
	aside, err := c.coveredCheckpoint(ctx, e)
	if err != nil {
		return err
	}
	s, err := c.openRestored(ctx, r.Restored())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := r.Begin(ctx, s.log, time.Now()); err != nil {
		return err
	}
	if c.TPM != "" {
		if err := c.counting(ctx, func(n tlog.Counter) error { return s.log.AnchorEpoch(ctx, n, e.Counter) }); err != nil {
			return err
		}
	}
	if aside {
		if err := os.Rename(c.Log+".checkpoint", fmt.Sprintf("%s.checkpoint.before-epoch-%d", c.Log, e.Number)); err != nil {
			return fmt.Errorf("putting the lost checkpoint aside: %w", err)
		}
	}
	again, err := s.again(ctx, c, f.again)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "writd: ALARM: epoch %d of the log has begun: %s\n", e.Number, e.Words())
	return output(cmd, map[string]any{"epoch": e.Number, "entries": e.Size, "lost": e.Words(), "again": again},
		fmt.Sprintf("epoch %d begins behind %d entries; %d act(s) logged again\nevery artifact and request from before is void; publish what is still lost, then: writd serve", e.Number, e.Size, again))
}

// counterStands refuses an epoch that names another value of the counter than it has (508), before anything is done. Once the log
// has the act, tlog.Log.AnchorEpoch decides.
func (c *config) counterStands(ctx context.Context, r *issuer.Restoration) error {
	if c.TPM == "" {
		return nil
	}
	view, err := tlog.OpenReadOnly(ctx, c.Log)
	if err != nil {
		return err
	}
	_, begun, err := view.Find(ctx, r.Restored().Act)
	if err = errors.Join(err, view.Close()); err != nil || begun {
		return err
	}
	return c.counting(ctx, func(n tlog.Counter) error {
		value, err := n.Value(ctx)
		if err == nil && value != r.Epoch.Counter {
			err = denial.New(denial.StateRollback, "the counter stands at %d, and the epoch says %d", value, r.Epoch.Counter)
		}
		return err
	})
}

// readEpoch reads a signed epoch, for the log that is here.
func (c *config) readEpoch(ctx context.Context, path string) (*issuer.Restoration, error) {
	b, err := readAct(path)
	if err != nil {
		return nil, err
	}
	view, err := tlog.OpenReadOnly(ctx, c.Log)
	if err != nil {
		return nil, err
	}
	defer view.Close()
	return issuer.VerifyEpoch(ctx, view, b)
}

// coveredCheckpoint reports whether the kept checkpoint is of what is lost. One that the act does not cover is refused (508).
func (c *config) coveredCheckpoint(ctx context.Context, e *record.Epoch) (bool, error) {
	g, _, err := c.readKeys(ctx)
	if err != nil {
		return false, err
	}
	kept, err := c.checkpointIn(ctx, g, c.Log+".checkpoint")
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case kept.Size <= e.Size:
		return false, nil
	case !e.Covers(kept.Size, kept.Root):
		return false, denial.New(denial.StateRollback, "the checkpoint beside the log is of %d entries, and the epoch does not cover that they are lost", kept.Size)
	}
	return true, nil
}

// again logs acts of the authorities that are lost, in order, and returns how many. One that is there already is passed over.
func (s *service) again(ctx context.Context, c *config, files []string) (n int, err error) {
	if len(files) == 0 {
		return 0, nil
	}
	roots, err := c.roots()
	if err != nil {
		return 0, err
	}
	i, err := issuer.Open(ctx, issuer.Options{Log: s.log, Roots: roots, Base: c.URL, Token: issuerToken{s.token}}) // of the new epoch
	if err != nil {
		return 0, err
	}
	for _, name := range files {
		b, err := readAct(name)
		if err != nil {
			return n, err
		}
		env, err := statement.Decode(b[0], statement.MaxStatement)
		if err != nil {
			return n, err
		}
		if _, there, err := s.log.Find(ctx, statement.DigestOf(env.Leaf())); err != nil || there {
			if err != nil {
				return n, err
			}
			continue
		}
		if _, err := i.Apply(ctx, env.Kind(), b); err != nil {
			return n, fmt.Errorf("logging %s again: %w", name, err)
		}
		n++
	}
	return n, nil
}

func readAct(path string) (record.Bundle, error) {
	data, err := command.ReadFile(path, command.Small)
	if err != nil {
		return nil, fmt.Errorf("reading act: %w", err)
	}
	return record.DecodeBundle(data)
}

// epochAlarm is for how long after an epoch began each start says so as an alarm.
const epochAlarm = 7 * 24 * time.Hour

// tellEpoch says in the journal that the log has lost entries.
func tellEpoch(e issuer.Epoch, now time.Time, log *slog.Logger) {
	if e.Number == 0 {
		return
	}
	tell, words := log.Warn, "the log has gone on behind a backup"
	if now.Before(time.Unix(int64(e.Since), 0).Add(epochAlarm)) {
		tell, words = log.Error, "ALARM: the log goes on behind a backup: entries are lost, and what was permitted before is void"
	}
	tell(words, "epoch", e.Number, "entry", e.Index, "since", time.Unix(int64(e.Since), 0).UTC().Format(time.RFC3339))
}
