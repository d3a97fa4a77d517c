package audit

import (
	"context"
	"io"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Account is what a bundle tells, statement by statement, with what Verify found.
type Account struct {
	Report *Report           `json:"report"`
	Items  []*Item           `json:"items"`  // by index; empty if the bundle is refuted before they are read
	People map[string]string `json:"people"` // thumbprint of an authority's key to the person, by genesis
}

// Tell verifies a bundle as Verify does, and keeps what its statements say.
func Tell(ctx context.Context, r io.Reader, trust *artifact.Trust, o Options) (*Account, error) {
	a := &Account{Items: []*Item{}, People: map[string]string{}}
	v := newVerifier(ctx, trust, o)
	v.tell = a.add
	report, err := v.run(r)
	if err != nil {
		return nil, err
	}
	a.Report = report
	if g := v.world.genesis; g != nil {
		a.People = PeopleOf(g)
	}
	return a, nil
}

// PeopleOf returns the person that each authority's key is of, by its thumbprint in hexadecimal.
func PeopleOf(g *record.Genesis) map[string]string {
	people := map[string]string{}
	for _, p := range g.Authorities {
		people[p.Key.Thumbprint().String()] = p.Person
	}
	return people
}

// add describes a statement that has its verdict. A statement that was refuted is told by its own word alone.
func (a *Account) add(e *entry, f *Finding, input []byte) {
	it, err := describe(e)
	if err != nil {
		it = &Item{Index: e.index, Digest: e.digest.String(), Kind: e.kind.String(), Logged: e.logged}
	}
	it.Verdict, it.Why = f.Verdict, f.words()
	if f.Verdict != Refuted && input != nil {
		_ = it.Enrich(input) // verified with the statement: an input that does not decode has refuted it
	}
	a.Items = append(a.Items, it)
}

// inputOf returns the decision input in the capsule of an outcome; nil if there is none.
func (v *verifier) inputOf(e *entry) ([]byte, error) {
	if _, ok := partsOf(e); !ok {
		return nil, nil
	}
	raw, err := v.read(nameCapsule(e.digest))
	if err != nil || raw == nil {
		return nil, err
	}
	env, err := statement.Decode(raw, maxCapsule)
	if err != nil {
		return nil, nil
	}
	c, err := decodeCapsule(env.Payload())
	if err != nil {
		return nil, nil
	}
	return c.Input.value(), nil
}
