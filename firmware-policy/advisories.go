package firmwarepolicy

import "github.com/governed-execution/writ/attest"

const (
	vendorInfineon = "49465800" // "IFX"
	vendorSTM      = "53544D20" // "STM "
)

// Advisories returns the TPM firmware that its vendors' own advisories call flawed. An EK certificate names the firmware
// that the TPM was made with, and an update does not change it: so nothing here is refused unless authorities say so in
// their anchors. The keys that CVE-2017-15361 weakens are refused whatever the firmware, because they show it.
func Advisories() []attest.FirmwareRange {
	var all []attest.FirmwareRange
	add := func(vendor, why string, from, to [2]uint64) {
		all = append(all, attest.FirmwareRange{Manufacturer: vendor, From: from[0]<<16 | from[1], To: to[0]<<16 | to[1], Why: why})
	}
	const roca = "CVE-2017-15361: RSA keys that can be factored (Infineon, Microsoft ADV170012)"
	for _, r := range [][2][2]uint64{{{4, 0}, {4, 33}}, {{4, 40}, {4, 42}}, {{5, 0}, {5, 61}}, {{6, 0}, {6, 42}}, {{7, 0}, {7, 61}}, {{133, 0}, {133, 32}}} {
		add(vendorInfineon, roca, r[0], r[1])
	}
	const fail = "CVE-2019-16863: ECDSA keys leak through timing (st.com, TPM firmware update)"
	for _, v := range [][2]uint64{{71, 0}, {71, 4}, {71, 12}, {73, 0}, {73, 4}, {73, 5}, {73, 8}, {73, 9}, {74, 0}, {74, 4}, {74, 5}, {74, 8}, {74, 9}, {74, 16}} {
		add(vendorSTM, fail, v, v)
	}
	return all
}
