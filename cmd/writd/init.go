package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/custody"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

type initFlags struct {
	issuer, draft, genesis string
	ceremony               string
	authorities            []string
	threshold, narrow      uint64
	roles                  []string
	onePerson, selfSigned  bool
}

func initCommand(path *string) *cobra.Command {
	var f initFlags
	cmd := &cobra.Command{
		Use:   "init",
		Short: "Make the keys on the token, draft the genesis statement, and start the log with it",
		Long: `Init has two steps, because people sign in between.

First, writd init --issuer URI --authority PERSON=KEY.pub … --draft FILE makes one key for each purpose on the token and
writes a draft of the genesis statement. Every person has every role but break-glass, unless --role says otherwise: root, policy
and keys take two distinct persons at least, break-glass two and a third who can review. The authorities sign it with "writ sign".
Then writd init --genesis FILE
verifies the signatures and the keys, and makes the log with genesis as leaf 0 and the birth of each key after it.

With --ceremony SCRIPT.toml in both steps the keys are those of a key ceremony that is complete (writd ceremony), and each birth
in the log says so.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			if (f.draft == "") == (f.genesis == "") {
				return fmt.Errorf("%w: give either --draft or --genesis", errMisuse)
			}
			if f.draft != "" {
				return draftGenesis(cmd, c, f)
			}
			return startLog(cmd, c, f)
		},
	}
	cmd.Flags().StringVar(&f.issuer, "issuer", "", "URI that names the issuer")
	cmd.Flags().StringArrayVar(&f.authorities, "authority", nil, "PERSON=FILE: the URI of a person and the person's public key (PEM); repeat")
	cmd.Flags().Uint64Var(&f.threshold, "threshold", 2, "how many distinct persons must sign in each role; one may revoke")
	cmd.Flags().StringArrayVar(&f.roles, "role", nil, "ROLE=THRESHOLD[:PERSON,…]: another threshold, or only some persons, for root, policy, enrolment, revocation or keys; break-glass is a role only if it is named here")
	cmd.Flags().Uint64Var(&f.narrow, "narrow", 0, "how many may publish a policy that only narrows the one in force; 0: as many as any other")
	cmd.Flags().BoolVar(&f.onePerson, "one-person", false, "there is one authority and no dual control; genesis and trust files say so")
	cmd.Flags().StringVar(&f.draft, "draft", "", "write the draft of the genesis statement to this file")
	cmd.Flags().StringVar(&f.genesis, "genesis", "", "start the log with this signed genesis")
	cmd.Flags().StringVar(&f.ceremony, "ceremony", "", "the keys are those that were made by this script")
	cmd.Flags().BoolVar(&f.selfSigned, "self-signed-tls", false, "also make tls_cert and tls_key where they are missing")
	return cmd
}

func draftGenesis(cmd *cobra.Command, c *config, f initFlags) error {
	g := &record.Genesis{Version: record.Version, Issuer: f.issuer, Log: f.issuer + "/log", Time: uint64(time.Now().Unix()),
		Epoch: make([]byte, 16), Keys: map[string]statement.Key{}, Quorums: map[record.Role]record.Quorum{}, Roots: [][]byte{}}
	if _, err := rand.Read(g.Epoch); err != nil {
		return fmt.Errorf("making epoch: %w", err)
	}
	if err := addAuthorities(g, f); err != nil {
		return err
	}
	if err := g.CheckPlan(); err != nil { // before a key is made for nothing
		return err
	}
	roots, err := c.roots()
	if err != nil {
		return err
	}
	for _, r := range roots {
		sum := sha256.Sum256(r.Raw)
		g.Roots = append(g.Roots, sum[:])
	}
	token, err := c.openToken(cmd.Context())
	if err != nil {
		return err
	}
	defer token.Close()
	if err := makeKeys(cmd, token.Active(), g, f.ceremony, c.Token.Token); err != nil {
		return err
	}
	if err := g.Check(); err != nil {
		return err
	}
	if f.selfSigned {
		if err := selfSign(c); err != nil {
			return err
		}
	}
	return writeDraft(cmd, g, f.draft)
}

// makeKeys has the token make the keys, or takes those of a ceremony, which the token must have.
func makeKeys(cmd *cobra.Command, token *custody.Process, g *record.Genesis, script, tokenName string) error {
	if script != "" {
		born, err := ceremonyBirths(cmd.Context(), token, script, g.Issuer, record.Purposes()...)
		for _, b := range born {
			g.Keys[b.Purpose] = b.Key
			fmt.Fprintf(cmd.OutOrStdout(), "%-9s key %s born in the ceremony of %s\n", b.Purpose, b.Key.Thumbprint(), script)
		}
		return err
	}
	for _, p := range hsm.Purposes() {
		key, err := token.Create(cmd.Context(), p)
		if denial.Is(err, denial.HSMKeyPolicy) {
			return denial.Of(err).Try("Sign the draft that names the keys of the token. If it is lost, and no log names them, delete them with the token's own tool.")
		}
		if err != nil {
			return fmt.Errorf("making %s key: %w", p, err)
		}
		g.Keys[p.String()] = key
		fmt.Fprintf(cmd.OutOrStdout(), "%-9s key %s made on token %q\n", p, key.Thumbprint(), tokenName)
	}
	return nil
}

func writeDraft(cmd *cobra.Command, g *record.Genesis, path string) error {
	payload, err := statement.Marshal(g)
	if err != nil {
		return err
	}
	draft, err := record.Draft{Kind: statement.Genesis.String(), Issuer: g.Issuer, Subject: g.Log, Payload: payload}.Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, draft, 0o644); err != nil {
		return fmt.Errorf("writing draft: %w", err)
	}
	fmt.Fprintf(cmd.OutOrStdout(), "genesis   %s drafted in %s\n", statement.DigestOf(payload), path)
	if len(g.Roots) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), `note: tpm_roots is empty: no TPM vendor is believed. Until "writ roots publish" only hosts enrol that authorities approve with --listed`)
	}
	return nil
}

func addAuthorities(g *record.Genesis, f initFlags) error {
	var persons []string
	var err error
	if g.Authorities, err = readAuthorities("--authority", f.authorities); err != nil {
		return err
	}
	for _, a := range g.Authorities {
		if !slices.Contains(persons, a.Person) {
			persons = append(persons, a.Person)
		}
	}
	if g.OnePerson = f.onePerson; f.onePerson {
		f.threshold = 1
	}
	for _, role := range record.Roles() {
		q := record.Quorum{Threshold: f.threshold, Persons: persons}
		if role == record.RoleRevocation {
			q.Threshold = 1
		}
		g.Quorums[role] = q
	}
	for _, r := range f.roles {
		role, q, err := parseRole(r, persons)
		if err != nil {
			return err
		}
		g.Quorums[role] = q
	}
	policy := g.Quorums[record.RolePolicy]
	policy.Narrow = f.narrow
	g.Quorums[record.RolePolicy] = policy
	return nil
}

// readAuthorities reads PERSON=FILE, as often as a flag was given.
func readAuthorities(flag string, given []string) (all []record.Authority, err error) {
	for _, a := range given {
		person, file, ok := strings.Cut(a, "=")
		if !ok {
			return nil, fmt.Errorf("%w: %s wants PERSON=FILE", errMisuse, flag)
		}
		data, err := command.ReadFile(file, command.Small)
		if err != nil {
			return nil, fmt.Errorf("reading authority key: %w", err)
		}
		key, err := statement.ParsePEM(data)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", file, err)
		}
		all = append(all, record.Authority{Person: person, Key: key})
	}
	return all, nil
}

// parseRole reads ROLE=THRESHOLD or ROLE=THRESHOLD:PERSON,PERSON.
func parseRole(text string, persons []string) (record.Role, record.Quorum, error) {
	name, rest, ok := strings.Cut(text, "=")
	count, some, named := strings.Cut(rest, ":")
	n, err := strconv.ParseUint(count, 10, 64)
	role := record.Role(name)
	if !ok || err != nil || role != record.RoleBreakGlass && !slices.Contains(record.Roles(), role) {
		return "", record.Quorum{}, fmt.Errorf("%w: --role wants ROLE=THRESHOLD or ROLE=THRESHOLD:PERSON,PERSON with a role of %v or %s", errMisuse, record.Roles(), record.RoleBreakGlass)
	}
	if named {
		persons = strings.Split(some, ",")
	}
	return role, record.Quorum{Threshold: n, Persons: persons}, nil
}

// startLog appends genesis and the births to an empty log.
func startLog(cmd *cobra.Command, c *config, f initFlags) error {
	ctx := cmd.Context()
	data, err := command.ReadFile(f.genesis, command.Small)
	if err != nil {
		return fmt.Errorf("reading genesis: %w", err)
	}
	bundle, err := record.ReadAct(data)
	if err != nil {
		return err
	}
	g, act, err := record.VerifyGenesis(bundle, statement.Digest{})
	if err != nil {
		return err
	}
	token, err := c.openToken(ctx)
	if err != nil {
		return err
	}
	defer token.Close()
	keys, err := signers(ctx, token, g.Keys)
	if err != nil {
		return err
	}
	births, err := births(ctx, token, g, f.ceremony)
	if err != nil {
		return err
	}
	log, err := tlog.Open(ctx, tlog.Options{Path: c.Log, Signer: keys[hsm.Log], Issuer: g.Issuer, LogID: g.Log})
	if err != nil {
		return err
	}
	defer log.Close()
	if _, err := issuer.Bootstrap(ctx, log, bundle, keys[hsm.Record], births, time.Now()); err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "genesis   %s signed by %s is leaf 0 of %s\n", act.Digest(), strings.Join(act.Persons(), " and "), g.Log)
	fmt.Fprintf(cmd.OutOrStdout(), "log       %d entries, head signed by the log key\n", log.Head().Size)
	return nil
}

// births reads the attributes of every key back from the token, or takes them from the ceremony in which it was born.
func births(ctx context.Context, token *custody.Group, g *record.Genesis, script string) ([]record.Birth, error) {
	if script != "" {
		born, err := ceremonyBirths(ctx, token.Active(), script, g.Issuer, record.Purposes()...)
		for _, b := range born {
			if !b.Key.Equal(g.Keys[b.Purpose]) {
				return nil, denial.New(denial.HSMKeyPolicy, "genesis names another %s key than was born in the ceremony", b.Purpose)
			}
		}
		return born, err
	}
	var out []record.Birth
	for _, p := range hsm.Purposes() {
		a, err := token.Active().Attributes(ctx, g.Keys[p.String()].Thumbprint())
		if err != nil {
			return nil, err
		}
		out = append(out, a.Birth())
	}
	return out, nil
}

// selfSign makes a TLS certificate for the host in the URL, valid for a year, unless there is one.
func selfSign(c *config) error {
	if _, err := os.Stat(c.TLSCert); err == nil {
		return nil
	}
	u, err := url.Parse(c.URL)
	if err != nil {
		return fmt.Errorf("reading url: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making TLS key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return fmt.Errorf("making TLS certificate: %w", err)
	}
	cert := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "writd " + u.Hostname()},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().AddDate(1, 0, 0), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	if ip := net.ParseIP(u.Hostname()); ip != nil {
		cert.IPAddresses = []net.IP{ip}
	} else {
		cert.DNSNames = []string{u.Hostname()}
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, cert, key.Public(), key)
	if err != nil {
		return fmt.Errorf("making TLS certificate: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("making TLS key: %w", err)
	}
	if err := os.WriteFile(c.TLSKey, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600); err != nil {
		return fmt.Errorf("writing TLS key: %w", err)
	}
	if err := os.WriteFile(c.TLSCert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644); err != nil {
		return fmt.Errorf("writing TLS certificate: %w", err)
	}
	return nil
}

func loadTLS(c *config) (tls.Certificate, error) {
	cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return cert, fmt.Errorf("reading TLS certificate and key: %w", err)
	}
	return cert, nil
}
