// Command writ-gate runs nothing without a valid artifact. It is pure Go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"os/user"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/gate"
	"github.com/governed-execution/writ/issuer/client"
)

func main() {
	if status, kept := gate.Keep(os.Args); kept { // this process was started by a gate, for a program
		os.Exit(status)
	}
	// An interrupt from the terminal reaches the program too; the gate waits for it, to record its end. The signals are
	// caught, not ignored: a program would inherit that.
	signal.Notify(make(chan os.Signal, 1), os.Interrupt, syscall.SIGQUIT)
	// A terminal stops neither the gate, which would end no lease meanwhile, nor the program, which inherits that.
	signal.Ignore(syscall.SIGTSTP)
	ends := []os.Signal{syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as under nohup
		ends = append(ends, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	// Neither the gate nor what it runs leaves its memory on a disk. That the limit cannot be lowered does not happen.
	_ = syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{})
	status := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// The exit statuses of DENIALS.md, in the convention of env, timeout and nohup.
const (
	exitDenied = 126
	exitFault  = 125
)

// errMisuse marks an error in how the command was called.
var errMisuse = command.ErrMisuse

type execFlags struct {
	config                                string
	trust, artifact, cnf, state, audience string
	server, ca, tpm, cgroup               string
	statusFD                              int
	callers                               gate.Callers
	json, verbose                         bool
}

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (status int) {
	status = exitFault
	defer func() { // the runtime's own status for a panic could be a program's
		if p := recover(); p != nil {
			fmt.Fprintf(stderr, "writ-gate: stopped unexpectedly: %v\n%s", p, debug.Stack())
			status = exitFault
		}
	}()
	root := &cobra.Command{Use: "writ-gate", Short: "Run governed programs, and nothing else", SilenceUsage: true, SilenceErrors: true, Version: command.Version(),
		RunE: func(*cobra.Command, []string) error { return fmt.Errorf("%w: no command is given", errMisuse) },
		PersistentPreRun: func(cmd *cobra.Command, _ []string) {
			if cmd.Name() != "exec" { // completion, manual
				status = 0
			}
		}}
	root.AddCommand(execCommand(&status), command.Manual("1"))
	help := root.HelpFunc()
	root.SetHelpFunc(func(cmd *cobra.Command, args []string) {
		help(cmd, args)
		status = 0
	})
	root.SetArgs(args)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errMisuse, err) })
	if err := root.ExecuteContext(ctx); err != nil {
		return report(err, stderr)
	}
	if asked, err := root.Flags().GetBool("version"); err == nil && asked {
		return 0
	}
	return status
}

func report(err error, stderr io.Writer) int {
	var d *denial.Denial
	if errors.As(err, &d) {
		fmt.Fprintf(stderr, "writ-gate: denied: %v\nhint: %s\n", d, d.Hint())
		return exitDenied
	}
	fmt.Fprintf(stderr, "writ-gate: %v\n", err)
	if command.IsMisuse(err) {
		fmt.Fprintln(stderr, "hint: run writ-gate exec --help")
	} else if hint := command.Advice(err); hint != "" {
		fmt.Fprintf(stderr, "hint: %s\n", hint)
	}
	return exitFault
}

func execCommand(status *int) *cobra.Command {
	var f execFlags
	cmd := &cobra.Command{
		Use:   "exec --artifact FILE [flags] -- PROGRAM [ARG …]",
		Short: "Run one program if its artifact allows exactly this, once",
		Long: `Exec checks the artifact, its receipt, your pins, revocation, scope and code, has this host's TPM prove possession,
consumes a use, has the start logged, and runs the bytes that it checked. It ends the program when the artifact expires, or where
policy allows a session, when that is over. The exit status is the program's own when it
ran; 126 if it was denied, 125 for misuse or a fault. --status-fd tells them apart for programs that use those numbers.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if err := f.configure(cmd); err != nil {
				return err
			}
			*status, err = execute(cmd, &f, args)
			return err
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&f.config, "config", "c", client.DefaultConfig, "TOML file with what else would be flags")
	fl.StringVar(&f.artifact, "artifact", "", "artifact with its receipt, or break-glass file")
	fl.StringVar(&f.cnf, "cnf", "", "confirmation key; default: the artifact's file with .cnf")
	fl.StringVar(&f.trust, "trust", "/etc/writ/trust.toml", "trust file")
	fl.StringVar(&f.state, "state", "/var/lib/writ-gate", "state directory, made by writ host enroll --gate-state")
	fl.StringVar(&f.audience, "audience", "", "URI of this gate; default that of the trust file")
	fl.StringVar(&f.server, "server", "", "https address of the issuer")
	fl.StringVar(&f.ca, "ca", "", "PEM file with the roots of the issuer's TLS certificate")
	fl.StringVar(&f.tpm, "tpm", "/dev/tpmrm0", "TPM device, or Unix socket of a software TPM")
	fl.StringVar(&f.cgroup, "cgroup", "", "directory of a control group (v2) that is delegated to the gate, or own: the program gets one below it")
	fl.IntVar(&f.statusFD, "status-fd", 0, "write one line of JSON about the outcome to this descriptor")
	fl.BoolVar(&f.json, "json", false, "write a denial as JSON")
	fl.BoolVar(&f.verbose, "checks", false, "after a denial, show the state of every check")
	return cmd
}

func execute(cmd *cobra.Command, f *execFlags, args []string) (int, error) {
	g, tpm, err := f.open(cmd.Context())
	if err != nil {
		return exitFault, err
	}
	defer tpm.Close()
	c := gate.Command{Path: args[0], Args: args[1:], Env: os.Environ(), Stdout: os.Stdout, Stderr: os.Stderr}
	if c.Artifact, err = f.readArtifact(); err != nil {
		return exitFault, err
	}
	if len(c.Artifact) > 0 {
		if c.CNF, err = f.readCNF(); err != nil {
			return exitFault, err
		}
	}
	out, err := g.Exec(cmd.Context(), c)
	if f.statusFD > 2 {
		err = errors.Join(err, writeStatus(f.statusFD, out))
	}
	if out.Denied != nil {
		f.show(cmd.OutOrStdout(), cmd.ErrOrStderr(), out)
		return exitDenied, err
	}
	if out.Ended != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "writ-gate: the program was ended: %v\nhint: %s\n", out.Ended, out.Ended.Hint())
	}
	if out.Left > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "writ-gate: the program left %d process(es) behind, which were killed\n", out.Left)
	}
	if out.Spooled {
		fmt.Fprintln(cmd.ErrOrStderr(), "writ-gate: the end record waits in the state directory until the issuer can be reached")
	}
	return out.Status, err
}

// configure reads the configuration file and sets every flag that it names and the user did not.
func (f *execFlags) configure(cmd *cobra.Command) error {
	c, err := client.ReadConfig(f.config)
	if err != nil {
		return fmt.Errorf("%w: %w", errMisuse, err)
	}
	for name, value := range map[string]string{"server": c.Server, "ca": c.CA, "tpm": c.TPM, "trust": c.Trust, "state": c.State, "audience": c.Audience, "cgroup": c.Cgroup} {
		if flag := cmd.Flags().Lookup(name); value != "" && !flag.Changed {
			if err := flag.Value.Set(value); err != nil {
				return fmt.Errorf("%w: %s: %w", errMisuse, f.config, err)
			}
		}
	}
	if f.callers, err = callers(c.Callers); err != nil {
		return fmt.Errorf("%w: %s: %w", errMisuse, f.config, err)
	}
	return nil
}

// callers returns the numbers of the users that a configuration names. A user whom this host does not know is an error.
func callers(named map[string][]string) (gate.Callers, error) {
	if named == nil {
		return nil, nil
	}
	all := gate.Callers{}
	for initiator, names := range named {
		for _, name := range names {
			number := name
			if u, err := user.Lookup(name); err == nil {
				number = u.Uid
			}
			uid, err := strconv.ParseUint(number, 10, 32)
			if err != nil {
				return nil, fmt.Errorf("callers: this host knows no user %q", name)
			}
			all[initiator] = append(all[initiator], uint32(uid))
		}
	}
	return all, nil
}

func (f *execFlags) open(ctx context.Context) (*gate.Gate, *attester.TPM, error) {
	data, err := command.ReadFile(f.trust, command.Small)
	if err != nil {
		return nil, nil, fmt.Errorf("reading trust file: %w", err)
	}
	trust, err := artifact.ParseTrust(data)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %s: %w", errMisuse, f.trust, err)
	}
	if f.audience == "" {
		f.audience = trust.Audience
	}
	if f.audience == "" || f.server == "" || f.ca == "" {
		return nil, nil, fmt.Errorf("%w: give --server and --ca, and --audience unless the trust file names one", errMisuse)
	}
	c, err := client.Open(f.server, f.ca)
	if err != nil {
		return nil, nil, err
	}
	tpm, err := attester.Open(ctx, f.tpm)
	if err != nil {
		return nil, nil, err
	}
	g, err := gate.Open(ctx, gate.Options{Trust: trust, Audience: f.audience, Issuer: c, TPM: gate.Host(tpm), State: f.state, Cgroup: f.cgroup, Callers: f.callers})
	if err != nil {
		return nil, nil, errors.Join(err, tpm.Close())
	}
	return g, tpm, nil
}

// readArtifact returns nothing where no artifact is given or the file is not there, and no more than enough of one that is too large:
// that is for the gate to deny, and to log.
func (f *execFlags) readArtifact() ([]byte, error) {
	if f.artifact == "" {
		return nil, nil
	}
	file, err := os.Open(f.artifact)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading artifact: %w", err)
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, artifact.MaxPresented+1))
	if err != nil {
		return nil, fmt.Errorf("reading artifact: %w", err)
	}
	return data, nil
}

func (f *execFlags) readCNF() (*attester.Key, error) {
	path := f.cnf
	if path == "" {
		path = f.artifact + ".cnf"
	}
	k, err := attester.ReadKey(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil // the gate denies: possession cannot be proved
	}
	return k, err
}

// view is an outcome for machines.
type view struct {
	Started bool            `json:"started"`
	Status  int             `json:"status"`
	Logged  bool            `json:"logged"`
	Index   uint64          `json:"log_index,omitempty"`
	Denial  *denial.Problem `json:"denial,omitempty"`
	Ended   *denial.Problem `json:"ended,omitempty"` // why the gate ended it
	Left    int             `json:"left,omitempty"`  // processes that it left behind, and that were killed
}

func viewOf(o gate.Outcome) view {
	v := view{Started: o.Started, Status: o.Status, Logged: o.Logged, Index: o.Index, Left: o.Left}
	if o.Denied != nil {
		v.Denial = denial.Known(o.Denied)
		v.Denial.Logged, v.Denial.LogIndex = o.Logged, o.Index
	}
	if o.Ended != nil {
		v.Ended = denial.Known(o.Ended)
	}
	return v
}

func writeStatus(fd int, o gate.Outcome) error {
	w := os.NewFile(uintptr(fd), "status")
	if w == nil {
		return fmt.Errorf("%w: --status-fd %d is not open", errMisuse, fd)
	}
	return json.NewEncoder(w).Encode(viewOf(o))
}

// show tells of a denial.
func (f *execFlags) show(stdout, stderr io.Writer, o gate.Outcome) {
	if f.json {
		_ = json.NewEncoder(stdout).Encode(viewOf(o))
		return
	}
	d := o.Denied
	fmt.Fprintf(stderr, "writ-gate: denied: %v\n           decided at: %s\n", d, d.Stage)
	if len(d.Requirements) > 0 {
		fmt.Fprintf(stderr, "           did not hold: %s\n", strings.Join(d.Requirements, "; "))
	}
	switch {
	case o.Logged:
		fmt.Fprintf(stderr, "           logged at index %d\n", o.Index)
	case o.Spooled:
		fmt.Fprintln(stderr, "           not logged yet: the record waits in the state directory")
	default:
		fmt.Fprintln(stderr, "           not logged: the issuer did not take the record")
	}
	fmt.Fprintf(stderr, "hint: %s\n", d.Hint())
	if f.verbose {
		for _, line := range o.Checks {
			fmt.Fprintf(stderr, "  %s\n", line)
		}
	}
}
