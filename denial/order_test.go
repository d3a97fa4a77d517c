package denial

import (
	"errors"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func pass() error { return nil }

// states renders a run's states in its order, one letter each: success, fail, not run.
func states(r *Run) string {
	var b strings.Builder
	m := r.States()
	for _, s := range r.order {
		b.WriteByte("?SFN-"[m[uint64(s)]])
	}
	return b.String()
}

func threeStages() *Run { return Order{StageQuote, StageBinding, StageFacts}.Begin() }

func TestOnlyACompleteRunAllows(t *testing.T) {
	for _, order := range []Order{IssuanceOrder(), GateOrder()} {
		r := order.Begin()
		for i, s := range order {
			if err := r.Allowed(); !Is(err, Internal) {
				t.Errorf("allowed after %d of %d stages: %v", i, len(order), err)
			}
			if err := r.Check(pass, s); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Allowed(); err != nil {
			t.Errorf("a complete run is refused: %v", err)
		}
		if got := states(r); got != strings.Repeat("S", len(order)) {
			t.Errorf("states %s", got)
		}
		if err := r.Check(pass, order[0]); !Is(err, Internal) || !Is(r.Allowed(), Internal) {
			t.Error("a check after the last one is accepted")
		}
	}
	if err := (&Run{}).Allowed(); !Is(err, Internal) {
		t.Errorf("the zero run: %v", err)
	}
	if err := (Order{}).Begin().Allowed(); !Is(err, Internal) {
		t.Errorf("an empty order: %v", err)
	}
	if err := (&Run{}).Check(pass, StageQuote); !Is(err, Internal) {
		t.Errorf("a check of the zero run: %v", err)
	}
}

func TestChecksOutOfOrderAreRefused(t *testing.T) {
	for name, stages := range map[string][]Stage{
		"none":              {},
		"a later one":       {StageBinding},
		"one skipped":       {StageQuote, StageFacts},
		"swapped":           {StageBinding, StageQuote},
		"twice":             {StageQuote, StageQuote},
		"one too many":      {StageQuote, StageBinding, StageFacts, StageMint},
		"of another order":  {StagePresent},
		"the unknown stage": {0},
	} {
		t.Run(name, func(t *testing.T) {
			r := threeStages()
			ran := false
			err := r.Check(func() error { ran = true; return nil }, stages...)
			if !Is(err, Internal) || ran {
				t.Errorf("got %v, ran %v", err, ran)
			}
			if got := states(r); got != "NNN" {
				t.Errorf("states %s", got)
			}
			nothingMore(t, r)
		})
	}
}

// nothingMore asserts that the run has ended in a refusal.
func nothingMore(t *testing.T, r *Run) {
	t.Helper()
	before := states(r)
	first := r.Allowed()
	if first == nil {
		t.Fatal("the run allows")
	}
	for _, s := range r.order {
		ran := false
		if err := r.Check(func() error { ran = true; return nil }, s); !errors.Is(err, first) || ran {
			t.Errorf("stage %s after the refusal: %v, ran %v", s, err, ran)
		}
	}
	if r.Allowed() == nil || states(r) != before {
		t.Error("the run changed after its refusal")
	}
}

func TestAFailureEndsTheRun(t *testing.T) {
	boom := func() error { panic("boom") }
	refuse := func(s Stage) func() error {
		return func() error { return (&Denial{Reason: Expired}).At(s) }
	}
	for name, c := range map[string]struct {
		first  []Stage
		f      func() error
		stages []Stage
		want   Stage
		reason Reason
		states string
	}{
		"refusal in the first":             {nil, refuse(0), []Stage{StageQuote}, StageQuote, Expired, "FNN"},
		"refusal in the second":            {[]Stage{StageQuote}, refuse(0), []Stage{StageBinding}, StageBinding, Expired, "SFN"},
		"fault":                            {nil, func() error { return errors.New("disk") }, []Stage{StageQuote}, StageQuote, Internal, "FNN"},
		"panic":                            {[]Stage{StageQuote}, boom, []Stage{StageBinding, StageFacts}, StageBinding, Internal, "SFN"},
		"nil refusal in an error":          {nil, func() error { return (*Denial)(nil) }, []Stage{StageQuote}, StageQuote, Internal, "FNN"},
		"no stage named, of three":         {nil, refuse(0), []Stage{StageQuote, StageBinding, StageFacts}, StageQuote, Expired, "FNN"},
		"second of three named":            {nil, refuse(StageBinding), []Stage{StageQuote, StageBinding, StageFacts}, StageBinding, Expired, "SFN"},
		"last of three named":              {nil, refuse(StageFacts), []Stage{StageQuote, StageBinding, StageFacts}, StageFacts, Expired, "SSF"},
		"a later stage named":              {nil, refuse(StageFacts), []Stage{StageQuote}, StageQuote, Expired, "FNN"},
		"a foreign stage named":            {nil, refuse(StageUses), []Stage{StageQuote, StageBinding}, StageQuote, Expired, "FNN"},
		"an earlier stage found out later": {[]Stage{StageQuote, StageBinding}, refuse(StageQuote), []Stage{StageFacts}, StageQuote, Expired, "FSN"},
	} {
		t.Run(name, func(t *testing.T) {
			r := threeStages()
			if c.first != nil {
				if err := r.Check(pass, c.first...); err != nil {
					t.Fatal(err)
				}
			}
			err := r.Check(c.f, c.stages...)
			if d := Of(err); err == nil || d.Reason != c.reason || d.Stage != c.want {
				t.Errorf("got %v in stage %s, want %s in %s", err, d.Stage, c.reason, c.want)
			}
			if got := states(r); got != c.states {
				t.Errorf("states %s, want %s", got, c.states)
			}
			if !errors.Is(r.Allowed(), err) {
				t.Errorf("Allowed = %v, want the refusal", r.Allowed())
			}
			nothingMore(t, r)
		})
	}
}

func TestARunIsRefusedWhileACheckRuns(t *testing.T) {
	r := threeStages()
	err := r.Check(func() error {
		if r.Allowed() == nil || r.Check(pass, StageQuote) == nil || r.Check(pass, StageBinding) == nil {
			t.Error("a check inside a check is accepted")
		}
		return nil
	}, StageQuote)
	if err != nil || states(r) != "SNN" {
		t.Errorf("got %v, states %s", err, states(r))
	}

	r = Order{StageQuote}.Begin()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.Check(func() error { runtime.Goexit(); return nil }, StageQuote)
	}()
	<-done
	if !Is(r.Allowed(), Internal) {
		t.Error("a check that never returned is counted")
	}
}

func TestARefusalIsACopy(t *testing.T) {
	d := New(Expired, "x")
	r := threeStages()
	_ = r.Check(func() error { return d }, StageQuote)
	if d.Stage != 0 {
		t.Error("the caller's denial was changed")
	}
}

func TestAnOrderCannotChangeUnderARun(t *testing.T) {
	o := Order{StageQuote, StageBinding}
	r := o.Begin()
	o[1] = StageQuote
	if err := r.Check(pass, StageQuote, StageBinding); err != nil || r.Allowed() != nil {
		t.Errorf("got %v, %v", err, r.Allowed())
	}
}

func TestEveryStageHasItsOwnName(t *testing.T) {
	names := slices.Sorted(maps.Values(stageNames))
	if got := len(slices.Compact(names)); got != len(stageNames) {
		t.Errorf("%d names for %d stages", got, len(stageNames))
	}
	for _, s := range slices.Concat(IssuanceOrder(), GateOrder(), Order{StageEnrolment, StageAct}) {
		if _, ok := stageNames[s]; !ok {
			t.Errorf("stage %d has no name", s)
		}
	}
	if got := Stage(0).String(); got != "unknown stage" {
		t.Errorf("got %q", got)
	}
	r := threeStages()
	_ = r.Check(pass, StageQuote)
	_ = r.Check(func() error { return New(KeyBinding, "x") }, StageBinding)
	got := strings.Join(r.Describe(), "\n")
	for _, want := range []string{"quote", "success", "key bindings", "fail", "event log and facts", "not run"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
}
