package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"
	"strings"
)

// member is a file of a bundle that lies in a spool.
type member struct {
	path   string
	offset int64
	size   int64
	hash   [32]byte
}

// The form of an index. Memory holds runSize members while it is made, and then one name of perMark and a few parts of the file.
const (
	pathSize   = 80
	recordSize = pathSize + 8 + 8 + 32
	runSize    = 1 << 14
	perMark    = 64
	cached     = 32
)

// index lists members by path. It lies in a temporary file without name, in records of one size.
type index struct {
	f     *os.File
	n     int64
	run   []member
	runs  []int64 // where runs of ordered records end
	last  string  // greatest path so far
	mixed bool    // the runs are not in order of each other
	marks []string
	parts [cached]struct {
		at   int64 // 0: none, else number of the part and 1
		data []byte
	}
}

// unnamed makes a temporary file that has no name.
func unnamed() (*os.File, error) {
	f, err := os.CreateTemp("", "writ-bundle-*")
	if err != nil {
		return nil, fmt.Errorf("making temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("unlinking temporary file: %w", err), f.Close())
	}
	return f, nil
}

func newIndex() (*index, error) {
	f, err := unnamed()
	return &index{f: f}, err
}

// add takes a member, in any order.
func (x *index) add(m member) error {
	if len(m.path) > pathSize {
		return fmt.Errorf("writing index: a name of %d bytes", len(m.path))
	}
	if x.run = append(x.run, m); len(x.run) < runSize {
		return nil
	}
	return x.flush()
}

// flush writes the members in memory as a run.
func (x *index) flush() error {
	if len(x.run) == 0 {
		return nil
	}
	slices.SortFunc(x.run, func(a, b member) int { return strings.Compare(a.path, b.path) })
	x.mixed = x.mixed || x.run[0].path <= x.last && len(x.runs) > 0
	x.last = max(x.last, x.run[len(x.run)-1].path)
	out := bufio.NewWriterSize(&writerAt{x.f, x.n * recordSize}, buffer)
	for i := range x.run {
		if _, err := out.Write(x.run[i].record()); err != nil {
			return fmt.Errorf("writing index: %w", err)
		}
	}
	x.n += int64(len(x.run))
	x.runs, x.run = append(x.runs, x.n), x.run[:0]
	return out.Flush()
}

// finish puts the members in order. It fails if a path stands twice.
func (x *index) finish() error {
	if err := x.flush(); err != nil {
		return err
	}
	x.run = nil
	if x.mixed {
		if err := x.merge(); err != nil {
			return err
		}
	}
	last := ""
	return x.each(0, func(i int64, m member) error {
		if m.path <= last {
			return fmt.Errorf("writing bundle: %s stands twice", m.path)
		}
		if last = m.path; i%perMark == 0 {
			x.marks = append(x.marks, m.path)
		}
		return nil
	})
}

// merge writes the runs into a new file, in order.
func (x *index) merge() error {
	f, err := unnamed()
	if err != nil {
		return err
	}
	out, from := bufio.NewWriterSize(f, buffer), int64(0)
	var open merging
	for _, end := range x.runs {
		r := &runReader{r: bufio.NewReaderSize(io.NewSectionReader(x.f, from*recordSize, (end-from)*recordSize), buffer/4), left: end - from}
		from = end
		if err := r.next(); err != nil {
			return errors.Join(err, f.Close())
		}
		open = append(open, r)
	}
	heap.Init(&open)
	for len(open) > 0 {
		if _, err := out.Write(open[0].record[:]); err != nil {
			return errors.Join(fmt.Errorf("writing index: %w", err), f.Close())
		}
		if open[0].left == 0 {
			heap.Pop(&open)
			continue
		}
		if err := open[0].next(); err != nil {
			return errors.Join(err, f.Close())
		}
		heap.Fix(&open, 0)
	}
	old := x.f
	x.f = f
	return errors.Join(out.Flush(), old.Close())
}

// runReader reads one run.
type runReader struct {
	r      io.Reader
	record [recordSize]byte
	left   int64
}

func (r *runReader) next() error {
	r.left--
	if _, err := io.ReadFull(r.r, r.record[:]); err != nil {
		return fmt.Errorf("reading index: %w", err)
	}
	return nil
}

// merging is a heap of runs, by the record that each has come to.
type merging []*runReader

func (m merging) Len() int { return len(m) }
func (m merging) Less(i, j int) bool {
	return bytes.Compare(m[i].record[:pathSize], m[j].record[:pathSize]) < 0
}
func (m merging) Swap(i, j int) { m[i], m[j] = m[j], m[i] }
func (m *merging) Push(v any)   { *m = append(*m, v.(*runReader)) }
func (m *merging) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

// writerAt writes to a file from an offset on.
type writerAt struct {
	f  *os.File
	at int64
}

func (w *writerAt) Write(b []byte) (int, error) {
	n, err := w.f.WriteAt(b, w.at)
	w.at += int64(n)
	return n, err
}

// record encodes a member.
func (m *member) record() []byte {
	b := make([]byte, pathSize, recordSize)
	copy(b, m.path)
	b = binary.BigEndian.AppendUint64(b, uint64(m.offset))
	b = binary.BigEndian.AppendUint64(b, uint64(m.size))
	return append(b, m.hash[:]...)
}

// memberOf decodes a record.
func memberOf(b []byte) member {
	path, _, _ := bytes.Cut(b[:pathSize], []byte{0})
	return member{string(path), int64(binary.BigEndian.Uint64(b[pathSize:])), int64(binary.BigEndian.Uint64(b[pathSize+8:])), [32]byte(b[pathSize+16:])}
}

// each calls fn for the members from number first on, in order.
func (x *index) each(first int64, fn func(i int64, m member) error) error {
	r := runReader{r: bufio.NewReaderSize(io.NewSectionReader(x.f, first*recordSize, (x.n-first)*recordSize), buffer)}
	for i := first; i < x.n; i++ {
		if err := r.next(); err != nil {
			return err
		}
		if err := fn(i, memberOf(r.record[:])); err != nil {
			return err
		}
	}
	return nil
}

// part returns the records from number n*perMark on, up to perMark of them.
func (x *index) part(n int64) ([]byte, error) {
	p := &x.parts[n%cached]
	if p.at == n+1 {
		return p.data, nil
	}
	size := min(perMark, x.n-n*perMark) * recordSize
	if int64(cap(p.data)) < size {
		p.data = make([]byte, perMark*recordSize)
	}
	p.at, p.data = 0, p.data[:size]
	if _, err := x.f.ReadAt(p.data, n*perMark*recordSize); err != nil {
		return nil, fmt.Errorf("reading index: %w", err)
	}
	p.at = n + 1
	return p.data, nil
}

// find returns the number of the first member whose path is not before the given one, and whether it is that.
func (x *index) find(path string) (n int64, found bool, err error) {
	mark, exact := slices.BinarySearch(x.marks, path)
	if exact || mark == 0 {
		return int64(mark) * perMark, exact, nil
	}
	first := int64(mark-1) * perMark
	data, err := x.part(int64(mark - 1))
	if err != nil {
		return 0, false, err
	}
	var want [pathSize]byte
	if len(path) > pathSize {
		return 0, false, nil
	}
	copy(want[:], path)
	in, found := sort.Find(len(data)/recordSize, func(i int) int { return bytes.Compare(want[:], data[i*recordSize:i*recordSize+pathSize]) })
	return first + int64(in), found, nil
}

// at returns a member by its number.
func (x *index) at(n int64) (member, error) {
	data, err := x.part(n / perMark)
	if err != nil {
		return member{}, err
	}
	return memberOf(data[n%perMark*recordSize:]), nil
}

// span returns the numbers [first, last) of the members whose paths have a prefix that ends with a slash.
func (x *index) span(prefix string) (first, last int64, err error) {
	first, _, err = x.find(prefix)
	if err != nil {
		return 0, 0, err
	}
	last, _, err = x.find(strings.TrimSuffix(prefix, "/") + "0") // the character behind the slash
	return first, cmp.Or(last, first), err
}
