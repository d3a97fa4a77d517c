package record

import (
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
)

const (
	aliceURI = "mailto:alice@example.org"
	bobURI   = "mailto:bob@example.org"
)

// handOver returns a change by which bob, with the key that he has, and carol follow alice and bob.
func (k *ringKit) handOver(carol statement.Signer) *KeyChange {
	q := Quorum{Threshold: 2, Persons: []string{bobURI, carolURI}}
	p := &People{Authorities: []Authority{{bobURI, k.people.bob.Key()}, {carolURI, carol.Key()}}, Quorums: map[Role]Quorum{}}
	for _, role := range Roles() {
		p.Quorums[role] = q
	}
	c := k.change()
	c.Steps, c.People = []KeyStep{}, p
	return c
}

// TestAuthoritiesHandOver: alice is replaced by carol, and what counts afterwards is what carol signs.
func TestAuthoritiesHandOver(t *testing.T) {
	k := newRingKit(t)
	carol, before := stock.Signer(t), k.ring
	c := k.handOver(carol)
	act, err := k.ring.Authorities().Verify(k.signBy(c, k.people.alice, k.people.bob, carol), statement.KeyChange)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{aliceURI, bobURI, carolURI}; !slices.Equal(act.Persons(), want) {
		t.Errorf("signed by %v, want %v", act.Persons(), want)
	}
	after, err := k.ring.Apply(act, 200)
	if err != nil {
		t.Fatal(err)
	}
	if after.Sequence() != 1 || after.Head() != act.Digest() || after.Continues(before) != nil {
		t.Errorf("change %d", after.Sequence())
	}
	if got := len(after.Everybody()); got != 4 { // two keys of alice, bob, carol
		t.Errorf("%d keys were authorities' ever, want 4", got)
	}
	if p := after.Authorities().People(); len(p.Authorities) != 2 || p.Quorums[RolePolicy].Threshold != 2 || p.OnePerson {
		t.Errorf("got %+v", p)
	}
	// Each key of the issuer is what it was, and the next change is for those who came.
	if after.Active(PurposeLog) == nil || !after.Active(PurposeLog).Key.Equal(before.Active(PurposeLog).Key) {
		t.Error("a key of the issuer has changed")
	}
	k.ring = after
	suspend := k.change(step(PurposeArtifact, k.signers[PurposeArtifact].Key(), KeyActive, KeySuspended))
	if _, err := after.Authorities().Verify(k.signBy(suspend, k.people.alice, k.people.bob), statement.KeyChange); !denial.Is(err, denial.KeyUnknown) {
		t.Errorf("signed by alice, who is gone: got %v", err)
	}
	good := k.signBy(suspend, k.people.bob, carol)
	act, err = after.Authorities().Verify(good, statement.KeyChange)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := after.Apply(act, 300); err != nil {
		t.Errorf("signed by bob and carol: %v", err)
	}
	// Whoever has not followed the change refuses it, and Apply does so whatever the act was verified with.
	if _, err := before.Authorities().Verify(good, statement.KeyChange); !denial.Is(err, denial.KeyUnknown) {
		t.Errorf("by the authorities of before: got %v", err)
	}
	foreign := k.change(step(PurposeArtifact, k.signers[PurposeArtifact].Key(), KeyActive, KeySuspended))
	old, err := before.Authorities().Verify(k.signBy(foreign, k.people.alice, k.people.bob), statement.KeyChange)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := after.Apply(old, 300); !denial.Is(err, denial.KeyUnknown) {
		t.Errorf("an act that others have verified: got %v", err)
	}
	// A key of somebody who has gone comes back for that person only: it names one person in the whole log (A16).
	for person, want := range map[string]denial.Reason{"mailto:dave@example.org": denial.KeyAmbiguous, aliceURI: 0} {
		again := k.handOver(carol)
		again.People.Authorities = append(again.People.Authorities, Authority{person, k.people.alice.Key()})
		if _, err := after.Apply(verified(t, after, k.signBy(again, k.people.bob, carol)), 300); want == 0 && err != nil || want != 0 && !denial.Is(err, want) {
			t.Errorf("the key of alice for %s: got %v, want %v", person, err, want)
		}
	}
	// A key that was an authority's is never the issuer's.
	if _, err := after.Apply(verified(t, after, k.signBy(k.change(k.announce(PurposeArtifact, k.people.alice)), k.people.bob, carol)), 300); !denial.Is(err, denial.KeyAmbiguous) {
		t.Errorf("a key of alice as one of the issuer: got %v", err)
	}
}

func verified(t *testing.T, r *KeyRing, b Bundle) *Act {
	t.Helper()
	act, err := r.Authorities().Verify(b, statement.KeyChange)
	if err != nil {
		t.Fatal(err)
	}
	return act
}

func TestBadHandOversAreRefused(t *testing.T) {
	k := newRingKit(t)
	carol, dave := stock.Signer(t), stock.Signer(t)
	all := []statement.Signer{k.people.alice, k.people.bob, carol}
	for name, row := range map[string]struct {
		want    denial.Reason
		spoil   func(c *KeyChange)
		signers []statement.Signer
	}{
		"good":                              {0, func(*KeyChange) {}, all},
		"one of two who are there now":      {denial.ThresholdNotMet, nil, []statement.Signer{k.people.bob, carol}},
		"one of two who will be":            {denial.ThresholdNotMet, nil, []statement.Signer{k.people.alice, k.people.bob}},
		"two keys of alice":                 {denial.DualControlMissing, nil, []statement.Signer{k.people.alice, k.people.alice2, carol}},
		"those who will be, alone":          {denial.ThresholdNotMet, nil, []statement.Signer{carol}},
		"a stranger too":                    {denial.KeyUnknown, nil, append(slices.Clone(all), dave)},
		"bob twice":                         {denial.KeyAmbiguous, nil, append(slices.Clone(all), k.people.bob)},
		"nobody":                            {denial.ThresholdNotMet, func(c *KeyChange) { c.People.Authorities, c.People.Quorums = nil, nil }, all},
		"a role without people":             {denial.ThresholdNotMet, func(c *KeyChange) { delete(c.People.Quorums, RolePolicy) }, all},
		"a role nobody knows":               {denial.ThresholdNotMet, func(c *KeyChange) { c.People.Quorums["x"] = c.People.Quorums[RoleRoot] }, all},
		"more than there are":               {denial.ThresholdNotMet, quorum(RoleEnrolment, Quorum{Threshold: 3, Persons: []string{bobURI, carolURI}}), all},
		"a threshold of none":               {denial.ThresholdNotMet, quorum(RoleEnrolment, Quorum{Persons: []string{bobURI, carolURI}}), all},
		"root of one":                       {denial.DualControlMissing, quorum(RoleRoot, Quorum{Threshold: 1, Persons: []string{bobURI, carolURI}}), all},
		"a person without a key":            {denial.KeyUnknown, quorum(RoleEnrolment, Quorum{Threshold: 1, Persons: []string{aliceURI}}), all},
		"break-glass with nobody to review": {denial.ThresholdNotMet, quorum(RoleBreakGlass, Quorum{Threshold: 2, Persons: []string{bobURI, carolURI}}), all},
		"a key of another person":           {denial.KeyAmbiguous, func(c *KeyChange) { c.People.Authorities[0].Person, c.People.Authorities[1].Person = carolURI, bobURI }, all},
		"a key twice":                       {denial.KeyAmbiguous, func(c *KeyChange) { c.People.Authorities[1].Key = c.People.Authorities[0].Key }, all},
		"no URI":                            {denial.ClaimAbsent, func(c *KeyChange) { c.People.Authorities[1].Person = "carol" }, all},
		"one person": {denial.DualControlMissing, func(c *KeyChange) {
			c.People.Authorities, c.People.OnePerson = c.People.Authorities[:1], true
			for _, role := range Roles() {
				c.People.Quorums[role] = Quorum{Threshold: 1, Persons: []string{bobURI}}
			}
		}, all},
		"said to be one person": {denial.DualControlMissing, func(c *KeyChange) { c.People.OnePerson = true }, all},
	} {
		t.Run(name, func(t *testing.T) {
			c := k.handOver(carol)
			if row.spoil != nil {
				row.spoil(c)
			}
			_, err := k.ring.Authorities().Verify(k.signBy(c, row.signers...), statement.KeyChange)
			if row.want == 0 && err != nil || row.want != 0 && !denial.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
}

func quorum(role Role, q Quorum) func(*KeyChange) {
	return func(c *KeyChange) { c.People.Quorums[role] = q }
}

// TestHandOversHaveTheirPlace: what the chain demands of every change.
func TestHandOversHaveTheirPlace(t *testing.T) {
	k := newRingKit(t)
	carol := stock.Signer(t)
	all := []statement.Signer{k.people.alice, k.people.bob, carol}
	for name, row := range map[string]struct {
		want   denial.Reason
		spoil  func(c *KeyChange)
		logged uint64
	}{
		"good":           {0, func(*KeyChange) {}, 200},
		"reset":          {0, func(c *KeyChange) { c.People.Reset = []PolicyKind{Anchors, Appraisal, Authorization} }, 200},
		"another before": {denial.LogInconsistent, func(c *KeyChange) { c.Previous = make([]byte, 32) }, 200},
		"one left out":   {denial.StateRollback, func(c *KeyChange) { c.Sequence++ }, 200},
		"expired":        {denial.Expired, func(*KeyChange) {}, 10_000},
		"dated later":    {denial.NotYetValid, func(c *KeyChange) { c.Time = 261 }, 200},
		"a key of the issuer": {denial.KeyAmbiguous, func(c *KeyChange) {
			c.People.Authorities = append(c.People.Authorities, Authority{carolURI, k.signers[PurposeStatus].Key()})
		}, 200},
	} {
		t.Run(name, func(t *testing.T) {
			c := k.handOver(carol)
			row.spoil(c)
			_, err := k.ring.Apply(verified(t, k.ring, k.signBy(c, all...)), row.logged)
			if row.want == 0 && err != nil || row.want != 0 && !denial.Is(err, row.want) {
				t.Errorf("got %v, want %v", err, row.want)
			}
		})
	}
	for name, row := range map[string]struct {
		want  denial.Reason
		spoil func(c *KeyChange)
	}{
		"keys too": {denial.PayloadForm, func(c *KeyChange) {
			c.Steps = []KeyStep{step(PurposeStatus, k.signers[PurposeStatus].Key(), KeyActive, KeySuspended)}
		}},
		"an unknown kind":  {denial.PayloadForm, func(c *KeyChange) { c.People.Reset = []PolicyKind{"x"} }},
		"kinds unordered":  {denial.PayloadForm, func(c *KeyChange) { c.People.Reset = []PolicyKind{Appraisal, Anchors} }},
		"a kind twice":     {denial.PayloadForm, func(c *KeyChange) { c.People.Reset = []PolicyKind{Anchors, Anchors} }},
		"nothing changes":  {denial.PayloadForm, func(c *KeyChange) { c.People = nil }},
		"no time":          {denial.ClaimAbsent, func(c *KeyChange) { c.Time = 0 }},
		"a later version":  {denial.UnsupportedVersion, func(c *KeyChange) { c.Version++ }},
		"no reason":        {denial.ClaimAbsent, func(c *KeyChange) { c.Why = "" }},
		"a long statement": {denial.ClaimAbsent, func(c *KeyChange) { c.Why = string(make([]byte, 513)) }},
	} {
		c := k.handOver(carol)
		row.spoil(c)
		if err := c.Check(); !denial.Is(err, row.want) {
			t.Errorf("%s: got %v, want %v", name, err, row.want)
		}
	}
	// Where one of these is signed all the same, nobody takes it for a change of authorities: root alone signs no keys.
	c := k.handOver(carol)
	c.Steps = []KeyStep{step(PurposeStatus, k.signers[PurposeStatus].Key(), KeyActive, KeySuspended)}
	if _, err := k.ring.Apply(verified(t, k.ring, k.signBy(c, k.people.alice, k.people.bob)), 200); !denial.Is(err, denial.PayloadForm) {
		t.Errorf("keys and authorities: got %v", err)
	}
}

// TestAChangeOfAuthoritiesTellsWhatItChanges: who goes, who comes, whose key is another, and what each role takes.
func TestAChangeOfAuthoritiesTellsWhatItChanges(t *testing.T) {
	k := newRingKit(t)
	carol := stock.Signer(t)
	alice, alice2, bob := k.people.alice.Key(), k.people.alice2.Key(), k.people.bob.Key()
	before := People{Authorities: []Authority{{aliceURI, alice}, {bobURI, bob}}, Quorums: map[Role]Quorum{
		RoleRoot: {Threshold: 2, Persons: []string{bobURI, aliceURI}}, RolePolicy: {Threshold: 2, Persons: []string{aliceURI, bobURI}, Narrow: 1}}}
	id := func(key statement.Key) string { return key.Thumbprint().String() }
	for name, row := range map[string]struct {
		then People
		want []string
	}{
		"nothing, in another order": {People{Authorities: []Authority{{bobURI, bob}, {aliceURI, alice}}, Quorums: map[Role]Quorum{
			RoleRoot: {Threshold: 2, Persons: []string{aliceURI, bobURI}}, RolePolicy: before.Quorums[RolePolicy]}}, []string{"nothing is other than it was"}},
		"one for another": {People{Authorities: []Authority{{bobURI, bob}, {carolURI, carol.Key()}}, Quorums: map[Role]Quorum{
			RoleRoot: {Threshold: 2, Persons: []string{bobURI, carolURI}}, RolePolicy: {Threshold: 2, Persons: []string{bobURI, carolURI}, Narrow: 1}}}, []string{
			aliceURI + " goes, with key " + id(alice), carolURI + " comes, with key " + id(carol.Key()),
			"policy takes 2 of " + bobURI + ", " + carolURI + " (1 for what only narrows); it took 2 of " + aliceURI + ", " + bobURI + " (1 for what only narrows)",
			"root takes 2 of " + bobURI + ", " + carolURI + "; it took 2 of " + aliceURI + ", " + bobURI}},
		"another key": {People{Authorities: []Authority{{aliceURI, alice2}, {bobURI, bob}}, Quorums: before.Quorums}, []string{
			aliceURI + " has key " + id(alice2) + " in place of " + id(alice)}},
		"thresholds and a role": {People{Authorities: before.Authorities, Reset: []PolicyKind{Appraisal}, Quorums: map[Role]Quorum{
			RoleRoot: {Threshold: 1, Persons: before.Quorums[RoleRoot].Persons}, RolePolicy: {Threshold: 2, Persons: []string{aliceURI, bobURI}},
			RoleBreakGlass: {Threshold: 2, Persons: []string{aliceURI, bobURI}}}}, []string{
			"break-glass takes 2 of " + aliceURI + ", " + bobURI + "; it took nobody",
			"policy takes 2 of " + aliceURI + ", " + bobURI + "; it took 2 of " + aliceURI + ", " + bobURI + " (1 for what only narrows)",
			"root takes 1 of " + aliceURI + ", " + bobURI + "; it took 2 of " + aliceURI + ", " + bobURI,
			"the versions of appraisal policies begin anew"}},
	} {
		h := row.then.Since(before)
		if got := h.Words(); !slices.Equal(got, row.want) {
			t.Errorf("%s: got %q, want %q", name, got, row.want)
		}
	}
}
