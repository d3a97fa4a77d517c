package vm

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"time"
)

// Key is a signing key for Secure Boot: its files are what sbsign wants.
type Key struct {
	Cert    []byte // DER
	CertPEM string // path
	KeyPEM  string // path
}

// NewKey makes a key (RSA-2048, which every firmware can check) with a certificate of its own, in a directory.
func NewKey(dir, name string) (*Key, error) {
	priv, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, fmt.Errorf("making key: %w", err)
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "Writ test " + name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, priv.Public(), priv)
	if err != nil {
		return nil, fmt.Errorf("making certificate: %w", err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, fmt.Errorf("encoding key: %w", err)
	}
	k := &Key{Cert: cert, CertPEM: filepath.Join(dir, name+".crt"), KeyPEM: filepath.Join(dir, name+".key")}
	for path, block := range map[string]*pem.Block{k.CertPEM: {Type: "CERTIFICATE", Bytes: cert}, k.KeyPEM: {Type: "PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			return nil, fmt.Errorf("writing key: %w", err)
		}
	}
	return k, nil
}
