package issuer_test

import (
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// R10: seeds decide what happens to an issuer with its log, token and clock: requests and their repetition, starts, keys that die or are slow in the
// middle of an answer, a store that does not take a commit, crashes between commit and answer, restarts, clocks that jump, and revocations, policies
// and keys that change while something else is being decided. After each step, and in the end over the whole log, what must never be otherwise
// is as it must be (see audit). The same seed does the same.
//
// SEEDS is how many, or FROM-TO; SEED is a single one, which tells what it does.
func TestR10_SeededSimulation(t *testing.T) {
	base := newBase(t)
	if text := os.Getenv("SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(strings.Join(simulate(t, base, seed), "\n"))
		return
	}
	from, to, told := uint64(0), uint64(20), false
	if testing.Short() {
		to = 5
	}
	if text := os.Getenv("SEEDS"); text != "" {
		told = true
		first, last, ranged := strings.Cut(text, "-")
		if !ranged {
			first, last = "0", text
		}
		var err, lerr error
		from, err = strconv.ParseUint(first, 10, 64)
		to, lerr = strconv.ParseUint(last, 10, 64)
		if err = errors.Join(err, lerr); err != nil || from >= to {
			t.Fatalf("SEEDS is %q, and must be a number of seeds, or FROM-TO: %v", text, err)
		}
	}
	var next, done atomic.Uint64
	var wg sync.WaitGroup
	next.Store(from)
	begun := time.Now()
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := next.Add(1) - 1; seed < to && !t.Failed(); seed = next.Add(1) - 1 {
				t.Run(fmt.Sprint(seed), func(t *testing.T) {
					first := simulate(t, base, seed)
					if seed < 3 || seed%1000 == 0 {
						if again := simulate(t, base, seed); fmt.Sprint(again) != fmt.Sprint(first) {
							t.Errorf("the same seed went two ways:\n%s\n\n%s", strings.Join(first, "\n"), strings.Join(again, "\n"))
						}
					}
				})
				if n := done.Add(1); told && (n%200 == 0 || n == to-from) {
					fmt.Fprintf(os.Stderr, "\r%d of %d seeds, %s", n, to-from, time.Since(begun).Round(time.Second))
				}
			}
		})
	}
	wg.Wait()
	if told {
		fmt.Fprintln(os.Stderr)
	}
}

// The second of each, which may be revoked: there is one left then.
const second = "spiffe://example/initiator/second"

// base is the world from which each seed begins, with its second host.
type base struct {
	*issuertest.World
	second *issuertest.Host
}

func newBase(t *testing.T) base {
	b := base{World: issuertest.New(t)}
	b.second = b.EnrolHost(issuertest.OtherURI, issuertest.OtherGate)
	b.EnrolInitiator(second)
	b.Publish(b.Authorization(secondRule()))
	if err := b.Tree.Close(); err != nil {
		t.Fatal(err)
	}
	return b
}

// secondRule permits the second initiator what the first is permitted.
func secondRule() string {
	return fmt.Sprintf(`
[[rule]]
name = "second"
initiators = [%q]
audiences = [%q]
lifetime = "600s"
uses = 2

[rule.hosts]
env = "test"

[[rule.scope]]
target = %q
operations = ["execute"]
code = [%q]
`, second, issuertest.Gate, issuertest.Target, hex.EncodeToString(issuertest.Code[:]))
}

// simulation is an issuer to which a seed does what goes wrong, and what was heard of it.
type simulation struct {
	*issuertest.World
	rand    *rand.Rand
	hosts   []*issuertest.Host
	answers []*issuer.Minted          // acknowledged artifacts
	open    []issuertest.Attempt      // prepared, and not answered yet or refused
	spent   []issuertest.Attempt      // answered
	taken   map[statement.Digest]bool // acknowledged starts
	heads   map[uint64]receipt.Hash   // every head that was seen, by size
	newest  receipt.Head              // of them
	away    bool                      // the store has failed and is not opened again yet
	trace   []string                  // what was done, and what came of it
}

// simulate goes through the steps of a seed, and returns what happened: each step with its outcome, and each entry of the log.
func simulate(t *testing.T, b base, seed uint64) []string {
	s := &simulation{World: b.Fork(t), rand: rand.New(rand.NewPCG(seed, 10)), taken: map[statement.Digest]bool{}, heads: map[uint64]receipt.Hash{}}
	s.hosts = []*issuertest.Host{s.Host, b.second.Fork()}
	steps := []struct {
		name string
		odds int
		do   func() string
	}{
		{"prepare", 6, s.prepare}, {"send", 12, s.send}, {"resend", 4, s.resend}, {"replay", 2, s.replay}, {"start", 8, s.start},
		{"key dies", 4, s.keyDies}, {"key is slow", 2, s.keyIsSlow}, {"commit fails", 1, s.commitFails}, {"crash", 3, s.crash}, {"restart", 2, s.restart},
		{"clock jumps", 2, s.jump}, {"wait", 4, s.wait}, {"meanwhile", 4, s.meanwhile}, {"act", 2, func() string { return s.act()() }}, {"summarise", 1, s.summarise},
	}
	odds := 0
	for _, step := range steps {
		odds += step.odds
	}
	for range 60 {
		if s.away && s.rand.IntN(4) == 0 {
			s.trace = append(s.trace, "restart: "+s.restart())
		}
		n, i := s.rand.IntN(odds), 0
		for ; n >= steps[i].odds; i++ {
			n -= steps[i].odds
		}
		s.trace = append(s.trace, steps[i].name) // first, so that a failure tells it
		s.trace[len(s.trace)-1] += ": " + steps[i].do()
		s.look()
	}
	s.restart()
	s.audit()
	return append(s.trace, s.entries()...)
}

// entries tells the entries of the log: what of them does not depend on keys and random numbers.
func (s *simulation) entries() (lines []string) {
	err := s.Tree.Leaves(s.Ctx, 0, s.Size(), func(i uint64, leaf []byte) error {
		env := issuertest.Must(statement.Decode(leaf, statement.MaxStatement))(s)
		line := fmt.Sprint(i, " ", env.Kind())
		if env.Kind() == statement.Record {
			var r record.Record
			if err := statement.Unmarshal(env.Payload(), &r); err != nil {
				return err
			}
			line += fmt.Sprint(" ", r.Event, " ", r.Reasons, " ", r.Time)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	return lines
}

// fatal ends a seed.
func (s *simulation) fatal(format string, args ...any) {
	s.Helper()
	s.Fatalf("%s\nafter:\n%s", fmt.Sprintf(format, args...), strings.Join(s.trace, "\n"))
}

// outcome names what came of something. Whatever is refused is refused for a reason of the table; 901 would be our own fault.
func (s *simulation) outcome(err error) string {
	s.Helper()
	if err == nil {
		return "yes"
	}
	var d *denial.Denial
	if !errors.As(err, &d) || d.Reason == denial.Internal {
		s.fatal("got %v", err)
	}
	if d.Reason == denial.AuditUnavailable && !s.away {
		s.fatal("got %v of a store that works", err)
	}
	return fmt.Sprint(d.Reason.Code())
}

// look looks at the head that everybody may see: the log only grows, in time too.
func (s *simulation) look() {
	s.Helper()
	h := s.Tree.Head().Head
	if h.Size < s.newest.Size || h.Time < s.newest.Time || h.Size == s.newest.Size && h.Root != s.newest.Root {
		s.fatal("the head of %d entries at %d is followed by that of %d at %d", s.newest.Size, s.newest.Time, h.Size, h.Time)
	}
	s.newest, s.heads[h.Size] = h, h.Root
}

func (s *simulation) prepare() string {
	spoil := issuertest.Spoil{Host: s.hosts[s.rand.IntN(2)], Initiator: []string{issuertest.Robot, second}[s.rand.IntN(2)]}
	spoil.Claims = func(c *artifact.RequestClaims) { c.Audience = spoil.Host.Gate }
	a, err := s.attempt(spoil)
	if err != nil {
		return s.outcome(err)
	}
	s.open = append(s.open, a)
	return spoil.Host.URI + " " + spoil.Initiator
}

// attempt prepares an attempt, if there is a challenge for it.
func (s *simulation) attempt(spoil issuertest.Spoil) (a issuertest.Attempt, err error) {
	spoil.Conn = issuer.NewConnection()
	if spoil.Challenge, err = s.Issuer.Challenge(s.Ctx, spoil.Conn); err != nil {
		return a, err
	}
	return s.Prepare(spoil), nil
}

// pick takes one of the attempts, -1 if there is none.
func (s *simulation) pick(from []issuertest.Attempt) int {
	if len(from) == 0 {
		return -1
	}
	return s.rand.IntN(len(from))
}

func (s *simulation) hostOf(uri string) *issuertest.Host {
	if s.hosts[0].URI == uri {
		return s.hosts[0]
	}
	return s.hosts[1]
}

func (s *simulation) send() string {
	if len(s.open) == 0 {
		if s.prepare(); len(s.open) == 0 {
			return "no challenge"
		}
	}
	n := s.pick(s.open)
	m, err := s.open[n].Send()
	return s.heard(n, m, err)
}

// heard notes the answer to the attempt at n.
func (s *simulation) heard(n int, m *issuer.Minted, err error) string {
	s.Helper()
	if err == nil {
		s.answers = append(s.answers, m)
		s.spent = append(s.spent, s.open[n])
	}
	if err == nil || denial.Is(err, denial.Expired) {
		s.open = append(s.open[:n], s.open[n+1:]...)
	}
	return s.outcome(err)
}

// resend sends a request that may have been consumed, with evidence that is fresh.
func (s *simulation) resend() string {
	from, answered := s.open, s.rand.IntN(3) == 0
	if answered {
		from = s.spent
	}
	n := s.pick(from)
	if n < 0 {
		return "idle"
	}
	old := from[n]
	a, err := s.attempt(issuertest.Spoil{Host: s.hostOf(old.Claims.Host), Initiator: old.Signer, Request: func([]byte) []byte { return old.Request }})
	if err != nil {
		return s.outcome(err)
	}
	a.Claims = old.Claims
	m, err := a.Send()
	if err == nil && answered {
		s.fatal("a request was answered twice")
	}
	s.open = append(s.open, a)
	return s.heard(len(s.open)-1, m, err)
}

// replay sends once more, as it was, what has been answered.
func (s *simulation) replay() string {
	n := s.pick(s.spent)
	if n < 0 {
		return "idle"
	}
	_, err := s.spent[n].Send()
	if err == nil {
		s.fatal("what was answered is answered again")
	}
	return s.outcome(err)
}

// begin makes the record of a start.
func (s *simulation) begin() (leaf []byte, host *issuertest.Host) {
	if len(s.answers) == 0 {
		return nil, nil
	}
	m, use := s.answers[s.rand.IntN(len(s.answers))], 1+s.rand.Uint64N(2)
	c, _, err := artifact.Inspect(m.Artifact)
	if err != nil {
		s.Fatal(err)
	}
	host = s.hostOf(c.Subject)
	return s.Report(host, m, record.EventStart, func(r *record.Record) { r.Execution.Use = use }), host
}

func (s *simulation) start() string {
	leaf, host := s.begin()
	if leaf == nil {
		return "idle"
	}
	_, err := s.Issuer.Take(s.Ctx, leaf)
	what := s.outcome(err)
	if err != nil && s.rand.IntN(2) == 0 { // a gate that has not heard sends the same record again
		_, err = s.Issuer.Take(s.Ctx, leaf)
		what += ", then " + s.outcome(err)
	}
	s.follow(leaf, host, err)
	return what
}

// follow has a gate go on behind a record that is in the log, even if its answer was lost.
func (s *simulation) follow(leaf []byte, host *issuertest.Host, err error) {
	s.Helper()
	digest := statement.DigestOf(leaf)
	_, found, ferr := s.Tree.Find(s.Ctx, digest)
	if ferr != nil {
		s.Fatal(ferr)
	}
	if err == nil && !found {
		s.fatal("an acknowledged start is not in the log")
	}
	if found {
		host.Follow(leaf)
		s.taken[digest] = true
	}
}

// some returns one of the issuer's keys, which signs something of an answer.
func (s *simulation) some() *issuertest.Key {
	purposes := []string{record.PurposeArtifact, record.PurposeLog, record.PurposeRecord}
	return s.Keys[purposes[s.rand.IntN(len(purposes))]]
}

// either sends a request or a start.
func (s *simulation) either() string {
	if s.rand.IntN(3) == 0 {
		return "start: " + s.start()
	}
	return "send: " + s.send()
}

// keyDies lets a key die before it signs, or when it is about to, and live again.
func (s *simulation) keyDies() string {
	key := s.some()
	if s.rand.IntN(2) == 0 {
		key.Dead.Store(true)
	} else {
		key.Once(func() { key.Dead.Store(true) })
	}
	what := s.either()
	key.Before.Store(nil)
	key.Dead.Store(false)
	return what
}

// keyIsSlow lets time pass while a key signs.
func (s *simulation) keyIsSlow() string {
	key, d := s.some(), time.Duration(1+s.rand.IntN(90))*time.Second
	key.Once(func() { s.Advance(d) })
	what := s.either()
	key.Before.Store(nil)
	return fmt.Sprint(d, ", ", what)
}

// commitFails lets the database refuse a transaction as a whole. What it holds is not known then: the log stops, until it is opened again.
func (s *simulation) commitFails() string {
	db := issuertest.Must(sql.Open("sqlite", s.Path))(s)
	defer db.Close()
	table := []string{"leaves", "heads", "nodes"}[s.rand.IntN(3)]
	issuertest.Must(db.Exec("CREATE TRIGGER fails BEFORE INSERT ON " + table + " BEGIN SELECT RAISE(ABORT, 'the disk is worn out'); END"))(s)
	s.away = true
	what := s.either()
	issuertest.Must(db.Exec("DROP TRIGGER fails"))(s)
	if s.Tree.Healthy() == nil { // nothing was written
		s.away = false
	}
	return table + ", " + what
}

// crash ends everything when a key is about to sign: before the commit, or between commit and answer. Nobody hears the answer.
func (s *simulation) crash() string {
	n, key := s.pick(s.open), s.some()
	if n < 0 {
		return "idle"
	}
	var snapshot string
	key.Once(func() { snapshot = s.Snapshot() })
	m, err := s.open[n].Send()
	key.Before.Store(nil)
	if snapshot == "" {
		return "none, " + s.heard(n, m, err)
	}
	s.World.Crash(snapshot)
	s.reconnect()
	return "yes"
}

func (s *simulation) restart() string {
	s.Restart()
	s.reconnect()
	return "yes"
}

// reconnect gives everybody new connections: the old ones ended with the process.
func (s *simulation) reconnect() {
	s.away = false
	for _, all := range [][]issuertest.Attempt{s.open, s.spent} {
		for i := range all {
			all[i].Conn = issuer.NewConnection()
		}
	}
}

func (s *simulation) jump() string {
	d := []time.Duration{-time.Hour, -time.Minute, -time.Second, time.Hour}[s.rand.IntN(4)]
	s.Advance(d)
	what := s.either()
	if d < 0 {
		s.Advance(-d)
	}
	return fmt.Sprint(d, ", ", what)
}

func (s *simulation) wait() string {
	d := time.Duration(1+s.rand.IntN(40)) * time.Second
	s.Advance(d)
	return d.String()
}

// act returns something that authorities do.
func (s *simulation) act() func() string {
	apply := func(kind statement.Kind, payload any) string {
		_, err := s.Issuer.Apply(s.Ctx, kind, s.Sign(kind, payload, s.Persons...))
		return s.outcome(err)
	}
	revoke := func(cause record.Cause, target string) string {
		return apply(statement.Revocation, s.Revocation(cause, target))
	}
	switch s.rand.IntN(12) {
	case 0:
		return func() string { return "revoke host: " + revoke(record.CauseHost, issuertest.OtherURI) }
	case 1:
		return func() string { return "revoke initiator: " + revoke(record.CauseInitiator, second) }
	case 2, 3:
		purpose := record.Purposes()[s.rand.IntN(len(record.Purposes()))]
		return func() string { return "replace " + purpose + " key: " + s.replace(purpose) }
	case 4, 5:
		return func() string {
			return "authorization: " + apply(statement.Policy, s.Policy(s.Authorization(secondRule())))
		}
	case 6:
		return func() string { return "appraisal: " + apply(statement.Policy, s.Policy(s.Appraisal())) }
	}
	n := s.rand.IntN(max(1, len(s.answers)))
	if n >= len(s.answers) {
		return func() string { return "idle" }
	}
	c, _, err := artifact.Inspect(s.answers[n].Artifact)
	if err != nil {
		s.Fatal(err)
	}
	return func() string { return "revoke artifact: " + revoke(record.CauseArtifact, fmt.Sprintf("%x", c.ID)) }
}

// replace puts another key in use.
func (s *simulation) replace(purpose string) string {
	return s.outcome(s.TryRotate(purpose))
}

// meanwhile has authorities act while an answer is being signed, which was decided before.
func (s *simulation) meanwhile() string {
	act, done := s.act(), "nothing signed"
	key := s.Keys[[]string{record.PurposeArtifact, record.PurposeRecord}[s.rand.IntN(2)]]
	key.Once(func() { done = act() })
	what := s.either()
	key.Before.Store(nil)
	return done + ", " + what
}

func (s *simulation) summarise() string { return s.outcome(s.Issuer.Summarise(s.Ctx)) }

// audit reads the whole log. Every hash, node, head and row is what it must be. What was acknowledged is in it, with a receipt that verifies, and
// each head that was seen is still one. Nothing is consumed twice: request, id of an artifact, place in the status list, use. Nothing is
// permitted or started behind the revocation of what it depends on.
func (s *simulation) audit() {
	s.Helper()
	if err := errors.Join(s.Tree.Scrub(s.Ctx), s.Issuer.Recompute(s.Ctx)); err != nil {
		s.fatal("the log is not as it must be: %v", err)
	}
	for size, root := range s.heads {
		if h, err := s.Tree.HeadOver(s.Ctx, size); err != nil || h.Size != size || h.Root != root {
			s.fatal("the head of %d entries that was seen is gone: %v", size, err)
		}
	}
	l := logged{once: map[string]uint64{}, revoked: map[string]bool{}, artifacts: map[string]artifact.Claims{}}
	entries := map[statement.Digest]uint64{}
	err := s.Tree.Leaves(s.Ctx, 0, s.Size(), func(i uint64, leaf []byte) error {
		digest := statement.DigestOf(leaf)
		if at, twice := entries[digest]; twice {
			s.fatal("entries %d and %d are the same", at, i)
		}
		entries[digest] = i
		if why := l.entry(i, issuertest.Must(statement.Decode(leaf, statement.MaxStatement))(s)); why != "" {
			s.fatal("entry %d: %s", i, why)
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	var keys statement.Keys
	for _, k := range s.Tree.Keys() {
		if err := keys.Add(k, statement.Receipt); err != nil {
			s.Fatal(err)
		}
	}
	for _, m := range s.answers {
		env := issuertest.Must(statement.Decode(m.Artifact, 2*statement.MaxStatement))(s)
		if at, found := entries[env.Digest()]; !found || at != m.Index {
			s.fatal("the artifact that was answered as entry %d is not there", m.Index)
		}
		for _, raw := range issuertest.Must(env.Receipts())(s) {
			if p, err := receipt.Verify(raw, env.Leaf(), keys); err != nil || p.Index != m.Index {
				s.fatal("the receipt of entry %d: %v", m.Index, err)
			}
		}
	}
	for digest := range s.taken {
		if _, found := entries[digest]; !found {
			s.fatal("a start that was taken is not in the log")
		}
	}
}

// logged is what the entries up to one say.
type logged struct {
	once      map[string]uint64 // what was consumed, and by which entry
	revoked   map[string]bool   // cause and target
	artifacts map[string]artifact.Claims
}

// entry takes the next entry in, and returns what is wrong with it.
func (l *logged) entry(i uint64, env *statement.Envelope) string {
	switch env.Kind() {
	case statement.Revocation:
		var r record.Revocation
		if err := statement.Unmarshal(env.Payload(), &r); err != nil {
			return err.Error()
		}
		l.revoked[fmt.Sprint(r.Cause, r.Target)] = true
	case statement.Artifact:
		c, err := artifact.DecodeClaims(env.Payload())
		if err != nil {
			return err.Error()
		}
		l.artifacts[string(c.ID)] = c
		if why := l.stands(c); why != "" {
			return why
		}
		return l.consume(i, fmt.Sprintf("request for execution %x", c.Execution.ID), fmt.Sprintf("id %x", c.ID), fmt.Sprint("place ", c.Status.List), fmt.Sprintf("challenge %x", c.Challenge))
	case statement.Record:
		var r record.Record
		if err := statement.Unmarshal(env.Payload(), &r); err != nil {
			return err.Error()
		}
		if r.Event != record.EventStart {
			return ""
		}
		c, ok := l.artifacts[string(r.CTI)]
		if !ok {
			return "a start without its artifact"
		}
		if why := l.stands(c); why != "" {
			return why
		}
		return l.consume(i, fmt.Sprintf("use %d of %x", r.Execution.Use, r.CTI))
	}
	return ""
}

// stands returns which of what an artifact depends on is revoked.
func (l *logged) stands(c artifact.Claims) string {
	for _, on := range []string{fmt.Sprint(record.CauseArtifact, hex.EncodeToString(c.ID)), fmt.Sprint(record.CauseHost, c.Subject), fmt.Sprint(record.CauseInitiator, c.Initiator.Principal)} {
		if l.revoked[on] {
			return "it depends on what is revoked: " + on
		}
	}
	return ""
}

func (l *logged) consume(i uint64, all ...string) string {
	for _, what := range all {
		if at, twice := l.once[what]; twice {
			return fmt.Sprintf("%s was consumed by entry %d", what, at)
		}
		l.once[what] = i
	}
	return ""
}
