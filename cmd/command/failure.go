package command

import (
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// The exit statuses of DENIALS.md.
const (
	ExitYes    = 0
	ExitDenied = 1
	ExitMisuse = 2
	ExitFault  = 3
)

// Output is standard output that knows whether anything has been written to it: what a command has said for machines stays one value.
type Output struct {
	io.Writer
	Used bool
}

// Write writes to standard output.
func (o *Output) Write(p []byte) (int, error) {
	o.Used = true
	return o.Writer.Write(p)
}

// Failure is an error that is no denial, for machines.
type Failure struct {
	Error string `json:"error"`
	Hint  string `json:"hint"`
	Exit  int    `json:"exit"`
}

// Report says what went wrong, where it is no denial, and what to try: to a person on standard error, and for a machine as JSON on
// standard output too. It returns the exit status.
func Report(cmd *cobra.Command, err error, asJSON bool, stdout, stderr io.Writer) int {
	f := Failure{Error: err.Error(), Hint: Advice(err), Exit: ExitFault}
	if IsMisuse(err) {
		f.Hint, f.Exit = "run "+Help(cmd), ExitMisuse
	}
	if f.Hint == "" {
		f.Hint = "see what it needs with " + Help(cmd)
	}
	fmt.Fprintf(stderr, "%s: %s\nhint: %s\n", cmd.Root().Name(), f.Error, f.Hint)
	if asJSON {
		_ = json.NewEncoder(stdout).Encode(f) // whoever reads it went away
	}
	return f.Exit
}
