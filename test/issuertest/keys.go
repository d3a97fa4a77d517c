package issuertest

import (
	"context"
	"slices"
	"sync"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// Token holds the issuer's keys.
type Token struct {
	mu       sync.Mutex
	keys     map[statement.Thumbprint]*Key
	released []statement.Thumbprint
}

// Add puts a key on the token.
func (t *Token) Add(k *Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.keys[k.Key().Thumbprint()] = k
}

// Remove takes a key off the token.
func (t *Token) Remove(k *Key) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.keys, k.Key().Thumbprint())
}

// Signer returns the use of a key.
func (t *Token) Signer(_ context.Context, purpose string, id statement.Thumbprint) (statement.Signer, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if k := t.keys[id]; k != nil {
		return k, nil
	}
	return nil, denial.New(denial.HSMKeyPolicy, "no %s key of the token has the thumbprint", purpose)
}

// Release notes that a key signs nothing more.
func (t *Token) Release(id statement.Thumbprint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.released = append(t.released, id)
}

// Released reports whether the issuer has let go of a key.
func (t *Token) Released(k *Key) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Contains(t.released, k.Key().Thumbprint())
}

// Ring returns the issuer's keys.
func (w *World) Ring() *record.KeyRing {
	w.Helper()
	return Must(w.Issuer.KeyRing(w.Ctx))(w)
}

// KeyChange returns the next key change, with these steps.
func (w *World) KeyChange(steps ...record.KeyStep) record.KeyChange {
	w.Helper()
	ring := w.Ring()
	head := ring.Head()
	return record.KeyChange{Version: record.Version, Sequence: ring.Sequence() + 1, Previous: head[:], Time: w.Seconds(), Steps: steps, Why: "a test"}
}

// Announce makes a key on the token and returns it with the step that announces it, named by the key in use.
func (w *World) Announce(purpose string) (*Key, record.KeyStep) {
	w.Helper()
	next := NewKey(w)
	w.Token.Add(next)
	ring := w.Ring()
	head, id := ring.Head(), next.Key().Thumbprint()
	step := record.KeyStep{Purpose: purpose, Key: id[:], To: record.KeyPreActive, Since: w.Seconds(), Birth: &record.Birth{Purpose: purpose,
		Key: next.Key(), Attributes: map[string]string{"extractable": "false"}, Token: map[string]string{"model": "none"}}}
	if ring.Active(purpose) != nil {
		step.Succession = Must(record.SignSuccession(w.Ctx, w.Keys[purpose], Issuer,
			record.Succession{Version: record.Version, Purpose: purpose, Key: next.Key(), Previous: head[:]}))(w)
	}
	return next, step
}

// Step returns a step of a key that the ring has.
func (w *World) Step(purpose string, key statement.Key, from, to record.KeyState) record.KeyStep {
	id := key.Thumbprint()
	s := record.KeyStep{Purpose: purpose, Key: id[:], From: from, To: to}
	if to == record.KeyCompromised {
		s.Since = w.Seconds()
	}
	return s
}

// Replacement makes a key and returns it with the steps that put it in use, and the one in use into another state.
func (w *World) Replacement(purpose string, old record.KeyState) (*Key, []record.KeyStep) {
	w.Helper()
	next, announce := w.Announce(purpose)
	return next, []record.KeyStep{announce, w.Step(purpose, w.Keys[purpose].Key(), record.KeyActive, old),
		w.Step(purpose, next.Key(), record.KeyPreActive, record.KeyActive)}
}

// Change makes a key change, which must be accepted.
func (w *World) Change(steps ...record.KeyStep) {
	w.Helper()
	w.Apply(statement.KeyChange, w.KeyChange(steps...))
}

// Rotate puts another key in use, and returns the one that it follows.
func (w *World) Rotate(purpose string) *Key {
	w.Helper()
	return w.replace(purpose, record.KeyRetired)
}

// Compromise puts another key in use and declares the one that it follows compromised since now. It returns that.
func (w *World) Compromise(purpose string) *Key {
	w.Helper()
	return w.replace(purpose, record.KeyCompromised)
}

// TryRotate is Rotate where the change may be refused.
func (w *World) TryRotate(purpose string) error {
	w.Helper()
	_, err := w.tryReplace(purpose, record.KeyRetired)
	return err
}

func (w *World) replace(purpose string, state record.KeyState) *Key {
	w.Helper()
	return Must(w.tryReplace(purpose, state))(w)
}

func (w *World) tryReplace(purpose string, state record.KeyState) (old *Key, err error) {
	w.Helper()
	next, steps := w.Replacement(purpose, state)
	if _, err := w.Issuer.Apply(w.Ctx, statement.KeyChange, w.Sign(statement.KeyChange, w.KeyChange(steps...), w.Persons...)); err != nil {
		return nil, err
	}
	old, w.Keys[purpose] = w.Keys[purpose], next
	if purpose == record.PurposeLog {
		w.earlier = append(w.earlier, old.Key())
	}
	return old, nil
}

// Logged has the log take a leaf past the issuer, and returns it with its receipt.
func (w *World) Logged(leaf []byte) *issuer.Minted {
	w.Helper()
	done := Must(w.Tree.Append(w.Ctx, tlog.Entry{Leaf: leaf}))(w)
	return &issuer.Minted{Artifact: Must(statement.Attach(leaf, done[0].Receipt))(w), Index: done[0].Index}
}

// History returns what the issuer serves of its keys.
func (w *World) History() []byte {
	w.Helper()
	return Must(w.Issuer.KeyHistory(w.Ctx))(w)
}

// HandOver returns the key change by which bob and carol follow alice and bob in every role.
func (w *World) HandOver() record.KeyChange {
	w.Helper()
	c := w.KeyChange()
	p := record.People{Quorums: map[record.Role]record.Quorum{}}
	for _, person := range []string{Bob, Carol} {
		p.Authorities = append(p.Authorities, record.Authority{Person: person, Key: w.Keys[person].Key()})
	}
	for _, role := range record.Roles() {
		p.Quorums[role] = record.Quorum{Threshold: 2, Persons: []string{Bob, Carol}}
	}
	c.Steps, c.People = []record.KeyStep{}, &p
	return c
}

// HandedOver makes the change of HandOver. From then on bob and carol sign.
func (w *World) HandedOver(c record.KeyChange) {
	w.Helper()
	Must(w.Issuer.Apply(w.Ctx, statement.KeyChange, w.Sign(statement.KeyChange, c, Alice, Bob, Carol)))(w)
	w.Persons = []string{Bob, Carol}
}
