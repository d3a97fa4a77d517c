package artifact

import (
	"bytes"
	"context"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// DelegationProfile is the eat_profile of a delegation. Another one is another version.
const DelegationProfile = "https://github.com/governed-execution/writ/profile/delegation/1"

// MaxAncestors is how many artifacts one descends from at most: what each use and each status list has to look at.
const MaxAncestors = 64

// MaxDelegation is the greatest size of a delegation in bytes.
const MaxDelegation = 8 << 10

// maxDelegation is the longest time between iat and exp of a delegation: that of the longest artifact that a policy can allow.
const maxDelegation = 366 * 24 * time.Hour

// DelegationClaims are what the holder of an artifact, the parent, lets an initiator ask for: one artifact, the child, that
// is nowhere wider than this, which is nowhere wider than the parent. The holder signs them with the parent's cnf key, which
// its TPM refuses once the host is not what it was when the parent was issued.
type DelegationClaims struct {
	Delegator string       `cbor:"1,keyasint"` // iss: sub of the parent
	Host      string       `cbor:"2,keyasint"` // sub: URI of the host that the child is for
	Audience  string       `cbor:"3,keyasint"` // the gate that the child is for
	Expires   uint64       `cbor:"4,keyasint"` // of the delegation, and the latest expiry of the child
	IssuedAt  uint64       `cbor:"6,keyasint"`
	ID        []byte       `cbor:"7,keyasint"`                // 16 random bytes: consumed by one child, for ever
	Scope     Scope        `cbor:"9,keyasint"`                // the most that the child may do
	Profile   string       `cbor:"265,keyasint"`              // DelegationProfile
	Limits    *Limits      `cbor:"-90006,keyasint,omitempty"` // the most uses of the child, how long each may last, and how deep it may be delegated in turn
	Parent    ParentDigest `cbor:"-90009,keyasint"`
	Initiator string       `cbor:"-90012,keyasint"` // URI of who may ask
}

// check checks, in this order: profile (911), identities (104), audience (411), times (104, 204), session and id (312), parent
// (327). The scope is checked where it is decoded.
func (c *DelegationClaims) check() error {
	switch {
	case c.Profile != DelegationProfile:
		return denial.New(denial.UnsupportedVersion, "not a delegation of profile 1")
	case !isURI(c.Delegator) || !isURI(c.Host) || !isURI(c.Initiator):
		return denial.New(denial.ClaimAbsent, "delegator, host or initiator is not a URI")
	case !isURI(c.Audience):
		return denial.New(denial.AudienceMismatch, "the audience is not one URI")
	}
	if err := checkTimes(c.Expires, c.IssuedAt); err != nil {
		return err
	}
	if err := c.Limits.check(); err != nil {
		return err
	}
	switch {
	case len(c.ID) != 16:
		return denial.New(denial.PayloadForm, "a delegation needs an id of 16 bytes")
	case len(c.Parent) != 32:
		return denial.New(denial.LineageChainInvalid, "a parent is named by a digest of 32 bytes")
	}
	return nil
}

// Within checks that the delegation gives nothing that its parent does not have, in this order: it is of this artifact and by
// its holder (327); it ends no later; each target is one that the parent may delegate; the scope is contained in the
// parent's; there are no more uses, and none lasts longer; and there is a generation left (all 406).
func (c *DelegationClaims) Within(parent *Claims, digest statement.Digest) error {
	switch {
	case !bytes.Equal(c.Parent, digest[:]):
		return denial.New(denial.LineageChainInvalid, "the delegation is of another artifact")
	case c.Delegator != parent.Subject:
		return denial.New(denial.LineageChainInvalid, "the delegation is by another than the holder of the artifact")
	case c.Expires > parent.Expires:
		return denial.New(denial.DelegationExceeded, "the delegation lasts longer than the artifact")
	case !parent.Scope.delegates(c.Scope):
		return denial.New(denial.DelegationExceeded, "the artifact may not delegate one of these targets")
	case !parent.Scope.Contains(c.Scope):
		return denial.New(denial.DelegationExceeded, "the delegation is wider than the scope of the artifact")
	case c.Limits.MaxUses() > parent.Limits.MaxUses():
		return denial.New(denial.DelegationExceeded, "the delegation allows more uses than the artifact")
	case !c.Limits.sessionWithin(parent.Limits):
		return denial.New(denial.DelegationExceeded, "what the delegation lets start could run longer than what the artifact does")
	case c.Limits.depth() >= parent.Limits.depth():
		return denial.New(denial.DelegationExceeded, "the artifact may be delegated %d deep, the delegation allows %d more", parent.Limits.depth(), c.Limits.depth())
	}
	return nil
}

// Allows checks that a request for a child stays within the delegation, in this order: it is for this host (701), by this
// initiator (405), for this gate (411); the child expires no later than the delegation; its scope is contained in that of the
// delegation; it has no more uses, and none lasts longer; and it may be delegated no deeper (all 406). Decided at is in seconds since 1970 UTC.
func (c *DelegationClaims) Allows(r *RequestClaims, at uint64) error {
	switch {
	case r.Host != c.Host:
		return denial.New(denial.HostMismatch, "the delegation is for another host")
	case r.Initiator != c.Initiator:
		return denial.New(denial.InitiatorDenied, "the delegation is for another initiator")
	case r.Audience != c.Audience:
		return denial.New(denial.AudienceMismatch, "the delegation is for another gate")
	case at >= c.Expires || r.Lifetime > c.Expires-at:
		return denial.New(denial.DelegationExceeded, "the artifact would last longer than the delegation")
	case !c.Scope.Contains(r.Scope):
		return denial.New(denial.DelegationExceeded, "the request is wider than the scope of the delegation")
	case r.Limits.MaxUses() > c.Limits.MaxUses():
		return denial.New(denial.DelegationExceeded, "the request is for more uses than the delegation allows")
	case !r.Limits.sessionWithin(c.Limits):
		return denial.New(denial.DelegationExceeded, "what the request would start could run longer than the delegation allows")
	case r.Limits.depth() > c.Limits.depth():
		return denial.New(denial.DelegationExceeded, "the artifact could be delegated deeper than the delegation allows")
	}
	return nil
}

// depth returns how deep an artifact with these limits may be delegated: not at all unless they say so.
func (l *Limits) depth() uint64 {
	if l == nil {
		return 0
	}
	return l.Depth
}

// sessionWithin reports whether no execution under these limits lasts longer than one under others can: where those name a session, it
// takes one that is no longer; where they do not, an execution ends with its artifact.
func (l *Limits) sessionWithin(others *Limits) bool {
	if limit := others.session(); limit > 0 {
		return l.session() > 0 && l.session() <= limit
	}
	return l.session() == 0
}

func (l *Limits) session() uint64 {
	if l == nil {
		return 0
	}
	return l.Session
}

// SignDelegation makes a delegation with the cnf key of the parent. Its Profile is set here, and the scope is put in canonical
// order. Whether it is within the parent is for VerifyDelegation to say.
func SignDelegation(ctx context.Context, s statement.Signer, c DelegationClaims) ([]byte, error) {
	c.Profile, c.Scope = DelegationProfile, c.Scope.Canonical()
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
	return statement.Sign(ctx, s, statement.Delegation, statement.Claims{Issuer: c.Delegator, Subject: c.Host}, payload)
}

// Ancestor is an artifact as the log has it, whose issuer's signature has been checked: whether it is in time, revoked or
// logged is not looked at. Only VerifyAncestor makes it; the zero Ancestor has no key, so that nothing can be delegated by it.
type Ancestor struct {
	claims Claims
	leaf   []byte
}

// VerifyAncestor checks a log entry, in this order: it decodes (308 to 313); one of the keys signed it as an artifact (301 to 307,
// 311, 312); its claims are in their one encoding (see DecodeClaims); header and payload name the same (706).
func VerifyAncestor(leaf []byte, keys statement.Keys) (*Ancestor, error) {
	env, err := statement.Decode(leaf, maxArtifact)
	if err != nil {
		return nil, err
	}
	v, err := env.Verify(keys, statement.Artifact)
	if err != nil {
		return nil, err
	}
	a := &Ancestor{leaf: v.Leaf()}
	if a.claims, err = DecodeClaims(v.Payload()); err != nil {
		return nil, err
	}
	if err := equalHeader(v.Claims(), a.claims.Issuer, a.claims.Subject); err != nil {
		return nil, err
	}
	return a, nil
}

// Claims returns the claims. Their slices must not be written to.
func (a *Ancestor) Claims() Claims { return a.claims }

// Leaf returns the log entry. It must not be written to.
func (a *Ancestor) Leaf() []byte { return a.leaf }

// Digest returns the statement digest.
func (a *Ancestor) Digest() statement.Digest { return statement.DigestOf(a.leaf) }

// Delegation is a delegation by the holder of an ancestor, within what that may delegate. Only VerifyDelegation makes it.
type Delegation struct {
	claims DelegationClaims
	leaf   []byte
}

// Claims returns the claims. Their slices must not be written to.
func (d *Delegation) Claims() DelegationClaims { return d.claims }

// Digest returns the statement digest.
func (d *Delegation) Digest() statement.Digest { return statement.DigestOf(d.leaf) }

// VerifyDelegation checks, in this order: the parent's cnf key signed the statement as a delegation (327); its claims are in
// their one encoding (104, 204, 312, 327, 404, 411, 618, 619, 911); header and payload name the same (706); it is within the parent
// (327, 406); exp-iat is at most a year (203), iat not in the future (202), now before exp (201).
func VerifyDelegation(raw []byte, parent *Ancestor, now time.Time) (*Delegation, error) {
	if parent == nil || !parent.claims.Confirmation.Key.Valid() {
		return nil, denial.New(denial.LineageChainInvalid, "no artifact that could be delegated")
	}
	v, err := parent.signed(raw)
	if err != nil {
		return nil, denial.New(denial.LineageChainInvalid, "not a delegation by the cnf key of the parent (%d %s)", denial.Of(err).Reason.Code(), denial.Of(err).Reason)
	}
	d := &Delegation{leaf: v.Leaf()}
	if err := decodeStrict(v.Payload(), &d.claims); err != nil {
		return nil, claimReason(v.Payload(), err, claimExp, claimIat)
	}
	if err := equalHeader(v.Claims(), d.claims.Delegator, d.claims.Host); err != nil {
		return nil, err
	}
	if err := d.claims.Within(&parent.claims, parent.Digest()); err != nil {
		return nil, err
	}
	if err := checkSpan(span{d.claims.IssuedAt, d.claims.IssuedAt, d.claims.Expires}, maxDelegation, now); err != nil {
		return nil, err
	}
	return d, nil
}

func (a *Ancestor) signed(raw []byte) (*statement.Verified, error) {
	env, err := statement.Decode(raw, MaxDelegation)
	if err != nil {
		return nil, err
	}
	var keys statement.Keys
	if err := keys.Add(a.claims.Confirmation.Key, statement.Delegation); err != nil {
		return nil, err
	}
	return env.Verify(keys, statement.Delegation)
}

// InspectDelegation reads a delegation without checking who signed it: for the initiator, who needs to know what it allows and
// of which artifact it is. Nothing may be decided on its result.
func InspectDelegation(raw []byte) (DelegationClaims, error) {
	var c DelegationClaims
	env, err := statement.Decode(raw, MaxDelegation)
	if err != nil {
		return c, err
	}
	if env.Kind() != statement.Delegation {
		return c, denial.New(denial.WrongType, "not a delegation")
	}
	err = decodeStrict(env.Payload(), &c)
	return c, err
}
