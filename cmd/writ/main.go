// Command writ is for hosts, initiators, authorities and auditors. It is pure Go and holds no key of the issuer.
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
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer/client"
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

func misuse(format string, args ...any) error { return command.Misuse(format, args...) }

// app is what every command shares.
type app struct {
	config string
	server string // URL of the issuer
	ca     string // PEM file: roots of the issuer's TLS certificate
	tpm    string // device or socket
	json   bool
	file   *client.Config
}

// root returns the tree of commands.
func (a *app) root(args ...string) *cobra.Command {
	root := &cobra.Command{Use: "writ", Short: "Ask for, check and audit execution authorization artifacts", SilenceUsage: true, SilenceErrors: true, Version: command.Version()}
	flags := root.PersistentFlags()
	flags.StringVarP(&a.config, "config", "c", client.DefaultConfig, "TOML file with what else would be flags")
	flags.StringVar(&a.server, "server", "", "https address of the issuer")
	flags.StringVar(&a.ca, "ca", "", "PEM file with the roots of the issuer's TLS certificate")
	flags.StringVar(&a.tpm, "tpm", "/dev/tpmrm0", "TPM device, or Unix socket of a software TPM")
	flags.BoolVar(&a.json, "json", false, "write JSON for machines")
	root.AddCommand(a.keyCommand(), a.signCommand(), a.publishCommand(), a.genesisCommand(), a.hostCommand(), a.initiatorCommand(), a.policyCommand(),
		a.requestCommand(), a.delegateCommand(), a.rootsCommand(), a.verifyCommand(), a.revokeCommand(), a.breakGlassCommand(), a.auditCommand(), a.monitorCommand(), a.ceremonyCommand(), a.inspectCommand(), command.Manual("1"))
	root.InitDefaultCompletionCmd(args...)
	command.DemandSubcommand(root)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error { return a.configure(cmd) }
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return misuse("%w", err) })
	return root
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a, out := &app{}, &command.Output{Writer: stdout}
	root := a.root(args...)
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(out)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	a.json = (a.json || slices.Contains(args, "--json")) && !out.Used // what was wrong may have stood before the flag
	return a.report(cmd, err, out, stderr)
}

// report says what went wrong and what to try, and returns the exit status.
func (a *app) report(cmd *cobra.Command, err error, stdout, stderr io.Writer) int {
	var d *denial.Denial
	switch {
	case err == nil:
		return exitYes
	case errors.As(err, &d):
		a.reportDenial(err, d, stdout, stderr)
		return exitDenied
	}
	return command.Report(cmd, err, a.json, stdout, stderr)
}

// reportDenial prints a denial: for a machine as JSON on standard output, for a person on standard error.
func (a *app) reportDenial(err error, d *denial.Denial, stdout, stderr io.Writer) {
	var refused *client.RefusedError
	if errors.As(err, &refused) && refused.Problem.Details == nil {
		if a.json {
			_ = json.NewEncoder(stdout).Encode(refused.Problem)
			return
		}
		fmt.Fprintf(stderr, "writ: denied: %s\nhint: %s\n", refused.Problem.Condition, command.StrangerAdvice(refused.Problem.Condition))
		return
	}
	problem := denial.Known(d)
	if refused != nil {
		problem = refused.Problem
	}
	if a.json {
		_ = json.NewEncoder(stdout).Encode(problem)
		return
	}
	fmt.Fprintf(stderr, "writ: denied: %v\n", d)
	if len(d.Requirements) > 0 {
		fmt.Fprintf(stderr, "      did not hold: %s\n", strings.Join(d.Requirements, "; "))
	}
	if d.Stage != 0 {
		fmt.Fprintf(stderr, "      decided at: %s\n", d.Stage)
	}
	if refused != nil && problem.Logged {
		fmt.Fprintf(stderr, "      logged at index %d\n", problem.LogIndex)
	}
	fmt.Fprintf(stderr, "hint: %s\n", d.Hint())
}

// typed is an annotation of a flag that only the user sets, although the configuration file has a key of its name.
const typed = "typed"

// configure reads the configuration file and sets every flag of the command that it names and the user did not.
func (a *app) configure(cmd *cobra.Command) (err error) {
	if a.file, err = client.ReadConfig(a.config); err != nil {
		return misuse("%w", err)
	}
	f := a.file
	for name, value := range map[string]string{"server": f.Server, "ca": f.CA, "issuer": f.Issuer, "tpm": f.TPM, "eventlog": f.EventLog,
		"imalist": f.IMAList, "host": f.Host, "initiator": f.Initiator, "audience": f.Audience, "trust": f.Trust} {
		if flag := cmd.Flags().Lookup(name); flag != nil && value != "" && !flag.Changed && len(flag.Annotations[typed]) == 0 {
			if err := flag.Value.Set(value); err != nil {
				return misuse("%s: %w", a.config, err)
			}
		}
	}
	return nil
}

// client returns a client of the issuer.
func (a *app) client() (*client.Client, error) {
	if a.server == "" || a.ca == "" {
		return nil, misuse("this command asks the issuer: give --server and --ca")
	}
	return client.Open(a.server, a.ca)
}

// print writes v as JSON, or the text for people.
func (a *app) print(cmd *cobra.Command, v any, text string) error {
	if a.json {
		enc := json.NewEncoder(cmd.OutOrStdout())
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(text, "\n"))
	return err
}
