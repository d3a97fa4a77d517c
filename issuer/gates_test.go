package issuer_test

import (
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/test/issuertest"
)

// X14: an artifact is for one gate, and its uses are consumed at the issuer: two gates that start in parallel do not start more
// often than it allows.
func TestX14_TwoGatesShareNoBudget(t *testing.T) {
	w := issuertest.New(t)
	m := w.Permit()
	other := w.EnrolHost("spiffe://example/host/other", "https://gate.example/other")
	other.Chain.Epoch = issuertest.Random(16)
	leaves := [][]byte{w.Report(w.Host, m, record.EventStart, nil), w.Report(other, m, record.EventStart, nil)}
	reasons := parallel(len(leaves), func(i int) error { _, err := w.Issuer.Take(w.Ctx, leaves[i]); return err })
	if len(reasons) != 2 || reasons[0] != 1 || reasons[denial.AudienceMismatch] != 1 {
		t.Errorf("got %v, want one start and one time AUDIENCE_MISMATCH", reasons)
	}
	// Nor does the same gate, twice at once, with a record that it has signed for each.
	twice := [][]byte{}
	w.Host.Follow(leaves[0])
	for range 4 {
		twice = append(twice, w.Report(w.Host, m, record.EventStart, func(r *record.Record) { r.Execution.Use = 2 }))
	}
	reasons = parallel(len(twice), func(i int) error { _, err := w.Issuer.Take(w.Ctx, twice[i]); return err })
	if reasons[0] != 1 {
		t.Errorf("got %v, want one start", reasons)
	}
}

// R06: a clock that is wrong mints nothing that it should not, and when it is right again, all goes on by itself.
func TestR06_AWrongClockMintsNothing(t *testing.T) {
	for name, c := range map[string]struct {
		off  time.Duration
		want denial.Reason
	}{
		"an hour behind":        {-time.Hour, denial.ClockUntrusted},
		"a second behind":       {-time.Second, denial.ClockUntrusted},
		"a hundred years ahead": {100 * 365 * 24 * time.Hour, denial.PolicyExpired},
	} {
		t.Run(name, func(t *testing.T) {
			w := issuertest.New(t)
			w.Permit()
			before := artifacts(w)
			w.Advance(c.off)
			_, err := w.Ask(issuertest.Spoil{})
			w.Refusal(err, c.want)
			if artifacts(w) != before {
				t.Error("an artifact")
			}
			w.Advance(-c.off)
			if c.off > 0 { // the denial stands in the log, a hundred years ahead: nothing is logged until real time has caught up
				_, err = w.Ask(issuertest.Spoil{})
				w.Refusal(err, denial.ClockUntrusted)
				return
			}
			w.Permit()
		})
	}
	t.Run("frozen", func(t *testing.T) {
		w := issuertest.New(t)
		for range 3 { // nothing gets older, so nothing gets younger either: the log's time stands, and challenges are single use all the same
			a := w.Prepare(issuertest.Spoil{})
			issuertest.Must(a.Send())(t)
			_, err := a.Send()
			w.Refusal(err, denial.ChallengeReused)
		}
	})
	t.Run("jitter", func(t *testing.T) {
		w := issuertest.New(t)
		var last uint64
		minted := 0
		for _, d := range []time.Duration{2, -1, 1, -3, 5, -1, 2, 0, -2, 4} {
			w.Advance(d * time.Second)
			m, err := w.Ask(issuertest.Spoil{})
			if err != nil {
				w.Refusal(err, denial.ClockUntrusted)
				continue
			}
			minted++
			logged := issuertest.Must(w.Tree.LoggedAt(w.Ctx, m.Index))(t)
			if logged < last {
				t.Errorf("logged time went back from %d to %d", last, logged)
			}
			last = logged
		}
		if minted < 3 {
			t.Errorf("%d artifacts", minted)
		}
	})
}
