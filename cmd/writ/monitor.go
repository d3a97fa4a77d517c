package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/monitor"
)

// monitorFlags are what "writ monitor" takes.
type monitorFlags struct {
	trust, history     string
	log, dir, textfile string
	views              []string
	every, maxAge      time.Duration
}

func (a *app) monitorCommand() *cobra.Command {
	var f monitorFlags
	cmd := &cobra.Command{
		Use:   "monitor [--log URL] [--view URL|FILE] [--every DURATION]",
		Short: "Follow a log from outside: that it only grows, and is the same for everybody",
		Long: `Monitor fetches the log's checkpoint and verifies it with your trust file: signature, the cosignatures that witness_threshold
demands, and their age. It demands that the log continues what it was at the last look, which it keeps in --dir, and what
others were shown: --view names logs of the same origin as other networks or mirrors serve them, or checkpoints in files.
Anybody can run it; it needs no right at the issuer.

Before each look it follows the history of the issuer's keys, so that it goes on when the log's key is replaced. The history must
continue the one of the look before, which is kept in --dir too: one that is shorter (508) or another (325) is refused, and kept beside it.

The exit status is 1 as soon as something is refused. A log that has signed two histories (325) stays refused: the evidence is
kept in --dir, below evidence, until you take it away. Anybody with the log's key can check it: writ monitor evidence.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.monitor(cmd, &f) },
	}
	cmd.Flags().StringVar(&f.trust, "trust", "trust.toml", "your trust file")
	cmd.Flags().StringVar(&f.history, "key-history", "", "file with the history of the issuer's keys, as its /v1/keys serves it; default to ask --server, if --ca is given too")
	cmd.Flags().StringVar(&f.log, "log", "", "URL below which the log is served; default that of --server, followed by /log")
	cmd.Flags().StringVar(&f.dir, "dir", "monitor", "directory for the last checkpoint and for evidence")
	cmd.Flags().StringArrayVar(&f.views, "view", nil, "URL of the log as others see it, or file of a checkpoint that they were shown; repeat")
	cmd.Flags().DurationVar(&f.every, "every", 0, "look again after so long, until something is refused; default once")
	cmd.Flags().DurationVar(&f.maxAge, "max-age", monitor.DefaultMaxAge, "greatest age of the cosignatures of witnesses")
	cmd.Flags().StringVar(&f.textfile, "textfile", "", "file to write metrics to, for the textfile collector of Prometheus")
	cmd.AddCommand(a.monitorEvidence())
	return cmd
}

func (a *app) monitor(cmd *cobra.Command, f *monitorFlags) error {
	o, err := a.monitorOptions(f)
	if err != nil {
		return err
	}
	keys, err := a.watchKeys(f, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	m := metrics{path: f.textfile}
	for {
		r, err := keys.look(cmd.Context(), o)
		if werr := m.tell(r, err, time.Now()); werr != nil {
			return errors.Join(err, werr)
		}
		var d *denial.Denial
		switch {
		case err == nil:
			if err := a.print(cmd, r, monitorWords(r)); err != nil {
				return err
			}
		case f.every == 0 || errors.As(err, &d) || cmd.Context().Err() != nil:
			return reason(cmd.Context(), err)
		default:
			fmt.Fprintf(cmd.ErrOrStderr(), "writ: %v; trying again in %s\n", err, f.every)
		}
		if f.every == 0 {
			return nil
		}
		if !pause(cmd.Context(), f.every) {
			return nil
		}
	}
}

// pause waits; it reports false if ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (a *app) monitorOptions(f *monitorFlags) (o monitor.Options, err error) {
	if f.log == "" && a.server == "" {
		return o, misuse("monitor needs to know where the log is: give --log or --server")
	}
	if f.log == "" {
		f.log = strings.TrimSuffix(a.server, "/") + "/log"
	}
	if f.every < 0 || f.maxAge <= 0 {
		return o, misuse("--every and --max-age are positive")
	}
	o = monitor.Options{Log: f.log, MaxAge: f.maxAge, Views: f.views, Dir: f.dir}
	o.Web.Client, err = webClient(a.ca)
	return o, err
}

// webClient asks servers whose certificates chain to the roots of this machine, or those in the file.
func webClient(ca string) (*http.Client, error) {
	roots, err := x509.SystemCertPool()
	if err != nil || roots == nil {
		roots = x509.NewCertPool()
	}
	if ca != "" {
		data, err := command.ReadFile(ca, command.Small)
		if err != nil {
			return nil, fmt.Errorf("reading roots: %w", err)
		}
		if !roots.AppendCertsFromPEM(data) {
			return nil, misuse("%s holds no certificate", ca)
		}
	}
	return &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Proxy: http.ProxyFromEnvironment},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}, nil
}

func monitorWords(r *monitor.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "log %s: %d entries, root %s", r.Origin, r.Size, r.Root)
	for _, l := range r.Lost {
		fmt.Fprintf(&b, "\nALARM: entries are lost, by an act of the authorities: %s", l)
	}
	if r.Since != nil {
		fmt.Fprintf(&b, "\ncontinues the %d entries of the last look", *r.Since)
	} else if len(r.Lost) == 0 {
		b.WriteString("\nfirst look: nothing from before to compare with")
	}
	if r.Cosigned > 0 {
		fmt.Fprintf(&b, "\ncosigned by %s at %s", strings.Join(r.Operators, ", "), time.Unix(int64(r.Cosigned), 0).UTC().Format(time.RFC3339))
	} else {
		b.WriteString("\nno witness is demanded by your trust file")
	}
	for _, v := range r.Views {
		if v.Error != "" {
			fmt.Fprintf(&b, "\nNOT compared with %s: %s", v.From, v.Error)
			continue
		}
		fmt.Fprintf(&b, "\none history with the %d entries of %s", v.Size, v.From)
	}
	return cleanLines(b.String())
}

// metrics tell Prometheus what the last look showed.
type metrics struct {
	path  string
	size  uint64
	at    int64  // of the last look that refused nothing
	epoch uint64 // of the log then
}

func (m *metrics) tell(r *monitor.Report, err error, now time.Time) error {
	if m.path == "" {
		return nil
	}
	code := 0
	if r != nil && err == nil {
		m.size, m.at, m.epoch = r.Size, now.Unix(), r.Epoch
	} else if d := new(denial.Denial); errors.As(err, &d) {
		code = d.Reason.Code()
	}
	text := fmt.Sprintf(`# HELP writ_monitor_entries Entries of the log at the last look that refused nothing.
# TYPE writ_monitor_entries gauge
writ_monitor_entries %d
# HELP writ_monitor_seen_seconds When that was; 0 if not since the start.
# TYPE writ_monitor_seen_seconds gauge
writ_monitor_seen_seconds %d
# HELP writ_monitor_refused_code Denial code of the last look; 0 if it refused nothing, or the log could not be asked.
# TYPE writ_monitor_refused_code gauge
writ_monitor_refused_code %d
# HELP writ_monitor_epoch Number of the newest epoch of the log that is known here: it rises when entries are lost, by an act of the authorities.
# TYPE writ_monitor_epoch gauge
writ_monitor_epoch %d
`, m.size, m.at, code, m.epoch)
	next := filepath.Join(filepath.Dir(m.path), "."+filepath.Base(m.path)+".new")
	if err := os.WriteFile(next, []byte(text), 0o644); err != nil {
		return fmt.Errorf("writing metrics: %w", err)
	}
	if err := os.Rename(next, m.path); err != nil {
		return fmt.Errorf("writing metrics: %w", err)
	}
	return nil
}
