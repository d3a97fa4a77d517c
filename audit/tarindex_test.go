package audit_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/governed-execution/writ/audit"
)

// The one form of a tar file is that of the standard library's writer for the same members.
func TestTarHeaderIsThatOfOthers(t *testing.T) {
	for _, size := range []int64{0, 1, 511, 512, 1 << 20, 1<<30 - 1} {
		var b bytes.Buffer
		name := fmt.Sprintf("statements/%016d.scitt", size)
		err := tar.NewWriter(&b).WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR})
		got := audit.Header(name, size)
		if err != nil || !bytes.Equal(got[:], b.Bytes()) {
			t.Errorf("%d bytes: %v\ngot  %q\nwant %q", size, err, got, b.Bytes())
		}
	}
}

// An index of more members than memory holds at once finds each of them, and no other, in whatever order they came.
func TestIndexFindsWhatIsInIt(t *testing.T) {
	const n = 40_000
	name := func(i int) string { return fmt.Sprintf("receipts/%016d.receipt", 2*i) }
	for _, order := range [][]int{rand.New(rand.NewPCG(1, 2)).Perm(n), ascending(n)} {
		x, err := audit.NewIndex()
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		for _, i := range order {
			if err := x.Add(name(i), int64(i)); err != nil {
				t.Fatal(err)
			}
		}
		if err := x.Finish(); err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if at, offset, ok, err := x.Find(name(i)); err != nil || !ok || at != int64(i) || offset != int64(i) {
				t.Fatalf("%d: got %d, %d, %v, %v", i, at, offset, ok, err)
			}
		}
		for _, other := range []string{"", "receipts/", "receipts/0000000000000003.receipt", "receipts/9", "statements/0", string(make([]byte, 200))} {
			if _, _, ok, err := x.Find(other); ok || err != nil {
				t.Errorf("%q: found, or %v", other, err)
			}
		}
		if first, last, err := x.Span("receipts/"); err != nil || first != 0 || last != n {
			t.Errorf("got %d to %d, %v", first, last, err)
		}
		if first, last, err := x.Span("statements/"); err != nil || first != last {
			t.Errorf("got %d to %d, %v", first, last, err)
		}
	}
	for _, apart := range []int{1, n / 2} { // the same path twice, in one run and in two
		x, err := audit.NewIndex()
		if err != nil {
			t.Fatal(err)
		}
		defer x.Close()
		for i := range n {
			if err := x.Add(name(max(0, i-i/apart)), 0); err != nil {
				t.Fatal(err)
			}
		}
		if err := x.Finish(); err == nil {
			t.Error("a path stands twice, and nobody noticed")
		}
	}
}

func ascending(n int) (all []int) {
	for i := range n {
		all = append(all, i)
	}
	return all
}
