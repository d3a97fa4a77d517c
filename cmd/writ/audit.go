package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/issuer/client"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "audit", Short: "Pull a bundle of the log, and check one offline"}
	cmd.AddCommand(a.auditPull(), a.auditVerify())
	return cmd
}

// pullFlags are what "writ audit pull" takes.
type pullFlags struct {
	admin, out, execution string
	from, to              uint64
}

func (a *app) auditPull() *cobra.Command {
	var f pullFlags
	cmd := &cobra.Command{
		Use:   "pull --admin SOCKET [--from N] [--to N] [--execution ID]",
		Short: "Write a bundle: a part of the log with everything that is needed to check it offline",
		Long: `Pull takes the entries of a range, by default the whole log, or everything about one execution. The file appears under its
name only when it is complete. It proves nothing by itself: writ audit verify does, with your own trust file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := f.query(cmd)
			if err != nil {
				return err
			}
			return a.pull(cmd, &f, query)
		},
	}
	cmd.Flags().StringVar(&f.admin, "admin", "", "admin socket of writd on this machine")
	cmd.Flags().Uint64Var(&f.from, "from", 0, "index of the first entry")
	cmd.Flags().Uint64Var(&f.to, "to", 0, "index after the last entry; default the end of the log")
	cmd.Flags().StringVar(&f.execution, "execution", "", "id of one execution, in hexadecimal, instead of a range")
	cmd.Flags().StringVarP(&f.out, "out", "o", "bundle.tar", "file of the bundle")
	_ = cmd.MarkFlagRequired("admin")
	return cmd
}

func (f *pullFlags) query(cmd *cobra.Command) (url.Values, error) {
	from, to := cmd.Flags().Changed("from"), cmd.Flags().Changed("to")
	q := url.Values{}
	switch {
	case f.execution != "" && (from || to):
		return nil, misuse("give either --execution or a range")
	case from && to && f.from >= f.to:
		return nil, misuse("--from must be less than --to")
	case f.execution != "":
		q.Set("execution", f.execution)
	}
	if from {
		q.Set("from", strconv.FormatUint(f.from, 10))
	}
	if to {
		q.Set("to", strconv.FormatUint(f.to, 10))
	}
	return q, nil
}

func (a *app) pull(cmd *cobra.Command, f *pullFlags, query url.Values) error {
	var size int64
	err := replace(f.out, func(w io.Writer) error {
		p := &progress{w: w, to: terminal(cmd.ErrOrStderr())}
		err := client.NewAdmin(f.admin).Export(cmd.Context(), query, p)
		p.end()
		size = p.n
		return err
	})
	if err != nil {
		return reason(cmd.Context(), err)
	}
	return a.print(cmd, map[string]any{"file": f.out, "bytes": size}, fmt.Sprintf("%s holds %d bytes; check it with: writ audit verify %s", f.out, size, f.out))
}

func (a *app) auditVerify() *cobra.Command {
	var trust string
	cmd := &cobra.Command{
		Use:   "verify BUNDLE",
		Short: "Check a bundle with your own trust file, offline, and make each decision again",
		Long: `Verify reads the bundle and your trust file and nothing else. Every statement gets a verdict: proved, refuted, or unchecked
where the bundle does not hold what would show it. The exit status is 0 only if nothing is refuted and every artifact
is proved.`,
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
			f, err := os.Open(args[0])
			if err != nil {
				return fmt.Errorf("reading bundle: %w", err)
			}
			defer f.Close()
			report, err := audit.Verify(cmd.Context(), f, t, audit.Options{Now: time.Now(), Roots: roots})
			if err != nil {
				return reason(cmd.Context(), err)
			}
			return a.showDenied(cmd, report, cleanLines(report.Text()), report.Err())
		},
	}
	cmd.Flags().StringVar(&trust, "trust", "trust.toml", "your trust file")
	return cmd
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

// reason tells an interrupted command from a failed one.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("pulling bundle: %w", cause)
	}
	return err
}

// replace has a file written under another name and gives it its own only when it is whole and on the disk.
func replace(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return f.Close()
}

// progress counts what is written and, every MiB, tells a terminal.
type progress struct {
	w  io.Writer
	to io.Writer // nil: tells nobody
	n  int64
}

func (p *progress) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	before := p.n >> 20
	p.n += int64(n)
	if p.to != nil && p.n>>20 != before {
		fmt.Fprintf(p.to, "\r%d MiB", p.n>>20)
	}
	return n, err
}

func (p *progress) end() {
	if p.to != nil && p.n>>20 > 0 {
		fmt.Fprintln(p.to)
	}
}

// terminal returns w if it is a terminal, or nil.
func terminal(w io.Writer) io.Writer {
	f, ok := w.(*os.File)
	if !ok {
		return nil
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return nil
	}
	return f
}
