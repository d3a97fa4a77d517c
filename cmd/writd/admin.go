package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
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

func doctorCommand(path *string) *cobra.Command {
	var retryPIN bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what would keep the issuer from serving, and say what to do",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			return examine(cmd, c, retryPIN)
		},
	}
	cmd.Flags().BoolVar(&retryPIN, "retry-pin", false, "try the PIN although the token says that the last try was wrong: you have corrected it")
	return cmd
}

// finding is one thing that doctor looked at.
type finding struct {
	What string `json:"what"`
	Good bool   `json:"good"`
	Note string `json:"note,omitempty"`
}

func examine(cmd *cobra.Command, c *config, retryPIN bool) error {
	var all []finding
	look := func(what string, check func() error) {
		f := finding{What: what, Good: true}
		if err := check(); err != nil {
			f.Good, f.Note = false, err.Error()
			var d *denial.Denial
			if errors.As(err, &d) {
				f.Note += ". " + d.Reason.Hint()
			}
		}
		all = append(all, f)
	}
	look("TLS certificate and key", func() error { _, err := loadTLS(c); return err })
	look("TLS key is private", func() error { return private(c.TLSKey) })
	look("TPM roots", func() error { _, err := c.roots(); return err })
	look("log and genesis", func() error { _, err := c.readGenesis(cmd.Context()); return err })
	look("token, PIN and keys", func() error { return c.examineToken(cmd, retryPIN) })
	text, bad := "", 0
	for _, f := range all {
		word := "ok "
		if !f.Good {
			word = "BAD"
			bad++
		}
		text += fmt.Sprintf("%s %s %s\n", word, f.What, f.Note)
	}
	if err := output(cmd, all, text); err != nil {
		return err
	}
	if bad > 0 {
		return denial.New(denial.SelfTestFailed, "%d of %d findings are bad", bad, len(all))
	}
	return nil
}

func private(path string) error {
	info, err := os.Stat(path)
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("checking %s: others can read it; run chmod 600", path)
	}
	return err
}

// examineToken logs in once and has every key that genesis names sign once.
func (c *config) examineToken(cmd *cobra.Command, retryPIN bool) error {
	token, err := c.openToken(cmd.Context(), retryPIN)
	if err != nil {
		return err
	}
	defer token.Close()
	g, err := c.readGenesis(cmd.Context())
	if err != nil {
		return err
	}
	_, err = signers(cmd.Context(), token, g.Keys)
	return err
}

func fsckCommand(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "fsck",
		Short: "Recompute the whole tree from its entries and compare it with every signed head",
		Long: `Fsck reads the whole log, computes every hash again from the entries, and compares it with what is stored and with every
signed head, under the log key that genesis names. It needs no token and writes nothing; writd may be serving meanwhile.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			g, err := c.readGenesis(cmd.Context())
			if err != nil {
				return err
			}
			view, err := tlog.OpenReadOnly(cmd.Context(), c.Log)
			if err != nil {
				return err
			}
			defer view.Close()
			size, err := view.Check(cmd.Context(), []statement.Key{g.Keys[hsm.Log.String()]}, g.Issuer, g.Log)
			if err != nil {
				return err
			}
			return output(cmd, map[string]uint64{"entries": size}, fmt.Sprintf("%d entries: every hash, node and signed head is as it must be", size))
		},
	}
}
