package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/gate"
	"github.com/governed-execution/writ/issuer/client"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

func (a *app) hostCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "host", Short: "Enrol this host, and see its keys"}
	cmd.AddCommand(a.hostStatus(), a.hostApprove(), a.hostEnroll())
	return cmd
}

// ekView is an EK for people and machines.
type ekView struct {
	Kind        string `json:"kind"`
	Digest      string `json:"digest"` // SHA-256 of TPMT_PUBLIC
	Certificate bool   `json:"certificate"`
}

func (a *app) hostStatus() *cobra.Command {
	var admin, id string
	cmd := &cobra.Command{
		Use:   "status [--admin SOCKET --id URI]",
		Short: "Show this host's endorsement keys and attestation key, or what the issuer knows of a host",
		Long: `Status shows the keys of this host's TPM: what authorities need to enrol it.

On the issuer's machine, with --admin and --id, it shows what the issuer knows of a host instead. A host that is held has shown
that its TPM is there twice, or was put back to an earlier state, and gets nothing (507) until authorities approve it anew with
"writ host approve" and it has been enrolled again. Its exit status is then 1.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (admin == "") != (id == "") {
				return misuse("give --admin and --id together, or neither")
			}
			if admin != "" {
				return a.hostAtIssuer(cmd, admin, id)
			}
			return a.hostHere(cmd)
		},
	}
	cmd.Flags().StringVar(&admin, "admin", "", "admin socket of writd on this machine")
	cmd.Flags().StringVar(&id, "id", "", "URI of the host to ask it about")
	return cmd
}

// hostAtIssuer shows what the issuer knows of a host. That it is held is a denial.
func (a *app) hostAtIssuer(cmd *cobra.Command, admin, id string) error {
	raw, err := client.NewAdmin(admin).Hosts(cmd.Context(), id)
	if err != nil {
		return err
	}
	var h issuerHost
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&h); err != nil {
		return fmt.Errorf("reading the issuer's answer: %w", err)
	}
	text := fmt.Sprintf("%s\nAK    %s\nEK    %s\n", h.ID, h.AK, h.EK)
	for _, name := range slices.Sorted(maps.Keys(h.Labels)) {
		text += fmt.Sprintf("label %s=%s\n", name, h.Labels[name])
	}
	if h.Gate != "" {
		text += fmt.Sprintf("gate  %s\n", h.Gate)
	}
	if h.Held != "" {
		text += fmt.Sprintf("held since %s: authorities must approve it anew\n", h.Held)
		err = denial.New(denial.BootRollback, "the host is held since %s, because its TPM was there twice or was put back", h.Held)
	}
	return a.showDenied(cmd, h, text, err)
}

// issuerHost is a host as the issuer's admin socket tells of it.
type issuerHost struct {
	ID     string            `json:"id"`
	Labels map[string]string `json:"labels"`
	EK     string            `json:"ek"` // SHA-256 of TPMT_PUBLIC
	AK     string            `json:"ak"` // TPM Name
	Gate   string            `json:"gate,omitempty"`
	Held   string            `json:"held,omitempty"` // since when
}

// hostHere shows the keys of this host's TPM.
func (a *app) hostHere(cmd *cobra.Command) error {
	tpm, err := attester.Open(cmd.Context(), a.tpm)
	if err != nil {
		return err
	}
	defer tpm.Close()
	eks, err := tpm.EKs(cmd.Context())
	if err != nil {
		return err
	}
	public, err := tpm.AK(cmd.Context())
	if err != nil {
		return err
	}
	name, err := attest.Name(public)
	if err != nil {
		return err
	}
	var views []ekView
	text := fmt.Sprintf("AK  %s\n", hex.EncodeToString(name))
	for _, ek := range eks {
		digest := ek.Digest()
		v := ekView{ek.Kind.String(), hex.EncodeToString(digest[:]), ek.Cert != nil}
		views = append(views, v)
		text += fmt.Sprintf("EK  %s  %s, certificate: %v\n", v.Digest, v.Kind, v.Certificate)
	}
	return a.print(cmd, map[string]any{"ak": hex.EncodeToString(name), "eks": views}, text)
}

func (a *app) hostApprove() *cobra.Command {
	var f actFlags
	var id, ek, gateURI string
	var labels, personal []string
	var listed bool
	cmd := &cobra.Command{
		Use:   "approve",
		Short: "Sign the enrolment of a host: its id, its labels and its EK (role enrolment)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			digest, err := hex.DecodeString(ek)
			if err != nil || len(digest) != 32 {
				return misuse("--ek wants the 64 hexadecimal digits that \"writ host status\" shows")
			}
			h := &record.Host{EK: digest, Labels: map[string]string{}, Gate: gateURI, Listed: listed}
			for _, l := range labels {
				k, v, ok := strings.Cut(l, "=")
				if !ok || k == "" {
					return misuse("--label wants NAME=VALUE")
				}
				h.Labels[k] = v
			}
			return a.enrolment(cmd, &f, personal, &record.Enrolment{ID: id, Host: h})
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&id, "id", "", "URI of the host")
	cmd.Flags().StringVar(&ek, "ek", "", "SHA-256 of the EK, as \"writ host status\" shows it on the host")
	cmd.Flags().StringArrayVar(&labels, "label", nil, "NAME=VALUE, for policies; repeat")
	cmd.Flags().StringVar(&gateURI, "gate", "", "URI (audience) of the gate on this host, if it has one")
	cmd.Flags().BoolVar(&listed, "listed", false, "trust this EK by this signature alone, without a vendor's certificate")
	addPersonal(cmd, &personal)
	_ = cmd.MarkFlagRequired("id")
	_ = cmd.MarkFlagRequired("ek")
	return cmd
}

func (a *app) hostEnroll() *cobra.Command {
	var ekKind, gateState string
	var intermediates []string
	cmd := &cobra.Command{
		Use:   "enroll",
		Short: "Prove to the issuer that this TPM holds the AK and the EK that authorities have approved",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			kind, ok := map[string]attester.EKKind{"": 0, "rsa": attester.EKRSA2048, "p256": attester.EKP256, "p384": attester.EKP384}[ekKind]
			if !ok {
				return misuse("--ek-kind is rsa, p256 or p384")
			}
			certs, err := readCerts(intermediates)
			if err != nil {
				return err
			}
			return a.enroll(cmd, attester.EnrolOptions{EK: kind, Intermediates: certs, Gate: gateState != ""}, gateState)
		},
	}
	cmd.Flags().StringVar(&ekKind, "ek-kind", "", "which endorsement key: rsa, p256 or p384; default the first one")
	cmd.Flags().StringArrayVar(&intermediates, "intermediate", nil, "PEM file with certificates between the EK certificate and the vendor's root; repeat")
	cmd.Flags().StringVar(&gateState, "gate-state", "", "also make a gate key, and the state directory of writ-gate here")
	return cmd
}

func (a *app) enroll(cmd *cobra.Command, o attester.EnrolOptions, gateState string) error {
	if gateState != "" {
		if err := gate.Reserve(gateState); err != nil {
			return err
		}
	}
	ctx := cmd.Context()
	c, err := a.client()
	if err != nil {
		return err
	}
	tpm, err := attester.Open(ctx, a.tpm)
	if err != nil {
		return err
	}
	defer tpm.Close()
	e, err := tpm.Enrol(ctx, o)
	if err != nil {
		return err
	}
	session, err := c.Dial(ctx)
	if err != nil {
		return err
	}
	defer session.Close()
	cred, err := session.BeginEnrolment(ctx, e.Request)
	if err != nil {
		return err
	}
	secret, err := tpm.Activate(ctx, e.EK.Kind, attest.Credential{Blob: cred.Blob, Secret: cred.Secret})
	if err != nil {
		return err
	}
	raw, err := session.FinishEnrolment(ctx, secret)
	if err != nil {
		return err
	}
	if gateState != "" {
		if err := gate.Init(gateState, e.Gate); err != nil {
			return err
		}
	}
	return a.showEnrolled(cmd, raw, gateState)
}

// showEnrolled prints the record that the issuer logged. It is not verified here: a host need not trust it.
func (a *app) showEnrolled(cmd *cobra.Command, raw []byte, gateState string) error {
	env, err := statement.Decode(raw, 2*statement.MaxStatement)
	if err != nil {
		return err
	}
	var r record.Record
	if err := statement.Unmarshal(env.Payload(), &r); err != nil {
		return err
	}
	if r.Enrolled == nil {
		return fmt.Errorf("reading the issuer's answer: it is no enrolment record")
	}
	digest := env.Digest()
	text := fmt.Sprintf("enrolled as %s (EK trusted by %s), record %s", r.Enrolled.Host, r.Enrolled.Method, digest)
	if gateState != "" {
		text += fmt.Sprintf("\ngate state made in %s", gateState)
	}
	return a.print(cmd, map[string]string{"host": r.Enrolled.Host, "method": r.Enrolled.Method, "record": digest.String()}, text)
}

// readCerts returns the DER of every certificate in the PEM files, in order.
func readCerts(paths []string) ([][]byte, error) {
	var out [][]byte
	for _, p := range paths {
		data, err := command.ReadFile(p, command.Small)
		if err != nil {
			return nil, fmt.Errorf("reading certificates: %w", err)
		}
		certs := pemBlocks(data, "CERTIFICATE")
		if len(certs) == 0 {
			return nil, misuse("%s holds no PEM certificate", p)
		}
		out = slices.Concat(out, certs)
	}
	return out, nil
}
