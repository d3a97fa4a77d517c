package record

import (
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
		return nil, denial.New(denial.DualControlMissing, "authorities do not hand over to a single person: only genesis, which relying parties pin, can do without dual control")
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
