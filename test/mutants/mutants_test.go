package mutants

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/test/need"
)

const sample = `package p

import "errors"

const limit = 3

func check(n int, ok bool) error {
	if n > limit || !ok {
		return errors.New("refused")
	}
	switch n {
	case 2:
		return nil
	}
	return nil
}
`

// instrumented returns the keys of the mutants of a source, and the source with their switches.
func instrumented(t *testing.T, src string) (keys []string, out string) {
	t.Helper()
	b, err := instrument("p/p.go", []byte(src), func(m Mutant) (int, bool) {
		keys = append(keys, m.Key())
		return len(keys), true
	})
	if err != nil {
		t.Fatal(err)
	}
	return keys, string(b)
}

func TestMutantsOfASource(t *testing.T) {
	t.Parallel()
	keys, out := instrumented(t, sample)
	for _, want := range []string{
		"p/p.go const: constant: limit = 3 -> (3 + 1)",
		"p/p.go check: check dropped: n > limit -> false",
		"p/p.go check: check dropped: !ok -> false",
		"p/p.go check: condition true: n > limit || !ok -> true",
		"p/p.go check: negated: ok -> !ok",
		"p/p.go check: operator: n > limit -> n >= limit",
		"p/p.go check: operator: n > limit -> n <= limit",
		`p/p.go check: error dropped: return errors.New("refused") -> nil`,
		"p/p.go check: clause dropped: 2 -> ",
	} {
		if !slices.Contains(keys, want) {
			t.Errorf("no mutant %q", want)
		}
	}
	if len(keys) != 9 {
		t.Errorf("%d mutants, not 9: %q", len(keys), keys)
	}
	if strings.Count(out, "\n") != strings.Count(sample, "\n") || !strings.Contains(out, "mutantOn(") {
		t.Errorf("the lines do not stay where they are:\n%s", out)
	}
	if _, err := instrument("p.go", []byte("package"), nil); err == nil {
		t.Error("what is no source is instrumented")
	}
}

func TestMutantThatIsNotTakenLeavesTheSource(t *testing.T) {
	t.Parallel()
	out, err := instrument("p/p.go", []byte(sample), func(Mutant) (int, bool) { return 0, false })
	if err != nil || strings.Contains(string(out), "mutantOn") {
		t.Errorf("got %v:\n%s", err, out)
	}
}

func TestReasons(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "survivors.txt")
	text := "# says nothing\n\n= a.go f & operator\n= b.go\nsame: first\nand more.\n\n= a.go\nuntested: second.\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all, err := ReadReasons(path)
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"p/a.go f: operator: x": "same: first and more.", "p/b.go g: negated": "same: first and more.",
		"p/a.go f: negated": "untested: second.", "p/c.go f: operator": ""} {
		if got := all.Of(key); got != want {
			t.Errorf("%s: got %q, want %q", key, got, want)
		}
	}
	if none, err := ReadReasons(path + "x"); err != nil || none.Of("p/a.go") != "" {
		t.Errorf("no file: got %v, %v", none, err)
	}
}

// TestTrialOfAPackage compiles a package of its own with its mutants: a test must kill those that it can, and no others.
func TestTrialOfAPackage(t *testing.T) {
	if testing.Short() && !need.All() {
		t.Skip("it compiles")
	}
	t.Parallel()
	root := t.TempDir()
	for name, content := range map[string]string{"go.mod": "module p\n\ngo 1.24\n", "p/p.go": sample,
		"p/p_test.go": "package p\n\nimport \"testing\"\n\nfunc TestRefusal(t *testing.T) {\n\tif check(1, false) == nil || check(3, true) != nil {\n\t\tt.Fatal()\n\t}\n}\n"} {
		if err := os.MkdirAll(filepath.Join(root, "p"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx := context.Background()
	b, err := Compile(ctx, root, t.TempDir(), []string{"p"}, "test", "-c", "-vet=off", "./p")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := NewTests(ctx, b, "p", func(string) bool { return false })
	if err != nil {
		t.Fatal(err)
	}
	survive := []string{"check dropped: n > limit", "clause dropped", "constant: limit"}
	for _, m := range b.Mutants {
		var dead bool
		if !m.Alone() {
			dead = tests.Killed(ctx, m)
		} else if binary, ok, err := b.CompileAlone(ctx, m); err != nil || !ok {
			t.Fatal(fmt.Errorf("%s: %t, %w", m.Key(), ok, err))
		} else {
			dead = tests.KilledAlone(ctx, binary)
		}
		lives := slices.ContainsFunc(survive, func(s string) bool { return strings.Contains(m.Key(), s) })
		if dead == lives {
			t.Errorf("%s: killed %t", m.Key(), dead)
		}
	}
}
