package gate

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// MaxProgram is the greatest program that a gate loads, in bytes. It is held in memory, charged to the gate's control
// group, from the check until the program has ended.
const MaxProgram = 512 << 20

const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// program is a file in sealed memory: what was hashed is what runs, whatever becomes of the file (X02, X03).
type program struct {
	path   string
	file   *os.File // sealed memfd, close-on-exec
	digest statement.Digest
}

// load copies the file into sealed memory and hashes that. It refuses, with 616: a path that is not absolute and clean,
// a symbolic link in any component (X04), anything but a regular file, more than MaxProgram bytes.
func load(path string) (*program, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, denial.New(denial.CodeDigestMismatch, "the program must be named by an absolute, clean path")
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK | unix.O_NOCTTY,
		Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
	switch {
	case errors.Is(err, unix.ELOOP):
		return nil, denial.New(denial.CodeDigestMismatch, "the path to the program goes through a symbolic link")
	case err != nil:
		return nil, denial.New(denial.CodeDigestMismatch, "the program cannot be read: %v", err)
	}
	src := os.NewFile(uintptr(fd), path)
	defer src.Close()
	if info, err := src.Stat(); err != nil || !info.Mode().IsRegular() || info.Size() > MaxProgram {
		return nil, denial.New(denial.CodeDigestMismatch, "the program is not a regular file of at most %d bytes", MaxProgram)
	}
	p := &program{path: path}
	if p.file, err = sealed(src); err != nil {
		return nil, err
	}
	if p.digest, err = p.hash(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// sealed copies src into a memory file that nobody can change any more.
func sealed(src io.Reader) (*os.File, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate("writ", flags|unix.MFD_EXEC) // said aloud for where vm.memfd_noexec is 1
	if errors.Is(err, unix.EINVAL) {
		fd, err = unix.MemfdCreate("writ", flags) // before Linux 6.3
	}
	if err != nil {
		return nil, fmt.Errorf("making memory file: %w", err)
	}
	f := os.NewFile(uintptr(fd), "writ")
	if _, err = io.Copy(f, io.LimitReader(src, MaxProgram+1)); err == nil {
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("copying program into sealed memory: %w", err)
	}
	return f, nil
}

// reader reads the program from its beginning, independently of any other reader.
func (p *program) reader() *io.SectionReader { return io.NewSectionReader(p.file, 0, MaxProgram+1) }

func (p *program) hash() (d statement.Digest, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, p.reader()); err != nil {
		return d, fmt.Errorf("hashing program: %w", err)
	}
	h.Sum(d[:0])
	return d, nil
}

// unchanged checks once more that what will run is what was admitted (617).
func (p *program) unchanged() error {
	got, err := unix.FcntlInt(p.file.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || got&seals != seals {
		return denial.New(denial.CodeMutated, "the program's memory is not sealed")
	}
	if d, err := p.hash(); err != nil || d != p.digest {
		return denial.New(denial.CodeMutated, "the program's bytes have changed")
	}
	return nil
}

// native refuses whatever the kernel would hand to an interpreter that nobody admitted: a second script, or a format
// that is registered with binfmt_misc (619).
func (p *program) native() error {
	head := make([]byte, 4)
	if _, err := io.ReadFull(p.reader(), head); err != nil || string(head) != "\x7fELF" {
		return denial.New(denial.InterpreterUngoverned, "neither an ELF program nor a script whose interpreter is one")
	}
	return nil
}

// maxShebang is what Linux reads of a script's first line (BINPRM_BUF_SIZE).
const maxShebang = 256

// shebang returns the interpreter that a script's first line names and the one argument that it may give it (execve(2)).
// A line that is too long, or that leaves the choice of the interpreter to env or the like, is 619 (X10).
func (p *program) shebang() (interpreter, option string, ok bool, err error) {
	head := make([]byte, maxShebang)
	n, err := io.ReadFull(p.reader(), head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return "", "", false, fmt.Errorf("reading program: %w", err)
	}
	text, isScript := bytes.CutPrefix(head[:n], []byte("#!"))
	if !isScript {
		return "", "", false, nil
	}
	line, _, whole := strings.Cut(string(text), "\n")
	if !whole && n == maxShebang {
		return "", "", false, denial.New(denial.InterpreterUngoverned, "the first line of the script is too long")
	}
	line = strings.Trim(line, " \t")
	if i := strings.IndexAny(line, " \t"); i >= 0 {
		line, option = line[:i], strings.Trim(line[i:], " \t")
	}
	first, _, _ := strings.Cut(option, " ")
	if artifact.IsLauncher(filepath.Base(line)) || artifact.IsLauncher(filepath.Base(first)) { // the second as busybox env
		return "", "", false, denial.New(denial.InterpreterUngoverned, "the script leaves the choice of its interpreter to a program that nobody has checked for that")
	}
	return line, option, true, nil
}

func (p *program) close() {
	if p != nil {
		p.file.Close()
	}
}
