package gate

import (
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Between a gate and its program stands a keeper: this same executable, started anew. Whatever the program leaves behind, in
// whatever process group or session, becomes a child of the keeper (PR_SET_CHILD_SUBREAPER), which says that the program has
// ended only once nothing of it is left (X17). The keeper goes by the connection to its gate: when that ends, it kills all that it
// keeps, so that nothing runs ungoverned when the gate is killed (X18). If the keeper is killed, the kernel kills the program.
//
// The keeper starts this executable once more, which confines itself and then becomes the program.

// The modes in which this executable is started anew: its only argument.
const (
	modeKeep   = "keep-program"
	modeBecome = "become-program"
)

// The descriptors in both modes, after the three standard ones.
const (
	scriptFD  = 3 // by which an interpreter reads its script; closed if there is none
	parentFD  = 4 // connection to who started this process
	programFD = 5
	cgroupFD  = 6 // closed if there is none
)

// errand is what a keeper is told, and then the process that becomes the program.
type errand struct {
	Argv, Env []string
	Dir       string
	Script    bool
	Cgroup    bool
	Grace     time.Duration
}

// started is the answer: what went wrong, if anything did.
type started struct{ Fault string }

// exitStatus is how a program ended, and how many processes it left behind that had to be killed.
type exitStatus struct{ Exit, Signal, Left int }

// Keep is what a main function whose program opens a gate does first, with its arguments. In a process that a gate has
// started for a program it does what it was started for and returns true and the exit status; in any other it returns false at once.
func Keep(args []string) (status int, kept bool) {
	if len(args) != 2 || args[1] != modeKeep && args[1] != modeBecome {
		return 0, false
	}
	runtime.LockOSThread() // the program is bound to this thread (PR_SET_PDEATHSIG), and confinement is this thread's own
	do := keep
	if args[1] == modeBecome {
		do = become
	}
	if err := do(); err != nil {
		fmt.Fprintf(os.Stderr, "writ-gate: keeping a program: %v\n", err)
	}
	return 125, true // nobody asks for it
}

// parent returns the connection to the process that started this one, and no other.
func parent() (*os.File, error) {
	cred, err := unix.GetsockoptUcred(parentFD, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return nil, errors.New("this is for a gate to call, not for people")
	}
	if int(cred.Pid) != os.Getppid() || int(cred.Uid) != os.Geteuid() {
		return nil, errors.New("another process than the parent is at the other end")
	}
	return os.NewFile(parentFD, "parent"), closeOnExec(scriptFD)
}

// closeOnExec keeps all descriptors from first on from what is executed.
func closeOnExec(first uint) error {
	if err := unix.CloseRange(first, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return fmt.Errorf("keeping descriptors: %w", err)
	}
	return nil
}

// become confines this process, and then is the program: no privileges through files that it executes, no descriptor but those
// that it is to have, no limits set to another process, and where the kernel has it (Linux 6.12) no signals to any process but itself
// and its descendants.
func become() error {
	conn, err := parent()
	if err != nil {
		return err
	}
	var e errand
	if err = gob.NewDecoder(conn).Decode(&e); err == nil {
		err = e.become()
	}
	return gob.NewEncoder(conn).Encode(started{Fault: err.Error()})
}

func (e *errand) become() error {
	if err := os.Chdir(e.Dir); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("giving up new privileges: %w", err)
	}
	if err := confineSignals(); err != nil {
		return err
	}
	if err := confineLimits(); err != nil {
		return err
	}
	if e.Script {
		if _, err := unix.FcntlInt(scriptFD, unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("passing on the script: %w", err)
		}
	}
	return fmt.Errorf("executing: %w", syscall.Exec(fmt.Sprintf("/proc/self/fd/%d", programFD), e.Argv, e.Env))
}

// keeper keeps one program.
type keeper struct {
	mu       sync.Mutex // held while children are reaped or killed, so that no number of a process means another meanwhile
	stopping bool       // the program has been told to end
	killing  bool       // nothing of it may go on
	cgroup   bool
}

func keep() error {
	conn, err := parent()
	if err != nil {
		return err
	}
	catch := []os.Signal{os.Interrupt, syscall.SIGQUIT, syscall.SIGTERM} // the gate gets them too, and decides
	if !signal.Ignored(syscall.SIGHUP) {                                 // or else the program would not ignore it either
		catch = append(catch, syscall.SIGHUP)
	}
	signal.Notify(make(chan os.Signal, 1), catch...)
	signal.Ignore(syscall.SIGTSTP) // of a terminal: while this process is stopped nothing ends what runs in another session
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("taking on orphans: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil { // the program can be of the same user
		return fmt.Errorf("closing the keeper to other processes: %w", err)
	}
	from, to := gob.NewDecoder(conn), gob.NewEncoder(conn)
	var e errand
	if err := from.Decode(&e); err != nil {
		return err
	}
	k := &keeper{cgroup: e.Cgroup}
	pid, err := k.start(&e)
	if err != nil {
		k.kill()
		return to.Encode(started{Fault: err.Error()})
	}
	if err := to.Encode(started{}); err != nil {
		k.kill()
	}
	go k.heed(from, e.Grace)
	_ = to.Encode(k.reap(pid)) // a gate that is gone does not hear it
	return nil
}

// start starts the process that becomes the program, and returns when it has.
func (k *keeper) start(e *errand) (pid int, err error) {
	ours, theirs, err := connection()
	if err != nil {
		return 0, err
	}
	defer ours.Close()
	attr := &os.ProcAttr{Dir: "/", Env: []string{}, Files: []*os.File{os.Stdin, os.Stdout, os.Stderr, nil, theirs, os.NewFile(programFD, "program")},
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}}
	if e.Script {
		attr.Files[scriptFD] = os.NewFile(scriptFD, "script")
	}
	if e.Cgroup {
		attr.Sys.UseCgroupFD, attr.Sys.CgroupFD = true, cgroupFD
	}
	p, err := os.StartProcess("/proc/self/exe", []string{os.Args[0], modeBecome}, attr)
	theirs.Close()
	if err != nil {
		return 0, err
	}
	if err := gob.NewEncoder(ours).Encode(e); err != nil {
		return 0, err
	}
	var s started
	if err := gob.NewDecoder(ours).Decode(&s); errors.Is(err, io.EOF) { // closed by the execution
		return p.Pid, nil
	}
	return 0, errors.New(s.Fault)
}

// heed waits for the gate. A word of it is that the program is to end: SIGTERM to all, and after the grace SIGKILL. The end of
// the connection is that the gate is gone.
func (k *keeper) heed(from *gob.Decoder, grace time.Duration) {
	var stop bool
	if from.Decode(&stop) != nil {
		k.kill()
		return
	}
	k.terminate()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_ = from.Decode(&stop) // there is no second word
	}()
	select {
	case <-gone:
	case <-time.After(grace):
	}
	k.kill()
}

// reap waits until nothing of the program is left, and returns how it ended. Once it has ended by itself, what it has left
// behind is killed.
func (k *keeper) reap(program int) (end exitStatus) {
	ended := false
	for {
		if err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOWAIT, nil); errors.Is(err, unix.ECHILD) {
			return end
		}
		k.mu.Lock()
		for {
			var ws unix.WaitStatus
			pid, err := unix.Wait4(-1, &ws, unix.WNOHANG, nil)
			if err != nil || pid <= 0 {
				break
			}
			switch {
			case pid == program:
				ended = true
				if ws.Signaled() {
					end.Signal = int(ws.Signal())
				} else {
					end.Exit = ws.ExitStatus()
				}
			case ended && ws.Signaled() && ws.Signal() == unix.SIGKILL:
				end.Left++
			}
		}
		if ended && !k.stopping {
			k.killing = true
		}
		if k.killing {
			k.killChildren()
		}
		k.mu.Unlock()
	}
}

// kill kills what is left, until reap finds that nothing is.
func (k *keeper) kill() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.killing = true
	k.killChildren()
}

// killChildren kills all children. Theirs are this process's then, and reap comes by again: until there is none. In a control
// group all die at once, however fast they fork.
func (k *keeper) killChildren() {
	if k.cgroup {
		killCgroup(cgroupFD)
	}
	for _, pid := range children() {
		_ = unix.Kill(pid, unix.SIGKILL) // a child that is gone is not reaped yet: its number is no other's
	}
}

// children returns the children of this process: those that the kernel lists, and where it is built without that list those that
// can be seen. A host that hides processes (hidepid) lets a program hide from the second, not from the first.
func children() (pids []int) {
	lists, _ := filepath.Glob("/proc/self/task/*/children") // proc_pid_task_children(5)
	for _, path := range lists {
		list, _ := os.ReadFile(path) // a thread that is gone has given its children to another
		for _, field := range strings.Fields(string(list)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	for pid, parent := range parents() {
		if parent == os.Getpid() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// terminate sends SIGTERM to all descendants, children before their parents. One that gets another parent meanwhile is missed, and
// killed when the grace is over.
func (k *keeper) terminate() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.stopping = true
	of := parents()
	all := []int{os.Getpid()}
	for i := 0; i < len(all); i++ {
		for pid, parent := range of {
			if parent == all[i] {
				all = append(all, pid)
			}
		}
	}
	for _, pid := range slices.Backward(all[1:]) {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		if parentOf(pid) == of[pid] { // still the one that was seen
			_ = unix.PidfdSendSignal(fd, unix.SIGTERM, nil, 0)
		}
		unix.Close(fd)
	}
}

// parents returns the parent of every process.
func parents() map[int]int {
	all := map[int]int{}
	entries, _ := os.ReadDir("/proc") // what cannot be read is no descendant of this process
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			all[pid] = parentOf(pid)
		}
	}
	return all
}

// parentOf returns the parent of a process, 0 if it is gone (proc_pid_stat(5)).
func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}

// connection returns the two ends of a new connection between two processes.
func connection() (ours, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("connecting: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "keeper"), os.NewFile(uintptr(fds[1]), "gate"), nil
}
