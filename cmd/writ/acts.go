package main

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// actFlags are what every command that makes an act of authorities takes.
type actFlags struct {
	issuer   string
	keys     []string
	out      string
	sequence uint64
	valid    time.Duration
}

func (f *actFlags) add(cmd *cobra.Command) {
	f.addOptional(cmd)
	_ = cmd.MarkFlagRequired("key")
}

// addOptional adds the flags to a command that can do without an act.
func (f *actFlags) addOptional(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.issuer, "issuer", "", "URI of the issuer that the act is for")
	cmd.Flags().StringArrayVar(&f.keys, "key", nil, "private key of an authority; repeat for several")
	cmd.Flags().StringVarP(&f.out, "out", "o", "", "write the signed act to this file, for further signatures or for publishing")
	cmd.Flags().Uint64Var(&f.sequence, "sequence", 0, "number of this act among those about the same; without it the issuer is asked, and where no --server is given it is 1")
	cmd.Flags().DurationVar(&f.valid, "approval", record.DefaultApproval, "for how long the approvals are good, at most 720h")
}

// draft returns the draft of an act with the payload.
func (a *app) draft(cmd *cobra.Command, f *actFlags, kind statement.Kind, payload any) (record.Draft, error) {
	if f.issuer == "" {
		return record.Draft{}, misuse("an act names the issuer that it is for: give --issuer")
	}
	if f.valid < time.Minute || f.valid > record.MaxApproval {
		return record.Draft{}, misuse("--approval is from a minute to %s", record.MaxApproval)
	}
	n, err := a.number(cmd, f, kind, payload)
	if err != nil {
		return record.Draft{}, err
	}
	return record.NewDraft(kind, f.issuer, payload, n, time.Now(), f.valid)
}

// number returns the number that the act gets: as a flag says, or as the issuer says, or that of the first.
func (a *app) number(cmd *cobra.Command, f *actFlags, kind statement.Kind, payload any) (uint64, error) {
	if f.sequence != 0 || a.server == "" || !kind.Acts() {
		return max(f.sequence, 1), nil
	}
	raw, err := statement.Marshal(payload)
	if err != nil {
		return 0, err
	}
	subject, err := record.SubjectOf(kind, f.issuer, raw)
	if err != nil {
		return 0, err
	}
	c, err := a.client()
	if err != nil {
		return 0, err
	}
	return c.NextAct(cmd.Context(), kind, subject)
}

// finish signs the draft with every key, and writes it to a file or publishes it, with openings of commitments in it.
func (a *app) finish(cmd *cobra.Command, f *actFlags, d record.Draft, openings ...[]byte) error {
	signer, err := readSigner(f.keys[0])
	if err != nil {
		return err
	}
	b, err := d.Sign(cmd.Context(), signer)
	if err != nil {
		return err
	}
	if b, err = cosign(cmd, b, f.keys[1:]); err != nil {
		return err
	}
	if b, err = b.WithOpenings(openings); err != nil {
		return err
	}
	if f.out != "" {
		return a.writeAct(cmd, b, f.out)
	}
	return a.publish(cmd, b)
}

func cosign(cmd *cobra.Command, b record.Bundle, keys []string) (record.Bundle, error) {
	for _, path := range keys {
		signer, err := readSigner(path)
		if err != nil {
			return nil, err
		}
		if signedBy(b, signer.Key()) {
			return nil, misuse("%s has signed this act already: have another person sign it with their own key", path)
		}
		if b, err = b.Cosign(cmd.Context(), signer); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// signedBy reports whether the act names the key as that of one of its signatures. The issuer takes no key twice (306).
func signedBy(b record.Bundle, k statement.Key) bool {
	for _, raw := range b {
		env, err := statement.Decode(raw, statement.MaxStatement)
		if err != nil {
			continue
		}
		if id, ok := env.KeyID(); ok && id == k.Thumbprint() {
			return true
		}
	}
	return false
}

func (a *app) writeAct(cmd *cobra.Command, b record.Bundle, path string) error {
	data, err := b.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, data, 0o644); err != nil {
		return fmt.Errorf("writing act: %w", err)
	}
	return a.print(cmd, map[string]any{"file": path, "signatures": len(b)}, fmt.Sprintf("%s holds %d signature(s)", path, len(b)))
}

func (a *app) publish(cmd *cobra.Command, b record.Bundle) error {
	env, err := statement.Decode(b[0], statement.MaxStatement)
	if err != nil {
		return err
	}
	c, err := a.client()
	if err != nil {
		return err
	}
	logged, err := c.Apply(cmd.Context(), env.Kind(), b)
	if err != nil {
		return err
	}
	digest := statement.DigestOf(env.Payload())
	return a.print(cmd, map[string]any{"kind": env.Kind().String(), "act": digest.String(), "statements": len(logged)},
		fmt.Sprintf("%s %s logged, %d statement(s) with receipts", env.Kind(), digest, len(logged)))
}

func (a *app) signCommand() *cobra.Command {
	var keys []string
	var out string
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign a draft, or add a signature to an act",
		Long: `Sign signs what "writd init --draft" or another authority wrote. Read it first: writ inspect statement FILE.
Every signature is over the same bytes; the act takes effect when as many distinct persons have signed as its role needs.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			b, err := signFile(cmd, args[0], keys)
			if err != nil {
				return err
			}
			if out == "" {
				out = args[0]
			}
			return a.writeAct(cmd, b, out)
		},
	}
	cmd.Flags().StringArrayVar(&keys, "key", nil, "private key of an authority; repeat for several")
	cmd.Flags().StringVarP(&out, "out", "o", "", "write here instead of replacing FILE")
	_ = cmd.MarkFlagRequired("key")
	return cmd
}

func signFile(cmd *cobra.Command, path string, keys []string) (record.Bundle, error) {
	data, err := command.ReadFile(path, command.Small)
	if err != nil {
		return nil, fmt.Errorf("reading act: %w", err)
	}
	if b, err := record.DecodeBundle(data); err == nil {
		if env, err := statement.Decode(b[0], statement.MaxStatement); err == nil {
			if err := inTime(env.Claims()); err != nil {
				return nil, err
			}
		}
		return cosign(cmd, b, keys)
	}
	d, err := record.DecodeDraft(data)
	if err != nil && utf8.Valid(data) {
		_, err = record.ReadAct(data)
	}
	if err != nil {
		return nil, err
	}
	if err := inTime(d.Claims()); err != nil {
		return nil, err
	}
	signer, err := readSigner(keys[0])
	if err != nil {
		return nil, err
	}
	b, err := d.Sign(cmd.Context(), signer)
	if err != nil {
		return nil, err
	}
	return cosign(cmd, b, keys[1:])
}

// inTime refuses to sign what no issuer takes any more.
func inTime(c statement.Claims) error {
	if c.Expires != 0 && uint64(time.Now().Unix()) >= c.Expires {
		return denial.New(denial.Expired, "the act expired at %s: draft it anew", stamp(c.Expires))
	}
	return nil
}

func (a *app) publishCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "publish FILE",
		Short: "Send a signed act to the issuer",
		Args:  cobra.ExactArgs(1),
		RunE:  func(cmd *cobra.Command, args []string) error { return a.publishFile(cmd, args[0]) },
	}
}

func (a *app) publishFile(cmd *cobra.Command, path string) error {
	data, err := command.ReadFile(path, command.Small)
	if err != nil {
		return fmt.Errorf("reading act: %w", err)
	}
	b, err := record.ReadAct(data)
	if err != nil {
		return err
	}
	if env, err := statement.Decode(b[0], statement.MaxStatement); err == nil && env.Kind() == statement.BreakGlass {
		return misuse("%s is a break-glass authorization, which is logged once and of which the gate needs a file: writ break-glass publish %s", path, path)
	}
	return a.publish(cmd, b)
}

// nonce returns 16 random bytes.
func nonce() ([]byte, error) {
	b := make([]byte, 16)
	if _, err := rand.Read(b); err != nil {
		return nil, fmt.Errorf("making nonce: %w", err)
	}
	return b, nil
}

func (a *app) initiatorCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "initiator", Short: "Admit those who may ask"}
	var f actFlags
	var id, kind, public string
	var personal []string
	approve := &cobra.Command{
		Use:   "approve",
		Short: "Sign the enrolment of an initiator's key (role enrolment)",
		Long: `Approve binds a key to a URI, which stands in the log for ever: take one that is no personal data. Who is behind it, if that is
to be known at all, goes into --personal: the log gets salted commitments to it, the issuer keeps what opens them beside the log.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, ok := record.ParseInitiatorKind(kind)
			if !ok {
				return misuse("--kind is human, service, agent or device")
			}
			key, err := readPublic(public)
			if err != nil {
				return err
			}
			return a.enrolment(cmd, &f, personal, &record.Enrolment{ID: id, Initiator: &record.Initiator{Kind: k, Key: key}})
		},
	}
	f.add(approve)
	approve.Flags().StringVar(&id, "id", "", "URI of the initiator")
	approve.Flags().StringVar(&kind, "kind", "service", "human, service, agent or device")
	approve.Flags().StringVar(&public, "public", "", "the initiator's public key (PEM)")
	addPersonal(approve, &personal)
	_ = approve.MarkFlagRequired("id")
	_ = approve.MarkFlagRequired("public")
	cmd.AddCommand(approve)
	return cmd
}

// addPersonal adds the flag for personal data to a command that enrols.
func addPersonal(cmd *cobra.Command, into *[]string) {
	cmd.Flags().StringArrayVar(into, "personal", nil, "FIELD=VALUE: personal data, of which the log gets a salted commitment only; repeat")
}

// withhold returns openings of personal data that is given as FIELD=VALUE, and commitments to it.
func withhold(given []string) (openings [][]byte, commitments map[string][]byte, err error) {
	values := map[string]string{}
	for _, g := range given {
		field, value, ok := strings.Cut(g, "=")
		if _, twice := values[field]; !ok || value == "" || twice || !record.IsField(field) {
			return nil, nil, misuse("--personal wants FIELD=VALUE, each field once, in lower-case letters, digits and hyphens")
		}
		values[field] = value
	}
	return record.Withhold(values)
}

// enrolment completes, checks and signs an enrolment.
func (a *app) enrolment(cmd *cobra.Command, f *actFlags, personal []string, e *record.Enrolment) error {
	n, err := nonce()
	if err != nil {
		return err
	}
	openings, commitments, err := withhold(personal)
	if err != nil {
		return err
	}
	if len(commitments) > 0 {
		e.Personal = commitments
	}
	e.Version, e.Time, e.Nonce = record.Version, uint64(time.Now().Unix()), n
	if err := e.Check(); err != nil {
		return err
	}
	d, err := a.draft(cmd, f, statement.Enrolment, e)
	if err != nil {
		return err
	}
	return a.finish(cmd, f, d, openings...)
}

func (a *app) revokeCommand() *cobra.Command {
	var f actFlags
	var why string
	cmd := &cobra.Command{
		Use:   "revoke artifact|host|initiator|policy TARGET",
		Short: "Revoke: gates refuse from the next status list on (role revocation)",
		Long: `Revoke names an artifact by its id (cti) in hexadecimal, a host or an initiator by its URI, a policy by its hash in
hexadecimal. Everything that was issued to or under it is refused too. There is no way back but a new enrolment or policy.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			cause, ok := map[string]record.Cause{"artifact": record.CauseArtifact, "host": record.CauseHost, "initiator": record.CauseInitiator,
				"policy": record.CausePolicy}[args[0]]
			if !ok {
				return misuse("revoke an artifact, a host, an initiator or a policy")
			}
			if _, err := hex.DecodeString(args[1]); (cause == record.CauseArtifact || cause == record.CausePolicy) && (err != nil || strings.ToLower(args[1]) != args[1]) {
				return misuse("an artifact's id and a policy's hash are lower-case hexadecimal")
			}
			n, err := nonce()
			if err != nil {
				return err
			}
			r := &record.Revocation{Version: record.Version, Cause: cause, Target: args[1], Time: uint64(time.Now().Unix()), Why: why, Nonce: n}
			if err := r.Check(); err != nil {
				return err
			}
			d, err := a.draft(cmd, &f, statement.Revocation, r)
			if err != nil {
				return err
			}
			return a.finish(cmd, &f, d)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&why, "why", "", "the reason, for people; it stands in the log")
	return cmd
}
