package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// TestRefusedHistoriesOfKeysAreExplained: what writ monitor keeps of a history that it refuses is read by writ monitor evidence, which
// tells two histories (325) from an older one (508), and both from what shows nothing about the issuer.
func TestRefusedHistoriesOfKeysAreExplained(t *testing.T) {
	w := issuertest.Bare(t)
	trust := w.Trust()
	trust.Expires = time.Now().Add(time.Hour).Truncate(time.Second).UTC()
	genesis := w.History()
	other := *w // the same issuer as others are shown it: it goes on from the same log otherwise
	other.Path = w.Backup()
	change := func(w *issuertest.World, why string) []byte {
		w.Advance(time.Second)
		c := w.HandOver()
		c.Why = why
		w.HandedOver(c)
		return w.History()
	}
	first := change(w, "alice has left")
	longer := func() []byte { // by those who came, a second change
		w.Advance(time.Second)
		c := w.HandOver()
		must(w.Issuer.Apply(w.Ctx, statement.KeyChange, w.Sign(statement.KeyChange, c, issuertest.Bob, issuertest.Carol)))(t)
		return w.History()
	}()
	other.Restart()
	forked := change(&other, "alice has left, they say")
	broken := append([]byte{}, first...)
	broken[len(broken)-40] ^= 1

	watch := keyWatch{trust: must(trust.Follow(longer))(t), dir: t.TempDir(), say: io.Discard}
	for i, row := range []struct{ answer, kept []byte }{ // in this order: none that shows less takes the place of one that shows more
		{broken, broken}, {[]byte("<html>"), []byte("<html>")}, {genesis, genesis}, {broken, genesis}, {first, genesis}, {forked, forked}, {first, forked}, {broken, forked},
	} {
		watch.ask = func(context.Context) ([]byte, error) { return row.answer, nil }
		if _, err := watch.follow(t.Context()); err == nil {
			t.Fatalf("answer %d is not refused", i)
		}
		if got := must(os.ReadFile(filepath.Join(watch.dir, refusedHistory)))(t); !bytes.Equal(got, row.kept) {
			t.Errorf("after answer %d another history is kept than the one that shows most", i)
		}
	}

	dir := t.TempDir()
	pins := filepath.Join(dir, "trust.toml")
	if err := os.WriteFile(pins, must(trust.Marshal())(t), 0o600); err != nil {
		t.Fatal(err)
	}
	type side struct {
		Changes uint64
		Parts   *partingView
	}
	for name, row := range map[string]struct {
		known, shown []byte
		status       int
		two, older   bool
		code         denial.Reason
		says         string
	}{
		"another in its place":    {longer, forked, exitYes, true, false, denial.LogInconsistent, "two histories of the keys of " + issuertest.Log},
		"an older one":            {longer, first, exitYes, false, true, denial.StateRollback, "known are 2 changes of keys and 0 epochs; shown were 1 and 0"},
		"genesis alone":           {first, genesis, exitYes, false, true, denial.StateRollback, "an older history"},
		"one that continues":      {first, longer, exitDenied, false, false, denial.ReceiptInvalid, "it is no evidence"},
		"one that nobody signed":  {longer, broken, exitDenied, false, false, denial.DualControlMissing, "shows nothing about the issuer"},
		"no history at all":       {longer, []byte("<html>"), exitDenied, false, false, denial.NotCanonical, "shows nothing about the issuer"},
		"nothing known but a pin": {nil, first, exitDenied, false, false, denial.ReceiptInvalid, "it is no evidence"},
	} {
		t.Run(name, func(t *testing.T) {
			kept := t.TempDir()
			if row.known != nil {
				if err := os.WriteFile(filepath.Join(kept, keptHistory), row.known, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.WriteFile(filepath.Join(kept, refusedHistory), row.shown, 0o600); err != nil {
				t.Fatal(err)
			}
			status, out, errs := call(t, "monitor", "evidence", kept, "--trust", pins)
			if status != row.status || !strings.Contains(out+errs, row.says) {
				t.Errorf("status %d\n%s%s", status, out, errs)
			}
			status, out, _ = call(t, "monitor", "evidence", kept, "--trust", pins, "--json")
			var got struct {
				Two   bool `json:"two_histories"`
				Older bool
				Code  int
				Known side
				Shown side
			}
			if err := json.Unmarshal([]byte(out), &got); err != nil || status != row.status || got.Two != row.two || got.Older != row.older || got.Code != row.code.Code() {
				t.Fatalf("status %d, %v\n%s", status, err, out)
			}
			if row.two && (got.Known.Parts.Number != 1 || got.Shown.Parts.Why != "alice has left, they say" || got.Known.Parts.Act == got.Shown.Parts.Act || got.Known.Changes != 2) {
				t.Errorf("got %s", out)
			}
		})
	}
	// A history from elsewhere takes the place of the one beside it, and is needed where there is none.
	kept, known := t.TempDir(), filepath.Join(dir, "known")
	if err := os.WriteFile(filepath.Join(kept, refusedHistory), genesis, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(known, longer, 0o600); err != nil {
		t.Fatal(err)
	}
	if status, out, errs := call(t, "monitor", "evidence", kept, "--trust", pins, "--key-history", known); status != exitYes || !strings.Contains(out, "508 STATE_ROLLBACK") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	if status, _, errs := call(t, "monitor", "evidence", kept, "--trust", pins, "--key-history", filepath.Join(dir, "none")); status != exitFault {
		t.Errorf("status %d\n%s", status, errs)
	}
}
