package issuer_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// simulation is an issuer with its log, token and clock, to which a seed does what goes wrong, and what it must never forget.
type simulation struct {
	*issuertest.World
	rand    *rand.Rand
	answers map[statement.Digest]*issuer.Minted // acknowledged artifacts
	spent   map[string]int                      // request id -> artifacts that were acknowledged for it
	open    []issuertest.Attempt                // prepared and not sent, or sent and not answered
	starts  map[[17]byte]int                    // artifact and use -> starts that were taken
	trace   []string
}

// R10: seeds decide what happens to an issuer: requests and their repetition, keys that die in the middle of an answer, restarts, clocks that
// jump, revocations, and starts twice. Whatever happens, what was acknowledged is in the log once, no request is answered twice, no use is
// taken twice, and refusals have a reason that is not a fault of ours. A seed that fails does so again.
func TestR10_SeededSimulation(t *testing.T) {
	seeds := uint64(12)
	if testing.Short() {
		seeds = 3
	}
	for seed := range seeds {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			first := simulate(t, seed)
			if seed == 0 {
				if again := simulate(t, seed); fmt.Sprint(again) != fmt.Sprint(first) {
					t.Errorf("the same seed went two ways:\n%v\n%v", first, again)
				}
			}
		})
	}
}

func simulate(t *testing.T, seed uint64) []string {
	s := &simulation{World: issuertest.New(t), rand: rand.New(rand.NewPCG(seed, 10)), answers: map[statement.Digest]*issuer.Minted{},
		spent: map[string]int{}, starts: map[[17]byte]int{}}
	steps := []func() string{s.prepare, s.prepare, s.send, s.send, s.send, s.send, s.resend, s.start, s.start, s.kill, s.restart, s.jump, s.wait, s.revoke}
	for range 60 {
		s.trace = append(s.trace, steps[s.rand.IntN(len(steps))]())
	}
	s.Restart()
	s.check()
	if len(s.answers) == 0 || len(s.starts) == 0 {
		t.Errorf("%d artifacts and %d starts in %v: the simulation is of nothing", len(s.answers), len(s.starts), s.trace)
	}
	if s.Issuer.Epoch().Number != 0 {
		t.Error("an epoch out of nothing")
	}
	return s.trace
}

// reason names what came of a step. Whatever is refused is refused for a reason of the table; 901 would be our own fault.
func (s *simulation) reason(err error) string {
	if err == nil {
		return "yes"
	}
	var d *denial.Denial
	if !errors.As(err, &d) || d.Reason == denial.Internal {
		s.Fatalf("after %v: got %v", s.trace, err)
	}
	return fmt.Sprint(d.Reason.Code())
}

func (s *simulation) prepare() string {
	s.open = append(s.open, s.Prepare(issuertest.Spoil{}))
	return "prepare"
}

func (s *simulation) send() string {
	if len(s.open) == 0 {
		return "idle"
	}
	n := s.rand.IntN(len(s.open))
	a := s.open[n]
	m, err := a.Send()
	if err == nil {
		s.took(a, m)
		s.open = append(s.open[:n], s.open[n+1:]...)
	}
	return "send " + s.reason(err)
}

// resend sends a request with evidence that is fresh.
func (s *simulation) resend() string {
	if len(s.open) == 0 {
		return "idle"
	}
	old := s.open[s.rand.IntN(len(s.open))]
	a := s.Prepare(issuertest.Spoil{Request: func([]byte) []byte { return old.Request }})
	a.Claims = old.Claims
	m, err := a.Send()
	if err == nil {
		s.took(a, m)
	}
	return "resend " + s.reason(err)
}

func (s *simulation) took(a issuertest.Attempt, m *issuer.Minted) {
	s.Helper()
	id := string(a.Claims.ID)
	if s.spent[id]++; s.spent[id] > 1 {
		s.Fatalf("after %v: a request was answered twice", s.trace)
	}
	_, digest, err := artifact.Inspect(m.Artifact)
	if err != nil {
		s.Fatal(err)
	}
	s.answers[digest] = m
}

func (s *simulation) start() string {
	digests := sortedDigests(s.answers)
	if len(digests) == 0 {
		return "idle"
	}
	m, use := s.answers[digests[s.rand.IntN(len(digests))]], 1+s.rand.Uint64N(2)
	c, _, err := artifact.Inspect(m.Artifact)
	if err != nil {
		s.Fatal(err)
	}
	leaf := s.Report(s.Host, m, record.EventStart, func(r *record.Record) { r.Execution.Use = use })
	_, err = s.Issuer.Take(s.Ctx, leaf)
	_, found, ferr := s.Tree.Find(s.Ctx, statement.DigestOf(leaf))
	if ferr != nil {
		s.Fatal(ferr)
	}
	if found { // taken, even if its answer was lost
		s.Host.Follow(leaf)
		key := [17]byte(append(append([]byte{}, c.ID...), byte(use)))
		if s.starts[key]++; s.starts[key] > 1 {
			s.Fatalf("after %v: a use was taken twice", s.trace)
		}
	} else if err == nil {
		s.Fatalf("after %v: an acknowledged start is not in the log", s.trace)
	}
	return "start " + s.reason(err)
}

// sortedDigests puts artifacts in the order of the log, which does not depend on the keys.
func sortedDigests(all map[statement.Digest]*issuer.Minted) (digests []statement.Digest) {
	for d := range all {
		at := 0
		for at < len(digests) && all[digests[at]].Index < all[d].Index {
			at++
		}
		digests = append(digests[:at], append([]statement.Digest{d}, digests[at:]...)...)
	}
	return digests
}

// kill lets a key die with the answer to one request, before or in the middle of it, and live again.
func (s *simulation) kill() string {
	purposes := []string{record.PurposeArtifact, record.PurposeLog, record.PurposeRecord}
	key := s.Keys[purposes[s.rand.IntN(len(purposes))]]
	if s.rand.IntN(2) == 0 {
		key.Dead.Store(true)
	} else {
		key.Once(func() { key.Dead.Store(true) })
	}
	what := "kill, then " + s.send()
	key.Before.Store(nil)
	key.Dead.Store(false)
	return what
}

func (s *simulation) restart() string {
	s.Restart()
	for i := range s.open {
		s.open[i].Conn = issuer.NewConnection() // connections end with the process
	}
	return "restart"
}

func (s *simulation) jump() string {
	d := []time.Duration{-time.Hour, -time.Minute, -time.Second}[s.rand.IntN(3)]
	s.Advance(d)
	what := fmt.Sprintf("clock %s, then %s", d, s.send())
	s.Advance(-d)
	return what
}

func (s *simulation) wait() string {
	s.Advance(time.Duration(1+s.rand.IntN(40)) * time.Second)
	return "wait"
}

func (s *simulation) revoke() string {
	digests := sortedDigests(s.answers)
	if len(digests) == 0 || s.rand.IntN(3) > 0 {
		return "idle"
	}
	c, _, err := artifact.Inspect(s.answers[digests[0]].Artifact)
	if err != nil {
		s.Fatal(err)
	}
	r := s.Revocation(record.CauseArtifact, fmt.Sprintf("%x", c.ID))
	_, err = s.Issuer.Apply(s.Ctx, statement.Revocation, s.Sign(statement.Revocation, r, s.Persons...))
	return "revoke " + s.reason(err)
}

// check reads the whole log: everything that was acknowledged is there, once, and nothing else was permitted for the same request.
func (s *simulation) check() {
	s.Helper()
	if err := s.Tree.Scrub(s.Ctx); err != nil {
		s.Fatal(err)
	}
	seen := map[statement.Digest]int{}
	err := s.Tree.Leaves(s.Ctx, 0, s.Size(), func(_ uint64, leaf []byte) error { seen[statement.DigestOf(leaf)]++; return nil })
	if err != nil {
		s.Fatal(err)
	}
	for d, m := range s.answers {
		if seen[d] != 1 {
			s.Errorf("after %v: artifact %d is in the log %d times", s.trace, m.Index, seen[d])
		}
	}
	for d, n := range seen {
		if n != 1 {
			s.Errorf("after %v: entry %s stands in the log %d times", s.trace, d, n)
		}
	}
}
