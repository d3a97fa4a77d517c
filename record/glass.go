package record

import (
	"encoding/hex"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

const (
	// MaxBreakGlass is the longest life of a break-glass authorization, in seconds.
	MaxBreakGlass = 3600
	// ReviewWithin is how many seconds after a break-glass authorization was logged its review must be.
	ReviewWithin = 24 * 3600

	maxWords = 1024 // bytes of a justification or a finding
	maxScope = 8 << 10
)

// BreakGlass is the payload of a break-glass authorization: people allow one execution in place of the issuer's decision.
// It is good for one use, on one host, at one gate, and only where the authorization policy that it names declares it.
type BreakGlass struct {
	Version   uint64   `cbor:"1,keyasint"`
	ID        []byte   `cbor:"2,keyasint"` // 16 random bytes: the name of the authorization and of its one execution
	Host      string   `cbor:"3,keyasint"` // URI
	Audience  string   `cbor:"4,keyasint"` // URI of one gate
	Initiator string   `cbor:"5,keyasint"` // URI of who will use it
	Scope     []byte   `cbor:"6,keyasint"` // what may be done, as an artifact's scope is encoded
	Policy    Declared `cbor:"7,keyasint"`
	IssuedAt  uint64   `cbor:"8,keyasint"` // seconds since 1970 UTC
	Expires   uint64   `cbor:"9,keyasint"`
	Why       string   `cbor:"10,keyasint"`           // for people; it stands in the log
	Waived    []string `cbor:"11,keyasint,omitempty"` // persons who waive attestation, ascending; each must sign
}

// Declared names the rule of an authorization policy that declares a break-glass scope.
type Declared struct {
	ID      string `cbor:"1,keyasint"` // URI of the policy
	Hash    []byte `cbor:"2,keyasint"` // 32 bytes
	Version uint64 `cbor:"3,keyasint"` // of the policy
	Rule    string `cbor:"4,keyasint"` // name of the rule
}

// ReadBreakGlass reads the payload of an act that is a break-glass authorization. It checks, in this order: the kind
// (311); the payload, as Check says; header and payload name the same authorization (706); every person who is said to
// waive attestation has signed (102).
func ReadBreakGlass(act *Act) (*BreakGlass, error) {
	var g BreakGlass
	if act.Kind() != statement.BreakGlass {
		return nil, denial.New(denial.WrongType, "the act is no break-glass authorization")
	}
	if err := statement.Unmarshal(act.Payload(), &g); err != nil {
		return nil, err
	}
	if err := g.Check(); err != nil {
		return nil, err
	}
	if act.Claims().Subject != g.Subject(act.Claims().Issuer) {
		return nil, denial.New(denial.IdentityConflict, "header and payload name different authorizations")
	}
	for _, p := range g.Waived {
		if !slices.Contains(act.Persons(), p) {
			return nil, denial.New(denial.NoEvidence, "a person who is said to waive attestation has not signed")
		}
	}
	return &g, nil
}

// Check refuses an authorization of another version (911), one that is incomplete (104), and one that lives longer than
// MaxBreakGlass, or whose waiver is not by at least MinBreakGlass distinct persons in order (410). It does not read the
// scope.
func (g *BreakGlass) Check() error {
	switch {
	case g.Version != Version:
		return denial.New(denial.UnsupportedVersion, "break-glass version %d", g.Version)
	case len(g.ID) != 16 || !absolute(g.Host) || !absolute(g.Audience) || !absolute(g.Initiator):
		return denial.New(denial.ClaimAbsent, "a break-glass authorization needs an id, a host, one gate and who will use it")
	case len(g.Scope) == 0 || len(g.Scope) > maxScope || !absolute(g.Policy.ID) || len(g.Policy.Hash) != 32 || g.Policy.Version == 0 || g.Policy.Rule == "":
		return denial.New(denial.ClaimAbsent, "a break-glass authorization needs a scope and the rule that declares it")
	case g.Why == "" || len(g.Why) > maxWords:
		return denial.New(denial.ClaimAbsent, "a break-glass authorization needs a justification of at most %d bytes", maxWords)
	case g.IssuedAt == 0 || g.Expires <= g.IssuedAt || g.Expires-g.IssuedAt > MaxBreakGlass:
		return denial.New(denial.BreakGlassInvalid, "a break-glass authorization lives for at most %d s", MaxBreakGlass)
	case g.Waived != nil && (len(g.Waived) < MinBreakGlass || !distinct(g.Waived)):
		return denial.New(denial.BreakGlassInvalid, "attestation is waived by at least %d distinct persons, in ascending order", MinBreakGlass)
	}
	return nil
}

// Subject returns the sub of the statements of the act, for an issuer.
func (g *BreakGlass) Subject(issuer string) string {
	return issuer + "/break-glass/" + hex.EncodeToString(g.ID)
}

func distinct(ascending []string) bool {
	for i, s := range ascending {
		if s == "" || i > 0 && ascending[i-1] >= s {
			return false
		}
	}
	return true
}

// Review is the payload of the review that every break-glass authorization must have within ReviewWithin, used or not. At
// least one of those who sign it has not signed the authorization.
type Review struct {
	Version   uint64 `cbor:"1,keyasint"`
	Act       []byte `cbor:"2,keyasint"` // SHA-256 of the payload of the authorization
	Time      uint64 `cbor:"3,keyasint"` // seconds since 1970 UTC
	Justified bool   `cbor:"4,keyasint"`
	Finding   string `cbor:"5,keyasint"` // for people; it stands in the log
	Nonce     []byte `cbor:"6,keyasint"` // 16 random bytes
}

// Subject returns the sub of the statements of the act, for an issuer.
func (r *Review) Subject(issuer string) string {
	return issuer + "/break-glass-reviews/" + hex.EncodeToString(r.Act)
}

// ReadReview reads the payload of an act that is a review of a break-glass authorization. It checks, in this order: the kind
// (311); the payload, as Check says; header and payload name the same authorization (706).
func ReadReview(act *Act) (*Review, error) {
	var r Review
	if act.Kind() != statement.Review {
		return nil, denial.New(denial.WrongType, "the act is no review of a break-glass authorization")
	}
	if err := statement.Unmarshal(act.Payload(), &r); err != nil {
		return nil, err
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	if act.Claims().Subject != r.Subject(act.Claims().Issuer) {
		return nil, denial.New(denial.IdentityConflict, "header and payload name different authorizations")
	}
	return &r, nil
}

// Check refuses a review of another version (911) and one that is incomplete (104).
func (r *Review) Check() error {
	switch {
	case r.Version != Version:
		return denial.New(denial.UnsupportedVersion, "break-glass review version %d", r.Version)
	case len(r.Act) != 32 || r.Time == 0 || r.Finding == "" || len(r.Finding) > maxWords || len(r.Nonce) != 16:
		return denial.New(denial.ClaimAbsent, "a review needs what it reviews, a time, a finding of at most %d bytes and a nonce", maxWords)
	}
	return nil
}

// Words says for people what the review came to.
func (r *Review) Words() string {
	if r.Justified {
		return "justified"
	}
	return "not justified"
}

// Independent checks that somebody who signed the review has not signed the authorization that it reviews (410).
func Independent(review *Act, signed []string) error {
	for _, p := range review.Persons() {
		if !slices.Contains(signed, p) {
			return nil
		}
	}
	return denial.New(denial.BreakGlassInvalid, "all who signed the review had signed the authorization too")
}

// Reviewable checks that somebody of the quorum is left who has not signed the authorization, and can review it (410).
func (as *Authorities) Reviewable(act *Act) error {
	for _, p := range as.Quorum(RoleBreakGlass).Persons {
		if !slices.Contains(act.Persons(), p) {
			return nil
		}
	}
	return denial.New(denial.BreakGlassInvalid, "every person of the quorum has signed, so that nobody is left to review")
}
