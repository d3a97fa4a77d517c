package record

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// peopleOf returns the authorities that a key change names, if it does. Nothing of it is verified.
func peopleOf(b Bundle, kind statement.Kind) *People {
	if kind != statement.KeyChange || len(b) == 0 {
		return nil
	}
	env, err := statement.Decode(b[0], statement.MaxStatement)
	if err != nil || env.Kind() != kind {
		return nil
	}
	c, err := ReadKeyChange(env.Payload())
	if err != nil {
		return nil
	}
	return c.People
}

// handedOver verifies an act by which authorities hand over to others. It checks, in this order: the others are complete (see
// circle.check), no key changes its person (306), and there is not one person where there were more (409); the statements are signed by root as it is or as it
// will be (see collect), by enough distinct persons of root as it is, and of root as it will be (326 with too few signatures, 409 with
// enough of too few persons).
func (as *Authorities) handedOver(b Bundle, p *People) (*Act, error) {
	next, err := as.next(p)
	if err != nil {
		return nil, err
	}
	var both statement.Keys
	persons := map[statement.Thumbprint]string{}
	for _, those := range []*Authorities{as, next} {
		for _, a := range those.authorities {
			id := a.Key.Thumbprint()
			if !those.keys[RoleRoot].Has(id, statement.KeyChange) || persons[id] != "" {
				continue
			}
			if err := both.Add(a.Key, statement.KeyChange); err != nil {
				return nil, err
			}
			persons[id] = a.Person
		}
	}
	act, err := collect(b, statement.KeyChange, both, persons)
	if err != nil {
		return nil, err
	}
	if err := as.agree(act, "now"); err != nil {
		return nil, err
	}
	return act, next.agree(act, "then")
}

// next returns the authorities that a change names.
func (as *Authorities) next(p *People) (*Authorities, error) {
	c := p.circle()
	if err := c.check(nil); err != nil {
		return nil, err
	}
	for _, a := range c.authorities {
		if was, ok := as.person[a.Key.Thumbprint()]; ok && was != a.Person {
			return nil, denial.New(denial.KeyAmbiguous, "a key would be another person's than it is")
		}
	}
	if c.onePerson && !as.onePerson {
		return nil, denial.New(denial.DualControlMissing, "authorities do not hand over to a single person: only genesis, which relying parties pin, can do without dual control").
			Try("Let the change name two persons at least, each with a key and in each role.")
	}
	return newAuthorities(*c)
}

// agree refuses an act that fewer persons of role root have signed than these authorities demand.
func (as *Authorities) agree(act *Act, when string) error {
	signed, signatures := map[string]bool{}, uint64(0)
	for _, id := range act.signers {
		if as.keys[RoleRoot].Has(id, statement.KeyChange) {
			signed[as.person[id]] = true
			signatures++
		}
	}
	least := as.quorums[RoleRoot].Threshold
	switch enough := least != 0 && uint64(len(signed)) >= least; {
	case !enough && least != 0 && signatures >= least:
		return denial.New(denial.DualControlMissing, "%d keys of role root have signed, but they are of %d persons, and it takes %d who have that role %s", signatures, len(signed), least, when)
	case !enough:
		return denial.New(denial.ThresholdNotMet, "%d of %d persons who have role root %s have signed: a change of authorities is signed by those before it and those after it", len(signed), least, when)
	}
	return nil
}

// Handover is what a change of authorities changes.
type Handover struct {
	Persons []PersonChange // whose keys are others than they were, by URI
	Roles   []RoleChange   // whom another quorum fills, by name
	Reset   []PolicyKind   // of the next policy of these kinds any version may follow
}

// PersonChange is the keys that a person had, and those that the person has from now on: none of somebody who comes, or who goes.
type PersonChange struct {
	Person       string
	Before, Then []statement.Thumbprint
}

// RoleChange is who filled a role, and who does from now on. A role that is not there has a threshold of zero.
type RoleChange struct {
	Role         Role
	Before, Then Quorum
}

// Since returns what becomes of the authorities that there were before.
func (p *People) Since(before People) Handover {
	h := Handover{Reset: p.Reset}
	was, is := keysOf(before), keysOf(*p)
	for _, person := range slices.Sorted(maps.Keys(union(was, is))) {
		if !slices.Equal(was[person], is[person]) {
			h.Persons = append(h.Persons, PersonChange{person, was[person], is[person]})
		}
	}
	for _, role := range slices.Sorted(maps.Keys(union(before.Quorums, p.Quorums))) {
		if old, now := before.Quorums[role].sorted(), p.Quorums[role].sorted(); !old.equal(now) {
			h.Roles = append(h.Roles, RoleChange{role, old, now})
		}
	}
	return h
}

// keysOf returns the keys of each person, in order of their thumbprints.
func keysOf(p People) map[string][]statement.Thumbprint {
	keys := map[string][]statement.Thumbprint{}
	for _, a := range p.Authorities {
		keys[a.Person] = append(keys[a.Person], a.Key.Thumbprint())
	}
	for _, of := range keys {
		slices.SortFunc(of, func(a, b statement.Thumbprint) int { return cmp.Compare(a.String(), b.String()) })
	}
	return keys
}

func union[K comparable, V any](a, b map[K]V) map[K]V {
	all := map[K]V{}
	maps.Copy(all, a)
	maps.Copy(all, b)
	return all
}

func (q Quorum) sorted() Quorum {
	q.Persons = slices.Sorted(slices.Values(q.Persons))
	return q
}

func (q Quorum) equal(o Quorum) bool {
	return q.Threshold == o.Threshold && q.Narrow == o.Narrow && slices.Equal(q.Persons, o.Persons)
}

// Words tells for people what the change is, in one line each: who comes, who goes, whose keys and which roles are others.
func (h *Handover) Words() (lines []string) {
	list := func(keys []statement.Thumbprint) string {
		var words []string
		for _, k := range keys {
			words = append(words, k.String())
		}
		return strings.Join(words, ", ")
	}
	for _, c := range h.Persons {
		switch {
		case c.Before == nil:
			lines = append(lines, fmt.Sprintf("%s comes, with key %s", c.Person, list(c.Then)))
		case c.Then == nil:
			lines = append(lines, fmt.Sprintf("%s goes, with key %s", c.Person, list(c.Before)))
		default:
			lines = append(lines, fmt.Sprintf("%s has key %s in place of %s", c.Person, list(c.Then), list(c.Before)))
		}
	}
	for _, c := range h.Roles {
		lines = append(lines, fmt.Sprintf("%s takes %s; it took %s", c.Role, c.Then.Words(), c.Before.Words()))
	}
	for _, kind := range h.Reset {
		lines = append(lines, fmt.Sprintf("the versions of %s policies begin anew", kind))
	}
	if len(lines) == 0 {
		lines = []string{"nothing is other than it was"}
	}
	return lines
}
