package record

import (
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// circle is the people who may change what an issuer does: as genesis names them, or a change of authorities.
type circle struct {
	authorities []Authority
	quorums     map[Role]Quorum
	onePerson   bool
}

// check refuses, in this order: a person that is no URI (104), a key that stands twice or is one of the issuer's (306); break-glass
// without anybody left to review, a role that is missing or unknown (326); thresholds, as checkRole says; that there is said to be one
// person, and there are more (409).
func (p *circle) check(issuer map[string]statement.Key) error {
	var seen statement.Keys
	for purpose, key := range issuer {
		if err := seen.Add(key, KindsOf(purpose)...); err != nil {
			return err
		}
	}
	persons := map[string]bool{}
	for _, a := range p.authorities {
		if !absolute(a.Person) {
			return denial.New(denial.ClaimAbsent, "an authority needs the URI of a person").Try("Name each person by a URI, such as mailto:alice@example.org.")
		}
		if err := seen.Add(a.Key, statement.Genesis); err != nil {
			return err
		}
		persons[a.Person] = true
	}
	roles := Roles()
	if q, ok := p.quorums[RoleBreakGlass]; ok {
		if roles = append(roles, RoleBreakGlass); q.Threshold < MinBreakGlass || q.Threshold >= uint64(len(q.Persons)) {
			return denial.New(denial.ThresholdNotMet, "role %s needs a threshold of at least %d and a person more, who can review", RoleBreakGlass, MinBreakGlass).
				Try("Name more persons, or end the role.")
		}
	}
	if len(p.quorums) != len(roles) {
		return denial.New(denial.ThresholdNotMet, "each of the roles %v must be named once", Roles())
	}
	for _, role := range roles {
		if err := p.checkRole(role, persons); err != nil {
			return err
		}
	}
	if p.onePerson && len(persons) != 1 {
		return denial.New(denial.DualControlMissing, "where %d persons are named, there is dual control", len(persons)).
			Try("Leave out that one person is alone, or name no more than that person.")
	}
	return nil
}

// checkRole refuses, in this order: a threshold of zero, above the number of distinct persons, or for narrowing where that has no
// meaning (326); one that leaves to a single person what takes two (409); a person without a key (305).
func (p *circle) checkRole(role Role, known map[string]bool) error {
	q := p.quorums[role]
	persons := slices.Compact(slices.Sorted(slices.Values(q.Persons)))
	switch {
	case q.Threshold == 0 || q.Threshold > uint64(len(persons)) || len(persons) != len(q.Persons):
		return denial.New(denial.ThresholdNotMet, "role %s needs a threshold from 1 to its number of persons", role).
			Try("Give the role a threshold that its persons can reach, or name each of more persons once.")
	case q.Narrow > q.Threshold || q.Narrow != 0 && role != RolePolicy:
		return denial.New(denial.ThresholdNotMet, "only role %s has a threshold for narrowing, and it is not above the other", RolePolicy)
	case role.Dual() && q.Threshold < 2 && !p.onePerson:
		return denial.New(denial.DualControlMissing, "role %s takes two persons at least", role).Try("Give the role a threshold of two at least, and as many persons.")
	}
	for _, person := range persons {
		if !known[person] {
			return denial.New(denial.KeyUnknown, "a person of role %s has no key", role)
		}
	}
	return nil
}
