// Command run tries the mutants of packages against their own tests, and writes the report.
//
//	go run ./test/mutants/run -results FILE -budget 4m statement artifact   tries mutants for four minutes
//	go run ./test/mutants/run -results FILE -report test/mutants/report.md  writes the report
//
// Results are kept in the file: a later run goes on where the one before ended, with what the source is by then.
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/governed-execution/writ/test/mutants"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// options are the flags.
type options struct {
	root    string
	results string
	report  string
	explain string
	note    string
	leave   *regexp.Regexp
	only    *regexp.Regexp
	seed    uint64
	sample  int
	until   time.Time
	again   bool
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, packages, err := parse(args, stderr)
	if err != nil {
		return 2
	}
	r, err := readResults(o.results)
	if err == nil {
		for _, pkg := range packages {
			if err = try(ctx, o, pkg, r, stdout); err != nil {
				break
			}
		}
	}
	if err == nil && o.report != "" {
		err = r.report(o)
	}
	if err != nil {
		fmt.Fprintln(stderr, "mutants:", err)
		return 3
	}
	return 0
}

func parse(args []string, stderr io.Writer) (o options, packages []string, err error) {
	f := flag.NewFlagSet("run", flag.ContinueOnError)
	f.SetOutput(stderr)
	var budget time.Duration
	var leave, only string
	f.StringVar(&o.root, "root", ".", "root of the module")
	f.StringVar(&o.results, "results", "", "file that keeps results between runs")
	f.StringVar(&o.report, "report", "", "file of the report, to be written")
	f.StringVar(&o.explain, "explain", "test/mutants/survivors.txt", "file that explains survivors")
	f.StringVar(&o.note, "note", "", "a sentence for the report, about how its results were got")
	f.StringVar(&leave, "leave", `Corpus|SWTPM|Swtpm|swtpm`, "tests that are left out")
	f.StringVar(&only, "only", "", "mutants that are tried, by parts of their names, such as a file's; a sample is drawn without it")
	f.Uint64Var(&o.seed, "seed", 1, "of the order of mutants")
	f.IntVar(&o.sample, "sample", 0, "most mutants of a package, drawn by the seed; 0 is all")
	f.DurationVar(&budget, "budget", 4*time.Minute, "time for all packages")
	f.BoolVar(&o.again, "again", false, "try survivors again")
	if err = f.Parse(args); err != nil {
		return o, nil, err
	}
	o.leave, err = regexp.Compile(leave)
	if err == nil {
		o.only, err = regexp.Compile(only)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return o, nil, err
	}
	if o.root, err = filepath.Abs(o.root); err != nil {
		fmt.Fprintln(stderr, err)
	}
	o.until = time.Now().Add(budget)
	return o, f.Args(), err
}

// try tries mutants of one package until the time is over.
func try(ctx context.Context, o options, pkg string, r *results, stdout io.Writer) error {
	dir, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return fmt.Errorf("making directory: %w", err)
	}
	defer os.RemoveAll(dir)
	b, err := mutants.Compile(ctx, o.root, dir, []string{pkg}, "test", "-c", "-vet=off", "./"+pkg)
	if err != nil {
		return err
	}
	tests, err := mutants.NewTests(ctx, b, pkg, o.leave.MatchString)
	if err != nil {
		return err
	}
	chosen := choose(b.Mutants, o)
	r.begin(pkg, len(b.Mutants), b.Dropped, chosen)
	done, killed := 0, 0
	for _, m := range chosen {
		if old, ok := r.found[m.Key()]; ok && (old || !o.again) || !o.only.MatchString(m.Key()) {
			continue
		}
		if time.Now().After(o.until) || ctx.Err() != nil {
			break
		}
		dead, ok, err := trial(ctx, b, tests, m)
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			break
		}
		if !ok {
			r.drop(pkg, m)
			continue
		}
		if done++; dead {
			killed++
		}
		if err := r.add(m, dead); err != nil {
			return err
		}
	}
	fmt.Fprintf(stdout, "%s: %d of %d mutants tried now, %d killed\n", pkg, done, len(chosen), killed)
	return r.write()
}

// trial tries one mutant. It is not ok if the mutant does not compile.
func trial(ctx context.Context, b *mutants.Build, tests *mutants.Tests, m mutants.Mutant) (killed, ok bool, err error) {
	if !m.Alone() {
		return tests.Killed(ctx, m), true, nil
	}
	binary, ok, err := b.CompileAlone(ctx, m)
	if err != nil || !ok {
		return false, ok, err
	}
	return tests.KilledAlone(ctx, binary), true, nil
}

// choose draws mutants in an order that the seed and their names give, so that a change of the source moves no others.
func choose(all []mutants.Mutant, o options) []mutants.Mutant {
	place := make(map[string]string, len(all))
	for _, m := range all {
		sum := sha256.Sum256(fmt.Appendf(nil, "%d %s", o.seed, m.Key()))
		place[m.Key()] = string(sum[:])
	}
	chosen := slices.Clone(all)
	slices.SortFunc(chosen, func(a, b mutants.Mutant) int { return strings.Compare(place[a.Key()], place[b.Key()]) })
	if o.sample > 0 && o.sample < len(chosen) {
		chosen = chosen[:o.sample]
	}
	return chosen
}
