package statement

import (
	"bytes"
	"math"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
)

type inner struct {
	Name string `cbor:"1,keyasint"`
	Note string `cbor:"2,keyasint,omitempty"`
}

type outer struct {
	ID    Digest           `cbor:"1,keyasint"`
	Inner inner            `cbor:"2,keyasint"`
	List  []inner          `cbor:"3,keyasint,omitempty"`
	Key   *Key             `cbor:"4,keyasint,omitempty"`
	Raw   RawItem          `cbor:"5,keyasint,omitempty"`
	Prev  *Digest          `cbor:"6,keyasint"` // null if there is none
	Some  map[int64]string `cbor:"-1,keyasint,omitempty"`
}

func TestWhatIsMarshalledIsReadBack(t *testing.T) {
	_, s := newSigner(t)
	key := s.Key()
	d := DigestOf([]byte("x"))
	for _, in := range []outer{
		{},
		{ID: d, Inner: inner{"name", "note"}, List: []inner{{Name: "a"}, {Name: "b"}}, Key: &key, Raw: RawItem{0x82, 1, 2}, Prev: &d,
			Some: map[int64]string{-1: "x", 5: "y"}},
	} {
		data, err := Marshal(in)
		if err != nil {
			t.Fatal(err)
		}
		var out outer
		if err := Unmarshal(data, &out); err != nil {
			t.Fatal(err)
		}
		again, err := Marshal(out)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("got %x, %v, want %x", again, err, data)
		}
	}
}

func TestUnmarshalRefusesInsideOfStructures(t *testing.T) {
	good := func() map[int64]any {
		return map[int64]any{1: make([]byte, 32), 2: map[int64]any{1: "name"}, 6: nil}
	}
	var out outer
	if err := Unmarshal(encode(t, good()), &out); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		label int64
		value any
		want  denial.Reason
	}{
		"digest of 31 bytes":            {1, make([]byte, 31), denial.PayloadForm},
		"digest of 33 bytes":            {1, make([]byte, 33), denial.PayloadForm},
		"digest empty":                  {1, []byte{}, denial.PayloadForm},
		"digest null":                   {1, nil, denial.ClaimAbsent},
		"previous digest of 31 bytes":   {6, make([]byte, 31), denial.PayloadForm},
		"inner structure null":          {2, nil, denial.ClaimAbsent},
		"inner structure empty":         {2, map[int64]any{}, denial.PayloadForm},
		"inner name null":               {2, map[int64]any{1: nil}, denial.PayloadForm},
		"inner note empty":              {2, map[int64]any{1: "n", 2: ""}, denial.PayloadForm},
		"inner unknown key":             {2, map[int64]any{1: "n", 3: 1}, denial.UnsupportedVersion},
		"inner structure as array":      {2, []any{"n"}, denial.PayloadForm},
		"an inner structure for a list": {3, map[int64]any{1: "n"}, denial.PayloadForm},
		"an empty optional list":        {3, []any{}, denial.PayloadForm},
		"null in a list":                {3, []any{nil}, denial.PayloadForm},
		"a key off its curve":           {4, map[int64]any{1: 2, -1: 1, -2: make([]byte, 32), -3: make([]byte, 32)}, denial.AlgKeyMismatch},
		"a key of another type":         {4, map[int64]any{1: 4, -1: 1, -2: make([]byte, 32), -3: make([]byte, 32)}, denial.AlgNotAllowed},
		"a key with a private part":     {4, map[int64]any{1: 2, -1: 1, -2: make([]byte, 32), -4: make([]byte, 32)}, denial.UnsupportedVersion},
		"unknown label":                 {7, 1, denial.UnsupportedVersion},
	} {
		t.Run(name, func(t *testing.T) {
			m := good()
			m[c.label] = c.value
			var out outer
			wantDenial(t, Unmarshal(encode(t, m), &out), c.want)
		})
	}
	for _, label := range []int64{1, 2, 6} {
		m := good()
		delete(m, label)
		var out outer
		wantDenial(t, Unmarshal(encode(t, m), &out), denial.ClaimAbsent)
	}
}

// TestNullIsANilSliceAndNothingElse: where null can be read it is also what is written.
func TestNullIsANilSliceAndNothingElse(t *testing.T) {
	type lists struct {
		Bytes []byte           `cbor:"1,keyasint"`
		List  []string         `cbor:"2,keyasint"`
		Map   map[int64]string `cbor:"3,keyasint"`
	}
	for _, m := range []map[int64]any{{1: nil, 2: nil, 3: nil}, {1: []byte{}, 2: []string{}, 3: map[int64]string{}}} {
		var out lists
		if err := Unmarshal(encode(t, m), &out); err != nil {
			t.Fatal(err)
		}
		if isNil := m[1] == nil; (out.Bytes == nil) != isNil || (out.List == nil) != isNil || (out.Map == nil) != isNil {
			t.Errorf("%v reads as %#v", m, out)
		}
	}
}

// TestUnmarshalNeedsAZeroValue: what stands in v already cannot pass for something that was read.
func TestUnmarshalNeedsAZeroValue(t *testing.T) {
	out := inner{Name: "old", Note: "old"}
	if err := Unmarshal([]byte{0xa1, 0x01, 0x61, 'n'}, &out); err == nil {
		t.Error("an old value survives")
	}
}

func TestMarshalRefusesWhatScanRefuses(t *testing.T) {
	deep := any(1)
	for range MaxDepth + 1 {
		deep = []any{deep}
	}
	for name, v := range map[string]any{
		"float": 1.5, "NaN": math.NaN(), "not UTF-8": "\xff", "too deep": deep, "too many": make([]int, MaxArray+1),
		"channel": make(chan int), "raw item of two": RawItem{1, 2}, "raw item not canonical": RawItem{0x18, 1}, "the zero key": Key{},
	} {
		if b, err := Marshal(v); err == nil {
			t.Errorf("%s: got %x", name, b)
		}
	}
}

func TestMapsAreSorted(t *testing.T) {
	m := map[any]any{"b": 1, "a": 2, 10: 3, -1: 4, 24: 5, "aa": 6}
	want := unhex(t, "a60a03181805200461610261620162616106")
	for range 20 {
		got, err := Marshal(m)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("got %x, %v, want %x", got, err, want)
		}
	}
}

func TestPeekShowsOneValue(t *testing.T) {
	data := encode(t, map[int64]any{1: "x", 4: 1.5, -7: []byte{1}})
	if v, ok := Peek(data, 4); !ok || v[0]>>5 != 7 {
		t.Errorf("got %x, %v", v, ok)
	}
	if v, ok := Peek(data, -7); !ok || !bytes.Equal(v, []byte{0x41, 1}) {
		t.Errorf("got %x, %v", v, ok)
	}
	if _, ok := Peek(data, 5); ok {
		t.Error("a value of an absent key")
	}
	for _, bad := range [][]byte{nil, {0xff}, {0x80}, {0xa1}, {0x01}, bytes.Repeat([]byte{0x81}, 100_000)} {
		if v, ok := Peek(bad, 1); ok {
			t.Errorf("%x: got %x", bad[:min(len(bad), 8)], v)
		}
	}
}

func TestDiagnoseShowsNoControlCharacters(t *testing.T) {
	s, err := Diagnose(encode(t, map[int]any{1: "a\x1b[2Jb\r\n", 2: []byte{1}}))
	if err != nil || strings.ContainsAny(s, "\x1b\r\n") || !strings.Contains(s, "h'01'") {
		t.Errorf("got %q, %v", s, err)
	}
	_, err = Diagnose([]byte{0xa1})
	wantDenial(t, err, denial.NotCanonical)
}
