//go:build vm && vmfull

package vm

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/vm/talk"
)

// TestIMA runs a program in machines where IMA measures it, and where it does not: a policy that demands that a program
// was measured must deny a machine that never measures the file system that it runs from.
func TestIMA(t *testing.T) {
	l := newLab(t)
	program, err := BuildProgram(t.Context(), l.Dir, "./test/demo/workload")
	if err != nil {
		t.Fatal(err)
	}
	inside := File{"bin/reconcile", 0o755, program}
	const unknown = denial.IMAUnknownFile
	t.Run("tmpfs", func(t *testing.T) {
		t.Parallel()
		h := imaHost(t, l, "tmpfs", tmpfsCommandLine, inside)
		h.runs("/bin/reconcile", nil)
		h.decides("/bin/reconcile", program, unknown)
	})
	t.Run("ramfs and ext4", func(t *testing.T) {
		t.Parallel()
		h := imaHost(t, l, "ramfs", CommandLine, inside)
		h.runs("/bin/reconcile", nil)
		h.decides("/bin/reconcile", program, 0)
		h.decides("/data/reconcile", program, unknown)
		h.runs("/data/reconcile", program)
		h.decides("/data/reconcile", program, 0)
		h.runs("/data/reconcile", append(program[:len(program):len(program)], 0))
		h.decides("/data/reconcile", program, unknown)
	})
}

// host is a machine that is on, for one test.
type host struct {
	*testing.T
	ctx   context.Context
	lab   *Lab
	m     *Machine
	ak    []byte
	image string
}

func imaHost(t *testing.T, l *Lab, name, commandLine string, files ...File) *host {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
	t.Cleanup(cancel)
	image, err := l.SignedImage(ctx, "ima-"+name, commandLine, files...)
	if err != nil {
		t.Fatal(err)
	}
	dir, err := l.Scratch()
	if err != nil {
		t.Fatal(err)
	}
	b, err := l.Machine(ctx, dir, image, l.Keys())
	if err != nil {
		t.Fatal(err)
	}
	b.Data = filepath.Join(dir, "data.img")
	if err := DataDisk(ctx, b.Data, ""); err != nil {
		t.Fatal(err)
	}
	m, err := Start(ctx, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	if err := m.Ready(ctx); err != nil {
		t.Fatal(err)
	}
	h := &host{T: t, ctx: ctx, lab: l, m: m, image: image}
	if h.ak, err = l.enrol(ctx, m); err != nil {
		t.Fatal(err)
	}
	return h
}

// runs writes a program, unless it is there already, and runs it.
func (h *host) runs(path string, program []byte) {
	h.Helper()
	if program != nil {
		if _, err := h.m.Ask(h.ctx, talk.Request{Op: talk.Put, Path: path, Mode: 0o755, Data: program}); err != nil {
			h.Fatal(err)
		}
	}
	r, err := h.m.Ask(h.ctx, talk.Request{Op: talk.Run, Args: []string{path}})
	if err != nil || r.Status != 0 {
		h.Fatalf("running %s: %v", path, err)
	}
}

// decides has a policy about the program decide.
func (h *host) decides(path string, program []byte, want denial.Reason) {
	h.Helper()
	p, err := h.lab.predictFile(h.image)
	if err != nil {
		h.Fatal(err)
	}
	d, err := h.m.CollectFor(h.ctx, h.ak, FilePolicy(p, path, program))
	if err != nil {
		h.Fatal(err)
	}
	if got := Reason(asError(d)); got != want {
		h.Errorf("%s: the policy decided %v, want %v", path, d, want)
	}
}
