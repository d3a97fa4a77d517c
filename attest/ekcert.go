package attest

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
)

// Object identifiers of TCG (EK Credential Profile, section 3; 2.23.133 = tcg) and of X.509.
var (
	oidEKCertificate = asn1.ObjectIdentifier{2, 23, 133, 8, 1} // tcg-kp-EKCertificate
	oidAKCertificate = asn1.ObjectIdentifier{2, 23, 133, 8, 3} // tcg-kp-AIKCertificate
	oidManufacturer  = asn1.ObjectIdentifier{2, 23, 133, 2, 1} // tcg-at-tpmManufacturer
	oidModel         = asn1.ObjectIdentifier{2, 23, 133, 2, 2} // tcg-at-tpmModel
	oidVersion       = asn1.ObjectIdentifier{2, 23, 133, 2, 3} // tcg-at-tpmVersion
	oidSAN           = asn1.ObjectIdentifier{2, 5, 29, 17}

	oidSubjectAttributes = asn1.ObjectIdentifier{2, 5, 29, 9} // subjectDirectoryAttributes (RFC 5280, section 4.2.1.8)
)

// Device is what an EK certificate says about its TPM, in the words of the vendor.
type Device struct {
	Subject      string // subject of the certificate, often empty
	Serial       string // serial number of the certificate, decimal
	Manufacturer string // such as "id:494E5443"
	Model        string
	Version      string // firmware version, such as "id:00010002"
}

// checkChain checks an EK certificate, in this order: there is one and it parses (321); it is not an AK certificate, for
// which this version has no path (318); it holds the EK (320); it names the purpose EK certificate, is not a CA, may not
// sign certificates, may be encrypted to, and its subject alternative name is a TPM's (321); no other critical extension
// is unknown (321); it leads to a pinned root, and no list of the rules revokes anything on the way (see Rules.path); no
// firmware that the rules deny made it (620).
func checkChain(chain [][]byte, ek *tpm2.TPMTPublic, o EnrolOptions) (Device, error) {
	if len(chain) == 0 || len(o.Roots) == 0 || o.Now.IsZero() {
		return Device{}, denial.New(denial.EKUntrusted, "there is no EK certificate, or no root to check it with")
	}
	leaf, err := readCertificate(chain[0])
	if err != nil {
		return Device{}, err
	}
	if slices.ContainsFunc(leaf.UnknownExtKeyUsage, oidAKCertificate.Equal) {
		return Device{}, denial.New(denial.AKUntrusted, "a certificate of an AK does not replace activation")
	}
	if !sameKey(leaf.PublicKey, ek) {
		return Device{}, denial.New(denial.AKSubstituted, "the EK certificate is for another key")
	}
	device, err := checkProfile(leaf)
	if err != nil {
		return Device{}, err
	}
	if _, err := o.Rules.path(leaf, chain[1:], o.Roots, o.Now); err != nil {
		return Device{}, err
	}
	return device, o.Rules.checkFirmware(device)
}

// ExplainCertificate checks an EK certificate for people, as far as that goes without the EK that it should be for: as
// checkChain does but for 318 and 320, and after the profile that its key is one that an EK may have (322). It returns what
// the certificate says about its TPM, and the way to a root, as far as it came to each.
func ExplainCertificate(leaf *x509.Certificate, o EnrolOptions) (d Device, way []*x509.Certificate, err error) {
	if d, err = checkProfile(leaf); err != nil {
		return d, nil, err
	}
	if !strongKey(leaf.PublicKey) || weakModulus(leaf.PublicKey) {
		return d, nil, denial.New(denial.EKWeak, "the EK is %v, or one that anybody can factor", errWeakKey)
	}
	if way, err = o.Rules.path(leaf, nil, o.Roots, o.Now); err != nil {
		return d, nil, err
	}
	return d, way, o.Rules.checkFirmware(d)
}

// sameKey reports whether a certificate's key is the EK.
func sameKey(certified any, ek *tpm2.TPMTPublic) bool {
	key, err := publicKey(ek)
	equaler, ok := key.(interface{ Equal(crypto.PublicKey) bool })
	return err == nil && ok && equaler.Equal(certified)
}

// checkProfile checks the leaf against the TCG EK Credential Profile and marks its subject alternative name as handled.
func checkProfile(leaf *x509.Certificate) (Device, error) {
	if !slices.ContainsFunc(leaf.UnknownExtKeyUsage, oidEKCertificate.Equal) {
		return Device{}, denial.New(denial.EKUntrusted, "the certificate is not for an EK")
	}
	if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 {
		return Device{}, denial.New(denial.EKUntrusted, "the EK certificate is one of a CA")
	}
	// EK Credential Profile, section "Key Usage": keyEncipherment for RSA, keyAgreement for ECC.
	if use := leaf.KeyUsage; use != 0 && use&(x509.KeyUsageKeyEncipherment|x509.KeyUsageKeyAgreement) == 0 {
		return Device{}, denial.New(denial.EKUntrusted, "the EK certificate is for a key that signs")
	}
	device, ok := deviceOf(leaf)
	if !ok {
		return Device{}, denial.New(denial.EKUntrusted, "the EK certificate does not name a TPM")
	}
	// x509 leaves to us what it does not read: a name that holds only a directory name, which deviceOf has read, and the
	// specification that the TPM follows, which allows nothing.
	leaf.UnhandledCriticalExtensions = slices.DeleteFunc(leaf.UnhandledCriticalExtensions, func(id asn1.ObjectIdentifier) bool {
		return id.Equal(oidSAN) || id.Equal(oidSubjectAttributes) && readableAttributes(leaf)
	})
	return device, nil
}

// deviceOf reads the directory name in the subject alternative name: manufacturer, model and version, each once.
func deviceOf(leaf *x509.Certificate) (Device, bool) {
	d := Device{Subject: leaf.Subject.String(), Serial: leaf.SerialNumber.String()}
	for _, ext := range leaf.Extensions {
		if !ext.Id.Equal(oidSAN) {
			continue
		}
		for _, attr := range directoryName(ext.Value) {
			value, _ := attr.Value.(string)
			field := d.field(attr.Type)
			if field == nil {
				continue
			}
			if *field != "" || value == "" {
				return Device{}, false
			}
			*field = value
		}
	}
	return d, d.Manufacturer != "" && d.Model != "" && d.Version != ""
}

// readableAttributes reports whether the subject directory attributes of a certificate decode as such.
func readableAttributes(leaf *x509.Certificate) bool {
	for _, ext := range leaf.Extensions {
		if !ext.Id.Equal(oidSubjectAttributes) {
			continue
		}
		var attributes []struct {
			Type   asn1.ObjectIdentifier
			Values []asn1.RawValue `asn1:"set"`
		}
		rest, err := asn1.Unmarshal(ext.Value, &attributes)
		return err == nil && len(rest) == 0 && len(attributes) > 0
	}
	return false
}

func (d *Device) field(oid asn1.ObjectIdentifier) *string {
	switch {
	case oid.Equal(oidManufacturer):
		return &d.Manufacturer
	case oid.Equal(oidModel):
		return &d.Model
	case oid.Equal(oidVersion):
		return &d.Version
	}
	return nil
}

// directoryName returns the attributes of all directory names (tag 4, explicit) among encoded GeneralNames.
func directoryName(der []byte) []pkix.AttributeTypeAndValue {
	var names []asn1.RawValue
	if rest, err := asn1.Unmarshal(der, &names); err != nil || len(rest) > 0 {
		return nil
	}
	var attrs []pkix.AttributeTypeAndValue
	for _, n := range names {
		var rdns pkix.RDNSequence
		if n.Class != asn1.ClassContextSpecific || n.Tag != 4 {
			continue
		}
		if rest, err := asn1.Unmarshal(n.Bytes, &rdns); err != nil || len(rest) > 0 {
			return nil
		}
		for _, rdn := range rdns {
			attrs = append(attrs, rdn...)
		}
	}
	return attrs
}
