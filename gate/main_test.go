package gate

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is a static program that tests need, built once.
type built struct {
	source string
	once   sync.Once
	path   string // in a directory that TestMain removes
	data   []byte
	err    error
}

var (
	child         = built{source: "./testdata/child"}
	keeperProgram = built{source: "./testdata/keeper"}
	builds        string
)

func TestMain(m *testing.M) {
	var err error
	if builds, err = os.MkdirTemp("", "gate-test"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	os.RemoveAll(builds)
	os.Exit(status)
}

func (b *built) get(tb testing.TB) *built {
	tb.Helper()
	b.once.Do(func() {
		b.path = filepath.Join(builds, filepath.Base(b.source))
		build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.path, b.source)
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if text, err := build.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("building the test program: %w: %s", err, text)
			return
		}
		b.data, b.err = os.ReadFile(b.path)
	})
	if b.err != nil {
		tb.Fatal(b.err)
	}
	return b
}

// childProgram returns the static program that testdata/child is the source of.
func childProgram(tb testing.TB) []byte {
	tb.Helper()
	return child.get(tb).data
}

// kept is how tests have programs kept.
func kept(tb testing.TB) keeping {
	tb.Helper()
	return keeping{executable: keeperProgram.get(tb).path, grace: grace}
}
