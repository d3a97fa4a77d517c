//go:build vm

package vm

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/vm/talk"
)

// labOf returns the lab that all tests of this run share.
var labOf = sync.OnceValues(func() (*Lab, error) {
	dir, err := os.MkdirTemp("", "vm")
	if err != nil {
		return nil, err
	}
	return NewLab(context.Background(), dir)
})

func TestMain(m *testing.M) {
	code := m.Run()
	if l, err := labOf(); err == nil {
		_ = os.RemoveAll(l.Dir)
	}
	os.Exit(code)
}

func newLab(t *testing.T) *Lab {
	t.Helper()
	l, err := labOf()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestMachines boots the honest machines and every variant, and holds each against what must come of it.
func TestMachines(t *testing.T) {
	l := newLab(t)
	seen := &sightings{policies: map[string][]byte{}, by: map[string]*Observation{}}
	var chosen []Variant
	for _, v := range Variants() {
		if v.Core || full {
			chosen = append(chosen, v)
		}
	}
	for _, v := range chosen {
		if v.base() == v.Name {
			t.Run(v.Name, func(t *testing.T) { seen.base(t, l, v) })
		}
	}
	t.Run("variants", func(t *testing.T) {
		for _, v := range chosen {
			if v.base() == v.Name {
				continue
			}
			t.Run(v.Name, func(t *testing.T) {
				t.Parallel()
				o, err := l.Observe(t.Context(), v)
				if err != nil {
					t.Fatal(err)
				}
				seen.judge(t, v, o)
			})
		}
	})
	seen.comparePaths(t)
	seen.record(t)
}

// sightings are the machines that were seen, and the policies of their bases.
type sightings struct {
	mu       sync.Mutex
	policies map[string][]byte
	by       map[string]*Observation
}

// base boots a machine that others are compared with.
func (s *sightings) base(t *testing.T, l *Lab, v Variant) {
	o, err := l.Observe(t.Context(), v)
	if err != nil {
		t.Fatal(err)
	}
	if o.Refusal != nil {
		t.Fatalf("an honest machine is refused: %v", o.Refusal)
	}
	s.by[v.Name] = o
	if s.policies[v.Name], err = o.Policy(); err != nil {
		t.Fatal(err)
	}
	s.judge(t, v, o)
}

// judge holds what came of a variant against what must.
func (s *sightings) judge(t *testing.T, v Variant, o *Observation) {
	s.mu.Lock()
	s.by[v.Name] = o
	base, policy := s.by[v.base()], s.policies[v.base()]
	s.mu.Unlock()
	if o.Testimony == nil {
		return // Observe has seen that it was refused before it could say anything
	}
	if base == nil {
		t.Fatal("its base did not boot")
	}
	if got := Moved(o.All, base.All); !slices.Equal(got, v.Moves) {
		t.Errorf("PCRs %s moved, want %s", list(got), list(v.Moves))
	}
	if p := o.Made.Prediction; p != nil {
		if wrong := Predicted(p, o.All); len(wrong) > 0 {
			t.Errorf("PCRs %v are not as predicted", wrong)
		}
	}
	if Reason(o.Refusal) != denial.NoEvidence {
		checkQuote(t, o)
	}
	if got := Reason(o.Refusal); got != v.Verify || (o.Facts == nil) != (v.Verify != 0) {
		t.Fatalf("verifying gave %v, want %v", o.Refusal, v.Verify)
	}
	if o.Facts == nil {
		return
	}
	d, err := Decide(policy, o.Facts)
	if err != nil {
		t.Fatal(err)
	}
	if got := Reason(asError(d)); got != v.Decide {
		t.Errorf("the baseline policy decided %v, want %v", d, v.Decide)
	}
}

func asError(d *denial.Denial) error {
	if d == nil {
		return nil
	}
	return d
}

// comparePaths shows why no policy may rest on Secure Boot alone: a machine with another kernel and command line can have
// the same 24 PCR values.
func (s *sightings) comparePaths(t *testing.T) {
	a, b := s.by["kernel-path"], s.by["kernel-path-evil"]
	if a == nil || b == nil {
		return
	}
	for n, v := range a.All {
		if b.All[n] != v {
			t.Errorf("PCR %d differs between two boots through -kernel: this firmware measures more than was thought", n)
		}
	}
}

// checkQuote asks tpm2_checkquote for a second opinion, also on a quote that answers another nonce.
func checkQuote(t *testing.T, o *Observation) {
	t.Helper()
	if err := o.Testimony.CheckQuote(t.Context(), t.TempDir(), o.Testimony.Nonce()); err != nil {
		t.Errorf("tpm2_checkquote refuses the quote: %v", err)
	}
	if o.Testimony.CheckQuote(t.Context(), t.TempDir(), [32]byte{1}) == nil {
		t.Error("tpm2_checkquote accepts the quote for another nonce")
	}
}

// TestReboot restarts one machine: its TPM counts that, nothing that is measured changes, and old evidence is no answer to
// a new challenge.
func TestReboot(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	ctx, cancel := context.WithTimeout(t.Context(), 2*bootLimit)
	defer cancel()
	dir, err := l.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	made, err := l.prepare(ctx, dir, l.Good, l.Keys(), "sha256")
	if err != nil {
		t.Fatal(err)
	}
	m, err := Start(ctx, made.Boot)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var before, after Observation
	for i, o := range []*Observation{&before, &after} {
		if err := m.Ready(ctx); err != nil {
			t.Fatal(err)
		}
		if err := o.question(ctx, l, m, ""); err != nil {
			t.Fatal(err)
		}
		if o.Refusal != nil {
			t.Fatalf("boot %d: %v", i+1, o.Refusal)
		}
		if i == 0 {
			if _, err := m.Ask(ctx, talk.Request{Op: talk.Reboot}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := m.Off(ctx); err != nil {
		t.Fatal(err)
	}
	a, b := before.Facts.Claims(), after.Facts.Claims()
	if b.Clock.Resets != a.Clock.Resets+1 || b.Clock.Restarts != a.Clock.Restarts {
		t.Errorf("the counters went from %+v to %+v, want one more reset", a.Clock, b.Clock)
	}
	if moved := Moved(before.All, after.All); moved != nil {
		t.Errorf("PCRs %v moved over a reboot", moved)
	}
	if !bytes.Equal(before.Testimony.Want.AK, after.Testimony.Want.AK) {
		t.Error("the AK is another one after a reboot")
	}
	after.Testimony.Evidence = before.Testimony.Evidence
	if _, err := after.Testimony.Verify(); Reason(err) != denial.ChallengeMismatch {
		t.Errorf("evidence from before the reboot: got %v, want 506", err)
	}
}

// record writes fixtures and results if VM_RECORD names a directory.
func (s *sightings) record(t *testing.T) {
	dir := os.Getenv("VM_RECORD")
	if dir == "" {
		return
	}
	if err := Record(dir, s.policies, Variants(), s.by); err != nil {
		t.Fatal(err)
	}
	t.Logf("recorded in %s", filepath.Clean(dir))
}
