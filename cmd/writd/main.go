// Command writd is the issuer: it verifies evidence, decides by signed policy, signs on a PKCS#11 token and keeps the log.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/denial"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// The exit statuses of DENIALS.md.
const (
	exitYes    = 0
	exitDenied = 1
	exitMisuse = 2
	exitFault  = 3
)

// errMisuse marks an error in how the command was called.
var errMisuse = errors.New("misuse")

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "writd",
		Short:         "The Writ issuer",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
	}
	config := root.PersistentFlags().StringP("config", "c", "/etc/writ/writd.toml", "configuration file")
	root.PersistentFlags().Bool("json", false, "write JSON for machines")
	root.AddCommand(initCommand(config), serveCommand(config), keysCommand(config), trustCommand(config), doctorCommand(config), fsckCommand(config), holdCommand(config), ceremonyCommand(config), signerCommand())
	root.InitDefaultCompletionCmd(args...)
	demandSubcommand(root)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errMisuse, err) })
	err := root.ExecuteContext(ctx)
	return report(err, stderr)
}

// report says what went wrong and what to try, and returns the exit status.
func report(err error, stderr io.Writer) int {
	var d *denial.Denial
	switch {
	case err == nil:
		return exitYes
	case errors.As(err, &d):
		fmt.Fprintf(stderr, "writd: denied: %v\n", d)
		fmt.Fprintf(stderr, "hint: %s\n", d.Reason.Hint())
		return exitDenied
	case errors.Is(err, errMisuse) || isUsage(err):
		fmt.Fprintf(stderr, "writd: %v\nhint: run writd --help\n", err)
		return exitMisuse
	}
	fmt.Fprintf(stderr, "writd: %v\n", err)
	return exitFault
}

// isUsage reports whether cobra refused the command line: it has no error type for that.
func isUsage(err error) bool {
	for _, start := range []string{"unknown command", "required flag", "accepts ", "requires at least"} {
		if len(err.Error()) >= len(start) && err.Error()[:len(start)] == start {
			return true
		}
	}
	return false
}

// demandSubcommand has every command that only groups others refuse to be called by itself, or with a name that is none
// of them: cobra would show help and exit with 0, which means yes.
func demandSubcommand(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		demandSubcommand(sub)
	}
	if cmd.Runnable() {
		return
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return fmt.Errorf("%w: %s has no command %q", errMisuse, cmd.CommandPath(), args[0])
		}
		return fmt.Errorf("%w: %s needs a command", errMisuse, cmd.CommandPath())
	}
}

// version returns the version that the Go toolchain stamped into the program.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version
}
