package record

import (
	"bytes"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
)

var carolURI = "mailto:carol@example.org"

// glassGenesis returns a genesis with a break-glass quorum of two out of three.
func glassGenesis(t *testing.T) (*Genesis, people, statement.Signer) {
	t.Helper()
	g, p := genesis(t)
	carol := stock.Signer(t)
	g.Authorities = append(g.Authorities, Authority{carolURI, carol.Key()})
	g.Quorums[RoleBreakGlass] = Quorum{Threshold: 2, Persons: append([]string{carolURI}, g.Quorums[RoleRoot].Persons...)}
	if err := g.Check(); err != nil {
		t.Fatal(err)
	}
	return g, p, carol
}

func aGlass() *BreakGlass {
	return &BreakGlass{Version: Version, ID: bytes.Repeat([]byte{7}, 16), Host: "spiffe://x/h", Audience: "https://gate.example", Initiator: "spiffe://x/i",
		Scope: aScope, Policy: Declared{"https://x/p", make([]byte, 32), 1, "restore"}, IssuedAt: 100, Expires: 100 + MaxBreakGlass, Why: "the database is lost"}
}

func signGlass(t *testing.T, g *BreakGlass, signers ...statement.Signer) Bundle {
	t.Helper()
	return signGlassAs(t, g, g.Subject("https://issuer.example"), signers...)
}

func signGlassAs(t *testing.T, g *BreakGlass, subject string, signers ...statement.Signer) Bundle {
	t.Helper()
	return signAs(t, statement.BreakGlass, subject, g, signers...)
}

func signAs(t *testing.T, kind statement.Kind, subject string, payload any, signers ...statement.Signer) Bundle {
	t.Helper()
	enc, err := statement.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	var b Bundle
	for _, s := range signers {
		c := statement.Claims{Issuer: "https://issuer.example", Subject: subject}
		if b, err = SignAct(t.Context(), b, s, kind, c, enc); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

func signReview(t *testing.T, r Review, signers ...statement.Signer) (b Bundle) {
	t.Helper()
	enc, err := statement.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range signers {
		c := statement.Claims{Issuer: "https://issuer.example", Subject: r.Subject("https://issuer.example")}
		if b, err = SignAct(t.Context(), b, s, statement.Review, c, enc); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// P21: a quorum of two distinct persons at least, and somebody left to review, or no break-glass at all.
func TestP21_GenesisOfBreakGlass(t *testing.T) {
	for name, spoil := range map[string]func(q *Quorum){
		"one person suffices":    func(q *Quorum) { q.Threshold = 1 },
		"threshold zero":         func(q *Quorum) { q.Threshold = 0 },
		"nobody can review":      func(q *Quorum) { q.Threshold = 3 },
		"two persons, both":      func(q *Quorum) { q.Persons = q.Persons[:2] },
		"the same person thrice": func(q *Quorum) { q.Persons = []string{carolURI, carolURI, carolURI} },
	} {
		g, _, _ := glassGenesis(t)
		q := g.Quorums[RoleBreakGlass]
		spoil(&q)
		g.Quorums[RoleBreakGlass] = q
		if err := g.Check(); !denial.Is(err, denial.ThresholdNotMet) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g, p := genesis(t)
	as, err := NewAuthorities(g)
	if err != nil {
		t.Fatal(err)
	}
	_, err = as.Verify(signGlass(t, aGlass(), p.alice, p.bob), statement.BreakGlass)
	wantReason(t, err, denial.KeyUnknown) // a genesis without the role has no break-glass
}

func TestP21_BreakGlassNeedsItsQuorum(t *testing.T) {
	g, p, carol := glassGenesis(t)
	as, err := NewAuthorities(g)
	if err != nil {
		t.Fatal(err)
	}
	act, err := as.Verify(signGlass(t, aGlass(), p.alice, carol), statement.BreakGlass)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ReadBreakGlass(act); err != nil {
		t.Fatal(err)
	}
	if err := as.Reviewable(act); err != nil {
		t.Fatal(err)
	}
	_, err = as.Verify(signGlass(t, aGlass(), p.alice), statement.BreakGlass)
	wantReason(t, err, denial.BreakGlassInvalid)
	_, err = as.Verify(signGlass(t, aGlass(), p.alice, p.alice2), statement.BreakGlass)
	wantReason(t, err, denial.DualControlMissing) // A16: one person, two keys
	_, err = as.Verify(signGlass(t, aGlass(), p.alice, p.mallory), statement.BreakGlass)
	wantReason(t, err, denial.KeyUnknown)
	_, err = as.Verify(signGlass(t, aGlass(), carol, p.bob), statement.Policy)
	wantReason(t, err, denial.KeyUnknown) // carol has no role but break-glass
	all, err := as.Verify(signGlass(t, aGlass(), p.alice, p.bob, carol), statement.BreakGlass)
	if err != nil {
		t.Fatal(err)
	}
	wantReason(t, as.Reviewable(all), denial.BreakGlassInvalid)
	review, err := as.Verify(signReview(t, Review{Version, make([]byte, 32), 1, true, "x", make([]byte, 16)}, p.alice, p.bob), statement.Review)
	if err != nil {
		t.Fatal(err)
	}
	if err := Independent(review, act.Persons()); err != nil {
		t.Error(err) // bob had not signed
	}
	wantReason(t, Independent(review, []string{review.Persons()[0], review.Persons()[1]}), denial.BreakGlassInvalid)
	if _, err := ReadReview(review); err != nil {
		t.Error(err)
	}
	_, err = ReadReview(act)
	wantReason(t, err, denial.WrongType)
	moved, err := as.Verify(signAs(t, statement.Review, "urn:x:1", Review{Version, make([]byte, 32), 1, true, "x", make([]byte, 16)}, p.alice, p.bob), statement.Review)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ReadReview(moved)
	wantReason(t, err, denial.IdentityConflict)
	_, err = ReadBreakGlass(review)
	wantReason(t, err, denial.WrongType)
}

func TestP21_BreakGlassIsNarrow(t *testing.T) {
	for name, row := range map[string]struct {
		spoil func(*BreakGlass)
		want  denial.Reason
	}{
		"version":                  {func(g *BreakGlass) { g.Version = 2 }, denial.UnsupportedVersion},
		"id":                       {func(g *BreakGlass) { g.ID = g.ID[:8] }, denial.ClaimAbsent},
		"no host":                  {func(g *BreakGlass) { g.Host = "" }, denial.ClaimAbsent},
		"no gate":                  {func(g *BreakGlass) { g.Audience = "*" }, denial.ClaimAbsent},
		"nobody in person":         {func(g *BreakGlass) { g.Initiator = "" }, denial.ClaimAbsent},
		"no scope":                 {func(g *BreakGlass) { g.Scope = nil }, denial.ClaimAbsent},
		"no rule":                  {func(g *BreakGlass) { g.Policy.Rule = "" }, denial.ClaimAbsent},
		"no justification":         {func(g *BreakGlass) { g.Why = "" }, denial.ClaimAbsent},
		"long justification":       {func(g *BreakGlass) { g.Why = strings.Repeat("x", 1025) }, denial.ClaimAbsent},
		"an hour and 1 s":          {func(g *BreakGlass) { g.Expires++ }, denial.BreakGlassInvalid},
		"no lifetime":              {func(g *BreakGlass) { g.Expires = g.IssuedAt }, denial.BreakGlassInvalid},
		"P22 waived by one":        {func(g *BreakGlass) { g.Waived = []string{"mailto:a@x"} }, denial.BreakGlassInvalid},
		"P22 waived by none":       {func(g *BreakGlass) { g.Waived = []string{} }, denial.BreakGlassInvalid},
		"P22 waived by one, twice": {func(g *BreakGlass) { g.Waived = []string{"mailto:a@x", "mailto:a@x"} }, denial.BreakGlassInvalid},
	} {
		g := aGlass()
		if err := g.Check(); err != nil {
			t.Fatal(err)
		}
		if row.spoil(g); !denial.Is(g.Check(), row.want) {
			t.Errorf("%s: got %v, want %v", name, g.Check(), row.want)
		}
	}
	g, p, carol := glassGenesis(t)
	as, err := NewAuthorities(g)
	if err != nil {
		t.Fatal(err)
	}
	waived := aGlass()
	waived.Waived = []string{"mailto:alice@example.org", "mailto:bob@example.org"}
	act, err := as.Verify(signGlass(t, waived, p.alice, carol), statement.BreakGlass)
	if err != nil {
		t.Fatal(err)
	}
	_, err = ReadBreakGlass(act) // P22: bob is said to waive, and did not sign
	wantReason(t, err, denial.NoEvidence)
	moved := signGlassAs(t, aGlass(), "urn:x:1", p.alice, carol)
	if act, err = as.Verify(moved, statement.BreakGlass); err != nil {
		t.Fatal(err)
	}
	_, err = ReadBreakGlass(act)
	wantReason(t, err, denial.IdentityConflict)
}

func TestReviewIsComplete(t *testing.T) {
	for name, spoil := range map[string]func(*Review){
		"version": func(r *Review) { r.Version = 2 }, "act": func(r *Review) { r.Act = nil }, "time": func(r *Review) { r.Time = 0 },
		"finding": func(r *Review) { r.Finding = "" }, "nonce": func(r *Review) { r.Nonce = nil },
	} {
		r := &Review{Version, make([]byte, 32), 1, false, "x", make([]byte, 16)}
		if err := r.Check(); err != nil {
			t.Fatal(err)
		}
		if spoil(r); r.Check() == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
