package statement

import "github.com/governed-execution/writ/denial"

// Claims are the CWT claims of the protected header (RFC 9597): iss and sub are always there, iat where the kind has
// a time of its own, exp and the number of the act where authorities approve something. Zero is absent.
type Claims struct {
	Issuer   string `cbor:"1,keyasint"`
	Subject  string `cbor:"2,keyasint"`
	Expires  uint64 `cbor:"4,keyasint,omitempty"`      // seconds since 1970 UTC
	IssuedAt uint64 `cbor:"6,keyasint,omitempty"`      // seconds since 1970 UTC
	Sequence uint64 `cbor:"-90020,keyasint,omitempty"` // of an act: 1, 2, 3, … among those of its kind about the subject
}

// ofAct reports whether the claims hold something that only acts of authorities have.
func (c Claims) ofAct() bool { return c.Expires != 0 || c.Sequence != 0 }

const claimSequence = -90020

const maxTime = 1 << 53 // seconds; what every language holds exactly

// parseClaims reads the value of header 15. It refuses iss or sub that are absent or empty (104), an iat, exp or number of
// an act that is not a positive integer of at most 2^53 (204), any other claim (911) and any other form (312).
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
		case 4:
			c.Expires, err = positive("exp", p.value)
		case 6:
			c.IssuedAt, err = positive("iat", p.value)
		case claimSequence:
			c.Sequence, err = positive("the number of the act", p.value)
		default:
			others = true
		}
		if err != nil {
			return Claims{}, err
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

func positive(what string, item []byte) (uint64, error) {
	n, _ := integer(item) // what is no integer is 0
	if n <= 0 || n > maxTime {
		return 0, denial.New(denial.TimeMalformed, "%s is not a positive integer of at most 2^53", what)
	}
	return uint64(n), nil
}
