package wire_test

import (
	"bytes"
	"reflect"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/statement"
)

// bodies returns a valid value of each body.
func bodies() []any {
	return []any{
		&wire.Challenge{Challenge: bytes.Repeat([]byte{1}, 32), TTL: 60, Bank: "sha256", Quote: []int64{0, 4, 7}, Bind: []int64{4, 7}, Policy: bytes.Repeat([]byte{2}, 32)},
		&wire.Mint{Request: []byte{1}, Evidence: []byte{2}},
		&wire.Credential{Blob: []byte{1}, Secret: []byte{2}},
		&wire.Activation{Secret: bytes.Repeat([]byte{3}, 32)},
	}
}

func TestBodiesHaveOneEncoding(t *testing.T) {
	for _, v := range bodies() {
		raw, err := statement.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out := reflect.New(reflect.TypeOf(v).Elem()).Interface()
		if err := statement.Unmarshal(raw, out); err != nil || !reflect.DeepEqual(out, v) {
			t.Errorf("%T: got %+v and %v", v, out, err)
		}
		for name, row := range map[string]struct {
			raw  []byte
			want denial.Reason
		}{
			"nothing":        {nil, denial.NotCanonical},
			"empty":          {[]byte{0xa0}, denial.ClaimAbsent},
			"a byte more":    {append(bytes.Clone(raw), 0), denial.TrailingData},
			"a member more":  {more(raw), denial.UnsupportedVersion},
			"an array":       {[]byte{0x80}, denial.PayloadForm},
			"a text, no map": {[]byte{0x61, 'x'}, denial.PayloadForm},
		} {
			out := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if err := statement.Unmarshal(row.raw, out); !denial.Is(err, row.want) {
				t.Errorf("%T, %s: got %v, want %s", v, name, err, row.want)
			}
		}
	}
}

// more adds a member to an encoded map of fewer than 23 pairs.
func more(raw []byte) []byte {
	out := append(bytes.Clone(raw), 0x17, 0x00)
	out[0]++
	return out
}

func FuzzBodies(f *testing.F) {
	for _, v := range bodies() {
		raw, err := statement.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, v := range bodies() {
			out := reflect.New(reflect.TypeOf(v).Elem()).Interface()
			if statement.Unmarshal(raw, out) != nil {
				continue
			}
			again, err := statement.Marshal(out)
			if err != nil || !bytes.Equal(again, raw) {
				t.Fatalf("%T: %x is taken and becomes %x, %v", v, raw, again, err)
			}
		}
	})
}
