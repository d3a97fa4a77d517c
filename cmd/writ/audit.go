package main

import (
	"archive/tar"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Pull a bundle of the log, check it offline, and tell what it shows"}
	cmd.AddCommand(a.auditPull(), a.auditVerify(), a.auditLineage(), a.auditReport())
	return cmd
}

func (a *app) auditVerify() *cobra.Command {
	var trust string
	var known []string
	cmd := &cobra.Command{
		Use:   "verify BUNDLE",
		Short: "Check a bundle with your own trust file, offline, and make each decision again",
		Long: `Verify reads the bundle and your trust file and nothing else. Every statement gets a verdict: proved, refuted, or unchecked
where the bundle does not hold what would show it. The exit status is 0 only if nothing is refuted and every artifact
is proved.

A bundle alone cannot show that its issuer has not written the whole log anew. What left the issuer before can: give with --known
artifacts, other statements with receipts, checkpoints, or the manifest.cose of an earlier bundle, or that bundle. Each must stand in this log.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t, err := readTrust(trust)
			if err != nil {
				return err
			}
			roots, err := readRoots(t, filepath.Dir(trust))
			if err != nil {
				return err
			}
			kept, err := readKnown(known)
			if err != nil {
				return err
			}
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("reading bundle: %w", err)
			}
			defer f.Close()
			report, err := audit.Verify(cmd.Context(), f, t, audit.Options{Now: time.Now(), Roots: roots, Known: kept, Brief: !a.json})
			if err != nil {
				return reason(cmd.Context(), err)
			}
			return a.showDenied(cmd, report, cleanLines(report.Text()), report.Err())
		},
	}
	cmd.Flags().StringVar(&trust, "trust", "trust.toml", "your trust file")
	cmd.Flags().StringArrayVar(&known, "known", nil, "file of an artifact, statement with receipt, checkpoint or bundle that the issuer gave out before; repeat")
	return cmd
}

// readKnown reads what the issuer gave out before.
func readKnown(paths []string) (all [][]byte, err error) {
	for _, path := range paths {
		raw, err := readGiven(path)
		if err != nil {
			return nil, err
		}
		all = append(all, raw)
	}
	return all, nil
}

// readGiven reads one file; a whole bundle stands for its manifest.
func readGiven(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("reading what was given out: %w", err)
	}
	defer f.Close()
	members := tar.NewReader(f)
	for {
		h, err := members.Next()
		if err != nil {
			break
		}
		if h.Name == "manifest.cose" {
			return readInputOf(members)
		}
	}
	return readInput(path)
}

// readRoots reads the TPM vendor roots that a trust file names by file, relative to its own directory.
func readRoots(t *artifact.Trust, dir string) ([]*x509.Certificate, error) {
	var roots []*x509.Certificate
	for _, r := range t.TPMRoots {
		if r.File == "" {
			continue
		}
		path := r.File
		if !filepath.IsAbs(path) {
			path = filepath.Join(dir, path)
		}
		certs, err := readCerts([]string{path})
		if err != nil {
			return nil, err
		}
		for _, der := range certs {
			cert, err := x509.ParseCertificate(der)
			if err != nil {
				return nil, misuse("%s: %w", path, err)
			}
			roots = append(roots, cert)
		}
	}
	return roots, nil
}
