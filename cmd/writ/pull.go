package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/issuer/client"
	"github.com/governed-execution/writ/record"
)

// pullFlags are what "writ audit pull" takes.
type pullFlags struct {
	admin, out, execution, host string
	from, to                    uint64
	disclose                    []string
}

func (a *app) auditPull() *cobra.Command {
	var f pullFlags
	cmd := &cobra.Command{
		Use:   "pull --admin SOCKET [--from N] [--to N] [--execution ID] [--host URI] [--disclose FIELD]",
		Short: "Write a bundle: a part of the log with everything that is needed to check it offline",
		Long: `Pull takes the entries of a range, by default the whole log, or everything about one execution and its lineage, or about one
host. The file appears under its name only when it is complete; a pull that broke off goes on if it is run again within
a quarter of an hour. It proves nothing by itself: writ audit verify does, with your own trust file.

Personal data that enrolments commit to stays out, unless --disclose names its fields. Which fields a bundle opens stands in its
manifest, which the issuer signs and logs.`,
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
	cmd.Flags().StringVar(&f.host, "host", "", "URI of one host, instead of a range")
	cmd.Flags().StringSliceVar(&f.disclose, "disclose", nil, "field of personal data to open; repeat, or separate by commas")
	cmd.Flags().StringVarP(&f.out, "out", "o", "bundle.tar", "file of the bundle")
	_ = cmd.Flags().SetAnnotation("host", typed, []string{"yes"}) // the host of the configuration is this one: a pull that names none is of the whole log
	_ = cmd.MarkFlagRequired("admin")
	return cmd
}

func (f *pullFlags) query(cmd *cobra.Command) (url.Values, error) {
	from, to := cmd.Flags().Changed("from"), cmd.Flags().Changed("to")
	q := url.Values{}
	switch {
	case f.execution != "" && f.host != "" || (f.execution != "" || f.host != "") && (from || to):
		return nil, misuse("give --execution, or --host, or a range")
	case from && to && f.from >= f.to:
		return nil, misuse("--from must be less than --to")
	case f.execution != "":
		if id, err := hex.DecodeString(f.execution); err != nil || len(id) != 16 || hex.EncodeToString(id) != f.execution {
			return nil, misuse("--execution wants the 32 lower-case hexadecimal digits of an execution id, as writ request and writ inspect artifact show it")
		}
		q.Set("execution", f.execution)
	case f.host != "":
		q.Set("host", f.host)
	}
	if len(f.disclose) > 0 {
		if !allFields(f.disclose) {
			return nil, misuse("--disclose wants fields, in lower-case letters, digits and hyphens")
		}
		slices.Sort(f.disclose)
		q.Set("disclose", strings.Join(slices.Compact(f.disclose), ","))
	}
	if from {
		q.Set("from", strconv.FormatUint(f.from, 10))
	}
	if to {
		q.Set("to", strconv.FormatUint(f.to, 10))
	}
	return q, nil
}

func allFields(names []string) bool {
	return !slices.ContainsFunc(names, func(n string) bool { return !record.IsField(n) })
}

func (a *app) pull(cmd *cobra.Command, f *pullFlags, query url.Values) error {
	p := &progress{to: terminal(cmd.ErrOrStderr())}
	err := fetch(cmd.Context(), f.admin, query, f.out, p)
	p.end()
	if err != nil {
		return reason(cmd.Context(), err)
	}
	return a.print(cmd, map[string]any{"file": f.out, "bytes": p.n}, fmt.Sprintf("%s holds %d bytes; check it with: writ audit verify %s", f.out, p.n, f.out))
}

// partial is a bundle that has come in part: the data, and beside it what it is a part of.
type partial struct {
	path string
	f    *os.File
	of   origin
}

// origin says which bundle a part is of.
type origin struct {
	Tag   string `json:"tag"`
	Query string `json:"query"`
}

// fetch downloads a bundle into a file, and goes on with what an earlier attempt has left.
func fetch(ctx context.Context, socket string, query url.Values, out string, p *progress) (err error) {
	have, err := openPart(out)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, have.close(err)) }()
	size, err := have.f.Seek(0, io.SeekEnd)
	if err != nil {
		return fmt.Errorf("reading part of bundle: %w", err)
	}
	if have.of.Query != query.Encode() {
		have.of.Tag = ""
	}
	d, err := client.NewAdmin(socket).Export(ctx, query, have.of.Tag, size)
	if err != nil {
		return err
	}
	defer d.Body.Close()
	if err := have.begin(d, query); err != nil {
		return err
	}
	p.w, p.n, p.total = have.f, d.From, d.Total
	if _, err := io.Copy(p, d.Body); err != nil {
		return fmt.Errorf("reading bundle: %w", err)
	}
	return nil
}

// openPart opens or makes the files of a part.
func openPart(out string) (*partial, error) {
	p := &partial{path: out}
	f, err := os.OpenFile(p.data(), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("writing %s: %w", out, err)
	}
	p.f = f
	if raw, err := command.ReadFile(p.note(), command.Small); err != nil || json.Unmarshal(raw, &p.of) != nil {
		p.of = origin{}
	}
	return p, nil
}

func (p *partial) data() string {
	return filepath.Join(filepath.Dir(p.path), "."+filepath.Base(p.path)+".part")
}
func (p *partial) note() string { return p.data() + ".json" }

// begin cuts the part to where the download begins, and notes which bundle it is.
func (p *partial) begin(d *client.Download, query url.Values) error {
	p.of = origin{Tag: d.Tag, Query: query.Encode()}
	if err := p.f.Truncate(d.From); err != nil {
		return fmt.Errorf("writing %s: %w", p.path, err)
	}
	if _, err := p.f.Seek(d.From, io.SeekStart); err != nil {
		return fmt.Errorf("writing %s: %w", p.path, err)
	}
	raw, err := json.Marshal(p.of)
	if err != nil || d.Tag == "" {
		return err
	}
	if err := os.WriteFile(p.note(), raw, 0o600); err != nil {
		return fmt.Errorf("writing %s: %w", p.path, err)
	}
	return nil
}

// close gives a whole bundle its name. A part stays if its issuer can go on with it.
func (p *partial) close(cause error) error {
	size, err := p.f.Seek(0, io.SeekEnd)
	switch {
	case cause != nil && p.of.Tag != "" && err == nil && size > 0:
		return p.f.Close()
	case cause != nil:
		return errors.Join(p.f.Close(), os.Remove(p.data()), p.forget())
	}
	if err := p.f.Sync(); err != nil {
		return fmt.Errorf("writing %s: %w", p.path, err)
	}
	if err := os.Rename(p.data(), p.path); err != nil {
		return fmt.Errorf("writing %s: %w", p.path, err)
	}
	return errors.Join(p.f.Close(), p.forget())
}

func (p *partial) forget() error {
	if err := os.Remove(p.note()); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// reason tells an interrupted command from a failed one.
func reason(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("pulling bundle: %w", cause)
	}
	return err
}

// progress counts what is written and, every MiB, tells a terminal.
type progress struct {
	w     io.Writer
	to    io.Writer // nil: tells nobody
	n     int64
	total int64 // zero or less: unknown
	told  bool
}

func (p *progress) Write(b []byte) (int, error) {
	n, err := p.w.Write(b)
	before := p.n >> 20
	p.n += int64(n)
	if p.to == nil || p.n>>20 == before {
		return n, err
	}
	p.told = true
	if p.total > 0 {
		fmt.Fprintf(p.to, "\r%d of %d MiB, %d%%", p.n>>20, p.total>>20, 100*p.n/p.total)
	} else {
		fmt.Fprintf(p.to, "\r%d MiB", p.n>>20)
	}
	return n, err
}

func (p *progress) end() {
	if p.told {
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
