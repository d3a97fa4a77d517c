package gate

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
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

// A load, a hash and a run without an issuer in between, as often as the table says.
func TestX02_LoadedBytesAreThoseThatRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(must(filepath.EvalSymlinks(dir))(t), "child")
	genuine, other := childProgram(t), changed(t)
	want := artifact.SHA256Digest(must(loadBytes(t, genuine))(t).digest)
	if err := os.WriteFile(path, genuine, 0o700); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range 600 {
			data := genuine
			if i%2 == 0 {
				data = other
			}
			if os.WriteFile(path+".new", data, 0o700) == nil {
				_ = os.Rename(path+".new", path)
			}
		}
	}()
	out := must(os.Create(filepath.Join(dir, "out")))(t)
	defer out.Close()
	ran := 0
	for range 300 {
		p, err := load(path)
		if err != nil {
			t.Fatal(err)
		}
		l := &launch{program: p}
		if want.Equal(artifact.SHA256Digest(p.digest)) {
			wait := must(l.start(t.Context(), Command{Path: path, Args: []string{"who"}, Stdout: out}, []string{}, "/"))(t)
			if s := wait(); s.code() != 0 {
				t.Fatalf("the program ended with %d", s.code())
			}
			ran++
		}
		l.close()
	}
	<-done
	text := string(must(os.ReadFile(out.Name()))(t))
	if strings.Count(text, "GENUINE-PROGRAM\n") != ran || strings.Contains(text, "CHANGED") {
		t.Errorf("after %d runs of the genuine program the output is %q", ran, text)
	}
}

func loadBytes(tb testing.TB, data []byte) (*program, error) {
	tb.Helper()
	path := filepath.Join(must(filepath.EvalSymlinks(tb.TempDir()))(tb), "program")
	if err := os.WriteFile(path, data, 0o700); err != nil {
		return nil, err
	}
	p, err := load(path)
	if err == nil {
		tb.Cleanup(p.close)
	}
	return p, err
}

func TestX03_UnsealedOrChangedMemoryIs617(t *testing.T) {
	t.Parallel()
	p := must(loadBytes(t, childProgram(t)))(t)
	if _, err := p.file.WriteAt([]byte("x"), 0); err == nil {
		t.Error("sealed memory was written to")
	}
	if err := p.file.Truncate(1); err == nil {
		t.Error("sealed memory was cut")
	}
	if err := (&launch{program: p}).check(); err != nil {
		t.Fatal(err)
	}
	unsealed := &program{file: os.NewFile(uintptr(must(unix.MemfdCreate("test", unix.MFD_CLOEXEC))(t)), "test")}
	defer unsealed.close()
	other := *p
	other.digest[0] ^= 1
	for name, l := range map[string]*launch{
		"unsealed":     {program: unsealed},
		"other bytes":  {program: &other},
		"other script": {program: p, script: &other},
	} {
		if err := l.check(); !denial.Is(err, denial.CodeMutated) {
			t.Errorf("%s: got %v, want 617", name, err)
		}
	}
	if err := (&launch{}).check(); !denial.Is(err, denial.Internal) {
		t.Errorf("nothing loaded: got %v, want 901", err)
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
	// Pinned arguments that name a script are what an interpreter may be allowed.
	args := []string{"exit", "5"}
	r.runs(r.commandFor(permit{scope: artifact.Scope{file(t, python, args, nil)}}, python, args...), 5)
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

func (r *rig) script(text string) string { return r.program("script", []byte(text)) }

func TestX10_ScriptAndInterpreterAreBothSealed(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	text := "#! \t" + r.child + " interpret \nhello\n"
	script := r.script(text)
	both := permit{scope: artifact.Scope{file(t, script, []string{"x", "y z"}, nil), file(t, r.child, []string{"interpret", script, "x", "y z"}, nil)}.Canonical()}
	cmd := r.commandFor(both, script, "x", "y z")
	r.line.onRecord(func(_ context.Context, _ []byte, pass func() ([]byte, error)) ([]byte, error) {
		edit(t, script, func([]byte) []byte { return []byte("other") }) // all is checked, nothing runs yet
		return pass()
	})
	if got, want := r.runs(cmd, 0), `["x" "y z"] `+text; got != want {
		t.Errorf("the interpreter wrote %q, want %q", got, want)
	}
	r.line.onRecord(nil)
	var start *record.Record
	for _, rec := range r.records() {
		if rec.Event == record.EventStart {
			start = rec
		}
	}
	program, source := must(loadBytes(t, childProgram(t)))(t), must(loadBytes(t, []byte(text)))(t)
	if start == nil || string(start.Execution.Code) != string(program.digest[:]) || string(start.Execution.Script) != string(source.digest[:]) {
		t.Errorf("the start record does not hold both digests: %+v", start)
	}
}

func TestX10_ScriptsThatAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	good := "#!" + r.child + " interpret\n"
	script := r.script(good)
	inner := r.program("inner", []byte(good))
	env := r.program("env", childProgram(t))
	of := func(paths ...string) permit {
		var scope artifact.Scope
		for _, p := range paths {
			var args []string
			if p == env {
				args = []string{"interpret", script}
			}
			scope = append(scope, file(t, p, args, nil))
		}
		return permit{scope: scope.Canonical()}
	}
	for _, row := range []struct {
		name   string
		text   string
		permit func() permit
		after  string // text of the script once the artifact is there
		want   denial.Reason
	}{
		{"interpreter not in scope", good, func() permit { return of(script) }, "", denial.ScopeDenied},
		{"interpreter with other arguments", good, func() permit {
			return permit{scope: artifact.Scope{file(t, script, nil, nil), file(t, r.child, []string{"interpret", "/x"}, nil)}.Canonical()}
		}, "", denial.ScopeDenied},
		{"nested script", "#!" + inner + "\n", func() permit { return of(script, inner, r.child) }, "", denial.InterpreterUngoverned},
		{"env", "#!" + env + " interpret\n", func() permit { return of(script, env) }, "", denial.InterpreterUngoverned},
		{"long line", "#!" + strings.Repeat(" ", 254) + r.child + "\n", func() permit { return of(script, r.child) }, "", denial.InterpreterUngoverned},
		{"no interpreter", "#!\n", func() permit { return of(script) }, "", denial.ScopeDenied},
		{"relative interpreter", "#!child\n", func() permit { return of(script, r.child) }, "", denial.ScopeDenied},
		{"neither script nor program", "echo hello\n", func() permit { return of(script) }, "", denial.InterpreterUngoverned},
		{"empty", "", func() permit { return of(script) }, "", denial.InterpreterUngoverned},
		{"three bytes of a program", "\x7fEL", func() permit { return of(script) }, "", denial.InterpreterUngoverned},
		{"edited", good, func() permit { return of(script, r.child) }, good + "rm -rf /\n", denial.CodeDigestMismatch},
		{"edited interpreter", good, func() permit { return of(script, r.child) }, "#!/bin/false\n", denial.CodeDigestMismatch},
	} {
		t.Run(row.name, func(t *testing.T) {
			edit(t, script, func([]byte) []byte { return []byte(row.text) })
			cmd := r.commandFor(row.permit(), script)
			if row.after != "" {
				edit(t, script, func([]byte) []byte { return []byte(row.after) })
			}
			out := r.refuses(cmd, row.want)
			if out.Denied != nil && out.Denied.Stage != denial.StageScope {
				t.Errorf("refused at %s", out.Denied.Stage)
			}
		})
	}
	t.Run("changed interpreter", func(t *testing.T) {
		edit(t, script, func([]byte) []byte { return []byte(good) })
		cmd := r.commandFor(of(script, r.child), script)
		edit(t, r.child, func([]byte) []byte { return changed(t) })
		r.refuses(cmd, denial.CodeDigestMismatch)
	})
}

func TestX10_ShellScript(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	sh = must(filepath.EvalSymlinks(sh))(t)
	r := newRig(t, newWorld(t), "a")
	script := r.script("#!" + sh + "\necho \"$# $1\"; exit 4\n")
	cmd := r.commandFor(permit{scope: artifact.Scope{file(t, script, nil, nil), file(t, sh, []string{script, "a b"}, nil)}.Canonical()}, script, "a b")
	if got := r.runs(cmd, 4); got != "1 a b\n" {
		t.Errorf("the script wrote %q", got)
	}
}

// Between fork and exec, os/exec moves descriptors about; wherever the caller's are, the program must not be in the way.
func TestProgramIsNotOverlaidByAnotherDescriptor(t *testing.T) {
	t.Parallel()
	program := must(loadBytes(t, childProgram(t)))(t)
	script := must(loadBytes(t, []byte("#!/child interpret\nhello\n")))(t)
	out := must(os.Create(filepath.Join(t.TempDir(), "out")))(t)
	defer out.Close()
	for _, number := range []int{0, 20, 60, 90, 99, 100, 101, 120, 163, 164, 165, 200} {
		fd := must(unix.FcntlInt(out.Fd(), unix.F_DUPFD_CLOEXEC, number))(t)
		high := os.NewFile(uintptr(fd), "out")
		for _, l := range []*launch{{program: program}, {program: program, script: script, option: "interpret"}} {
			if err := out.Truncate(0); err != nil {
				t.Fatal(err)
			}
			wait, err := l.start(t.Context(), Command{Path: "/child", Args: []string{"who"}, Stdout: high, Stderr: high}, []string{}, "/")
			if err != nil {
				t.Fatalf("standard output is %d: %v", fd, err)
			}
			if s := wait(); s.code() != 0 {
				t.Errorf("standard output is %d: the program ended with %d", fd, s.code())
			}
			text := string(must(os.ReadFile(out.Name()))(t))
			if !strings.Contains(text, "GENUINE-PROGRAM") && !strings.Contains(text, "hello") {
				t.Errorf("standard output is %d: it wrote %q", fd, text)
			}
		}
		high.Close()
	}
}

func TestStatusOfTheProgramIsPassedOn(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	var want []string
	for _, row := range []struct {
		args   []string
		status int
		end    string
	}{
		{[]string{"exit", "0"}, 0, "end 0"},
		{[]string{"exit", "1"}, 1, "end 1"},
		{[]string{"exit", "125"}, 125, "end 125"},
		{[]string{"exit", "126"}, 126, "end 126"},
		{[]string{"exit", "137"}, 137, "end 137"},
		{[]string{"signal", "9"}, 137, "end -9"},
		{[]string{"signal", "15"}, 143, "end -15"},
	} {
		r.runs(r.command(row.args...), row.status)
		want = append(want, "start 1", row.end)
	}
	if got := r.story(gateURI + "a"); !slices.Equal(got, want) {
		t.Errorf("the log tells %q, want %q", got, want)
	}
	// The end names the start, and says of which use it is.
	all := r.records()
	end, start := all[len(all)-1], all[len(all)-2]
	if len(end.Execution.Start) != 32 || string(end.Previous) != string(end.Execution.Start) {
		t.Error("the end record does not name the start record")
	}
	if !reflect.DeepEqual(end.CTI, start.CTI) || end.Execution.Use != 1 || end.Workload != hostURI+"a" || end.Initiator != robotURI {
		t.Errorf("the end record is %+v", end)
	}
}

func TestProgramThatCannotBeStartedIsDenied(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	cmd := r.commandFor(permit{scope: artifact.Scope{file(t, r.child, nil, &artifact.Constraints{Directory: "/no/such/directory"})}}, r.child, "exit", "0")
	out := r.refuses(cmd, denial.Internal)
	if out.Denied.Stage != denial.StageRun || !out.Logged {
		t.Errorf("got %+v", out)
	}
	if got, want := r.story(gateURI+"a"), []string{"start 1", "901"}; !slices.Equal(got, want) {
		t.Errorf("the log tells %q, want %q", got, want)
	}
}

func TestContextEndsTheProgram(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	cmd := r.command("wait")
	read, write := pipe(t)
	cmd.Stdout = write
	ctx, cancel := context.WithCancel(t.Context())
	type result struct {
		out Outcome
		err error
	}
	done := make(chan result)
	go func() {
		out, err := r.gate.Exec(ctx, cmd)
		done <- result{out, err}
	}()
	buf := make([]byte, 64)
	if n := must(read.Read(buf))(t); string(buf[:n]) != "ready\n" {
		t.Fatalf("the program wrote %q", buf[:n])
	}
	cancel()
	got := <-done
	if got.err != nil || !got.out.Started || got.out.Status != 7 || got.out.Spooled {
		t.Errorf("got %+v, want a program that ended with 7 on SIGTERM", got)
	}
	if got, want := r.story(gateURI+"a"), []string{"start 1", "end 7"}; !slices.Equal(got, want) {
		t.Errorf("the log tells %q, want %q", got, want)
	}
}

func TestEndedContextRunsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	path, ran := r.mark()
	cmd := r.command("mark", path)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	out := must(r.gate.Exec(ctx, cmd))(t)
	wantDenied(t, out, denial.RevocationUnknown)
	if ran() || !out.Logged {
		t.Errorf("ran: %v, outcome %+v", ran(), out)
	}
	// A context that ends after the start record: the start is logged, nothing runs, and the log says so.
	cmd = r.command("mark", path)
	ctx, cancel = context.WithCancel(t.Context())
	r.line.onRecord(func(_ context.Context, _ []byte, pass func() ([]byte, error)) ([]byte, error) {
		defer cancel()
		return pass()
	})
	out = must(r.gate.Exec(ctx, cmd))(t)
	wantDenied(t, out, denial.Internal)
	if got, want := r.story(gateURI+"a"), []string{"806", "start 1", "901"}; ran() || !slices.Equal(got, want) {
		t.Errorf("ran: %v; the log tells %q, want %q", ran(), got, want)
	}
}

func TestWaitingForTheStateEndsWithTheContext(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	unlock := must(r.gate.state.lock(t.Context()))(t)
	defer unlock()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if out, err := r.gate.Exec(ctx, Command{}); err == nil || out.Started || out.Denied != nil {
		t.Errorf("got %+v and %v, want a fault", out, err)
	}
}

func pipe(t *testing.T) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	return read, write
}

const helper = "WRIT_GATE_TEST_HELPER"

// TestHelperGate is the gate that the next test kills. It is no test.
func TestHelperGate(t *testing.T) {
	path := os.Getenv(helper)
	if path == "" {
		t.Skip("run by TestX18_ProgramDiesWithTheGate only")
	}
	p := must(load(path))(t)
	wait := must((&launch{program: p}).start(context.Background(), Command{Path: path, Args: []string{"wait"}, Stdout: os.Stdout}, []string{}, "/"))(t)
	wait()
}

func TestX18_ProgramDiesWithTheGate(t *testing.T) {
	t.Parallel()
	path := filepath.Join(must(filepath.EvalSymlinks(t.TempDir()))(t), "child")
	if err := os.WriteFile(path, childProgram(t), 0o700); err != nil {
		t.Fatal(err)
	}
	read, write := pipe(t)
	gate := exec.Command(os.Args[0], "-test.run=^TestHelperGate$")
	gate.Env, gate.Stdout = append(os.Environ(), helper+"="+path), write
	if err := gate.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	buf := make([]byte, 64)
	if n := must(read.Read(buf))(t); string(buf[:n]) != "ready\n" {
		t.Fatalf("the program wrote %q", buf[:n])
	}
	if err := gate.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = gate.Wait() // it was killed
	if n, err := read.Read(buf); n != 0 || err == nil {
		t.Errorf("the program lives on, or ended in its own time: it wrote %q", buf[:n])
	}
}
