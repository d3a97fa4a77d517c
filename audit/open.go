package audit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Limits on a bundle that is read.
const (
	MaxBundle  = 64 << 30 // bytes of the tar file
	maxMembers = 1 << 24

	maxCapsule     = 9 << 20
	maxReceipt     = 8 << 10
	maxCheckpoint  = 64 << 10
	maxStatus      = 1 << 20
	maxTransparent = statement.MaxStatement + maxReceipt + 64
)

// buffer is how many bytes are read or written at once.
const buffer = 256 << 10

// fault is an error of this machine, not of the bundle.
type fault struct{ error }

func (f fault) Unwrap() error { return f.error }

// faulty marks an error as a fault.
func faulty(err error) error {
	if err == nil {
		return nil
	}
	return fault{err}
}

// open copies a bundle into a spool and makes its index. It checks, in this order: the tar file is whole, and each header is
// the only one that its member has (309); each member has a name of the layout (309) and is not too large (313); the members stand in
// order, each once (324); only zeros follow a content, and nothing the end (309).
func open(ctx context.Context, r io.Reader) (*spool, error) {
	s, err := newSpool()
	if err != nil {
		return nil, faulty(err)
	}
	l := &loader{spool: s, in: bufio.NewReaderSize(contextReader{ctx, r}, buffer), out: bufio.NewWriterSize(s.f, buffer), sum: sha256.New(), part: make([]byte, buffer)}
	if err := l.load(); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// loader copies a bundle into a spool.
type loader struct {
	*spool
	in   io.Reader
	out  *bufio.Writer
	sum  hash.Hash
	part []byte
}

func (l *loader) load() error {
	var block [blockSize]byte
	for last, total := "", int64(0); ; {
		if err := l.read(block[:]); err != nil {
			return err
		}
		if block == [blockSize]byte(endOfTar[:blockSize]) {
			break
		}
		path, size, ok := parseHeader(&block)
		if !ok {
			return denial.New(denial.NotCanonical, "the tar file is not in its one form").Try(HintBundle)
		}
		if err := l.fits(path, size, last); err != nil {
			return err
		}
		if total += 2*blockSize + size; total > MaxBundle {
			return denial.New(denial.StructureLimit, "a bundle has at most %d bytes", int64(MaxBundle))
		}
		if err := l.take(path, size); err != nil {
			return err
		}
		last = path
	}
	if err := l.zeros(block[:]); err != nil {
		return err
	}
	if n, err := l.in.Read(block[:1]); n > 0 {
		return denial.New(denial.NotCanonical, "something follows the tar file").Try(HintBundle)
	} else if err != io.EOF {
		return faulty(fmt.Errorf("reading bundle: %w", err))
	}
	if err := errors.Join(l.out.Flush(), l.finish()); err != nil {
		return faulty(fmt.Errorf("writing temporary file: %w", err))
	}
	return nil
}

// read fills b.
func (l *loader) read(b []byte) error {
	switch _, err := io.ReadFull(l.in, b); {
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return denial.New(denial.NotCanonical, "the tar file is cut short").Try(HintBundle)
	case err != nil:
		return faulty(fmt.Errorf("reading bundle: %w", err))
	}
	return nil
}

// zeros reads as many zeros as b has bytes.
func (l *loader) zeros(b []byte) error {
	if err := l.read(b); err != nil {
		return err
	}
	if !bytes.Equal(b, endOfTar[:len(b)]) {
		return denial.New(denial.NotCanonical, "the tar file is not in its one form").Try(HintBundle)
	}
	return nil
}

// fits checks name, size and place of a member.
func (l *loader) fits(path string, size int64, last string) error {
	limit := limitOf(path)
	switch {
	case limit < 0:
		return denial.New(denial.NotCanonical, "the bundle has a member that is not of its layout").Try(HintBundle)
	case size > limit || l.index.n+int64(len(l.index.run)) >= maxMembers:
		return denial.New(denial.StructureLimit, "the bundle has too many members, or one that is too large")
	case strings.Compare(path, last) <= 0:
		return denial.New(denial.ReceiptInvalid, "the members of the bundle are not in order, or one stands twice")
	}
	return nil
}

// take copies the content of a member.
func (l *loader) take(path string, size int64) error {
	l.sum.Reset()
	m := member{path: path, offset: l.end, size: size}
	for left := size; left > 0; {
		b := l.part[:min(left, int64(len(l.part)))]
		if err := l.read(b); err != nil {
			return err
		}
		_, _ = l.sum.Write(b) // a hash never fails
		if _, err := l.out.Write(b); err != nil {
			return faulty(fmt.Errorf("writing temporary file: %w", err))
		}
		left -= int64(len(b))
	}
	l.end += size
	l.sum.Sum(m.hash[:0])
	if err := l.zeros(l.part[:padding(size)]); err != nil {
		return err
	}
	return faulty(l.index.add(m))
}

// contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(b []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(b)
}
