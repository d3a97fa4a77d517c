package issuer_test

import (
	"context"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
)

// relying is a relying party with a trust file that was written at the beginning, and never since.
type relying struct {
	*issuertest.World
	trust *artifact.Trust
}

func newRelying(w *issuertest.World) *relying { return &relying{w, w.Trust()} }

// follow has it ask for the issuer's keys.
func (r *relying) follow() {
	r.Helper()
	r.trust = issuertest.Must(r.trust.Follow(r.History()))(r)
}

// verify verifies an artifact with a status list that is fetched now.
func (r *relying) verify(m *issuer.Minted) error {
	r.Helper()
	status, err := artifact.VerifyStatus(issuertest.Must(r.Issuer.Status(r.Ctx, 0))(r), r.trust, r.Now(), 0)
	if err != nil {
		return err
	}
	_, err = artifact.Verify(m.Artifact, artifact.Want{Trust: r.trust, Now: r.Now(), Status: status})
	return err
}

func (r *relying) accepts(what string, m *issuer.Minted) {
	r.Helper()
	if err := r.verify(m); err != nil {
		r.Errorf("%s: %v", what, err)
	}
}

func (r *relying) refuses(what string, m *issuer.Minted, want denial.Reason) {
	r.Helper()
	if err := r.verify(m); !denial.Is(err, want) {
		r.Errorf("%s: got %v, want %d", what, err, want.Code())
	}
}

// TestP18_EachKeyIsReplacedWithoutAGap: what was minted before and after a change of each key verifies with a trust file that
// is as old as genesis, once the issuer's keys were followed; and with one that is written now.
func TestP18_EachKeyIsReplacedWithoutAGap(t *testing.T) {
	for _, purpose := range record.Purposes() {
		t.Run(purpose, func(t *testing.T) {
			w := issuertest.New(t)
			r := newRelying(w)
			before := w.Permit()
			old := w.Rotate(purpose)
			same := w.Permit() // logged in the second of the change
			w.Advance(time.Second)
			signed := old.Count.Load()
			after := w.Permit()
			issuertest.Must(w.Ask(issuertest.Spoil{Claims: func(c *artifact.RequestClaims) { c.Audience = "https://elsewhere.example" }}))
			if err := r.verify(after); err == nil {
				t.Error("a list that tells of a key change is taken without that change")
			}
			r.follow()
			for what, m := range map[string]*issuer.Minted{"before": before, "in the same second": same, "after": after} {
				r.accepts(what, m)
			}
			if old.Count.Load() != signed {
				t.Error("the retired key signs")
			}
			if !w.Token.Released(old) {
				t.Error("the issuer holds on to the retired key")
			}
			now := *w.Trust()
			now.PinKeys(w.Ring())
			fresh := &relying{w, issuertest.Must(artifact.ParseTrust(issuertest.Must(now.Marshal())(t)))(t)}
			fresh.accepts("before, by today's trust file", before)
			fresh.accepts("after, by today's trust file", after)
			if err := w.Tree.Scrub(w.Ctx); err != nil {
				t.Error(err)
			}
			w.Token.Remove(old)
			w.Restart()
			r.World = w
			r.follow()
			r.accepts("after, when the issuer was restarted without the old key", after)
			r.accepts("minted then", w.Permit())
		})
	}
}

// TestP19_LoggedTimeDecides: of a key that fell at a time, what was logged before stays good and what was logged from then on
// is not, whatever time it says itself (C34).
func TestP19_LoggedTimeDecides(t *testing.T) {
	w := issuertest.New(t)
	r := newRelying(w)
	before := w.Permit()
	c, _, err := artifact.Inspect(before.Artifact)
	if err != nil {
		t.Fatal(err)
	}
	w.Advance(time.Minute)
	fell := w.Permit()
	w.Advance(30 * time.Second)
	stolen := w.Keys[record.PurposeArtifact]
	forge := func() *issuer.Minted { // dated to before the key fell, and logged now
		c.ID = issuertest.Random(16)
		c.Lineage.Root = c.ID
		return w.Logged(issuertest.Must(artifact.Sign(w.Ctx, stolen, c))(t))
	}
	late, dated := w.Permit(), forge()
	for what, m := range map[string]*issuer.Minted{"before": before, "when the key fell": fell, "later": late, "dated back": dated} {
		r.accepts(what+", while nobody knows", m)
	}
	next, steps := w.Replacement(record.PurposeArtifact, record.KeyCompromised)
	steps[1].Since = w.Seconds() - 30
	w.Change(steps...)
	w.Keys[record.PurposeArtifact] = next
	after, again := w.Permit(), forge()
	r.follow()
	r.accepts("logged before", before)
	r.refuses("logged in the second in which the key fell", fell, denial.KeyRevoked)
	r.refuses("logged later, before that was known", late, denial.KeyRevoked)
	r.refuses("dated back, logged before that was known", dated, denial.KeyRevoked)
	r.refuses("dated back, logged when it was known", again, denial.KeyRevoked)
	r.accepts("by the next key", after)

	// A key that was only retired signs nothing that is logged later either.
	stolen = w.Rotate(record.PurposeArtifact)
	w.Advance(time.Second)
	r.follow()
	r.refuses("dated back, under a retired key", forge(), denial.KeyOutsideValidity)
}

// TestP19_AFallenKeyCannotSayWhen: heads and status lists are in no log, so nothing of a log or status key that fell counts any
// more, however it is dated.
func TestP19_AFallenKeyCannotSayWhen(t *testing.T) {
	w := issuertest.New(t)
	r := newRelying(w)
	before := w.Permit()
	w.Advance(time.Minute)
	w.Compromise(record.PurposeLog)
	r.follow()
	r.refuses("under a head of the fallen key, from before", before, denial.KeyRevoked)
	r.accepts("under a head of the next", w.Permit())

	w.Advance(time.Second)
	list := issuertest.Must(w.Issuer.Status(w.Ctx, 0))(t)
	w.Compromise(record.PurposeStatus)
	r.follow()
	if _, err := artifact.VerifyStatus(list, r.trust, w.Now(), 0); !denial.Is(err, denial.KeyRevoked) {
		t.Errorf("a list of the fallen key: got %v", err)
	}
	r.accepts("with a list of the next", w.Permit())
}

func TestASuspendedKeySignsNothing(t *testing.T) {
	w := issuertest.New(t)
	r := newRelying(w)
	before := w.Permit()
	key := w.Keys[record.PurposeArtifact].Key()
	w.Advance(time.Second)
	w.Change(w.Step(record.PurposeArtifact, key, record.KeyActive, record.KeySuspended))
	signed := w.Keys[record.PurposeArtifact].Count.Load()
	_, err := w.Ask(issuertest.Spoil{})
	ref := w.Refusal(err, denial.KeyRevoked)
	if !ref.Logged || w.Keys[record.PurposeArtifact].Count.Load() != signed {
		t.Errorf("got %+v, with %d signatures", ref, w.Keys[record.PurposeArtifact].Count.Load()-signed)
	}
	r.follow()
	r.refuses("while the key is suspended", before, denial.KeyRevoked)
	w.Advance(10 * time.Second)
	w.Change(w.Step(record.PurposeArtifact, key, record.KeySuspended, record.KeyActive))
	w.Advance(time.Second)
	r.follow()
	r.accepts("when it is active again", before)
	r.accepts("minted then", w.Permit())
}

// TestAPermitIsDecidedAgainWhenAKeyHasChanged: the key changes between decision and commit.
func TestAPermitIsDecidedAgainWhenAKeyHasChanged(t *testing.T) {
	for _, purpose := range record.Purposes() {
		t.Run(purpose, func(t *testing.T) {
			w := issuertest.New(t)
			r := newRelying(w)
			var old *issuertest.Key
			w.Keys[record.PurposeArtifact].Once(func() { old = w.Rotate(purpose) })
			m := w.Permit()
			r.follow()
			r.accepts("minted while a key changed", m)
			if old == nil {
				t.Fatal("no key changed")
			}
			env := issuertest.Must(statement.Decode(m.Artifact, statement.MaxStatement))(t)
			if id, _ := env.KeyID(); id != w.Keys[record.PurposeArtifact].Key().Thumbprint() {
				t.Error("the artifact is signed by a key that is not in use any more")
			}
		})
	}
}

func TestBadKeyChangesAreRefused(t *testing.T) {
	w := issuertest.New(t)
	_, good := w.Replacement(record.PurposeArtifact, record.KeyRetired)
	lost, absent := w.Replacement(record.PurposeArtifact, record.KeyRetired)
	w.Token.Remove(lost)
	change := w.KeyChange(good...)
	for name, row := range map[string]struct {
		bundle record.Bundle
		want   denial.Reason
	}{
		"signed by one":          {w.Sign(statement.KeyChange, change, issuertest.Alice), denial.ThresholdNotMet},
		"for another issuer":     {w.SignAs("https://other.example", statement.KeyChange, change, issuertest.Alice, issuertest.Bob), denial.IdentityConflict},
		"of a key it lacks":      {w.Sign(statement.KeyChange, w.KeyChange(absent...), issuertest.Alice, issuertest.Bob), denial.HSMKeyPolicy},
		"out of turn":            {w.Sign(statement.KeyChange, func() record.KeyChange { c := change; c.Sequence++; return c }(), issuertest.Alice, issuertest.Bob), denial.DualControlMissing},
		"without the last steps": {w.Sign(statement.KeyChange, w.KeyChange(good[0], good[2]), issuertest.Alice, issuertest.Bob), denial.KeyAmbiguous},
	} {
		_, err := w.Issuer.Apply(w.Ctx, statement.KeyChange, row.bundle)
		w.For(t).Refusal(err, row.want)
		if w.Ring().Sequence() != 0 {
			t.Fatalf("%s: it took effect", name)
		}
	}
	b := w.Sign(statement.KeyChange, change, issuertest.Alice, issuertest.Bob)
	issuertest.Must(w.Issuer.Apply(w.Ctx, statement.KeyChange, b))(t)
	_, err := w.Issuer.Apply(w.Ctx, statement.KeyChange, b)
	w.Refusal(err, denial.DualControlMissing)
	if w.Ring().Sequence() != 1 {
		t.Error("a change was made twice")
	}
}

// TestAKeyChangeWithoutAnAnswerStands: the log took it, and the new log key could not sign the head. Nothing is lost, and
// nothing goes on under the keys of before.
func TestAKeyChangeWithoutAnAnswerStands(t *testing.T) {
	w := issuertest.New(t)
	r := newRelying(w)
	next, steps := w.Replacement(record.PurposeLog, record.KeyRetired)
	next.Dead.Store(true)
	_, err := w.Issuer.Apply(w.Ctx, statement.KeyChange, w.Sign(statement.KeyChange, w.KeyChange(steps...), issuertest.Alice, issuertest.Bob))
	w.Refusal(err, denial.HSMUnavailable)
	if w.Ring().Sequence() != 1 {
		t.Fatal("the issuer does not see the change that its log holds")
	}
	next.Dead.Store(false)
	m := w.Permit()
	r.follow()
	r.accepts("minted when the key signs", m)
}

func TestRowsThatAreNoChainOfKeysAreRefused(t *testing.T) {
	w := issuertest.New(t)
	w.Rotate(record.PurposeStatus)
	w.Rotate(record.PurposeStatus)
	for name, spoil := range map[string]func(r *rows){
		"a change is missing": func(r *rows) { r.lose = 2 },
		"fewer than counted":  func(r *rows) { r.counted = 3 },
		"not in the log":      func(r *rows) { r.forget = true },
	} {
		r := &rows{w: w, counted: 2}
		spoil(r)
		if _, err := issuer.ReadKeys(w.Ctx, r); !denial.Is(err, denial.StoreFault) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	ring := issuertest.Must(issuer.ReadKeys(w.Ctx, &rows{w: w, counted: 2}))(t)
	if ring.Head() != w.Ring().Head() {
		t.Error("another ring")
	}
	if err := issuer.CheckKeys(w.Ctx, w.Tree, w.Size(), ring); err != nil {
		t.Error(err)
	}
	older := issuertest.Must(issuer.ReadKeys(w.Ctx, &rows{w: w, counted: 1}))(t)
	w.Rotate(record.PurposeStatus)
	for name, r := range map[string]*record.KeyRing{"a change that has no row": older, "a row that has no change": w.Ring()} {
		if err := issuer.CheckKeys(w.Ctx, w.Tree, w.Size()-2, r); !denial.Is(err, denial.StoreFault) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// rows are the rows of a log, some of them spoilt.
type rows struct {
	w       *issuertest.World
	counted uint64
	lose    byte
	forget  bool
}

func (r *rows) Value(ctx context.Context, bucket string, key []byte) ([]byte, bool, error) {
	if bucket == "keys" && r.lose != 0 && key[7] == r.lose {
		return nil, false, nil
	}
	return r.w.Tree.Value(ctx, bucket, key)
}

func (r *rows) Counter(context.Context, string) (uint64, error) { return r.counted, nil }

func (r *rows) Find(ctx context.Context, digest statement.Digest) (uint64, bool, error) {
	if r.forget {
		return 0, false, nil
	}
	return r.w.Tree.Find(ctx, digest)
}

func (r *rows) LoggedAt(ctx context.Context, index uint64) (uint64, error) {
	return r.w.Tree.LoggedAt(ctx, index)
}

// TestAKeyHistoryProvesItself: whoever pins genesis follows the chain, or refuses what is not the one and whole chain.
func TestAKeyHistoryProvesItself(t *testing.T) {
	w := issuertest.New(t)
	pinned, zero := w.Trust(), w.History()
	w.Rotate(record.PurposeLog)
	one := w.History()
	w.Advance(time.Second)
	w.Rotate(record.PurposeArtifact)
	two := w.History()
	h := issuertest.Must(artifact.DecodeKeyHistory(two))(t)
	seen := issuertest.Must(pinned.Follow(two))(t)
	later := *pinned
	later.PinKeys(w.Ring())
	forked := *pinned
	forked.KeyPin = &artifact.KeyPin{Change: 1, Digest: issuertest.Random(32)}
	other := issuertest.New(t)
	stranger := *pinned
	stranger.Keys = append(stranger.Keys[:0:0], stranger.Keys...)
	stranger.Keys[0].Key = issuertest.NewKey(t).Key()
	made := func(changes ...[][]byte) []byte {
		return issuertest.Must(artifact.KeyHistory{Genesis: h.Genesis, Changes: changes}.Encode())(t)
	}
	bare := func(raw []byte) []byte {
		return issuertest.Must(statement.Decode(raw, 2*statement.MaxStatement))(t).Leaf()
	}
	for name, row := range map[string]struct {
		trust   *artifact.Trust
		history []byte
		want    denial.Reason
	}{
		"whole":                       {pinned, two, 0},
		"as far as it had come":       {pinned, one, 0},
		"the same again":              {seen, two, 0},
		"older than was seen":         {seen, one, denial.StateRollback},
		"older than the file":         {&later, one, denial.StateRollback},
		"from before any change":      {&later, zero, denial.StateRollback},
		"another chain than the file": {&forked, two, denial.LogInconsistent},
		"of another issuer":           {pinned, other.History(), denial.KeyUnknown},
		"no genesis pinned":           {&artifact.Trust{Issuer: pinned.Issuer, Log: pinned.Log}, two, denial.KeyUnknown},
		"a key that it never had":     {&stranger, two, denial.KeyUnknown},
		"the first change left out":   {pinned, made(h.Changes[1]), denial.KeyUnknown},
		"a change twice":              {pinned, made(h.Changes[0], h.Changes[0]), denial.LogInconsistent},
		"out of order":                {pinned, made(h.Changes[1], h.Changes[0]), denial.KeyUnknown},
		"no receipt":                  {pinned, made([][]byte{bare(h.Changes[0][0]), bare(h.Changes[0][1])}), denial.NoReceipt},
		"one signature":               {pinned, made(h.Changes[0][:1]), denial.ThresholdNotMet},
		"nothing":                     {pinned, nil, denial.NotCanonical},
		"more behind it":              {pinned, append(append([]byte{}, two...), 0), denial.TrailingData},
	} {
		got, err := row.trust.Follow(row.history)
		if row.want == 0 && (err != nil || got.KeyRing() == nil) || row.want != 0 && (!denial.Is(err, row.want) || got != nil) {
			t.Errorf("%s: got %v, want %d", name, err, row.want.Code())
		}
	}
	if pinned.KeyRing() != nil || seen.KeyRing().Sequence() != 2 {
		t.Error("what is refused, or followed, changes the trust file that was there")
	}
}
