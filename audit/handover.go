package audit

import (
	"fmt"
	"strings"

	"github.com/governed-execution/writ/record"
)

// Handover is a change of authorities: who goes, who comes, whose keys and which quorums are others.
type Handover struct {
	Number  uint64         `json:"number"` // of the key change
	Index   uint64         `json:"index"`  // of its first statement
	Logged  uint64         `json:"logged"`
	Signed  []string       `json:"signed"` // persons
	Why     string         `json:"why"`
	Persons []PersonChange `json:"persons,omitempty"` // whose keys are others than they were
	Roles   []RoleChange   `json:"roles,omitempty"`   // whose quorum is another
	Reset   []string       `json:"reset,omitempty"`   // kinds of policies whose versions begin anew
	Lines   []string       `json:"words"`             // the same for people
}

// PersonChange is the keys of a person, by their thumbprints: none before of one who comes, none then of one who goes.
type PersonChange struct {
	Person string   `json:"person"`
	Before []string `json:"before,omitempty"`
	Then   []string `json:"then,omitempty"`
}

// RoleChange is the quorum of a role; nil where the role was not there, or is not any more.
type RoleChange struct {
	Role   string  `json:"role"`
	Before *Quorum `json:"before,omitempty"`
	Then   *Quorum `json:"then,omitempty"`
}

// Quorum is who may fill a role, and how many of them must sign.
type Quorum struct {
	Threshold uint64   `json:"threshold"`
	Persons   []string `json:"persons"`
	Narrow    uint64   `json:"narrow,omitempty"` // for what only narrows
}

// Words says for people what the change is.
func (h *Handover) Words() string {
	return fmt.Sprintf("change %d, entry %d, signed by %s (%s): %s", h.Number, h.Index, strings.Join(h.Signed, ", "), h.Why, strings.Join(h.Lines, "; "))
}

// handedOver takes note of what a change makes of the authorities that there were before.
func (v *verifier) handedOver(act *record.Act, c *record.KeyChange, before record.People, e *entry) {
	since := c.People.Since(before)
	h := Handover{Number: c.Sequence, Index: e.index, Logged: e.logged, Signed: act.Persons(), Why: c.Why, Lines: since.Words()}
	for _, p := range since.Persons {
		one := PersonChange{Person: p.Person}
		for _, k := range p.Before {
			one.Before = append(one.Before, k.String())
		}
		for _, k := range p.Then {
			one.Then = append(one.Then, k.String())
		}
		h.Persons = append(h.Persons, one)
	}
	for _, r := range since.Roles {
		h.Roles = append(h.Roles, RoleChange{string(r.Role), quorumOf(r.Before), quorumOf(r.Then)})
	}
	for _, kind := range since.Reset {
		h.Reset = append(h.Reset, string(kind))
	}
	v.report.Handovers = append(v.report.Handovers, h)
}

func quorumOf(q record.Quorum) *Quorum {
	if q.Threshold == 0 {
		return nil
	}
	return &Quorum{q.Threshold, q.Persons, q.Narrow}
}
