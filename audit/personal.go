package audit

import (
	"context"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Personal is one piece of personal data that an enrolment commits to.
type Personal struct {
	Field      string `json:"field"`
	Commitment string `json:"commitment"`      // SHA-256 of the opening
	Value      string `json:"value,omitempty"` // empty: not disclosed
}

// openings adds the openings that the query asks for of what an enrolment commits to. Every statement of an act has the same
// commitments; they are opened once.
func (b *builder) openings(ctx context.Context, e *entry) error {
	if e.kind != statement.Enrolment || len(b.query.Disclose) == 0 {
		return nil
	}
	var en record.Enrolment
	if err := statement.Unmarshal(e.env.Payload(), &en); err != nil {
		return err
	}
	act := statement.DigestOf(e.env.Payload())
	if act == b.act {
		return nil
	}
	b.act = act
	for _, field := range b.query.Disclose {
		commitment := sum(en.Personal[field])
		if b.opened[commitment] {
			continue
		}
		raw, err := b.part(ctx, e, field, commitment)
		if err != nil {
			return err
		}
		if raw == nil {
			continue
		}
		b.opened[commitment] = true
		if err := b.add(nameOpening(commitment), raw); err != nil {
			return err
		}
	}
	return nil
}

// personal opens what the bundle discloses of an enrolment's personal data, as act says.
func (v *verifier) personal(e *record.Enrolment, index uint64) error {
	opened := map[string]string{}
	for _, field := range sortedKeys(e.Personal) {
		raw, err := v.read(nameOpening(sum(e.Personal[field])))
		if err != nil {
			return err
		}
		disclosed := slices.Contains(v.m.Query.Disclose, field)
		switch {
		case raw != nil && !disclosed:
			return denial.New(denial.ReceiptInvalid, "the bundle opens more personal data than its manifest says")
		case raw == nil && disclosed && !v.lacks[part{index, field}]:
			return denial.New(denial.NoEvidence, "the bundle does not open the %s, and the manifest does not say so", field)
		case raw == nil:
			continue
		}
		o, err := record.DecodeOpening(raw)
		if err != nil {
			return err
		}
		if statement.DigestOf(raw) != sum(e.Personal[field]) || o.Field != field {
			return denial.New(denial.LogInconsistent, "an opening is not of what the enrolment commits to")
		}
		opened[field] = o.Value
	}
	v.opened = opened
	return nil
}

// personalOf describes commitments.
func personalOf(commitments map[string][]byte) (all []Personal) {
	for _, field := range sortedKeys(commitments) {
		all = append(all, Personal{Field: field, Commitment: sum(commitments[field]).String()})
	}
	return all
}
