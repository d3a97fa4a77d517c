package statement

import "math"

// The functions of this file take an item apart that Scan has accepted. They keep no copy and return slices of it.

// next returns the next item; nil at the end.
func (s *scanner) next() []byte {
	start := s.pos
	if s.item(0) != nil {
		return nil
	}
	return s.data[start:s.pos]
}

// byteString returns the content of a byte string.
func byteString(item []byte) (content []byte, ok bool) { return stringOf(item, 2) }

// textOf returns a text string.
func textOf(item []byte) (text string, ok bool) {
	b, ok := stringOf(item, 3)
	return string(b), ok
}

// textIs reports whether the item is the text string want.
func textIs(item []byte, want string) bool {
	got, ok := stringOf(item, 3)
	return ok && string(got) == want
}

func stringOf(item []byte, want byte) ([]byte, bool) {
	s := scanner{data: item}
	major, _, err := s.head()
	if err != nil || major != want {
		return nil, false
	}
	return item[s.pos:], true
}

// integer returns the value of an integer that fits into int64.
func integer(item []byte) (int64, bool) {
	s := scanner{data: item}
	major, arg, err := s.head()
	if err != nil || major > 1 || arg > math.MaxInt64 {
		return 0, false
	}
	if major == 1 {
		return -1 - int64(arg), true
	}
	return int64(arg), true
}

// header is a map with integer labels: a handful of pairs, so that a search is faster than a Go map.
type header []field

type field struct {
	label int64
	value []byte
}

// find returns the encoded value of a label, nil if it is absent.
func (h header) find(label int64) []byte {
	for _, f := range h {
		if f.label == label {
			return f.value
		}
	}
	return nil
}

// parseHeader returns the pairs of a map whose keys are integers, and whether there are pairs with other keys. It is
// not ok if the item is not a map.
func parseHeader(item []byte) (h header, others, ok bool) {
	s := scanner{data: item}
	major, n, err := s.head()
	if err != nil || major != 5 || n > MaxMap {
		return nil, false, false
	}
	h = make(header, 0, n)
	for ; n > 0; n-- {
		key, value := s.next(), s.next()
		if label, isInt := integer(key); isInt {
			h = append(h, field{label, value})
		} else {
			others = true
		}
	}
	return h, others, true
}
