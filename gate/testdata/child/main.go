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
		fmt.Println("ready")
		fmt.Println(<-c)
		os.Exit(7)
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
