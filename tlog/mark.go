package tlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

// mark is the file that remembers the size and root committed last, outside of the database: a database that was cut
// short or restored from a copy still opens well, and only the mark shows what is missing. It is written after each
// commit in place and never synced: after a power cut it may be older than the database, which is harmless.
type mark struct {
	file *os.File
}

const markSize = 8 + 32 + 32 // size, root, SHA-256 of both

func encodeMark(size uint64, root receipt.Hash) []byte {
	b := append(binary.BigEndian.AppendUint64(nil, size), root[:]...)
	sum := sha256.Sum256(b)
	return append(b, sum[:]...)
}

// openMark opens or creates the file.
func openMark(path string) (*mark, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, because(denial.AuditUnavailable, "the log cannot be written", fmt.Errorf("opening mark: %w", err))
	}
	return &mark{f}, nil
}

// read returns the mark; zero if there is none. A file of zeros is one whose first write did not outlive a power cut.
func (m *mark) read() (size uint64, root receipt.Hash, err error) {
	b, err := io.ReadAll(io.NewSectionReader(m.file, 0, markSize+1))
	if err != nil {
		return 0, root, fmt.Errorf("reading mark: %w", err)
	}
	if len(bytes.Trim(b, "\x00")) == 0 {
		return 0, root, nil
	}
	if len(b) != markSize {
		return 0, root, denial.New(denial.StoreFault, "the mark beside the log is damaged")
	}
	size, root = binary.BigEndian.Uint64(b), receipt.Hash(b[8:40])
	if !bytes.Equal(b, encodeMark(size, root)) {
		return 0, root, denial.New(denial.StoreFault, "the mark beside the log is damaged")
	}
	return size, root, nil
}

func (m *mark) write(size uint64, root receipt.Hash) error {
	if _, err := m.file.WriteAt(encodeMark(size, root), 0); err != nil {
		return fmt.Errorf("writing mark: %w", err)
	}
	return nil
}

func (m *mark) close() error { return errors.Join(m.file.Sync(), m.file.Close()) }
