package custody

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/faultp11"
	"github.com/governed-execution/writ/test/softhsm"
	"github.com/governed-execution/writ/test/stock"
)

// TestMain lets the test program be the signer process of its own tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "signer" {
		if err := Serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		return
	}
	os.Exit(m.Run())
}

func config(soft *softhsm.Token) Config {
	return Config{Module: soft.Module, Token: soft.Label, PINFile: soft.PINFile}
}

func open(t testing.TB, cfg Config) *Process {
	t.Helper()
	p, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	return p
}

func newSigner(t testing.TB, p *Process, purpose hsm.Purpose) statement.Signer {
	t.Helper()
	key, err := p.Create(t.Context(), purpose)
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Signer(t.Context(), purpose, key.Thumbprint())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sign has a receipt's tree head or a record signed.
func sign(ctx context.Context, s statement.Signer, kind statement.Kind) ([]byte, error) {
	c := statement.Claims{Issuer: "https://issuer.example", Subject: "urn:example:subject", IssuedAt: 1}
	if kind == statement.Record {
		r := record.Record{Version: record.Version, Event: record.EventSummary, Time: 1, Since: 1,
			Counts: map[uint64]uint64{501: 1}, Emitter: record.Emitter{URI: c.Issuer, Epoch: make([]byte, 16)}}
		return r.Sign(ctx, s, c.Issuer)
	}
	return statement.Sign(ctx, s, kind, c, make([]byte, 32))
}

func signs(t testing.TB, s statement.Signer, kind statement.Kind) {
	t.Helper()
	leaf, err := sign(t.Context(), s, kind)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := statement.Decode(leaf, len(leaf)); err != nil {
		t.Fatal(err)
	}
}

func refused(t testing.TB, err error, want denial.Reason) {
	t.Helper()
	if !denial.Is(err, want) {
		t.Fatalf("got %v, want %d", err, want.Code())
	}
}

// healed waits until the key signs again, at most the 5 s of H10.
func healed(t testing.TB, s statement.Signer, kind statement.Kind) {
	t.Helper()
	var err error
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for limit := time.After(5 * time.Second); ; {
		if _, err = sign(t.Context(), s, kind); err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not healed after 5 s: %v", err)
		}
	}
}

// pid is the signer process that serves now.
func (p *Process) pid(t testing.TB) int {
	t.Helper()
	l, err := p.current()
	if err != nil {
		t.Fatal(err)
	}
	return l.conn.cmd.Process.Pid
}

func TestKeysAreMadeAndUsedInTheProcess(t *testing.T) {
	p := open(t, config(softhsm.New(t)))
	for _, purpose := range []hsm.Purpose{hsm.Record, hsm.Log} {
		s := newSigner(t, p, purpose)
		signs(t, s, map[hsm.Purpose]statement.Kind{hsm.Record: statement.Record, hsm.Log: statement.Receipt}[purpose])
		a, err := p.Attributes(t.Context(), s.Key().Thumbprint())
		if err != nil || a.Check() != nil || a.Purpose != purpose || !a.Key.Equal(s.Key()) {
			t.Errorf("got %+v, %v", a, err)
		}
		if _, err := p.Rotate(t.Context(), purpose, s.Key().Thumbprint()); err != nil {
			t.Error(err)
		}
		_, err = p.Create(t.Context(), purpose)
		refused(t, err, denial.HSMKeyPolicy)
	}
	info, err := p.Info(t.Context())
	if err != nil || info.Label != "writ" {
		t.Errorf("got %+v, %v", info, err)
	}
	if _, _, err := statement.SignCheckpoint(t.Context(), mustSigner(t, p, hsm.Log), "issuer.example/log", 7, [32]byte{1}); err != nil {
		t.Error(err)
	}
	if err := p.Healthy(); err != nil || p.Starts() != 1 || p.Orphans() != 0 {
		t.Errorf("got %v, %d starts and %d orphans", err, p.Starts(), p.Orphans())
	}
}

func mustSigner(t testing.TB, p *Process, purpose hsm.Purpose) statement.Signer {
	t.Helper()
	keys, err := p.Keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range keys {
		if k.Purpose == purpose {
			s, err := p.Signer(t.Context(), purpose, k.Key.Thumbprint())
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	t.Fatalf("no %s key", purpose)
	return nil
}

// TestH15_CrashUnderLoad kills the signer process by SIGSEGV while many sign: requests that it takes with it are 903, this
// process lives, the next requests are served, and every signature that was given out verifies.
func TestH15_CrashUnderLoad(t *testing.T) {
	p := open(t, config(softhsm.New(t)))
	s := newSigner(t, p, hsm.Log)
	var good, bad atomic.Int64
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				switch _, err := sign(t.Context(), s, statement.Receipt); {
				case err == nil:
					good.Add(1)
				case denial.Is(err, denial.HSMUnavailable):
					bad.Add(1)
					time.Sleep(time.Millisecond) // as a caller who is told to come again later
				default:
					t.Errorf("got %v, want a signature or 903", err)
					return
				}
			}
		})
	}
	for range 2 {
		before, starts := good.Load(), p.Starts()
		waitFor(t, func() bool { return good.Load() > before+50 })
		if err := syscall.Kill(p.pid(t), syscall.SIGSEGV); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return p.Starts() > starts })
		before = good.Load()
		waitFor(t, func() bool { return good.Load() > before+50 })
	}
	close(stop)
	wg.Wait()
	if bad.Load() == 0 {
		t.Error("no request was refused: the process was not under load")
	}
}

func waitFor(t testing.TB, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.After(5 * time.Second); !holds(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("it does not hold after 5 s")
		}
	}
}

// TestFaultsThatOnlyAnotherProcessMends: a module that ends its process or hangs, or does not
// come back however often it is initialized; and what this process finds out itself, since it verifies.
func TestFaultsThatOnlyAnotherProcessMends(t *testing.T) {
	soft := softhsm.New(t)
	cfg := config(soft)
	m := faultp11.New(t, soft.Module)
	cfg.Module, cfg.Timeout, cfg.Memory, cfg.Sessions = m.Path, 300*time.Millisecond, 512<<20, 4
	p := open(t, cfg)
	s := newSigner(t, p, hsm.Log)
	for name, rules := range map[string][]string{
		"H15 crash in a signature":     {"C_Sign 0 1 crash"},
		"H15 crash in the way back":    {"C_Sign 0 1 rv 0x30", "C_Login 0 1 crash"},
		"H16 hangs":                    {"C_Sign 0 1 hang"},
		"H08 wrong signature":          {"C_Sign 0 1 flip"},
		"H11 sessions end":             {"C_SignInit 0 1 invalidate"},
		"H12 another key":              {"C_SignInit 0 1 swap writ-record"},
		"stays broken in this process": {"C_Sign 0 1 rv 0x30", "C_GetSlotList 0 100000 rv 0x30"},
	} {
		t.Run(name, func(t *testing.T) {
			m.Script(t, rules...)
			var err error
			for n := 0; err == nil && n < 20; n++ {
				_, err = sign(t.Context(), s, statement.Receipt)
			}
			refused(t, err, denial.HSMUnavailable)
			if name == "H16 hangs" || name == "stays broken in this process" { // and in the next one, which counts anew
				starts := p.Starts()
				waitFor(t, func() bool { return p.Starts() > starts })
			}
			m.Script(t)
			healed(t, s, statement.Receipt)
		})
	}
}

// TestH15_StoppedProcessIsReplaced: a process that takes nothing more from its socket holds up nobody, however much it is asked.
func TestH15_StoppedProcessIsReplaced(t *testing.T) {
	p := open(t, config(softhsm.New(t)))
	s := newSigner(t, p, hsm.Record)
	if err := syscall.Kill(p.pid(t), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	capsule, err := statement.Marshal(make([]byte, 1<<20)) // more than the socket holds
	if err != nil {
		t.Fatal(err)
	}
	starts := p.Starts()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			_, err := statement.Sign(t.Context(), s, statement.Capsule, statement.Claims{Issuer: "https://issuer.example", Subject: "urn:example:subject", IssuedAt: 1}, capsule)
			if !denial.Is(err, denial.HSMUnavailable) {
				t.Errorf("got %v, want 903", err)
			}
		})
	}
	wg.Wait()
	waitFor(t, func() bool { return p.Starts() > starts })
	healed(t, s, statement.Record)
}

// TestLeakStaysInTheProcess: a module that takes memory without end gets no more than the limit, and what waits for it is
// served or refused.
func TestLeakStaysInTheProcess(t *testing.T) {
	soft := softhsm.New(t)
	cfg := config(soft)
	m := faultp11.New(t, soft.Module)
	const limit = 512 << 20
	cfg.Module, cfg.Memory, cfg.Sessions = m.Path, limit, 4
	p := open(t, cfg)
	s := newSigner(t, p, hsm.Log)
	m.Script(t, "C_SignInit 0 100000 leak 100")
	for range 20 { // 2000 MiB
		if _, err := sign(t.Context(), s, statement.Receipt); err != nil && !denial.Is(err, denial.HSMUnavailable) {
			t.Errorf("got %v, want a signature or 903", err)
		}
	}
	if data := statusLine(t, p, "VmData"); data > limit>>10 {
		t.Errorf("the process has %d kB of data, want at most %d", data, limit>>10)
	}
	m.Script(t)
	healed(t, s, statement.Receipt)
}

// statusLine reads a number from the status of the signer process.
func statusLine(t testing.TB, p *Process, name string) (n int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid(t)))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "\n"+name+":")
	if _, err := fmt.Sscan(rest, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestH16_LateSignatureIsAnOrphan(t *testing.T) {
	soft := softhsm.New(t)
	cfg := config(soft)
	m := faultp11.New(t, soft.Module)
	cfg.Module = m.Path
	p := open(t, cfg)
	s := newSigner(t, p, hsm.Log)
	m.Script(t, "C_Sign 0 1 sleep 300")
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	_, err := sign(ctx, s, statement.Receipt)
	refused(t, err, denial.HSMUnavailable)
	waitFor(t, func() bool { return p.Orphans() == 1 })
	signs(t, s, statement.Receipt)
}

func TestH13_PINIsTriedOnce(t *testing.T) {
	soft := softhsm.New(t)
	m := faultp11.New(t, soft.Module)
	m.Script(t, "pin-tries 3")
	wrong := config(soft)
	wrong.Module, wrong.PINFile = m.Path, filepath.Join(t.TempDir(), "pin")
	if err := os.WriteFile(wrong.PINFile, []byte("wrong"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, err := Open(t.Context(), wrong)
		refused(t, err, denial.HSMUnavailable)
	}
	if got := m.Calls(t, "C_Login"); got != 1 {
		t.Errorf("got %d logins, want 1", got)
	}
	right := config(soft)
	right.Module, right.RetryPIN = m.Path, true
	p := open(t, right)
	s := newSigner(t, p, hsm.Log)

	// The PIN is changed while it serves: the processes after the first try it once in all.
	good, err := os.ReadFile(soft.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	write := func(pin []byte) {
		if err := os.WriteFile(soft.PINFile, pin, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write([]byte("wrong"))
	before := m.Calls(t, "C_Login")
	if err := syscall.Kill(p.pid(t), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return m.Calls(t, "C_Login") > before })
	write(good)
	<-time.After(3 * longestDelay) // longer than any delay between two attempts: there is none
	_, err = sign(t.Context(), s, statement.Receipt)
	refused(t, err, denial.HSMUnavailable)
	if got := m.Calls(t, "C_Login") - before; got != 1 {
		t.Errorf("got %d logins, want 1: after a wrong PIN a person must act", got)
	}
}

func TestPINFromAPipeOutlivesTheProcess(t *testing.T) {
	soft := softhsm.New(t)
	pin, err := os.ReadFile(soft.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(pin); err != nil {
		t.Fatal(err)
	}
	w.Close()
	cfg := config(soft)
	cfg.PINFile, cfg.PIN = "", r
	p := open(t, cfg)
	s := newSigner(t, p, hsm.Log)
	for range 2 {
		if err := syscall.Kill(p.pid(t), syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		starts := p.Starts()
		waitFor(t, func() bool { return p.Starts() > starts })
		healed(t, s, statement.Receipt)
	}
}

func TestTheProcessIsConfined(t *testing.T) {
	p := open(t, config(softhsm.New(t)))
	dir := filepath.Join("/proc", fmt.Sprint(p.pid(t)))
	status, err := os.ReadFile(filepath.Join(dir, "status"))
	if err != nil {
		t.Fatal(err)
	}
	limits, err := os.ReadFile(filepath.Join(dir, "limits"))
	if err != nil && os.Geteuid() == 0 {
		t.Fatal(err)
	}
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("the status of the process lacks %q", want)
		}
	}
	if err == nil && !strings.Contains(string(limits), "Max core file size        0                    0") {
		t.Errorf("core files are not forbidden: %s", limits)
	}
	info, err := os.Stat(filepath.Join(dir, "environ"))
	if err != nil || info.Sys().(*syscall.Stat_t).Uid != 0 {
		t.Errorf("got %v, %v: the memory of the process is open to its user", info, err)
	}
}

func TestCloseEndsTheProcess(t *testing.T) {
	p := open(t, config(softhsm.New(t)))
	pid := p.pid(t)
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("got %v: the process is still there", err)
	}
	refused(t, p.Healthy(), denial.HSMUnavailable)
	_, err := p.Keys(t.Context())
	refused(t, err, denial.HSMUnavailable)
}

// TestH14_HelpersRunWhileTheProcessSigns: the issuer may start whatever it likes while its signer process signs; that one stays the same,
// and the helpers inherit neither its socket nor the PIN.
func TestH14_HelpersRunWhileTheProcessSigns(t *testing.T) {
	soft := softhsm.New(t)
	cfg := config(soft)
	cfg.PIN, cfg.PINFile = must(os.Open(soft.PINFile))(t), ""
	p := open(t, cfg)
	s := newSigner(t, p, hsm.Log)
	pid := p.pid(t)
	helpers := make(chan error)
	go func() {
		var err error
		for range 100 {
			out, e := exec.Command("ls", "-l", "/proc/self/fd").Output()
			err = errors.Join(err, e)
			if strings.Contains(string(out), "socket:") || strings.Contains(string(out), "pin") {
				err = errors.Join(err, fmt.Errorf("a helper inherits: %s", out))
			}
		}
		helpers <- err
	}()
	for signatures := 0; ; signatures++ {
		select {
		case err := <-helpers:
			if err != nil {
				t.Fatal(err)
			}
			if signatures < 100 || p.pid(t) != pid || p.Starts() != 1 || p.Orphans() != 0 {
				t.Errorf("got %d signatures beside 100 helpers, %d starts, %d orphans", signatures, p.Starts(), p.Orphans())
			}
			return
		default:
			signs(t, s, statement.Receipt)
		}
	}
}

func must[T any](v T, err error) func(testing.TB) T { return stock.Must(v, err) }
