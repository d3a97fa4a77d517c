package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manualCommand is for packagers.
func (a *app) manualCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write a manual page for every command",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("writing manual pages: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true // the same source gives the same pages
			date := time.Unix(0, 0).UTC()
			header := &doc.GenManHeader{Section: "1", Source: "writ", Manual: "Writ", Date: &date}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("writing manual pages: %w", err)
			}
			return nil
		},
	}
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
			return misuse("%s has no command %q", cmd.CommandPath(), args[0])
		}
		return misuse("%s needs a command", cmd.CommandPath())
	}
}
