package swtpm

import (
	"context"
	"os"
	"time"

	"github.com/governed-execution/writ/test/need"
)

// TB is the part of testing.TB that New needs, so that programs that use this package do not link package testing.
type TB interface {
	need.TB
	Cleanup(func())
	Errorf(format string, args ...any)
}

// New starts a new TPM that ends with the test. Where swtpm is missing the test is skipped, or fails if REQUIRE_ALL=1.
func New(tb TB, o Options) *TPM {
	tb.Helper()
	need.Have(tb, Available())
	// Not TB.TempDir: its path holds the test's name and can be too long for a socket.
	dir, err := os.MkdirTemp("", "swtpm")
	if err != nil {
		tb.Fatalf("making directory: %v", err)
	}
	tb.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	t, err := Start(ctx, dir, o)
	if err != nil {
		tb.Fatalf("starting software TPM: %v", err)
	}
	tb.Cleanup(func() {
		if err := t.Stop(); err != nil {
			tb.Errorf("stopping software TPM: %v", err)
		}
	})
	return t
}
