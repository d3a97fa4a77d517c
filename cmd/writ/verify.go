package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
)

func readTrust(path string) (*artifact.Trust, error) {
	data, err := command.ReadFile(path, command.Small)
	if err != nil {
		return nil, fmt.Errorf("reading trust file: %w", err)
	}
	t, err := artifact.ParseTrust(data)
	if err != nil {
		return nil, misuse("%s: %w", path, err)
	}
	return t, nil
}

func (a *app) verifyCommand() *cobra.Command {
	var trustPath, audience, statusPath, keysPath string
	cmd := &cobra.Command{
		Use:   "verify ARTIFACT",
		Short: "Check that an artifact is genuine, logged, current and not revoked",
		Long: `Verify makes the checks of a gate up to revocation, with your own trust file. It asks the issuer for the status list
(--server), or reads one from --status. It does not allow anything: a gate also has possession proved and consumes a use.
A break-glass file is checked likewise; whether it was revoked the issuer tells a gate only when it is used.

The issuer's keys change. Verify asks what has become of those in the trust file, checks that it follows from the genesis that you
pin, and keeps the answer in --keys, so that no older state of the keys is accepted again. With --status it uses that file alone.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			trust, err := readTrust(trustPath)
			if err != nil {
				return err
			}
			raw, err := command.ReadFile(args[0], command.Small)
			if err != nil {
				return fmt.Errorf("reading artifact: %w", err)
			}
			if keysPath == "" {
				keysPath = trustPath + ".keys"
			}
			if trust, err = a.learn(cmd, trust, keysPath, statusPath == ""); err != nil {
				return err
			}
			if artifact.IsGlassFile(raw) {
				return a.verifyGlass(cmd, raw, artifact.Want{Trust: trust, Now: time.Now(), Audience: audience})
			}
			status, statusErr := a.status(cmd, trust, raw, statusPath)
			v, err := artifact.Verify(raw, artifact.Want{Trust: trust, Now: time.Now(), Audience: audience, Status: status})
			if err != nil {
				if statusErr != nil && denial.Of(err).Stage == denial.StageGateRevocation {
					return statusErr
				}
				return err
			}
			p := v.Proof()
			return a.print(cmd, map[string]any{"valid": true, "digest": v.Digest().String(), "log_index": p.Index, "logged": p.Time, "tree_size": p.Size},
				fmt.Sprintf("valid: statement %s\nlogged at index %d of %d, %s", v.Digest(), p.Index, p.Size, time.Unix(int64(p.Time), 0).UTC().Format(time.RFC3339)))
		},
	}
	cmd.Flags().StringVar(&trustPath, "trust", "trust.toml", "your trust file")
	cmd.Flags().StringVar(&audience, "audience", "", "URI of the gate that it should be for; default that of the trust file")
	cmd.Flags().StringVar(&statusPath, "status", "", "status list token to use instead of asking the issuer")
	cmd.Flags().StringVar(&keysPath, "keys", "", "file with what the issuer's keys were when you last asked; default that of --trust with .keys behind it")
	return cmd
}

// learn returns the trust file with what has become of the issuer's keys: as the file says, and as the issuer says if it may be
// asked and has an answer that follows from the pinned genesis. What it learns it writes into the file. That the keys changed
// back, or otherwise than before, is refused (508, 325).
func (a *app) learn(cmd *cobra.Command, trust *artifact.Trust, path string, ask bool) (*artifact.Trust, error) {
	seen, err := command.ReadFile(path, command.Small)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("reading keys: %w", err)
	default:
		if trust, err = trust.Follow(seen); err != nil {
			return nil, err
		}
	}
	if !ask {
		return trust, nil
	}
	c, err := a.client()
	if err != nil {
		return trust, nil // asking for the status list says so
	}
	now, err := c.Keys(cmd.Context())
	if err != nil {
		return trust, nil // the status list tells whether anything is missing
	}
	next, err := trust.Follow(now)
	if err != nil {
		return nil, err
	}
	if old := trust.KeyRing(); old != nil && old.Sequence() == next.KeyRing().Sequence() {
		return next, nil
	}
	return next, replaceFile(path, now)
}

// replaceFile writes a file whole or not at all.
func replaceFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".keys")
	if err != nil {
		return fmt.Errorf("writing keys: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("writing keys: %w", err)
	}
	return nil
}

// verifyGlass checks a break-glass file as a gate does, up to its pins.
func (a *app) verifyGlass(cmd *cobra.Command, raw []byte, want artifact.Want) error {
	g, err := artifact.VerifyBreakGlass(raw, want)
	if err != nil {
		return err
	}
	p := g.Payload()
	return a.print(cmd, map[string]any{"valid": true, "break_glass": fmt.Sprintf("%x", p.ID), "act": g.Digest().String(), "persons": g.Persons(), "waived": p.Waived},
		fmt.Sprintf("valid: break-glass authorization %x, signed by %s\nexpires %s; %s", p.ID, strings.Join(g.Persons(), " and "), stamp(p.Expires), g.Start().Words()))
}

// status gets the status list that the artifact names. Without it, verification denies.
func (a *app) status(cmd *cobra.Command, trust *artifact.Trust, raw []byte, path string) (*artifact.Status, error) {
	claims, _, err := artifact.Inspect(raw)
	if err != nil {
		return nil, err
	}
	var token []byte
	if path != "" {
		if token, err = command.ReadFile(path, command.Small); err != nil {
			return nil, fmt.Errorf("reading status list: %w", err)
		}
	} else {
		c, clientErr := a.client()
		if clientErr != nil {
			return nil, clientErr
		}
		token, err = c.Status(cmd.Context(), claims.Status.List.URI)
	}
	if err != nil {
		return nil, denial.New(denial.RevocationUnknown, "the status list cannot be had")
	}
	return artifact.VerifyStatus(token, trust, time.Now(), 0)
}
