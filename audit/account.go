package audit

import (
	"context"
	"fmt"
	"io"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Account is what a bundle tells, statement by statement, with what Verify found.
type Account struct {
	Report *Report           `json:"report"`
	SHA256 string            `json:"sha256,omitempty"` // of the bundle's file, in hexadecimal; whoever has the file fills it in
	Items  []*Item           `json:"items"`            // by index; empty if the bundle is refuted before they are read
	People map[string]string `json:"people"`           // thumbprint of an authority's key to the person
}

// Tell verifies a bundle as Verify does, and keeps what its statements say.
func Tell(ctx context.Context, r io.Reader, trust *artifact.Trust, o Options) (*Account, error) {
	a := &Account{Items: []*Item{}, People: map[string]string{}}
	v := newVerifier(ctx, trust, o)
	v.tell = func(e *entry, f *Finding, input []byte) { a.add(e, f, input, v.opened) }
	report, err := v.run(r)
	if err != nil {
		return nil, err
	}
	a.Report = report
	if v.world.ring != nil {
		a.People = PeopleOf(v.world.ring)
	}
	return a, nil
}

// PeopleOf returns the person that the key of everybody who is or was an authority is of, by its thumbprint in hexadecimal.
func PeopleOf(ring *record.KeyRing) map[string]string {
	people := map[string]string{}
	for _, p := range ring.Everybody() {
		people[p.Key.Thumbprint().String()] = p.Person
	}
	return people
}

// add describes a statement that has its verdict. A statement that was refuted is told by its own word alone.
func (a *Account) add(e *entry, f *Finding, input []byte, opened map[string]string) {
	it, err := describe(e)
	if err != nil {
		it = &Item{Index: e.index, Digest: e.digest.String(), Kind: e.kind.String(), Logged: e.logged}
	}
	it.Verdict, it.Why = f.Verdict, f.words()
	if f.Verdict != Refuted && input != nil {
		_ = it.Enrich(input) // verified with the statement: an input that does not decode has refuted it
	}
	if it.Act != nil && f.Verdict != Refuted {
		for i, p := range it.Act.Personal {
			it.Act.Personal[i].Value = opened[p.Field]
		}
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

// Gather describes the entries of a log that a query is about, with what later entries are verified with. It is for those
// who trust the log that they read: nothing is verified, and no item has a verdict.
func Gather(ctx context.Context, log Log, index Index, q Query) ([]*Item, error) {
	found, err := choose(ctx, log, index, q)
	if err != nil {
		return nil, err
	}
	items := make([]*Item, 0, len(found.indices))
	for _, i := range found.indices {
		it, err := Look(ctx, log, i)
		if err != nil {
			return nil, err
		}
		items = append(items, it)
	}
	return items, nil
}

// Look describes one entry of a log, with what its decision input says if the log still has it. It verifies nothing.
func Look(ctx context.Context, log Log, index uint64) (it *Item, err error) {
	err = log.Leaves(ctx, index, index+1, func(index uint64, leaf []byte) error {
		it, err = Describe(index, leaf)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading entry %d: %w", index, err)
	}
	if len(it.input) != 32 {
		return it, nil
	}
	input, ok, err := log.Blob(ctx, statement.Digest(it.input))
	if err != nil || !ok {
		return it, err
	}
	return it, it.Enrich(input)
}
