package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/audit"
)

// lineageFlags are what "writ audit lineage" takes.
type lineageFlags struct {
	bundle, admin, trust, svg string
}

func (a *app) auditLineage() *cobra.Command {
	var f lineageFlags
	cmd := &cobra.Command{
		Use:   "lineage ID (--bundle FILE | --admin SOCKET)",
		Short: "Show where an execution comes from and what came of it",
		Long: `Lineage verifies a bundle with your trust file, and then walks from an execution back to its initiator, the people behind
its policies, the state in which its host booted and the host's TPM; and forward to runs, refusals and everything that
was derived from it. The ID is an execution id, an artifact id, a statement digest or the index of an entry; with
--admin it is an execution id, whose bundle is pulled first. The exit status is that of writ audit verify.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (f.bundle == "") == (f.admin == "") {
				return misuse("give either --bundle or --admin")
			}
			return a.lineage(cmd, &f, args[0])
		},
	}
	cmd.Flags().StringVar(&f.bundle, "bundle", "", "bundle to read")
	cmd.Flags().StringVar(&f.admin, "admin", "", "admin socket of writd, to pull a bundle of the execution from")
	cmd.Flags().StringVar(&f.trust, "trust", "trust.toml", "your trust file")
	cmd.Flags().StringVar(&f.svg, "svg", "", "also write a picture to this file")
	return cmd
}

func (a *app) lineage(cmd *cobra.Command, f *lineageFlags, id string) error {
	path := f.bundle
	if f.admin != "" {
		dir, err := os.MkdirTemp("", "writ-lineage-*")
		if err != nil {
			return fmt.Errorf("making temporary directory: %w", err)
		}
		defer os.RemoveAll(dir)
		path = filepath.Join(dir, "bundle.tar")
		if err := fetch(cmd.Context(), f.admin, url.Values{"execution": {id}}, path, &progress{}); err != nil {
			return reason(cmd.Context(), err)
		}
	}
	account, err := a.tell(cmd, path, f.trust)
	if err != nil {
		return err
	}
	if len(account.Items) == 0 {
		return account.Report.Err()
	}
	l, err := audit.Trace(account.Items, account.People, id)
	if err != nil {
		return err
	}
	if f.svg != "" {
		if err := os.WriteFile(f.svg, []byte(l.SVG(nil)), 0o600); err != nil {
			return fmt.Errorf("writing picture: %w", err)
		}
	}
	return a.showDenied(cmd, l, cleanLines(l.Text()), account.Report.Err())
}

// tell verifies a bundle and returns what it tells.
func (a *app) tell(cmd *cobra.Command, path, trust string) (*audit.Account, error) {
	t, err := readTrust(trust)
	if err != nil {
		return nil, err
	}
	roots, err := readRoots(t, filepath.Dir(trust))
	if err != nil {
		return nil, err
	}
	in, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading bundle: %w", err)
	}
	defer in.Close()
	account, err := audit.Tell(cmd.Context(), in, t, audit.Options{Now: time.Now(), Roots: roots})
	if err != nil {
		return nil, reason(cmd.Context(), err)
	}
	if account.Report.Head == nil { // no bundle, as far as can be read: whatever it is may be endless
		return account, nil
	}
	h := sha256.New()
	if _, err := in.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("hashing bundle: %w", err)
	}
	if _, err := io.Copy(h, in); err != nil {
		return nil, fmt.Errorf("hashing bundle: %w", err)
	}
	account.SHA256 = hex.EncodeToString(h.Sum(nil))
	return account, nil
}
