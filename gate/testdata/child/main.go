// Command child is what the tests of package gate run. Its first argument says what it does.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"unsafe"
)

// Report is what a program can see of how it was started.
type Report struct {
	Argv   []string
	Env    []string
	Dir    string
	Files  map[string]string // descriptor to what it leads to
	Stdin  int               // bytes that could be read
	Status map[string]string // some lines of /proc/self/status
}

const rlimitCPU = 0

// banner is what tests change in the bytes of the program.
const banner = "GENUINE-PROGRAM"

func main() {
	var err error
	switch arg(1) {
	case "mark": // leaves a mark that it ran
		err = os.WriteFile(arg(2), []byte("ran"), 0o600)
	case "who": // says which bytes it is of
		fmt.Println(banner)
	case "report":
		err = report()
	case "exit":
		n, _ := strconv.Atoi(arg(2))
		os.Exit(n)
	case "signal":
		n, _ := strconv.Atoi(arg(2))
		err = syscall.Kill(os.Getpid(), syscall.Signal(n))
		select {}
	case "wait": // says that it runs, and ends when it is told to
		c := make(chan os.Signal, 1)
		signal.Notify(c, syscall.SIGTERM)
		if arg(2) == "leaving" {
			leave()
		}
		fmt.Println("ready", os.Getppid())
		fmt.Println(<-c)
		os.Exit(7)
	case "hide": // is not to be seen in /proc by others of its user, where that hides what they may not trace
		if _, _, errno := syscall.RawSyscall(syscall.SYS_PRCTL, syscall.PR_SET_DUMPABLE, 0, 0); errno != 0 {
			err = errno
			break
		}
		fmt.Println("ready", os.Getppid())
		for {
			_ = syscall.Pause()
		}
	case "leave": // ends, and leaves something behind that does not
		leave()
		fmt.Println("left")
	case "between": // ends at once, so that what it starts has lost its parent
		start("linger")
	case "linger": // heeds nothing
		signal.Ignore(syscall.SIGTERM, syscall.SIGHUP, syscall.SIGINT)
		os.NewFile(3, "").Close() // says that it is there
		for {
			_ = syscall.Pause()
		}
	case "disarm": // takes what they need to act from all above it, and leaves something behind
		disarm()
		leave()
		fmt.Println("ready", os.Getppid())
		for {
			_ = syscall.Pause()
		}
	case "assail": // tries to kill whoever keeps it
		assail()
	case "interpret": // an interpreter: shows its script
		var data []byte
		if data, err = os.ReadFile(arg(2)); err == nil {
			fmt.Printf("%q %s", os.Args[3:], data)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(99)
	}
}

func arg(n int) string {
	if n < len(os.Args) {
		return os.Args[n]
	}
	return ""
}

func report() error {
	r := Report{Argv: os.Args, Env: os.Environ(), Files: map[string]string{}, Status: map[string]string{}}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for _, line := range strings.Split(string(status), "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok && (name == "NoNewPrivs" || name == "SigIgn") {
			r.Status[name] = strings.TrimSpace(value)
		}
	}
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if to, err := os.Readlink("/proc/self/fd/" + e.Name()); err == nil { // not the directory's own descriptor
			r.Files[e.Name()] = to
		}
	}
	in, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	r.Stdin = len(in)
	if r.Dir, err = os.Getwd(); err != nil {
		return err
	}
	out := os.Stdout
	if arg(2) != "" {
		if out, err = os.Create(arg(2)); err != nil {
			return err
		}
	}
	return json.NewEncoder(out).Encode(r)
}

// leave does a double fork: what lingers is in a session of its own, and no child of this process.
func leave() {
	there, here, err := os.Pipe()
	if err != nil {
		panic(err)
	}
	start("between", here)
	here.Close()
	_, _ = there.Read(make([]byte, 1)) // until it lingers
}

// start starts this program anew, in a session of its own.
func start(what string, pass ...*os.File) {
	if pass == nil {
		pass = []*os.File{os.NewFile(3, "")}
	}
	_, err := os.StartProcess("/proc/self/exe", []string{"child", what}, &os.ProcAttr{Files: append([]*os.File{os.Stdin, os.Stdout, os.Stderr}, pass...),
		Sys: &syscall.SysProcAttr{Setsid: true}})
	if err != nil {
		panic(err)
	}
}

// disarm tries to take descriptors and processor time from who keeps this process and from the gate, and checks that its own limits
// are its own to set, and those of others to read.
func disarm() {
	var none, own syscall.Rlimit
	keeper := os.Getppid()
	if os.Getuid() != 0 {
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/oom_score_adj", keeper), []byte("1000"), 0); err == nil {
			fmt.Fprintln(os.Stderr, "the keeper was made the first to go when memory is short")
		}
	}
	for _, row := range []struct {
		pid      int
		resource uintptr
		set, old *syscall.Rlimit
		want     syscall.Errno
	}{
		{keeper, syscall.RLIMIT_NOFILE, &none, nil, syscall.EPERM}, {keeper, rlimitCPU, &none, nil, syscall.EPERM},
		{parentOf(keeper), syscall.RLIMIT_CORE, &none, &own, syscall.EPERM},
		{keeper, syscall.RLIMIT_NOFILE, nil, &own, 0}, {0, syscall.RLIMIT_CORE, &none, nil, 0},
	} {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(row.pid), row.resource, uintptr(unsafe.Pointer(row.set)), uintptr(unsafe.Pointer(row.old)), 0, 0)
		if errno != row.want {
			fmt.Fprintf(os.Stderr, "prlimit64 of %+v: %v\n", row, errno)
		}
	}
}

// assail sends a signal to each thread of each process above this one, and says what became of it.
func assail() {
	for pid := os.Getppid(); pid > 1; {
		threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		for _, t := range threads {
			tid, _ := strconv.Atoi(t.Name())
			_, _, errno := syscall.Syscall(syscall.SYS_TGKILL, uintptr(pid), uintptr(tid), 0)
			if errno != syscall.EPERM {
				fmt.Printf("a signal to thread %d of %d: %v\n", tid, pid, errno)
			}
		}
		pid = parentOf(pid)
	}
}

func parentOf(pid int) int {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		panic(err)
	}
	parent, _ := strconv.Atoi(strings.Fields(string(stat[strings.LastIndex(string(stat), ")")+1:]))[1])
	return parent
}
