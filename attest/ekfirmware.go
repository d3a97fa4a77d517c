package attest

import (
	"encoding/hex"
	"strings"

	"github.com/governed-execution/writ/denial"
)

// FirmwareRange names TPM firmware by what an EK certificate says: the manufacturer, and versions from From to To. The
// certificate says what the TPM ran when it was made; an update later does not change it.
type FirmwareRange struct {
	Manufacturer string `cbor:"1,keyasint"`           // vendor id as TCG assigns it, in upper-case hexadecimal, such as "53544D20"
	Model        string `cbor:"2,keyasint,omitempty"` // exactly as in the certificate; "" is every model
	From         uint64 `cbor:"3,keyasint"`           // major version << 16 | minor version, inclusive
	To           uint64 `cbor:"4,keyasint"`           // likewise; a version that cannot be read lies in every range
	Why          string `cbor:"5,keyasint"`           // for people, such as a CVE number
}

// Covers reports whether a device is one of the range.
func (f FirmwareRange) Covers(d Device) bool {
	if vendorID(d.Manufacturer) != vendorID(f.Manufacturer) || f.Model != "" && f.Model != strings.TrimRight(d.Model, "\x00 ") {
		return false
	}
	v, ok := FirmwareVersion(d.Version)
	return !ok || f.From <= v && v <= f.To
}

// vendorID brings the forms of a vendor id into one: "id:494E5443" and "494e5443", "id:494658" and "id:49465800".
func vendorID(s string) string {
	return strings.TrimSuffix(strings.ToUpper(strings.TrimPrefix(s, "id:")), "00")
}

// VendorName returns the four characters that a vendor id stands for, such as "INTC"; "" if it is none.
func (d Device) VendorName() string {
	b, err := hex.DecodeString(vendorID(d.Manufacturer))
	name := strings.TrimRight(string(b), "\x00 ")
	if err != nil || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' }) {
		return ""
	}
	return name
}

// FirmwareVersion reads the version of an EK certificate, major version << 16 | minor version. TCG's profile has it in
// eight hexadecimal digits, four for each; Infineon writes two for each.
func FirmwareVersion(text string) (version uint64, ok bool) {
	b, err := hex.DecodeString(strings.TrimPrefix(text, "id:"))
	switch {
	case err == nil && len(b) == 4:
		return uint64(b[0])<<24 | uint64(b[1])<<16 | uint64(b[2])<<8 | uint64(b[3]), true
	case err == nil && len(b) == 2:
		return uint64(b[0])<<16 | uint64(b[1]), true
	}
	return 0, false
}

// checkFirmware refuses a device of the rules' ranges (620).
func (r *Rules) checkFirmware(d Device) error {
	for _, f := range r.Firmware {
		if f.Covers(d) {
			return denial.New(denial.TPMFirmware, "authorities do not admit the firmware that the EK certificate names")
		}
	}
	return nil
}
