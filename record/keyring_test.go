package record

import (
	"context"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
)

// ringKit is a genesis, those who sign for it, and the ring that has come of it.
type ringKit struct {
	*testing.T
	as      *Authorities
	people  people
	signers map[string]statement.Signer // of the key in use, by purpose
	ring    *KeyRing
}

const ringIssuer = "https://issuer.example"

func newRingKit(t *testing.T) *ringKit {
	t.Helper()
	g, p := genesis(t)
	k := &ringKit{T: t, people: p, signers: map[string]statement.Signer{}}
	for _, purpose := range Purposes() {
		k.signers[purpose] = stock.Signer(t)
		g.Keys[purpose] = k.signers[purpose].Key()
	}
	var err error
	if k.as, err = NewAuthorities(g); err != nil {
		t.Fatal(err)
	}
	payload, err := statement.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	k.ring = NewKeyRing(g, statement.DigestOf(payload))
	return k
}

// change returns the next change, with these steps.
func (k *ringKit) change(steps ...KeyStep) *KeyChange {
	head := k.ring.Head()
	return &KeyChange{Version: Version, Sequence: k.ring.Sequence() + 1, Previous: head[:], Time: 1, Steps: steps, Why: "test"}
}

// announce returns the step that announces a key, named by the one in use.
func (k *ringKit) announce(purpose string, next statement.Signer) KeyStep {
	k.Helper()
	head, id := k.ring.Head(), next.Key().Thumbprint()
	said, err := SignSuccession(context.Background(), k.signers[purpose], ringIssuer,
		Succession{Version: Version, Purpose: purpose, Key: next.Key(), Previous: head[:]})
	if err != nil {
		k.Fatal(err)
	}
	return KeyStep{Purpose: purpose, Key: id[:], To: KeyPreActive, Since: 100, Succession: said,
		Birth: &Birth{Purpose: purpose, Key: next.Key(), Attributes: map[string]string{"a": "b"}, Token: map[string]string{"model": "none"}}}
}

func step(purpose string, key statement.Key, from, to KeyState) KeyStep {
	id := key.Thumbprint()
	s := KeyStep{Purpose: purpose, Key: id[:], From: from, To: to}
	if to == KeyCompromised {
		s.Since = 150
	}
	return s
}

// rotate returns the steps that put another key in use.
func (k *ringKit) rotate(purpose string, next statement.Signer) []KeyStep {
	return []KeyStep{k.announce(purpose, next), step(purpose, k.signers[purpose].Key(), KeyActive, KeyRetired),
		step(purpose, next.Key(), KeyPreActive, KeyActive)}
}

func (k *ringKit) sign(c *KeyChange) Bundle { return k.signBy(c, k.people.alice, k.people.bob) }

func (k *ringKit) signBy(c *KeyChange, signers ...statement.Signer) Bundle {
	k.Helper()
	payload, err := statement.Marshal(c)
	if err != nil {
		k.Fatal(err)
	}
	var b Bundle
	for _, s := range signers {
		if b, err = SignAct(context.Background(), b, s, statement.KeyChange, statement.Claims{Issuer: ringIssuer, Subject: KeySubject(ringIssuer), IssuedAt: 1, Expires: 10_000, Sequence: c.Sequence}, payload); err != nil {
			k.Fatal(err)
		}
	}
	return b
}

func (k *ringKit) act(c *KeyChange) *Act {
	k.Helper()
	act, err := k.as.Verify(k.sign(c), statement.KeyChange)
	if err != nil {
		k.Fatal(err)
	}
	return act
}

// apply makes the change, which must be good.
func (k *ringKit) apply(logged uint64, steps ...KeyStep) {
	k.Helper()
	next, err := k.ring.Apply(k.act(k.change(steps...)), logged)
	if err != nil {
		k.Fatal(err)
	}
	k.ring = next
}

func (k *ringKit) refuses(want denial.Reason, logged uint64, steps ...KeyStep) {
	k.Helper()
	if _, err := k.ring.Apply(k.act(k.change(steps...)), logged); !denial.Is(err, want) {
		k.Errorf("got %v, want %v", err, want)
	}
}

func TestKeysTakeOnlyThePathsThatThereAre(t *testing.T) {
	want := map[KeyState][]KeyState{
		KeyUnknown: {KeyPreActive}, KeyPreActive: {KeyActive, KeyCompromised, KeyDestroyed}, KeyActive: {KeySuspended, KeyRetired, KeyCompromised},
		KeySuspended: {KeyActive, KeyRetired, KeyCompromised}, KeyRetired: {KeyCompromised, KeyDestroyed}, KeyDestroyed: {KeyCompromised},
	}
	for from := range KeyState(9) {
		for to := range KeyState(9) {
			if got := from.To(to); got != slices.Contains(want[from], to) {
				t.Errorf("from %s to %s: got %v", from, to, got)
			}
		}
		if got := ParseKeyState(from.String()); got != from && from <= KeyDestroyed {
			t.Errorf("%s is read as %s", from, got)
		}
	}
}

func TestEachStateDecidesWhatCounts(t *testing.T) {
	const good = denial.Reason(0)
	for name, row := range map[string]struct {
		key                      IssuerKey
		before, from, fell, late denial.Reason // Check at 50, 100, 150, 250
		then                     denial.Reason // CheckThen at 100
		claimed                  denial.Reason // CheckClaimed at 100
	}{
		"unknown":     {IssuerKey{}, denial.KeyUnknown, denial.KeyUnknown, denial.KeyUnknown, denial.KeyUnknown, denial.KeyUnknown, denial.KeyUnknown},
		"pre-active":  {IssuerKey{State: KeyPreActive, Begins: 10}, 208, 208, 208, 208, 208, 208},
		"active":      {IssuerKey{State: KeyActive, From: 100}, 208, good, good, good, good, good},
		"suspended":   {IssuerKey{State: KeySuspended, From: 100, Gaps: []KeyPause{{150, 0}}}, 802, 802, 802, 802, good, 802},
		"resumed":     {IssuerKey{State: KeyActive, From: 100, Gaps: []KeyPause{{150, 200}}}, 208, good, 802, good, good, good},
		"retired":     {IssuerKey{State: KeyRetired, From: 100, Until: 200}, 208, good, good, 208, good, good},
		"compromised": {IssuerKey{State: KeyCompromised, From: 100, Fell: 150}, 208, good, 802, 802, good, 802},
		"never used":  {IssuerKey{State: KeyCompromised, Fell: 150}, 208, 208, 802, 802, 208, 802},
		"destroyed":   {IssuerKey{State: KeyDestroyed, From: 100, Until: 200}, 208, good, good, 208, good, good},
	} {
		t.Run(name, func(t *testing.T) {
			check := func(what string, err error, want denial.Reason) {
				t.Helper()
				if err == nil && want != good || err != nil && !denial.Is(err, want) {
					t.Errorf("%s: got %v, want %d", what, err, want)
				}
			}
			check("before", row.key.Check(50), row.before)
			check("from", row.key.Check(100), row.from)
			check("fell", row.key.Check(150), row.fell)
			check("late", row.key.Check(250), row.late)
			check("then", row.key.CheckThen(100), row.then)
			check("claimed", row.key.CheckClaimed(100), row.claimed)
		})
	}
	var nobody *IssuerKey
	if !denial.Is(nobody.Check(1), denial.KeyUnknown) || !denial.Is(nobody.CheckClaimed(1), denial.KeyUnknown) {
		t.Error("a key that is not there counts")
	}
}

func TestRotationLeavesNoGap(t *testing.T) {
	k := newRingKit(t)
	old, next := k.signers[PurposeArtifact].Key(), stock.Signer(t)
	before := k.ring
	k.apply(200, k.rotate(PurposeArtifact, next)...)
	if got := k.ring.Active(PurposeArtifact); !got.Key.Equal(next.Key()) || k.ring.Sequence() != 1 {
		t.Fatalf("in use is %v", got)
	}
	// In the second of the change both count, since both may have signed in it.
	for logged, want := range map[uint64][2]bool{199: {true, false}, 200: {true, true}, 201: {false, true}} {
		for n, key := range []statement.Key{old, next.Key()} {
			if got := k.ring.Find(key.Thumbprint()).Check(logged) == nil; got != want[n] {
				t.Errorf("key %d at %d: got %v", n, logged, got)
			}
		}
	}
	if before.Sequence() != 0 || before.Find(next.Key().Thumbprint()) != nil || before.Active(PurposeArtifact).State != KeyActive {
		t.Error("the ring before has changed")
	}
	if all := k.ring.Of(PurposeArtifact); len(all) != 2 || !all[0].Equal(next.Key()) || !all[1].Equal(old) {
		t.Errorf("got %v", all)
	}
	if _, err := k.ring.StatementKeys(); err != nil || len(k.ring.Keys()) != 5 {
		t.Error(err)
	}
}

func TestAnAnnouncedKeyIsNotInUse(t *testing.T) {
	k := newRingKit(t)
	next := stock.Signer(t)
	k.apply(50, k.announce(PurposeStatus, next))
	steps := []KeyStep{step(PurposeStatus, k.signers[PurposeStatus].Key(), KeyActive, KeyRetired), step(PurposeStatus, next.Key(), KeyPreActive, KeyActive)}
	k.refuses(denial.NotYetValid, 99, steps...)
	k.apply(100, steps...)
	if k.ring.Find(next.Key().Thumbprint()).Check(99) == nil {
		t.Error("a key counts before it was in use")
	}
}

func TestASuspendedKeyComesBack(t *testing.T) {
	k := newRingKit(t)
	key := k.signers[PurposeArtifact].Key()
	k.apply(200, step(PurposeArtifact, key, KeyActive, KeySuspended))
	if k.ring.Active(PurposeArtifact) != nil {
		t.Fatal("a suspended key is in use")
	}
	held := k.ring
	k.apply(300, step(PurposeArtifact, key, KeySuspended, KeyActive))
	k.apply(400, step(PurposeArtifact, key, KeyActive, KeySuspended))
	got := k.ring.Find(key.Thumbprint())
	if want := []KeyPause{{201, 300}, {401, 0}}; !slices.Equal(got.Gaps, want) {
		t.Errorf("got %v, want %v", got.Gaps, want)
	}
	if gaps := held.Find(key.Thumbprint()).Gaps; !slices.Equal(gaps, []KeyPause{{201, 0}}) {
		t.Errorf("the ring before has changed: %v", gaps)
	}
	// Without a key in use, none names the next.
	fresh := k.announce(PurposeArtifact, stock.Signer(t))
	k.refuses(denial.KeyUnknown, 500, fresh)
	fresh.Succession = nil
	k.apply(500, fresh)
}

func TestBadStepsAreRefused(t *testing.T) {
	k := newRingKit(t)
	art, next := k.signers[PurposeArtifact].Key(), stock.Signer(t)
	with := func(s KeyStep, change func(*KeyStep)) KeyStep { change(&s); return s }
	other := k.announce(PurposeArtifact, stock.Signer(t)).Succession
	for name, row := range map[string]struct {
		want  denial.Reason
		steps []KeyStep
	}{
		"no steps":                      {denial.PayloadForm, nil},
		"an unknown purpose":            {denial.PayloadForm, []KeyStep{step("else", art, KeyActive, KeyRetired)}},
		"a step that no key takes":      {denial.DualControlMissing, []KeyStep{step(PurposeArtifact, art, KeyActive, KeyDestroyed)}},
		"a step from another state":     {denial.DualControlMissing, []KeyStep{step(PurposeArtifact, art, KeySuspended, KeyRetired)}},
		"a key of another purpose":      {denial.KeyUnknown, []KeyStep{step(PurposeStatus, art, KeyActive, KeySuspended)}},
		"a key that nobody announced":   {denial.KeyUnknown, []KeyStep{step(PurposeArtifact, next.Key(), KeyPreActive, KeyActive)}},
		"no record key":                 {denial.DualControlMissing, []KeyStep{step(PurposeRecord, k.signers[PurposeRecord].Key(), KeyActive, KeySuspended)}},
		"no log key":                    {denial.DualControlMissing, []KeyStep{step(PurposeLog, k.signers[PurposeLog].Key(), KeyActive, KeyRetired)}},
		"two keys in use":               {denial.KeyAmbiguous, []KeyStep{k.announce(PurposeArtifact, next), step(PurposeArtifact, next.Key(), KeyPreActive, KeyActive)}},
		"a key that is known":           {denial.KeyAmbiguous, []KeyStep{k.announce(PurposeArtifact, k.signers[PurposeStatus])}},
		"fallen in the future":          {denial.NotYetValid, []KeyStep{with(step(PurposeArtifact, art, KeyActive, KeyCompromised), func(s *KeyStep) { s.Since = 201 })}},
		"no time of the fall":           {denial.ClaimAbsent, []KeyStep{with(step(PurposeArtifact, art, KeyActive, KeyCompromised), func(s *KeyStep) { s.Since = 0 })}},
		"no birth":                      {denial.PayloadForm, []KeyStep{with(k.announce(PurposeArtifact, next), func(s *KeyStep) { s.Birth = nil })}},
		"the birth of another":          {denial.KeyUnknown, []KeyStep{with(k.announce(PurposeArtifact, next), func(s *KeyStep) { b := *s.Birth; b.Key = art; s.Birth = &b })}},
		"a ceremony of nobody":          {denial.PayloadForm, []KeyStep{with(k.announce(PurposeArtifact, next), func(s *KeyStep) { b := *s.Birth; b.Ceremony = &Ceremony{}; s.Birth = &b })}},
		"not named by the key in use":   {denial.KeyUnknown, []KeyStep{with(k.announce(PurposeArtifact, next), func(s *KeyStep) { s.Succession = nil })}},
		"the key in use names another":  {denial.WrongType, []KeyStep{with(k.announce(PurposeArtifact, next), func(s *KeyStep) { s.Succession = other })}},
		"named by a key of another use": {denial.KeyUnknown, []KeyStep{with(k.announce(PurposeArtifact, next), func(s *KeyStep) { s.Succession = k.announce(PurposeStatus, next).Succession })}},
	} {
		t.Run(name, func(t *testing.T) {
			c := k.change(row.steps...)
			if c.Steps == nil {
				c.Steps = []KeyStep{}
			}
			if _, err := k.ring.Apply(k.act(c), 200); !denial.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
	t.Run("named elsewhere in the chain", func(t *testing.T) {
		early := k.announce(PurposeArtifact, next)
		k.apply(200, step(PurposeStatus, k.signers[PurposeStatus].Key(), KeyActive, KeySuspended))
		k.refuses(denial.WrongType, 200, early)
	})
}

func TestTheChainHasOnePlaceForEachChange(t *testing.T) {
	k := newRingKit(t)
	sus := step(PurposeArtifact, k.signers[PurposeArtifact].Key(), KeyActive, KeySuspended)
	first := k.act(k.change(sus))
	fork := k.act(k.change(step(PurposeStatus, k.signers[PurposeStatus].Key(), KeyActive, KeySuspended)))
	zero := k.ring
	k.apply(200, sus)
	one := k.ring
	k.apply(300, step(PurposeArtifact, k.signers[PurposeArtifact].Key(), KeySuspended, KeyActive))
	for name, row := range map[string]struct {
		ring  *KeyRing
		spoil func(*KeyChange)
		act   *Act
		want  denial.Reason
	}{
		"the same again":       {one, nil, first, denial.StateRollback},
		"one from before":      {k.ring, nil, first, denial.StateRollback},
		"another in its place": {one, nil, fork, denial.LogInconsistent},
		"another before":       {one, func(c *KeyChange) { c.Previous = make([]byte, 32) }, nil, denial.LogInconsistent},
		"one left out":         {one, func(c *KeyChange) { c.Sequence++ }, nil, denial.StateRollback},
		"dated in the future":  {one, func(c *KeyChange) { c.Time = 461 }, nil, denial.NotYetValid},
		"another version":      {one, func(c *KeyChange) { c.Version = 2 }, nil, denial.UnsupportedVersion},
		"an empty ring":        {&KeyRing{}, nil, first, denial.WrongType},
	} {
		t.Run(name, func(t *testing.T) {
			act := row.act
			if row.spoil != nil {
				head := row.ring.Head()
				c := &KeyChange{Version, row.ring.Sequence() + 1, head[:], 1, []KeyStep{sus}, "test", nil}
				row.spoil(c)
				act = k.act(c)
			}
			if _, err := row.ring.Apply(act, 400); !denial.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
	head := k.ring.Head()
	if got, ok := k.ring.Change(2); !ok || got != head {
		t.Error("the last change is not the head of the chain")
	}
	if _, ok := k.ring.Change(3); ok {
		t.Error("a change that was never made has a digest")
	}
	forked, err := zero.Apply(fork, 200)
	if err != nil {
		t.Fatal(err)
	}
	if k.ring.Continues(one) != nil || one.Continues(one) != nil {
		t.Error("a chain does not continue its beginning")
	}
	wantReason(t, zero.Continues(one), denial.StateRollback)
	wantReason(t, k.ring.Continues(forked), denial.LogInconsistent)
}

func TestAChangeNeedsTheQuorumOfKeysAndTheRightIssuer(t *testing.T) {
	k := newRingKit(t)
	c := k.change(step(PurposeArtifact, k.signers[PurposeArtifact].Key(), KeyActive, KeySuspended))
	_, err := k.as.Verify(k.sign(c)[:1], statement.KeyChange)
	wantReason(t, err, denial.ThresholdNotMet)
	payload, err := statement.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(claims statement.Claims) *Act {
		var b Bundle
		for _, s := range []statement.Signer{k.people.alice, k.people.bob} {
			if b, err = SignAct(context.Background(), b, s, statement.KeyChange, claims, payload); err != nil {
				t.Fatal(err)
			}
		}
		act, err := k.as.Verify(b, statement.KeyChange)
		if err != nil {
			t.Fatal(err)
		}
		return act
	}
	other := "https://other.example"
	_, err = k.ring.Apply(signed(statement.Claims{Issuer: other, Subject: KeySubject(other), IssuedAt: 1, Expires: 1000, Sequence: 1}), 200)
	wantReason(t, err, denial.IdentityConflict)
	_, err = k.ring.Apply(signed(statement.Claims{Issuer: ringIssuer, Subject: KeySubject(ringIssuer), IssuedAt: 1, Expires: 1000, Sequence: 2}), 200)
	wantReason(t, err, denial.DualControlMissing)
	_, err = k.ring.Apply(signed(statement.Claims{Issuer: ringIssuer, Subject: KeySubject(ringIssuer), IssuedAt: 1, Expires: 200, Sequence: 1}), 200)
	wantReason(t, err, denial.Expired)
	act := signed(statement.Claims{Issuer: ringIssuer, Subject: KeySubject(ringIssuer), IssuedAt: 1, Expires: 1000, Sequence: 1})
	if _, err := k.ring.Apply(act, 200); err != nil {
		t.Fatal(err)
	}
}
