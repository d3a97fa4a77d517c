package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/statement"
)

func (a *app) keyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "key", Short: "Make the key of an authority or an initiator"}
	var alg, out string
	make := &cobra.Command{
		Use:   "new",
		Short: "Make a key pair: FILE, readable by you alone, and FILE.pub",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			key, err := newKey(alg, out)
			if err != nil {
				return err
			}
			return a.print(cmd, map[string]string{"thumbprint": key.Thumbprint().String(), "private": out, "public": out + ".pub"},
				fmt.Sprintf("key %s in %s, public half in %s.pub", key.Thumbprint(), out, out))
		},
	}
	make.Flags().StringVar(&alg, "algorithm", "ed25519", "ed25519 or p256")
	make.Flags().StringVarP(&out, "out", "o", "", "file of the private key; it is not replaced")
	_ = make.MarkFlagRequired("out")
	cmd.AddCommand(make)
	return cmd
}

func newKey(alg, out string) (statement.Key, error) {
	var priv crypto.Signer
	var err error
	switch alg {
	case "ed25519":
		_, priv, err = ed25519.GenerateKey(rand.Reader)
	case "p256":
		priv, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		return statement.Key{}, misuse("--algorithm is ed25519 or p256")
	}
	if err != nil {
		return statement.Key{}, fmt.Errorf("making key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return statement.Key{}, fmt.Errorf("encoding key: %w", err)
	}
	key, err := statement.NewKey(priv.Public())
	if err != nil {
		return statement.Key{}, err
	}
	public, err := key.PEM()
	if err != nil {
		return statement.Key{}, err
	}
	f, err := os.OpenFile(out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return statement.Key{}, fmt.Errorf("writing key: %w", err)
	}
	defer f.Close()
	if err := pem.Encode(f, &pem.Block{Type: "PRIVATE KEY", Bytes: der}); err != nil {
		return statement.Key{}, fmt.Errorf("writing key: %w", err)
	}
	if err := f.Sync(); err != nil {
		return statement.Key{}, fmt.Errorf("writing key: %w", err)
	}
	if err := os.WriteFile(out+".pub", public, 0o644); err != nil {
		return statement.Key{}, fmt.Errorf("writing public key: %w", err)
	}
	return key, nil
}

// readSigner reads a private key that nobody else can read.
func readSigner(path string) (statement.Signer, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	data, err := command.ReadFile(path, command.Small)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	block, rest := pem.Decode(data)
	if block != nil && block.Type == "PUBLIC KEY" {
		return nil, fmt.Errorf("reading key %s: want exactly one PEM block PRIVATE KEY: this is a public key", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("reading key %s: others can read it; run chmod 600", path)
	}
	if block == nil || block.Type != "PRIVATE KEY" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, fmt.Errorf("reading key %s: want exactly one PEM block PRIVATE KEY", path)
	}
	priv, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading key %s: %w", path, err)
	}
	signer, ok := priv.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("reading key %s: not a signing key", path)
	}
	return statement.NewSigner(signer)
}

// readPublic reads a public key (PEM).
func readPublic(path string) (statement.Key, error) {
	data, err := command.ReadFile(path, command.Small)
	if err != nil {
		return statement.Key{}, fmt.Errorf("reading public key: %w", err)
	}
	return statement.ParsePEM(data)
}
