package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/audit"
)

func (a *app) auditReport() *cobra.Command {
	var trust, out string
	cmd := &cobra.Command{
		Use:   "report BUNDLE -o FILE",
		Short: "Write a page that a person can read and print: what was permitted and denied, why, by whom, on what",
		Long: `Report verifies a bundle with your trust file, and writes one HTML page that loads nothing and runs no script. Every figure
on it leads to the statements behind it, and it says what it does not show. The exit status is that of writ audit
verify: a page of a refuted bundle says so at its top. With --json it tells on standard output who went and who came in each change of
authorities.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			account, err := a.tell(cmd, args[0], trust)
			if err != nil {
				return err
			}
			if err := replace(out, func(w io.Writer) error { return audit.WriteReport(w, account) }); err != nil {
				return err
			}
			r := account.Report
			return a.showDenied(cmd, map[string]any{"file": out, "verdict": r.Verdict, "statements": len(account.Items), "authorities": r.Handovers},
				fmt.Sprintf("%s tells of %d statements: %s", out, len(account.Items), r.Verdict), r.Err())
		},
	}
	cmd.Flags().StringVar(&trust, "trust", "trust.toml", "your trust file")
	cmd.Flags().StringVarP(&out, "out", "o", "report.html", "file of the page")
	return cmd
}
