package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/console"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/settings"
	"github.com/governed-execution/writ/witness"
)

// consoleConfig says where the pages for people are served. Who can change it can let others read the log; nobody can
// change anything by way of the console.
type consoleConfig struct {
	Listen   string `toml:"listen"`    // address and port; default none: there is no console
	TLSCert  string `toml:"tls_cert"`  // PEM chain
	TLSKey   string `toml:"tls_key"`   // PEM key, readable by the owner alone
	ClientCA string `toml:"client_ca"` // PEM certificates of the CAs of the readers' certificates
	Readers  string `toml:"readers"`   // TOML file: who may read what; read again for each page

	SignIn signInConfig `toml:"oidc"` // a second listener, on which readers sign in; default none
}

// signInConfig says by whose word readers sign in with OpenID Connect.
type signInConfig struct {
	Listen    string `toml:"listen"`    // address and port; default none
	Address   string `toml:"address"`   // https origin by which browsers reach it; the provider sends back to its /signin
	Issuer    string `toml:"issuer"`    // of the provider
	ClientID  string `toml:"client_id"` // that the provider gave the console
	Authorize string `toml:"authorize"` // the provider's authorization endpoint
	Keys      string `toml:"keys"`      // file: the provider's JSON Web Key Set; read again for each sign-in
	Bearer    bool   `toml:"bearer"`    // also take ID tokens that a proxy sends with each request; default no
}

// readersFile is the file that consoleConfig.Readers names.
type readersFile struct {
	Reader []struct {
		Name  string         `toml:"name"`
		SPKI  string         `toml:"spki"` // SHA-256 of the certificate's SubjectPublicKeyInfo, in hexadecimal
		Iss   string         `toml:"iss"`  // issuer and subject of ID tokens
		Sub   string         `toml:"sub"`
		Roles []console.Role `toml:"roles"`
	} `toml:"reader"`
}

// readReaders reads and checks the list of readers: unknown keys are an error.
func readReaders(path string) ([]console.Reader, error) {
	data, err := command.ReadFile(path, command.Small)
	if err != nil {
		return nil, fmt.Errorf("reading readers: %w", err)
	}
	var f readersFile
	if err := settings.Decode(data, &f); err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", errMisuse, path, err)
	}
	var readers []console.Reader
	for _, r := range f.Reader {
		one := console.Reader{Name: r.Name, Issuer: r.Iss, Subject: r.Sub, Roles: r.Roles}
		if key, err := hex.DecodeString(r.SPKI); r.SPKI != "" && (err != nil || copy(one.SPKI[:], key) != len(key) || len(key) != 32) {
			return nil, fmt.Errorf("%w: reading %s: the spki of %q is not a SHA-256 in hexadecimal", errMisuse, path, r.Name)
		}
		readers = append(readers, one)
	}
	return readers, console.CheckReaders(readers)
}

// clientCAs reads the certificates of the readers' CAs.
func (c *consoleConfig) clientCAs() (cas []*x509.Certificate, err error) {
	data, err := command.ReadFile(c.ClientCA, command.Small)
	if err != nil {
		return nil, fmt.Errorf("reading client CA: %w", err)
	}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("reading client CA in %s: %w", c.ClientCA, err)
		}
		cas = append(cas, cert)
	}
	return cas, nil
}

// entrance is a console and where it listens.
type entrance struct {
	pages  *console.Console
	listen string
}

// openConsole makes the consoles that the configuration asks for: for readers with certificates, and for those who sign in.
func (c *config) openConsole(s *service, p *witness.Publisher, log *slog.Logger) (all []entrance, err error) {
	if c.Console.Listen == "" && c.Console.SignIn.Listen == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.Console.TLSCert, c.Console.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("reading TLS certificate and key of the console: %w", err)
	}
	if _, err := readReaders(c.Console.Readers); err != nil {
		return nil, err
	}
	o := console.Options{Log: s.log, Index: s.issuer, Head: func() receipt.Head { return s.log.Head().Head }, Genesis: s.issuer.Genesis(), Keys: s.issuer.KeyRing,
		Health: s.healthy, Counts: s.issuer.Counts, Witnessed: p, Scrubbed: s.log.Scrubbed, Certificate: cert, Logger: log,
		BreakGlass: func(ctx context.Context) (console.BreakGlass, error) {
			b, err := s.issuer.BreakGlass(ctx)
			return console.BreakGlass{Published: b.Published, Used: b.Used, Open: b.Open, Overdue: b.Overdue}, err
		},
		Readers: func() ([]console.Reader, error) { return readReaders(c.Console.Readers) }}
	if c.Console.Listen != "" {
		if all, err = c.withCertificates(o); err != nil {
			return nil, err
		}
	}
	if c.Console.SignIn.Listen != "" {
		if o.SignIn, err = c.Console.SignIn.open(); err != nil {
			return nil, err
		}
		pages, err := console.New(o)
		if err != nil {
			return nil, err
		}
		all = append(all, entrance{pages, c.Console.SignIn.Listen})
	}
	return all, nil
}

func (c *config) withCertificates(o console.Options) (all []entrance, err error) {
	if o.ClientCAs, err = c.Console.clientCAs(); err != nil {
		return nil, err
	}
	pages, err := console.New(o)
	return []entrance{{pages, c.Console.Listen}}, err
}

// open reads the keys once, so that a console that nobody could sign in to does not start.
func (c *signInConfig) open() (*console.SignIn, error) {
	o := &console.SignIn{Issuer: c.Issuer, Client: c.ClientID, Authorize: c.Authorize, Address: c.Address, Bearer: c.Bearer,
		Keys: func() ([]byte, error) { return command.ReadFile(c.Keys, command.Small) }}
	if err := o.Check(); err != nil {
		return nil, fmt.Errorf("%w: console.oidc: %w", errMisuse, err)
	}
	return o, nil
}

// besideConsole runs serve, and the consoles beside it until serve has ended. If one ends before, so does serve.
func (c *config) besideConsole(ctx context.Context, s *service, p *witness.Publisher, log *slog.Logger, serve func(context.Context) error) error {
	entrances, err := c.openConsole(s, p, log)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, len(entrances))
	running := 0
	for _, e := range entrances {
		l, err := net.Listen("tcp", e.listen)
		if err != nil {
			stop()
			return errors.Join(fmt.Errorf("listening for the console: %w", err), drain(ended, running))
		}
		log.Info("console", "address", l.Addr().String())
		running++
		go func() {
			defer stop()
			ended <- e.pages.Serve(ctx, l)
		}()
	}
	err = serve(ctx)
	stop()
	return errors.Join(err, drain(ended, running))
}

// drain waits for so many to end.
func drain(ended <-chan error, n int) (err error) {
	for range n {
		err = errors.Join(err, <-ended)
	}
	return err
}
