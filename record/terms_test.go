package record

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

func authorities(t *testing.T) (*Authorities, people) {
	t.Helper()
	g, p := genesis(t)
	as, err := NewAuthorities(g)
	if err != nil {
		t.Fatal(err)
	}
	return as, p
}

func approve(t *testing.T, c statement.Claims, signers ...statement.Signer) Bundle {
	t.Helper()
	payload, err := statement.Marshal(Policy{Version, Appraisal, "https://issuer.example/policy", 1, []byte{1}, 1})
	if err != nil {
		t.Fatal(err)
	}
	var b Bundle
	for _, s := range signers {
		if b, err = SignAct(context.Background(), b, s, statement.Policy, c, payload); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

var goodTerms = statement.Claims{Issuer: "https://issuer.example", Subject: "https://issuer.example/policies/appraisal", IssuedAt: 100, Expires: 1000, Sequence: 3}

// A17: an approval is of exact bytes, claims included; moved to anything else it is worth nothing.
func TestA17ApprovalsAreOfExactBytes(t *testing.T) {
	as, p := authorities(t)
	good := approve(t, goodTerms, p.alice, p.bob)
	if _, err := as.Verify(good, statement.Policy); err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*statement.Claims){
		"another number": func(c *statement.Claims) { c.Sequence++ },
		"a later expiry": func(c *statement.Claims) { c.Expires++ },
		"another date":   func(c *statement.Claims) { c.IssuedAt++ },
		"another issuer": func(c *statement.Claims) { c.Issuer += "x" },
	} {
		c := goodTerms
		edit(&c)
		_, err := as.Verify(Bundle{good[0], approve(t, c, p.bob)[0]}, statement.Policy)
		if !denial.Is(err, denial.DualControlMissing) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	// One byte of what was approved is edited.
	for _, what := range []string{"https://issuer.example/policies/appraisal", "https://issuer.example/policy"} { // in the header, in the payload
		at := bytes.Index(good[1], []byte(what)) + len(what) - 1
		edited := bytes.Clone(good[1])
		edited[at] ^= 1
		_, err := as.Verify(Bundle{good[0], edited}, statement.Policy)
		wantReason(t, err, denial.DualControlMissing)
		first := bytes.Clone(good[0])
		first[at] ^= 1
		_, err = as.Verify(Bundle{first, good[1]}, statement.Policy)
		wantReason(t, err, denial.SignatureInvalid)
	}
}

func TestActsWithoutTermsAreRefused(t *testing.T) {
	as, p := authorities(t)
	for name, row := range map[string]struct {
		edit func(*statement.Claims)
		want denial.Reason
	}{
		"no date":                    {func(c *statement.Claims) { c.IssuedAt = 0 }, denial.ClaimAbsent},
		"no expiry":                  {func(c *statement.Claims) { c.Expires = 0 }, denial.ClaimAbsent},
		"no number":                  {func(c *statement.Claims) { c.Sequence = 0 }, denial.ClaimAbsent},
		"expired when it was made":   {func(c *statement.Claims) { c.Expires = c.IssuedAt }, denial.TimeMalformed},
		"thirty days and a second":   {func(c *statement.Claims) { c.Expires = c.IssuedAt + 30*86400 + 1 }, denial.LifetimeTooLong},
		"about another policy":       {func(c *statement.Claims) { c.Subject += "/b" }, denial.IdentityConflict},
		"thirty days, which is good": {func(c *statement.Claims) { c.Expires = c.IssuedAt + 30*86400 }, 0},
	} {
		c := goodTerms
		row.edit(&c)
		_, err := as.Verify(approve(t, c, p.alice, p.bob), statement.Policy)
		if row.want == 0 && err != nil || row.want != 0 && !denial.Is(err, row.want) {
			t.Errorf("%s: got %v, want %v", name, err, row.want)
		}
	}
}

// A18: an act is good in one place of the order of those about its subject, and in its time.
func TestA18StaleActsDoNotFollow(t *testing.T) {
	as, p := authorities(t)
	act, err := as.Verify(approve(t, goodTerms, p.alice, p.bob), statement.Policy)
	if err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		before, at uint64
		want       denial.Reason
	}{
		"in its place":            {2, 500, 0},
		"in its last second":      {2, 999, 0},
		"a clock a minute ahead":  {2, 40, 0},
		"replayed":                {3, 500, denial.DualControlMissing},
		"after a later one":       {4, 500, denial.DualControlMissing},
		"before one that is due":  {1, 500, denial.DualControlMissing},
		"expired":                 {2, 1000, denial.Expired},
		"dated later than is now": {2, 39, denial.NotYetValid},
	} {
		err := act.Followed(row.before, row.at)
		if row.want == 0 && err != nil || row.want != 0 && !denial.Is(err, row.want) {
			t.Errorf("%s: got %v, want %v", name, err, row.want)
		}
	}
	if err := act.Follows(2, 939); err != nil {
		t.Error(err)
	}
	if err := act.Follows(2, 940); !denial.Is(err, denial.Expired) {
		t.Errorf("one that may expire on its way into the log: %v", err)
	}
	if err := new(Act).Follows(0, 1); !denial.Is(err, denial.WrongType) {
		t.Errorf("the zero act: %v", err)
	}
}

func TestDraftsHaveTerms(t *testing.T) {
	now := time.Unix(100, 0)
	p := Policy{Version, Appraisal, "https://issuer.example/policy", 1, []byte{1}, 1}
	d, err := NewDraft(statement.Policy, "https://issuer.example", p, 3, now, 15*time.Minute)
	if err != nil || d.Claims() != goodTerms {
		t.Fatalf("got %+v, %v", d.Claims(), err)
	}
	enc, err := d.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeDraft(enc); err != nil {
		t.Fatal(err)
	}
	d.Expires = 0
	if enc, err = d.Encode(); err != nil {
		t.Fatal(err)
	}
	_, err = DecodeDraft(enc)
	wantReason(t, err, denial.ClaimAbsent)
	_, err = NewDraft(statement.Policy, "https://issuer.example", p, 3, now, MaxApproval+time.Second)
	wantReason(t, err, denial.LifetimeTooLong)
	_, err = NewDraft(statement.Record, "https://issuer.example", p, 3, now, time.Hour)
	wantReason(t, err, denial.WrongType)
}
