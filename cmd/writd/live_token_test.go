package main

import (
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/faultp11"
	"github.com/governed-execution/writ/test/softhsm"
	"github.com/governed-execution/writ/test/tpmtoken"
)

// tokenTable is the part of a configuration that names a token.
func tokenTable(module, label, pinFile string, env []string, more ...string) string {
	text := fmt.Sprintf("module = %q\ntoken = %q\npin_file = %q\nenvironment = [", module, label, pinFile)
	for _, v := range env {
		text += fmt.Sprintf("%q, ", v)
	}
	text += "]\n"
	for _, m := range more {
		text += m + "\n"
	}
	return text
}

func softToken(tb testing.TB) *softhsm.Token {
	tb.Helper()
	return softhsm.New(tb)
}

func softTable(s *softhsm.Token, more ...string) string {
	return tokenTable(s.Module, s.Label, s.PINFile, s.Env(), more...)
}

// TestTPMTokenServes: an issuer whose keys are in a TPM is initialized, is found well by doctor, and mints.
func TestTPMTokenServes(t *testing.T) {
	tpm := tpmtoken.New(t)
	l := newLive(t, tokenTable(tpm.Module, tpm.Label, tpm.PINFile, tpm.Env(), "sessions = 4"))
	l.must("doctor", "--try")
	l.serve()
	l.admit()
	m := l.enrol("spiffe://example/host/a")
	defer m.close()
	for range 3 {
		m.asked()
	}
	l.stop()
	l.must("fsck")
}

// load has machines ask until stop is called, which returns what they were given.
type load struct {
	mu       sync.Mutex
	given    [][]byte
	refused  map[int]int // by code
	broken   []error     // neither an artifact nor a denial
	stopping chan struct{}
	wg       sync.WaitGroup
}

func (l *live) load(machines ...*machine) *load {
	w := &load{refused: map[int]int{}, stopping: make(chan struct{})}
	for _, m := range machines {
		w.wg.Go(func() {
			defer m.close()
			for {
				select {
				case <-w.stopping:
					return
				default:
				}
				raw, err := m.ask(l.Context())
				w.mu.Lock()
				var d *denial.Denial
				switch {
				case err == nil:
					w.given = append(w.given, raw)
				case errors.As(err, &d):
					w.refused[d.Reason.Code()]++
				default:
					w.broken = append(w.broken, err)
				}
				w.mu.Unlock()
				if err != nil {
					time.Sleep(5 * time.Millisecond) // as a caller who is told to come again later
				}
			}
		})
	}
	return w
}

func (w *load) count() (given, refused int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.refused {
		refused += n
	}
	return len(w.given), refused
}

func (w *load) stop() {
	close(w.stopping)
	w.wg.Wait()
}

func machines(l *live, n int) (all []*machine) {
	l.Helper()
	for i := range n {
		all = append(all, l.enrol(fmt.Sprintf("spiffe://example/host/%d", i)))
	}
	return all
}

// TestH15_SignerCrashesUnderLoad kills the signer process of a serving issuer by SIGSEGV, again and again: what hosts ask for then is
// refused with 903 and never anything else, the API lives, and everything that was given out is in the log and verifies.
func TestH15_SignerCrashesUnderLoad(t *testing.T) {
	l := newLive(t, softTable(softToken(t)))
	l.serve()
	l.admit()
	hosts := machines(l, 6)
	work := l.load(hosts...)
	serving := l.serving.Process.Pid
	for range 3 {
		before, _ := work.count()
		within(t, "hosts get artifacts", func() bool { n, _ := work.count(); return n >= before+20 })
		old := l.signers()
		if len(old) != 1 {
			t.Fatalf("got signer processes %v, want one", old)
		}
		if err := syscall.Kill(old[0], syscall.SIGSEGV); err != nil {
			t.Fatal(err)
		}
		within(t, "another signer process serves", func() bool { now := l.signers(); return len(now) == 1 && now[0] != old[0] })
		before, _ = work.count()
		within(t, "hosts get artifacts again", func() bool { n, _ := work.count(); return n >= before+20 })
	}
	work.stop()
	if _, n := work.count(); n == 0 || n != work.refused[denial.HSMUnavailable.Code()] {
		t.Errorf("got refusals %v, want some, and 903 alone", work.refused)
	}
	if len(work.broken) > 0 {
		t.Errorf("got %d broken answers, such as %v", len(work.broken), work.broken[0])
	}
	if err := syscall.Kill(serving, 0); err != nil {
		t.Errorf("writd is gone: %v", err)
	}
	l.verify(work.given...)
	l.stop()
	l.must("fsck")
}

// TestStandbyTokenSignsOn: with two tokens that hold the same keys, hosts are served while either is away, and the first is used again
// when it is back. What either signs verifies with the one trust file: relying parties know keys, not tokens.
func TestStandbyTokenSignsOn(t *testing.T) {
	soft := softToken(t)
	l := newLive(t, softTable(soft))
	copied := must(soft.Copy(t.TempDir()))(t)
	first, second := faultp11.New(t, soft.Module), faultp11.New(t, soft.Module)
	l.token(tokenTable(first.Path, soft.Label, soft.PINFile, append(soft.Env(), first.Env...)) +
		"[token.standby]\n" + tokenTable(second.Path, copied.Label, copied.PINFile, append(copied.Env(), second.Env...)))
	l.must("doctor")
	l.serve()
	l.admit()
	work := l.load(machines(l, 2)...)
	signsNow := func(m *faultp11.Module) {
		t.Helper()
		before, given := m.Calls(t, "C_Sign"), 0
		within(t, "the token signs", func() bool { return m.Calls(t, "C_Sign") >= before+20 })
		given, _ = work.count()
		within(t, "hosts get artifacts", func() bool { n, _ := work.count(); return n >= given+10 })
	}
	for range 2 {
		signsNow(first)
		first.Script(t, "C_SignInit 0 1000000 rv 0x32", "C_GetSlotList 0 1000000 rv 0x32") // removed
		signsNow(second)
		first.Script(t) // plugged in again
		signsNow(first)
		second.Script(t, "C_SignInit 0 1000000 rv 0x32", "C_GetSlotList 0 1000000 rv 0x32")
		signsNow(first)
		second.Script(t)
	}
	work.stop()
	if len(work.refused) > 0 || len(work.broken) > 0 {
		t.Errorf("got refusals %v and %d broken answers: there was a token all the time", work.refused, len(work.broken))
	}
	l.verify(work.given...)
}

// TestSlowTokenSheds: a token that makes fewer signatures than are asked for is asked for no more than it can make in two seconds. What
// is beyond that is refused with 907 and nothing else; every artifact has its receipt under a head shared by its batch; and once less is
// asked for, all is well without anybody's doing.
func TestSlowTokenSheds(t *testing.T) {
	soft := softToken(t)
	m := faultp11.New(t, soft.Module)
	l := newLive(t, tokenTable(m.Path, soft.Label, soft.PINFile, append(soft.Env(), m.Env...), "sessions = 2"))
	l.serve()
	l.admit()
	hosts := machines(l, 40)
	m.Script(t, "C_Sign 0 1000000 turn 100") // ten a second: two seconds are twenty, and forty are asked for
	signed := m.Calls(t, "C_Sign")
	work := l.load(hosts...)
	within(t, "some are refused", func() bool { _, n := work.count(); return n >= 5 })
	m.Script(t)
	work.stop()
	signed = m.Calls(t, "C_Sign") - signed
	if n := work.refused[denial.Overloaded.Code()]; n == 0 || len(work.refused) != 1 || len(work.broken) > 0 {
		t.Errorf("got refusals %v and %d broken answers, want 907 alone", work.refused, len(work.broken))
	}
	if len(work.given) == 0 || signed > 2*len(work.given)+10 {
		t.Errorf("got %d artifacts with %d signatures, want less than two for each", len(work.given), signed)
	}
	l.verify(work.given...)
	hosts[0].asked()
	l.stop()
	l.must("fsck")
}
