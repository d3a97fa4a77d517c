package gate

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// rotate replaces the issuer's key for a purpose; the one before gets a state.
func (w *world) rotate(purpose string, state record.KeyState) {
	w.tb.Helper()
	ctx := context.Background()
	ring := must(w.issuer.KeyRing(ctx))(w.tb)
	old, head := w.keys[purpose], ring.Head()
	_, w.next = newKey(w.tb)
	was, id := old.Key().Thumbprint(), w.next.Key().Thumbprint()
	said := must(record.SignSuccession(ctx, old, issuerURI, record.Succession{Version: record.Version, Purpose: purpose, Key: w.next.Key(), Previous: head[:]}))(w.tb)
	retire := record.KeyStep{Purpose: purpose, Key: was[:], From: record.KeyActive, To: state}
	if state == record.KeyCompromised {
		retire.Since = w.seconds()
	}
	c := record.KeyChange{Version: record.Version, Sequence: ring.Sequence() + 1, Previous: head[:], Time: w.seconds(), Why: "a test", Steps: []record.KeyStep{
		{Purpose: purpose, Key: id[:], To: record.KeyPreActive, Since: w.seconds(), Succession: said, Birth: &record.Birth{Purpose: purpose, Key: w.next.Key(),
			Attributes: map[string]string{"a": "b"}, Token: map[string]string{"model": "none"}}},
		retire, {Purpose: purpose, Key: id[:], From: record.KeyPreActive, To: record.KeyActive}}}
	w.apply(statement.KeyChange, &c)
	w.keys[purpose] = w.next
}

// TestP18_AGateFollowsTheKeys: with a trust file from before, whatever key is replaced, before an artifact is minted, between that
// and its use, and between start and end.
func TestP18_AGateFollowsTheKeys(t *testing.T) {
	t.Parallel()
	for _, purpose := range record.Purposes() {
		t.Run(purpose, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, newWorld(t), "a")
			cmd := r.often(3, "exit", "0")
			r.runs(cmd, 0)
			r.clock.advance(time.Second)
			r.rotate(purpose, record.KeyRetired)
			r.clock.advance(time.Second)
			r.runs(cmd, 0)                    // minted before
			r.runs(r.command("exit", "3"), 3) // minted after
			// While a command is on its way: after revocation was asked for, before the start record is answered.
			at := r.line
			at.onRecord(func(ctx context.Context, leaf []byte, pass func() ([]byte, error)) ([]byte, error) {
				at.onRecord(nil)
				r.rotate(purpose, record.KeyRetired)
				return pass()
			})
			r.runs(cmd, 0)
			r.reopen()
			r.runs(r.command("exit", "0"), 0)
		})
	}
}

// TestP19_AGateRefusesWhatAFallenKeySigned: it learns of that before it runs anything.
func TestP19_AGateRefusesWhatAFallenKeySigned(t *testing.T) {
	t.Parallel()
	for _, purpose := range []string{record.PurposeArtifact, record.PurposeLog} {
		r := newRig(t, newWorld(t), "a")
		cmd := r.command("exit", "0")
		r.rotate(purpose, record.KeyCompromised)
		r.refuses(cmd, denial.KeyRevoked)
		r.clock.advance(time.Second)
		r.runs(r.command("exit", "0"), 0)
	}
}

// TestKeysDoNotGoBack: 508 for a gate whose issuer, or whose state, forgets a change of keys; 806 if the change is kept from it.
func TestKeysDoNotGoBack(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	r.runs(r.command("exit", "0"), 0)
	before := must(r.issuer.KeyHistory(t.Context()))(t)
	cmd := r.often(9, "exit", "0")
	r.clock.advance(time.Second)
	r.rotate(record.PurposeRecord, record.KeyRetired)
	r.line.onKeys(func() ([]byte, error) { return nil, errDown })
	r.refuses(cmd, denial.RevocationUnknown)
	r.line.onKeys(func() ([]byte, error) { return before, nil })
	r.refuses(cmd, denial.RevocationUnknown)
	r.line.onKeys(nil)
	r.runs(cmd, 0)
	r.line.onKeys(func() ([]byte, error) { return before, nil })
	r.refuses(cmd, denial.StateRollback)
	r.reopen()
	r.refuses(cmd, denial.StateRollback)
	r.line.onKeys(func() ([]byte, error) { return []byte("noise"), nil }) // teaches nothing
	r.runs(cmd, 0)
	other := newWorld(t)
	r.line.onKeys(func() ([]byte, error) { return other.issuer.KeyHistory(t.Context()) })
	r.runs(cmd, 0)
	r.line.onKeys(nil)

	path := r.gate.state.path(keysFile)
	good := must(os.ReadFile(path))(t)
	for name, bad := range map[string][]byte{"older": before, "cut": good[:len(good)-1], "of another issuer": must(other.issuer.KeyHistory(t.Context()))(t)} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if out := r.refuses(cmd, denial.StateRollback); out.Started {
			t.Errorf("%s: it ran", name)
		}
	}
	if err := os.WriteFile(path, good, 0o600); err != nil {
		t.Fatal(err)
	}
	r.runs(cmd, 0)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), r.options()); !denial.Is(err, denial.StateRollback) {
		t.Errorf("a state that lost its keys: got %v", err)
	}
	if bytes.Equal(before, good) {
		t.Error("no change of keys was learnt")
	}
}
