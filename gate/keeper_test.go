package gate

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/need"
)

// gone checks that nobody holds the other end of a pipe any more: every process of a run has it as its standard output.
func gone(tb testing.TB, read *os.File) {
	tb.Helper()
	if err := read.SetReadDeadline(time.Now().Add(time.Minute)); err != nil { // for the test to fail in time
		tb.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, read); err != nil {
		tb.Errorf("something of the program goes on: %v", err)
	}
}

// withGrace gives programs of the rig only so long to end.
func (r *rig) withGrace(d time.Duration, cgroup string) {
	r.tb.Helper()
	o := r.options()
	o.keep.grace, o.Cgroup = d, cgroup
	r.gate = must(Open(r.tb.Context(), o))(r.tb)
}

// cgroups returns a directory of control groups for the test, where this host lets it have one.
func cgroups(tb testing.TB) string {
	tb.Helper()
	own := must(ownCgroup())(tb)
	dir, err := os.MkdirTemp(own, "gate-test-")
	if err != nil {
		need.Missing(tb, "no control group is delegated to this user: %v: run the tests as root", err)
	}
	tb.Cleanup(func() { removeCgroup(dir) })
	return dir
}

// both runs a test without control groups and with.
func both(t *testing.T, f func(t *testing.T, r *rig, cgroup string)) {
	for _, name := range []string{"keeper alone", "control group"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cgroup := ""
			if name == "control group" {
				cgroup = cgroups(t)
			}
			r := newRig(t, newWorld(t), "a")
			f(t, r, cgroup)
			if cgroup != "" {
				if left := must(filepath.Glob(filepath.Join(cgroup, "*", "cgroup.procs")))(t); len(left) != 0 {
					t.Errorf("control groups are left: %q", left)
				}
			}
		})
	}
}

// A double fork into a session of its own leads out of no run.
func TestX17_NothingOutlivesItsProgram(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, r *rig, cgroup string) {
		r.withGrace(grace, cgroup)
		read, write := pipe(t)
		cmd := r.command("leave")
		cmd.Stdout = write
		out := must(r.gate.Exec(t.Context(), cmd))(t)
		write.Close()
		if !out.Started || out.Status != 0 || out.Left != 1 {
			t.Errorf("got %+v, want a run that left one process behind", out)
		}
		gone(t, read)
		all := r.records()
		if end := all[len(all)-1]; end.Execution.Left != 1 {
			t.Errorf("the end record does not tell of what was left: %+v", end.Execution)
		}
	})
}

func TestX16_X17_LeaseEndsAllOfARun(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, r *rig, cgroup string) {
		r.withGrace(50*time.Millisecond, cgroup)
		p := permit{lifetime: 300, scope: artifact.Scope{file(t, r.child, nil, nil)}}
		wait, read := r.beginReading(t.Context(), r.commandFor(p, r.child, "wait", "leaving"))
		r.uptime.advance(301 * time.Second)
		if out := wait(); !denial.Is(out.Ended, denial.Expired) {
			t.Errorf("got %+v", out)
		}
		gone(t, read)
	})
}

// A keeper that is killed takes the program with it, and in a control group everything.
func TestX18_ProgramDiesWithItsKeeper(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, r *rig, cgroup string) {
		r.withGrace(grace, cgroup)
		args := []string{"wait"}
		if cgroup != "" {
			args = append(args, "leaving")
		}
		wait, read := r.beginReading(t.Context(), r.command(args...))
		if err := syscall.Kill(r.keeper, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if out := wait(); out.Status != 255 || out.Ended != nil {
			t.Errorf("got %+v, want a program of which it cannot be known how it ended", out)
		}
		gone(t, read)
	})
}

// What a killed gate and a killed keeper leave in a control group does not outlive the next start.
func TestX18_AbandonedControlGroupIsEnded(t *testing.T) {
	t.Parallel()
	base := cgroups(t)
	kept, abandoned := must(newCgroup(base))(t), must(newCgroup(base))(t)
	read, write := pipe(t)
	p, err := os.StartProcess(child.get(t).path, []string{"child", "linger"}, &os.ProcAttr{Files: []*os.File{nil, write, nil, nil},
		Sys: &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(abandoned.dir.Fd())}})
	if err != nil {
		t.Fatal(err)
	}
	write.Close()
	abandoned.dir.Close()
	must(newCgroup(base))(t).end()
	gone(t, read)
	must(p.Wait())(t)
	if _, err := os.Stat(abandoned.path); !os.IsNotExist(err) {
		t.Errorf("the abandoned control group is there: %v", err)
	}
	if _, err := os.Stat(kept.path); err != nil {
		t.Errorf("a control group that is kept was ended: %v", err)
	}
	kept.end()
}

func TestNoControlGroupNoRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	path, ran := r.mark()
	for _, base := range []string{t.TempDir(), "/no/such/directory"} {
		r.withGrace(grace, base)
		if r.refuses(r.command("mark", path), denial.Internal); ran() {
			t.Errorf("%s: the program ran outside of a control group", base)
		}
	}
}

// A keeper that may open no file finds nothing to kill, and one without processor time is killed itself: no program sets their limits.
func TestX16_X17_X18_LimitsAreKeptIn(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	r.withGrace(50*time.Millisecond, "")
	cmd := r.command("disarm")
	said, stderr := pipe(t)
	cmd.Stderr = stderr
	wait, read := r.beginReading(t.Context(), cmd)
	stderr.Close()
	r.uptime.advance(301 * time.Second)
	if out := wait(); !denial.Is(out.Ended, denial.Expired) {
		t.Errorf("got %+v", out)
	}
	gone(t, read)
	if text := must(io.ReadAll(said))(t); len(text) != 0 {
		t.Errorf("%s", text)
	}
}

// A stopped keeper would end nothing of what is in another session.
func TestX16_TerminalStopsNoKeeper(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	wait := r.begin(t.Context(), r.waiting(permit{lifetime: 300}))
	status := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/status", r.keeper)))(t))
	_, ignored, _ := strings.Cut(status, "SigIgn:")
	ignored, _, _ = strings.Cut(ignored, "\n")
	if mask := must(strconv.ParseUint(strings.TrimSpace(ignored), 16, 64))(t); mask&(1<<(syscall.SIGTSTP-1)) == 0 {
		t.Errorf("SIGTSTP stops the keeper; it ignores %x", mask)
	}
	r.uptime.advance(301 * time.Second)
	r.ended(wait(), denial.Expired)
}

// A program has no way to be rid of its keeper or gate by a signal.
func TestX17_X18_SignalsAreKeptIn(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	if version, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION); errno != 0 || version < landlockSignals {
		r.runs(r.command("exit", "0"), 0) // a kernel that cannot do that is let be, and the attempt would end this test
		return
	}
	if got := r.runs(r.command("assail"), 0); got != "" {
		t.Error(got)
	}
}

// Who is not the process that started a keeper has nothing run by it, as through a sudo that lets him call the gate.
func TestKeeperHeedsItsParentOnly(t *testing.T) {
	t.Parallel()
	p := must(loadBytes(t, childProgram(t)))(t)
	path := kept(t).executable
	for _, row := range []struct {
		name string
		cmd  *exec.Cmd
		runs bool
	}{
		{"its parent", exec.Command(path, modeKeep), true},
		{"its parent's parent", exec.Command("/bin/sh", "-c", `"$0" "$1"; true`, path, modeKeep), false},
		{"another's parent, of what becomes the program", exec.Command("/bin/sh", "-c", `"$0" "$1"; true`, path, modeBecome), false},
	} {
		mark := filepath.Join(t.TempDir(), "mark")
		ours, theirs, err := connection()
		if err != nil {
			t.Fatal(err)
		}
		row.cmd.ExtraFiles = []*os.File{nil, theirs, p.file}
		if err := gob.NewEncoder(ours).Encode(errand{Argv: []string{"child", "mark", mark}, Dir: "/"}); err != nil {
			t.Fatal(err)
		}
		if err := row.cmd.Start(); err != nil {
			t.Fatal(err)
		}
		theirs.Close()
		if _, err := io.Copy(io.Discard, ours); err != nil && !errors.Is(err, unix.ECONNRESET) {
			t.Error(err)
		}
		ours.Close()
		_ = row.cmd.Wait() // with the status of misuse
		if _, err := os.Stat(mark); (err == nil) != row.runs {
			t.Errorf("%s: ran: %v, want %v", row.name, err == nil, row.runs)
		}
	}
	if out, err := exec.Command(path, modeKeep).CombinedOutput(); err == nil || !strings.Contains(string(out), "not for people") {
		t.Errorf("a keeper without a gate: %v, %q", err, out)
	}
}
