package main

import (
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/denial"
)

// maxInspect bounds what is read of a file to be shown: more than the largest evidence.
const maxInspect = 16 << 20

// unverified is the first line about any file.
const unverified = "not verified: this says what the file claims, not that it is true"

func (a *app) inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect",
		Short: "Explain a file in words, without trusting it",
		Long: `Inspect says what a file claims. It checks no signature against anybody's trust: for that there are writ verify, for
artifacts, and writ audit verify, for bundles.`,
	}
	cmd.AddCommand(a.inspectStatement("artifact", "Explain an artifact and its receipt"),
		a.inspectStatement("statement", "Explain a statement, an act, a draft or a break-glass file: what was signed, or will be"),
		a.inspectEventLog(), a.inspectIMA(), a.inspectQuote(), a.inspectEKCert(), a.inspectBundle())
	return cmd
}

// readInput reads a file to be shown.
func readInput(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading input: %w", err)
	}
	defer f.Close()
	return readInputOf(f)
}

func readInputOf(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxInspect+1))
	if err != nil {
		return nil, fmt.Errorf("reading input: %w", err)
	}
	if len(data) > maxInspect {
		return nil, denial.New(denial.StructureLimit, "the file has more than %d bytes", maxInspect)
	}
	return data, nil
}

// show prints a sheet, under the line that says how far to trust it.
func (a *app) show(cmd *cobra.Command, s *sheet) error {
	out := &sheet{}
	out.put("verified", false)
	out.rows = append(out.rows, s.rows...)
	return a.print(cmd, out, unverified+"\n"+s.String())
}

func (a *app) inspectStatement(use, short string) *cobra.Command {
	var diagnostic bool
	cmd := &cobra.Command{
		Use:   use + " FILE",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readInput(args[0])
			if err != nil {
				return err
			}
			explain := explainFile
			if use == "artifact" {
				explain = explainArtifact
			}
			s, err := explain(data)
			if err != nil {
				return err
			}
			if diagnostic {
				if err := diagnose(s, data); err != nil {
					return err
				}
			}
			return a.show(cmd, s)
		},
	}
	cmd.Flags().BoolVar(&diagnostic, "diagnostic", false, "also show the bytes in CBOR diagnostic notation")
	return cmd
}
