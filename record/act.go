package record

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"unicode/utf8"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// roleOf returns the role that signs acts of the kind.
func roleOf(kind statement.Kind) (Role, bool) {
	switch kind {
	case statement.Genesis, statement.Epoch:
		return RoleRoot, true
	case statement.Policy:
		return RolePolicy, true
	case statement.Enrolment:
		return RoleEnrolment, true
	case statement.Revocation:
		return RoleRevocation, true
	case statement.KeyChange:
		return RoleKeys, true
	case statement.BreakGlass, statement.Review:
		return RoleBreakGlass, true
	}
	return "", false
}

// kindsOf returns the acts that the role signs. Root signs those key changes that change the authorities.
func kindsOf(role Role) (all []statement.Kind) {
	for _, k := range statement.Kinds() {
		if r, ok := roleOf(k); ok && r == role {
			all = append(all, k)
		}
	}
	if role == RoleRoot {
		all = append(all, statement.KeyChange)
	}
	return all
}

// IsAct reports whether statements of the kind are signed by authorities.
func IsAct(kind statement.Kind) bool {
	_, ok := roleOf(kind)
	return ok
}

// Bundle is an act on its way: statements of one kind with the same payload. Each element is a leaf.
type Bundle [][]byte

// Encode returns the bundle as a CBOR array of byte strings: the content of an act file and the body that is posted.
func (b Bundle) Encode() ([]byte, error) { return statement.Marshal([][]byte(b)) }

// DecodeBundle reads what Encode wrote: one to 16 statements.
func DecodeBundle(data []byte) (Bundle, error) {
	var b [][]byte
	if len(data) > 16*(statement.MaxStatement+4) {
		return nil, denial.New(denial.StructureLimit, "an act has at most 16 statements")
	}
	if err := statement.Unmarshal(data, &b); err != nil {
		return nil, err
	}
	if len(b) == 0 || len(b) > 16 {
		return nil, denial.New(denial.StructureLimit, "an act has 1 to 16 statements")
	}
	return b, nil
}

// ReadAct reads an act that a person hands over as a file. A draft is refused as what it is: nobody has signed it (326).
func ReadAct(data []byte) (Bundle, error) {
	b, err := DecodeBundle(data)
	if err == nil {
		return b, nil
	}
	if _, draftErr := DecodeDraft(data); draftErr == nil {
		return nil, denial.New(denial.ThresholdNotMet, "this is a draft, which nobody has signed: writ sign FILE --key KEY")
	}
	if utf8.Valid(data) { // an act begins with an array of CBOR, which no text does
		return nil, denial.New(denial.WrongType, "this is no signed act").
			Try("Give what \"writ sign\", or a command with --out, has written; a policy is signed with \"writ policy sign\" first.")
	}
	return nil, err
}

// SignAct adds the signature of one authority to the bundle. The first signature fixes the claims and the payload;
// later ones repeat them.
func SignAct(ctx context.Context, b Bundle, s statement.Signer, kind statement.Kind, c statement.Claims, payload []byte) (Bundle, error) {
	leaf, err := statement.Sign(ctx, s, kind, c, payload)
	if err != nil {
		return nil, err
	}
	return append(b[:len(b):len(b)], leaf), nil
}

// Act is an act that enough authorities have signed. Only Authorities.Verify makes it.
type Act struct {
	kind    statement.Kind
	claims  statement.Claims
	payload []byte
	leaves  [][]byte
	signers []statement.Thumbprint
	persons []string
}

// Kind returns the kind of the act's statements.
func (a *Act) Kind() statement.Kind { return a.kind }

// Payload returns the payload that every authority signed.
func (a *Act) Payload() []byte { return bytes.Clone(a.payload) }

// Digest returns SHA-256 of the payload: the name of the act, whoever signed it.
func (a *Act) Digest() statement.Digest { return statement.DigestOf(a.payload) }

// Leaves returns the statements in the order of the bundle.
func (a *Act) Leaves() [][]byte { return a.leaves }

// Persons returns the distinct persons who signed, in the order of the bundle: the author, then those who approve.
func (a *Act) Persons() []string { return a.persons }

// Claims returns the CWT claims that every statement carries.
func (a *Act) Claims() statement.Claims { return a.claims }

// Authorities are the people that genesis or a change of authorities names. The zero value trusts nobody.
type Authorities struct {
	circle
	keys   map[Role]statement.Keys
	person map[statement.Thumbprint]string
}

// NewAuthorities returns the people of a genesis that Check accepts.
func NewAuthorities(g *Genesis) (*Authorities, error) {
	if err := g.Check(); err != nil {
		return nil, err
	}
	return newAuthorities(circle{g.Authorities, g.Quorums, g.OnePerson})
}

// newAuthorities returns the people of a circle that has been checked.
func newAuthorities(p circle) (*Authorities, error) {
	as := &Authorities{p, map[Role]statement.Keys{}, map[statement.Thumbprint]string{}}
	for _, a := range p.authorities {
		as.person[a.Key.Thumbprint()] = a.Person
	}
	for role := range p.quorums {
		keys, err := as.of(role)
		if err != nil {
			return nil, err
		}
		as.keys[role] = keys
	}
	return as, nil
}

// of returns the keys of the persons of a role, for the acts that it signs.
func (as *Authorities) of(role Role) (keys statement.Keys, err error) {
	for _, a := range as.authorities {
		if !slices.Contains(as.quorums[role].Persons, a.Person) {
			continue
		}
		if err := keys.Add(a.Key, kindsOf(role)...); err != nil {
			return keys, err
		}
	}
	return keys, nil
}

// Quorum returns who may fill a role; nobody where the role is left out.
func (as *Authorities) Quorum(role Role) Quorum { return as.quorums[role] }

// People returns everybody with a key, and what they may do, as a change of authorities names them.
func (as *Authorities) People() People {
	return People{Authorities: slices.Clone(as.authorities), Quorums: maps.Clone(as.quorums), OnePerson: as.onePerson}
}

// Verify checks, in this order: the kind is an act's (311); each statement decodes and verifies with a key of the role, and each
// but the first is an approval of the very bytes of the first, claims and payload (409); no key has signed twice (306);
// enough distinct persons have signed: with too few signatures it is 403 for policies, 410 for break-glass and 326 otherwise,
// with enough signatures of too few persons 409; the claims, as terms says; the act is about what its payload names (706).
//
// For a policy as many are enough as may narrow: CheckQuorum is asked where it does not only narrow. Break-glass and its review
// have their terms and their subject in the payload: ReadBreakGlass and ReadReview check those.
//
// A key change by which the authorities change is signed by enough persons of role root as it is, and by enough as it will be.
func (as *Authorities) Verify(b Bundle, kind statement.Kind) (*Act, error) {
	role, ok := roleOf(kind)
	if !ok || as == nil {
		return nil, denial.New(denial.WrongType, "%s is not an act of authorities", kind)
	}
	act, err := as.signed(b, kind, role)
	if err != nil {
		return nil, err
	}
	if err := terms(kind, act.claims); err != nil {
		return nil, err
	}
	if err := act.checkSubject(); err != nil {
		return nil, err
	}
	return act, nil
}

// signed verifies the statements of an act and that enough have signed.
func (as *Authorities) signed(b Bundle, kind statement.Kind, role Role) (*Act, error) {
	if p := peopleOf(b, kind); p != nil {
		return as.handedOver(b, p)
	}
	act, err := collect(b, kind, as.keys[role], as.person)
	if err != nil {
		return nil, err
	}
	least := as.quorums[role].Threshold
	if n := as.quorums[role].Narrow; n != 0 && kind == statement.Policy {
		least = n
	}
	return act, act.reaches(role, least)
}

// CheckQuorum refuses an act that has too few signatures for more than narrowing (409). Why says what it does beside.
func (as *Authorities) CheckQuorum(a *Act, why string) error {
	role, ok := roleOf(a.kind)
	if q := as.quorums[role]; !ok || q.Threshold == 0 || uint64(len(a.persons)) < q.Threshold {
		return denial.New(denial.DualControlMissing, "%d of %d persons with role %s have signed, and it does not only narrow: %s", len(a.persons), q.Threshold, role, why).
			Try("Have as many persons sign as the role demands, or publish a policy that only narrows the one in force: see \"writ policy diff\".")
	}
	return nil
}

// collect verifies the statements of an act and says who has signed.
func collect(b Bundle, kind statement.Kind, keys statement.Keys, persons map[statement.Thumbprint]string) (*Act, error) {
	act := &Act{kind: kind}
	for i, raw := range b {
		v, err := verifyOne(raw, keys, kind)
		switch {
		case i > 0 && denial.Is(err, denial.SignatureInvalid), i > 0 && err == nil && (v.Claims() != act.claims || !bytes.Equal(v.Payload(), act.payload)):
			return nil, denial.New(denial.DualControlMissing, "signature %d is an approval of other bytes than the first", i+1)
		case err != nil:
			return nil, err
		case i == 0:
			act.claims, act.payload = v.Claims(), v.Payload()
		}
		key := v.Key().Thumbprint()
		if slices.Contains(act.signers, key) {
			return nil, denial.New(denial.KeyAmbiguous, "a key has signed the act twice")
		}
		act.signers, act.leaves = append(act.signers, key), append(act.leaves, v.Leaf())
		if p := persons[key]; !slices.Contains(act.persons, p) {
			act.persons = append(act.persons, p)
		}
	}
	return act, nil
}

func verifyOne(raw []byte, keys statement.Keys, kind statement.Kind) (*statement.Verified, error) {
	env, err := statement.Decode(raw, statement.MaxStatement)
	if err != nil {
		return nil, err
	}
	return env.Verify(keys, kind)
}

// reaches refuses an act that fewer distinct persons have signed than needed.
func (a *Act) reaches(role Role, threshold uint64) error {
	have := uint64(len(a.persons))
	switch {
	case threshold != 0 && have >= threshold:
		return nil
	case threshold != 0 && uint64(len(a.leaves)) >= threshold:
		return denial.New(denial.DualControlMissing, "%d keys of role %s have signed, but they are of %d persons, and it takes %d", len(a.leaves), role, have, threshold)
	}
	return denial.New(ShortOf(a.kind), "%d of %d persons with role %s have signed", have, threshold, role)
}

// ShortOf returns why an act of the kind with too few good signatures is refused: PolicyUnsigned, BreakGlassInvalid or
// ThresholdNotMet.
func ShortOf(kind statement.Kind) denial.Reason {
	switch kind {
	case statement.Policy:
		return denial.PolicyUnsigned
	case statement.BreakGlass, statement.Review:
		return denial.BreakGlassInvalid
	}
	return denial.ThresholdNotMet
}

// VerifyGenesis checks a genesis act against itself and, if want is not zero, against a pinned digest of its payload
// (305 if another). With a zero digest it proves only that the people it names have signed it: enough to start a log,
// never enough to trust one.
func VerifyGenesis(b Bundle, want statement.Digest) (*Genesis, *Act, error) {
	if len(b) == 0 {
		return nil, nil, denial.New(denial.ClaimAbsent, "no genesis")
	}
	env, err := statement.Decode(b[0], statement.MaxStatement)
	if err != nil {
		return nil, nil, err
	}
	if want != (statement.Digest{}) && statement.DigestOf(env.Payload()) != want {
		return nil, nil, denial.New(denial.KeyUnknown, "this is not the genesis that the trust file pins")
	}
	var g Genesis
	if err := statement.Unmarshal(env.Payload(), &g); err != nil {
		return nil, nil, err
	}
	as, err := NewAuthorities(&g)
	if err != nil {
		return nil, nil, err
	}
	act, err := as.Verify(b, statement.Genesis)
	if err != nil {
		return nil, nil, err
	}
	return &g, act, nil
}
