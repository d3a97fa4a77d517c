package predict

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
)

// GUID is an EFI_GUID as it stands in memory: its first three fields are little-endian.
type GUID [16]byte

// MustGUID returns the GUID with the given text. It panics on any other text and is for constants.
func MustGUID(text string) GUID {
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	if err != nil || len(b) != 16 {
		panic(fmt.Sprintf("%q is no GUID", text))
	}
	var g GUID
	binary.LittleEndian.PutUint32(g[0:], binary.BigEndian.Uint32(b[0:]))
	binary.LittleEndian.PutUint16(g[4:], binary.BigEndian.Uint16(b[4:]))
	binary.LittleEndian.PutUint16(g[6:], binary.BigEndian.Uint16(b[6:]))
	copy(g[8:], b[8:])
	return g
}

// GUIDs of UEFI 2.10: vendors of the Secure Boot variables (sections 3.3 and 32.6.1), types of signature lists (32.4.1).
var (
	GlobalVariable = MustGUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
	ImageSecurity  = MustGUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
	CertX509       = MustGUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
	CertSHA256     = MustGUID("c1c41626-504c-4092-aca9-41f936934328")
)
