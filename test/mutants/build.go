package mutants

import (
	"context"
	"encoding/json"
	"fmt"
	"go/build"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
)

// Build is a set of packages with their mutants, compiled.
type Build struct {
	Mutants []Mutant // that compile
	Binary  string
	Dropped int // mutants that do not compile, such as one that compares a value with another type's

	root string
	dir  string
	bin  []string // command that compiles, without -overlay and -o
	skip map[string]bool
}

// The switch of a package. The file name says that no such file exists: the overlay of the build holds it.
const switchFile = "zz_mutant_switch.go"

const switchSource = `package %s

import (
	"os"
	"strconv"
	"sync"
)

var mutantActive, _ = strconv.Atoi(os.Getenv("MUTANT"))

var mutantTrace = os.Getenv("MUTANT_TRACE")

var mutantSeen sync.Map

// mutantOn reports whether a mutant is switched on, and notes once that it was asked.
func mutantOn(id int) bool {
	if mutantTrace != "" {
		if _, again := mutantSeen.LoadOrStore(id, true); !again {
			f, err := os.OpenFile(mutantTrace, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err == nil {
				_, _ = f.WriteString(strconv.Itoa(id) + "\n")
				_ = f.Close()
			}
		}
	}
	return id == mutantActive
}
`

// Compile puts the mutants of packages, given by their folders under root, into one binary in dir. The arguments are
// those of the go command, such as "test", "-c", "./statement". Mutants that do not compile are left out.
func Compile(ctx context.Context, root, dir string, packages []string, args ...string) (*Build, error) {
	b := &Build{root: root, dir: dir, bin: args, Binary: filepath.Join(dir, "mutants"), skip: map[string]bool{}}
	for range 12 {
		overlay, err := b.instrument(packages)
		if err != nil {
			return nil, err
		}
		out, err := b.compile(ctx, overlay, b.Binary)
		if err == nil {
			return b, nil
		}
		if !b.drop(out) {
			return nil, fmt.Errorf("compiling mutants: %w: %s", err, out)
		}
	}
	return nil, fmt.Errorf("compiling mutants: no end of mutants that do not compile")
}

// instrument writes the packages with their mutants into dir and returns the overlay.
func (b *Build) instrument(packages []string) (overlay map[string]string, err error) {
	overlay = map[string]string{}
	b.Mutants = nil
	seen := map[string]int{}
	add := func(m Mutant) (int, bool) {
		key := m.Key()
		if seen[key]++; seen[key] > 1 {
			m.To += fmt.Sprintf(" (%d)", seen[key])
		}
		if b.skip[m.Key()] {
			return 0, false
		}
		m.ID = len(b.Mutants) + 1
		b.Mutants = append(b.Mutants, m)
		return m.ID, true
	}
	for i, pkg := range packages {
		p, err := build.ImportDir(filepath.Join(b.root, pkg), 0)
		if err != nil {
			return nil, fmt.Errorf("reading package %s: %w", pkg, err)
		}
		for _, name := range p.GoFiles {
			path := filepath.Join(b.root, pkg, name)
			src, err := os.ReadFile(path)
			if err != nil {
				return nil, fmt.Errorf("reading package %s: %w", pkg, err)
			}
			if src, err = instrument(filepath.Join(pkg, name), src, add); err != nil {
				return nil, err
			}
			if overlay[path], err = b.write(filepath.Join(strconv.Itoa(i), name), src); err != nil {
				return nil, err
			}
		}
		source := fmt.Appendf(nil, switchSource, p.Name)
		if overlay[filepath.Join(b.root, pkg, switchFile)], err = b.write(filepath.Join(strconv.Itoa(i), switchFile), source); err != nil {
			return nil, err
		}
	}
	return overlay, nil
}

func (b *Build) write(name string, data []byte) (string, error) {
	path := filepath.Join(b.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return "", fmt.Errorf("writing mutants: %w", err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return "", fmt.Errorf("writing mutants: %w", err)
	}
	return path, nil
}

// compile runs the go command with an overlay and returns what it says.
func (b *Build) compile(ctx context.Context, overlay map[string]string, to string) (string, error) {
	text, err := json.Marshal(map[string]any{"Replace": overlay})
	if err != nil {
		return "", fmt.Errorf("writing overlay: %w", err)
	}
	path, err := b.write("overlay.json", text)
	if err != nil {
		return "", err
	}
	args := append([]string{b.bin[0], "-overlay", path, "-gcflags=-e", "-o", to}, b.bin[1:]...)
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = b.root
	out, err := cmd.CombinedOutput()
	return string(out), err
}

var compileError = regexp.MustCompile(`(?m)([\w./-]+\.go):(\d+):(?:\d+:)? `)

// drop leaves out the mutants of the lines that do not compile, and reports whether there are any.
func (b *Build) drop(out string) bool {
	dropped := false
	for _, at := range compileError.FindAllStringSubmatch(out, -1) {
		for _, m := range b.Mutants {
			if n, err := strconv.Atoi(at[2]); err != nil || m.Line > n || m.Line < n-3 || filepath.Base(m.File) != filepath.Base(at[1]) || b.skip[m.Key()] || m.Alone() {
				continue
			} else if m.Line == n || !dropped {
				b.skip[m.Key()], dropped = true, true
				b.Dropped++
			}
		}
	}
	return dropped
}

// CompileAlone compiles one mutant that no switch can make. It reports false if it does not compile.
func (b *Build) CompileAlone(ctx context.Context, m Mutant) (binary string, ok bool, err error) {
	path, err := b.write("alone.go", []byte(m.source))
	if err != nil {
		return "", false, err
	}
	binary = filepath.Join(b.dir, "alone")
	_, err = b.compile(ctx, map[string]string{filepath.Join(b.root, m.File): path}, binary)
	return binary, err == nil, nil
}
