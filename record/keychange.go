package record

import (
	"context"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// maxSteps bounds one key change.
const maxSteps = 16

// maxWhy bounds the reason of a key change, in bytes.
const maxWhy = 512

// KeyChange is the payload of a key change: an act by which authorities change the states of the issuer's keys, or by which they
// themselves change. Changes are one chain from genesis on: each names the one before, so that none can be left out, doubled or
// put in its place.
type KeyChange struct {
	Version  uint64    `cbor:"1,keyasint"`
	Sequence uint64    `cbor:"2,keyasint"` // 1, 2, 3, …
	Previous []byte    `cbor:"3,keyasint"` // SHA-256 of the payload before: of the last change, or of genesis
	Time     uint64    `cbor:"4,keyasint"` // seconds since 1970 UTC
	Steps    []KeyStep `cbor:"5,keyasint"` // take effect together, in this order; none in a change of authorities
	Why      string    `cbor:"6,keyasint"` // for people, 1 to 512 bytes
	People   *People   `cbor:"7,keyasint,omitempty"`
}

// People are who stands over the issuer from a change on, in place of all who did before.
type People struct {
	Authorities []Authority     `cbor:"1,keyasint"`
	Quorums     map[Role]Quorum `cbor:"2,keyasint"`
	OnePerson   bool            `cbor:"3,keyasint,omitempty"` // as in genesis
	Reset       []PolicyKind    `cbor:"4,keyasint,omitempty"` // the next policy of these kinds may have any version (P04); ascending
}

func (p *People) circle() *circle { return &circle{p.Authorities, p.Quorums, p.OnePerson} }

// KeyStep is one key's change of state.
type KeyStep struct {
	Purpose    string   `cbor:"1,keyasint"`
	Key        []byte   `cbor:"2,keyasint"`           // thumbprint
	From       KeyState `cbor:"3,keyasint"`           // the state that it has now
	To         KeyState `cbor:"4,keyasint"`           // the state that it gets
	Since      uint64   `cbor:"5,keyasint,omitempty"` // pre-active: signs not before; compromised: fell then, logged time
	Birth      *Birth   `cbor:"6,keyasint,omitempty"` // pre-active: the key, and how it was made
	Succession []byte   `cbor:"7,keyasint,omitempty"` // pre-active: statement of the key that is active for the purpose
}

// Check refuses a change that is incomplete, has a step that no key can take (409), or changes both keys and authorities (312). Who
// the authorities are to be is checked by KeyRing.Apply.
func (c *KeyChange) Check() error {
	switch {
	case c.Version != Version:
		return denial.New(denial.UnsupportedVersion, "key change version %d", c.Version)
	case c.Sequence == 0 || len(c.Previous) != 32 || c.Time == 0 || len(c.Steps) > maxSteps:
		return denial.New(denial.ClaimAbsent, "a key change needs a sequence, the digest before it, a time and at most %d steps", maxSteps)
	case c.Why == "" || len(c.Why) > maxWhy:
		return denial.New(denial.ClaimAbsent, "a key change needs a reason of at most %d bytes", maxWhy)
	case (len(c.Steps) == 0) != (c.People != nil):
		return denial.New(denial.PayloadForm, "a key change has either steps or other authorities")
	case c.People != nil && !ascending(c.People.Reset):
		return denial.New(denial.PayloadForm, "policies whose versions begin anew are of the kinds anchors, appraisal and authorization, in this order")
	}
	for _, s := range c.Steps {
		if err := s.check(); err != nil {
			return err
		}
	}
	return nil
}

func (s *KeyStep) check() error {
	announced := s.To == KeyPreActive
	switch {
	case KindsOf(s.Purpose) == nil || len(s.Key) != 32:
		return denial.New(denial.PayloadForm, "a step names a purpose and a thumbprint")
	case !s.From.To(s.To):
		return denial.New(denial.DualControlMissing, "a key does not go from %s to %s", s.From, s.To).
			Try("See the state of the key with \"writd keys list\": a retired, compromised or destroyed key is never used again.")
	case announced != (s.Birth != nil), !announced && s.Succession != nil:
		return denial.New(denial.PayloadForm, "a step has the birth of a key if it announces one, and else none")
	case (s.Since != 0) != (announced || s.To == KeyCompromised):
		return denial.New(denial.ClaimAbsent, "an announcement says from when the key signs, a compromise since when, and no other step")
	case announced && (s.Birth.Purpose != s.Purpose || !s.Birth.Key.Valid() || s.Birth.Key.Thumbprint() != statement.Thumbprint(s.Key)):
		return denial.New(denial.KeyUnknown, "the birth is of another key than the one announced")
	case announced && s.Birth.Ceremony != nil:
		return s.Birth.Ceremony.check()
	}
	return nil
}

// Births returns the births of the keys that the change announces.
func (c *KeyChange) Births() (all []Birth) {
	for _, s := range c.Steps {
		if s.Birth != nil {
			all = append(all, *s.Birth)
		}
	}
	return all
}

// Succession is what the key in use says of the key that will follow it. It holds in one place of one chain only.
type Succession struct {
	Version  uint64        `cbor:"1,keyasint"`
	Purpose  string        `cbor:"2,keyasint"`
	Key      statement.Key `cbor:"3,keyasint"`
	Previous []byte        `cbor:"4,keyasint"` // as in the change that holds it
}

// Check refuses a succession that is incomplete.
func (s *Succession) Check() error {
	switch {
	case s.Version != Version:
		return denial.New(denial.UnsupportedVersion, "succession version %d", s.Version)
	case KindsOf(s.Purpose) == nil || !s.Key.Valid() || len(s.Previous) != 32:
		return denial.New(denial.ClaimAbsent, "a succession needs a purpose, a key and the digest before it")
	}
	return nil
}

// SignSuccession has the key in use name its successor.
func SignSuccession(ctx context.Context, s statement.Signer, issuer string, next Succession) ([]byte, error) {
	if err := next.Check(); err != nil {
		return nil, err
	}
	payload, err := statement.Marshal(next)
	if err != nil {
		return nil, err
	}
	return statement.Sign(ctx, s, statement.Succession, statement.Claims{Issuer: issuer, Subject: KeySubject(issuer)}, payload)
}

// ReadKeyChange reads the payload of a key change.
func ReadKeyChange(payload []byte) (*KeyChange, error) {
	c := &KeyChange{}
	if err := statement.Unmarshal(payload, c); err != nil {
		return nil, err
	}
	return c, c.Check()
}

// ReadSuccession reads the payload of a succession.
func ReadSuccession(payload []byte) (*Succession, error) {
	s := &Succession{}
	if err := statement.Unmarshal(payload, s); err != nil {
		return nil, err
	}
	return s, s.Check()
}

// KeySubject returns the sub of an issuer's key changes and successions.
func KeySubject(issuer string) string { return issuer + "/keys" }

// ascending reports whether kinds of policies are known, sorted and distinct.
func ascending(kinds []PolicyKind) bool {
	for i, k := range kinds {
		if !slices.Contains([]PolicyKind{Anchors, Appraisal, Authorization}, k) || i > 0 && kinds[i-1] >= k {
			return false
		}
	}
	return true
}
