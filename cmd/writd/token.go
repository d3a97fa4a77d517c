package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/custody"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// tokenConfig is one PKCS#11 token.
type tokenConfig struct {
	Module      string       `toml:"module"`      // PKCS#11 library
	Token       string       `toml:"token"`       // label or serial number
	PINFile     string       `toml:"pin_file"`    // file with the user PIN, readable by the owner alone
	PINFD       int          `toml:"pin_fd"`      // or an inherited descriptor, above 2: a file or a pipe
	Sessions    int          `toml:"sessions"`    // at once; default 16
	Network     bool         `toml:"network"`     // the module needs network sockets; default only Unix sockets
	Environment []string     `toml:"environment"` // NAME=value for the module
	Standby     *tokenConfig `toml:"standby"`     // a second token with copies of the same keys
}

// check names what is missing.
func (t *tokenConfig) check(path, table string) error {
	if t.Module == "" || t.Token == "" {
		return fmt.Errorf("%w: %s needs the keys %s.module and %s.token", errMisuse, path, table, table)
	}
	if (t.PINFile == "") == (t.PINFD == 0) {
		return fmt.Errorf("%w: %s needs either %s.pin_file or %s.pin_fd", errMisuse, path, table, table)
	}
	if t.Standby == nil {
		return nil
	}
	if t.Standby.Standby != nil {
		return fmt.Errorf("%w: %s: a standby token has none itself", errMisuse, path)
	}
	return t.Standby.check(path, table+".standby")
}

func (t *tokenConfig) custody(retryPIN bool) custody.Config {
	c := custody.Config{Module: t.Module, Token: t.Token, PINFile: t.PINFile, RetryPIN: retryPIN, Sessions: t.Sessions,
		Network: t.Network, Env: t.Environment}
	if t.PINFD != 0 {
		c.PIN = os.NewFile(uintptr(t.PINFD), "PIN descriptor")
	}
	return c
}

// regulated is the profile of an installation whose keys must be in hardware.
const regulated = "regulated"

// openToken opens every token, and holds each against the profile: in a regulated installation one that does not keep its keys in
// hardware is refused (H20).
func (c *config) openToken(ctx context.Context) (*custody.Group, error) {
	group, err := c.openTokens(ctx, false)
	if err != nil || c.Profile != regulated {
		return group, err
	}
	for _, p := range group.Members() {
		probe, err := p.Probe(ctx)
		if why := probe.Software(); err == nil && why != "" {
			err = denial.New(denial.SelfTestFailed, "profile is %q, and token %q does not keep its keys in hardware: %s", regulated, probe.Info.Label, why)
		}
		if err != nil {
			return nil, errors.Join(err, group.Close())
		}
	}
	return group, nil
}

// openTokens starts the signer process of each token and has it log in.
func (c *config) openTokens(ctx context.Context, retryPIN bool) (*custody.Group, error) {
	var others []custody.Config
	if c.Token.Standby != nil {
		others = append(others, c.Token.Standby.custody(retryPIN))
	}
	return custody.OpenGroup(ctx, c.Token.custody(retryPIN), others...)
}

// issuerToken gives an issuer the use of its keys.
type issuerToken struct{ *custody.Group }

// Signer returns the use of a key that every token must have.
func (t issuerToken) Signer(ctx context.Context, purpose string, key statement.Thumbprint) (statement.Signer, error) {
	p, err := hsm.ParsePurpose(purpose)
	if err != nil {
		return nil, err
	}
	return t.Group.Signer(ctx, p, key)
}

// Make makes another key on the active token. A standby gets its copy by the means of its vendor, before the key is used.
func (t issuerToken) Make(ctx context.Context, purpose string, present statement.Thumbprint) (id statement.Thumbprint, err error) {
	p, err := hsm.ParsePurpose(purpose)
	if err != nil {
		return id, err
	}
	have, err := t.Active().Keys(ctx)
	if err != nil {
		return id, err
	}
	mine := slices.DeleteFunc(have, func(a hsm.Attributes) bool { return a.Purpose != p })
	var key statement.Key
	switch {
	case len(mine) == 0:
		key, err = t.Active().Create(ctx, p)
	case slices.ContainsFunc(mine, func(a hsm.Attributes) bool { return a.Key.Thumbprint() == present }):
		key, err = t.Active().Rotate(ctx, p, present)
	default: // the one that was in use is gone from the token
		key, err = t.Active().Rotate(ctx, p, mine[0].Key.Thumbprint())
	}
	if err != nil {
		return id, fmt.Errorf("making %s key: %w", purpose, err)
	}
	return key.Thumbprint(), nil
}

// Birth reads back what the active token states of a key.
func (t issuerToken) Birth(ctx context.Context, purpose string, key statement.Thumbprint) (*record.Birth, error) {
	a, err := t.Active().Attributes(ctx, key)
	if err != nil {
		return nil, err
	}
	if a.Purpose.String() != purpose {
		return nil, denial.New(denial.HSMKeyPolicy, "the key is a %s key", a.Purpose)
	}
	b := a.Birth()
	return &b, a.Check()
}

// signers finds keys on every token, by purpose.
func signers(ctx context.Context, tokens *custody.Group, keys map[string]statement.Key) (map[hsm.Purpose]statement.Signer, error) {
	out := map[hsm.Purpose]statement.Signer{}
	for _, p := range hsm.Purposes() {
		key, ok := keys[p.String()]
		if !ok {
			continue
		}
		s, err := tokens.Signer(ctx, p, key.Thumbprint())
		if err != nil {
			return nil, err
		}
		out[p] = s
	}
	return out, nil
}

// signerCommand is the signer process. No person calls it: writd starts itself with it.
func signerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "signer",
		Short:  "The signer process, which writd starts by itself",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if err := custody.Serve(); err != nil {
				return fmt.Errorf("%w: %w", errMisuse, err)
			}
			return nil
		},
	}
}
