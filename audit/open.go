package audit

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Limits on a bundle that is read.
const (
	MaxBundle  = 64 << 30 // bytes of the tar file
	maxMembers = 1 << 24
)

// shapes are the names that members may have, each with the greatest size in bytes.
var shapes = []struct {
	name *regexp.Regexp
	size int64
}{
	{regexp.MustCompile(`^manifest\.cbor$`), 1 << 30},
	{regexp.MustCompile(`^manifest\.cose$`), maxTransparent},
	{regexp.MustCompile(`^keys/scitt-keys\.cbor$`), 1 << 20},
	{regexp.MustCompile(`^checkpoint$`), maxCheckpoint},
	{regexp.MustCompile(`^tlog-policy$`), maxCheckpoint},
	{regexp.MustCompile(`^status/[0-9]{16}\.cwt$`), maxStatus},
	{regexp.MustCompile(`^statements/[0-9]{16}\.scitt$`), maxTransparent},
	{regexp.MustCompile(`^receipts/[0-9]{16}\.receipt$`), maxReceipt},
	{regexp.MustCompile(`^receipts/consistency-[0-9]{16}\.receipt$`), maxReceipt},
	{regexp.MustCompile(`^proofs/[0-9]{16}\.tlog-proof$`), maxCheckpoint + maxReceipt},
	{regexp.MustCompile(`^capsules/[0-9a-f]{64}\.cmw$`), maxCapsule},
	{regexp.MustCompile(`^policy/[0-9a-f]{64}\.cbor$`), 64 << 10},
}

const (
	maxCapsule     = 9 << 20
	maxReceipt     = 8 << 10
	maxCheckpoint  = 64 << 10
	maxStatus      = 1 << 20
	maxTransparent = statement.MaxStatement + maxReceipt + 64
)

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

// open copies a bundle into a spool and makes its index. It checks, in this order: each member has a name of the layout, is a
// plain file and not too large (309, 313); the members stand in order, each once (324); the size of all (313); the tar file is
// byte for byte the one that Bundle.Write makes of these members, with nothing behind it (309).
func open(ctx context.Context, r io.Reader) (*spool, error) {
	s, err := newSpool()
	if err != nil {
		return nil, faulty(err)
	}
	if err := s.load(ctx, r); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// load reads the bundle once: what comes in is hashed, goes to the file, and is taken apart, all at the same time.
func (s *spool) load(ctx context.Context, r io.Reader) error {
	file, received, again := bufio.NewWriterSize(s.f, buffer), sha256.New(), sha256.New()
	n := &counter{}
	in := io.TeeReader(bufio.NewReaderSize(&io.LimitedReader{R: contextReader{ctx, r}, N: MaxBundle + 1}, buffer), io.MultiWriter(file, received, n))
	if err := s.index(ctx, in, n, again); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil {
		return faulty(fmt.Errorf("reading bundle: %w", err))
	}
	if n.n > MaxBundle {
		return denial.New(denial.StructureLimit, "a bundle has at most %d bytes", int64(MaxBundle))
	}
	if string(received.Sum(nil)) != string(again.Sum(nil)) {
		return denial.New(denial.NotCanonical, "the tar file is not in its one form")
	}
	if err := file.Flush(); err != nil {
		return faulty(fmt.Errorf("writing temporary file: %w", err))
	}
	return nil
}

// buffer is how many bytes are read or written at once.
const buffer = 256 << 10

// counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

// index takes the members from in, of which n have been read, and writes the tar file that they make to again.
func (s *spool) index(ctx context.Context, in io.Reader, n *counter, again hash.Hash) error {
	source := &firstError{r: in}
	members, out, last := tar.NewReader(source), tar.NewWriter(again), ""
	for {
		h, err := members.Next()
		switch {
		case source.err != nil:
			return faulty(fmt.Errorf("reading bundle: %w", source.err))
		case err == io.EOF:
			return faulty(out.Close())
		case err != nil:
			return denial.New(denial.NotCanonical, "the tar file is malformed")
		}
		if err := checkHeader(h, last, len(s.members)); err != nil {
			return err
		}
		last = h.Name
		err = s.take(h, n.n, members, out)
		if source.err != nil {
			err = faulty(fmt.Errorf("reading bundle: %w", source.err))
		}
		if err != nil {
			return err
		}
	}
}

// firstError remembers why its reader failed, so that a fault of this machine is told from a malformed bundle.
type firstError struct {
	r   io.Reader
	err error
}

func (f *firstError) Read(b []byte) (int, error) {
	n, err := f.r.Read(b)
	if err != nil && err != io.EOF && f.err == nil {
		f.err = err
	}
	return n, err
}

func checkHeader(h *tar.Header, last string, members int) error {
	limit := int64(-1)
	for _, shape := range shapes {
		if shape.name.MatchString(h.Name) {
			limit = shape.size
		}
	}
	switch {
	case limit < 0 || h.Typeflag != tar.TypeReg:
		return denial.New(denial.NotCanonical, "the bundle has a member that is not of its layout")
	case h.Size > limit || members >= maxMembers:
		return denial.New(denial.StructureLimit, "the bundle has too many members, or one that is too large")
	case strings.Compare(h.Name, last) <= 0:
		return denial.New(denial.ReceiptInvalid, "the members of the bundle are not in order, or one stands twice")
	}
	return nil
}

// take puts one member, whose content begins at the offset, into the index and copies it to out.
func (s *spool) take(h *tar.Header, offset int64, in io.Reader, out *tar.Writer) error {
	if err := out.WriteHeader(header(h.Name, h.Size)); err != nil {
		return denial.New(denial.NotCanonical, "the tar file is malformed")
	}
	sum := sha256.New()
	if _, err := io.Copy(io.MultiWriter(out, sum), in); err != nil {
		return denial.New(denial.NotCanonical, "the tar file is cut short")
	}
	s.members[h.Name] = member{h.Name, offset, h.Size, [32]byte(sum.Sum(nil))}
	return nil
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
