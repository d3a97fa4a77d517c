package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/governed-execution/writ/test/mutants"
)

// report writes what was found, with the explanation of each survivor.
func (r *results) report(o options) error {
	reasons, err := mutants.ReadReasons(o.explain)
	if err != nil {
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, introduction, strings.TrimSpace(time.Now().UTC().Format(time.DateOnly)+". "+o.note), o.seed)
	b.WriteString("\n| package | mutants | tried | killed | | no difference | untested, explained | open |\n|---|---|---|---|---|---|---|---|\n")
	var rest strings.Builder
	for _, p := range r.Packages {
		tried, killed := 0, 0
		same, other, open := 0, 0, 0
		var survivors []string
		for _, k := range p.Chosen {
			dead, ok := r.found[k]
			switch {
			case !ok:
				continue
			case dead:
				killed++
			default:
				survivors = append(survivors, k)
				reason := reasons.Of(k)
				switch {
				case reason == "":
					open++
				case strings.HasPrefix(reason, "same: "):
					same++
				default:
					other++
				}
			}
			tried++
		}
		fmt.Fprintf(&b, "| %s | %d | %d | %d | %.1f %% | %d | %d | %d |\n", p.Package, p.Mutants, tried, killed,
			100*float64(killed)/float64(max(tried, 1)), same, other, open)
		slices.Sort(survivors)
		fmt.Fprintf(&rest, "\n## Survivors of %s\n\n", p.Package)
		for _, k := range survivors {
			reason := reasons.Of(k)
			if reason == "" {
				reason = "open: no test tells it from the program yet."
			}
			fmt.Fprintf(&rest, "- `%s`  \n  %s\n", strings.ReplaceAll(k, "`", "'"), reason)
		}
	}
	if err := os.WriteFile(o.report, []byte(b.String()+rest.String()), 0o644); err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	return nil
}

const introduction = `# Mutation testing

Written on %s

A mutant is the program with one small mistake. The tests of its package should notice: then it is killed. This report is
written by ` + "`make mutants`" + `; how mutants are made is said in package test/mutants. Tests that need a software TPM or the
corpus are left out, so these mutants are killed by unit tests alone.

The mistakes: each operand of a condition that refuses is dropped; a condition holds always or never; a boolean value is
negated; an operator is exchanged; an integer in a comparison or a constant is one more; an assignment, call, break or
continue is not executed; a loop or a clause of a switch is left out; an error that is returned becomes nil.

Where fewer mutants were tried than there are, they are a sample: the first ones of an order that seed %d gives, by a hash of
each mutant's name. A survivor with "same" makes no difference that a caller can see: the program
is another, its answers are not.
`
