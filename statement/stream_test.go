package statement_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"reflect"
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
		"a string cut short":       {append(bytes.Clone(good[:2]), 0x63, 'a'), denial.NotCanonical},
		"a head cut short":         {append(bytes.Clone(good[:2]), 0x19, 1), denial.NotCanonical},
		"a reserved length":        {edit(2, 0x1c), denial.NotCanonical},
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

func TestStreamReadsEveryKindOfItem(t *testing.T) {
	for _, want := range []any{uint64(0), uint64(24), uint64(1 << 16), uint64(1 << 32), int64(-1), "text", []byte("bytes"), false, []any{},
		map[any]any{uint64(1): "a", "two": []any{uint64(2)}}} {
		raw, err := statement.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		s := statement.NewStream(bytes.NewReader(append(raw, 7)))
		var got any
		var seven int
		if err := errors.Join(s.Next(&got), s.Next(&seven), s.End()); err != nil || !reflect.DeepEqual(got, want) || seven != 7 {
			t.Errorf("%x: got %v and %d, %v", raw, got, seven, err)
		}
	}
}

// longItem is a byte string that has, with its head, n bytes.
func longItem(n int) []byte {
	return binary.BigEndian.AppendUint32([]byte{0x5a}, uint32(n-5))
}

func TestLimitsOfAStreamAreExact(t *testing.T) {
	ones := func(head []byte, n int) []byte { return append(head, bytes.Repeat([]byte{1}, n)...) }
	pairs := func(n int) (b []byte) {
		b = statement.AppendMap(nil, n)
		for i := range n {
			b = append(statement.AppendUint(b, uint64(i)), 1)
		}
		return b
	}
	for name, c := range map[string]struct {
		raw  []byte
		read func(*statement.Stream) error
		want denial.Reason // 0: it is read
	}{
		"an array":                   {raw: statement.AppendArray(nil, statement.MaxArray), read: func(s *statement.Stream) error { _, err := s.Array(); return err }},
		"an array with one more":     {statement.AppendArray(nil, statement.MaxArray+1), func(s *statement.Stream) error { _, err := s.Array(); return err }, denial.StructureLimit},
		"a map":                      {raw: statement.AppendMap(nil, statement.MaxMap), read: func(s *statement.Stream) error { _, err := s.Map(); return err }},
		"an array as an item":        {raw: ones(statement.AppendArray(nil, statement.MaxArray), statement.MaxArray), read: next},
		"one more as an item":        {ones(statement.AppendArray(nil, statement.MaxArray+1), statement.MaxArray+1), next, denial.StructureLimit},
		"a map as an item":           {raw: pairs(statement.MaxMap), read: next},
		"a map with one more":        {pairs(statement.MaxMap + 1), next, denial.StructureLimit},
		"the deepest item":           {raw: append(bytes.Repeat([]byte{0x81}, statement.MaxDepth), 1), read: next},
		"a deeper item":              {append(bytes.Repeat([]byte{0x81}, statement.MaxDepth+1), 1), next, denial.StructureLimit},
		"the longest item":           {raw: ones(longItem(statement.MaxItem), statement.MaxItem-5), read: next},
		"a byte more":                {ones(longItem(statement.MaxItem+1), statement.MaxItem-4), next, denial.StructureLimit},
		"a head cut short":           {[]byte{0x19, 1}, next, denial.NotCanonical},
		"a head behind a long item":  {raw: append(ones(longItem(statement.MaxItem), statement.MaxItem-5), 0x80), read: nextThenArray},
		"an item behind a long item": {raw: append(ones(longItem(statement.MaxItem), statement.MaxItem-5), 0x01), read: nextTwice},
	} {
		if err := c.read(statement.NewStream(bytes.NewReader(c.raw))); c.want == 0 && err != nil || c.want != 0 && !denial.Is(err, c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

func next(s *statement.Stream) error {
	var v any
	return s.Next(&v)
}

func nextTwice(s *statement.Stream) error { return errors.Join(next(s), next(s)) }

func nextThenArray(s *statement.Stream) error {
	err := next(s)
	if err == nil {
		_, err = s.Array()
	}
	return err
}

// What is too deep or has too many elements is refused at its head, and not when all of it has been read.
func TestAStreamReadsNoMoreThanItMust(t *testing.T) {
	for name, head := range map[string][]byte{
		"an array of millions": {0x9a, 0x00, 0x3f, 0xff, 0xff},
		"a map of millions":    {0xba, 0x00, 0x1f, 0xff, 0xff},
		"a deep array":         bytes.Repeat([]byte{0x81}, 1<<20),
		"a long string":        {0x5a, 0x7f, 0xff, 0xff, 0xff},
	} {
		rest := &counter{r: io.MultiReader(bytes.NewReader(head), zeros{})}
		if err := next(statement.NewStream(rest)); !denial.Is(err, denial.StructureLimit) || rest.n > 128<<10 {
			t.Errorf("%s: read %d bytes, got %v", name, rest.n, err)
		}
	}
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// zeros has no end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestAFaultAtTheEndOfAStreamIsNoEnd(t *testing.T) {
	broken := errors.New("broken")
	s := statement.NewStream(io.MultiReader(bytes.NewReader([]byte{1}), iotest.ErrReader(broken)))
	if err := next(s); err != nil {
		t.Fatal(err)
	}
	if err := s.End(); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
