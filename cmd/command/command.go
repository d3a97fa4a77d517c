// Package command holds what the commands of the three programs have in common beside cobra itself.
package command

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// ErrMisuse marks an error in how a program was called.
var ErrMisuse = errors.New("misuse")

// Misuse returns an error that is ErrMisuse.
func Misuse(format string, args ...any) error {
	return fmt.Errorf("%w: %w", ErrMisuse, fmt.Errorf(format, args...))
}

// IsMisuse reports whether an error says that the program was called wrongly. It knows cobra's own refusals by their words:
// cobra has no error type for them.
func IsMisuse(err error) bool {
	if errors.Is(err, ErrMisuse) {
		return true
	}
	for _, start := range []string{"unknown command", "required flag", "accepts ", "requires at least", "invalid argument"} {
		if err != nil && strings.HasPrefix(err.Error(), start) {
			return true
		}
	}
	return false
}

// DemandSubcommand has every command that only groups others refuse to be called by itself, or with a name that is none
// of them: cobra would show help and exit with 0, which means yes.
func DemandSubcommand(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		DemandSubcommand(sub)
	}
	if cmd.Runnable() {
		return
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return Misuse("%s has no command %q", cmd.CommandPath(), args[0])
		}
		return Misuse("%s needs a command", cmd.CommandPath())
	}
}

// Version returns the version that the Go toolchain stamped into the program.
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return info.Main.Version
}

// Manual returns the hidden command, for packagers, that writes a manual page of section 1 or 8 for every command of the
// program. The same source gives the same pages.
func Manual(section string) *cobra.Command {
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
			root.DisableAutoGenTag = true
			date := time.Unix(0, 0).UTC()
			header := &doc.GenManHeader{Section: section, Source: root.Name(), Manual: "Writ", Date: &date}
			if err := doc.GenManTree(root, header, args[0]); err != nil {
				return fmt.Errorf("writing manual pages: %w", err)
			}
			return nil
		},
	}
}
