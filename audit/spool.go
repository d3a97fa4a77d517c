package audit

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// member is a file of a bundle that lies in a spool.
type member struct {
	path   string
	offset int64
	size   int64
	hash   [32]byte
}

// spool keeps the contents of a bundle in a temporary file that has no name, so that memory holds an index only.
type spool struct {
	f       *os.File
	end     int64
	members map[string]member
}

func newSpool() (*spool, error) {
	f, err := os.CreateTemp("", "writ-bundle-*")
	if err != nil {
		return nil, fmt.Errorf("making temporary file: %w", err)
	}
	if err := os.Remove(f.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("unlinking temporary file: %w", err), f.Close())
	}
	return &spool{f: f, members: map[string]member{}}, nil
}

// Close frees the temporary file.
func (s *spool) Close() error { return s.f.Close() }

// add appends a member.
func (s *spool) add(path string, data []byte) error {
	if _, ok := s.members[path]; ok {
		return fmt.Errorf("writing bundle: %s stands twice", path)
	}
	if _, err := s.f.WriteAt(data, s.end); err != nil {
		return fmt.Errorf("writing bundle: %w", err)
	}
	s.members[path] = member{path, s.end, int64(len(data)), sha256.Sum256(data)}
	s.end += int64(len(data))
	return nil
}

// read returns the content of a member, and whether there is one.
func (s *spool) read(path string) ([]byte, bool, error) {
	m, ok := s.members[path]
	if !ok {
		return nil, false, nil
	}
	data := make([]byte, m.size)
	if _, err := s.f.ReadAt(data, m.offset); err != nil && m.size > 0 {
		return nil, false, fmt.Errorf("reading bundle: %w", err)
	}
	return data, true, nil
}

// sorted returns the members in the order in which they stand in the tar file.
func (s *spool) sorted() []member {
	all := make([]member, 0, len(s.members))
	for _, m := range s.members {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b member) int { return strings.Compare(a.path, b.path) })
	return all
}

// write writes the one tar file that these members make.
func (s *spool) write(ctx context.Context, w io.Writer) error {
	t := tar.NewWriter(w)
	for _, m := range s.sorted() {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("writing bundle: %w", err)
		}
		if err := t.WriteHeader(header(m.path, m.size)); err != nil {
			return fmt.Errorf("writing bundle: %w", err)
		}
		if _, err := io.Copy(t, io.NewSectionReader(s.f, m.offset, m.size)); err != nil {
			return fmt.Errorf("writing bundle: %w", err)
		}
	}
	if err := t.Close(); err != nil {
		return fmt.Errorf("writing bundle: %w", err)
	}
	return nil
}

// header returns the only header that a member of this name and size has.
func header(path string, size int64) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: path, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
}
