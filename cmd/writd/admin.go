package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// output writes v as JSON if the user asked for it, and text otherwise.
func output(cmd *cobra.Command, v any, text string) error {
	if asJSON, err := cmd.Flags().GetBool("json"); err == nil && asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(text, "\n"))
	return err
}

// inUse returns the keys that sign, by purpose.
func inUse(ring *record.KeyRing) map[string]statement.Key {
	keys := map[string]statement.Key{}
	for _, p := range record.Purposes() {
		if k := ring.Active(p); k != nil {
			keys[p] = k.Key
		}
	}
	return keys
}

func fsckCommand(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "fsck",
		Short: "Recompute the whole tree, and every row that a decision reads, from the entries",
		Long: `Fsck reads the whole log, computes every hash again from the entries, and compares it with what is stored and with every
signed head, under the log keys that have followed from genesis. Then it computes every row that a decision reads again from the
entries: what is consumed, revoked, enrolled and in force, and the counters. Entries that the mark beside the log knows of must be there. It needs no token and writes nothing; writd may be serving meanwhile.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			size, err := c.fsck(cmd.Context())
			if err != nil {
				return err
			}
			return output(cmd, map[string]uint64{"entries": size}, fmt.Sprintf("%d entries: every hash, node, signed head and row is as it must be", size))
		},
	}
}
