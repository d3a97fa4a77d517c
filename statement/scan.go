package statement

import (
	"bytes"
	"unicode/utf8"

	"github.com/governed-execution/writ/denial"
)

// Limits on any CBOR that is read.
const (
	MaxDepth = 8       // arrays and maps inside each other
	MaxMap   = 64      // pairs of one map
	MaxArray = 1 << 13 // elements of one array
)

// Scan checks that data is one CBOR item in core deterministic encoding: definite lengths (309), shortest heads (309),
// map keys that are integers or strings (309), sorted (309) and unique (308), valid UTF-8 (309), no floats, no tags and
// no simple values but false, true and null (309), the limits of this package (313), nothing behind it (310). It reads
// each byte once and believes no declared length.
func Scan(data []byte) error {
	s := scanner{data: data}
	if err := s.item(0); err != nil {
		return err
	}
	if s.pos != len(data) {
		return denial.New(denial.TrailingData, "bytes follow the CBOR item")
	}
	return nil
}

type scanner struct {
	data []byte
	pos  int
}

// head reads the initial bytes of an item: its major type and argument.
func (s *scanner) head() (major byte, arg uint64, err error) {
	if s.pos >= len(s.data) {
		return 0, 0, denial.New(denial.NotCanonical, "the CBOR item is cut short")
	}
	b := s.data[s.pos]
	s.pos++
	major, info := b>>5, b&0x1f
	if info < 24 {
		return major, uint64(info), nil
	}
	if info > 27 {
		return 0, 0, denial.New(denial.NotCanonical, "an indefinite or reserved length")
	}
	n := 1 << (info - 24)
	if len(s.data)-s.pos < n {
		return 0, 0, denial.New(denial.NotCanonical, "the CBOR item is cut short")
	}
	for _, c := range s.data[s.pos : s.pos+n] {
		arg = arg<<8 | uint64(c)
	}
	s.pos += n
	if shortest := [...]uint64{24, 1 << 8, 1 << 16, 1 << 32}[info-24]; arg < shortest {
		return 0, 0, denial.New(denial.NotCanonical, "an integer or length is not in its shortest form")
	}
	return major, arg, nil
}

// CutHead reads the head of an item, whose argument it gives, and returns what follows it.
func CutHead(data []byte, arg *uint64) (rest []byte, ok bool) {
	s := scanner{data: data}
	_, n, err := s.head()
	*arg = n
	return data[s.pos:], err == nil
}

// BytesOf returns the content of data that is one byte string in its one encoding.
func BytesOf(data []byte) (content []byte, ok bool) {
	if Scan(data) != nil {
		return nil, false
	}
	return byteString(data)
}

// item reads one item that stands inside depth arrays and maps.
func (s *scanner) item(depth int) error {
	major, arg, err := s.head()
	if err != nil {
		return err
	}
	if depth == MaxDepth && (major == 4 || major == 5) {
		return denial.New(denial.StructureLimit, "nested deeper than %d", MaxDepth)
	}
	switch major {
	case 0, 1:
		return nil
	case 2, 3:
		return s.text(major, arg)
	case 4:
		return s.array(arg, depth)
	case 5:
		return s.pairs(arg, depth)
	case 7:
		if arg < 20 || arg > 22 {
			return denial.New(denial.NotCanonical, "a float, or a simple value other than false, true and null")
		}
		return nil
	}
	return denial.New(denial.NotCanonical, "a tag where none is allowed")
}

func (s *scanner) text(major byte, n uint64) error {
	if n > uint64(len(s.data)-s.pos) {
		return denial.New(denial.StructureLimit, "a string is longer than the data")
	}
	b := s.data[s.pos : s.pos+int(n)]
	s.pos += int(n)
	if major == 3 && !utf8.Valid(b) {
		return denial.New(denial.NotCanonical, "a text string is not UTF-8")
	}
	return nil
}

func (s *scanner) array(n uint64, depth int) error {
	if n > MaxArray {
		return denial.New(denial.StructureLimit, "an array has more than %d elements", MaxArray)
	}
	for ; n > 0; n-- {
		if err := s.item(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner) pairs(n uint64, depth int) error {
	if n > MaxMap {
		return denial.New(denial.StructureLimit, "a map has more than %d pairs", MaxMap)
	}
	var last []byte // sorts before every key
	for ; n > 0; n-- {
		start := s.pos
		if err := s.key(); err != nil {
			return err
		}
		key := s.data[start:s.pos]
		switch c := bytes.Compare(last, key); {
		case c == 0:
			return denial.New(denial.LabelDuplicate, "a map key stands twice")
		case c > 0:
			return denial.New(denial.NotCanonical, "map keys are not sorted")
		}
		last = key
		if err := s.item(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// key reads a map key.
func (s *scanner) key() error {
	major, arg, err := s.head()
	switch {
	case err != nil:
		return err
	case major > 3:
		return denial.New(denial.NotCanonical, "a map key that is neither an integer nor a string")
	case major > 1:
		return s.text(major, arg)
	}
	return nil
}
