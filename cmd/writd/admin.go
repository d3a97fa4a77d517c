package main

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// output writes v as JSON if the user asked for it, and text otherwise.
func output(cmd *cobra.Command, v any, text string) error {
	if asJSON, err := cmd.Flags().GetBool("json"); err == nil && asJSON {
		return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), strings.TrimRight(text, "\n"))
	return err
}

func keysCommand(path *string) *cobra.Command {
	cmd := &cobra.Command{Use: "keys", Short: "See the keys on the token"}
	cmd.AddCommand(&cobra.Command{
		Use:   "list",
		Short: "List the issuer's keys with their attributes, as the token states them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			return listKeys(cmd, c)
		},
	})
	return cmd
}

// keyView is a key for people and machines.
type keyView struct {
	Purpose    string            `json:"purpose"`
	Thumbprint string            `json:"thumbprint"`
	Good       bool              `json:"good"`
	Problem    string            `json:"problem,omitempty"`
	Attributes map[string]string `json:"attributes"`
}

func listKeys(cmd *cobra.Command, c *config) error {
	token, err := c.openToken(cmd.Context(), false)
	if err != nil {
		return err
	}
	defer token.Close()
	keys, err := token.Active().Keys(cmd.Context())
	if err != nil {
		return err
	}
	views, text := []keyView{}, ""
	for _, k := range keys {
		v := viewKey(k)
		views = append(views, v)
		word := "sign only, never extractable, made on the token"
		if !v.Good {
			word = v.Problem
		}
		text += fmt.Sprintf("%-9s %s  %s\n", v.Purpose, v.Thumbprint, word)
	}
	return output(cmd, views, text)
}

func viewKey(k hsm.Attributes) keyView {
	v := keyView{Purpose: k.Purpose.String(), Thumbprint: k.Key.Thumbprint().String(), Attributes: k.Birth().Attributes, Good: true}
	if err := k.Check(); err != nil {
		v.Good, v.Problem = false, denial.Of(err).Detail
	}
	return v
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
		Short: "Recompute the whole tree from its entries and compare it with every signed head",
		Long: `Fsck reads the whole log, computes every hash again from the entries, and compares it with what is stored and with every
signed head, under the log keys that have followed from genesis. It needs no token and writes nothing; writd may be serving meanwhile.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			g, ring, err := c.readKeys(cmd.Context())
			if err != nil {
				return err
			}
			view, err := tlog.OpenReadOnly(cmd.Context(), c.Log)
			if err != nil {
				return err
			}
			defer view.Close()
			size, err := view.Check(cmd.Context(), ring.Of(record.PurposeLog), g.Issuer, g.Log)
			if err != nil {
				return err
			}
			return output(cmd, map[string]uint64{"entries": size}, fmt.Sprintf("%d entries: every hash, node and signed head is as it must be", size))
		},
	}
}
