package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/governed-execution/writ/test/mutants"
)

func named(names ...string) (all []mutants.Mutant) {
	for _, n := range names {
		all = append(all, mutants.Mutant{File: "p/" + n + ".go", Func: "f", Kind: mutants.Negate, From: "a", To: "!a"})
	}
	return all
}

// A mutant more changes the order of no others, and a sample is a beginning of the whole.
func TestChooseIsStable(t *testing.T) {
	t.Parallel()
	all := choose(named("a", "b", "c", "d"), options{seed: 1})
	more := choose(named("x", "a", "b", "c", "d"), options{seed: 1})
	i := 0
	for _, m := range more {
		if m.File == "p/x.go" {
			continue
		}
		if m.Key() != all[i].Key() {
			t.Errorf("place %d: %s, not %s", i, m.Key(), all[i].Key())
		}
		i++
	}
	if two := choose(named("a", "b", "c", "d"), options{seed: 1, sample: 2}); len(two) != 2 || two[0].Key() != all[0].Key() || two[1].Key() != all[1].Key() {
		t.Errorf("a sample of two: %v", two)
	}
}

func TestResultsAndReport(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "results.json")
	r, err := readResults(path)
	if err != nil {
		t.Fatal(err)
	}
	all := named("a", "b", "c", "d", "e")
	r.begin("p", len(all), 0, all)
	for i, dead := range []bool{true, true, false, false} {
		if err := r.add(all[i], dead); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.write(); err != nil {
		t.Fatal(err)
	}
	if r, err = readResults(path); err != nil {
		t.Fatal(err)
	}
	r.drop("p", all[1])
	explain, report := filepath.Join(dir, "survivors.txt"), filepath.Join(dir, "report.md")
	if err := os.WriteFile(explain, []byte("= p/c.go\nsame: so.\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.report(options{report: report, explain: explain}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"| p | 4 | 3 | 1 | 33.3 % | 1 | 0 | 1 |", "p/c.go f: negated: a -> !a`  \n  same: so.", "p/d.go f: negated: a -> !a`  \n  open: "} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report does not say %q:\n%s", want, text)
		}
	}
}
