package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/governed-execution/writ/test/swtpm"
)

// TestDemo runs the demo, which fails at the first step that does not go as it tells, with binaries built for the race
// detector.
func TestDemo(t *testing.T) {
	if err := swtpm.Available(); err != nil {
		if os.Getenv("REQUIRE_ALL") == "1" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	bin := t.TempDir()
	build := exec.Command("go", "build", "-race", "-o", bin+"/", "./cmd/writd", "./cmd/writ", "./cmd/writ-gate")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	t.Chdir(build.Dir)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := run(ctx, bin, false); err != nil {
		t.Fatal(err)
	}
}
