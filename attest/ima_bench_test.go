package attest_test

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/governed-execution/writ/attest"
)

// BenchmarkIMA is Verify with lists of growing length: twice the list takes twice the time.
func BenchmarkIMA(b *testing.B) {
	for _, n := range []int{1000, 10_000, 40_000} {
		b.Run(fmt.Sprintf("entries=%d", n), func(b *testing.B) {
			w := newIMAWorld(b)
			for i := range n {
				w.list.File(fmt.Sprintf("/usr/lib/%06d", i), "agent")
			}
			w.pcrs[10] = w.list.PCR10("sha256")
			e := w.evidence(b)
			e.IMALog = w.list.Bytes
			raw := encode(b, e)
			b.SetBytes(int64(len(w.list.Bytes)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := verify(raw, w.want); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// A long list costs no memory beside the bytes that came: no entry is kept.
func TestMemoryOfLongIMALists(t *testing.T) {
	w := newIMAWorld(t)
	const n = 40_000
	for i := range n {
		w.list.File(fmt.Sprintf("/usr/lib/%06d", i), "agent")
	}
	w.pcrs[10] = w.list.PCR10("sha256")
	e := w.evidence(t)
	e.IMALog = w.list.Bytes
	raw := encode(t, e)
	ev, err := attest.DecodeEvidence(raw)
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	facts, err := attest.Verify(ev, w.want)
	runtime.ReadMemStats(&after)
	if err != nil || facts.Claims().IMA.Entries != n+2 {
		t.Fatalf("got %v", err)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > 16<<20 {
		t.Errorf("%d entries took %d bytes, want at most 16 MiB", n, got)
	}
}
