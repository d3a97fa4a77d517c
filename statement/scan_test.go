package statement

import (
	"bytes"
	"testing"

	"github.com/governed-execution/writ/denial"
)

func TestScanAcceptsOneEncodingOnly(t *testing.T) {
	for _, good := range []string{
		"00", "17", "1818", "18ff", "190100", "1a00010000", "1b0000000100000000", "1bffffffffffffffff", "20", "3bffffffffffffffff",
		"40", "4101", "60", "62c3bc", "80", "820102", "a0", "a10101", "a201010202", "a2010120f6", "a2414101616102", "a142010200",
		"f4", "f5", "f6", "818181818181818101", "8181818181818180",
	} {
		if err := Scan(unhex(t, good)); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for bad, want := range map[string]denial.Reason{
		"":                                   denial.NotCanonical,
		"18":                                 denial.NotCanonical, // cut short
		"1901":                               denial.NotCanonical,
		"8201":                               denial.NotCanonical,
		"a101":                               denial.NotCanonical,
		"1817":                               denial.NotCanonical, // longer than needed
		"1900ff":                             denial.NotCanonical,
		"1a0000ffff":                         denial.NotCanonical,
		"1b00000000ffffffff":                 denial.NotCanonical,
		"3817":                               denial.NotCanonical,
		"580101":                             denial.NotCanonical,
		"780161":                             denial.NotCanonical,
		"980101":                             denial.NotCanonical,
		"b8010101":                           denial.NotCanonical,
		"1c":                                 denial.NotCanonical, // reserved
		"1d":                                 denial.NotCanonical,
		"1e":                                 denial.NotCanonical,
		"1f":                                 denial.NotCanonical,
		"5f4101ff":                           denial.NotCanonical, // indefinite
		"7f6161ff":                           denial.NotCanonical,
		"9f01ff":                             denial.NotCanonical,
		"bf0101ff":                           denial.NotCanonical,
		"ff":                                 denial.NotCanonical,
		"61ff":                               denial.NotCanonical, // not UTF-8
		"62c328":                             denial.NotCanonical,
		"63eda080":                           denial.NotCanonical, // a surrogate
		"e0":                                 denial.NotCanonical, // simple values
		"f3":                                 denial.NotCanonical,
		"f7":                                 denial.NotCanonical,
		"f814":                               denial.NotCanonical,
		"f8ff":                               denial.NotCanonical,
		"f93c00":                             denial.NotCanonical, // floats
		"f97e00":                             denial.NotCanonical,
		"fa7f800000":                         denial.NotCanonical,
		"fb3ff8000000000000":                 denial.NotCanonical,
		"c001":                               denial.NotCanonical, // tags
		"c101":                               denial.NotCanonical,
		"c24101":                             denial.NotCanonical,
		"d83d01":                             denial.NotCanonical,
		"d9d9f701":                           denial.NotCanonical,
		"a1180100":                           denial.NotCanonical, // keys
		"a11f00":                             denial.NotCanonical,
		"a1190100":                           denial.NotCanonical,
		"a1":                                 denial.NotCanonical,
		"a18001":                             denial.NotCanonical,
		"a1a001":                             denial.NotCanonical,
		"a1f401":                             denial.NotCanonical,
		"a1f601":                             denial.NotCanonical,
		"a202010101":                         denial.NotCanonical, // unsorted
		"a220010101":                         denial.NotCanonical,
		"a26161010101":                       denial.NotCanonical,
		"a2616201616101":                     denial.NotCanonical,
		"a262616101616201":                   denial.NotCanonical,
		"a3010102020103":                     denial.NotCanonical,
		"a201010102":                         denial.LabelDuplicate,
		"a2616101616102":                     denial.LabelDuplicate,
		"81a201010101":                       denial.LabelDuplicate,
		"0000":                               denial.TrailingData,
		"a000":                               denial.TrailingData,
		"4101f6":                             denial.TrailingData,
		"4201":                               denial.StructureLimit, // longer than the data
		"6261":                               denial.StructureLimit,
		"5affffffff":                         denial.StructureLimit,
		"9affffffff":                         denial.StructureLimit,
		"baffffffff":                         denial.StructureLimit,
		"992001":                             denial.StructureLimit,
		"b841":                               denial.StructureLimit,
		"818181818181818180":                 denial.StructureLimit, // nine deep
		"8181818181818181a0":                 denial.StructureLimit,
		"a101a101a101a101a101a101a101a10180": denial.StructureLimit,
	} {
		wantDenial(t, Scan(unhex(t, bad)), want)
	}
}

func TestScanLimitsAreExact(t *testing.T) {
	array := func(n int) []byte {
		return append([]byte{0x99, byte(n >> 8), byte(n)}, bytes.Repeat([]byte{0x01}, n)...)
	}
	if err := Scan(array(MaxArray)); err != nil {
		t.Errorf("%d elements: %v", MaxArray, err)
	}
	wantDenial(t, Scan(array(MaxArray+1)), denial.StructureLimit)
	pairs := func(n int) []byte {
		m := map[int]int{}
		for i := range n {
			m[i] = i
		}
		return encode(t, m)
	}
	if err := Scan(pairs(MaxMap)); err != nil {
		t.Errorf("%d pairs: %v", MaxMap, err)
	}
	wantDenial(t, Scan(pairs(MaxMap+1)), denial.StructureLimit)
	nested := func(n int) []byte { return append(bytes.Repeat([]byte{0x81}, n), 0x01) }
	if err := Scan(nested(MaxDepth)); err != nil {
		t.Errorf("%d deep: %v", MaxDepth, err)
	}
	wantDenial(t, Scan(nested(MaxDepth+1)), denial.StructureLimit)
}

func TestScanAllocatesNothing(t *testing.T) {
	data := encode(t, map[int]any{1: "text", 2: []byte("bytes"), 3: []int{1, 2, 3}, 4: map[string]int{"a": 1, "b": 2}})
	if n := testing.AllocsPerRun(100, func() {
		if Scan(data) != nil {
			t.Error("refused")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestAnItemIsTakenApart(t *testing.T) {
	for data, want := range map[string]uint64{"00": 0, "1818aa": 24, "83010203": 3, "5820": 32, "1bffffffffffffffff": 1<<64 - 1} {
		var n uint64
		if rest, ok := CutHead(unhex(t, data), &n); !ok || n != want || len(rest) >= len(unhex(t, data)) {
			t.Errorf("%s: got %d, %x, %v", data, n, rest, ok)
		}
	}
	for _, bad := range []string{"", "18", "1817", "9f", "1c"} {
		var n uint64
		if _, ok := CutHead(unhex(t, bad), &n); ok {
			t.Errorf("%q: taken apart", bad)
		}
	}
	if got, ok := BytesOf(unhex(t, "43010203")); !ok || !bytes.Equal(got, []byte{1, 2, 3}) {
		t.Errorf("got %x, %v", got, ok)
	}
	for _, bad := range []string{"", "63616263", "430102", "4301020300", "5803010203", "80"} {
		if _, ok := BytesOf(unhex(t, bad)); ok {
			t.Errorf("%q: a byte string", bad)
		}
	}
}
