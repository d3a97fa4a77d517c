// Package faultp11 builds a PKCS#11 module that wraps another one and does wrong what a script says: return values,
// slow and hanging calls, lost sessions, swapped keys, wrong signatures, crashes, leaks and a PIN that locks. The
// module's source says what a script can hold.
package faultp11

import (
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/governed-execution/writ/test/need"
)

//go:embed module/faultp11.c
var source []byte

// Module is a built module with its script. It is for one goroutine.
type Module struct {
	Path string // of the library, for a configuration
	Env  []string

	script, trace string
	generation    int
}

// New builds the module over the module at the path and points this process at it, for as long as the test lives; such a
// test cannot be parallel. Without a C compiler the test is skipped, or fails if REQUIRE_ALL=1.
func New(t testing.TB, real string) *Module {
	t.Helper()
	dir := t.TempDir()
	m := &Module{Path: filepath.Join(dir, "faultp11.so"), script: filepath.Join(dir, "script"), trace: filepath.Join(dir, "trace")}
	need.Have(t, build(dir, m.Path))
	for _, v := range [][2]string{{"FAULTP11_MODULE", real}, {"FAULTP11_SCRIPT", m.script}, {"FAULTP11_TRACE", m.trace}} {
		t.Setenv(v[0], v[1])
		m.Env = append(m.Env, v[0]+"="+v[1])
	}
	m.Script(t)
	return m
}

func build(dir, library string) error {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/miekg/pkcs11").Output()
	if err != nil {
		return fmt.Errorf("finding the header of PKCS#11: %w", err)
	}
	file := filepath.Join(dir, "faultp11.c")
	if err := os.WriteFile(file, source, 0o600); err != nil {
		return fmt.Errorf("writing source: %w", err)
	}
	cmd := exec.Command("gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-I", strings.TrimSpace(string(out)), "-o", library, file, "-ldl", "-lpthread")
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("building the module: %w: %s", err, text)
	}
	return nil
}

// Script replaces the rules, and starts their counters anew. Without rules the module does nothing wrong.
func (m *Module) Script(t testing.TB, rules ...string) {
	t.Helper()
	m.generation++
	text := fmt.Sprintf("%d\n%s\n", m.generation, strings.Join(rules, "\n"))
	next := m.script + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, m.script); err != nil {
		t.Fatal(err)
	}
}

// Calls returns how often the function has been called since the module was made, whatever it returned.
func (m *Module) Calls(t testing.TB, function string) int {
	t.Helper()
	data, err := os.ReadFile(m.trace)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Count("\n"+string(data), "\n"+function+" ")
}
