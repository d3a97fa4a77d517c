package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/issuer/client"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

func keysCommand(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "See the issuer's keys, make new ones, and draft changes of their states",
		Long: `A key is pre-active, active, suspended, retired, compromised or destroyed. Authorities alone change that: rotate, new and
state draft an act that they sign with "writ sign" and that "writ publish" sends. It takes effect at once, while writd serves.`,
	}
	cmd.AddCommand(listCommand(path), newCommand(path), rotateCommand(path), stateCommand(path))
	return cmd
}

// keyView is a key for people and machines.
type keyView struct {
	Purpose    string            `json:"purpose"`
	Thumbprint string            `json:"thumbprint"`
	State      string            `json:"state"`
	Since      uint64            `json:"since,omitempty"` // of the state, where the log says
	Note       string            `json:"note,omitempty"`
	OnToken    bool              `json:"on_token"`
	Good       bool              `json:"good"` // the token states of it what it must
	Problem    string            `json:"problem,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	Token      map[string]string `json:"token,omitempty"`
}

func listCommand(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the issuer's keys: their states in the log, and their attributes as the token states them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			views, err := c.keyViews(cmd.Context())
			if err != nil {
				return err
			}
			text := ""
			for _, v := range views {
				text += v.line() + "\n"
			}
			return output(cmd, views, text)
		},
	}
}

func (v keyView) line() string {
	since := ""
	if v.Since > 1 {
		since = " since " + stamp(v.Since)
	}
	word := "sign only, never extractable, made on the token"
	switch {
	case !v.OnToken:
		word = "not on the token"
	case !v.Good:
		word = v.Problem
	}
	if v.Note != "" {
		word += "; " + v.Note
	}
	return fmt.Sprintf("%-9s %s  %s%s  %s", v.Purpose, v.Thumbprint, v.State, since, word)
}

func stamp(seconds uint64) string { return time.Unix(int64(seconds), 0).UTC().Format(time.RFC3339) }

// keyViews puts what the log says of the keys beside what the token holds.
func (c *config) keyViews(ctx context.Context) (views []keyView, err error) {
	token, err := c.openToken(ctx)
	if err != nil {
		return nil, err
	}
	defer token.Close()
	held, err := token.Active().Keys(ctx)
	if err != nil {
		return nil, err
	}
	_, ring, err := c.readKeys(ctx)
	if err != nil && !denial.Is(err, denial.StoreFault) { // before writd init has ended there is no log, and the keys have no states
		return nil, err
	}
	byID := map[statement.Thumbprint]hsm.Attributes{}
	for _, a := range held {
		byID[a.Key.Thumbprint()] = a
	}
	if ring != nil {
		for _, k := range ring.Keys() {
			a, ok := byID[k.Key.Thumbprint()]
			views = append(views, viewKey(&k, a, ok))
			delete(byID, k.Key.Thumbprint())
		}
	}
	for _, a := range held {
		if _, left := byID[a.Key.Thumbprint()]; left {
			views = append(views, viewKey(&record.IssuerKey{Purpose: a.Purpose.String(), Key: a.Key}, a, true))
		}
	}
	return views, nil
}

func viewKey(k *record.IssuerKey, a hsm.Attributes, held bool) keyView {
	v := keyView{Purpose: k.Purpose, Thumbprint: k.Key.Thumbprint().String(), State: k.State.String(), OnToken: held}
	if k.State == record.KeyUnknown {
		v.State = "not in use"
	}
	v.Since, v.Note = k.Since()
	if !held {
		return v
	}
	b := a.Birth()
	v.Attributes, v.Token, v.Good = b.Attributes, b.Token, true
	if err := a.Check(); err != nil {
		v.Good, v.Problem = false, denial.Of(err).Detail
	}
	return v
}

// changeFlags are what every command that drafts a key change takes.
type changeFlags struct {
	draft, why string
	valid      time.Duration
}

func (f *changeFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.draft, "draft", "", "write the act for the authorities to sign to this file")
	cmd.Flags().StringVar(&f.why, "why", "", "the reason, for people; it stands in the log, and no act goes without one")
	cmd.Flags().DurationVar(&f.valid, "approval", record.DefaultApproval, "for how long the approvals are good, at most 720h")
}

// check refuses to draft without a file to write, or without a reason.
func (f *changeFlags) check() error {
	switch {
	case f.draft == "":
		return fmt.Errorf("%w: give --draft FILE", errMisuse)
	case strings.TrimSpace(f.why) == "":
		return fmt.Errorf("%w: give --why TEXT: the reason, which stands in the log", errMisuse)
	}
	return nil
}

// write writes the draft of a change, with its time and its reason, and returns the digest of the act.
func (f *changeFlags) write(issuer string, change record.KeyChange) (act statement.Digest, err error) {
	now := time.Now()
	change.Version, change.Time, change.Why = record.Version, uint64(now.Unix()), f.why
	if err := change.Check(); err != nil {
		return act, err
	}
	d, err := record.NewDraft(statement.KeyChange, issuer, change, change.Sequence, now, f.valid)
	if err != nil {
		return act, err
	}
	draft, err := d.Encode()
	if err != nil {
		return act, err
	}
	if err := os.WriteFile(f.draft, draft, 0o644); err != nil {
		return act, fmt.Errorf("writing draft: %w", err)
	}
	return statement.DigestOf(d.Payload), nil
}

func newCommand(path *string) *cobra.Command {
	var f changeFlags
	var from, script string
	cmd := &cobra.Command{
		Use:   "new PURPOSE",
		Short: "Make a key on the token; with --draft, announce it before it is used",
		Long: `New makes a key for artifact, record, log or status beside the one in use, reads its attributes back and logs its birth.
Copy it to a standby token then, by the means of the vendor, and put it in use with writd keys rotate PURPOSE --key THUMBPRINT.
With --draft the act announces it: relying parties learn of it before it signs anything. With --ceremony SCRIPT.toml the key is the one
that a ceremony has made for the purpose (writd ceremony), and its birth in the log says so.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, begins, err := purposeAndTime(*path, args[0], from)
			if err != nil {
				return err
			}
			if f.draft != "" {
				if err := f.check(); err != nil {
					return err
				}
			}
			p, err := c.prepare(cmd.Context(), args[0], "", script)
			if err != nil {
				return err
			}
			id := p.Birth.Key.Thumbprint()
			if f.draft == "" {
				return output(cmd, map[string]string{"purpose": args[0], "thumbprint": id.String()},
					fmt.Sprintf("%-9s key %s made; put it in use with: writd keys rotate %s --key %s --draft FILE", args[0], id, args[0], id))
			}
			return c.draftChange(cmd, f, p, []record.KeyStep{announced(p, begins)})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&script, "ceremony", "", "the key is the one that was made by this script")
	cmd.Flags().StringVar(&from, "from", "", "with --draft: it signs not before this time, such as 2027-01-01T00:00:00Z; default now")
	return cmd
}

func purposeAndTime(path, purpose, text string) (*config, uint64, error) {
	if _, err := hsm.ParsePurpose(purpose); err != nil {
		return nil, 0, fmt.Errorf("%w: %w", errMisuse, err)
	}
	at, err := moment(text)
	if err != nil {
		return nil, 0, err
	}
	c, err := loadConfig(path)
	return c, at, err
}

// moment reads a time in RFC 3339; now for nothing.
func moment(text string) (uint64, error) {
	if text == "" {
		return uint64(time.Now().Unix()), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.Unix() <= 0 {
		return 0, fmt.Errorf("%w: %q is no time such as 2027-01-01T00:00:00Z", errMisuse, text)
	}
	return uint64(t.Unix()), nil
}

func rotateCommand(path *string) *cobra.Command {
	var f changeFlags
	var key, fell, script string
	cmd := &cobra.Command{
		Use:   "rotate PURPOSE",
		Short: "Draft the act that puts another key in use in place of the present one",
		Long: `Rotate makes a key for artifact, record, log or status (or takes --key, which the token has, or the key that a --ceremony
has made), logs its birth, has the key in use name it, and drafts the act: announce the new key, retire the present one, activate the new one. All of it takes effect in
one transaction, so that nothing is signed by none or by both.

If the present key has fallen into other hands, --compromised says since when: what was logged from then on is no longer accepted.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, since, err := purposeAndTime(*path, args[0], fell)
			if err != nil {
				return err
			}
			if err := f.check(); err != nil {
				return err
			}
			if fell == "" {
				since = 0
			}
			return c.rotate(cmd, f, args[0], key, script, since)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&key, "key", "", "thumbprint of the key to put in use; default: make one")
	cmd.Flags().StringVar(&script, "ceremony", "", "the key to put in use is the one that was made by this script")
	cmd.MarkFlagsMutuallyExclusive("key", "ceremony")
	cmd.Flags().StringVar(&fell, "compromised", "", "the present key is compromised since this time, instead of retired")
	return cmd
}

// rotate drafts the change that puts a key in use. One that was announced is named already.
func (c *config) rotate(cmd *cobra.Command, f changeFlags, purpose, key, script string, fell uint64) error {
	id, err := issuer.ParseThumbprint(key)
	if err != nil {
		return fmt.Errorf("%w: --key: %w", errMisuse, err)
	}
	_, ring, err := c.readKeys(cmd.Context())
	if err != nil {
		return err
	}
	head := ring.Head()
	p := &issuer.Prepared{Sequence: ring.Sequence() + 1, Previous: head[:]}
	var steps []record.KeyStep
	if k := ring.Find(id); k == nil {
		if p, err = c.prepare(cmd.Context(), purpose, key, script); err != nil {
			return err
		}
		id = p.Birth.Key.Thumbprint()
		steps = append(steps, announced(p, uint64(time.Now().Unix())))
	} else if k.State != record.KeyPreActive || k.Purpose != purpose {
		return denial.New(denial.KeyAmbiguous, "the key is a %s key, and %s", k.Purpose, k.State)
	}
	if present := ring.Active(purpose); present != nil {
		old := present.Key.Thumbprint()
		s := record.KeyStep{Purpose: purpose, Key: old[:], From: record.KeyActive, To: record.KeyRetired}
		if fell != 0 {
			s.To, s.Since = record.KeyCompromised, fell
		}
		steps = append(steps, s)
	}
	return c.draftChange(cmd, f, p, append(steps, record.KeyStep{Purpose: purpose, Key: id[:], From: record.KeyPreActive, To: record.KeyActive}))
}

// announced is the step that announces a prepared key.
func announced(p *issuer.Prepared, begins uint64) record.KeyStep {
	id := p.Birth.Key.Thumbprint()
	s := record.KeyStep{Purpose: p.Birth.Purpose, Key: id[:], To: record.KeyPreActive, Since: begins, Birth: p.Birth}
	if len(p.Succession) > 0 {
		s.Succession = p.Succession
	}
	return s
}

func stateCommand(path *string) *cobra.Command {
	var f changeFlags
	var since string
	cmd := &cobra.Command{
		Use:   "state THUMBPRINT active|suspended|retired|compromised|destroyed",
		Short: "Draft the act that gives a key another state",
		Long: `State drafts a change of one key: suspend it while you look into something, and activate it again; retire it for good; declare
it compromised since a time (--since), with effect on all that was logged from then on; or say that the token holds it no
longer. Without a record or log key nothing can be logged: use writd keys rotate for these.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			to := record.ParseKeyState(args[1])
			if to == record.KeyUnknown || to == record.KeyPreActive {
				return fmt.Errorf("%w: a key is made active, suspended, retired, compromised or destroyed", errMisuse)
			}
			if (since != "") != (to == record.KeyCompromised) {
				return fmt.Errorf("%w: --since says since when a key is compromised, and no other state has it", errMisuse)
			}
			if err := f.check(); err != nil {
				return err
			}
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			return c.draftState(cmd, f, args[0], to, since)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&since, "since", "", "since when it is compromised, such as 2027-01-01T00:00:00Z")
	return cmd
}

func (c *config) draftState(cmd *cobra.Command, f changeFlags, key string, to record.KeyState, since string) error {
	id, err := issuer.ParseThumbprint(key)
	if err != nil || key == "" {
		return fmt.Errorf("%w: a thumbprint has 64 lower-case hexadecimal digits: see writd keys list", errMisuse)
	}
	fell, err := moment(since)
	if err != nil {
		return err
	}
	_, ring, err := c.readKeys(cmd.Context())
	if err != nil {
		return err
	}
	k := ring.Find(id)
	if k == nil {
		return denial.New(denial.KeyUnknown, "the issuer has no such key")
	}
	s := record.KeyStep{Purpose: k.Purpose, Key: id[:], From: k.State, To: to}
	if to == record.KeyCompromised {
		s.Since = fell
	}
	head := ring.Head()
	return c.draftChange(cmd, f, &issuer.Prepared{Sequence: ring.Sequence() + 1, Previous: head[:]}, []record.KeyStep{s})
}

// draftChange writes the draft of a key change.
func (c *config) draftChange(cmd *cobra.Command, f changeFlags, p *issuer.Prepared, steps []record.KeyStep) error {
	g, _, err := c.readKeys(cmd.Context())
	if err != nil {
		return err
	}
	act, err := f.write(g.Issuer, record.KeyChange{Sequence: p.Sequence, Previous: p.Previous, Steps: steps})
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, s := range steps {
		fmt.Fprintf(&text, "%-9s %x  %s → %s\n", s.Purpose, s.Key, s.From, s.To)
	}
	fmt.Fprintf(&text, "key change %d drafted in %s; authorities sign it with: writ sign %s --key KEY", p.Sequence, f.draft, f.draft)
	return output(cmd, map[string]any{"draft": f.draft, "sequence": p.Sequence, "act": act.String()}, text.String())
}

// prepare has the writd that serves prepare a key, over its admin socket, or does it itself while none serves. With a script the
// key is the one of its ceremony.
func (c *config) prepare(ctx context.Context, purpose, key, script string) (*issuer.Prepared, error) {
	var born *record.Birth
	if script != "" {
		g, _, err := c.readKeys(ctx)
		if err != nil {
			return nil, err
		}
		if born, err = birthIn(script, g.Issuer, purpose); err != nil {
			return nil, err
		}
	}
	if c.serving() {
		raw, err := client.NewAdmin(c.AdminSocket).PrepareKey(ctx, purpose, key, born)
		if err != nil {
			return nil, err
		}
		p := &issuer.Prepared{}
		return p, statement.Unmarshal(raw, p)
	}
	id, err := issuer.ParseThumbprint(key)
	if err != nil {
		return nil, err
	}
	s, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	p, err := s.issuer.Prepare(ctx, issuerToken{s.token}, purpose, id, born)
	return p, errors.Join(err, s.close())
}

// serving reports whether a writd answers on the admin socket.
func (c *config) serving() bool {
	if c.AdminSocket == "" {
		return false
	}
	conn, err := net.Dial("unix", c.AdminSocket)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}
