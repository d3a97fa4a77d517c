//go:build vm

package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TestDemo runs the demo, which fails at the first step that does not go as it tells.
func TestDemo(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-o", bin+"/", "./cmd/writd", "./cmd/writ", "./cmd/writ-gate")
	build.Dir = filepath.Join("..", "..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	t.Chdir(build.Dir)
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := run(ctx, bin, os.Stdout); err != nil {
		t.Fatal(err)
	}
}
