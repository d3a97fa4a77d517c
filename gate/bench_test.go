package gate

import (
	"bytes"
	"context"
	"os/exec"
	"testing"
)

// BenchmarkPlain is what the machine needs to start the child, without a gate.
func BenchmarkPlain(b *testing.B) {
	r := newRig(b, newWorld(b), "a")
	for b.Loop() {
		if err := exec.Command(r.child, "exit", "0").Run(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkExec is a whole run: all checks, journal, start and end record. The TPM is made of software keys and the
// issuer is in this process, so the network's and a real TPM's time come on top.
func BenchmarkExec(b *testing.B) {
	r := newRig(b, newWorld(b), "a")
	r.benchmark(b)
}

// BenchmarkExecTPM is the same with a software TPM that is a program of its own.
func BenchmarkExecTPM(b *testing.B) {
	newHardWorld(b, "a")[0].benchmark(b)
}

func (r *rig) benchmark(b *testing.B) {
	var cmd Command
	for n := 0; b.Loop(); n++ {
		if n%100 == 0 {
			b.StopTimer()
			cmd = r.often(100, "exit", "0")
			b.StartTimer()
		}
		if out, err := r.gate.Exec(context.Background(), cmd); err != nil || !out.Started {
			b.Fatalf("%+v, %v", out, err)
		}
	}
}

// BenchmarkLoad is the cost of a program's size: copying, hashing twice.
func BenchmarkLoad(b *testing.B) {
	r := newRig(b, newWorld(b), "a")
	path := r.program("large", bytes.Repeat([]byte("0123456789abcdef"), 4<<20))
	b.SetBytes(64 << 20)
	for b.Loop() {
		l := &launch{program: must(load(path))(b)}
		if err := l.check(); err != nil {
			b.Fatal(err)
		}
		l.close()
	}
}
