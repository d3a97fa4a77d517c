package swtpm

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// manufacture makes the TPM's seeds, EKs and EK certificates (RSA-2048 and ECC P-384). A half-made TPM is not kept.
func (t *TPM) manufacture(ctx context.Context, banks []string) error {
	if len(banks) == 0 {
		banks = []string{"sha256"}
	}
	fresh := t.state() + ".new"
	for _, dir := range []string{fresh, t.ca} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making TPM directory: %w", err)
		}
	}
	config, err := t.configure(banks)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "swtpm_setup", "--tpm2", "--tpm-state", fresh, "--create-ek-cert",
		"--config", config, "--pcr-banks", strings.Join(banks, ","), "--lock-nvram", "--overwrite")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("making TPM: swtpm_setup: %w: %s", err, out[max(0, len(out)-600):])
	}
	if err := os.Rename(fresh, t.state()); err != nil {
		return fmt.Errorf("making TPM: %w", err)
	}
	return nil
}

// configure writes the files of swtpm_setup, all with absolute paths so that nothing of the machine's CA is used.
func (t *TPM) configure(banks []string) (string, error) {
	tool, err := exec.LookPath("swtpm_localca")
	if err != nil {
		return "", fmt.Errorf("looking for swtpm_localca: %w", err)
	}
	setup, localca, options := t.dir+"/setup.conf", t.dir+"/localca.conf", t.dir+"/localca.options"
	files := map[string]string{
		setup: fmt.Sprintf("create_certs_tool = %s\ncreate_certs_tool_config = %s\ncreate_certs_tool_options = %s\nactive_pcr_banks = %s\n",
			tool, localca, options, strings.Join(banks, ",")),
		localca: fmt.Sprintf("statedir = %[1]s\nsigningkey = %[1]s/signkey.pem\nissuercert = %[1]s/issuercert.pem\ncertserial = %[1]s/certserial\n",
			t.ca),
		options: "--tpm-manufacturer id:00001014\n--tpm-model swtpm\n--tpm-version id:20191023\n" +
			"--platform-manufacturer Writ\n--platform-version 1\n--platform-model test\n",
	}
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("writing swtpm configuration: %w", err)
		}
	}
	return setup, nil
}

// Root returns the root certificate of the CA that signed the EK certificates.
func (t *TPM) Root() (*x509.Certificate, error) {
	return readCertificate(filepath.Join(t.ca, "swtpm-localca-rootca-cert.pem"))
}

// Intermediate returns the certificate between Root and the EK certificates. The TPM does not hold it.
func (t *TPM) Intermediate() (*x509.Certificate, error) {
	return readCertificate(filepath.Join(t.ca, "issuercert.pem"))
}

func readCertificate(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading CA certificate: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("reading CA certificate: no PEM block in %s", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing CA certificate: %w", err)
	}
	return cert, nil
}
