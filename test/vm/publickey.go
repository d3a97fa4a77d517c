package vm

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// publicPEM returns the key of a TPM2B_PUBLIC as PEM.
func publicPEM(public []byte) ([]byte, error) {
	p, err := tpm2.Unmarshal[tpm2.TPM2BPublic](public)
	if err != nil {
		return nil, fmt.Errorf("reading AK: %w", err)
	}
	area, err := p.Contents()
	if err != nil {
		return nil, fmt.Errorf("reading AK: %w", err)
	}
	key, err := tpm2.Pub(*area)
	if err != nil {
		return nil, fmt.Errorf("reading AK: %w", err)
	}
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding AK: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}
