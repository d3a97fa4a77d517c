package record

import (
	"bytes"
	"context"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// roleOf returns the role that signs acts of the kind.
func roleOf(kind statement.Kind) (Role, bool) {
	switch kind {
	case statement.Genesis, statement.KeyChange:
		return RoleRoot, true
	case statement.Policy:
		return RolePolicy, true
	case statement.Enrolment:
		return RoleEnrolment, true
	case statement.Revocation:
		return RoleRevocation, true
	case statement.BreakGlass, statement.Review:
		return RoleBreakGlass, true
	}
	return "", false
}

// kindsOf returns the acts that the role signs.
func kindsOf(role Role) (all []statement.Kind) {
	for _, k := range statement.Kinds() {
		if r, ok := roleOf(k); ok && r == role {
			all = append(all, k)
		}
	}
	return all
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

// Persons returns who signed, in the order of the bundle.
func (a *Act) Persons() []string { return a.persons }

// Claims returns the CWT claims that every statement carries.
func (a *Act) Claims() statement.Claims { return a.claims }

// Authorities are the people that genesis names. The zero value trusts nobody.
type Authorities struct {
	keys    map[Role]statement.Keys
	person  map[statement.Thumbprint]string
	quorums map[Role]Quorum
}

// NewAuthorities returns the people of a genesis that Check accepts.
func NewAuthorities(g *Genesis) (*Authorities, error) {
	if err := g.Check(); err != nil {
		return nil, err
	}
	as := &Authorities{map[Role]statement.Keys{}, map[statement.Thumbprint]string{}, g.Quorums}
	for _, kind := range []statement.Kind{statement.Genesis, statement.Policy, statement.Enrolment, statement.Revocation, statement.BreakGlass} {
		role, _ := roleOf(kind)
		var keys statement.Keys
		for _, a := range g.Authorities {
			as.person[a.Key.Thumbprint()] = a.Person
			for _, p := range g.Quorums[role].Persons {
				if p == a.Person {
					if err := keys.Add(a.Key, kindsOf(role)...); err != nil {
						return nil, err
					}
				}
			}
		}
		as.keys[role] = keys
	}
	return as, nil
}

// Quorum returns who may fill a role, as genesis says; nobody where it leaves the role out.
func (as *Authorities) Quorum(role Role) Quorum { return as.quorums[role] }

// Verify checks, in this order: the kind is an act's; each statement decodes and verifies with a key of the role;
// all claims and payloads are the same bytes (311); no key has signed twice (306); the distinct persons reach the role's threshold (403 for policies,
// 410 for break-glass, 326 otherwise).
func (as *Authorities) Verify(b Bundle, kind statement.Kind) (*Act, error) {
	role, ok := roleOf(kind)
	if !ok || as == nil {
		return nil, denial.New(denial.WrongType, "%s is not an act of authorities", kind)
	}
	act := &Act{kind: kind}
	seen, signed := map[string]bool{}, map[statement.Thumbprint]bool{}
	for i, raw := range b {
		v, err := verifyOne(raw, as.keys[role], kind)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			act.claims, act.payload = v.Claims(), v.Payload()
		}
		if v.Claims() != act.claims || !bytes.Equal(v.Payload(), act.payload) {
			return nil, denial.New(denial.WrongType, "the statements of one act differ")
		}
		key := v.Key().Thumbprint()
		if signed[key] {
			return nil, denial.New(denial.KeyAmbiguous, "a key has signed the act twice")
		}
		signed[key] = true
		act.leaves = append(act.leaves, v.Leaf())
		if p := as.person[key]; !seen[p] {
			seen[p] = true
			act.persons = append(act.persons, p)
		}
	}
	if q := as.quorums[role]; q.Threshold == 0 || uint64(len(act.persons)) < q.Threshold {
		return nil, denial.New(ShortOf(kind), "%d of %d persons with role %s have signed", len(act.persons), q.Threshold, role)
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
