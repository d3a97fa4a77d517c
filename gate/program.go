package gate

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// MaxProgram is the greatest program that a gate loads into sealed memory, in bytes.
const MaxProgram = 1 << 30

const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// program is a file in sealed memory: what was hashed is what runs, whatever becomes of the file (X02, X03). A script
// is held by its interpreter's program.
type program struct {
	path   string
	file   *os.File // sealed memfd, close-on-exec
	digest statement.Digest
	script *program
	option string // the one argument that a script's first line may give its interpreter
}

func fileURI(path string) string { return "file:" + path }

// load copies the file into sealed memory and hashes that. It refuses, with 616: a path that is not absolute and clean,
// a symbolic link in any component (X04), anything but a regular file, more than MaxProgram bytes. A file that begins
// with #! brings its interpreter, loaded the same way (X10).
func load(path string) (*program, error) {
	p, err := loadFile(path)
	if err != nil {
		return nil, err
	}
	interpreter, option, ok := p.shebang()
	if !ok {
		return p, nil
	}
	i, err := loadFile(interpreter)
	if err != nil {
		p.close()
		return nil, err
	}
	if _, _, nested := i.shebang(); nested {
		p.close()
		i.close()
		return nil, denial.New(denial.InterpreterUngoverned, "the interpreter is itself a script")
	}
	i.script, i.option = p, option
	return i, nil
}

func loadFile(path string) (*program, error) {
	if !filepath.IsAbs(path) || filepath.Clean(path) != path {
		return nil, denial.New(denial.CodeDigestMismatch, "the program must be named by an absolute, clean path")
	}
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS})
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
	file, err := sealed(src)
	if err != nil {
		return nil, err
	}
	p := &program{path: path, file: file}
	if p.digest, err = p.hash(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// sealed copies src into a memfd that nobody can change any more. Its descriptor is above those that a child gets.
func sealed(src io.Reader) (*os.File, error) {
	fd, err := unix.MemfdCreate("writ", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("making memory file: %w", err)
	}
	low := os.NewFile(uintptr(fd), "writ")
	defer low.Close()
	if _, err := io.Copy(low, io.LimitReader(src, MaxProgram+1)); err != nil {
		return nil, fmt.Errorf("copying program: %w", err)
	}
	if _, err := unix.FcntlInt(low.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return nil, fmt.Errorf("sealing program: %w", err)
	}
	high, err := unix.FcntlInt(low.Fd(), unix.F_DUPFD_CLOEXEC, 100)
	if err != nil {
		return nil, fmt.Errorf("moving program's descriptor: %w", err)
	}
	return os.NewFile(uintptr(high), "writ"), nil
}

func (p *program) hash() (d statement.Digest, err error) {
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(p.file, 0, MaxProgram+1)); err != nil {
		return d, fmt.Errorf("hashing program: %w", err)
	}
	h.Sum(d[:0])
	return d, nil
}

// stillSealed checks once more that what will run is what was admitted (617).
func (p *program) stillSealed() error {
	if p == nil {
		return denial.New(denial.Internal, "no program was loaded")
	}
	for q := p; q != nil; q = q.script {
		got, err := unix.FcntlInt(q.file.Fd(), unix.F_GET_SEALS, 0)
		if err != nil || got&seals != seals {
			return denial.New(denial.CodeMutated, "the program's memory is not sealed")
		}
		if d, err := q.hash(); err != nil || d != q.digest {
			return denial.New(denial.CodeMutated, "the program's bytes have changed")
		}
	}
	return nil
}

// shebang returns the interpreter that a script's first line names, and its one option.
func (p *program) shebang() (interpreter, option string, ok bool) {
	head := make([]byte, 256)
	n, _ := p.file.ReadAt(head, 0)
	head = head[:n]
	if !bytes.HasPrefix(head, []byte("#!")) {
		return "", "", false
	}
	line, _, _ := strings.Cut(string(head[2:]), "\n")
	interpreter, option, _ = strings.Cut(strings.TrimSpace(line), " ")
	return interpreter, strings.TrimSpace(option), true
}

// uses returns what the scope must admit: the program with its arguments; for a script also its interpreter, told to
// run the script with them.
func (p *program) uses(argv []string) []artifact.Use {
	if p.script == nil {
		return []artifact.Use{{Target: fileURI(p.path), Operation: artifact.Execute, Code: artifact.SHA256Digest(p.digest), Argv: argv}}
	}
	return []artifact.Use{
		{Target: fileURI(p.script.path), Operation: artifact.Execute, Code: artifact.SHA256Digest(p.script.digest), Argv: argv},
		{Target: fileURI(p.path), Operation: artifact.Execute, Code: artifact.SHA256Digest(p.digest), Argv: p.argv(p.script.path, argv)},
	}
}

// argv returns the interpreter's arguments with the script at the given path.
func (p *program) argv(script string, argv []string) []string {
	out := []string{p.path}
	if p.option != "" {
		out = append(out, p.option)
	}
	return append(append(out, script), argv[min(1, len(argv)):]...)
}

// run runs the sealed bytes, with nothing on standard input and no descriptor but standard output and error, and waits.
// started is called as soon as the program runs.
func (p *program) run(cmd Command, env []string, dir string, started func()) (status int, err error) {
	c := &exec.Cmd{Path: fmt.Sprintf("/proc/self/fd/%d", p.file.Fd()), Args: cmd.Argv, Env: env, Dir: dir, Stdout: cmd.Stdout, Stderr: cmd.Stderr}
	if env == nil {
		c.Env = []string{} // nil would mean the gate's own environment
	}
	if p.script != nil {
		c.ExtraFiles = []*os.File{p.script.file} // descriptor 3
		c.Args = p.argv("/proc/self/fd/3", cmd.Argv)
	}
	if err := c.Start(); err != nil {
		started()
		return 0, fmt.Errorf("starting program: %w", err)
	}
	started()
	err = c.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			return 128 + int(ws.Signal()), nil
		}
		return exit.ExitCode(), nil
	}
	return 0, err
}

func (p *program) close() {
	for ; p != nil; p = p.script {
		p.file.Close()
	}
}

// allowed returns the variables of env whose names are in names; never one that can inject code.
func allowed(env, names []string) []string {
	var out []string
	for _, v := range env {
		name, _, _ := strings.Cut(v, "=")
		for _, n := range names {
			if n == name && !artifact.IsDangerousVariable(name) {
				out = append(out, v)
			}
		}
	}
	return out
}
