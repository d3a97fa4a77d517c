package statement

import (
	"bufio"
	"errors"
	"fmt"
	"io"

	"github.com/governed-execution/writ/denial"
)

// MaxItem is how many bytes an item of a stream has at most.
const MaxItem = 4 << 20

// Stream reads one long CBOR item part by part, so that memory holds one part at a time. Whoever reads it takes each head and each
// part in order and calls End. What the whole of an item would be refused for, in heads and parts, is refused here with the same
// codes; the order of the keys of a map that is read so is for the caller to check.
type Stream struct {
	r   *bufio.Reader
	buf []byte
}

// NewStream returns a stream of what r reads.
func NewStream(r io.Reader) *Stream { return &Stream{r: bufio.NewReaderSize(r, 64<<10)} }

// Array reads the head of an array and returns how many elements follow.
func (s *Stream) Array() (uint64, error) { return s.head(4, MaxArray) }

// Map reads the head of a map and returns how many pairs follow.
func (s *Stream) Map() (uint64, error) { return s.head(5, MaxMap) }

func (s *Stream) head(major byte, limit uint64) (uint64, error) {
	s.buf = s.buf[:0]
	got, n, err := s.take()
	switch {
	case err != nil:
		return 0, err
	case got != major:
		return 0, denial.New(denial.PayloadForm, "a value has the wrong type or length")
	case n > limit:
		return 0, denial.New(denial.StructureLimit, "an array or map has more than %d elements", limit)
	}
	return n, nil
}

// Next reads one item into v, as Unmarshal does.
func (s *Stream) Next(v any) error {
	s.buf = s.buf[:0]
	if err := s.item(0); err != nil {
		return err
	}
	return Unmarshal(s.buf, v)
}

// End checks that nothing follows.
func (s *Stream) End() error {
	switch _, err := s.r.ReadByte(); {
	case err == nil:
		return denial.New(denial.TrailingData, "bytes follow the CBOR item")
	case !errors.Is(err, io.EOF):
		return fmt.Errorf("reading CBOR: %w", err)
	}
	return nil
}

// item copies one item into the buffer. Unmarshal checks it; here it is only measured.
func (s *Stream) item(depth int) error {
	major, n, err := s.take()
	if err != nil {
		return err
	}
	items := n
	switch {
	case major == 2 || major == 3:
		return s.copy(n)
	case major != 4 && major != 5:
		return nil
	case depth == MaxDepth || major == 4 && n > MaxArray || major == 5 && n > MaxMap:
		return denial.New(denial.StructureLimit, "an item is nested too deep, or has too many elements")
	case major == 5:
		items *= 2
	}
	for ; items > 0; items-- {
		if err := s.item(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// take copies a head into the buffer and returns what it says.
func (s *Stream) take() (major byte, n uint64, err error) {
	start := len(s.buf)
	if err := s.copy(1); err != nil {
		return 0, 0, err
	}
	if info := s.buf[start] & 0x1f; info >= 24 && info <= 27 {
		if err := s.copy(1 << (info - 24)); err != nil {
			return 0, 0, err
		}
	}
	h := scanner{data: s.buf[start:]}
	return h.head()
}

// copy takes n bytes into the buffer.
func (s *Stream) copy(n uint64) error {
	have := len(s.buf)
	if n > uint64(MaxItem-have) {
		return denial.New(denial.StructureLimit, "an item has more than %d bytes", MaxItem)
	}
	s.buf = append(s.buf, make([]byte, n)...)
	switch _, err := io.ReadFull(s.r, s.buf[have:]); {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return denial.New(denial.NotCanonical, "the CBOR item is cut short")
	case err != nil:
		return fmt.Errorf("reading CBOR: %w", err)
	}
	return nil
}

// AppendArray appends the head of an array of n elements, and AppendMap that of a map of n pairs. The elements, each made with
// Marshal, follow it.
func AppendArray(b []byte, n int) []byte { return appendMajor(b, 4<<5, uint64(n)) }

// AppendMap is AppendArray for the pairs of a map, whose keys the caller puts in order.
func AppendMap(b []byte, n int) []byte { return appendMajor(b, 5<<5, uint64(n)) }

// AppendUint appends an integer that is not negative, and AppendBytes a byte string.
func AppendUint(b []byte, n uint64) []byte { return appendMajor(b, 0, n) }

// AppendBytes is AppendUint for a byte string.
func AppendBytes(b, content []byte) []byte { return append(appendHead(b, len(content)), content...) }
