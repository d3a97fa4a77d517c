package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// A gate that is stopped looks at no lease, and what runs in another session would go on.
func TestX16_TerminalStopsNoGate(t *testing.T) {
	t.Parallel()
	config := filepath.Join(t.TempDir(), "config")
	if err := syscall.Mkfifo(config, 0o600); err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	gate := exec.CommandContext(t.Context(), self)
	gate.Args = []string{"writ-gate", "exec", "--config", config, "--", "/bin/true"}
	if err := gate.Start(); err != nil {
		t.Fatal(err)
	}
	write, err := os.OpenFile(config, os.O_WRONLY, 0) // returns once the gate reads
	if err != nil {
		t.Fatal(err)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", gate.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	write.Close()
	_ = gate.Wait() // with the status of misuse
	_, ignored, _ := strings.Cut(string(status), "SigIgn:")
	ignored, _, _ = strings.Cut(ignored, "\n")
	mask, err := strconv.ParseUint(strings.TrimSpace(ignored), 16, 64)
	if err != nil || mask&(1<<(syscall.SIGTSTP-1)) == 0 {
		t.Errorf("SIGTSTP stops the gate: it ignores %x, %v", mask, err)
	}
}
