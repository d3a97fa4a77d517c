package attest_test

import (
	"bytes"
	"runtime"
	"sync"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/softtpm"
)

// each calls f for 0 to n-1 on all processors.
func each(n int, f func(int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func TestQ21_TruncationIsRefused(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	good := w.evidence(t)
	raw := encode(t, good)
	check := func(what string, i int, raw []byte) {
		facts, err := verify(raw, w.want)
		if d := denial.Of(err); err == nil || facts != nil || d.Reason < 300 || d.Reason > 399 {
			t.Errorf("%s cut to %d bytes: got %v, want 3xx", what, i, err)
		}
	}
	each(len(raw)-1, func(i int) { check("evidence", i+1, raw[:i+1]) })
	parts := map[string]func(*softtpm.Evidence) *[]byte{
		"quote":                   func(e *softtpm.Evidence) *[]byte { return &e.Quote },
		"signature":               func(e *softtpm.Evidence) *[]byte { return &e.Signature },
		"AK":                      func(e *softtpm.Evidence) *[]byte { return &e.AK },
		"certification":           func(e *softtpm.Evidence) *[]byte { return &e.Certify.Attest },
		"certification signature": func(e *softtpm.Evidence) *[]byte { return &e.Certify.Signature },
		"cnf key":                 func(e *softtpm.Evidence) *[]byte { return &e.CNF },
	}
	for name, part := range parts {
		for i := range len(*part(&good)) {
			cut := good
			*part(&cut) = (*part(&good))[:i]
			check(name, i, encode(t, cut))
		}
	}
	// With a signature over the shorter quote, so that nothing but its form is wrong.
	for i := range len(good.Quote) {
		cut := good
		w.sign(t, &cut, good.Quote[:i])
		check("signed quote", i, encode(t, cut))
	}
}

// Every bit of evidence is under a signature, a hash or a comparison, except in the boot log (TestL28_EveryBitFlipped).
func TestQ22_BitFlipsAreRefused(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	raw := encode(t, w.evidence(t))
	if _, err := verify(raw, w.want); err != nil {
		t.Fatal(err)
	}
	start := bytes.Index(raw, w.log)
	each(8*len(raw), func(bit int) {
		if i := bit / 8; i >= start && i < start+len(w.log) {
			return
		}
		flipped := bytes.Clone(raw)
		flipped[bit/8] ^= 1 << (bit % 8)
		if facts, err := verify(flipped, w.want); err == nil || facts != nil {
			t.Errorf("bit %d: accepted, with %v", bit, err)
		}
	})
}
