package gate

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

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

// start has a keeper run the sealed bytes. The program gets the environment and directory given, nothing on standard input, no
// descriptor but standard output and error (and its script), and what become confines it to. When ctx ends, it is told to. wait
// returns when nothing of it is left.
func (l *launch) start(ctx context.Context, how keeping, cmd Command, env []string, dir string) (wait func() exitStatus, err error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	ours, theirs, err := connection()
	if err != nil {
		return nil, err
	}
	group, err := how.group()
	if err != nil {
		ours.Close()
		theirs.Close()
		return nil, err
	}
	c := l.keeper(how, cmd, theirs, group.file())
	if err = closeOnExec(scriptFD); err == nil { // also what this process was itself started with
		err = c.Start()
	}
	theirs.Close()
	if err != nil {
		ours.Close()
		group.end()
		return nil, err
	}
	to, from := gob.NewEncoder(ours), gob.NewDecoder(ours)
	if err := l.brief(to, from, how, cmd, env, dir); err != nil {
		ours.Close() // which ends the keeper
		_ = c.Wait()
		group.end()
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = to.Encode(true) }) // a keeper that is gone needs no telling
	return func() exitStatus {
		defer ours.Close()
		defer stop()
		var end exitStatus
		if from.Decode(&end) != nil {
			end = exitStatus{Exit: 255} // the keeper was killed, and with it the program: how it ended cannot be known
		}
		_ = c.Wait() // it has said what it had to say
		group.end()
		return end
	}, nil
}

// keeping is how programs are kept.
type keeping struct {
	executable string        // which calls Keep
	grace      time.Duration // how long a program may take to end after SIGTERM
	cgroup     string        // below which each run has a control group of its own; "": none has
}

func (k keeping) group() (*cgroup, error) {
	if k.cgroup == "" {
		return nil, nil
	}
	return newCgroup(k.cgroup)
}

// keeper returns the process of the keeper, before its start.
func (l *launch) keeper(how keeping, cmd Command, conn, group *os.File) *exec.Cmd {
	c := exec.Command(how.executable)
	c.Args, c.Env, c.Dir = []string{os.Args[0], modeKeep}, []string{}, "/"
	c.ExtraFiles = []*os.File{nil, conn, l.program.file, group}
	if l.script != nil {
		c.ExtraFiles[0] = l.script.file
	}
	if cmd.Stdout != nil { // a nil *os.File in the interface would leave descriptor 1 closed
		c.Stdout = cmd.Stdout
	}
	if cmd.Stderr != nil {
		c.Stderr = cmd.Stderr
	}
	return c
}

// brief tells the keeper what to do, and returns when the program has been started.
func (l *launch) brief(to *gob.Encoder, from *gob.Decoder, how keeping, cmd Command, env []string, dir string) error {
	e := errand{Argv: cmd.argv(), Env: env, Dir: dir, Script: l.script != nil, Cgroup: how.cgroup != "", Grace: how.grace}
	if l.script != nil {
		e.Argv = l.argv(l.program.path, fmt.Sprintf("/proc/self/fd/%d", scriptFD), e.Argv)
	}
	if err := to.Encode(e); err != nil {
		return fmt.Errorf("briefing the keeper: %w", err)
	}
	var s started
	if err := from.Decode(&s); err != nil {
		return fmt.Errorf("starting the keeper: %w", err)
	}
	if s.Fault != "" {
		return errors.New(s.Fault)
	}
	return nil
}

// code returns the status as a shell tells it.
func (s exitStatus) code() int {
	if s.Signal != 0 {
		return 128 + s.Signal
	}
	return s.Exit
}

// recorded returns the status as the end record tells it.
func (s exitStatus) recorded() int64 { return int64(s.Exit - s.Signal) }

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
