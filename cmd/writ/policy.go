package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

func (a *app) policyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "policy", Short: "Write, check, sign and publish policies"}
	publish := a.publishCommand()
	publish.Short = "Send a signed policy to the issuer"
	cmd.AddCommand(a.policyNew(), a.policyPredict(), a.policyLint(), a.policyTest(), a.policyShow(), a.policyDiff(), a.policySign(), publish)
	return cmd
}

func (a *app) policyNew() *cobra.Command {
	var id, eventLog, imaList, out, bank, facts string
	var pcrs []int
	var fromHost bool
	var valid time.Duration
	cmd := &cobra.Command{
		Use:   "new --from-host",
		Short: "Write a first appraisal policy from the facts that this host's TPM proves",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !fromHost {
				return misuse("give --from-host: a first policy is written from a host's facts")
			}
			claims, err := a.localFacts(cmd, attest.Selection{Bank: bank, PCRs: pcrs}, eventLog, imaList)
			if err != nil {
				return err
			}
			if facts != "" {
				enc, err := firmwarepolicy.EncodeFacts(claims)
				if err != nil {
					return err
				}
				if err := writeOut(cmd, facts, enc); err != nil {
					return err
				}
			}
			text, err := firmwarepolicy.FromClaims(id, uint64(time.Now().Add(valid).Unix()), claims)
			if err != nil {
				return err
			}
			return writeOut(cmd, out, text)
		},
	}
	cmd.Flags().BoolVar(&fromHost, "from-host", false, "take the facts of this host")
	cmd.Flags().StringVar(&id, "id", "", "URI of the policy")
	cmd.Flags().StringVar(&eventLog, "eventlog", attester.BootLogPath, "boot log of the firmware")
	cmd.Flags().StringVar(&imaList, "imalist", attester.IMALogPath, "list of files that Linux measured; read if PCR 10 is among the PCRs")
	cmd.Flags().StringVar(&bank, "bank", "sha256", "PCR bank: sha256 or sha384")
	cmd.Flags().IntSliceVar(&pcrs, "pcrs", []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14}, "PCRs to quote")
	cmd.Flags().DurationVar(&valid, "valid", 365*24*time.Hour, "for how long the policy is good")
	cmd.Flags().StringVarP(&out, "out", "o", "", "file; default standard output")
	cmd.Flags().StringVar(&facts, "facts", "", "also write the facts to this file, for \"writ policy test\"")
	_ = cmd.MarkFlagRequired("id")
	return cmd
}

// localFacts has this host's TPM quote over a challenge of our own and verifies the evidence as an issuer would.
func (a *app) localFacts(cmd *cobra.Command, s attest.Selection, eventLog, imaList string) (attest.Claims, error) {
	ctx := cmd.Context()
	tpm, err := attester.Open(ctx, a.tpm)
	if err != nil {
		return attest.Claims{}, err
	}
	defer tpm.Close()
	ak, err := tpm.AK(ctx)
	if err != nil {
		return attest.Claims{}, err
	}
	var request statement.Digest
	var channel [32]byte
	for _, b := range [][]byte{request[:], channel[:]} {
		if _, err := rand.Read(b); err != nil {
			return attest.Claims{}, fmt.Errorf("making challenge: %w", err)
		}
	}
	bind := slices.DeleteFunc(firmwarepolicy.StablePCRs(), func(p int) bool { return !slices.Contains(s.PCRs, p) })
	want := attest.Want{AK: ak, Challenge: attest.NewNonce(), Request: request, Exporter: channel, Selection: s, Bind: bind, Audit: true}
	claims, err := collected(ctx, tpm, want, eventLog, imaList)
	if err == nil {
		return claims, nil
	}
	// A policy may go without an audit session: the author is told why, and what that means.
	want.Audit = false
	claims, again := collected(ctx, tpm, want, eventLog, imaList)
	if again == nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "note: the policy does not demand an audit session (pcrs.audit), because this host has none that passes: %v\n", err)
	}
	return claims, again
}

// collected has the TPM make evidence for want, and verifies it.
func collected(ctx context.Context, tpm *attester.TPM, want attest.Want, eventLog, imaList string) (attest.Claims, error) {
	c, err := tpm.Collect(ctx, attester.CollectOptions{Challenge: want.Challenge, RequestDigest: want.Request, Exporter: want.Exporter,
		Selection: want.Selection, Bind: want.Bind, Audit: want.Audit, EventLogPath: eventLog, IMALogPath: imaList})
	if err != nil {
		return attest.Claims{}, err
	}
	ev, err := attest.DecodeEvidence(c.Evidence)
	if err != nil {
		return attest.Claims{}, err
	}
	facts, err := attest.Verify(ev, want)
	if err != nil {
		return attest.Claims{}, err
	}
	return facts.Claims(), nil
}

func writeOut(cmd *cobra.Command, path string, data []byte) error {
	if path == "" {
		_, err := cmd.OutOrStdout().Write(data)
		return err
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("writing file: %w", err)
	}
	return nil
}

func readPolicy(path string) (*firmwarepolicy.Document, error) {
	data, err := command.ReadFile(path, command.Small)
	if err != nil {
		return nil, fmt.Errorf("reading policy: %w", err)
	}
	return firmwarepolicy.ParseTOML(data)
}

func (a *app) policyLint() *cobra.Command {
	return &cobra.Command{
		Use:   "lint FILE",
		Short: "Compile a policy and say what is unwise in it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := readPolicy(args[0])
			if err != nil {
				return err
			}
			findings := firmwarepolicy.Lint(doc, uint64(time.Now().Unix()))
			text := fmt.Sprintf("%s policy %s version %d, hash %s", doc.Kind(), doc.ID(), doc.Version(), doc.Hash())
			bad := 0
			for _, f := range findings {
				text += fmt.Sprintf("\n%s: %s", f.Severity, f.Message)
				if f.Severity == firmwarepolicy.SeverityError {
					bad++
				}
			}
			if err := a.print(cmd, map[string]any{"id": doc.ID(), "version": doc.Version(), "hash": doc.Hash().String(), "findings": findings}, text); err != nil {
				return err
			}
			if bad > 0 {
				return denial.New(denial.PolicyError, "%d finding(s) must be mended", bad)
			}
			return nil
		},
	}
}

func (a *app) policyTest() *cobra.Command {
	return &cobra.Command{
		Use:   "test POLICY CASES",
		Short: "Run a file of test cases against a policy",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := readPolicy(args[0])
			if err != nil {
				return err
			}
			cases, err := command.ReadFile(args[1], command.Small)
			if err != nil {
				return fmt.Errorf("reading cases: %w", err)
			}
			results, err := firmwarepolicy.RunTests(doc, cases, func(name string) ([]byte, error) {
				return command.ReadFile(filepath.Join(filepath.Dir(args[1]), name), command.Small)
			})
			if err != nil {
				return err
			}
			return a.showTests(cmd, results)
		},
	}
}

func (a *app) showTests(cmd *cobra.Command, results []firmwarepolicy.TestResult) error {
	var lines []string
	failed := 0
	for _, r := range results {
		word := "ok    "
		if !r.OK {
			word = "FAILED"
			failed++
		}
		lines = append(lines, fmt.Sprintf("%s %s: %s", word, r.Name, r.Got))
	}
	if err := a.print(cmd, results, strings.Join(lines, "\n")); err != nil {
		return err
	}
	if failed > 0 {
		return denial.New(denial.PolicyError, "%d of %d cases failed", failed, len(results))
	}
	return nil
}

func (a *app) policyShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show FILE",
		Short: "Show a policy, or the policy in a signed act, as TOML",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := policyOf(args[0])
			if err != nil {
				return err
			}
			text, err := doc.TOML()
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
}

func (a *app) policyDiff() *cobra.Command {
	return &cobra.Command{
		Use:   "diff OLD NEW",
		Short: "Say what a policy changes of the one before it, and whether that takes the whole quorum",
		Long: `Diff compares two policies, each as TOML or in a signed act. What provably only narrows may be published by as few as genesis
allows for that ("writd init --narrow"); whatever else there is takes the whole quorum of the role policy.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			old, err := policyOf(args[0])
			if err != nil {
				return err
			}
			new, err := policyOf(args[1])
			if err != nil {
				return err
			}
			c := firmwarepolicy.Diff(old, new)
			text := c.Words() + "\nIt only narrows: as many as genesis lets narrow may publish it."
			switch {
			case old.Hash() == new.Hash():
				text = "Nothing changes: both have the same hash."
			case c.Widens():
				text = c.Words() + "\nIt widens: the whole quorum of the role policy must sign it."
			}
			return a.print(cmd, map[string]any{"widens": c.Widens(), "differences": c.Differences}, strings.TrimLeft(text, "\n"))
		},
	}
}

// policyOf reads a policy as TOML or from an act.
func policyOf(path string) (*firmwarepolicy.Document, error) {
	data, err := command.ReadFile(path, command.Small)
	if err != nil {
		return nil, fmt.Errorf("reading policy: %w", err)
	}
	b, err := record.DecodeBundle(data)
	if err != nil {
		return firmwarepolicy.ParseTOML(data)
	}
	env, err := statement.Decode(b[0], statement.MaxStatement)
	if err != nil {
		return nil, err
	}
	var p record.Policy
	if err := statement.Unmarshal(env.Payload(), &p); err != nil {
		return nil, err
	}
	return firmwarepolicy.Decode(p.Document)
}

func (a *app) policySign() *cobra.Command {
	var f actFlags
	cmd := &cobra.Command{
		Use:   "sign POLICY.toml",
		Short: "Sign a policy (role policy); with --out for further signatures, without to publish at once",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			doc, err := readPolicy(args[0])
			if err != nil {
				return err
			}
			return a.signPolicy(cmd, &f, doc)
		},
	}
	f.add(cmd)
	return cmd
}

// signPolicy signs a policy, and writes or publishes it.
func (a *app) signPolicy(cmd *cobra.Command, f *actFlags, doc *firmwarepolicy.Document) error {
	p := record.Policy{Version: record.Version, Kind: record.PolicyKind(doc.Kind()), ID: doc.ID(), Revision: doc.Version(),
		Document: doc.Canonical(), Time: uint64(time.Now().Unix())}
	if err := p.Check(); err != nil {
		return err
	}
	d, err := a.draft(cmd, f, statement.Policy, p)
	if err != nil {
		return err
	}
	return a.finish(cmd, f, d)
}
