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
		Use:   "ekcert FILE...",
		Short: "Explain certificates of endorsement keys (DER or PEM)",
		Long: `Ekcert shows one certificate, or with more than one file a list of them, and refuses what TCG's profile does not take for
the certificate of an endorsement key. It does not check who signed them.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			view, list := &sheet{}, []*sheet{}
			view.put("verified", false)
			var refusal error
			for _, path := range args {
				data, err := readInput(path)
				if err != nil {
					return err
				}
				s, err := explainEKCert(data)
				if refusal == nil {
					refusal = err
				}
				list = append(list, s)
			}
			if len(list) == 1 {
				view.rows = append(view.rows, list[0].rows...)
			} else {
				view.put("certificates", list)
			}
			return a.showDenied(cmd, view, unverified+"\n"+view.String(), refusal)
		},
	}
}

// explainEKCert shows one certificate. TPMs leave padding behind theirs, which is cut off and counted. The error is why it is
// none of an endorsement key; the sheet is there either way.
func explainEKCert(data []byte) (*sheet, error) {
	s := &sheet{}
	cert, err := s.putCertificate(data)
	if err != nil {
		return s, putVerdict(s, "unreadable", err)
	}
	d, err := attest.ReadDevice(cert)
	s.put("ek_profile", err == nil)
	if err != nil {
		return s, putVerdict(s, "inconsistent", err)
	}
	s.put("tpm_manufacturer", d.Manufacturer)
	s.put("tpm_model", d.Model)
	s.put("tpm_version", d.Version)
	return s, putVerdict(s, "consistent", nil)
}

func (s *sheet) putCertificate(data []byte) (*x509.Certificate, error) {
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
	return cert, nil
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
