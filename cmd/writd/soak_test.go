package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/client"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/tlog"
)

// soak is a live issuer that everybody who deals with an issuer deals with, at a rate that is low and steady, and what is known of its
// answers.
type soak struct {
	*live
	length  time.Duration // of the load
	pace    time.Duration // from one act of one who asks to the next
	beat    time.Duration // from one act of the operator to the next
	program string        // writ
	pages   *pages        // the console's
	admin   *http.Client  // of the admin socket
	monitor chan error    // how writ monitor ended
	seen    *transcript   // what it says
	first   *artifact.Trust
	signer  atomic.Int64 // odd while the signer process is away
	halt    func()       // ends the load
	halted  chan struct{}
	wg      sync.WaitGroup
	begun   time.Time

	mu       sync.Mutex
	acts     map[string]int            // that went as they had to, by name
	away     int                       // answers that were 903 because the signer process was away
	late     int                       // that were not given in time
	given    map[statement.Digest]bool // every artifact that left
	recent   [][]byte                  // the last of them that nobody revoked
	took     []time.Duration           // how long the permits of this minute took
	history  string                    // of keys
	followed *artifact.Trust           // first, with that history
	lives    map[string][]life         // by kind of process
}

// soakLength is SOAK_MINUTES, or some seconds for every run of the tests.
func soakLength(tb testing.TB) (length time.Duration, long bool) {
	text := os.Getenv("SOAK_MINUTES")
	if text == "" {
		return 10 * time.Second, false
	}
	minutes, err := strconv.ParseFloat(text, 64)
	if err != nil || minutes <= 0 {
		tb.Fatalf("SOAK_MINUTES is %q, and must be a number of minutes", text)
	}
	return time.Duration(minutes * float64(time.Minute)), true
}

// TestR16_Soak has a live issuer dealt with in every way there is, for a long time: permits, what is refused for many reasons, starts and ends,
// connections that break off, console and monitor; and an operator and authorities who revoke, publish, replace keys, make backups, pull
// bundles and read the log, while its signer process dies now and then. Each answer is the one that it must be, everything that was given out
// verifies, at once and in the end, and neither memory nor descriptors, threads and goroutines grow (see growth). How long answers take is told
// and fails nothing.
func TestR16_Soak(t *testing.T) {
	s := newSoak(t)
	defer s.wg.Wait()
	defer s.halt()
	s.load()
	s.operate()
	s.halt()
	s.wg.Wait()
	s.conclude()
}

func newSoak(t *testing.T) *soak {
	t.Helper()
	s := &soak{pace: time.Second, beat: 4 * time.Second, halted: make(chan struct{}), acts: map[string]int{}, given: map[statement.Digest]bool{},
		lives: map[string][]life{}, seen: &transcript{last: 1 << 20}}
	s.halt = sync.OnceFunc(func() { close(s.halted) })
	var long bool
	if s.length, long = soakLength(t); !long {
		s.pace, s.beat = 250*time.Millisecond, 100*time.Millisecond
	}
	s.pages = newPages(t)
	scrub := fmt.Sprintf("scrub_hours = %f", s.length.Hours()/6)
	s.live = newLive(t, softTable(softToken(t)), append([]string{scrub}, s.pages.settings...)...)
	s.patience, s.said.last = max(time.Minute, s.length), 1<<20
	s.admin = &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", s.path("admin.sock"))
	}}}
	s.program = s.writ()
	s.serve()
	s.admit()
	s.write("trust.toml", []byte(s.must("trust", "--audience", liveGate)))
	s.first = must(artifact.ParseTrust(must(os.ReadFile(s.path("trust.toml")))(t)))(t)
	s.watch()
	s.begun = time.Now()
	return s
}

// watch starts a monitor of the log.
func (s *soak) watch() {
	s.Helper()
	cmd := exec.Command(s.program, "monitor", "--trust", s.path("trust.toml"), "--server", s.url, "--ca", s.path("tls.pem"), "--dir", s.path("monitor"), "--every", "1s")
	cmd.Stdout, cmd.Stderr = s.seen, s.seen
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	s.monitor = make(chan error, 1)
	go func() { s.monitor <- cmd.Wait() }()
	s.Cleanup(func() { _ = cmd.Process.Kill() })
}

// load starts all who ask.
func (s *soak) load() {
	for _, m := range machines(s.live, 4) {
		s.again("permit", func() error { return s.permit(m) }, m.close)
	}
	gate := s.newGate()
	s.again("execution", gate.execution, gate.close)
	r := &refused{machine: s.enrol("spiffe://example/host/refused"), soak: s, boot: bootlog.New(bootlog.Options{Image: []byte("another kernel")})}
	for _, kind := range r.kinds() {
		s.expect(kind.name)
	}
	s.again("refusal", r.next, nil)
	s.again("broken connection", s.breakOff, nil)
	s.again("page", func() error { return s.pages.read(s.Context()) }, nil)
	s.sample()
}

// again has somebody act again and again until the soak is halted, which it is by the first answer that is not as it must be.
func (s *soak) again(what string, act func() error, leave func()) {
	s.expect(what)
	s.wg.Go(func() {
		good := false
		defer func() {
			if !good { // also if the act has ended the test
				s.halt()
			}
		}()
		if leave != nil {
			defer leave()
		}
		tick := time.NewTicker(s.pace)
		defer tick.Stop()
		for {
			select {
			case <-s.halted:
				good = true
				return
			case <-tick.C:
			}
			if err := s.try(what, act); err != nil {
				s.Errorf("%s, after %v: %v", what, time.Since(s.begun).Round(time.Second), err)
				return
			}
		}
	})
}

// expect has the soak fail if it ends without an act of the name.
func (s *soak) expect(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acts[what] = 0
}

// try acts once. While the signer process is away 903 is as good an answer as the one that had to come.
func (s *soak) try(what string, act func() error) error {
	before := s.signer.Load()
	err := act()
	if s.excused(before, err) {
		return nil
	}
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.acts[what]++
	}
	return err
}

// excused reports whether an answer is another one than had to come, for a reason that counts, and counts it: the signer process was away, since or
// after the time that before tells; the machine had no time for a signature within its limit, or for a connection, which must stay rare.
func (s *soak) excused(before int64, err error) bool {
	var refused *client.RefusedError
	undecided := errors.As(err, &refused) && refused.Problem.Condition == denial.ConditionUndecidable.String()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case undecided && (denial.Is(err, denial.HSMUnavailable) || refused.Problem.Details == nil) && (before%2 == 1 || s.signer.Load() != before):
		s.away++
	case denial.Is(err, denial.HSMUnavailable) && strings.Contains(err.Error(), "did not answer in time"):
		s.late++
	case err != nil && strings.Contains(err.Error(), "start over with a fresh challenge"): // HTTP gave up a connection
		s.late++
	default:
		return false
	}
	return true
}

// operate is the work of operator and authorities, one act after another, until the time is up and each was done.
func (s *soak) operate() {
	o := &operator{soak: s, machine: s.enrol("spiffe://example/host/operator")}
	defer o.close()
	tick := time.NewTicker(s.beat)
	defer tick.Stop()
	last := map[string]time.Time{}
	for _, d := range o.duties() {
		s.expect(d.name)
	}
	for round := 0; round == 0 || time.Since(s.begun) < s.length; round++ {
		for _, d := range o.duties() {
			if round > 0 && (time.Since(last[d.name]) < d.every || time.Since(s.begun) >= s.length) {
				continue
			}
			select {
			case <-s.halted:
				return
			case <-tick.C:
			}
			last[d.name] = time.Now()
			if err := s.try(d.name, d.do); err != nil {
				s.Errorf("%s, after %v: %v", d.name, time.Since(s.begun).Round(time.Second), err)
				return
			}
		}
	}
}

// conclude verifies all of the log from outside, and that all that was given out is in it.
func (s *soak) conclude() {
	if s.Failed() {
		s.Logf("writd: %s\nmonitor: %s", tail(s.said.String()), tail(s.seen.String()))
		return
	}
	all := 0
	for what, n := range s.acts {
		if all += n; n == 0 {
			s.Errorf("no %s in the whole soak: it is not of everything", what)
		}
	}
	if s.late > 1+all/200 {
		s.Errorf("%d answers to %d acts were not given in time: the machine has no time for a soak", s.late, all)
	}
	select {
	case err := <-s.monitor:
		s.Errorf("the monitor has ended: %v\n%s", err, tail(s.seen.String()))
	default:
		if !strings.Contains(s.seen.String(), "continues the ") {
			s.Errorf("the monitor has seen nothing:\n%s", tail(s.seen.String()))
		}
	}
	s.tell()
	s.growth()

	if bad := s.relying(s.first, s.recent...); bad > 0 {
		s.Errorf("%d of the last %d artifacts do not verify in the end", bad, len(s.recent))
	}
	known := []string{"audit", "verify", s.path("all.tar"), "--trust", s.path("trust.toml")}
	for i, raw := range s.recent {
		name := fmt.Sprintf("known%d", i)
		s.write(name, raw)
		known = append(known, "--known", s.path(name))
	}
	s.run("audit", "pull", "--admin", s.path("admin.sock"), "--out", s.path("all.tar"))
	report := s.run(known...)
	s.Logf("writ audit verify: %s", tail(report))
	s.stop()
	s.Logf("writd fsck: %s", s.must("fsck"))
	s.everythingIsLogged()
}

func (s *soak) everythingIsLogged() {
	view := must(tlog.OpenReadOnly(s.Context(), s.path("log.db")))(s)
	defer view.Close()
	found := 0
	err := view.Leaves(s.Context(), 0, must(view.Size(s.Context()))(s), func(_ uint64, leaf []byte) error {
		if s.given[statement.DigestOf(leaf)] {
			found++
		}
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	if found != len(s.given) {
		s.Errorf("%d of %d artifacts that were given out are in the log", found, len(s.given))
	}
}

// run runs writ, which has to succeed.
func (s *soak) run(args ...string) string {
	s.Helper()
	out, err := exec.CommandContext(s.Context(), s.program, args...).CombinedOutput()
	if err != nil {
		s.Fatalf("writ %s: %v\n%s", strings.Join(args[:2], " "), err, tail(string(out)))
	}
	return string(out)
}

// tail returns the last lines of a text.
func tail(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// note keeps an artifact, and how long it took; 0: it does not count.
func (s *soak) note(raw []byte, took time.Duration) error {
	env, err := statement.Decode(raw, 2*statement.MaxStatement)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given[env.Digest()] {
		return errors.New("an artifact was given out twice")
	}
	s.given[env.Digest()] = true
	if took > 0 {
		s.took = append(s.took, took)
	}
	return nil
}

// check verifies an artifact as a gate does before it runs anything: keys and status list are fetched for it, and again if keys have
// changed between the two (806).
func (s *soak) check(raw []byte) (a *artifact.Artifact, err error) {
	for range 3 {
		if a, err = s.checkOnce(raw); !denial.Is(err, denial.RevocationUnknown) {
			break
		}
	}
	return a, err
}

func (s *soak) checkOnce(raw []byte) (*artifact.Artifact, error) {
	keys, err := s.client.Keys(s.Context())
	if err != nil {
		return nil, err
	}
	trust, err := s.trusting(keys)
	if err != nil {
		return nil, err
	}
	c, _, err := artifact.Inspect(raw)
	if err != nil {
		return nil, err
	}
	token, err := s.client.Status(s.Context(), c.Status.List.URI)
	if err != nil {
		return nil, err
	}
	status, err := artifact.VerifyStatus(token, trust, time.Now(), 0)
	if err != nil {
		return nil, err
	}
	return artifact.Verify(raw, artifact.Want{Trust: trust, Now: time.Now(), Status: status})
}

// trusting returns the first trust file with the keys that have followed.
func (s *soak) trusting(keys []byte) (_ *artifact.Trust, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.history != string(keys) {
		if s.followed, err = s.first.Follow(keys); err != nil {
			return nil, err
		}
		s.history = string(keys)
	}
	return s.followed, nil
}

// logFilesSize returns how many bytes the log and the files beside it have.
func (s *soak) logFilesSize() (n int64) {
	names, _ := filepath.Glob(s.path("log.db*")) // the pattern is well formed
	for _, name := range slices.Sorted(slices.Values(names)) {
		if info, err := os.Stat(name); err == nil {
			n += info.Size()
		}
	}
	return n
}
