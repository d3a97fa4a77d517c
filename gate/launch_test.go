package gate

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/need"
)

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
			wait := must(l.start(t.Context(), kept(t), Command{Path: path, Args: []string{"who"}, Stdout: out}, []string{}, "/"))(t)
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
			wait, err := l.start(t.Context(), kept(t), Command{Path: "/child", Args: []string{"who"}, Stdout: high, Stderr: high}, []string{}, "/")
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
	ctx, cancel := context.WithCancel(t.Context())
	wait := r.begin(ctx, r.command("wait"))
	cancel()
	if got := wait(); got.Status != 7 || got.Ended != nil || got.Spooled {
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

func pipe(t testing.TB) (read, write *os.File) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close(); write.Close() })
	return read, write
}

const helper = "WRIT_GATE_TEST_HELPER"

// TestHelperGate is the gate that the next tests kill. It is no test.
func TestHelperGate(t *testing.T) {
	path := os.Getenv(helper)
	if path == "" {
		return // run by diesWithTheGate only
	}
	p := must(load(path))(t)
	wait := must((&launch{program: p}).start(context.Background(), keeping{executable: os.Getenv(helper + "_KEEPER"), grace: grace}, Command{Path: path, Args: strings.Fields(os.Getenv(helper + "_ARGS")), Stdout: os.Stdout}, []string{}, "/"))(t)
	wait()
}

// diesWithTheGate checks that a program, called with the arguments, is gone once a gate that was started through the command is killed.
func diesWithTheGate(t *testing.T, args string, through ...string) {
	t.Helper()
	path := filepath.Join(must(filepath.EvalSymlinks(t.TempDir()))(t), "child")
	if err := os.WriteFile(path, childProgram(t), 0o700); err != nil {
		t.Fatal(err)
	}
	read, write := pipe(t)
	command := append(through, os.Args[0], "-test.run=^TestHelperGate$")
	gate := exec.Command(command[0], command[1:]...)
	gate.Env, gate.Stdout = append(os.Environ(), helper+"="+path, helper+"_KEEPER="+kept(t).executable, helper+"_ARGS="+args), write
	if err := gate.Start(); err != nil {
		t.Fatal(err)
	}
	write.Close()
	buf := make([]byte, 64)
	if n, _ := read.Read(buf); !strings.HasPrefix(string(buf[:n]), "ready") {
		t.Fatalf("the program wrote %q", buf[:n])
	}
	if err := gate.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = gate.Wait() // it was killed
	gone(t, read)
}

// With all that it has started, whatever session that is in.
func TestX18_ProgramDiesWithTheGate(t *testing.T) {
	t.Parallel()
	diesWithTheGate(t, "wait leaving")
}

// A host can hide processes from who may not trace them, which a program can ask for of its own.
func TestX18_HiddenProgramDiesWithTheGate(t *testing.T) {
	t.Parallel()
	hidden := []string{"unshare", "--mount", "sh", "-c", `mount -t proc -o hidepid=2 proc /proc && exec setpriv --regid 65534 --clear-groups --bounding-set=-sys_ptrace --inh-caps=-sys_ptrace "$0" "$@"`}
	if out, err := exec.Command(hidden[0], append(hidden[1:], "true")...).CombinedOutput(); err != nil {
		need.Missing(t, "this user may mount nothing: %v: %s: run the tests as root", err, out)
	}
	diesWithTheGate(t, "hide", hidden...)
}
