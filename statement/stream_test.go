package statement_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// streamed is a map of two pairs, the second an array of n small arrays.
func streamed(t *testing.T, n int) []byte {
	t.Helper()
	b := append(statement.AppendMap(nil, 2), 1, 7, 2)
	b = statement.AppendArray(b, n)
	for i := range n {
		raw, err := statement.Marshal([]int{i, i + 1})
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, raw...)
	}
	return b
}

// readStreamed reads it again.
func readStreamed(r io.Reader) (list [][]int, err error) {
	s := statement.NewStream(r)
	if _, err := s.Map(); err != nil {
		return nil, err
	}
	var first, seven, second int
	for _, v := range []*int{&first, &seven, &second} {
		if err := s.Next(v); err != nil {
			return nil, err
		}
	}
	n, err := s.Array()
	for ; err == nil && n > 0; n-- {
		var pair []int
		if err = s.Next(&pair); err == nil {
			list = append(list, pair)
		}
	}
	return list, errors.Join(err, s.End())
}

func TestStreamReadsWhatMarshalWrites(t *testing.T) {
	for _, n := range []int{0, 1, 23, 24, 255, 256, 5000} {
		raw := streamed(t, n)
		if err := statement.Scan(raw); err != nil {
			t.Fatalf("%d: heads are not canonical: %v", n, err)
		}
		list, err := readStreamed(iotest.OneByteReader(bytes.NewReader(raw)))
		if err != nil || len(list) != n || n > 0 && list[n-1][1] != n {
			t.Errorf("%d: got %d, %v", n, len(list), err)
		}
	}
}

func TestStreamRefuses(t *testing.T) {
	good := streamed(t, 3)
	edit := func(at int, b ...byte) []byte {
		return append(append(bytes.Clone(good[:at]), b...), good[at+1:]...)
	}
	for name, c := range map[string]struct {
		raw  []byte
		want denial.Reason
	}{
		"cut short":                {good[:len(good)-1], denial.NotCanonical},
		"nothing":                  {nil, denial.NotCanonical},
		"something behind":         {append(bytes.Clone(good), 0), denial.TrailingData},
		"an array for a map":       {edit(0, 0x82), denial.PayloadForm},
		"a long head":              {edit(2, 0x18, 7), denial.NotCanonical},
		"an indefinite array":      {edit(4, 0x9f), denial.NotCanonical},
		"a longer array":           {edit(4, 0x99, 0x20, 0x01), denial.StructureLimit},
		"a text for a number":      {edit(2, 0x61, 'a'), denial.PayloadForm},
		"a huge string":            {edit(2, 0x5a, 0x7f, 0xff, 0xff, 0xff), denial.StructureLimit},
		"a huge array in an item":  {edit(5, 0x9a, 0x7f, 0xff, 0xff, 0xff), denial.StructureLimit},
		"a deep item":              {edit(2, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 0x81, 7), denial.StructureLimit},
		"a float":                  {edit(2, 0xf9, 0, 0), denial.NotCanonical},
		"a tag":                    {edit(2, 0xc1), denial.NotCanonical},
		"a map with too many keys": {edit(0, 0xb8, 65), denial.StructureLimit},
	} {
		if _, err := readStreamed(bytes.NewReader(c.raw)); !denial.Is(err, c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
	broken := errors.New("broken")
	if _, err := readStreamed(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("a fault: got %v", err)
	}
}
