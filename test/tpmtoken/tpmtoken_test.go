package tpmtoken

import (
	"os"
	"syscall"
	"testing"
)

func TestTokenIsThereAndEndsWithTheTest(t *testing.T) {
	var pids []int
	var dir string
	t.Run("token", func(t *testing.T) {
		token := New(t)
		dir, pids = token.dir, []int{token.bus.Process.Pid, token.broker.Process.Pid}
		if info, err := os.Stat(token.PINFile); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got %v and %v of the PIN file, want mode 0600", info, err)
		}
		if err := token.StopBroker(); err != nil {
			t.Fatal(err)
		}
		if err := token.StartBroker(t.Context()); err != nil {
			t.Fatal(err)
		}
		pids = append(pids, token.broker.Process.Pid)
	})
	for _, pid := range pids {
		if p, err := os.FindProcess(pid); err == nil && p.Signal(syscall.Signal(0)) == nil {
			t.Errorf("process %d is there after the test", pid)
		}
	}
	if _, err := os.Stat(dir); dir != "" && !os.IsNotExist(err) {
		t.Errorf("got %v for the directory, want that it is gone", err)
	}
}
