package record

import (
	"bytes"
	"slices"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// changeSkew is how far the clock of authorities may be ahead of the log's, in seconds.
const changeSkew = 60

// KeyRing is every key that the issuer ever had, who its authorities are, and the chain of key changes that both follow from. It
// follows from genesis and the changes alone: issuer, relying party and auditor come to the same ring. A ring is never changed: Apply makes the
// next one. The zero KeyRing knows no key and takes no change.
type KeyRing struct {
	issuer string
	chain  []statement.Digest // of the payloads: of genesis, then of each change
	keys   []IssuerKey
	people *Authorities
	ever   []Authority // everybody who is or was an authority
	handed []handed    // the changes of authorities
}

// handed is a change of authorities, and its place in the chain.
type handed struct {
	change uint64
	since  Handover
}

// NewKeyRing returns the ring of a genesis, of which digest is the SHA-256 of its payload: each key active from the
// beginning.
func NewKeyRing(g *Genesis, digest statement.Digest) *KeyRing {
	r := &KeyRing{issuer: g.Issuer, chain: []statement.Digest{digest}}
	for _, p := range Purposes() {
		r.keys = append(r.keys, IssuerKey{Purpose: p, Key: g.Keys[p], State: KeyActive, From: 1})
	}
	if as, err := NewAuthorities(g); err == nil { // else nobody signs anything
		r.people, r.ever = as, as.authorities
	}
	return r
}

// Authorities returns who signs acts now. Acts that were logged before are for the ring of their time.
func (r *KeyRing) Authorities() *Authorities { return r.people }

// Everybody returns who is or ever was an authority, each key once, in the order in which they were named.
func (r *KeyRing) Everybody() []Authority { return slices.Clone(r.ever) }

// Sequence returns the number of the last change; 0 if there was none.
func (r *KeyRing) Sequence() uint64 { return uint64(len(r.chain)) - 1 }

// Head returns the digest that the next change must name: of the payload of the last change, or of genesis.
func (r *KeyRing) Head() statement.Digest { return r.chain[len(r.chain)-1] }

// Change returns the digest of the payload of a change by its number, and that of genesis for 0. It reports whether the
// chain is that long.
func (r *KeyRing) Change(n uint64) (statement.Digest, bool) {
	if n >= uint64(len(r.chain)) {
		return statement.Digest{}, false
	}
	return r.chain[n], true
}

// Handover returns what a change, by its number, made of the authorities that there were before. It reports whether it was a change of
// authorities.
func (r *KeyRing) Handover(n uint64) (Handover, bool) {
	i := slices.IndexFunc(r.handed, func(h handed) bool { return h.change == n })
	if i < 0 {
		return Handover{}, false
	}
	return r.handed[i].since, true
}

// Keys returns all keys, in the order in which they were announced.
func (r *KeyRing) Keys() []IssuerKey { return slices.Clone(r.keys) }

// Find returns the key with a thumbprint; nil if there is none.
func (r *KeyRing) Find(id statement.Thumbprint) *IssuerKey {
	if i := slices.IndexFunc(r.keys, func(k IssuerKey) bool { return k.Key.Thumbprint() == id }); i >= 0 {
		return &r.keys[i]
	}
	return nil
}

// Active returns the key that signs for the purpose: nil if there is none, then nothing is signed.
func (r *KeyRing) Active(purpose string) *IssuerKey {
	i := slices.IndexFunc(r.keys, func(k IssuerKey) bool { return k.Purpose == purpose && k.State == KeyActive })
	if i < 0 {
		return nil
	}
	return &r.keys[i]
}

// Of returns the keys of a purpose, that in use first, then the others, the newest first.
func (r *KeyRing) Of(purpose string) (all []statement.Key) {
	for _, k := range slices.Backward(r.keys) {
		switch {
		case k.Purpose != purpose:
		case k.State == KeyActive:
			all = append([]statement.Key{k.Key}, all...)
		default:
			all = append(all, k.Key)
		}
	}
	return all
}

// StatementKeys returns the keys of the ring, each for the kinds of its purpose, whatever its state: IssuerKey.Check
// decides what counts.
func (r *KeyRing) StatementKeys() (statement.Keys, error) {
	var keys statement.Keys
	for _, k := range r.keys {
		if err := keys.Add(k.Key, KindsOf(k.Purpose)...); err != nil {
			return statement.Keys{}, err
		}
	}
	return keys, nil
}

// Continues checks that the ring has come about from an older one: the same changes, and perhaps more (325 if another one
// stands in the place of one of them, 508 if there are fewer).
func (r *KeyRing) Continues(old *KeyRing) error {
	for n, digest := range old.chain {
		switch {
		case n >= len(r.chain):
			return denial.New(denial.StateRollback, "the chain of keys ends at change %d, and had %d before", r.Sequence(), old.Sequence())
		case r.chain[n] != digest:
			return denial.New(denial.LogInconsistent, "another change of keys stands in the place of number %d", n)
		}
	}
	return nil
}

// Apply returns the ring after a change that enough authorities have signed and that was logged at a time, in seconds
// since 1970 UTC. It checks, in this order: the act is a key change (311) that the ring's authorities have signed (see
// Authorities.Verify) for this issuer (706) and its payload is
// complete (see KeyChange.Check) and has the number that was approved (409); it is the next of the chain: not one from before
// (508), not another one in place of one that was applied (325), and none between was left out (508); its approvals are in time
// (201, 202), and authorities did not sign it after it was logged (202); then each step, as step says, or that none of the other
// authorities has a key of the issuer (306); at the end, no purpose
// has two keys in use (306), and those for records and for the log have one (409), without which nothing could be logged any more, not even
// the change that gives them a new one.
func (r *KeyRing) Apply(act *Act, logged uint64) (*KeyRing, error) {
	if act.Kind() != statement.KeyChange || r == nil || r.issuer == "" {
		return nil, denial.New(denial.WrongType, "not a key change")
	}
	act, err := r.people.Verify(act.Leaves(), statement.KeyChange) // whoever verified it before may know other authorities
	if err != nil {
		return nil, err
	}
	if c := act.Claims(); c.Issuer != r.issuer || c.Subject != KeySubject(r.issuer) {
		return nil, denial.New(denial.IdentityConflict, "the key change is for another issuer")
	}
	c, err := ReadKeyChange(act.Payload())
	if err != nil {
		return nil, err
	}
	if act.Claims().Sequence != c.Sequence {
		return nil, denial.New(denial.DualControlMissing, "key change %d was approved as number %d", c.Sequence, act.Claims().Sequence).
			Try("Draft the change anew, so that draft and payload have one number, and have it approved.")
	}
	if err := r.follows(c, act.Digest()); err != nil {
		return nil, err
	}
	if err := act.Followed(r.Sequence(), logged); err != nil {
		return nil, err
	}
	if c.Time > logged+changeSkew {
		return nil, denial.New(denial.NotYetValid, "the key change is dated after it was logged")
	}
	next := &KeyRing{issuer: r.issuer, chain: append(slices.Clip(r.chain), act.Digest()), keys: slices.Clone(r.keys), people: r.people, ever: r.ever, handed: r.handed}
	if c.People != nil {
		next.handed = append(slices.Clip(r.handed), handed{c.Sequence, c.People.Since(r.people.People())})
		return next, next.handOver(c.People)
	}
	for _, s := range c.Steps {
		if err := next.step(&s, c, logged); err != nil {
			return nil, err
		}
	}
	return next, next.settled()
}

// CheckPeople refuses authorities that a change could not put in place of those of the ring: see Authorities.Verify, a key of
// the issuer, and one that was another person's (306).
func (r *KeyRing) CheckPeople(p *People) error {
	next := *r
	return next.handOver(p)
}

// handOver puts other authorities in place of those of the ring.
func (r *KeyRing) handOver(p *People) (err error) {
	if r.people, err = r.people.next(p); err != nil {
		return err
	}
	r.ever = slices.Clone(r.ever)
	for _, a := range p.Authorities {
		if r.Find(a.Key.Thumbprint()) != nil {
			return denial.New(denial.KeyAmbiguous, "an authority would have a key of the issuer")
		}
		was := slices.IndexFunc(r.ever, func(e Authority) bool { return e.Key.Equal(a.Key) })
		switch {
		case was < 0:
			r.ever = append(r.ever, a)
		case r.ever[was].Person != a.Person:
			return denial.New(denial.KeyAmbiguous, "a key would be another person's than it was")
		}
	}
	return nil
}

// follows refuses a change that is not the next of the chain.
func (r *KeyRing) follows(c *KeyChange, digest statement.Digest) error {
	head := r.Head()
	switch {
	case c.Sequence <= r.Sequence() && r.chain[c.Sequence] == digest:
		return denial.New(denial.StateRollback, "key change %d is in force already, with %d changes", c.Sequence, r.Sequence())
	case c.Sequence <= r.Sequence(), c.Sequence == r.Sequence()+1 && !bytes.Equal(c.Previous, head[:]):
		return denial.New(denial.LogInconsistent, "key change %d does not continue the known chain: there are two", c.Sequence)
	case c.Sequence > r.Sequence()+1:
		return denial.New(denial.StateRollback, "key change %d leaves out number %d", c.Sequence, r.Sequence()+1)
	}
	return nil
}

// step changes the state of one key. It checks, in this order: a new key is none that the ring has, nor one that an authority ever had (306), and the one in
// use for its purpose, if there is one, has named it as its successor in this place of the chain (305, 301, 311); any
// other key is in the ring for this purpose (305) and in the state that the step says (409); a key becomes active not
// before the time that was announced (202), and fell to somebody not later than now (202).
func (r *KeyRing) step(s *KeyStep, c *KeyChange, logged uint64) error {
	k := r.Find(statement.Thumbprint(s.Key))
	if s.To == KeyPreActive {
		if k != nil || slices.ContainsFunc(r.ever, func(a Authority) bool { return a.Key.Equal(s.Birth.Key) }) {
			return denial.New(denial.KeyAmbiguous, "the announced key is known already")
		}
		r.keys = append(r.keys, IssuerKey{Purpose: s.Purpose, Key: s.Birth.Key, State: KeyPreActive, Begins: s.Since})
		return r.succeeds(s, c)
	}
	switch {
	case k == nil || k.Purpose != s.Purpose:
		return denial.New(denial.KeyUnknown, "the issuer has no such %s key", s.Purpose)
	case k.State != s.From:
		return denial.New(denial.DualControlMissing, "the %s key is %s, not %s", s.Purpose, k.State, s.From).
			Try("See the states of the keys with \"writd keys list\", and draft the change from the state that the key has now.")
	case s.To == KeyActive && logged < k.Begins, s.To == KeyCompromised && s.Since > logged:
		return denial.New(denial.NotYetValid, "the step names a time that has not come")
	}
	k.become(s, logged)
	return nil
}

// become gives the key its next state. What it signed in the second in which a change is logged, before that change, is
// good: so its signatures end with the second after.
func (k *IssuerKey) become(s *KeyStep, logged uint64) {
	if k.State == KeySuspended {
		k.Gaps = slices.Clone(k.Gaps) // the ring before has them too
		k.Gaps[len(k.Gaps)-1].To = logged
	}
	k.State = s.To
	switch s.To {
	case KeyActive:
		if k.From == 0 {
			k.From = logged
		}
	case KeySuspended:
		k.Gaps = append(slices.Clip(k.Gaps), KeyPause{From: logged + 1})
	case KeyRetired:
		k.Until = logged + 1
	case KeyCompromised:
		k.Fell = s.Since
	}
}

// succeeds checks the word of the key in use. Where there is none, the authorities alone stand for the new key.
func (r *KeyRing) succeeds(s *KeyStep, c *KeyChange) error {
	old := r.Active(s.Purpose)
	switch {
	case old == nil && s.Succession == nil:
		return nil
	case old == nil:
		return denial.New(denial.KeyUnknown, "no %s key is in use that could name a successor", s.Purpose)
	case s.Succession == nil:
		return denial.New(denial.KeyUnknown, "the %s key in use has not named the new one", s.Purpose)
	}
	var keys statement.Keys
	if err := keys.Add(old.Key, statement.Succession); err != nil {
		return err
	}
	v, err := verifyOne(s.Succession, keys, statement.Succession)
	if err != nil {
		return err
	}
	said, err := ReadSuccession(v.Payload())
	if err != nil {
		return err
	}
	if v.Claims() != (statement.Claims{Issuer: r.issuer, Subject: KeySubject(r.issuer)}) || said.Purpose != s.Purpose ||
		!said.Key.Equal(s.Birth.Key) || !bytes.Equal(said.Previous, c.Previous) {
		return denial.New(denial.WrongType, "the %s key in use has named another key, or elsewhere in the chain", s.Purpose)
	}
	return nil
}

// settled refuses a ring that cannot work.
func (r *KeyRing) settled() error {
	n := map[string]int{}
	for _, k := range r.keys {
		if k.State == KeyActive {
			n[k.Purpose]++
		}
	}
	for _, p := range Purposes() {
		switch {
		case n[p] > 1:
			return denial.New(denial.KeyAmbiguous, "two %s keys would be in use", p)
		case n[p] == 0 && (p == PurposeRecord || p == PurposeLog):
			return denial.New(denial.DualControlMissing, "no %s key would be in use: activate one in the same change", p).
				Try("Draft the change with \"writd keys rotate\", which puts another key in use in the same act.")
		}
	}
	return nil
}
