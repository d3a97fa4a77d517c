package issuertest

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/governed-execution/writ/statement"
)

// Snapshot copies the files of the log as they are at this moment, which nobody must be writing to, and returns where the copy is.
// Opened there, the log is as after a crash at this moment.
func (w *World) Snapshot() string {
	w.Helper()
	path := filepath.Join(w.TempDir(), filepath.Base(w.Path))
	for _, end := range []string{"", "-wal", ".mark"} {
		data, err := os.ReadFile(w.Path + end)
		if end == "-wal" && os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = os.WriteFile(path+end, data, 0o600)
		}
		if err != nil {
			w.Fatal(err)
		}
	}
	return path
}

// Crash goes on from a snapshot, under a new issuer: what has happened since has not.
func (w *World) Crash(snapshot string) {
	w.Helper()
	if err := w.Tree.Close(); err != nil {
		w.Fatal(err)
	}
	w.Path = snapshot
	w.openLog()
	w.open()
}

// Fork makes a World that is as this one, whose log is closed, and goes on by itself. They have the same keys, each of which fails on its own.
func (w *World) Fork(tb testing.TB) *World {
	tb.Helper()
	f := *w
	f.TB, f.Path = tb, w.For(tb).Snapshot()
	f.versions, f.Persons, f.earlier = maps.Clone(w.versions), slices.Clone(w.Persons), slices.Clone(w.earlier)
	f.clock = new(atomic.Int64)
	f.clock.Store(w.clock.Load())
	f.Keys, f.Token = map[string]*Key{}, &Token{keys: map[statement.Thumbprint]*Key{}}
	for name, k := range w.Keys {
		f.Keys[name] = &Key{Signer: k.Signer}
		if id := k.Key().Thumbprint(); w.Token.keys[id] == k {
			f.Token.keys[id] = f.Keys[name]
		}
	}
	if w.Host != nil {
		f.Host = w.Host.Fork()
	}
	f.openLog()
	f.open()
	tb.Cleanup(func() { f.Tree.Close() })
	return &f
}

// Fork returns the same host for a World that is a fork.
func (h *Host) Fork() *Host {
	c, tpm := *h, *h.TPM
	c.TPM, c.Key = &tpm, &Key{Signer: h.Key.Signer}
	return &c
}
