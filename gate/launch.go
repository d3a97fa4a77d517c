package gate

import (
	"context"
	"fmt"
	"math"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
)

// grace is how long a program may take to end after SIGTERM.
const grace = 10 * time.Second

// launch is what will run: a program, or a script and the program that interprets it.
type launch struct {
	program *program
	script  *program // nil unless there is one
	option  string   // the one argument that the script's first line gives its interpreter
}

func (l *launch) close() {
	l.program.close()
	l.script.close()
}

// check refuses a launch that is not complete, and one whose bytes are not those that were admitted (617).
func (l *launch) check() error {
	if l.program == nil {
		return denial.New(denial.Internal, "no program was loaded")
	}
	if l.script != nil {
		if err := l.script.unchanged(); err != nil {
			return err
		}
	}
	return l.program.unchanged()
}

// argv returns the interpreter's arguments for a script at the given path.
func (l *launch) argv(interpreter, script string, argv []string) []string {
	out := []string{interpreter}
	if l.option != "" {
		out = append(out, l.option)
	}
	return append(append(out, script), argv[1:]...)
}

// scriptFD is the descriptor by which an interpreter reads its script.
const scriptFD = 3

// start runs the sealed bytes. The program gets the environment and directory given, nothing on standard input, no
// descriptor but standard output and error (and its script); it gains no privileges from files that it executes
// (no_new_privs), and is killed when the gate dies. wait returns when the program has ended.
func (l *launch) start(ctx context.Context, cmd Command, env []string, dir string) (wait func() exitStatus, err error) {
	c, program, err := l.command(ctx, cmd, env, dir)
	if err != nil {
		return nil, err
	}
	defer program.Close()
	started, ended := make(chan error), make(chan struct{})
	go func() {
		// Never unlocked. The thread lives as long as the program, which is bound to it (PR_SET_PDEATHSIG), and ends
		// with this goroutine, so that no_new_privs stays its own.
		runtime.LockOSThread()
		defer close(ended)
		err := confine()
		if err == nil {
			err = c.Start()
		}
		started <- err
		if err == nil {
			_ = c.Wait() // the state of the process tells how it ended
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return func() exitStatus {
		<-ended
		return statusOf(c.ProcessState)
	}, nil
}

// command returns what start starts, and the descriptor of the program, which must be open until then.
func (l *launch) command(ctx context.Context, cmd Command, env []string, dir string) (*exec.Cmd, *os.File, error) {
	argv, passed, top := cmd.argv(), []*os.File(nil), uintptr(scriptFD)
	if l.script != nil {
		argv = l.argv(l.program.path, fmt.Sprintf("/proc/self/fd/%d", scriptFD), argv)
		passed = []*os.File{l.script.file} // becomes scriptFD
	}
	for _, f := range append([]*os.File{cmd.Stdout, cmd.Stderr}, passed...) {
		if f != nil {
			top = max(top, f.Fd())
		}
	}
	// Between fork and exec, os/exec moves descriptors to numbers just above the greatest that it passes on. The
	// program must not be there.
	fd, err := unix.FcntlInt(l.program.file.Fd(), unix.F_DUPFD_CLOEXEC, int(top)+64)
	if err != nil {
		return nil, nil, fmt.Errorf("moving the program's descriptor: %w", err)
	}
	c := exec.CommandContext(ctx, fmt.Sprintf("/proc/self/fd/%d", fd))
	c.Args, c.Env, c.Dir, c.ExtraFiles = argv, env, dir, passed
	c.Cancel, c.WaitDelay = func() error { return c.Process.Signal(syscall.SIGTERM) }, grace
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if cmd.Stdout != nil { // a nil *os.File in the interface would leave descriptor 1 closed
		c.Stdout = cmd.Stdout
	}
	if cmd.Stderr != nil {
		c.Stderr = cmd.Stderr
	}
	return c, os.NewFile(uintptr(fd), l.program.path), nil
}

// confine prepares this thread, which must be locked, and this process for a start: no privileges through files, and no
// descriptor that this process was itself started with reaches the program.
func confine() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("giving up new privileges: %w", err)
	}
	if err := unix.CloseRange(scriptFD, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keeping descriptors: %w", err)
	}
	return nil
}

// exitStatus is how a program ended.
type exitStatus struct{ exit, signal int }

func statusOf(p *os.ProcessState) exitStatus {
	if p == nil {
		return exitStatus{exit: 255} // it cannot be known
	}
	if ws, ok := p.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return exitStatus{signal: int(ws.Signal())}
	}
	return exitStatus{exit: p.ExitCode()}
}

// code returns the status as a shell tells it.
func (s exitStatus) code() int {
	if s.signal != 0 {
		return 128 + s.signal
	}
	return s.exit
}

// recorded returns the status as the end record tells it.
func (s exitStatus) recorded() int64 { return int64(s.exit - s.signal) }

// allowed returns the variables of env whose names are in names; never one that can inject code.
func allowed(env, names []string) []string {
	out := []string{} // not nil, which would mean the gate's own environment
	for _, v := range env {
		name, _, ok := strings.Cut(v, "=")
		if ok && slices.Contains(names, name) && !artifact.IsDangerousVariable(name) {
			out = append(out, v)
		}
	}
	return out
}
