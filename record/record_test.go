package record

import (
	"context"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
)

type people struct{ alice, bob, alice2, mallory statement.Signer }

func genesis(t *testing.T) (*Genesis, people) {
	t.Helper()
	p := people{stock.Signer(t), stock.Signer(t), stock.Signer(t), stock.Signer(t)}
	q := Quorum{Threshold: 2, Persons: []string{"mailto:alice@example.org", "mailto:bob@example.org"}}
	g := &Genesis{
		Version: Version, Issuer: "https://issuer.example", Log: "https://issuer.example/log", Time: 1,
		Epoch: make([]byte, 16), Keys: map[string]statement.Key{}, Roots: [][]byte{make([]byte, 32)},
		Authorities: []Authority{{q.Persons[0], p.alice.Key()}, {q.Persons[1], p.bob.Key()}, {q.Persons[0], p.alice2.Key()}},
		Quorums:     map[Role]Quorum{},
	}
	for _, role := range Roles() {
		g.Quorums[role] = q
	}
	g.Quorums[RoleRevocation] = Quorum{Threshold: 1, Persons: q.Persons}
	for _, purpose := range Purposes() {
		g.Keys[purpose] = stock.Signer(t).Key()
	}
	return g, p
}

func sign(t *testing.T, kind statement.Kind, payload any, signers ...statement.Signer) Bundle {
	t.Helper()
	enc, err := statement.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	var b Bundle
	for _, s := range signers {
		if b, err = SignAct(context.Background(), b, s, kind, claimsOf(t, kind, enc), enc); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// claimsOf returns the claims of the first act about its subject, drafted at second 100 and good until 1000.
func claimsOf(t *testing.T, kind statement.Kind, payload []byte) statement.Claims {
	t.Helper()
	c := statement.Claims{Issuer: "https://issuer.example", Subject: "urn:x:1"}
	if subject, err := SubjectOf(kind, c.Issuer, payload); err == nil {
		c.Subject = subject
	}
	if kind.Acts() {
		c.IssuedAt, c.Expires, c.Sequence = 100, 1000, 1
	}
	return c
}

func wantReason(t *testing.T, err error, want denial.Reason) {
	t.Helper()
	if !denial.Is(err, want) {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func TestGenesisVerifiesAgainstItsPin(t *testing.T) {
	g, p := genesis(t)
	b := sign(t, statement.Genesis, g, p.alice, p.bob)
	got, act, err := VerifyGenesis(b, statement.Digest{})
	if err != nil || got.Issuer != g.Issuer || len(act.Persons()) != 2 {
		t.Fatalf("got %v %v", got, err)
	}
	if _, _, err := VerifyGenesis(b, act.Digest()); err != nil {
		t.Fatal(err)
	}
	_, _, err = VerifyGenesis(b, statement.Digest{1})
	wantReason(t, err, denial.KeyUnknown)
	_, _, err = VerifyGenesis(b[:1], act.Digest())
	wantReason(t, err, denial.ThresholdNotMet)
}

func TestIncompleteGenesisIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		spoil func(*Genesis)
		want  denial.Reason
	}{
		"version":          {func(g *Genesis) { g.Version = 2 }, denial.UnsupportedVersion},
		"issuer":           {func(g *Genesis) { g.Issuer = "issuer" }, denial.ClaimAbsent},
		"epoch":            {func(g *Genesis) { g.Epoch = nil }, denial.ClaimAbsent},
		"root length":      {func(g *Genesis) { g.Roots = [][]byte{{1}} }, denial.PayloadForm},
		"key missing":      {func(g *Genesis) { delete(g.Keys, PurposeLog) }, denial.KeyUnknown},
		"one key twice":    {func(g *Genesis) { g.Keys[PurposeLog] = g.Keys[PurposeStatus] }, denial.KeyAmbiguous},
		"unknown purpose":  {func(g *Genesis) { g.Keys["x"] = g.Keys[PurposeLog] }, denial.UnsupportedVersion},
		"role missing":     {func(g *Genesis) { delete(g.Quorums, RolePolicy) }, denial.ThresholdNotMet},
		"T12 threshold 0":  {func(g *Genesis) { g.Quorums[RolePolicy] = Quorum{0, g.Quorums[RolePolicy].Persons, 0} }, denial.ThresholdNotMet},
		"threshold 3 of 2": {func(g *Genesis) { g.Quorums[RolePolicy] = Quorum{3, g.Quorums[RolePolicy].Persons, 0} }, denial.ThresholdNotMet},
		"person twice": {func(g *Genesis) {
			g.Quorums[RolePolicy] = Quorum{2, []string{"mailto:bob@example.org", "mailto:bob@example.org"}, 0}
		}, denial.ThresholdNotMet},
		"keyless person": {func(g *Genesis) {
			g.Quorums[RolePolicy] = Quorum{2, []string{"mailto:alice@example.org", "mailto:eve@example.org"}, 0}
		}, denial.KeyUnknown},
		"narrowing by more than widening": {func(g *Genesis) { g.Quorums[RolePolicy] = Quorum{2, g.Quorums[RolePolicy].Persons, 3} }, denial.ThresholdNotMet},
		"narrowing of enrolments":         {func(g *Genesis) { g.Quorums[RoleEnrolment] = Quorum{2, g.Quorums[RolePolicy].Persons, 1} }, denial.ThresholdNotMet},
		"A16 one person for the root":     {func(g *Genesis) { g.Quorums[RoleRoot] = Quorum{1, g.Quorums[RoleRoot].Persons, 0} }, denial.DualControlMissing},
		"A16 one person for policies":     {func(g *Genesis) { g.Quorums[RolePolicy] = Quorum{1, g.Quorums[RoleRoot].Persons, 0} }, denial.DualControlMissing},
		"A16 one person for keys":         {func(g *Genesis) { g.Quorums[RoleKeys] = Quorum{1, g.Quorums[RoleRoot].Persons, 0} }, denial.DualControlMissing},
		"A16 one person to break glass":   {func(g *Genesis) { g.Quorums[RoleBreakGlass] = Quorum{1, g.Quorums[RoleRoot].Persons, 0} }, denial.ThresholdNotMet},
		"one person said, two named":      {func(g *Genesis) { g.OnePerson = true }, denial.DualControlMissing},
		"issuer key as authority":         {func(g *Genesis) { g.Authorities[0].Key = g.Keys[PurposeLog] }, denial.KeyAmbiguous},
	} {
		t.Run(name, func(t *testing.T) {
			g, _ := genesis(t)
			row.spoil(g)
			wantReason(t, g.Check(), row.want)
		})
	}
}

func TestActNeedsDistinctPersonsOverTheSameBytes(t *testing.T) {
	g, p := genesis(t)
	as, err := NewAuthorities(g)
	if err != nil {
		t.Fatal(err)
	}
	pol := Policy{Version, Appraisal, "https://issuer.example/policy", 1, []byte{1}, 1}
	if _, err := as.Verify(sign(t, statement.Policy, pol, p.alice, p.bob), statement.Policy); err != nil {
		t.Fatal(err)
	}
	_, err = as.Verify(sign(t, statement.Policy, pol, p.alice), statement.Policy)
	wantReason(t, err, denial.PolicyUnsigned) // P05
	_, err = as.Verify(sign(t, statement.Policy, pol, p.alice, p.alice2), statement.Policy)
	wantReason(t, err, denial.DualControlMissing) // A16: one person, two keys
	_, err = as.Verify(sign(t, statement.Policy, pol, p.alice, p.mallory), statement.Policy)
	wantReason(t, err, denial.KeyUnknown)
	_, err = as.Verify(sign(t, statement.Policy, pol, p.alice, p.bob, p.alice), statement.Policy)
	wantReason(t, err, denial.KeyAmbiguous)
	other := pol
	other.Revision = 2
	mixed := append(sign(t, statement.Policy, pol, p.alice), sign(t, statement.Policy, other, p.bob)...)
	_, err = as.Verify(mixed, statement.Policy)
	wantReason(t, err, denial.DualControlMissing) // A17: the approval is of another version
	_, err = as.Verify(sign(t, statement.Enrolment, pol, p.alice, p.bob), statement.Policy)
	wantReason(t, err, denial.WrongType)
	_, err = as.Verify(nil, statement.Policy)
	wantReason(t, err, denial.PolicyUnsigned)
	_, err = (&Authorities{}).Verify(sign(t, statement.Policy, pol, p.alice, p.bob), statement.Policy)
	wantReason(t, err, denial.KeyUnknown)
}

func TestBundleRoundTrip(t *testing.T) {
	g, p := genesis(t)
	b := sign(t, statement.Genesis, g, p.alice, p.bob)
	enc, err := b.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeBundle(enc)
	if err != nil || len(got) != 2 {
		t.Fatal(got, err)
	}
	_, err = DecodeBundle(append(enc, 0))
	wantReason(t, err, denial.TrailingData)
	_, err = DecodeBundle([]byte{0x80})
	wantReason(t, err, denial.StructureLimit)
}

func valid() *Record {
	return &Record{Version: Version, Event: EventSummary, Time: 7, Emitter: Emitter{URI: "https://issuer.example", Epoch: make([]byte, 16), Seq: 1}, Counts: map[uint64]uint64{501: 3}, Since: 1}
}

func TestRecordRoundTrip(t *testing.T) {
	s := stock.Signer(t)
	r := valid()
	r.FillDenial(&denial.Denial{Reason: denial.Expired, Stage: denial.StageTime, Detail: "late", Requirements: []string{"x"}}, map[uint64]uint8{21: 1})
	leaf, err := r.Sign(context.Background(), s, r.Emitter.URI)
	if err != nil {
		t.Fatal(err)
	}
	var keys statement.Keys
	if err := keys.Add(s.Key(), statement.Record); err != nil {
		t.Fatal(err)
	}
	env, err := statement.Decode(leaf, statement.MaxStatement)
	if err != nil {
		t.Fatal(err)
	}
	v, err := env.Verify(keys, statement.Record)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Read(v)
	if err != nil || got.Reasons[0] != 201 || got.Requirements[0] != "x" || got.Previous != nil || got.Outcome != Denied {
		t.Fatalf("got %+v %v", got, err)
	}
}

func TestContradictoryRecordIsRefused(t *testing.T) {
	for name, spoil := range map[string]func(*Record){
		"version":             func(r *Record) { r.Version = 9 },
		"event":               func(r *Record) { r.Event = 99 },
		"no time":             func(r *Record) { r.Time = 0 },
		"emitter":             func(r *Record) { r.Emitter.URI = "x" },
		"epoch":               func(r *Record) { r.Emitter.Epoch = nil },
		"previous":            func(r *Record) { r.Previous = []byte{1} },
		"reason in a permit":  func(r *Record) { r.Reasons = []uint64{201} },
		"denial of nothing":   func(r *Record) { r.Outcome = Denied },
		"denying summary":     func(r *Record) { r.Outcome, r.Reasons = Denied, []uint64{201} },
		"start without run":   func(r *Record) { r.Event = EventStart },
		"summary with a run":  func(r *Record) { r.Execution = &Execution{} },
		"start that ended":    func(r *Record) { r.Event, r.Execution = EventStart, &Execution{Ended: 201} },
		"start that left":     func(r *Record) { r.Event, r.Execution = EventStart, &Execution{Left: 1} },
		"end for no reason":   func(r *Record) { r.Event, r.Execution = EventEnd, &Execution{Ended: 200} },
		"end, code too great": func(r *Record) { r.Event, r.Execution = EventEnd, &Execution{Ended: 1<<16 + 201} },
		"enrolment, no facts": func(r *Record) { r.Event = EventEnrol },
		"birth, no key":       func(r *Record) { r.Event = EventKey },
	} {
		t.Run(name, func(t *testing.T) {
			r := valid()
			if err := r.Check(); err != nil {
				t.Fatal(err)
			}
			if spoil(r); r.Check() == nil {
				t.Fatal("accepted")
			}
		})
	}
}

func TestEnrolmentAndRevocationChecks(t *testing.T) {
	n := make([]byte, 16)
	host := Enrolment{Version, "spiffe://x/h", 1, n, &Host{EK: make([]byte, 32)}, nil, nil}
	if err := host.Check(); err != nil {
		t.Fatal(err)
	}
	both := host
	both.Initiator = &Initiator{}
	wantReason(t, both.Check(), denial.PayloadForm)
	short := host
	short.Host = &Host{EK: n}
	wantReason(t, short.Check(), denial.PayloadForm)
	rev := Revocation{Version, CauseHost, "spiffe://x/h", 1, "", n}
	if err := rev.Check(); err != nil {
		t.Fatal(err)
	}
	rev.Cause = CauseAncestor
	wantReason(t, rev.Check(), denial.UnsupportedVersion)
	if got, want := Cause(9).Reason(), denial.RevocationUnknown; got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
	if got, want := CauseHost.Reason(), denial.HostRevoked; got != want {
		t.Fatalf("got %v, want %v", got, want)
	}
}
