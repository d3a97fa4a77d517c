package artifact

import (
	"strings"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Skew is how far the clock of the issuer or of an initiator may be ahead of the relying party's. It applies to nbf
// and iat, never to exp.
const Skew = 60 * time.Second

const (
	skew    = uint64(Skew / time.Second)
	maxTime = 1 << 53 // a NumericDate above it is no time (C27)
	maxURI  = 512
)

// Claim keys that are looked at before the strict decoding (RFC 8392).
const (
	claimAud = 3
	claimExp = 4
	claimNbf = 5
	claimIat = 6
	claimCnf = 8
)

// checker is a payload that can say what is wrong with itself.
type checker interface{ check() error }

// decodeStrict reads one encoding only (see statement.Unmarshal) and checks the values.
func decodeStrict(data []byte, out checker) error {
	if err := statement.Unmarshal(data, out); err != nil {
		return err
	}
	return out.check()
}

// timeReason returns the reason for a payload that did not decode with err: a malformed time is 204 and a null one 104,
// whatever else is wrong (C25, C26).
func timeReason(payload []byte, err error, times ...int64) error {
	for _, label := range times {
		value, ok := statement.Peek(payload, label)
		switch {
		case !ok: // absent, or the payload is no map at all: err says which
		case isNull(value):
			return denial.New(denial.ClaimAbsent, "time claim %d is null", label)
		case value[0]>>5 != 0: // major type 0, unsigned integer
			return denial.New(denial.TimeMalformed, "time claim %d is not an unsigned integer", label)
		}
	}
	return err
}

// claimReason is timeReason for a payload with an audience: one that is absent or not one text string is 411 (C31).
func claimReason(payload []byte, err error, times ...int64) error {
	if t := timeReason(payload, nil, times...); t != nil {
		return t
	}
	aud, ok := statement.Peek(payload, claimAud)
	if ok && aud[0]>>5 != 3 || lacks(payload, claimAud) { // major type 3, text
		return denial.New(denial.AudienceMismatch, "the audience is not one text string")
	}
	return err
}

// lacks reports whether the payload is a map of claims without the given one.
func lacks(payload []byte, label int64) bool {
	_, claims := statement.Peek(payload, claimIat)
	_, ok := statement.Peek(payload, label)
	return claims && !ok
}

func isNull(value []byte) bool { return value[0] == 0xf6 || value[0] == 0xf7 }

// checkTimes refuses a time that is absent (104) or above 2^53 (204).
func checkTimes(times ...uint64) error {
	for _, t := range times {
		switch {
		case t == 0:
			return denial.New(denial.ClaimAbsent, "a time claim is absent")
		case t > maxTime:
			return denial.New(denial.TimeMalformed, "a time claim is above 2^53")
		}
	}
	return nil
}

// span is a validity in seconds since 1970 UTC.
type span struct{ iat, nbf, exp uint64 }

// checkSpan checks, in this order: the present time is not before 1970 (905), nbf and iat are not after exp (204), exp-iat is at most max (203), iat and nbf are
// not more than Skew in the future (202), now is before exp (201): the interval is half-open, [nbf, exp).
func checkSpan(s span, max time.Duration, now time.Time) error {
	t, ok := seconds(now)
	switch {
	case !ok:
		return denial.New(denial.ClockUntrusted, "the present time is before 1970")
	case s.nbf > s.exp || s.iat > s.exp:
		return denial.New(denial.TimeMalformed, "exp is before nbf or iat")
	case s.exp-s.iat > uint64(max/time.Second):
		return denial.New(denial.LifetimeTooLong, "valid for %d s, at most %d s are accepted", s.exp-s.iat, uint64(max/time.Second))
	case s.iat > t+skew:
		return denial.New(denial.NotYetValid, "issued in the future")
	case s.nbf > t+skew:
		return denial.New(denial.NotYetValid, "not valid yet")
	case t >= s.exp:
		return denial.New(denial.Expired, "expired %d s ago", t-s.exp)
	}
	return nil
}

// seconds returns whole seconds since 1970 UTC; false for a time before, and for the zero time.
func seconds(t time.Time) (uint64, bool) {
	s := t.Unix()
	return uint64(max(s, 0)), s > 0
}

// isURI reports whether s is an absolute URI of acceptable length: a scheme in lower case (RFC 3986, section 3.1), a
// colon, and printable ASCII behind it. URIs are compared byte by byte, so no more of their structure is looked at.
func isURI(s string) bool {
	scheme, rest, _ := strings.Cut(s, ":")
	if rest == "" || len(s) > maxURI || scheme == "" || scheme[0] < 'a' {
		return false
	}
	for i := range len(scheme) {
		c := scheme[i]
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '+' && c != '-' && c != '.' {
			return false
		}
	}
	for i := range len(rest) {
		if rest[i] <= ' ' || rest[i] > '~' {
			return false
		}
	}
	return true
}

// equalHeader checks that the CWT claims of the header repeat iss and sub of the payload, and nothing else (RFC 9597,
// section 2).
func equalHeader(h statement.Claims, iss, sub string) error {
	if h != (statement.Claims{Issuer: iss, Subject: sub}) {
		return denial.New(denial.IdentityConflict, "iss and sub of header and payload differ")
	}
	return nil
}
