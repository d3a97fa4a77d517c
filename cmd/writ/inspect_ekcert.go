package main

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
)

func (a *app) inspectEKCert() *cobra.Command {
	var cas []string
	cmd := &cobra.Command{
		Use:   "ekcert FILE...",
		Short: "Explain certificates of endorsement keys (DER or PEM)",
		Long: `Ekcert shows one certificate, or with more than one file a list of them: whose TPM it is for, with which firmware it was made,
and why an issuer would refuse it. Who signed it is checked with --ca, which takes files and folders of CAs as "writ roots
import" does: then a way to a root is shown, or which issuer is missing. Which roots count, the issuer's authorities say.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			view, list := &sheet{}, []*sheet{}
			view.put("verified", false)
			now := time.Now()
			found, err := findCAs(cas, now)
			if err != nil {
				return err
			}
			var refusal error
			for _, path := range args {
				data, err := readInput(path)
				if err != nil {
					return err
				}
				s, err := explainEKCert(data, found, now)
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
	cmd.Flags().StringArrayVar(&cas, "ca", nil, "file or folder of TPM vendors' CAs; repeat for several")
	return cmd
}

// explainEKCert shows one certificate. TPMs leave padding behind theirs, which is cut off and counted. The error is why it is
// none of an endorsement key, or why an issuer that believes the CAs found would refuse it; the sheet is there either way.
func explainEKCert(data []byte, found *foundCAs, now time.Time) (*sheet, error) {
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
	s.putDevice(d)
	o := attest.EnrolOptions{Now: now}
	for _, c := range found.cas {
		if c.root {
			o.Roots = append(o.Roots, c.cert)
		} else {
			o.Rules.Path = append(o.Rules.Path, c.cert)
		}
	}
	for _, l := range found.lists {
		o.Rules.Lists = append(o.Rules.Lists, l.list)
	}
	_, way, err := attest.ExplainCertificate(cert, o)
	s.putWay(cert, way, found)
	if err != nil && (len(found.cas) > 0 || !denial.Is(err, denial.EKUntrusted)) {
		return s, putVerdict(s, "inconsistent", err)
	}
	return s, putVerdict(s, "consistent", nil)
}

// putDevice shows what the certificate says about its TPM.
func (s *sheet) putDevice(d attest.Device) {
	vendor := d.Manufacturer
	if name := d.VendorName(); name != "" {
		vendor += ", " + name
	}
	s.say("tpm_manufacturer", d.Manufacturer, vendor)
	s.put("tpm_model", d.Model)
	version := d.Version
	if v, ok := attest.FirmwareVersion(d.Version); ok {
		version += fmt.Sprintf(", %d.%d when it was made", v>>16, v&0xffff)
	}
	s.say("tpm_version", d.Version, version)
	advisories := []string{}
	for _, f := range firmwarepolicy.Advisories() {
		if f.Covers(d) {
			advisories = append(advisories, f.Why)
		}
	}
	if len(advisories) > 0 {
		s.say("advisories", advisories, strings.Join(advisories, "\n")+"\n(the firmware may have been updated since; authorities can refuse it with anchors)")
	}
}

// putWay shows the way to a root, or as far as it goes by names which issuer is missing.
func (s *sheet) putWay(cert *x509.Certificate, way []*x509.Certificate, found *foundCAs) {
	if len(way) > 1 {
		var steps []string
		for _, c := range way[1:] {
			steps = append(steps, caText(c))
		}
		s.put("chain", steps)
		return
	}
	last := cert
	for range 8 {
		i := slices.IndexFunc(found.cas, func(c *foundCA) bool { return issued(c.cert, last) })
		if i < 0 {
			break
		}
		if last = found.cas[i].cert; found.cas[i].root {
			return // the names lead to a root: the refusal says what is wrong with them
		}
	}
	s.say("missing_issuer", last.Issuer.String(), last.Issuer.String()+knownByName(last.Issuer.CommonName))
}

// knownByName says which known CAs have a common name, one on a line, unless they are many.
func knownByName(name string) (words string) {
	const few = 4
	count := 0
	for _, k := range firmwarepolicy.KnownCAs() {
		if k.Name == name && name != "" {
			count++
			words += fmt.Sprintf("\nknown: a CA of %s has this name, SHA-256 %s, %s", k.Vendor, k.SHA256, strings.Join(k.Published, ", "))
		}
	}
	if count > few {
		return fmt.Sprintf("\nknown: %d CAs have this name", count)
	}
	return words
}

// caText names a CA, and says whose it is if that is known.
func caText(c *x509.Certificate) string {
	k, ok := firmwarepolicy.LookupCA(c)
	if !ok {
		return fmt.Sprintf("%s, SHA-256 %x, not known to this version", c.Subject, sha256.Sum256(c.Raw))
	}
	return fmt.Sprintf("%s, SHA-256 %s, a known CA of %s", c.Subject, k.SHA256, k.Vendor)
}

func (s *sheet) putCertificate(data []byte) (*x509.Certificate, error) {
	if blocks := pemBlocks(data, "CERTIFICATE"); len(blocks) > 0 {
		data = blocks[0]
	}
	der, behind, err := attest.UnwrapCertificate(data)
	if err != nil {
		return nil, err
	}
	cert, err := x509.ParseCertificate(der)
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
	s.put("sha256", fmt.Sprintf("%x", sha256.Sum256(der)))
	s.put("issuer_certificate", append([]string{}, cert.IssuingCertificateURL...))
	if behind > 0 {
		s.say("padding_bytes", behind, fmt.Sprintf("%d bytes follow the certificate", behind))
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
