package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/denial"
)

// often returns a command under an artifact with so many uses.
func (r *rig) often(uses uint64, args ...string) Command {
	r.tb.Helper()
	return r.commandFor(permit{scope: artifact.Scope{file(r.tb, r.child, nil, nil)}, uses: uses}, r.child, args...)
}

func TestX12_ArtifactIsUsedOnce(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	cmd := r.command("exit", "0")
	r.runs(cmd, 0)
	r.refuses(cmd, denial.ArtifactReplayed)
	r.reopen()
	if out := r.refuses(cmd, denial.ArtifactReplayed); out.Denied.Stage != denial.StageUses || !out.Logged {
		t.Errorf("got %+v", out)
	}
	if got, want := r.story(gateURI+"a"), []string{"start 1", "end 0", "504", "504"}; !slices.Equal(got, want) {
		t.Errorf("the log tells %q, want %q", got, want)
	}
}

func TestX12_ThreeUsesAndNoFourth(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	cmd := r.often(3, "exit", "0")
	for range 3 {
		r.runs(cmd, 0)
	}
	r.refuses(cmd, denial.UseCountExceeded)
	if got, want := r.story(gateURI+"a"), []string{"start 1", "end 0", "start 2", "end 0", "start 3", "end 0", "505"}; !slices.Equal(got, want) {
		t.Errorf("the log tells %q, want %q", got, want)
	}
}

func TestX12_ParallelRunsShareTheUses(t *testing.T) {
	t.Parallel()
	for uses, want := range map[uint64]denial.Reason{1: denial.ArtifactReplayed, 3: denial.UseCountExceeded} {
		r := newRig(t, newWorld(t), "a")
		cmd := r.often(uses, "exit", "0")
		gates := []*Gate{r.gate, must(Open(t.Context(), r.options()))(t)} // as two processes
		var wg sync.WaitGroup
		var mu sync.Mutex
		var ran uint64
		for i := range 20 {
			wg.Go(func() {
				out, err := gates[i%2].Exec(context.Background(), cmd)
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err != nil:
					t.Error(err)
				case out.Started:
					ran++
				case !denial.Is(out.Denied, want):
					t.Errorf("got %v, want %s", out.Denied, want)
				}
			})
		}
		wg.Wait()
		if ran != uses {
			t.Errorf("an artifact for %d uses ran %d times", uses, ran)
		}
		if got := r.story(gateURI + "a"); len(got) != 20+int(uses) {
			t.Errorf("the log tells of %d things, want %d", len(got), 20+uses)
		}
	}
}

// keep copies the state directory, and returns a function that puts the copy in its place: all of it, or some files.
func (r *rig) keep() (restore func(names ...string)) {
	r.tb.Helper()
	copied := map[string][]byte{}
	for _, name := range []string{keyFile, usesFile, chainFile} {
		copied[name] = must(os.ReadFile(filepath.Join(r.state, name)))(r.tb)
	}
	return func(names ...string) {
		r.tb.Helper()
		for name, data := range copied {
			if len(names) == 0 || slices.Contains(names, name) {
				edit(r.tb, filepath.Join(r.state, name), func([]byte) []byte { return data })
			}
		}
	}
}

func TestStateThatIsNotItsOwnOpensNoGate(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	for name, replace := range map[string]func(path, kept string) error{
		"a FIFO":                    func(path, _ string) error { return unix.Mkfifo(path, 0o600) },
		"a symbolic link":           func(path, kept string) error { return os.Symlink(kept, path) },
		"a directory":               func(path, _ string) error { return os.Mkdir(path, 0o700) },
		"what others can write":     func(path, kept string) error { return errors.Join(os.Link(kept, path), os.Chmod(path, 0o602)) },
		"what the group can write":  func(path, kept string) error { return errors.Join(os.Link(kept, path), os.Chmod(path, 0o620)) },
		"another user's, if we may": func(path, kept string) error { return errors.Join(os.Link(kept, path), chown(path)) },
	} {
		for _, file := range []string{usesFile, keysFile} { // which opening reads not
			path := filepath.Join(r.state, file)
			kept := path + ".kept"
			if err := errors.Join(os.Rename(path, kept), replace(path, kept)); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(t.Context(), r.options()); err == nil || !strings.Contains(err.Error(), "must be a regular file") {
				t.Errorf("%s in place of %s: got %v", name, file, err)
			}
			if err := errors.Join(os.Remove(path), os.Chmod(kept, 0o600), os.Chown(kept, os.Geteuid(), -1), os.Rename(kept, path)); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.reopen()
}

// chown gives a file to another user, or where this one may not to everybody.
func chown(path string) error {
	if os.Geteuid() != 0 {
		return os.Chmod(path, 0o602)
	}
	return os.Chown(path, 65534, -1)
}

func TestX13_StateThatIsGone(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	cmd := r.command("exit", "0")
	r.runs(cmd, 0)
	restore := r.keep()
	for _, name := range []string{keyFile, usesFile, chainFile} {
		if err := os.Remove(filepath.Join(r.state, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(t.Context(), r.options()); !denial.Is(err, denial.StateRollback) {
			t.Errorf("opening without %s: got %v, want 508", name, err)
		}
		if name != keyFile { // an open gate holds its key
			r.refuses(r.command("exit", "0"), denial.StateRollback)
		}
		if err := os.WriteFile(filepath.Join(r.state, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		restore()
		r.reopen()
	}
	r.state += "-gone"
	if _, err := Open(t.Context(), r.options()); !denial.Is(err, denial.StateRollback) {
		t.Errorf("opening without a directory: got %v, want 508", err)
	}
}

func TestX13_StateThatIsOlder(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	cmd := r.command("exit", "0")
	restore := r.keep()
	r.runs(cmd, 0)

	restore(usesFile) // the gate has forgotten the use; the issuer has not
	if out := r.refuses(cmd, denial.ArtifactReplayed); out.Denied.Stage != denial.StageStartRecord {
		t.Errorf("refused at %s, want the start record", out.Denied.Stage)
	}
	r.runs(r.command("exit", "0"), 0) // and the chain goes on

	edit(t, filepath.Join(r.state, usesFile), func([]byte) []byte { return nil })
	r.refuses(cmd, denial.ArtifactReplayed)

	newer := r.keep()
	restore(chainFile)
	if out := r.refuses(r.command("exit", "0"), denial.StateRollback); out.Denied.Stage != denial.StageStartRecord || out.Logged {
		t.Errorf("an older chain: got %+v, want 508 at the start record, and no receipt for it", out)
	}
	restore()
	r.refuses(cmd, denial.StateRollback)
	newer()
	r.runs(r.command("exit", "0"), 0)
}

func TestX13_StateThatIsDamaged(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	cmd := r.often(3, "exit", "0")
	r.runs(cmd, 0)
	r.runs(cmd, 0)
	restore := r.keep()
	journal := must(os.ReadFile(r.gate.state.path(usesFile)))(t)
	for name, change := range map[string]func([]byte) []byte{
		"digit":         func(b []byte) []byte { return bytes.Replace(b, []byte(" 1 "), []byte(" 9 "), 1) },
		"id":            func(b []byte) []byte { b[0] ^= 1; return b },
		"checksum":      func(b []byte) []byte { b[len(b)-2] ^= 1; return b },
		"blank line":    func(b []byte) []byte { return append([]byte("\n"), b...) },
		"joined lines":  func(b []byte) []byte { return bytes.Replace(b, []byte("\n"), []byte(" "), 1) },
		"carriage":      func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n")) },
		"extra field":   func(b []byte) []byte { return bytes.Replace(b, []byte("\n"), []byte(" 1\n"), 1) },
		"leading zero":  func(b []byte) []byte { return bytes.Replace(b, []byte(" 1 "), []byte(" 01 "), 1) },
		"other content": func(b []byte) []byte { return bytes.Repeat([]byte("x\n"), 3) },
	} {
		edit(t, r.gate.state.path(usesFile), change)
		if out := r.refuses(cmd, denial.StateRollback); out.Denied.Stage != denial.StageUses {
			t.Errorf("%s: refused at %s", name, out.Denied.Stage)
		}
		edit(t, r.gate.state.path(usesFile), func([]byte) []byte { return journal })
	}
	restore() // before: the denials of the table have moved the chain
	chainNow := must(os.ReadFile(r.gate.state.path(chainFile)))(t)
	for i := 0; i < len(chainNow); i += 7 {
		edit(t, r.gate.state.path(chainFile), func(b []byte) []byte { b[i] ^= 0x10; return b })
		if _, err := Open(t.Context(), r.options()); !denial.Is(err, denial.StateRollback) {
			t.Errorf("byte %d of the chain changed: got %v, want 508", i, err)
		}
		edit(t, r.gate.state.path(chainFile), func([]byte) []byte { return chainNow })
	}
	for _, n := range []int{0, 1, 31, 32, len(chainNow) - 1} {
		edit(t, r.gate.state.path(chainFile), func(b []byte) []byte { return b[:n] })
		if _, err := Open(t.Context(), r.options()); !denial.Is(err, denial.StateRollback) {
			t.Errorf("the chain cut after %d bytes: got %v, want 508", n, err)
		}
		edit(t, r.gate.state.path(chainFile), func([]byte) []byte { return chainNow })
	}
}

func TestX13_TornLineIsDropped(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	cmd := r.often(3, "exit", "0")
	r.runs(cmd, 0)
	whole := must(os.ReadFile(r.gate.state.path(usesFile)))(t)
	second := spent{cti: strings.Fields(string(whole))[0], n: 2, expires: 1}.line()
	for n := range len(second) { // the power fails while the second use is written
		edit(t, r.gate.state.path(usesFile), func([]byte) []byte { return append(bytes.Clone(whole), second[:n]...) })
		uses, err := r.gate.state.readJournal(r.clock.now())
		if err != nil || len(uses) != 1 {
			t.Fatalf("after %d bytes of a line: %d uses, %v", n, len(uses), err)
		}
		if got := must(os.ReadFile(r.gate.state.path(usesFile)))(t); !bytes.Equal(got, whole) {
			t.Fatalf("after %d bytes of a line the journal is %q", n, got)
		}
	}
	r.runs(cmd, 0)
	r.runs(cmd, 0)
	r.refuses(cmd, denial.UseCountExceeded)
}

func TestStateOfOthersIsAFault(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	if err := os.Chmod(r.state, 0o770); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), r.options()); err == nil {
		t.Error("a state directory that others can write to was opened")
	}
	if err := os.Chmod(r.state, 0o700); err != nil {
		t.Fatal(err)
	}
	r.reopen()
	key := must(os.ReadFile(r.gate.state.path(keyFile)))(t)
	if len(key) == 0 {
		t.Fatal("no gate key")
	}
	if err := Init(r.state, must(attester.ReadKey(r.gate.state.path(keyFile)))(t)); err == nil {
		t.Error("Init replaced the state of a gate")
	}
	if again := must(os.ReadFile(r.gate.state.path(keyFile)))(t); !bytes.Equal(key, again) {
		t.Error("Init replaced the key of a gate")
	}
}

func TestOpenWithoutWhatItNeeds(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	for name, change := range map[string]func(*Options){
		"trust":    func(o *Options) { o.Trust = nil },
		"audience": func(o *Options) { o.Audience = "" },
		"issuer":   func(o *Options) { o.Issuer = nil },
		"TPM":      func(o *Options) { o.TPM = nil },
	} {
		o := r.options()
		change(&o)
		if _, err := Open(t.Context(), o); err == nil {
			t.Errorf("a gate was opened without %s", name)
		}
	}
	other := newRig(t, newWorld(t), "a")
	o := r.options()
	o.TPM = other.tpm
	if _, err := Open(t.Context(), o); !denial.Is(err, denial.HostMismatch) {
		t.Errorf("with the TPM of another host: got %v, want 701", err)
	}
}

// newState returns a state directory with an empty journal.
func newState(tb testing.TB) *state {
	tb.Helper()
	s := &state{tb.TempDir()}
	if err := s.replace(usesFile, nil); err != nil {
		tb.Fatal(err)
	}
	return s
}

func TestJournalDoesNotGrowForEver(t *testing.T) {
	t.Parallel()
	s := newState(t)
	now := time.Unix(1_800_000_000, 0)
	lines := func(from, n int, expires time.Time) (text string) {
		for i := range n {
			text += spent{cti: fmt.Sprintf("%032x", from+i), n: 1, expires: uint64(expires.Unix())}.line()
		}
		return text
	}
	const day = 24 * time.Hour
	old := lines(0, 9000, now.Add(-day-time.Second))
	kept := lines(20_000, 5000, now.Add(-day))
	live := lines(30_000, 3000, now.Add(time.Hour))
	if len(old)+len(kept)+len(live) < maxJournal || len(old) < len(kept)+len(live) {
		t.Fatal("the journal of the test is too small")
	}
	if err := s.replace(usesFile, []byte(kept+old+live)); err != nil {
		t.Fatal(err)
	}
	n, err := s.consume([]byte{1}, uint64(now.Unix())+60, 1, now)
	if n != 1 || err != nil {
		t.Fatalf("got use %d, %v", n, err)
	}
	want := kept + live + spent{"01", 1, uint64(now.Unix()) + 60}.line()
	if got := string(must(os.ReadFile(s.path(usesFile)))(t)); got != want {
		t.Errorf("the journal has %d bytes, want %d", len(got), len(want))
	}
	// What is still live is still spent, and is not rewritten over and over.
	before := must(os.Stat(s.path(usesFile)))(t)
	if n, err := s.consume([]byte{2}, 0, 0, now); n != 1 || err != nil {
		t.Fatalf("got use %d, %v", n, err)
	}
	if after := must(os.Stat(s.path(usesFile)))(t); !os.SameFile(before, after) {
		t.Error("a journal with nothing to drop was rewritten")
	}
	// Below the limit nothing is dropped, however old.
	if err := s.replace(usesFile, []byte(lines(0, 10, now.AddDate(-1, 0, 0)))); err != nil {
		t.Fatal(err)
	}
	if uses, err := s.readJournal(now); len(uses) != 10 || err != nil {
		t.Errorf("%d uses, %v", len(uses), err)
	}
}

func TestJournalThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	s := newState(t)
	if err := os.Remove(s.path(usesFile)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", s.path(usesFile)); err != nil {
		t.Fatal(err)
	}
	if err := s.append(spent{"01", 1, 1}); !denial.Is(err, denial.StoreFault) {
		t.Errorf("on a full disk: got %v, want 906", err)
	}
}

func FuzzJournal(f *testing.F) {
	f.Add(spent{"00ff", 1, 1_800_000_000}.line())
	f.Add("00ff 1 1\n")
	f.Add(" \n")
	f.Fuzz(func(t *testing.T, line string) {
		if u, err := parseSpent(line); err == nil && u.line() != line {
			t.Errorf("%q reads as %+v, which is written %q", line, u, u.line())
		}
	})
}

func FuzzShebang(f *testing.F) {
	f.Add([]byte("#!/bin/sh -e\necho\n"))
	f.Add([]byte("#!\t/bin/sh\t\n"))
	f.Add([]byte("#!"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := loadBytes(t, data)
		if err != nil {
			t.Fatal(err)
		}
		interpreter, option, ok, err := p.shebang()
		switch {
		case !ok && (interpreter != "" || option != ""):
			t.Error("something was found in what is no script")
		case ok != (err == nil && bytes.HasPrefix(data, []byte("#!"))):
			t.Errorf("a script: %v, %v", ok, err)
		case ok && strings.ContainsAny(interpreter, " \t\n"), ok && strings.Contains(option, "\n"):
			t.Errorf("interpreter %q, option %q", interpreter, option)
		}
	})
}

// What is larger than anything that may be presented is denied as that, and the denial is logged, whatever it is.
func TestPresentedMoreThanMayBe(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	for _, first := range []byte{0xd2, 0xa0} { // as an artifact begins, and as a break-glass file does
		raw := make([]byte, artifact.MaxPresented+1)
		raw[0] = first
		if out := r.refuses(Command{Artifact: raw, Path: r.child}, denial.StructureLimit); !out.Logged {
			t.Errorf("%x: the denial is not logged", first)
		}
	}
}
