package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/custody"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
)

// tryFor is how long a token signs for doctor --try, once with one caller and once with all.
const tryFor = time.Second

func doctorCommand(path *string) *cobra.Command {
	var retryPIN, try bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Look for what would keep the issuer from serving, and say what to do",
		Long: `Doctor looks at the files that the configuration names, logs in to each token once, asks its module what it can do, and
has every key that genesis names sign once.

With --try it also makes a key on each token that has no purpose, measures how fast it signs, tries to change it, to copy it
and to read its value, and destroys it. That tells what the module really keeps to, and what it only says.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			e := &examination{config: c, try: try}
			e.files(cmd.Context())
			e.tokens(cmd.Context(), retryPIN)
			return e.conclude(cmd)
		},
	}
	cmd.Flags().BoolVar(&retryPIN, "retry-pin", false, "try the PIN although the token says that the last try was wrong: you have corrected it")
	cmd.Flags().BoolVar(&try, "try", false, "make a key on each token, try it, and destroy it")
	return cmd
}

// finding is one thing that doctor looked at.
type finding struct {
	What    string     `json:"what"`
	Good    bool       `json:"good"`
	Warning bool       `json:"warning,omitempty"` // it is good, but not for everything
	Note    string     `json:"note,omitempty"`
	Probe   *hsm.Probe `json:"probe,omitempty"`
	Trial   *hsm.Trial `json:"trial,omitempty"`
}

func (f finding) String() string {
	word := "ok "
	switch {
	case !f.Good:
		word = "BAD"
	case f.Warning:
		word = "!! "
	}
	return strings.TrimRight(fmt.Sprintf("%s %s  %s", word, f.What, f.Note), " ")
}

// examination is what doctor found.
type examination struct {
	config *config
	try    bool
	all    []finding
}

func (e *examination) look(what string, err error, hint string) {
	f := finding{What: what, Good: err == nil}
	if err != nil {
		f.Note = err.Error() + ". " + hint
	}
	e.all = append(e.all, f)
}

// advice says what to do about an error. The hint of a denial is for whoever was denied, who is told to call doctor.
func advice(err error) string {
	var d *denial.Denial
	switch {
	case errors.Is(err, hsm.ErrPIN):
		return "Correct the PIN, then run writd doctor --retry-pin."
	case denial.Is(err, denial.HSMUnavailable):
		return "See that token.module and token.token are right, that what the module needs runs, and that token.environment tells it where."
	case errors.As(err, &d):
		return d.Hint()
	}
	return ""
}

// files looks at everything that needs no token.
func (e *examination) files(ctx context.Context) {
	c := e.config
	_, err := loadTLS(c)
	e.look("TLS certificate and key", err, "Put them there; to try Writ, writd init --self-signed-tls makes them.")
	err = private(c.TLSKey)
	e.look("TLS key is private", err, "")
	_, err = c.roots()
	e.look("TPM roots", err, "tpm_roots names PEM files with the certificates of TPM vendors' root CAs, which the vendors publish.")
	if _, err := os.Stat(c.Log); errors.Is(err, os.ErrNotExist) {
		e.look("log and genesis", fmt.Errorf("there is no log at %s yet", c.Log), "writd init makes the keys and starts it; see writd init --help.")
		return
	}
	_, _, err = c.readKeys(ctx)
	e.look("log and genesis", err, advice(err))
}

func private(path string) error {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the finding before says so
	}
	if err == nil && info.Mode().Perm()&0o077 != 0 {
		err = fmt.Errorf("checking %s: others can read it; run chmod 600", path)
	}
	return err
}

// tokens logs in once, has every key that is in use sign once, and looks at each token.
func (e *examination) tokens(ctx context.Context, retryPIN bool) {
	const what = "token, PIN and keys"
	group, err := e.config.openTokens(ctx, retryPIN)
	if err != nil {
		e.look(what, err, advice(err))
		return
	}
	defer group.Close()
	f := finding{What: what, Good: true, Note: "keys are not looked for: no genesis names them"}
	if _, ring, err := e.config.readKeys(ctx); err == nil {
		f.Note = ""
		if _, err := signers(ctx, group, inUse(ring)); err != nil {
			f.Good, f.Note = false, err.Error()+". "+advice(err)
		}
	}
	e.all = append(e.all, f)
	for _, p := range group.Members() {
		e.token(ctx, p)
	}
}

// token asks one token what it can do, and tries it.
func (e *examination) token(ctx context.Context, p *custody.Process) {
	probe, err := p.Probe(ctx)
	if err != nil {
		e.look("module", err, advice(err))
		return
	}
	e.all = append(e.all, e.judge(probe))
	if !e.try {
		return
	}
	trial, err := p.Try(ctx, tryFor)
	if err != nil {
		e.look(fmt.Sprintf("trial of token %q", probe.Info.Label), err, advice(err))
		return
	}
	f := finding{What: fmt.Sprintf("trial of token %q", probe.Info.Label), Good: trial.Unfit == "", Warning: len(trial.Allowed) > 0, Trial: &trial}
	f.Note = fmt.Sprintf("%.0f signatures a second by one caller, %.0f by %d", trial.One, trial.All, trial.Sessions)
	if trial.Unfit != "" {
		f.Note += ". A new key is refused: " + trial.Unfit
	}
	if len(trial.Allowed) > 0 {
		f.Note += ". The module does not keep to what it states, to whoever has the PIN: " + strings.Join(trial.Allowed, ", ")
	}
	e.all = append(e.all, f)
}

// judge says of a module what it can do, and whether it will do.
func (e *examination) judge(p hsm.Probe) finding {
	f := finding{What: fmt.Sprintf("module of token %q", p.Info.Label), Good: true, Probe: &p}
	notes := []string{fmt.Sprintf("%s; %s %s; Cryptoki %s", p.Info.Library, p.Info.Manufacturer, p.Info.Model, p.Cryptoki)}
	if missing := p.Missing(); len(missing) > 0 {
		f.Good = false
		notes = append(notes, "it cannot do "+strings.Join(missing, " and ")+", which every key needs")
	}
	for _, v := range p.Info.Validations {
		notes = append(notes, "it says that it was examined: "+v.String())
	}
	if why := p.Software(); why != "" {
		f.Warning, f.Good = true, f.Good && e.config.Profile != regulated
		notes = append(notes, why+": for trials only, and refused (914) with profile = \""+regulated+"\"")
	}
	f.Note = strings.Join(notes, "; ")
	return f
}

// conclude writes the findings. One that is bad is a denial.
func (e *examination) conclude(cmd *cobra.Command) error {
	lines, bad := make([]string, len(e.all)), 0
	for i, f := range e.all {
		lines[i] = f.String()
		if !f.Good {
			bad++
		}
	}
	if err := output(cmd, slices.Clip(e.all), strings.Join(lines, "\n")); err != nil {
		return err
	}
	if bad > 0 {
		return denial.New(denial.SelfTestFailed, "%d of %d findings are bad", bad, len(e.all))
	}
	return nil
}
