package artifact

import (
	"bytes"
	"compress/zlib"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// StatusProfile is the eat_profile of a status list token. Another one is another version.
const StatusProfile = "https://github.com/governed-execution/writ/profile/status/1"

const (
	statusBits    = 4
	maxStatus     = 1 << 20           // bytes of a token
	maxStatusList = 1 << 20           // bytes of the inflated list: two entries each
	MaxStatuses   = 2 * maxStatusList // entries of a list
)

// StatusValue is the state of one artifact: a 4-bit entry of a status list. Its zero value is StatusValid, so it must
// come from Status.Value and from nowhere else.
type StatusValue uint8

// The values. 0 and 1 mean what draft-ietf-oauth-status-list says; the others have a meaning of this profile. Every
// value that is not known means refusal.
const (
	StatusValid     StatusValue = 0
	StatusArtifact  StatusValue = 1 // the artifact is revoked
	StatusKey       StatusValue = 2 // a key that it depends on
	StatusHost      StatusValue = 3
	StatusPolicy    StatusValue = 4
	StatusInitiator StatusValue = 5
	StatusAncestor  StatusValue = 6
)

// Check returns nil for StatusValid, and otherwise the refusal that names the cause: 801 to 805, 807; 806 for a value
// that this version does not know.
func (v StatusValue) Check() error {
	switch v {
	case StatusValid:
		return nil
	case StatusArtifact:
		return denial.New(denial.ArtifactRevoked, "the artifact is revoked")
	case StatusKey:
		return denial.New(denial.KeyRevoked, "a key that the artifact depends on is revoked")
	case StatusHost:
		return denial.New(denial.HostRevoked, "the host is revoked")
	case StatusPolicy:
		return denial.New(denial.PolicyWithdrawn, "the policy is withdrawn")
	case StatusInitiator:
		return denial.New(denial.InitiatorRevoked, "the initiator is revoked")
	case StatusAncestor:
		return denial.New(denial.AncestorRevoked, "an ancestor is revoked")
	}
	return denial.New(denial.RevocationUnknown, "the status list holds an unknown value")
}

// StatusList is the content of a status list token, for its issuer.
type StatusList struct {
	Issuer   string
	URI      string // where the list is found: sub of the token, uri of the artifacts
	IssuedAt uint64 // seconds since 1970 UTC
	Expires  uint64
	TTL      uint64        // seconds for which it may be kept
	Values   []StatusValue // by index
	Keys     *KeyPin       // the newest key change; nil: there was none
	Since    uint64        // when the newest epoch of the log was logged: artifacts from before are void; 0: there was none
}

// statusClaims is the payload of a token.
type statusClaims struct {
	Issuer   string     `cbor:"1,keyasint"`
	URI      string     `cbor:"2,keyasint"`
	Expires  uint64     `cbor:"4,keyasint"`
	IssuedAt uint64     `cbor:"6,keyasint"`
	Profile  string     `cbor:"265,keyasint"`
	List     statusBody `cbor:"65533,keyasint"`
	TTL      uint64     `cbor:"65534,keyasint"`
	Keys     *KeyPin    `cbor:"-90011,keyasint,omitempty"`
	Since    uint64     `cbor:"-90021,keyasint,omitempty"`
}

type statusBody struct {
	Bits uint64 `cbor:"bits"`
	List []byte `cbor:"lst"` // zlib
}

func (c *statusClaims) check() error {
	if err := checkTimes(c.Expires, c.IssuedAt); err != nil {
		return err
	}
	switch {
	case c.Profile != StatusProfile || c.List.Bits != statusBits:
		return denial.New(denial.UnsupportedVersion, "not a status list of profile 1, with 4 bits an entry")
	case c.Since > maxTime:
		return denial.New(denial.TimeMalformed, "the time of an epoch is none")
	case !isURI(c.Issuer) || !isURI(c.URI) || c.TTL == 0 || c.TTL > maxTime:
		return denial.New(denial.ClaimAbsent, "iss, sub or ttl is absent or malformed")
	}
	return c.Keys.check()
}

// CheckStatusPayload refuses what is not the payload of a status list token, or not the one that belongs to the claims of
// its header (311). It is for signers, which must know what they sign.
func CheckStatusPayload(payload []byte, header statement.Claims) error {
	var c statusClaims
	if err := statement.Unmarshal(payload, &c); err != nil {
		return err
	}
	if err := c.check(); err != nil {
		return err
	}
	if c.Issuer != header.Issuer || c.URI != header.Subject || header.IssuedAt != 0 {
		return denial.New(denial.WrongType, "header and payload do not say the same")
	}
	return nil
}

// SignStatus makes a status list token.
func SignStatus(ctx context.Context, s statement.Signer, l StatusList) ([]byte, error) {
	packed, err := packStatus(l.Values)
	if err != nil {
		return nil, err
	}
	c := statusClaims{Issuer: l.Issuer, URI: l.URI, Expires: l.Expires, IssuedAt: l.IssuedAt, Profile: StatusProfile,
		List: statusBody{Bits: statusBits, List: packed}, TTL: l.TTL, Keys: l.Keys, Since: l.Since}
	if err := c.check(); err != nil {
		return nil, err
	}
	payload, err := statement.Marshal(&c)
	if err != nil {
		return nil, err
	}
	return statement.Sign(ctx, s, statement.StatusList, statement.Claims{Issuer: l.Issuer, Subject: l.URI}, payload)
}

// packStatus compresses the values, the first of each byte in its low bits.
func packStatus(values []StatusValue) ([]byte, error) {
	if len(values) > MaxStatuses {
		return nil, denial.New(denial.StructureLimit, "a status list has at most %d entries", MaxStatuses)
	}
	list := make([]byte, (len(values)+1)/2)
	for i, v := range values {
		if v > 15 {
			return nil, denial.New(denial.PayloadForm, "a status has 4 bits")
		}
		list[i/2] |= byte(v) << (4 * (i % 2))
	}
	var b bytes.Buffer
	w, err := zlib.NewWriterLevel(&b, zlib.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("compressing status list: %w", err)
	}
	if _, err := w.Write(list); err != nil {
		return nil, fmt.Errorf("compressing status list: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("compressing status list: %w", err)
	}
	return b.Bytes(), nil
}

// inflate decompresses a list of at most maxStatusList bytes (313) that is one whole zlib stream (312).
func inflate(packed []byte) ([]byte, error) {
	src := bytes.NewReader(packed)
	r, err := zlib.NewReader(src)
	if err != nil {
		return nil, denial.New(denial.PayloadForm, "the status list is not zlib data")
	}
	list, err := io.ReadAll(io.LimitReader(r, maxStatusList+1))
	switch {
	case err != nil:
		return nil, denial.New(denial.PayloadForm, "the status list is not zlib data")
	case len(list) > maxStatusList:
		return nil, denial.New(denial.StructureLimit, "the status list has more than %d bytes", maxStatusList)
	case src.Len() != 0:
		return nil, denial.New(denial.TrailingData, "bytes follow the status list")
	}
	return list, nil
}

// entry returns an entry of a list with 1, 2, 4 or 8 bits an entry; false if it is out of range.
func entry(list []byte, bits, index uint64) (uint8, bool) {
	perByte := 8 / bits
	if index/perByte >= uint64(len(list)) {
		return 0, false
	}
	return list[index/perByte] >> (index % perByte * bits) & (1<<bits - 1), true
}

// Status is a verified status list. Only VerifyStatus makes it; the zero Status and the nil one know nothing (806).
type Status struct {
	claims statusClaims
	list   []byte
	digest statement.Digest
}

// URI returns where the list is found.
func (s *Status) URI() string { return s.claims.URI }

// IssuedAt returns when the list was signed: what the caller keeps as the last one seen.
func (s *Status) IssuedAt() uint64 { return s.claims.IssuedAt }

// Value returns the entry of an artifact. Another list than the one that the artifact names, or an index out of range,
// is 806.
func (s *Status) Value(ref StatusRef) (StatusValue, error) {
	if s == nil || s.claims.URI == "" || s.claims.URI != ref.URI {
		return 0, denial.New(denial.RevocationUnknown, "no status list at hand that the artifact names")
	}
	v, ok := entry(s.list, statusBits, ref.Index)
	if !ok {
		return 0, denial.New(denial.RevocationUnknown, "the status list has no such entry")
	}
	return StatusValue(v), nil
}

// InEpoch refuses an artifact that was logged before the newest epoch of the log: it may stand in what is lost, and what was
// revoked or used of it since is not known (801; P20).
func (s *Status) InEpoch(logged uint64) error {
	if s != nil && logged < s.claims.Since {
		return denial.New(denial.ArtifactRevoked, "the log was restored from a backup since the artifact was logged: ask for a new one")
	}
	return nil
}

// VerifyStatus checks a status list token, in this order: size (313), algorithm, key and signature, typ and crit (see
// statement.Envelope.Verify); the payload in one encoding (104, 204, 312, 911); header and payload name the same issuer
// and list, the issuer is that of the trust file (706); the key was active at iat (208, 802); its age (806); iat is not
// before lastSeen, the IssuedAt of the newest list that the caller has accepted (508); the key changes that it tells of are at hand
// (806, 325), so that nobody goes on without one that was withheld from him; the inflated list (312, 313).
func VerifyStatus(raw []byte, trust *Trust, now time.Time, lastSeen uint64) (*Status, error) {
	v, err := verifyToken(raw, trust)
	if err != nil {
		return nil, err
	}
	s := &Status{digest: v.Digest()}
	payload := v.Payload()
	if err := decodeStrict(payload, &s.claims); err != nil {
		return nil, timeReason(payload, err, claimExp, claimIat)
	}
	if err := equalHeader(v.Claims(), s.claims.Issuer, s.claims.URI); err != nil {
		return nil, err
	}
	if s.claims.Issuer != trust.Issuer {
		return nil, denial.New(denial.IdentityConflict, "the status list is of another issuer")
	}
	if err := trust.CheckClaimed(v.Key().Thumbprint(), s.claims.IssuedAt); err != nil {
		return nil, err
	}
	if err := s.checkAge(trust, now); err != nil {
		return nil, err
	}
	if s.claims.IssuedAt < lastSeen {
		return nil, denial.New(denial.StateRollback, "the status list is older than one already seen")
	}
	if err := trust.reaches(s.claims.Keys, denial.RevocationUnknown); err != nil {
		return nil, err
	}
	if s.list, err = inflate(s.claims.List.List); err != nil {
		return nil, err
	}
	return s, nil
}

func verifyToken(raw []byte, trust *Trust) (*statement.Verified, error) {
	env, err := statement.Decode(raw, maxStatus)
	if err != nil {
		return nil, err
	}
	keys, err := trust.StatementKeys()
	if err != nil {
		return nil, err
	}
	return env.Verify(keys, statement.StatusList)
}

// checkAge refuses a list that is not fresh (806): issued in the future, past its exp, or older than its own ttl or
// than the trust file accepts.
func (s *Status) checkAge(trust *Trust, now time.Time) error {
	t, ok := seconds(now)
	age := uint64(trust.revocationAge() / time.Second)
	switch {
	case s == nil || s.claims.IssuedAt == 0 || !ok:
		return denial.New(denial.RevocationUnknown, "no status list at hand")
	case s.claims.IssuedAt > t+skew || t >= s.claims.Expires:
		return denial.New(denial.RevocationUnknown, "the status list is not valid now")
	case t > s.claims.IssuedAt+min(age, s.claims.TTL):
		return denial.New(denial.RevocationUnknown, "the status list is %d s old, at most %d s are accepted", t-s.claims.IssuedAt, min(age, s.claims.TTL))
	}
	return nil
}
