package issuer_test

import (
	"slices"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/cddl"
	"github.com/governed-execution/writ/test/issuertest"
)

// P20: what was permitted, used, asked for or revoked in what is lost cannot be known, so nothing of before counts.
func TestP20_NothingOfBeforeTheEpochCounts(t *testing.T) {
	w := issuertest.New(t)
	before := w.Permit()
	chain := w.Host.Chain
	backup := w.Backup()
	w.Advance(10 * time.Second)
	answered := w.Prepare(issuertest.Spoil{})
	lost := issuertest.Must(answered.Send())(t)
	pinned := w.Trust()
	w.Advance(10 * time.Second)
	if err := w.Restore(backup, nil); err != nil {
		t.Fatal(err)
	}
	if e := w.Issuer.Epoch(); e.Number != 1 || e.Since != w.Seconds() {
		t.Errorf("got epoch %+v", e)
	}

	// A captured request that was answered in what is lost: the log does not know its id any more.
	again := w.Prepare(issuertest.Spoil{Request: func([]byte) []byte { return answered.Request }})
	_, err := again.Send()
	w.Refusal(err, denial.RequestReplayed)
	_, err = w.Ask(issuertest.Spoil{}) // nor is one of the same second told from it
	w.Refusal(err, denial.RequestReplayed)
	w.Advance(time.Second)

	// Artifacts of before start nothing, and relying parties that follow the log refuse them.
	w.Host.Chain = chain
	for m, want := range map[*issuer.Minted]denial.Reason{before: denial.ArtifactRevoked, lost: denial.KeyUnknown} {
		leaf := w.Report(w.Host, m, record.EventStart, nil)
		if _, err := w.Issuer.Take(w.Ctx, leaf); !denial.Is(err, want) {
			t.Errorf("got %v of a start, want %d", err, want.Code())
		}
	}
	trust := issuertest.Must(pinned.Follow(w.History()))(t)
	for name, m := range map[string][]byte{"before": before.Artifact, "lost": lost.Artifact} {
		status := issuertest.Must(artifact.VerifyStatus(issuertest.Must(w.Issuer.Status(w.Ctx, 0))(t), trust, w.Now(), 0))(t)
		if _, err := artifact.Verify(m, artifact.Want{Trust: trust, Now: w.Now(), Audience: issuertest.Gate, Status: status}); !denial.Is(err, denial.ArtifactRevoked) {
			t.Errorf("an artifact of %s: got %v, want %d", name, err, denial.ArtifactRevoked.Code())
		}
	}
	fresh := w.Permit()
	issuertest.Must(w.Issuer.Take(w.Ctx, w.Report(w.Host, fresh, record.EventStart, nil)))(t)
	status := issuertest.Must(artifact.VerifyStatus(issuertest.Must(w.Issuer.Status(w.Ctx, 0))(t), trust, w.Now(), 0))(t)
	issuertest.Must(artifact.Verify(fresh.Artifact, artifact.Want{Trust: trust, Now: w.Now(), Audience: issuertest.Gate, Status: status}))(t)

	// The history tells of the epoch; who has followed it accepts none without it, and no other.
	if all := trust.Epochs(); len(all) != 1 || all[0].Number != 1 || !all[0].Lost(all[0].Size+1, all[0].Logged-1) || all[0].Lost(all[0].Size+1, all[0].Logged) || all[0].Lost(all[0].Size, 1) {
		t.Errorf("got %+v", all)
	}
	if err := cddl.Load(t, "../docs/formats", "keys.cddl", "common.cddl").Match("key-history", cddl.Decode(t, w.History())); err != nil {
		t.Error(err)
	}
	h := issuertest.Must(artifact.DecodeKeyHistory(w.History()))(t)
	for name, c := range map[string]struct {
		edit func(*artifact.KeyHistory)
		want denial.Reason
	}{
		"withheld":                   {func(h *artifact.KeyHistory) { h.Epochs = nil }, denial.StateRollback},
		"one signature":              {func(h *artifact.KeyHistory) { h.Epochs[0] = h.Epochs[0][:1] }, denial.ThresholdNotMet},
		"without receipts":           {func(h *artifact.KeyHistory) { h.Epochs[0][0] = leafOf(t, h.Epochs[0][0]) }, denial.NoReceipt},
		"twice":                      {func(h *artifact.KeyHistory) { h.Epochs = append(h.Epochs, h.Epochs[0]) }, denial.LogInconsistent},
		"a receipt of another entry": {func(h *artifact.KeyHistory) { h.Epochs[0][0], h.Epochs[0][1] = h.Epochs[0][1], h.Epochs[0][0] }, denial.LogInconsistent},
	} {
		other := *h
		other.Epochs = [][][]byte{slices.Clone(h.Epochs[0])}
		c.edit(&other)
		if _, err := trust.Follow(issuertest.Must(other.Encode())(t)); !denial.Is(err, c.want) {
			t.Errorf("%s: got %v, want %d", name, err, c.want.Code())
		}
	}

	// The act has no other way in, and the next epoch is the second.
	_, err = w.Issuer.Apply(w.Ctx, statement.Epoch, w.Sign(statement.Epoch, record.Epoch{Version: record.Version, Number: 2, Genesis: make([]byte, 32), Log: issuertest.Log,
		Size: 1, Root: make([]byte, 32), Time: 1, Why: "x"}, w.Persons...))
	w.Refusal(err, denial.WrongType)
	backup = w.Backup()
	w.Permit()
	w.Advance(time.Second)
	if err := w.Restore(backup, nil); err != nil || w.Issuer.Epoch().Number != 2 {
		t.Fatalf("got %v, epoch %+v", err, w.Issuer.Epoch())
	}
	if trust, err = trust.Follow(w.History()); err != nil || len(trust.Epochs()) != 2 {
		t.Errorf("got %v, %d epochs", err, len(trust.Epochs()))
	}
}

func leafOf(t *testing.T, raw []byte) []byte {
	t.Helper()
	return issuertest.Must(statement.Decode(raw, 1<<20))(t).Leaf()
}

// P20: an epoch is of one log at one head, and covers what the mark beside the log says.
func TestP20_AnEpochOfSomethingElseIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*record.Epoch)
		want denial.Reason
	}{
		"another genesis":      {func(e *record.Epoch) { e.Genesis[0] ^= 1 }, denial.IdentityConflict},
		"another log":          {func(e *record.Epoch) { e.Log += "x" }, denial.IdentityConflict},
		"a longer log":         {func(e *record.Epoch) { e.Size++ }, denial.StateRollback},
		"a shorter log":        {func(e *record.Epoch) { e.Size-- }, denial.LogInconsistent},
		"another root":         {func(e *record.Epoch) { e.Root[0] ^= 1 }, denial.LogInconsistent},
		"less than is lost":    {func(e *record.Epoch) { e.Lost.Size = e.Size + 1 }, denial.StateRollback},
		"another lost tree":    {func(e *record.Epoch) { e.Lost.Root[0] ^= 1 }, denial.StateRollback},
		"nothing that is lost": {func(e *record.Epoch) { e.Lost.Size = e.Size }, denial.PayloadForm},
		"not the next":         {func(e *record.Epoch) { e.Number = 2 }, denial.DualControlMissing},
		"no reason":            {func(e *record.Epoch) { e.Why = "" }, denial.ClaimAbsent},
		"another version":      {func(e *record.Epoch) { e.Version = 2 }, denial.UnsupportedVersion},
	} {
		t.Run(name, func(t *testing.T) {
			w := issuertest.New(t)
			backup := w.Backup()
			w.Permit()
			w.Permit()
			if err := w.Restore(backup, c.edit); !denial.Is(err, c.want) {
				t.Errorf("got %v, want %d", err, c.want.Code())
			}
		})
	}
}
