package artifact_test

import (
	"slices"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// newEpoch returns an epoch that the authorities signed, logged now behind the entries that were restored.
func newEpoch(w *issuertest.World, restored [][]byte, edit func(*record.Epoch), persons ...string) *change {
	w.Helper()
	genesis, root := w.Trust().Genesis, rootOf(restored)
	e := record.Epoch{Version: record.Version, Number: 1, Genesis: genesis[:], Log: issuertest.Log, Size: uint64(len(restored)), Root: root[:], Time: w.Seconds(), Why: "a test"}
	if edit != nil {
		edit(&e)
	}
	if persons == nil {
		persons = []string{issuertest.Alice, issuertest.Bob}
	}
	claims := w.ActClaims(issuertest.Issuer, statement.Epoch, e)
	claims.Sequence = e.Number
	return logAt(w, restored, w.SignWith(claims, statement.Epoch, e, persons...))
}

// logAt logs statements behind the entries, now and under the log key in use.
func logAt(w *issuertest.World, before [][]byte, statements record.Bundle) *change {
	c := &change{statements: statements}
	entries := append(slices.Clone(before), statements...)
	for i := range c.logs {
		c.logs[i], c.places[i] = madeLog{w.Keys[record.PurposeLog], issuertest.Issuer, issuertest.Log, w.Seconds(), entries}, len(before)+i
	}
	return c
}

// withEpochs returns a history.
func withEpochs(w *issuertest.World, changes, epochs []*change) []byte {
	w.Helper()
	h := issuertest.Must(artifact.DecodeKeyHistory(encode(w, changes...)))(w)
	h.Epochs = issuertest.Must(artifact.DecodeKeyHistory(encode(w, epochs...)))(w).Changes
	return issuertest.Must(h.Encode())(w)
}

// TestP20_EpochsAreFollowed breaks one thing of an epoch at a time, with all signatures good.
func TestP20_EpochsAreFollowed(t *testing.T) {
	w := issuertest.New(t)
	trust := w.Trust()
	restored := [][]byte{[]byte("genesis")}
	waiting, announce := w.Announce(record.PurposeLog)
	for name, row := range map[string]struct {
		payload func(*record.Epoch)
		persons []string
		edit    func(*change)
		code    denial.Reason // 0: it is followed
	}{
		"as it should be":     {},
		"one signature":       {persons: []string{issuertest.Alice}, edit: func(c *change) { c.places[1] = 1 }, code: denial.ThresholdNotMet},
		"another version":     {payload: func(e *record.Epoch) { e.Version++ }, code: denial.UnsupportedVersion},
		"another log":         {payload: func(e *record.Epoch) { e.Log += "/2" }, code: denial.IdentityConflict},
		"another genesis":     {payload: func(e *record.Epoch) { e.Genesis = make([]byte, 32) }, code: denial.IdentityConflict},
		"not the next":        {payload: func(e *record.Epoch) { e.Number = 2 }, code: denial.DualControlMissing},
		"another size":        {payload: func(e *record.Epoch) { e.Size++ }, code: denial.ReceiptInvalid},
		"another root":        {payload: func(e *record.Epoch) { e.Root = make([]byte, 32) }, code: denial.LogInconsistent},
		"in another log":      {edit: func(c *change) { c.logs[0].uri += "/2"; c.logs[1].uri += "/2" }, code: denial.ReceiptInvalid},
		"under two heads":     {edit: func(c *change) { c.logs[1].time++ }, code: denial.ReceiptInvalid},
		"logged too late":     {edit: func(c *change) { c.logs[0].time += 3600; c.logs[1].time += 3600 }, code: denial.Expired},
		"by a key that waits": {edit: func(c *change) { c.logs[0].key, c.logs[1].key = waiting, waiting }, code: denial.KeyOutsideValidity},
		"by a key of records": {edit: func(c *change) {
			c.logs[0].key, c.logs[1].key = w.Keys[record.PurposeRecord], w.Keys[record.PurposeRecord]
		}, code: denial.ReceiptInvalid},
		"without receipts": {edit: func(c *change) { c.receipts = func(int, [][]byte) [][]byte { return nil } }, code: denial.ReceiptInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			w := w.For(t)
			c := newEpoch(w, restored, row.payload, row.persons...)
			if row.edit != nil {
				row.edit(c)
			}
			// A key change at other places does not count in the order of epochs.
			turn := newChange(w, announce)
			turn.logs[0].entries = append([][]byte{[]byte("x"), []byte("y")}, turn.logs[0].entries...)
			turn.logs[1].entries, turn.places = turn.logs[0].entries, [2]int{3, 4}
			raw := withEpochs(w, []*change{turn}, []*change{c})
			got, err := trust.Follow(raw)
			if row.code != 0 {
				if !denial.Is(err, row.code) || got != nil {
					t.Errorf("got %v, want %s", err, row.code)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			payload := issuertest.Must(statement.Decode(c.statements[0], statement.MaxStatement))(t).Payload()
			if e := got.Epochs(); len(e) != 1 || e[0].Logged != w.Seconds() || e[0].Act != statement.DigestOf(payload) || len(e[0].Persons) != 2 || e[0].Size != 1 {
				t.Errorf("got %+v", e)
			}
			if again, err := got.Follow(raw); err != nil || len(again.Epochs()) != 1 {
				t.Errorf("followed twice: %v", err)
			}
		})
	}
	if w.Trust().Epochs() != nil || (*artifact.Trust)(nil).Epochs() != nil {
		t.Error("epochs that nobody followed")
	}
}

// P20: epochs follow one on the other, and what was followed before is not taken back.
func TestP20_EpochsAreAChain(t *testing.T) {
	w := issuertest.New(t)
	restored := [][]byte{[]byte("genesis")}
	first := newEpoch(w, restored, nil)
	other := newEpoch(w, restored, func(e *record.Epoch) { e.Why = "another" })
	behind := func(c *change, number uint64) *change {
		return newEpoch(w, c.logs[0].entries, func(e *record.Epoch) { e.Number = number })
	}
	second := behind(first, 2)
	follow := func(trust *artifact.Trust, epochs ...*change) (*artifact.Trust, error) {
		return trust.Follow(withEpochs(w, nil, epochs))
	}
	one := issuertest.Must(follow(w.Trust(), first))(t)
	two := issuertest.Must(follow(one, first, second))(t)
	if len(one.Epochs()) != 1 || len(two.Epochs()) != 2 {
		t.Errorf("got %d and %d epochs", len(one.Epochs()), len(two.Epochs()))
	}
	earlier := behind(first, 2)
	earlier.logs[0].time, earlier.logs[1].time = w.Seconds()-1, w.Seconds()-1
	for name, row := range map[string]struct {
		trust  *artifact.Trust
		epochs []*change
		code   denial.Reason
	}{
		"none of two":             {two, nil, denial.StateRollback},
		"one of two":              {two, []*change{first}, denial.StateRollback},
		"another in its place":    {one, []*change{other}, denial.LogInconsistent},
		"the second alone":        {w.Trust(), []*change{second}, denial.DualControlMissing},
		"the first twice":         {w.Trust(), []*change{first, first}, denial.LogInconsistent},
		"the third as the second": {w.Trust(), []*change{first, behind(first, 3)}, denial.DualControlMissing},
		"the second before it":    {w.Trust(), []*change{first, earlier}, denial.LogInconsistent},
	} {
		if got, err := follow(row.trust, row.epochs...); !denial.Is(err, row.code) || got != nil {
			t.Errorf("%s: got %v, want %s", name, err, row.code)
		}
	}
	h := issuertest.Must(artifact.DecodeKeyHistory(withEpochs(w, nil, []*change{first})))(t)
	h.Epochs[0][0] = []byte{0xd2}
	if got, err := w.Trust().Follow(issuertest.Must(h.Encode())(t)); !denial.Is(err, denial.WrongType) || got != nil {
		t.Errorf("no envelope: got %v", err)
	}
}

// P20: a head is lost if it is larger than what was restored, and was signed before the epoch was logged.
func TestP20_HeadsThatAreLost(t *testing.T) {
	e := artifact.Epoch{Epoch: record.Epoch{Size: 5}, Logged: 100}
	for _, row := range []struct {
		size, time uint64
		want       bool
	}{{5, 0, false}, {6, 0, true}, {6, 99, true}, {6, 100, false}, {5, 99, false}, {4, 200, false}, {9, 101, false}} {
		if got := e.Lost(row.size, row.time); got != row.want {
			t.Errorf("a head of %d entries at %d: lost %v", row.size, row.time, got)
		}
	}
}
