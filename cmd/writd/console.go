package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/pelletier/go-toml/v2"

	"github.com/governed-execution/writ/console"
	"github.com/governed-execution/writ/receipt"
)

// consoleConfig says where the pages for people are served. Who can change it can let others read the log; nobody can
// change anything by way of the console.
type consoleConfig struct {
	Listen   string `toml:"listen"`    // address and port; default none: there is no console
	TLSCert  string `toml:"tls_cert"`  // PEM chain
	TLSKey   string `toml:"tls_key"`   // PEM key, readable by the owner alone
	ClientCA string `toml:"client_ca"` // PEM certificates of the CAs of the readers' certificates
	Readers  string `toml:"readers"`   // TOML file: who may read what; read again for each page
}

// readersFile is the file that consoleConfig.Readers names.
type readersFile struct {
	Reader []struct {
		Name  string         `toml:"name"`
		SPKI  string         `toml:"spki"` // SHA-256 of the certificate's SubjectPublicKeyInfo, in hexadecimal
		Roles []console.Role `toml:"roles"`
	} `toml:"reader"`
}

// readReaders reads and checks the list of readers: unknown keys are an error.
func readReaders(path string) ([]console.Reader, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading readers: %w", err)
	}
	var f readersFile
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&f); err != nil {
		return nil, fmt.Errorf("%w: reading %s: %w", errMisuse, path, position(err))
	}
	var readers []console.Reader
	for _, r := range f.Reader {
		key, err := hex.DecodeString(r.SPKI)
		if err != nil || len(key) != 32 {
			return nil, fmt.Errorf("%w: reading %s: the spki of %q is not a SHA-256 in hexadecimal", errMisuse, path, r.Name)
		}
		readers = append(readers, console.Reader{Name: r.Name, SPKI: [32]byte(key), Roles: r.Roles})
	}
	return readers, console.CheckReaders(readers)
}

// clientCAs reads the certificates of the readers' CAs.
func (c *consoleConfig) clientCAs() (cas []*x509.Certificate, err error) {
	data, err := os.ReadFile(c.ClientCA)
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

// openConsole makes the console that the configuration asks for; nil if it asks for none.
func (c *config) openConsole(s *service, log *slog.Logger) (*console.Console, error) {
	if c.Console.Listen == "" {
		return nil, nil
	}
	cert, err := tls.LoadX509KeyPair(c.Console.TLSCert, c.Console.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("reading TLS certificate and key of the console: %w", err)
	}
	cas, err := c.Console.clientCAs()
	if err != nil {
		return nil, err
	}
	if _, err := readReaders(c.Console.Readers); err != nil {
		return nil, err
	}
	return console.New(console.Options{Log: s.log, Index: s.issuer, Head: func() receipt.Head { return s.log.Head().Head }, Genesis: s.issuer.Genesis(),
		Health: s.healthy, Counts: s.issuer.Counts, Readers: func() ([]console.Reader, error) { return readReaders(c.Console.Readers) },
		Certificate: cert, ClientCAs: cas, Logger: log})
}

// besideConsole runs serve, and the console beside it until serve has ended. If the console ends before, so does serve.
func (c *config) besideConsole(ctx context.Context, s *service, log *slog.Logger, serve func(context.Context) error) error {
	pages, err := c.openConsole(s, log)
	if err != nil {
		return err
	}
	if pages == nil {
		return serve(ctx)
	}
	l, err := net.Listen("tcp", c.Console.Listen)
	if err != nil {
		return fmt.Errorf("listening for the console: %w", err)
	}
	log.Info("console", "address", l.Addr().String())
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() {
		defer stop()
		ended <- pages.Serve(ctx, l)
	}()
	err = serve(ctx)
	stop()
	return errors.Join(err, <-ended)
}
