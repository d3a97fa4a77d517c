package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/statement"
)

func pemBlocks(data []byte, kind string) [][]byte {
	var out [][]byte
	for {
		var b *pem.Block
		if b, data = pem.Decode(data); b == nil {
			return out
		}
		if b.Type == kind {
			out = append(out, b.Bytes)
		}
	}
}

// requestFlags are what "writ request" takes.
type requestFlags struct {
	initiator, key, host, audience string
	program, interpreter           string
	code                           string
	args, env                      []string
	pinArgs                        bool
	directory                      string
	lifetime, session              time.Duration
	uses, depth                    uint64
	delegations                    []string
	eventLog, imaList              string
	out, cnf, reuse                string
	save, resend                   string
}

func (a *app) requestCommand() *cobra.Command {
	var f requestFlags
	cmd := &cobra.Command{
		Use:   "request --exec PROGRAM [flags] [-- ARG …]",
		Short: "Ask the issuer for an artifact that allows one execution, with this host's fresh evidence",
		Long: `Request takes a challenge from the issuer, makes a confirmation key that the TPM binds to the present PCR values, signs
the request as the initiator, has the TPM quote over challenge, request and connection, and sends it all on one
connection. The artifact comes back with the receipt of its place in the log, or a denial does.

With --reuse-cnf FILE the artifact gets the confirmation key of an earlier one, which the TPM need neither make nor certify
again: it signs one quote and no more. That key must be of this TPM, and bound to the PCRs that the policy names now, which must
have the values that they had then. Whoever sees both artifacts sees that they have one key, and either can be used only by
who holds it.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.args = args
			if !cmd.Flags().Changed("lifetime") {
				var err error
				if f.lifetime, err = within(f.delegations, f.lifetime, time.Now()); err != nil {
					return err
				}
			}
			return a.request(cmd, &f)
		},
	}
	f.addExecution(cmd, 5*time.Minute, "for how long; if not given, no longer than the delegations")
	fl := cmd.Flags()
	fl.StringVar(&f.key, "key", "", "private key of the initiator")
	fl.BoolVar(&f.pinArgs, "pin-args", false, "allow exactly the arguments after --")
	fl.DurationVar(&f.session, "session", 0, "for how long what was started may run; default: until the artifact expires")
	fl.Uint64Var(&f.uses, "uses", 1, "how often")
	fl.Uint64Var(&f.depth, "depth", 0, "how deep the artifact may be delegated (see writ delegate)")
	fl.StringArrayVar(&f.delegations, "delegation", nil, "file of a delegation by the holder of an artifact that this one shall descend from; repeat")
	fl.StringVar(&f.eventLog, "eventlog", attester.BootLogPath, "boot log of the firmware")
	fl.StringVar(&f.imaList, "imalist", attester.IMALogPath, "list of files that Linux measured; read if the policy wants PCR 10")
	fl.StringVarP(&f.out, "out", "o", "artifact.cose", "file of the artifact")
	fl.StringVar(&f.cnf, "cnf", "", "file of the confirmation key; default: the artifact's with .cnf")
	fl.StringVar(&f.reuse, "reuse-cnf", "", "file of a confirmation key of an earlier request, to use it again instead of a new one")
	fl.StringVar(&f.save, "save-request", "", "also write the signed request to this file")
	fl.StringVar(&f.resend, "resend-request", "", "send this signed request again, with the cnf key in --cnf, instead of a new one")
	return cmd
}

// addExecution adds the flags that say what is to run, where, and for whom.
func (f *requestFlags) addExecution(cmd *cobra.Command, lifetime time.Duration, long string) {
	fl := cmd.Flags()
	fl.StringVar(&f.initiator, "initiator", "", "URI of the initiator")
	fl.StringVar(&f.host, "host", "", "URI of the host, as enrolled")
	fl.StringVar(&f.audience, "audience", "", "URI of the gate that will run it")
	fl.StringVar(&f.program, "exec", "", "absolute path of the program")
	fl.StringVar(&f.code, "code", "", "SHA-256 of the program; default: of the file at its path")
	fl.StringVar(&f.interpreter, "interpreter", "", "for a script: absolute path of its interpreter, without symbolic links")
	fl.StringArrayVar(&f.env, "env", nil, "name of an environment variable to pass on; repeat")
	fl.StringVar(&f.directory, "directory", "", "working directory; default /")
	fl.DurationVar(&f.lifetime, "lifetime", lifetime, long)
	_ = cmd.MarkFlagRequired("exec")
}

// named refuses a call in which one of the flags, each with its value, was given neither itself nor by the configuration file.
func named(flags ...[2]string) error {
	for _, f := range flags {
		if f[1] == "" {
			return misuse("give --%s, or name it in the configuration file", f[0])
		}
	}
	return nil
}

func (a *app) request(cmd *cobra.Command, f *requestFlags) error {
	ctx := cmd.Context()
	if f.key == "" {
		f.key = a.file.Key
	}
	if err := named([2]string{"initiator", f.initiator}, [2]string{"key", f.key}, [2]string{"host", f.host}, [2]string{"audience", f.audience}); err != nil {
		return err
	}
	if f.reuse != "" && f.resend != "" {
		return misuse("a request that is sent again names its key: --reuse-cnf is for a new one")
	}
	if f.cnf == "" {
		f.cnf = f.out + ".cnf"
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
	request, cnf, err := f.sign(cmd, m, signer)
	if err != nil {
		return err
	}
	raw, cnf, err := m.mint(ctx, request, cnf, f)
	if err != nil {
		return err
	}
	if err := cnf.Save(f.cnf); err != nil {
		return err
	}
	if err := os.WriteFile(f.out, raw, 0o644); err != nil {
		return fmt.Errorf("writing artifact: %w", err)
	}
	return a.showMinted(cmd, raw, f)
}

// sign makes the confirmation key, or takes the one to use again, and the request that names it.
func (f *requestFlags) sign(cmd *cobra.Command, m *meeting, s statement.Signer) ([]byte, *attester.Key, error) {
	if f.resend != "" {
		request, err := command.ReadFile(f.resend, command.Small)
		if err != nil {
			return nil, nil, fmt.Errorf("reading request: %w", err)
		}
		cnf, err := attester.ReadKey(f.cnf)
		return request, cnf, err
	}
	cnf, err := f.confirmation(cmd, m.tpm, m.challenge)
	if err != nil {
		return nil, nil, err
	}
	public, err := cnf.Verifier()
	if err != nil {
		return nil, nil, err
	}
	claims, err := f.claims(public)
	if err != nil {
		return nil, nil, err
	}
	request, err := artifact.SignRequest(cmd.Context(), s, claims)
	if err == nil && f.save != "" {
		if err := os.WriteFile(f.save, request, 0o600); err != nil {
			return nil, nil, fmt.Errorf("writing request: %w", err)
		}
	}
	return request, cnf, err
}

func (f *requestFlags) confirmation(cmd *cobra.Command, tpm *attester.TPM, ch *wire.Challenge) (*attester.Key, error) {
	if f.reuse != "" {
		return attester.ReadKey(f.reuse)
	}
	return tpm.NewCNF(cmd.Context(), attest.Selection{Bank: ch.Bank, PCRs: ints(ch.Bind)})
}

func (f *requestFlags) claims(cnf statement.Key) (artifact.RequestClaims, error) {
	scope, err := f.scope()
	if err != nil {
		return artifact.RequestClaims{}, err
	}
	id, err := nonce()
	if err != nil {
		return artifact.RequestClaims{}, err
	}
	execution, err := nonce()
	if err != nil {
		return artifact.RequestClaims{}, err
	}
	now, thumb := uint64(time.Now().Unix()), cnf.Thumbprint()
	_, parents, err := readDelegations(f.delegations)
	if err != nil {
		return artifact.RequestClaims{}, err
	}
	return artifact.RequestClaims{Parents: parents, Initiator: f.initiator, Host: f.host, Audience: f.audience, IssuedAt: now, Expires: now + 120, ID: id,
		Confirmation: artifact.Thumbprint{Key: thumb[:]}, Scope: scope, Execution: artifact.Execution{ID: execution},
		Limits: &artifact.Limits{Uses: f.uses, Depth: f.depth, Session: uint64(f.session / time.Second)}, Lifetime: uint64(f.lifetime / time.Second)}, nil
}

// scope returns what is asked for: the program by its digest, and for a script its interpreter too.
func (f *requestFlags) scope() (artifact.Scope, error) {
	code, err := f.digest()
	if err != nil {
		return nil, err
	}
	argv := append([]string{f.program}, f.args...)
	terms := artifact.Terms{Operations: artifact.Execute, Code: []artifact.Digest{code}}
	if f.pinArgs || len(f.args) > 0 {
		d := artifact.ParametersDigest(argv)
		terms.Parameters = &d
	}
	if len(f.env) > 0 || f.directory != "" {
		terms.Constraints = &artifact.Constraints{Env: f.env, Directory: f.directory}
	}
	scope := artifact.Scope{{Target: "file:" + f.program, Terms: terms}}
	if f.interpreter != "" {
		sum, err := hashFile(f.interpreter)
		if err != nil {
			return nil, err
		}
		d := artifact.ParametersDigest(append([]string{f.interpreter, f.program}, f.args...))
		scope = append(scope, artifact.Permission{Target: "file:" + f.interpreter,
			Terms: artifact.Terms{Operations: artifact.Execute, Code: []artifact.Digest{artifact.SHA256Digest(sum)}, Parameters: &d}})
	}
	if f.depth > 0 {
		for i := range scope {
			scope[i].Terms.Operations |= artifact.Delegate
		}
	}
	return scope.Canonical(), nil
}

func (f *requestFlags) digest() (artifact.Digest, error) {
	if !filepath.IsAbs(f.program) {
		return artifact.Digest{}, misuse("--exec wants an absolute path")
	}
	if f.code == "" {
		sum, err := hashFile(f.program)
		return artifact.SHA256Digest(sum), err
	}
	b, err := hex.DecodeString(f.code)
	if err != nil || len(b) != 32 {
		return artifact.Digest{}, misuse("--code wants 64 hexadecimal digits")
	}
	return artifact.SHA256Digest(statement.Digest(b)), nil
}

func hashFile(path string) (d statement.Digest, err error) {
	f, err := os.Open(path)
	if err != nil {
		return d, fmt.Errorf("hashing program: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return d, fmt.Errorf("hashing program: %w", err)
	}
	h.Sum(d[:0])
	return d, nil
}

func ints(in []int64) []int {
	out := make([]int, len(in))
	for i, v := range in {
		out[i] = int(v)
	}
	return out
}

func (a *app) showMinted(cmd *cobra.Command, raw []byte, f *requestFlags) error {
	claims, digest, err := artifact.Inspect(raw)
	if err != nil {
		return err
	}
	expires := time.Unix(int64(claims.Expires), 0).UTC().Format(time.RFC3339)
	view := map[string]any{"artifact": f.out, "cnf": f.cnf, "id": hex.EncodeToString(claims.ID), "digest": digest.String(),
		"bytes": len(raw), "expires": expires, "execution": hex.EncodeToString(claims.Execution.ID)}
	text := fmt.Sprintf("artifact  %s\n          id %x, %d bytes with its receipt\n          statement %s\n          execution %x\n          expires %s\n          scope %s",
		f.out, claims.ID, len(raw), digest, claims.Execution.ID, expires, strings.ReplaceAll(claims.Scope.String(), "\n", "\n                "))
	return a.print(cmd, view, text)
}
