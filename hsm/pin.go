package hsm

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

const maxPIN = 255 // bytes; no known token takes more

// PINFromFile returns a source that reads the PIN from a file each time a login needs it. One newline at the end is
// not part of the PIN. A file that its group or others may read is refused. Whoever can change the file can stop the
// issuer; whoever can read it and reach the token can sign as the issuer.
func PINFromFile(path string) func() ([]byte, error) {
	return func() ([]byte, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("opening PIN file: %w", err)
		}
		defer f.Close()
		info, err := f.Stat()
		switch {
		case err != nil:
			return nil, fmt.Errorf("opening PIN file: %w", err)
		case !info.Mode().IsRegular():
			return nil, fmt.Errorf("opening PIN file %s: not a regular file; give a descriptor instead", path)
		case info.Mode().Perm()&0o077 != 0:
			return nil, fmt.Errorf("opening PIN file %s: mode %04o lets others read it; run: chmod 600 %s", path, info.Mode().Perm(), path)
		}
		return readPIN(f)
	}
}

// readPIN reads into one buffer, so that wiping the result leaves no copy behind.
func readPIN(r io.Reader) ([]byte, error) {
	buf := make([]byte, maxPIN+3)
	n, err := io.ReadFull(r, buf)
	if err == nil {
		clear(buf)
		return nil, fmt.Errorf("reading PIN: more than %d bytes", maxPIN)
	}
	if err != io.EOF && !errors.Is(err, io.ErrUnexpectedEOF) {
		clear(buf)
		return nil, fmt.Errorf("reading PIN: %w", err)
	}
	pin := bytes.TrimSuffix(bytes.TrimSuffix(buf[:n], []byte("\n")), []byte("\r"))
	if len(pin) == 0 || len(pin) > maxPIN {
		clear(buf)
		return nil, fmt.Errorf("reading PIN: want 1 to %d bytes", maxPIN)
	}
	return pin, nil
}
