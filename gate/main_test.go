package gate

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

var child struct {
	once sync.Once
	data []byte
	err  error
}

// childProgram returns the static program that testdata/child is the source of, built once.
func childProgram(tb testing.TB) []byte {
	tb.Helper()
	child.once.Do(func() { child.data, child.err = buildChild() })
	if child.err != nil {
		tb.Fatal(child.err)
	}
	return child.data
}

func buildChild() ([]byte, error) {
	dir, err := os.MkdirTemp("", "gate-child")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	out := filepath.Join(dir, "child")
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, "./testdata/child")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if text, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building the test program: %w: %s", err, text)
	}
	return os.ReadFile(out)
}
