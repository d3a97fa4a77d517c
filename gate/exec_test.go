package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
)

// report is what the child tells of itself.
type report struct {
	Argv   []string
	Env    []string
	Dir    string
	Files  map[string]string
	Stdin  int
	Status map[string]string
}

func (r *rig) reports(cmd Command) report {
	r.tb.Helper()
	var rep report
	if err := json.Unmarshal([]byte(r.runs(cmd, 0)), &rep); err != nil {
		r.tb.Fatal(err)
	}
	return rep
}

func TestX01_NothingRunsWithoutAnArtifact(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	path, ran := r.mark()
	out := r.refuses(Command{Path: r.child, Args: []string{"mark", path}}, denial.NoArtifact)
	if ran() {
		t.Error("the program ran")
	}
	if !out.Logged || out.Index == 0 || out.Denied.Stage != denial.StagePresent {
		t.Errorf("the denial is not in the log: %+v", out)
	}
	if got := r.records(); got[len(got)-1].Reasons[0] != 101 {
		t.Errorf("the log ends with %+v, want the denial 101", got[len(got)-1])
	}
	// With an artifact the very same command runs: it was the artifact that was missing.
	r.runs(r.command("mark", path), 0)
	if !ran() {
		t.Error("the program did not run with an artifact")
	}
}

// changed returns the child with other bytes, which say so when they run.
func changed(tb testing.TB) []byte {
	tb.Helper()
	genuine := string(childProgram(tb))
	if strings.Count(genuine, "GENUINE-PROGRAM") != 1 {
		tb.Fatal("the banner does not stand once in the child")
	}
	return []byte(strings.Replace(genuine, "GENUINE-PROGRAM", "CHANGED-PROGRAM", 1))
}

// besiege runs the child again and again while attack changes the file at its path, and returns how often it ran.
func (r *rig) besiege(times int, attack func(i int)) (ran int) {
	r.tb.Helper()
	stop, stopped := make(chan struct{}), make(chan struct{})
	raw, cnf := r.mint(permit{scope: artifact.Scope{file(r.tb, r.child, nil, nil)}, uses: 100})
	cmd := Command{Artifact: raw, CNF: cnf, Path: r.child, Args: []string{"who"}}
	go func() {
		defer close(stopped)
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			default:
				attack(i)
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	for range times {
		out, text := r.exec(cmd)
		switch {
		case out.Started && text == "GENUINE-PROGRAM\n":
			ran++
		case out.Started || text != "":
			r.tb.Fatalf("other bytes ran: %q", text)
		case !denial.Is(out.Denied, denial.CodeDigestMismatch) && !denial.Is(out.Denied, denial.CodeMutated):
			r.tb.Fatalf("got %v, want the genuine program, 616 or 617", out.Denied)
		}
	}
	return ran
}

func TestX02_SwappedFileNeverRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	dir := filepath.Dir(r.child)
	attack := func(i int) {
		name, data := filepath.Join(dir, "new"), childProgram(t)
		if i%2 == 0 {
			data = changed(t)
		}
		if os.WriteFile(name, data, 0o700) == nil {
			_ = os.Rename(name, r.child)
		}
	}
	ran := r.besiege(100, attack)
	t.Logf("the genuine program ran %d of 100 times", ran)
}

func TestX03_OverwrittenFileNeverRuns(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	at := int64(strings.Index(string(childProgram(t)), "GENUINE-PROGRAM"))
	f := must(os.OpenFile(r.child, os.O_WRONLY, 0))(t)
	defer f.Close()
	ran := r.besiege(100, func(i int) {
		text := "GENUINE"
		if i%2 == 0 {
			text = "CHANGED"
		}
		_, _ = f.WriteAt([]byte(text), at)
	})
	t.Logf("the genuine program ran %d of 100 times", ran)
}

// The same, at the one moment that counts: everything is checked, and nothing runs yet.
func TestX02_X03_FileChangedBetweenCheckAndRun(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	for name, attack := range map[string]func() error{
		"renamed": func() error {
			return os.Rename(r.program("other", changed(t)), r.child)
		},
		"overwritten": func() error { return os.WriteFile(r.child, changed(t), 0o700) },
		"removed":     func() error { return os.Remove(r.child) },
	} {
		r.child = r.program("child", childProgram(t))
		cmd := r.command("who")
		r.line.onRecord(func(_ context.Context, _ []byte, pass func() ([]byte, error)) ([]byte, error) {
			if err := attack(); err != nil && !os.IsNotExist(err) {
				t.Error(err)
			}
			return pass()
		})
		if text := r.runs(cmd, 0); text != "GENUINE-PROGRAM\n" {
			t.Errorf("%s: %q ran", name, text)
		}
		r.line.onRecord(nil)
	}
}

func TestX04_OnlyRegularFilesWithoutLinks(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	dir := filepath.Dir(r.child)
	link := func(name, to string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(to, path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o700); err != nil {
		t.Fatal(err)
	}
	big := r.program("big", nil)
	if err := os.Truncate(big, MaxProgram+1); err != nil {
		t.Fatal(err)
	}
	held := must(os.Open(r.child))(t)
	defer held.Close()
	for name, path := range map[string]string{
		"symlink":                  link("link", r.child),
		"symlink in the middle":    filepath.Join(link("dir", dir), "child"),
		"magic link to a file":     fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), held.Fd()),
		"magic link to the root":   fmt.Sprintf("/proc/%d/root%s", os.Getpid(), r.child),
		"the gate's own program":   "/proc/self/exe",
		"FIFO":                     fifo,
		"directory":                dir,
		"device":                   "/dev/zero",
		"nothing there":            filepath.Join(dir, "absent"),
		"more than may be":         big,
		"file in place of its dir": filepath.Join(r.child, "child"),
	} {
		scope := file(t, r.child, nil, nil)
		scope.Target = "file:" + path
		out := r.refuses(r.commandFor(permit{scope: artifact.Scope{scope}}, path, "exit", "0"), denial.CodeDigestMismatch)
		if out.Denied != nil && out.Denied.Stage != denial.StageScope {
			t.Errorf("%s: refused at %s", name, out.Denied.Stage)
		}
	}
	for _, path := range []string{"child", "./child", dir + "/../" + filepath.Base(dir) + "/child", dir + "//child", ""} {
		cmd := r.command("exit", "0")
		cmd.Path = path
		r.refuses(cmd, denial.ScopeDenied)
		if _, err := load(path); !denial.Is(err, denial.CodeDigestMismatch) {
			t.Errorf("loading %q: got %v, want 616", path, err)
		}
	}
}

var dangerous = []string{"LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "GCONV_PATH", "PYTHONPATH", "PYTHONSTARTUP", "NODE_OPTIONS", "GODEBUG",
	"PERL5LIB", "RUBYOPT", "BASH_ENV", "ENV", "JAVA_TOOL_OPTIONS", "GIT_SSH_COMMAND", "OPENSSL_CONF", "GLIBC_TUNABLES", "IFS"}

func TestX05_OnlyTheScopesVariablesPass(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	var env []string
	for _, name := range dangerous {
		env = append(env, name+"=/tmp/evil.so")
	}
	env = append(env, "LANG=C", "MODE=batch", "SECRET=1", "MODERN=1", "=x", "MODE")
	scope := func(c *artifact.Constraints) permit {
		return permit{scope: artifact.Scope{file(t, r.child, nil, c)}}
	}
	cmd := r.commandFor(scope(&artifact.Constraints{Env: []string{"LANG", "MODE"}}), r.child, "report")
	cmd.Env = env
	if got, want := r.reports(cmd).Env, []string{"LANG=C", "MODE=batch"}; !slices.Equal(got, want) {
		t.Errorf("the program's environment is %q, want %q", got, want)
	}
	cmd = r.command("report")
	cmd.Env = env
	if got := r.reports(cmd).Env; len(got) != 0 {
		t.Errorf("the program's environment is %q, want none", got)
	}
	for _, name := range dangerous {
		if got := allowed(env, []string{name}); len(got) != 0 {
			t.Errorf("%s passes if a scope names it: %q", name, got)
		}
		c := artifact.Scope{file(t, r.child, nil, &artifact.Constraints{Env: []string{name}})}
		if err := c.Check(); !denial.Is(err, denial.LoaderInjection) {
			t.Errorf("a scope that asks for %s: got %v, want 618", name, err)
		}
	}
}

func TestX07_InterpreterToldToRunOtherCode(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	python := r.program("python3", childProgram(t)) // known as an interpreter by its name
	for _, args := range [][]string{{"-c", "print(1)"}, {"-m", "http.server"}, {"-"}, {}} {
		cmd := r.commandFor(permit{scope: artifact.Scope{file(t, python, args, nil)}}, python, args...)
		r.refuses(cmd, denial.InterpreterUngoverned)
	}
	// Pinned arguments are not enough: the file that they name would be read after the checks.
	args := []string{"exit", "5"}
	for _, program := range []string{python, r.program("timeout", childProgram(t))} {
		r.refuses(r.commandFor(permit{scope: artifact.Scope{file(t, program, args, nil)}}, program, args...), denial.InterpreterUngoverned)
	}
}

func TestX08_LoaderIsNeverATarget(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	loader := r.program("ld-linux-x86-64.so.2", childProgram(t))
	scope := artifact.Scope{file(t, loader, []string{r.child}, nil)}
	if err := scope.Check(); !denial.Is(err, denial.InterpreterUngoverned) {
		t.Errorf("a scope with a loader: got %v, want 619", err)
	}
	cmd := r.command(r.child)
	cmd.Path = loader
	r.refuses(cmd, denial.ScopeDenied)
}

func TestX09_ArgumentsAreThosePinned(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	pinned := func(args ...string) Command {
		return r.commandFor(permit{scope: artifact.Scope{file(t, r.child, []string{"exit", "3"}, nil)}}, r.child, args...)
	}
	for _, args := range [][]string{{"exit", "3", "more"}, {"exit"}, {}, {"exit", "4"}, {"exit 3"}} {
		r.refuses(pinned(args...), denial.ScopeDenied)
	}
	r.runs(pinned("exit", "3"), 3)
}

func TestX09_SurroundingsAreFixed(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	// A descriptor that the gate's own parent left open, and did not mark close-on-exec.
	leak := must(unix.Open(r.child, unix.O_RDONLY, 0))(t)
	defer unix.Close(leak)
	var before report
	if err := json.Unmarshal(must(exec.Command(r.child, "report").Output())(t), &before); err != nil {
		t.Fatal(err)
	}
	unconfined := before.Status["NoNewPrivs"]
	cmd := r.command("report", "", "argument")
	rep := r.reports(cmd)
	if !slices.Equal(rep.Argv, []string{r.child, "report", "", "argument"}) {
		t.Errorf("argv is %q", rep.Argv)
	}
	if rep.Dir != "/" || rep.Stdin != 0 || rep.Files["0"] != "/dev/null" {
		t.Errorf("directory %q, %d bytes on standard input %q", rep.Dir, rep.Stdin, rep.Files["0"])
	}
	for fd, to := range rep.Files { // without those that the child's own runtime opens
		if strings.HasPrefix(to, "/sys/fs/cgroup/") || to == "anon_inode:[eventpoll]" || to == "anon_inode:[eventfd]" {
			delete(rep.Files, fd)
		}
	}
	if len(rep.Files) != 3 {
		t.Errorf("the program has the descriptors %v, want 0 to 2", rep.Files)
	}
	if rep.Status["NoNewPrivs"] != "1" {
		t.Errorf("no_new_privs is %q", rep.Status["NoNewPrivs"])
	}
	var plain report // what else this process starts is not confined
	if err := json.Unmarshal(must(exec.Command(r.child, "report").Output())(t), &plain); err != nil || plain.Status["NoNewPrivs"] != unconfined {
		t.Errorf("no_new_privs of another child is %q, want %q (%v)", plain.Status["NoNewPrivs"], unconfined, err)
	}

	dir := must(filepath.EvalSymlinks(t.TempDir()))(t)
	cmd = r.commandFor(permit{scope: artifact.Scope{file(t, r.child, nil, &artifact.Constraints{Directory: dir})}}, r.child, "report")
	if rep := r.reports(cmd); rep.Dir != dir {
		t.Errorf("the directory is %q, want %q", rep.Dir, dir)
	}

	// Without files for output there is /dev/null, not a hole that the first file of the program falls into.
	path, _ := r.mark()
	cmd = r.command("report", path)
	if out := must(r.gate.Exec(t.Context(), cmd))(t); out.Status != 0 {
		t.Fatalf("got %+v", out)
	}
	if err := json.Unmarshal(must(os.ReadFile(path))(t), &rep); err != nil {
		t.Fatal(err)
	}
	if rep.Files["1"] != "/dev/null" || rep.Files["2"] != "/dev/null" {
		t.Errorf("descriptors without output: %v", rep.Files)
	}
}
