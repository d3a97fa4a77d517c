package witness

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/tlog"
)

func verify(t *testing.T, s *site, raw []byte, w *receipt.Witnesses) *receipt.Checkpoint {
	t.Helper()
	key, err := receipt.LogNoteKey(testOrigin, s.signer.Key())
	if err != nil {
		t.Fatal(err)
	}
	c, err := receipt.VerifyCheckpoint(raw, []receipt.NoteKey{key}, w)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func demand(threshold int, servers ...*server) *receipt.Witnesses {
	w := &receipt.Witnesses{Threshold: threshold}
	for _, s := range servers {
		w.List = append(w.List, s.endpoint.Witness)
	}
	return w
}

func TestACheckpointIsPublishedWithTheCosignaturesOfAllWhoAnswer(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	a, b, dead := newServer(t, "a"), newServer(t, "b"), newServer(t, "c")
	dead.always(http.StatusBadGateway, "text/html", "<html>")
	p := s.publisher(s.options(2, a, b, dead))
	if p.Checkpoint() != nil {
		t.Error("an empty log has a checkpoint")
	}
	for n := uint64(1); n < 40; n += 5 {
		s.add(int(n-s.log.Head().Size), "entry")
		if err := p.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		c := verify(t, s, p.Checkpoint(), demand(2, a, b, dead))
		if c.Size != n || c.Root != s.log.Head().Root || strings.Join(c.Operators, " ") != "a b" {
			t.Errorf("got %+v of %d entries", c, n)
		}
	}
	for i, want := range []string{"a", "b", "c"} {
		w := p.Witnesses()[i]
		if w.Operator != want || want == "c" && (w.Fault == nil || w.Size != 0 || !w.At.IsZero()) || want != "c" && (w.Fault != nil || w.Size != s.log.Head().Size || w.At.IsZero()) {
			t.Errorf("of witness %s is known %+v", want, w)
		}
	}
	if p.Threshold() != 2 {
		t.Errorf("got a threshold of %d", p.Threshold())
	}
	kept, err := os.ReadFile(s.path + ".checkpoint")
	if err != nil || !bytes.Equal(kept, p.Checkpoint()) {
		t.Errorf("kept %q, %v", kept, err)
	}
	// What a witness has seen is learned again after a restart.
	s.add(3, "more")
	again := s.publisher(s.options(2, a, b, dead))
	if c := again.Published(); c.Size != s.log.Head().Size {
		t.Errorf("got %d entries after a restart", c.Size)
	}
}

func TestWithoutWitnessesTheLogSignsAlone(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(3, "entry")
	if c := verify(t, s, s.publisher(s.options(0)).Checkpoint(), nil); c.Size != 3 {
		t.Errorf("got %+v", c)
	}
}

func TestT11T12_WitnessesThatAreNotWellChosenAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(1, "entry")
	a, b := newServer(t, "a"), newServer(t, "b")
	same := newServer(t, "a")
	for name, o := range map[string]Options{
		"T12 unset":                 s.options(0, a, b),
		"T12 negative":              s.options(-1, a, b),
		"T12 more than operators":   s.options(2, a, same),
		"T12 a threshold, no list":  s.options(1),
		"T11 the same witness more": s.options(2, a, a, b),
	} {
		if _, err := New(t.Context(), o); !denial.Is(err, denial.ThresholdNotMet) {
			t.Errorf("%s: got %v, want 326", name, err)
		}
	}
}

func TestTooFewCosignaturesPublishNothing(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(3, "entry")
	a, b := newServer(t, "a"), newServer(t, "b")
	p := s.publisher(s.options(2, a, b))
	before := p.Checkpoint()
	s.add(1, "new")
	checkpointOf := newServer(t, "b").line("other\n1\n")
	for name, spoil := range map[string]func(){
		"no answer":               func() { b.always(http.StatusInternalServerError, "", "") },
		"unknown log":             func() { b.always(http.StatusNotFound, "", "") },
		"other text":              func() { b.always(http.StatusOK, "", "<html>") },
		"another's signature":     func() { b.always(http.StatusOK, "", string(checkpointOf)) },
		"over another checkpoint": func() { b.always(http.StatusOK, "", string(b.line("other\n1\n"))) },
		"an answer without end":   func() { b.always(http.StatusOK, "", strings.Repeat("x", maxAnswer+1)) },
		"a redirection":           func() { b.always(http.StatusFound, "", "") },
		"T10, of one operator":    func() { b.always(http.StatusConflict, "text/plain", "") },
		"T07, of one operator":    func() { b.always(http.StatusConflict, "text/x.tlog.size", "99\n") },
	} {
		spoil()
		if err := p.Publish(t.Context()); !denial.Is(err, denial.ThresholdNotMet) || p.Fault() == nil {
			t.Errorf("%s: got %v, want 326", name, err)
		}
		if !bytes.Equal(p.Checkpoint(), before) {
			t.Errorf("%s: another checkpoint is published", name)
		}
		if err := s.log.Healthy(); err != nil {
			t.Errorf("%s: one operator of two stopped the log: %v", name, err)
		}
	}
	b.mu.Lock()
	b.answer = nil
	b.mu.Unlock()
	if err := p.Publish(t.Context()); err != nil || p.Fault() != nil || p.Published().Size != 4 {
		t.Errorf("got %+v, %v once the witness is well", p.Published(), err)
	}
}

func TestT19_AWitnessThatNamesAnotherSizeEachTimeIsGivenUp(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(50, "entry")
	a := newServer(t, "a")
	n := 0
	a.answer = func(w http.ResponseWriter) {
		n++
		w.Header().Set("Content-Type", "text/x.tlog.size")
		w.WriteHeader(http.StatusConflict)
		fmt.Fprintf(w, "%d\n", n)
	}
	p := s.publisher(s.options(1, a))
	if !denial.Is(p.Fault(), denial.ThresholdNotMet) {
		t.Errorf("got %v, want 326", p.Fault())
	}
	if len(a.asked) != maxTries {
		t.Errorf("asked %d times, want %d", len(a.asked), maxTries)
	}
}

// A log that was set back to yesterday does not start: its own checkpoint says so, or else its witnesses.
func TestT07_ALogThatWasSetBackDoesNotStart(t *testing.T) {
	t.Parallel()
	a, b := newServer(t, "a"), newServer(t, "b")
	s := newSite(t)
	s.add(9, "entry")
	s.publisher(s.options(2, a, b))
	yesterday := s.fork()
	yesterday.add(5, "entry")
	o := yesterday.options(2, a, b)
	if _, err := New(t.Context(), o); !denial.Is(err, denial.StateRollback) {
		t.Errorf("the kept checkpoint is lost too: got %v, want 508", err)
	}
	if err := yesterday.log.Healthy(); err == nil {
		t.Error("the log goes on")
	}
	again := s.fork()
	again.add(5, "entry")
	o = again.options(0)
	o.Path = s.path + ".checkpoint"
	if _, err := New(t.Context(), o); !denial.Is(err, denial.StateRollback) {
		t.Errorf("the kept checkpoint is there: got %v, want 508", err)
	}
}

func TestT09T10_AForkIsNotCosigned(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]int{"T09 longer": 12, "T10 same size, other root": 9} {
		a, b := newServer(t, "a"), newServer(t, "b")
		s := newSite(t)
		s.add(9, "entry")
		s.publisher(s.options(2, a, b))
		fork := s.fork()
		fork.add(size, "other")
		if _, err := New(t.Context(), fork.options(2, a, b)); !denial.Is(err, denial.LogInconsistent) {
			t.Errorf("%s: got %v, want 325", name, err)
		}
		if _, err := fork.log.Append(t.Context(), tlog.Entry{Leaf: []byte("x")}); !denial.Is(err, denial.AuditUnavailable) {
			t.Errorf("%s: the fork goes on: %v", name, err)
		}
		o := fork.options(0)
		o.Path = s.path + ".checkpoint" // kept: permanent evidence, which is not overwritten
		before, err := os.ReadFile(o.Path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := New(t.Context(), o); !denial.Is(err, denial.LogInconsistent) {
			t.Errorf("%s, kept checkpoint: got %v, want 325", name, err)
		}
		if after, err := os.ReadFile(o.Path); err != nil || !bytes.Equal(before, after) {
			t.Errorf("%s: the kept checkpoint has changed, %v", name, err)
		}
	}
}

func TestT15_AKeptCheckpointOfAnotherLogIsRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(3, "entry")
	other, err := receipt.SignCheckpoint(t.Context(), s.signer, "other.example/log", s.log.Head().Head)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		kept   []byte
		reason denial.Reason
	}{
		"T15 other origin": {other, denial.LogInconsistent},
		"damaged":          {other[:40], denial.ReceiptInvalid},
		"empty":            {nil, denial.ReceiptInvalid},
	} {
		o := s.options(0)
		if err := os.WriteFile(o.Path, row.kept, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := New(t.Context(), o); !denial.Is(err, row.reason) {
			t.Errorf("%s: got %v, want %v", name, err, row.reason)
		}
	}
}

// An idle log is cosigned again, so that a client can tell it from one whose newer checkpoints are kept back.
func TestAnIdleLogIsCosignedAgain(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(3, "entry")
	a := newServer(t, "a")
	now := testTime
	o := s.options(1, a)
	o.Now = func() time.Time { return at(int64(now))() }
	a.now = func() uint64 { return uint64(now) }
	p := s.publisher(o)
	now += int(refresh/time.Second) - 1
	if err := p.Publish(t.Context()); err != nil || p.Published().Time != testTime {
		t.Errorf("too early: got %+v, %v", p.Published(), err)
	}
	now++
	if err := p.Publish(t.Context()); err != nil || p.Published().Time != uint64(now) {
		t.Errorf("got %+v, %v", p.Published(), err)
	}
}

// P20: witnesses that hold what was lost keep the checkpoints of a restored log back, and do not stop it, until they have
// followed it into its new epoch. From then on their word stops it as ever.
func TestP20_WitnessesOfWhatIsLostStopNothing(t *testing.T) {
	t.Parallel()
	a, b := newServer(t, "a"), newServer(t, "b")
	s := newSite(t)
	s.add(9, "entry")
	s.publisher(s.options(2, a, b))
	restored := s.fork()
	restored.add(5, "entry")
	restored.add(1, "epoch")
	o := restored.options(2, a, b)
	o.Epoch = 5
	p := restored.publisher(o)
	if err := p.Fault(); !denial.Is(err, denial.ThresholdNotMet) || p.Checkpoint() != nil {
		t.Errorf("got %v, want 326 and no checkpoint", err)
	}
	if err := restored.log.Healthy(); err != nil {
		t.Errorf("the log is stopped: %v", err)
	}
	for _, w := range []*server{a, b} { // their operators have seen the act
		w.mu.Lock()
		w.size, w.root = 0, nil
		w.mu.Unlock()
	}
	if err := p.Publish(t.Context()); err != nil || p.Published().Size != 6 {
		t.Fatalf("got %v, %d entries", err, p.Published().Size)
	}
	fork := restored.fork()
	fork.add(9, "other")
	o = fork.options(2, a, b)
	o.Epoch, o.Path = 5, restored.path+".checkpoint"
	if _, err := New(t.Context(), o); !denial.Is(err, denial.LogInconsistent) {
		t.Errorf("a fork in the new epoch: got %v, want 325", err)
	}
	restored.add(3, "more")
	for _, w := range []*server{a, b} {
		w.mu.Lock()
		w.size = 99
		w.mu.Unlock()
	}
	if err := p.Publish(t.Context()); !denial.Is(err, denial.StateRollback) || restored.log.Healthy() == nil {
		t.Errorf("witnesses that have followed say that they have seen more: got %v, healthy %v", err, restored.log.Healthy())
	}
}
