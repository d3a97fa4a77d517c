package issuer_test

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/test/issuertest"
)

func readFile(w *issuertest.World, name string) []byte {
	w.Helper()
	return issuertest.Must(os.ReadFile(name))(w)
}

func TestR15_ManyHostsMintAtOnce(t *testing.T) {
	const hosts, each = 64, 4
	w := issuertest.New(t)
	attempts := make([][]issuertest.Attempt, hosts)
	for n := range attempts {
		h := w.EnrolHost(fmt.Sprint(issuertest.OtherURI, n), "")
		for range each {
			attempts[n] = append(attempts[n], w.Prepare(issuertest.Spoil{Host: h}))
		}
	}
	before := w.Size()
	var mu sync.Mutex
	var minted []*issuer.Minted
	parallel(hosts, func(i int) error {
		for _, a := range attempts[i] {
			m, err := a.Send()
			if err != nil {
				t.Error(err)
				return err
			}
			mu.Lock()
			minted = append(minted, m)
			mu.Unlock()
		}
		return nil
	})
	if len(minted) != hosts*each || w.Size() != before+hosts*each {
		t.Fatalf("got %d artifacts and %d entries more", len(minted), w.Size()-before)
	}
	refs, ids := map[artifact.StatusRef]bool{}, map[string]bool{}
	for _, m := range minted {
		c := issuertest.Must(verify(w, m))(t).Claims()
		if refs[c.Status.List] || ids[string(c.ID)] {
			t.Fatalf("status index %d or cti twice", c.Status.List.Index)
		}
		refs[c.Status.List], ids[string(c.ID)] = true, true
	}
	if n, _ := w.Issuer.Counts(); n != hosts*each {
		t.Errorf("counted %d", n)
	}
}

func TestOneHostMintsOverManyConnections(t *testing.T) {
	const n = 64
	w := issuertest.New(t)
	attempts := make([]issuertest.Attempt, n)
	for i := range attempts {
		w.Host.TPM.Clock.Clock += 400 // over all more than the grain of the high-water mark
		attempts[i] = w.Prepare(issuertest.Spoil{})
	}
	reasons := parallel(n, func(i int) error { _, err := attempts[i].Send(); return err })
	if reasons[0] != n {
		t.Errorf("got %v, want %d artifacts", reasons, n)
	}
}

func BenchmarkMint(b *testing.B) {
	w := issuertest.New(b)
	attempts := make([]issuertest.Attempt, b.N)
	for n := range attempts {
		attempts[n] = w.Prepare(issuertest.Spoil{})
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, a := range attempts {
		issuertest.Must(a.Send())(b)
	}
}

func BenchmarkMintParallel(b *testing.B) {
	w := issuertest.New(b)
	attempts := make([]issuertest.Attempt, b.N)
	for n := range attempts {
		attempts[n] = w.Prepare(issuertest.Spoil{})
	}
	next := make(chan issuertest.Attempt, b.N)
	for _, a := range attempts {
		next <- a
	}
	close(next)
	b.SetParallelism(64)
	b.ReportAllocs()
	b.ResetTimer()
	cpu := cpuTime(b)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			issuertest.Must((<-next).Send())(b)
		}
	})
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

// cpuTime returns the CPU time that this process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
