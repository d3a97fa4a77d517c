package main

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/monitor"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

func (a *app) monitorEvidence() *cobra.Command {
	var trust, history string
	cmd := &cobra.Command{
		Use:   "evidence DIRECTORY",
		Short: "Check evidence that writ monitor has kept: of two histories of a log, or of a history of keys that was refused",
		Long: `Evidence reads a directory that writ monitor has kept, your trust file, and nothing else. The exit status is 0 if what it holds is
genuine and shows what it was refused for.

A directory below evidence has two checkpoints: the log has signed two histories, two trees of one size, or one that does not begin
with the other. The directory of the monitor itself has refused.key-history if a history of the issuer's keys was refused: it is held
against key-history beside it, or --key-history, or else your trust file. Another change of keys or epoch in the place of one that is
known is two histories, which authorities have signed (325). One that is shorter shows that a state of before was served (508); when that
was is the word of whoever kept it. One that does not verify shows nothing about the issuer.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := readTrust(trust)
			if err != nil {
				return err
			}
			shown, err := readHistory(filepath.Join(args[0], refusedHistory))
			switch {
			case err == nil:
				return a.historyEvidence(cmd, t, history, filepath.Join(args[0], keptHistory), shown)
			case !errors.Is(err, fs.ErrNotExist):
				return err
			}
			if t, err = followed(t, history); err != nil {
				return err
			}
			if err := monitor.VerifyEvidence(args[0], t.NoteKeys(0)); err != nil {
				return err
			}
			return a.print(cmd, map[string]any{"evidence": "checkpoints", "two_histories": true, "log": t.Log}, fmt.Sprintf("the log %s has signed two histories", t.Log))
		},
	}
	cmd.Flags().StringVar(&trust, "trust", "trust.toml", "your trust file")
	cmd.Flags().StringVar(&history, "key-history", "", "file with the history of the issuer's keys, if they have changed since the trust file")
	return cmd
}

// followed returns the trust file with the keys of a history in a file; without one, as it is.
func followed(t *artifact.Trust, path string) (*artifact.Trust, error) {
	if path == "" {
		return t, nil
	}
	raw, err := readHistory(path)
	if err != nil {
		return nil, err
	}
	return t.Follow(raw)
}

func readHistory(path string) ([]byte, error) {
	raw, err := command.ReadFile(path, artifact.MaxKeyHistory)
	if err != nil {
		return nil, fmt.Errorf("reading key history: %w", err)
	}
	return raw, nil
}

// historyEvidence is what a refused history of keys shows.
type historyEvidence struct {
	Evidence     string       `json:"evidence"`
	Log          string       `json:"log"`
	TwoHistories bool         `json:"two_histories"` // authorities have signed two changes or epochs of one number
	Older        bool         `json:"older"`         // what was served is a state of before
	Code         int          `json:"code"`          // what it is refused for
	Name         string       `json:"name"`
	Detail       string       `json:"detail"`
	Known        historySides `json:"known"`
	Shown        historySides `json:"shown"`
}

// historySides is how far a history goes, and its change in the place where two histories part.
type historySides struct {
	Changes uint64       `json:"changes"`
	Epochs  int          `json:"epochs"`
	Parts   *partingView `json:"parts,omitempty"`
}

type partingView struct {
	What   string `json:"what"`
	Number uint64 `json:"number"`
	Act    string `json:"act"` // SHA-256 of the payload
	Time   uint64 `json:"time,omitempty"`
	Why    string `json:"why,omitempty"`
}

// historyEvidence explains a history that was refused. It checks, in this order: the history verifies from the pinned genesis on its
// own; and what is known refuses it, for another change in the place of one (325) or as older (508).
func (a *app) historyEvidence(cmd *cobra.Command, t *artifact.Trust, given, kept string, shown []byte) error {
	alone, err := pinnedOnly(t).Follow(shown)
	if err != nil {
		return untold(err)
	}
	if given == "" {
		given = kept
	}
	raw, err := readHistory(given)
	switch {
	case err == nil:
		if t, err = t.Follow(raw); err != nil {
			return err
		}
	case given != kept || !errors.Is(err, fs.ErrNotExist):
		return err
	}
	_, err = t.Follow(shown)
	var d *denial.Denial
	switch {
	case err == nil:
		return denial.New(denial.ReceiptInvalid, "nothing that is known contradicts this history of keys: it is no evidence").
			Try("Give the longest history that you have followed with --key-history.")
	case !errors.As(err, &d) || d.Reason != denial.LogInconsistent && d.Reason != denial.StateRollback:
		return err
	}
	e := historyEvidence{Evidence: "key history", Log: t.Log, TwoHistories: d.Reason == denial.LogInconsistent, Older: d.Reason == denial.StateRollback,
		Code: d.Reason.Code(), Name: d.Reason.String(), Detail: d.Detail, Known: sideOf(t), Shown: sideOf(alone)}
	if e.TwoHistories {
		e.Known.Parts, e.Shown.Parts = parting(t, alone, raw, shown)
	}
	return a.print(cmd, e, cleanLines(e.text()))
}

// pinnedOnly returns a trust file that knows nothing but the genesis of another: with it a history verifies on its own, or not.
func pinnedOnly(t *artifact.Trust) *artifact.Trust {
	return &artifact.Trust{Genesis: t.Genesis, Issuer: t.Issuer, Log: t.Log}
}

// untold says of a history that does not verify that it shows nothing about the issuer.
func untold(err error) error {
	var d *denial.Denial
	if !errors.As(err, &d) {
		return err
	}
	return denial.New(d.Reason, "the history does not verify, so it shows nothing about the issuer: %s", d.Detail).
		Try("Find out who answered in the issuer's place, or what damaged the answer on its way.")
}

func sideOf(t *artifact.Trust) historySides {
	side := historySides{Epochs: len(t.Epochs())}
	switch ring := t.KeyRing(); {
	case ring != nil:
		side.Changes = ring.Sequence()
	case t.KeyPin != nil:
		side.Changes = t.KeyPin.Change
	}
	return side
}

// parting returns what stands, in each of two histories, in the first place where they differ.
func parting(known, shown *artifact.Trust, knownRaw, shownRaw []byte) (*partingView, *partingView) {
	theirs := shown.KeyRing()
	for n := uint64(1); n <= theirs.Sequence(); n++ {
		digest, _ := theirs.Change(n)
		var own statement.Digest
		have := false
		switch ring := known.KeyRing(); {
		case ring != nil:
			own, have = ring.Change(n)
		case known.KeyPin != nil && known.KeyPin.Change == n:
			own, have = statement.Digest(known.KeyPin.Digest), true
		}
		if have && own != digest {
			return changeAt(knownRaw, n, own), changeAt(shownRaw, n, digest)
		}
	}
	a, b := known.Epochs(), shown.Epochs()
	for n := range min(len(a), len(b)) {
		if a[n].Act != b[n].Act {
			return &partingView{"epoch", a[n].Number, a[n].Act.String(), a[n].Time, a[n].Why}, &partingView{"epoch", b[n].Number, b[n].Act.String(), b[n].Time, b[n].Why}
		}
	}
	return nil, nil
}

// changeAt describes a change of a history that has verified, as far as the history is at hand.
func changeAt(raw []byte, n uint64, digest statement.Digest) *partingView {
	v := &partingView{What: "change", Number: n, Act: digest.String()}
	h, err := artifact.DecodeKeyHistory(raw)
	if err != nil || uint64(len(h.Changes)) < n || len(h.Changes[n-1]) == 0 {
		return v
	}
	env, err := statement.Decode(h.Changes[n-1][0], 2*statement.MaxStatement)
	if err != nil {
		return v
	}
	if c, err := record.ReadKeyChange(env.Payload()); err == nil {
		v.Time, v.Why = c.Time, c.Why
	}
	return v
}

func (e *historyEvidence) text() string {
	ends := fmt.Sprintf("known are %d changes of keys and %d epochs; shown were %d and %d", e.Known.Changes, e.Known.Epochs, e.Shown.Changes, e.Shown.Epochs)
	if e.Older {
		return fmt.Sprintf("an older history of the keys of %s was served (%d %s): it is genuine, and shorter than the one that is known\n%s\nthat it was served after the longer one is the word of whoever kept it",
			e.Log, e.Code, e.Name, ends)
	}
	s := fmt.Sprintf("authorities have signed, and the log has taken, two histories of the keys of %s (%d %s)\n%s", e.Log, e.Code, e.Name, ends)
	for _, side := range []struct {
		name string
		p    *partingView
	}{{"known", e.Known.Parts}, {"shown", e.Shown.Parts}} {
		if p := side.p; p != nil {
			s += fmt.Sprintf("\n%s: %s %d, act %s", side.name, p.What, p.Number, p.Act)
			if p.Time != 0 {
				s += fmt.Sprintf(", of %s: %s", time.Unix(int64(p.Time), 0).UTC().Format(time.RFC3339), p.Why)
			}
		}
	}
	return s
}
