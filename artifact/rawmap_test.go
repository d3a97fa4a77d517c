package artifact

import (
	"bytes"
	"slices"
	"testing"

	"github.com/governed-execution/writ/statement"
)

// rawMap is a CBOR map taken apart, so that one value can be broken and the rest left as it is.
type rawMap struct{ pairs [][2][]byte }

func (m *rawMap) parse(t testing.TB, enc []byte) {
	t.Helper()
	values := map[int64]statement.RawItem{}
	if err := statement.Unmarshal(enc, &values); err != nil {
		t.Fatal(err)
	}
	for k, v := range values {
		label, err := statement.Marshal(k)
		if err != nil {
			t.Fatal(err)
		}
		m.set(string(label), v)
	}
}

func (m *rawMap) set(label string, value []byte) {
	m.pairs = slices.DeleteFunc(m.pairs, func(p [2][]byte) bool { return string(p[0]) == label })
	if len(value) > 0 {
		m.pairs = append(m.pairs, [2][]byte{[]byte(label), value})
	}
	slices.SortFunc(m.pairs, func(a, b [2][]byte) int { return bytes.Compare(a[0], b[0]) })
}

func (m *rawMap) encode() []byte {
	b := []byte{0xa0 | byte(len(m.pairs))}
	if len(m.pairs) > 23 {
		b = []byte{0xb8, byte(len(m.pairs))}
	}
	for _, p := range m.pairs {
		b = append(append(b, p[0]...), p[1]...)
	}
	return b
}
