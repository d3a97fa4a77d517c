package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/record"
)

func authoritiesCommand(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "authorities",
		Short: "See who the authorities are, and draft a change of them",
		Long: `Authorities are the people who may change what the issuer does: genesis names the first ones. A change puts others in their
place, or other keys and thresholds. It is signed by the quorum of role root as it is and by that of root as it will be, with
"writ sign", and "writ publish" sends it. It takes effect at once, while writd serves; what was logged before stays good.`,
	}
	cmd.AddCommand(authoritiesList(path), authoritiesChange(path))
	return cmd
}

func authoritiesList(path *string) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the authorities, their keys, and how many must sign in each role",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			_, ring, err := c.readKeys(cmd.Context())
			if err != nil {
				return err
			}
			p := ring.Authorities().People()
			return output(cmd, viewPeople(p), peopleText(p))
		},
	}
}

// peopleView is who the authorities are, for machines.
type peopleView struct {
	Authorities []personView             `json:"authorities"`
	Roles       map[record.Role]roleView `json:"roles"`
	OnePerson   bool                     `json:"one_person,omitempty"`
}

type personView struct {
	Person     string `json:"person"`
	Thumbprint string `json:"thumbprint"`
}

type roleView struct {
	Threshold uint64   `json:"threshold"`
	Persons   []string `json:"persons"`
	Narrow    uint64   `json:"narrow,omitempty"`
}

func viewPeople(p record.People) peopleView {
	v := peopleView{Authorities: []personView{}, Roles: map[record.Role]roleView{}, OnePerson: p.OnePerson}
	for _, a := range p.Authorities {
		v.Authorities = append(v.Authorities, personView{a.Person, a.Key.Thumbprint().String()})
	}
	for role, q := range p.Quorums {
		v.Roles[role] = roleView{q.Threshold, q.Persons, q.Narrow}
	}
	return v
}

func peopleText(p record.People) string {
	var text strings.Builder
	for _, a := range p.Authorities {
		fmt.Fprintf(&text, "%s  %s\n", a.Key.Thumbprint(), a.Person)
	}
	for _, role := range slices.Sorted(maps.Keys(p.Quorums)) {
		fmt.Fprintf(&text, "%-11s %s\n", role, p.Quorums[role].Words())
	}
	return text.String()
}

// peopleFlags say what becomes of the authorities.
type peopleFlags struct {
	changeFlags
	add, remove, roles, reset []string
	narrow                    int64
}

func authoritiesChange(path *string) *cobra.Command {
	var f peopleFlags
	cmd := &cobra.Command{
		Use:   "change --draft FILE --why TEXT",
		Short: "Draft the act that changes who the authorities are, or how many must sign",
		Long: `Change drafts an act that begins with the authorities of now. --remove PERSON takes a person out of every role, with all keys.
--add PERSON=KEY.pub gives a person a key; somebody new gets every role but break-glass. Both for one person replace the person's keys:
so does somebody whose key is lost. --role then sets who fills a role and how many must sign.

It is signed by enough people of role root as it is, and by enough of root as it will be: whoever is new signs too.`,
		Example: `  writd authorities change --add mailto:carol@example.org=carol.pem.pub --remove mailto:bob@example.org --why "bob has left" --draft change
  writd authorities change --remove mailto:bob@example.org --add mailto:bob@example.org=new.pem.pub --why "lost key" --draft change`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.check(); err != nil {
				return err
			}
			c, err := loadConfig(*path)
			if err != nil {
				return err
			}
			return c.draftAuthorities(cmd, f)
		},
	}
	f.changeFlags.add(cmd)
	cmd.Flags().StringArrayVar(&f.add, "add", nil, "PERSON=FILE: the URI of a person and a public key (PEM) of that person; repeat")
	cmd.Flags().StringArrayVar(&f.remove, "remove", nil, "the URI of a person who loses every key and role; repeat")
	cmd.Flags().StringArrayVar(&f.roles, "role", nil, "ROLE=THRESHOLD[:PERSON,…]: another threshold, or only some persons, for a role; break-glass=0 ends that role; repeat")
	cmd.Flags().Int64Var(&f.narrow, "narrow", -1, "how many may publish a policy that only narrows the one in force; 0: as many as any other; default: as it is")
	cmd.Flags().StringArrayVar(&f.reset, "reset", nil, "the next policy of this kind (anchors, appraisal, authorization) may have any version, after a stolen key has used up the versions; repeat")
	return cmd
}

// draftAuthorities writes the draft of a change of authorities.
func (c *config) draftAuthorities(cmd *cobra.Command, f peopleFlags) error {
	g, ring, err := c.readKeys(cmd.Context())
	if err != nil {
		return err
	}
	before := ring.Authorities().People()
	p, err := f.apply(before)
	if err != nil {
		return err
	}
	if err := ring.CheckPeople(&p); err != nil {
		return err
	}
	head := ring.Head()
	change := record.KeyChange{Sequence: ring.Sequence() + 1, Previous: head[:], Steps: []record.KeyStep{}, People: &p}
	act, err := f.write(g.Issuer, change)
	if err != nil {
		return err
	}
	text := peopleText(p) + fmt.Sprintf("change %d of authorities drafted in %s: %d of %s sign it, and so do %d of %s, with: writ sign %s --key KEY",
		change.Sequence, f.draft, before.Quorums[record.RoleRoot].Threshold, strings.Join(before.Quorums[record.RoleRoot].Persons, ", "),
		p.Quorums[record.RoleRoot].Threshold, strings.Join(p.Quorums[record.RoleRoot].Persons, ", "), f.draft)
	return output(cmd, map[string]any{"draft": f.draft, "sequence": change.Sequence, "act": act.String(), "authorities": viewPeople(p)}, text)
}

// apply makes the authorities that the flags ask for out of those of now.
func (f peopleFlags) apply(now record.People) (p record.People, err error) {
	p = record.People{Quorums: map[record.Role]record.Quorum{}, OnePerson: now.OnePerson}
	persons := func(all []record.Authority) (names []string) {
		for _, a := range all {
			if !slices.Contains(names, a.Person) {
				names = append(names, a.Person)
			}
		}
		return names
	}
	for _, gone := range f.remove {
		if !slices.Contains(persons(now.Authorities), gone) {
			return p, fmt.Errorf("%w: --remove %s: no authority is called so (writd authorities list)", errMisuse, gone)
		}
	}
	for _, a := range now.Authorities {
		if !slices.Contains(f.remove, a.Person) {
			p.Authorities = append(p.Authorities, a)
		}
	}
	added, err := readAuthorities("--add", f.add)
	if err != nil {
		return p, err
	}
	p.Authorities = append(p.Authorities, added...)
	known, stay := persons(now.Authorities), persons(p.Authorities)
	for role, q := range now.Quorums {
		q.Persons = slices.DeleteFunc(slices.Clone(q.Persons), func(who string) bool { return !slices.Contains(stay, who) })
		for _, who := range persons(added) {
			if !slices.Contains(known, who) && role != record.RoleBreakGlass {
				q.Persons = append(q.Persons, who)
			}
		}
		p.Quorums[role] = q
	}
	for _, r := range f.roles {
		if r == string(record.RoleBreakGlass)+"=0" {
			delete(p.Quorums, record.RoleBreakGlass)
			continue
		}
		role, q, err := parseRole(r, stay)
		if err != nil {
			return p, err
		}
		q.Narrow = p.Quorums[role].Narrow
		p.Quorums[role] = q
	}
	if f.narrow >= 0 {
		q := p.Quorums[record.RolePolicy]
		q.Narrow = uint64(f.narrow)
		p.Quorums[record.RolePolicy] = q
	}
	p.OnePerson = now.OnePerson && len(stay) == 1
	for _, kind := range f.reset {
		p.Reset = append(p.Reset, record.PolicyKind(kind))
	}
	slices.Sort(p.Reset)
	return p, nil
}
