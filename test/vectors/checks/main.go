// Command checks runs vectors, or tries whether each check of the verifier is held by one of them.
//
//	go run ./test/vectors/checks -run DIR                         runs the vectors of a directory
//	go run ./test/vectors/checks -hold DIR [-report FILE]         drops one check after the other and runs them each time
//
// A check is an operand of a condition that leads to a refusal, an operand of a conjunction that a function returns, or an
// error that a function passes on. It is held if without it some vector gets another answer.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"

	"github.com/governed-execution/writ/test/vectors"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f := flag.NewFlagSet("checks", flag.ContinueOnError)
	f.SetOutput(stderr)
	plain := f.String("run", "", "directory of vectors to run")
	hold := f.String("hold", "", "directory of vectors that must hold every check")
	explain := f.String("explain", "test/vectors/checks.txt", "file that explains checks that no vector holds")
	report := f.String("report", "", "file for the report")
	if f.Parse(args) != nil || (*plain == "") == (*hold == "") || f.NArg() > 0 {
		f.Usage()
		return 2
	}
	var good bool
	var err error
	if *plain != "" {
		good, err = runAll(*plain, stdout)
	} else {
		good, err = holdAll(ctx, *hold, *explain, *report, stdout)
	}
	switch {
	case err != nil:
		fmt.Fprintln(stderr, "vectors:", err)
		return 3
	case !good:
		return 1
	}
	return 0
}

// runAll runs the vectors of a directory and prints those that get another answer.
func runAll(dir string, stdout io.Writer) (bool, error) {
	all, err := vectors.Load(dir)
	if err != nil {
		return false, err
	}
	wrong := 0
	for _, v := range all {
		if err := vectors.Run(v); err != nil {
			wrong++
			fmt.Fprintln(stdout, err)
		}
	}
	fmt.Fprintf(stdout, "%d vectors, %d with another answer\n", len(all), wrong)
	return wrong == 0, nil
}
