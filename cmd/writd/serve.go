package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/custody"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/issuer/server"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// service is an opened token, log and issuer.
type service struct {
	token  *custody.Group
	log    *tlog.Log
	issuer *issuer.Issuer
}

// open opens the token, then the log with the log key that is in use, then the issuer over both.
func (c *config) open(ctx context.Context) (*service, error) { return c.openRestored(ctx, nil) }

// openRestored opens a log that authorities let go on from a backup; nil: as any.
func (c *config) openRestored(ctx context.Context, restored *tlog.Restored) (*service, error) {
	g, ring, err := c.readKeys(ctx)
	if denial.Is(err, denial.UnsupportedVersion) {
		if err := tlog.Migrate(c.Log); err != nil {
			return nil, err
		}
		g, ring, err = c.readKeys(ctx)
	}
	if err != nil {
		return nil, err
	}
	s := &service{}
	if s.token, err = c.openToken(ctx); err != nil {
		return nil, err
	}
	logKeys := ring.Of(record.PurposeLog) // that in use first: there always is one
	signer, err := issuerToken{s.token}.Signer(ctx, record.PurposeLog, logKeys[0].Thumbprint())
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	if s.log, err = tlog.Open(ctx, tlog.Options{Path: c.Log, Signer: signer, Earlier: logKeys[1:], Issuer: g.Issuer, LogID: g.Log, Restored: restored}); err != nil {
		return nil, errors.Join(err, s.close())
	}
	roots, err := c.roots()
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	s.issuer, err = issuer.Open(ctx, issuer.Options{Log: s.log, Roots: roots, Base: c.URL,
		Token: issuerToken{s.token}})
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

// readKeys reads genesis and the issuer's keys, which have followed from it. Another process may be serving.
func (c *config) readKeys(ctx context.Context) (*record.Genesis, *record.KeyRing, error) {
	view, err := tlog.OpenReadOnly(ctx, c.Log)
	if err != nil {
		return nil, nil, err
	}
	defer view.Close()
	g, _, err := issuer.ReadGenesis(ctx, view)
	if err != nil {
		return nil, nil, err
	}
	ring, err := issuer.ReadKeys(ctx, view)
	return g, ring, err
}

func (s *service) close() error {
	var err error
	if s.log != nil {
		err = s.log.Close()
	}
	return errors.Join(err, s.token.Close())
}

func (s *service) healthy() error { return errors.Join(s.token.Healthy(), s.log.Healthy()) }

func serveCommand(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Serve hosts, gates and authorities",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			return serve(cmd, c)
		},
	}
}

// gcPercent lets the heap grow to five times what is in use, a few hundred MiB, before it is collected: requests leave
// much garbage and little else, and collecting it at Go's default costs a tenth of the issuer's time. GOGC overrides it.
const gcPercent = 400

func serve(cmd *cobra.Command, c *config) (err error) {
	if err := custody.Harden(); err != nil { // the TLS key and challenges are in this process
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	cert, err := loadTLS(c)
	if err != nil {
		return err
	}
	s, err := c.open(cmd.Context())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := c.anchor(cmd.Context(), s.log); err != nil {
		return err
	}
	publisher, err := c.publisher(cmd.Context(), s)
	if err != nil {
		return err
	}
	public, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	admin, err := listenAdmin(c.AdminSocket)
	if err != nil {
		return errors.Join(err, public.Close())
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	srv := server.New(server.Options{Issuer: s.issuer, Certificate: cert, Logger: log, Health: s.healthy, Maker: issuerToken{s.token},
		Publisher: publisher, PublicEntries: c.PublicEntries, Limits: server.Limits{
			Connections: c.Limits.Connections, PeerConnections: c.Limits.PeerConnections, Rate: c.Limits.Rate, PeerRate: c.Limits.PeerRate}})
	log.Info("serving", "address", public.Addr().String(), "issuer", s.issuer.Genesis().Issuer, "entries", s.log.Head().Size)
	tellEpoch(s.issuer.Epoch(), time.Now(), log)
	ctx, stop := context.WithCancel(cmd.Context())
	var upkeep sync.WaitGroup
	upkeep.Go(func() { c.upkeep(ctx, s, publisher, log) })
	err = c.besideConsole(ctx, s, publisher, log, func(ctx context.Context) error { return srv.Serve(ctx, public, admin) })
	stop()
	upkeep.Wait()
	return err
}

// listenAdmin makes the admin socket, which only the owner of the process can use.
func listenAdmin(path string) (net.Listener, error) {
	if path == "" {
		return nil, nil
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("listening on %s: another writd is there", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("listening on admin socket: %w", err)
	}
	mask := syscall.Umask(0o177) // the socket is nobody else's from its first moment
	l, err := net.Listen("unix", path)
	syscall.Umask(mask)
	if err != nil {
		return nil, fmt.Errorf("listening on admin socket: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("closing admin socket to others: %w", err), l.Close())
	}
	return l, nil
}

func trustCommand(path *string) *cobra.Command {
	var audience string
	var version uint64
	cmd := &cobra.Command{
		Use:   "trust",
		Short: "Print the trust file that relying parties and auditors pin",
		Long: `Trust prints what a relying party or an auditor needs to believe this issuer: the digest of genesis, the keys, and
the policies in force as the least accepted versions. It must reach them by a way that they trust; it is not fetched.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			return printTrust(cmd, c, audience, version)
		},
	}
	cmd.Flags().StringVar(&audience, "audience", "", "pin the file to one gate")
	cmd.Flags().Uint64Var(&version, "file-version", 1, "version of the file; raise it with every change")
	return cmd
}

func printTrust(cmd *cobra.Command, c *config, audience string, version uint64) error {
	view, err := tlog.OpenReadOnly(cmd.Context(), c.Log)
	if err != nil {
		return err
	}
	defer view.Close()
	g, act, err := issuer.ReadGenesis(cmd.Context(), view)
	if err != nil {
		return err
	}
	env, err := statement.Decode(act[0], statement.MaxStatement)
	if err != nil {
		return err
	}
	t := &artifact.Trust{Version: version, Expires: time.Now().Add(expiry).Truncate(time.Second).UTC(), Genesis: statement.DigestOf(env.Payload()),
		Issuer: g.Issuer, Log: g.Log, OnePerson: g.OnePerson, Audience: audience, RevocationAge: artifact.DefaultRevocationAge, Lifetime: artifact.DefaultLifetime}
	ring, err := issuer.ReadKeys(cmd.Context(), view)
	if err != nil {
		return err
	}
	t.PinKeys(ring)
	for _, kind := range []record.PolicyKind{record.Appraisal, record.Authorization} {
		id, version, err := issuer.PolicyVersion(cmd.Context(), view, kind)
		if err != nil {
			return err
		}
		t.Policies = append(t.Policies, artifact.Pin{ID: id, MinVersion: version})
	}
	for _, path := range c.TPMRoots {
		data, err := command.ReadFile(path, command.Small)
		if err != nil {
			return fmt.Errorf("reading TPM roots: %w", err)
		}
		t.TPMRoots = append(t.TPMRoots, artifact.TPMRoot{PEM: string(data)})
	}
	data, err := t.Marshal()
	if err != nil {
		return err
	}
	_, err = cmd.OutOrStdout().Write(data)
	return err
}
