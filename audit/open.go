package audit

import (
	"archive/tar"
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

// open copies a bundle into a spool and reads its index. It checks, in this order: the size (313); each member has a
// name of the layout, is a plain file and not too large (309, 313); the members stand in order, each once (324); the
// tar file is byte for byte the one that Bundle.Write makes of these members, with nothing behind it (309).
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

func (s *spool) load(ctx context.Context, r io.Reader) error {
	received := sha256.New()
	n, err := io.Copy(io.MultiWriter(s.f, received), &io.LimitedReader{R: contextReader{ctx, r}, N: MaxBundle + 1})
	if err != nil {
		return faulty(fmt.Errorf("reading bundle: %w", err))
	}
	if n > MaxBundle {
		return denial.New(denial.StructureLimit, "a bundle has at most %d bytes", int64(MaxBundle))
	}
	if _, err := s.f.Seek(0, io.SeekStart); err != nil {
		return faulty(fmt.Errorf("reading bundle: %w", err))
	}
	again := sha256.New()
	if err := s.index(ctx, again); err != nil {
		return err
	}
	if string(received.Sum(nil)) != string(again.Sum(nil)) {
		return denial.New(denial.NotCanonical, "the tar file is not in its one form")
	}
	return nil
}

// index reads the members, and writes the tar file that they make to again.
func (s *spool) index(ctx context.Context, again hash.Hash) error {
	in, out, last := tar.NewReader(s.f), tar.NewWriter(again), ""
	for {
		h, err := in.Next()
		switch {
		case ctx.Err() != nil:
			return faulty(fmt.Errorf("reading bundle: %w", ctx.Err()))
		case err == io.EOF:
			return faulty(out.Close())
		case err != nil:
			return denial.New(denial.NotCanonical, "the tar file is malformed")
		}
		if err := checkHeader(h, last, len(s.members)); err != nil {
			return err
		}
		last = h.Name
		if err := s.take(h, in, out); err != nil {
			return err
		}
	}
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

// take puts one member into the index and copies it to out.
func (s *spool) take(h *tar.Header, in io.Reader, out *tar.Writer) error {
	offset, err := s.f.Seek(0, io.SeekCurrent)
	if err != nil {
		return faulty(fmt.Errorf("reading bundle: %w", err))
	}
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
