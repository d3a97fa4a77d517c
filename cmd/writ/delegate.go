package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// delegateFlags are what "writ delegate" takes.
type delegateFlags struct {
	artifact, cnf             string
	initiator, host, audience string
	targets                   []string
	lifetime, session         time.Duration
	uses, depth               uint64
	out                       string
}

func (a *app) delegateCommand() *cobra.Command {
	var f delegateFlags
	cmd := &cobra.Command{
		Use:   "delegate --artifact FILE --to-initiator URI --to-host URI --to-audience URI",
		Short: "Let another initiator ask for an artifact that descends from this one, and is nowhere wider",
		Long: `Delegate has this host's TPM sign, with the confirmation key of an artifact, what another initiator may ask for: one
artifact, for one host and gate, of some of the targets, for no longer and for no more uses. The TPM refuses if the host is not in the
state any more that the artifact was issued for. The other initiator gives the file to "writ request --delegation", as often as it
takes to get an artifact, and once it has one no more. Who may delegate to whom is for the authorization policy to say.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.delegate(cmd, &f) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.artifact, "artifact", "", "the artifact, with the operation delegate and a depth of at least 1")
	fl.StringVar(&f.cnf, "cnf", "", "file of its confirmation key; default: the artifact's with .cnf")
	fl.StringVar(&f.initiator, "to-initiator", "", "URI of who may ask")
	fl.StringVar(&f.host, "to-host", "", "URI of the host that the new artifact will be for")
	fl.StringVar(&f.audience, "to-audience", "", "URI of the gate that the new artifact will be for")
	fl.StringArrayVar(&f.targets, "target", nil, "a target of the artifact; repeat; default: all that it may delegate")
	fl.DurationVar(&f.lifetime, "lifetime", 0, "until when from now; default: as long as the artifact")
	fl.DurationVar(&f.session, "session", 0, "for how long what is started may run; default: as the artifact says")
	fl.Uint64Var(&f.uses, "uses", 1, "how often, at most")
	fl.Uint64Var(&f.depth, "depth", 0, "how deep the new artifact may be delegated in turn")
	fl.StringVarP(&f.out, "out", "o", "delegation.cose", "file of the delegation")
	for _, name := range []string{"artifact", "to-initiator", "to-host", "to-audience"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

func (a *app) delegate(cmd *cobra.Command, f *delegateFlags) error {
	if f.cnf == "" {
		f.cnf = f.artifact + ".cnf"
	}
	raw, err := command.ReadFile(f.artifact, command.Small)
	if err != nil {
		return fmt.Errorf("reading artifact: %w", err)
	}
	parent, digest, err := artifact.Inspect(raw)
	if err != nil {
		return err
	}
	key, err := attester.ReadKey(f.cnf)
	if err != nil {
		return err
	}
	claims, err := f.claims(&parent, digest[:])
	if err != nil {
		return err
	}
	tpm, err := attester.Open(cmd.Context(), a.tpm)
	if err != nil {
		return err
	}
	defer tpm.Close()
	signer, err := tpm.Signer(cmd.Context(), key)
	if err != nil {
		return err
	}
	if !signer.Key().Equal(parent.Confirmation.Key) {
		return misuse("%s is not the confirmation key of %s", f.cnf, f.artifact)
	}
	delegation, err := artifact.SignDelegation(cmd.Context(), signer, claims)
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.out, delegation, 0o644); err != nil {
		return fmt.Errorf("writing delegation: %w", err)
	}
	return a.showDelegation(cmd, claims, f)
}

// claims returns what is delegated: the targets that are named, or all that the artifact may delegate, each as the artifact has it.
func (f *delegateFlags) claims(parent *artifact.Claims, digest []byte) (c artifact.DelegationClaims, err error) {
	id, err := nonce()
	if err != nil {
		return c, err
	}
	now := uint64(time.Now().Unix())
	c = artifact.DelegationClaims{Delegator: parent.Subject, Host: f.host, Audience: f.audience, Initiator: f.initiator, Parent: digest, ID: id,
		IssuedAt: now, Expires: parent.Expires, Limits: &artifact.Limits{Uses: f.uses, Depth: f.depth, Session: uint64(f.session / time.Second)}}
	if f.session == 0 && parent.Limits != nil {
		c.Limits.Session = parent.Limits.Session
	}
	switch left := uint64(f.lifetime / time.Second); {
	case now >= parent.Expires:
		return c, misuse("the artifact expired at %s", time.Unix(int64(parent.Expires), 0).UTC().Format(time.RFC3339))
	case f.lifetime < 0 || f.lifetime > 0 && left == 0:
		return c, misuse("--lifetime wants a second at least")
	case left > 0:
		c.Expires = min(c.Expires, now+left)
	}
	for _, p := range parent.Scope {
		named := len(f.targets) == 0 || slices.Contains(f.targets, p.Target)
		if !named || p.Terms.Operations&artifact.Delegate == 0 {
			continue
		}
		if f.depth == 0 {
			p.Terms.Operations &^= artifact.Delegate
		}
		if p.Terms.Operations == 0 {
			continue
		}
		c.Scope = append(c.Scope, p)
	}
	if len(c.Scope) == 0 || len(f.targets) > len(c.Scope) {
		return c, misuse("the artifact does not have the targets, or may not delegate them: it can %s", strings.ReplaceAll(parent.Scope.String(), "\n", "; "))
	}
	if err := c.Within(parent, statement.Digest(digest)); err != nil {
		return c, misuse("%s", denial.Of(err).Detail)
	}
	return c, nil
}

func (a *app) showDelegation(cmd *cobra.Command, c artifact.DelegationClaims, f *delegateFlags) error {
	expires := time.Unix(int64(c.Expires), 0).UTC().Format(time.RFC3339)
	view := map[string]any{"delegation": f.out, "parent": fmt.Sprintf("%x", c.Parent), "to_initiator": c.Initiator, "to_host": c.Host,
		"to_audience": c.Audience, "expires": expires, "scope": strings.Split(c.Scope.String(), "\n"), "uses": f.uses, "depth": f.depth}
	text := fmt.Sprintf("delegation  %s\n            of artifact %x\n            to %s\n            on %s, at gate %s\n            until %s\n            scope %s",
		f.out, c.Parent, c.Initiator, c.Host, c.Audience, expires, strings.ReplaceAll(c.Scope.String(), "\n", "\n                  "))
	return a.print(cmd, view, text)
}

// within returns the lifetime to ask for where the user names none: the usual one, or what delegations leave of it, less a little
// for the way to the issuer, who refuses an artifact that would last longer than one of them (406).
func within(delegations []string, usual time.Duration, now time.Time) (time.Duration, error) {
	const way = 5 * time.Second
	for _, path := range delegations {
		raw, err := command.ReadFile(path, command.Small)
		if err != nil {
			return 0, fmt.Errorf("reading delegation: %w", err)
		}
		c, err := artifact.InspectDelegation(raw)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", path, err)
		}
		left := time.Unix(int64(c.Expires), 0).Sub(now).Truncate(time.Second) - way
		usual = max(min(usual, left), time.Second)
	}
	return usual, nil
}

// readDelegations reads the delegations of a request, and returns the parents that it then has to name.
func readDelegations(paths []string) (all [][]byte, parents []artifact.ParentDigest, err error) {
	for _, path := range paths {
		raw, err := command.ReadFile(path, command.Small)
		if err != nil {
			return nil, nil, fmt.Errorf("reading delegation: %w", err)
		}
		c, err := artifact.InspectDelegation(raw)
		if err != nil {
			return nil, nil, fmt.Errorf("%s: %w", path, err)
		}
		all, parents = append(all, raw), append(parents, c.Parent)
	}
	return all, parents, nil
}
