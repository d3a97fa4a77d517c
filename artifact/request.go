package artifact

import (
	"context"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// RequestProfile is the eat_profile of a request. Another one is another version.
const RequestProfile = "https://github.com/governed-execution/writ/profile/request/1"

// MaxRequestLife is the longest time between iat and exp of a request.
const MaxRequestLife = 10 * time.Minute

const (
	maxRequest = 8 << 10

	// MaxParents is how many parents a request or an artifact has at most.
	MaxParents = 8
)

// RequestClaims are what an initiator asks for: one artifact. The initiator signs them after the host has made the
// confirmation key, whose thumbprint they name.
type RequestClaims struct {
	Initiator    string         `cbor:"1,keyasint"` // iss: URI of the initiator as enrolled
	Host         string         `cbor:"2,keyasint"` // sub: URI of the host that will hold the artifact
	Audience     string         `cbor:"3,keyasint"` // one gate
	Expires      uint64         `cbor:"4,keyasint"`
	IssuedAt     uint64         `cbor:"6,keyasint"`
	ID           []byte         `cbor:"7,keyasint"` // 16 random bytes: consumed once, for ever, per initiator
	Confirmation Thumbprint     `cbor:"8,keyasint"`
	Scope        Scope          `cbor:"9,keyasint"`
	Profile      string         `cbor:"265,keyasint"` // RequestProfile
	Execution    Execution      `cbor:"-90005,keyasint"`
	Limits       *Limits        `cbor:"-90006,keyasint,omitempty"` // uses, delegation depth and session asked for
	Parents      []ParentDigest `cbor:"-90007,keyasint"`           // artifacts that this one would descend from
	Lifetime     uint64         `cbor:"-90008,keyasint"`           // seconds asked for
	BreakGlass   []byte         `cbor:"-90011,keyasint,omitempty"` // not an artifact is asked for, but an attestation for the break-glass authorization whose payload has this digest
}

// Thumbprint is the cnf claim with a key thumbprint (RFC 9679, section 5.6).
type Thumbprint struct {
	Key []byte `cbor:"5,keyasint"`
}

// ParentDigest is the statement digest of a parent's artifact.
type ParentDigest = []byte

// Execution names one execution.
type Execution struct {
	ID     []byte   `cbor:"0,keyasint"`           // 16 random bytes
	Kind   string   `cbor:"1,keyasint,omitempty"` // URI
	Inputs []Digest `cbor:"2,keyasint,omitempty"` // digests of what it works on
}

// Limits bound the use of an artifact. An absent value is zero and means: the default of the accessor.
type Limits struct {
	Uses    uint64 `cbor:"0,keyasint,omitempty"`
	Depth   uint64 `cbor:"1,keyasint,omitempty"` // how deep delegations may go
	Session uint64 `cbor:"2,keyasint,omitempty"` // seconds a started execution may last; 0: until the artifact expires
}

// MaxSession is the longest that a started execution may last, in seconds: a year.
const MaxSession = 366 * 24 * 3600

// MaxUses returns how often the artifact may be used: once unless it says otherwise.
func (l *Limits) MaxUses() uint64 {
	if l == nil || l.Uses == 0 {
		return 1
	}
	return l.Uses
}

// check refuses a session that is longer than any policy can allow (312).
func (l *Limits) check() error {
	if l != nil && l.Session > MaxSession {
		return denial.New(denial.PayloadForm, "a session lasts at most a year")
	}
	return nil
}

// LeaseEnd returns when an execution that was started at a time is over, both in seconds since 1970 UTC: when its session is, or
// where the artifact names none, when the artifact expires. What still runs then has no authorization any more (201, X16).
func (c *Claims) LeaseEnd(started uint64) uint64 {
	if c.Limits == nil || c.Limits.Session == 0 {
		return c.Expires
	}
	return started + min(c.Limits.Session, MaxSession)
}

// check checks, in this order: profile (911), identities (104), audience (411), times (104, 204), request id, lifetime and the
// digest of a break-glass authorization (312), confirmation key (702), session and execution (312), parents (313, 327). The scope is checked where it is decoded.
func (c *RequestClaims) check() error {
	switch {
	case c.Profile != RequestProfile:
		return denial.New(denial.UnsupportedVersion, "not a request of profile 1")
	case !isURI(c.Initiator) || !isURI(c.Host):
		return denial.New(denial.ClaimAbsent, "initiator or host is not a URI")
	case !isURI(c.Audience):
		return denial.New(denial.AudienceMismatch, "the audience is not one URI")
	}
	if err := checkTimes(c.Expires, c.IssuedAt); err != nil {
		return err
	}
	switch {
	case len(c.ID) != 16 || c.Lifetime == 0 || c.Lifetime > maxTime:
		return denial.New(denial.PayloadForm, "a request needs an id of 16 bytes and a lifetime")
	case c.BreakGlass != nil && len(c.BreakGlass) != 32:
		return denial.New(denial.PayloadForm, "a break-glass authorization is named by a digest of 32 bytes")
	case len(c.Confirmation.Key) != 32:
		return denial.New(denial.KeyBinding, "the request names no confirmation key")
	}
	if err := c.Limits.check(); err != nil {
		return err
	}
	if err := c.Execution.check(); err != nil {
		return err
	}
	return checkParents(c.Parents)
}

func checkParents(parents []ParentDigest) error {
	if len(parents) > MaxParents {
		return denial.New(denial.StructureLimit, "more than %d parents", MaxParents)
	}
	for _, p := range parents {
		if len(p) != 32 {
			return denial.New(denial.LineageChainInvalid, "a parent is named by a digest of 32 bytes")
		}
	}
	return nil
}

func (e *Execution) check() error {
	if len(e.ID) != 16 || e.Kind != "" && !isURI(e.Kind) || len(e.Inputs) > MaxCodes {
		return denial.New(denial.PayloadForm, "an execution needs an id of 16 bytes, and a kind that is a URI")
	}
	for _, d := range e.Inputs {
		if !d.Valid() {
			return denial.New(denial.PayloadForm, "an input digest is of an unknown algorithm or wrong length")
		}
	}
	return nil
}

// SignRequest makes the statement of a request. Its Profile is set here, absent parents become the empty list, and the
// scope is put in canonical order.
func SignRequest(ctx context.Context, s statement.Signer, c RequestClaims) ([]byte, error) {
	c.Profile, c.Scope = RequestProfile, c.Scope.Canonical()
	if c.Parents == nil {
		c.Parents = []ParentDigest{}
	}
	if err := c.check(); err != nil {
		return nil, err
	}
	if err := c.Scope.Check(); err != nil {
		return nil, err
	}
	payload, err := statement.Marshal(&c)
	if err != nil {
		return nil, err
	}
	return statement.Sign(ctx, s, statement.Request, statement.Claims{Issuer: c.Initiator, Subject: c.Host}, payload)
}

// UnverifiedRequest is a request whose signature has not been checked. It serves to find the initiator's key.
type UnverifiedRequest struct{ env *statement.Envelope }

// DecodeRequest reads the envelope of a request of at most 8 KiB and nothing of its payload.
func DecodeRequest(raw []byte) (*UnverifiedRequest, error) {
	env, err := statement.Decode(raw, maxRequest)
	if err != nil {
		return nil, err
	}
	return &UnverifiedRequest{env}, nil
}

// KeyID returns the thumbprint that the header claims.
func (u *UnverifiedRequest) KeyID() (statement.Thumbprint, bool) { return u.env.KeyID() }

// Digest returns the statement digest of the request: what qualifying data binds.
func (u *UnverifiedRequest) Digest() statement.Digest { return u.env.Digest() }

// Request is a request whose signature, form and time have been checked. Only VerifyRequest makes it.
type Request struct {
	claims RequestClaims
	leaf   []byte
	digest statement.Digest
	key    statement.Key
}

// Claims returns what was asked for. Its slices must not be written to.
func (r *Request) Claims() RequestClaims { return r.claims }

// Leaf returns the statement with an empty unprotected header.
func (r *Request) Leaf() []byte { return r.leaf }

// Digest returns the statement digest.
func (r *Request) Digest() statement.Digest { return r.digest }

// SignedRequest is a request whose signature has been checked and nothing else. Only AuthenticateRequest makes it.
type SignedRequest struct{ v *statement.Verified }

// AuthenticateRequest checks that the key signed the request: algorithm, key and signature, typ and crit (see
// statement.Envelope.Verify). From here on the initiator is known, whatever it asks for.
func AuthenticateRequest(u *UnverifiedRequest, key statement.Key) (*SignedRequest, error) {
	var keys statement.Keys
	if err := keys.Add(key, statement.Request); err != nil {
		return nil, err
	}
	if u == nil {
		return nil, denial.New(denial.Internal, "no request")
	}
	v, err := u.env.Verify(keys, statement.Request)
	if err != nil {
		return nil, err
	}
	return &SignedRequest{v}, nil
}

// Leaf returns the statement with an empty unprotected header.
func (s *SignedRequest) Leaf() []byte { return s.v.Leaf() }

// Digest returns the statement digest.
func (s *SignedRequest) Digest() statement.Digest { return s.v.Digest() }

// VerifyRequest is AuthenticateRequest and then SignedRequest.Check.
func VerifyRequest(u *UnverifiedRequest, key statement.Key, now time.Time) (*Request, error) {
	s, err := AuthenticateRequest(u, key)
	if err != nil {
		return nil, err
	}
	return s.Check(now)
}

// Check checks what the initiator signed, in this order: the claims in one encoding (104, 204, 312, 313, 327, 404, 411,
// 618, 619, 702, 911); header and payload name the same initiator and host (706); exp-iat at most MaxRequestLife (203),
// iat not in the future (202), now before exp (201). Whether the initiator of the claims is the one whose key was given
// is for the caller to see to: the key must come from the enrolment of that initiator.
func (s *SignedRequest) Check(now time.Time) (*Request, error) {
	if s == nil || s.v == nil {
		return nil, denial.New(denial.Internal, "no request")
	}
	v := s.v
	r := &Request{leaf: v.Leaf(), digest: v.Digest(), key: v.Key()}
	payload := v.Payload()
	if err := decodeStrict(payload, &r.claims); err != nil {
		return nil, claimReason(payload, err, claimExp, claimIat)
	}
	if err := equalHeader(v.Claims(), r.claims.Initiator, r.claims.Host); err != nil {
		return nil, err
	}
	if err := checkSpan(span{r.claims.IssuedAt, r.claims.IssuedAt, r.claims.Expires}, MaxRequestLife, now); err != nil {
		return nil, err
	}
	return r, nil
}
