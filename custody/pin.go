package custody

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/hsm"
)

// keepPIN returns a descriptor that every signer process can read the PIN from. A file is one. A pipe can be read once,
// so the kernel moves its content into a file in memory, sealed, without this process seeing it.
func keepPIN(f *os.File) (*os.File, error) {
	if f == nil {
		return nil, nil
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("opening PIN descriptor: %w", err)
	}
	if info.Mode().IsRegular() {
		return f, nil
	}
	if info.Mode()&os.ModeNamedPipe == 0 {
		return nil, errors.New("opening PIN descriptor: want a file or a pipe")
	}
	defer f.Close()
	fd, err := unix.MemfdCreate("pin", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("keeping PIN: %w", err)
	}
	kept := os.NewFile(uintptr(fd), "pin")
	for {
		n, err := unix.Splice(int(f.Fd()), nil, fd, nil, 4096, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("keeping PIN: %w", err), kept.Close())
		}
		if n == 0 {
			break
		}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE|unix.F_SEAL_SEAL); err != nil {
		return nil, errors.Join(fmt.Errorf("sealing PIN: %w", err), kept.Close())
	}
	return kept, nil
}

// pinSource returns where the signer process has its PIN from. The descriptor is shared with the processes before and
// after, so that it is read from its beginning without moving it.
func pinSource(path string) func() ([]byte, error) {
	if path != "" {
		return hsm.PINFromFile(path)
	}
	f := os.NewFile(pinFD, "PIN descriptor") // as long as the process lives
	return func() ([]byte, error) {
		const most = 255
		b := make([]byte, most+3)
		n, err := f.ReadAt(b, 0)
		if !errors.Is(err, io.EOF) {
			clear(b)
			return nil, errors.Join(fmt.Errorf("reading PIN: want 1 to %d bytes", most), err)
		}
		pin := bytes.TrimSuffix(bytes.TrimSuffix(b[:n], []byte("\n")), []byte("\r"))
		if len(pin) == 0 {
			return nil, errors.New("reading PIN: it is empty")
		}
		return pin, nil
	}
}
