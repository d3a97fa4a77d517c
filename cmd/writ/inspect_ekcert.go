package main

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

func (a *app) inspectEKCert() *cobra.Command {
	return &cobra.Command{
		Use:   "ekcert FILE",
		Short: "Explain the certificate of an endorsement key (DER or PEM)",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readInput(args[0])
			if err != nil {
				return err
			}
			s, err := explainEKCert(data)
			if err != nil {
				return err
			}
			return a.show(cmd, s)
		},
	}
}

// explainEKCert shows one certificate. TPMs leave padding behind theirs, which is cut off and counted.
func explainEKCert(data []byte) (*sheet, error) {
	if blocks := pemBlocks(data, "CERTIFICATE"); len(blocks) > 0 {
		data = blocks[0]
	}
	var der asn1.RawValue
	padding, err := asn1.Unmarshal(data, &der)
	if err != nil {
		return nil, denial.New(denial.EKUntrusted, "the file holds no certificate")
	}
	cert, err := x509.ParseCertificate(der.FullBytes)
	if err != nil {
		return nil, denial.New(denial.EKUntrusted, "the certificate cannot be read")
	}
	s := &sheet{}
	s.putText("subject", cert.Subject.String())
	s.put("issuer", cert.Issuer.String())
	s.put("serial", cert.SerialNumber.String())
	s.put("not_before", cert.NotBefore.UTC().Format(time.RFC3339))
	s.put("not_after", cert.NotAfter.UTC().Format(time.RFC3339))
	s.put("key", keyText(cert.PublicKey))
	s.put("signature_algorithm", cert.SignatureAlgorithm.String())
	s.put("sha256", fmt.Sprintf("%x", sha256.Sum256(der.FullBytes)))
	s.put("issuer_certificate", append([]string{}, cert.IssuingCertificateURL...))
	if len(padding) > 0 {
		s.say("padding_bytes", len(padding), fmt.Sprintf("%d bytes follow the certificate", len(padding)))
	}
	putDevice(s, cert)
	return s, nil
}

func putDevice(s *sheet, cert *x509.Certificate) {
	d, err := attest.ReadDevice(cert)
	if err != nil {
		s.say("ek_profile", false, "not as TCG demands of an EK certificate: "+denial.Of(err).Detail)
		return
	}
	s.say("ek_profile", true, "as TCG demands of an EK certificate")
	s.put("tpm_manufacturer", d.Manufacturer)
	s.put("tpm_model", d.Model)
	s.put("tpm_version", d.Version)
}

// keyText names the type and size of a public key.
func keyText(public any) string {
	switch k := public.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA, %d bits", k.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECC, " + k.Curve.Params().Name
	}
	return "of a kind that no TPM has"
}
