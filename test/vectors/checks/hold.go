package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/governed-execution/writ/test/mutants"
)

// verifiers are the packages whose checks must be held.
var verifiers = []string{"attest", "statement", "artifact", "receipt"}

// outcome is what the vectors say without one check.
type outcome struct {
	check    mutants.Mutant
	accepted []string // vectors that ought to be refused
	other    []string // vectors with another answer
	reason   string   // why none notices
}

// holdAll drops one check after the other and runs the vectors.
func holdAll(ctx context.Context, dir, explain, report string, stdout io.Writer) (bool, error) {
	reasons, err := mutants.ReadReasons(explain)
	if err != nil {
		return false, err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return false, err
	}
	tmp, err := os.MkdirTemp("", "checks")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(tmp)
	root, err := os.Getwd()
	if err != nil {
		return false, err
	}
	b, err := mutants.Compile(ctx, root, tmp, verifiers, "build", "./test/vectors/checks")
	if err != nil {
		return false, err
	}
	reached, err := reach(ctx, b.Binary, dir, filepath.Join(tmp, "trace"))
	if err != nil {
		return false, err
	}
	var all []outcome
	for _, m := range b.Mutants {
		if !m.Refuses || m.Alone() {
			continue
		}
		o := outcome{check: m}
		if reached[m.ID] {
			if o, err = without(ctx, b.Binary, dir, m); err != nil {
				return false, err
			}
		}
		if len(o.accepted)+len(o.other) == 0 {
			o.reason = reasons.Of(m.Key())
		}
		all = append(all, o)
	}
	return tell(all, report, stdout)
}

// reach runs the vectors with every check in place and returns the checks that they come to.
func reach(ctx context.Context, binary, dir, trace string) (map[int]bool, error) {
	cmd := exec.CommandContext(ctx, binary, "-run", dir)
	cmd.Env = append(os.Environ(), "MUTANT_TRACE="+trace)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("running vectors with every check in place: %w: %s", err, out)
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		return nil, fmt.Errorf("reading trace: %w", err)
	}
	reached := map[int]bool{}
	for _, field := range strings.Fields(string(text)) {
		if id, err := strconv.Atoi(field); err == nil {
			reached[id] = true
		}
	}
	return reached, nil
}

// without runs the vectors without one check.
func without(ctx context.Context, binary, dir string, m mutants.Mutant) (outcome, error) {
	cmd := exec.CommandContext(ctx, binary, "-run", dir)
	cmd.Env = append(os.Environ(), "MUTANT="+strconv.Itoa(m.ID))
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		return outcome{}, ctx.Err()
	}
	o := outcome{check: m}
	for _, text := range strings.Split(string(out), "\n") {
		id, what, ok := strings.Cut(text, ": got ")
		switch {
		case !ok:
		case strings.HasPrefix(what, "0 "):
			o.accepted = append(o.accepted, id)
		default:
			o.other = append(o.other, id)
		}
	}
	if err != nil && len(o.accepted)+len(o.other) == 0 {
		o.other = []string{"the run as a whole"}
	}
	return o, nil
}

// tell prints what came of each check and writes the report.
func tell(all []outcome, report string, stdout io.Writer) (bool, error) {
	var accepted, other, explained, open int
	var b strings.Builder
	b.WriteString("\n## Checks that no vector holds\n\n")
	for _, o := range all {
		switch {
		case len(o.accepted) > 0:
			accepted++
		case len(o.other) > 0:
			other++
		case o.reason != "":
			explained++
			fmt.Fprintf(&b, "- `%s`  \n  %s\n", o.check.Key(), o.reason)
		default:
			open++
			fmt.Fprintf(stdout, "not held: %s\n", o.check.Key())
		}
	}
	summary := fmt.Sprintf("%d checks dropped, one at a time: without %d of them a vector that must be refused is accepted, without %d a vector gets "+
		"another code, since a later check refuses it; %d make no difference that a vector can see, and are explained; %d are not held.\n",
		len(all), accepted, other, explained, open)
	fmt.Fprint(stdout, summary)
	if report != "" {
		text := "# Which checks the vectors hold\n\nWritten by `make vectors`.\n\n" + summary + b.String()
		if err := os.WriteFile(report, []byte(text), 0o644); err != nil {
			return false, err
		}
	}
	return open == 0, nil
}
