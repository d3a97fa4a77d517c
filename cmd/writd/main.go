// Command writd is the issuer: it verifies evidence, decides by signed policy, signs on a PKCS#11 token and keeps the log.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// The exit statuses of DENIALS.md.
const (
	exitYes    = command.ExitYes
	exitDenied = command.ExitDenied
	exitMisuse = command.ExitMisuse
	exitFault  = command.ExitFault
)

// errMisuse marks an error in how the command was called.
var errMisuse = command.ErrMisuse

// rootCommand returns the tree of commands.
func rootCommand(args ...string) *cobra.Command {
	root := &cobra.Command{
		Use:           "writd",
		Short:         "The Writ issuer",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       command.Version(),
	}
	config := root.PersistentFlags().StringP("config", "c", "/etc/writ/writd.toml", "configuration file")
	root.PersistentFlags().Bool("json", false, "write JSON for machines")
	root.AddCommand(initCommand(config), serveCommand(config), keysCommand(config), authoritiesCommand(config), trustCommand(config), doctorCommand(config), fsckCommand(config), backupCommand(config), restoreCommand(config), holdCommand(config), ceremonyCommand(config), signerCommand(), command.Manual("8"))
	root.InitDefaultCompletionCmd(args...)
	command.DemandSubcommand(root)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errMisuse, err) })
	return root
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root, out := rootCommand(args...), &command.Output{Writer: stdout}
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	asJSON, _ := root.PersistentFlags().GetBool("json") // the flag is there
	asJSON = (asJSON || slices.Contains(args, "--json")) && !out.Used
	return report(cmd, err, asJSON, out, stderr)
}

// report says what went wrong and what to try, and returns the exit status.
func report(cmd *cobra.Command, err error, asJSON bool, stdout, stderr io.Writer) int {
	var d *denial.Denial
	switch {
	case err == nil:
		return exitYes
	case errors.As(err, &d):
		fmt.Fprintf(stderr, "writd: denied: %v\n", err) // what is for the operator too
		hint := d.Hint()
		if cmd.Name() == "doctor" && d.Reason == denial.SelfTestFailed {
			hint = "Mend what is BAD above, and run it again." // not: run writd doctor
		}
		fmt.Fprintf(stderr, "hint: %s\n", hint)
		if asJSON {
			_ = json.NewEncoder(stdout).Encode(denial.Known(d.Try(hint))) // whoever reads it went away
		}
		return exitDenied
	}
	return command.Report(cmd, err, asJSON, stdout, stderr)
}
