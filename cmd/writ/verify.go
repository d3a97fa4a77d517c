package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
)

func readTrust(path string) (*artifact.Trust, error) {
	data, err := os.ReadFile(path)
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
	var trustPath, audience, statusPath string
	cmd := &cobra.Command{
		Use:   "verify ARTIFACT",
		Short: "Check that an artifact is genuine, logged, current and not revoked",
		Long: `Verify makes the checks of a gate up to revocation, with your own trust file. It asks the issuer for the status list
(--server), or reads one from --status. It does not allow anything: a gate also has possession proved and consumes a use.
A break-glass file is checked likewise; whether it was revoked the issuer tells a gate only when it is used.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			trust, err := readTrust(trustPath)
			if err != nil {
				return err
			}
			raw, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("reading artifact: %w", err)
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
	return cmd
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
		token, err = os.ReadFile(path)
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
