package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/cmd/command"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

func (a *app) breakGlassCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "break-glass",
		Short: "Let a quorum of people allow one run, where policy declares it",
		Long: `Break-glass lets people of the role break-glass allow one program to run once on one host in place of the issuer's decision:
within what the authorization policy declares in [[break_glass]], and only at a gate whose trust file admits it.

Draft says what is to be allowed. At least two persons sign the draft with "writ sign". Publish has the issuer log it, which
raises the alarm, and writes the break-glass file. On the host, attest adds the proof of the host's state, unless the quorum has
waived it. "writ-gate exec --artifact FILE" runs the program. Within 24 hours somebody who had not signed must have joined in a
review: until then nothing more is published once the 24 hours are over.`,
	}
	cmd.AddCommand(a.glassDraft(), a.glassPublish(), a.glassAttest(), a.glassReview())
	return cmd
}

// glassFlags are what "writ break-glass draft" takes.
type glassFlags struct {
	requestFlags
	issuer, policy, rule, why, out string
	waived                         []string
}

func (a *app) glassDraft() *cobra.Command {
	var f glassFlags
	cmd := &cobra.Command{
		Use:   "draft --exec PROGRAM [flags] [-- ARG …]",
		Short: "Write down what the quorum is to allow: one program with exactly these arguments",
		Long: `Draft names the program by its digest and pins the arguments after --, even if there are none. Its life begins now: sign,
publish and use it within --lifetime. Read what you sign: writ inspect statement FILE.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.args = args
			return a.draftGlass(cmd, &f)
		},
	}
	f.addExecution(cmd, 30*time.Minute, "for how long, at most 1h")
	fl := cmd.Flags()
	fl.StringVar(&f.issuer, "issuer", "", "URI of the issuer that it is for")
	fl.StringVar(&f.policy, "policy", "", "the authorization policy in force, as it was published (TOML)")
	fl.StringVar(&f.rule, "rule", "", "name of the [[break_glass]] in it that declares this")
	fl.StringVar(&f.why, "why", "", "the justification, for people; it stands in the log")
	fl.StringArrayVar(&f.waived, "attestation-waived-by", nil, "a person who waives attestation of the host, and must sign; repeat for each, at least two")
	fl.StringVarP(&f.out, "out", "o", "break-glass.draft", "file of the draft")
	for _, name := range []string{"policy", "rule", "why"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

// draftGlass writes the draft of an authorization.
func (a *app) draftGlass(cmd *cobra.Command, f *glassFlags) error {
	if err := named([2]string{"issuer", f.issuer}, [2]string{"host", f.host}, [2]string{"audience", f.audience}, [2]string{"initiator", f.initiator}); err != nil {
		return err
	}
	g, err := f.authorization(time.Now())
	if err != nil {
		return err
	}
	payload, err := statement.Marshal(g)
	if err != nil {
		return err
	}
	data, err := record.Draft{Kind: statement.BreakGlass.String(), Issuer: f.issuer, Subject: g.Subject(f.issuer), Payload: payload}.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.out, data, 0o644); err != nil {
		return fmt.Errorf("writing draft: %w", err)
	}
	return a.print(cmd, map[string]any{"file": f.out, "id": hex.EncodeToString(g.ID), "act": statement.DigestOf(payload).String(), "expires": stamp(g.Expires)},
		fmt.Sprintf("break-glass authorization %x drafted in %s\ngood until %s, once the quorum has signed and the issuer has logged it", g.ID, f.out, stamp(g.Expires)))
}

// authorization returns what is to be signed.
func (f *glassFlags) authorization(now time.Time) (*record.BreakGlass, error) {
	text, err := command.ReadFile(f.policy, command.Small)
	if err != nil {
		return nil, fmt.Errorf("reading policy: %w", err)
	}
	doc, err := firmwarepolicy.ParseTOML(text)
	if err != nil {
		return nil, err
	}
	if _, err := doc.Authorization(); err != nil {
		return nil, err
	}
	f.pinArgs = true // none is an argument vector too
	scope, err := f.scope()
	if err != nil {
		return nil, err
	}
	encoded, err := scope.Encode()
	if err != nil {
		return nil, err
	}
	id, err := nonce()
	if err != nil {
		return nil, err
	}
	hash, from := doc.Hash(), uint64(now.Unix())
	g := &record.BreakGlass{Version: record.Version, ID: id, Host: f.host, Audience: f.audience, Initiator: f.initiator, Scope: encoded,
		Policy:   record.Declared{ID: doc.ID(), Hash: hash[:], Version: doc.Version(), Rule: f.rule},
		IssuedAt: from, Expires: from + uint64(f.lifetime/time.Second), Why: f.why, Waived: f.waived}
	return g, g.Check()
}

func (a *app) glassPublish() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "publish FILE",
		Short: "Have the issuer log a signed authorization, and write the break-glass file for the gate",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				out = strings.TrimSuffix(args[0], ".draft") + ".glass"
			}
			return a.publishGlass(cmd, args[0], out)
		},
	}
	cmd.Flags().StringVarP(&out, "out", "o", "", "the break-glass file; default: FILE without .draft, with .glass")
	return cmd
}

func (a *app) publishGlass(cmd *cobra.Command, in, out string) error {
	data, err := command.ReadFile(in, command.Small)
	if err != nil {
		return fmt.Errorf("reading act: %w", err)
	}
	b, err := record.ReadAct(data)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	history, err := c.Keys(cmd.Context())
	if err != nil {
		return err
	}
	logged, err := c.Apply(cmd.Context(), statement.BreakGlass, b)
	if err != nil {
		return err
	}
	f := &artifact.GlassFile{History: history, Act: logged}
	g, digest, err := f.Inspect()
	if err != nil {
		return err
	}
	if err := writeGlass(f, out); err != nil {
		return err
	}
	next := "now attest on the host: writ break-glass attest " + out
	if g.Waived != nil {
		next = "attestation is waived by " + strings.Join(g.Waived, " and ") + ": use it with writ-gate exec --artifact " + out
	}
	return a.print(cmd, map[string]any{"file": out, "id": hex.EncodeToString(g.ID), "act": digest.String(), "statements": len(logged), "review_by": stamp(uint64(time.Now().Unix()) + record.ReviewWithin)},
		fmt.Sprintf("break-glass authorization %x is logged, in %s\n%s\nit must be reviewed by %s", g.ID, out, next, stamp(uint64(time.Now().Unix())+record.ReviewWithin)))
}

func readGlass(path string) (*artifact.GlassFile, error) {
	raw, err := command.ReadFile(path, command.Small)
	if err != nil {
		return nil, fmt.Errorf("reading break-glass file: %w", err)
	}
	return artifact.DecodeGlassFile(raw)
}

func writeGlass(f *artifact.GlassFile, path string) error {
	raw, err := f.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		return fmt.Errorf("writing break-glass file: %w", err)
	}
	return nil
}

func (a *app) glassAttest() *cobra.Command {
	var f requestFlags
	cmd := &cobra.Command{
		Use:   "attest FILE",
		Short: "On the host: prove its state to the issuer, and add the proof to the break-glass file",
		Long: `Attest makes a confirmation key, has the TPM quote as for an artifact and asks the issuer, as the initiator that the authorization
names, to record what it proved. The host must be in a state that the appraisal policy accepts: people stand in for the
authorization policy, not for that, unless they have waived it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.attestGlass(cmd, &f, args[0]) },
	}
	fl := cmd.Flags()
	fl.StringVar(&f.key, "key", "", "private key of the initiator")
	fl.StringVar(&f.eventLog, "eventlog", attester.BootLogPath, "boot log of the firmware")
	fl.StringVar(&f.imaList, "imalist", attester.IMALogPath, "list of files that Linux measured; read if the policy wants PCR 10")
	fl.StringVar(&f.cnf, "cnf", "", "file of the confirmation key; default: FILE with .cnf")
	return cmd
}

func (a *app) attestGlass(cmd *cobra.Command, f *requestFlags, path string) error {
	ctx := cmd.Context()
	if f.key == "" {
		f.key = a.file.Key
	}
	if f.key == "" {
		return misuse("give --key, or name it in the configuration file")
	}
	if f.cnf == "" {
		f.cnf = path + ".cnf"
	}
	file, err := readGlass(path)
	if err != nil {
		return err
	}
	signer, err := readSigner(f.key)
	if err != nil {
		return err
	}
	m, err := a.meet(ctx)
	if err != nil {
		return err
	}
	defer m.close()
	request, cnf, err := signGlassRequest(ctx, m, signer, file)
	if err != nil {
		return err
	}
	collected, err := m.collect(ctx, request, cnf, f)
	if err != nil {
		return err
	}
	if file.Attestation, err = m.session.Attest(ctx, request, collected.Evidence); err != nil {
		return err
	}
	if err := errors.Join(collected.CNF.Save(f.cnf), writeGlass(file, path)); err != nil {
		return err
	}
	return a.print(cmd, map[string]any{"file": path, "cnf": f.cnf}, fmt.Sprintf("the host has attested; %s holds the proof, and %s the key\nuse it: writ-gate exec --artifact %s", path, f.cnf, path))
}

// signGlassRequest makes the confirmation key and the request for an attestation that names it.
func signGlassRequest(ctx context.Context, m *meeting, s statement.Signer, file *artifact.GlassFile) ([]byte, *attester.Key, error) {
	g, digest, err := file.Inspect()
	if err != nil {
		return nil, nil, err
	}
	scope, err := artifact.DecodeScope(g.Scope)
	if err != nil {
		return nil, nil, err
	}
	cnf, err := m.tpm.NewCNF(ctx, attest.Selection{Bank: m.challenge.Bank, PCRs: ints(m.challenge.Bind)})
	if err != nil {
		return nil, nil, err
	}
	public, err := cnf.Verifier()
	if err != nil {
		return nil, nil, err
	}
	id, err := nonce()
	if err != nil {
		return nil, nil, err
	}
	now, thumb := uint64(time.Now().Unix()), public.Thumbprint()
	request, err := artifact.SignRequest(ctx, s, artifact.RequestClaims{Initiator: g.Initiator, Host: g.Host, Audience: g.Audience,
		IssuedAt: now, Expires: now + 120, ID: id, Confirmation: artifact.Thumbprint{Key: thumb[:]}, Scope: scope,
		Execution: artifact.Execution{ID: g.ID}, Lifetime: g.Expires - g.IssuedAt, BreakGlass: digest[:]})
	return request, cnf, err
}

func (a *app) glassReview() *cobra.Command {
	var f actFlags
	var finding, verdict string
	cmd := &cobra.Command{
		Use:   "review FILE|ACT",
		Short: "Sign what you found of an authorization afterwards (role break-glass)",
		Long: `Review takes the break-glass file, or the digest of the act in hexadecimal. It takes as many signatures as the authorization,
at least one of them by somebody who had not signed that. Every authorization needs one within 24 hours of being logged, used or not.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if verdict != "justified" && verdict != "unjustified" {
				return misuse("--verdict is justified or unjustified")
			}
			act, err := reviewed(args[0])
			if err != nil {
				return err
			}
			n, err := nonce()
			if err != nil {
				return err
			}
			r := &record.Review{Version: record.Version, Act: act[:], Time: uint64(time.Now().Unix()), Justified: verdict == "justified", Finding: finding, Nonce: n}
			if err := r.Check(); err != nil {
				return err
			}
			d, err := a.draft(cmd, &f, statement.Review, r)
			if err != nil {
				return err
			}
			return a.finish(cmd, &f, d)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&verdict, "verdict", "", "justified or unjustified")
	cmd.Flags().StringVar(&finding, "finding", "", "what you found, for people; it stands in the log")
	_ = cmd.MarkFlagRequired("verdict")
	_ = cmd.MarkFlagRequired("finding")
	return cmd
}

// reviewed returns the digest of the authorization that an argument names.
func reviewed(arg string) (statement.Digest, error) {
	if b, err := hex.DecodeString(arg); err == nil && len(b) == 32 {
		return statement.Digest(b), nil
	}
	f, err := readGlass(arg)
	if err != nil {
		return statement.Digest{}, err
	}
	_, digest, err := f.Inspect()
	return digest, err
}
