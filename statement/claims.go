package statement

import "github.com/governed-execution/writ/denial"

// Claims are the CWT claims of the protected header (RFC 9597): iss and sub are always there, iat where the kind has
// a time of its own.
type Claims struct {
	Issuer   string `cbor:"1,keyasint"`
	Subject  string `cbor:"2,keyasint"`
	IssuedAt uint64 `cbor:"6,keyasint,omitempty"` // seconds since 1970 UTC; zero if absent
}

const maxTime = 1 << 53 // seconds; what every language holds exactly

// parseClaims reads the value of header 15. It refuses iss or sub that are absent or empty (104), an iat that is not
// a positive integer of at most 2^53 (204), any other claim (911) and any other form (312).
func parseClaims(item []byte) (c Claims, err error) {
	if item == nil {
		return Claims{}, denial.New(denial.ClaimAbsent, "the header holds no claims")
	}
	pairs, others, ok := parseHeader(item)
	if !ok {
		return Claims{}, denial.New(denial.PayloadForm, "the claims of the header are not a map")
	}
	for _, p := range pairs {
		switch p.label {
		case 1:
			c.Issuer, ok = textOf(p.value)
		case 2:
			c.Subject, ok = textOf(p.value)
		case 6:
			iat, isInt := integer(p.value)
			if !isInt || iat <= 0 || iat > maxTime {
				return Claims{}, denial.New(denial.TimeMalformed, "iat is not a positive integer of at most 2^53")
			}
			c.IssuedAt = uint64(iat)
		default:
			others = true
		}
		if !ok {
			return Claims{}, denial.New(denial.PayloadForm, "iss and sub must be text")
		}
	}
	switch {
	case others:
		return Claims{}, denial.New(denial.UnsupportedVersion, "the header holds a claim that this version does not know")
	case c.Issuer == "" || c.Subject == "":
		return Claims{}, denial.New(denial.ClaimAbsent, "iss or sub is missing in the header")
	}
	return c, nil
}
