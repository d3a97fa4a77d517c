package attest

import (
	"encoding/asn1"
	"encoding/binary"

	"github.com/governed-execution/writ/denial"
)

// UnwrapCertificate returns the DER of the certificate in what a TPM's NV index holds, and how many bytes stand behind
// it. NV indices have a fixed size, so vendors fill the rest up, mostly with 0xFF; and some put the certificate into
// TCG's structure for stored certificates (PC Client Implementation, section 7.3.2: tag 0x1001, type 0, size, tag
// 0x1002). It checks that there is one ASN.1 sequence of at most 8 KiB, and no more (321): whether that is a certificate,
// CheckEnrolment says. A host sends the certificate alone.
func UnwrapCertificate(nv []byte) (der []byte, behind int, err error) {
	if len(nv) >= 7 && nv[0] == 0x10 && nv[1] == 0x01 {
		size := int(binary.BigEndian.Uint16(nv[3:])) // of tag and certificate
		if nv[2] != 0 || nv[5] != 0x10 || nv[6] != 0x02 || size < 2 || len(nv) < 5+size {
			return nil, 0, denial.New(denial.EKUntrusted, "the structure around a stored certificate has an unknown form")
		}
		behind = len(nv) - 5 - size
		nv = nv[7 : 5+size]
	}
	var cert asn1.RawValue
	rest, err := asn1.Unmarshal(nv, &cert)
	if err != nil || cert.Class != asn1.ClassUniversal || cert.Tag != asn1.TagSequence || len(cert.FullBytes) > maxCertificate {
		return nil, 0, denial.New(denial.EKUntrusted, "there is no certificate")
	}
	return cert.FullBytes, len(rest) + behind, nil
}
