package audit

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// spool keeps the contents of a bundle, and their index, in temporary files that have no names, so that memory holds little of
// either.
type spool struct {
	f     *os.File
	end   int64
	index *index
	late  []member // put in after the index was finished, in order
}

func newSpool() (*spool, error) {
	f, err := unnamed()
	if err != nil {
		return nil, err
	}
	x, err := newIndex()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &spool{f: f, index: x}, nil
}

// Close frees the temporary files.
func (s *spool) Close() error { return errors.Join(s.f.Close(), s.index.f.Close()) }

// add appends a member.
func (s *spool) add(path string, data []byte) error {
	if _, err := s.f.WriteAt(data, s.end); err != nil {
		return fmt.Errorf("writing bundle: %w", err)
	}
	m := member{path, s.end, int64(len(data)), sha256.Sum256(data)}
	s.end += int64(len(data))
	return s.index.add(m)
}

// append appends what write writes, behind a finished index.
func (s *spool) append(path string, write func(io.Writer) error) (member, error) {
	sum := sha256.New()
	to := &writerAt{s.f, s.end}
	out := bufio.NewWriterSize(io.MultiWriter(to, sum), buffer)
	if err := errors.Join(write(out), out.Flush()); err != nil {
		return member{}, fmt.Errorf("writing bundle: %w", err)
	}
	m := member{path, s.end, to.at - s.end, [32]byte(sum.Sum(nil))}
	s.end, s.late = to.at, append(s.late, m)
	return m, nil
}

// find returns a member by its path, with its number.
func (s *spool) find(path string) (n int64, m member, ok bool, err error) {
	if n, ok, err = s.index.find(path); err != nil || !ok {
		return 0, member{}, false, err
	}
	m, err = s.index.at(n)
	return n, m, err == nil, err
}

// content returns what a member holds.
func (s *spool) content(m member) ([]byte, error) {
	data := make([]byte, m.size)
	if _, err := s.f.ReadAt(data, m.offset); err != nil && m.size > 0 {
		return nil, fmt.Errorf("reading bundle: %w", err)
	}
	return data, nil
}

// write writes the one tar file that these members make.
func (s *spool) write(ctx context.Context, w io.Writer) error {
	out, late := bufio.NewWriterSize(w, buffer), s.late
	err := s.index.each(0, func(_ int64, m member) error {
		for len(late) > 0 && late[0].path < m.path {
			if err := s.copy(out, late[0]); err != nil {
				return err
			}
			late = late[1:]
		}
		return errors.Join(ctx.Err(), s.copy(out, m))
	})
	for _, m := range late {
		err = errors.Join(err, s.copy(out, m))
	}
	if err == nil {
		_, err = out.Write(endOfTar[:])
	}
	if err = errors.Join(err, out.Flush()); err != nil {
		return fmt.Errorf("writing bundle: %w", err)
	}
	return nil
}

// copy writes one member with its header.
func (s *spool) copy(out *bufio.Writer, m member) error {
	head := header(m.path, m.size)
	if _, err := out.Write(head[:]); err != nil {
		return err
	}
	if _, err := io.Copy(out, io.NewSectionReader(s.f, m.offset, m.size)); err != nil {
		return err
	}
	_, err := out.Write(endOfTar[:padding(m.size)])
	return err
}

// finish closes the index.
func (s *spool) finish() error {
	slices.SortFunc(s.late, func(a, b member) int { return strings.Compare(a.path, b.path) })
	return s.index.finish()
}
