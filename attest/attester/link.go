package attester

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/google/go-tpm/tpm2"
)

const (
	commandTimeout = 2 * time.Minute // an RSA key pair can take a discrete TPM most of that
	cleanupTimeout = 5 * time.Second
	headerSize     = 10   // tag, size, code
	maxResponse    = 4096 // TPM2_PT_MAX_RESPONSE_SIZE of the PC client platform
	oneClient      = "swtpm serves one client at a time, does another program hold it?"
)

// link is the connection to a TPM, kept open. It is not safe for concurrent use.
type link struct {
	path   string             // empty once the TPM is closed
	rw     io.ReadWriteCloser // nil where there is no connection
	device bool
}

func (l *link) connected() bool { return l.rw != nil }

func (l *link) connect(ctx context.Context) error {
	if l.path == "" {
		return fmt.Errorf("using TPM: it is closed")
	}
	info, err := os.Stat(l.path)
	switch {
	case err != nil:
		return fmt.Errorf("finding TPM: %w", err)
	case info.Mode()&os.ModeSocket != 0:
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", l.path)
		if errors.Is(err, syscall.EAGAIN) {
			return fmt.Errorf("dialing TPM: others wait already: %s: %w", oneClient, err)
		} else if err != nil {
			return fmt.Errorf("dialing TPM: %w", err)
		}
		l.rw = conn
	case info.Mode()&os.ModeCharDevice != 0:
		// Not os.OpenFile: it would make the descriptor non-blocking, and then the driver answers a write before the
		// command has run.
		fd, err := syscall.Open(l.path, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("opening device: %w", &os.PathError{Op: "open", Path: l.path, Err: err})
		}
		l.rw, l.device = os.NewFile(uintptr(fd), l.path), true
	default:
		return fmt.Errorf("finding TPM: %s is neither a device nor a socket", l.path)
	}
	return nil
}

func (l *link) close() error {
	if l.rw == nil {
		return nil
	}
	rw := l.rw
	l.rw = nil
	if err := rw.Close(); err != nil {
		return fmt.Errorf("closing TPM: %w", err)
	}
	return nil
}

// exchange sends one command and returns the response. If it is interrupted the connection ends: what the TPM would
// answer later belongs to no command. On a device the driver bounds a command, and ctx is looked at before it only.
func (l *link) exchange(ctx context.Context, command []byte) ([]byte, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, fmt.Errorf("sending to TPM: %w", err)
	}
	if l.rw == nil {
		return nil, fmt.Errorf("sending to TPM: the connection was interrupted")
	}
	if conn, ok := l.rw.(net.Conn); ok {
		if err := conn.SetDeadline(time.Now().Add(commandTimeout)); err != nil {
			return nil, fmt.Errorf("sending to TPM: %w", err)
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
		defer stop()
	}
	response, err := roundTrip(l.rw, command)
	if err != nil {
		_ = l.close()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, fmt.Errorf("talking to TPM: %w", err)
	}
	return response, nil
}

// roundTrip writes a command and reads the response, whose header holds its size. A device gives it in one read.
func roundTrip(rw io.ReadWriter, command []byte) ([]byte, error) {
	if _, err := rw.Write(command); err != nil {
		return nil, err
	}
	response := make([]byte, maxResponse)
	n, err := io.ReadAtLeast(rw, response, headerSize)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint32(response[2:]))
	if size < n || size > maxResponse {
		return nil, fmt.Errorf("a response of %d bytes claims to have %d", n, size)
	}
	if _, err := io.ReadFull(rw, response[n:size]); err != nil {
		return nil, err
	}
	return response[:size], nil
}

// busy reports whether a response asks to send the same command again.
func busy(response []byte) bool {
	switch tpm2.TPMRC(binary.BigEndian.Uint32(response[6:])) {
	case tpm2.TPMRCRetry, tpm2.TPMRCYielded, tpm2.TPMRCTesting:
		return true
	}
	return false
}
