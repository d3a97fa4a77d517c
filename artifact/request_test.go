package artifact

import (
	"encoding/hex"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// request returns valid request claims, as SignRequest completes them.
func (k *kit) request() RequestClaims {
	params := ParametersDigest(k.argv)
	holder := k.holder.Key().Thumbprint()
	return RequestClaims{
		Initiator: personURI, Host: hostURI, Audience: gateURI, Expires: issued + 120, IssuedAt: issued, ID: fill(16, 1),
		Confirmation: Thumbprint{holder[:]},
		Scope:        Scope{{Target: programA, Terms: Terms{Operations: Execute, Code: []Digest{k.code}, Parameters: &params}}},
		Profile:      RequestProfile, Execution: Execution{ID: fill(16, 2)}, Limits: &Limits{Uses: 1}, Parents: []ParentDigest{}, Lifetime: 300,
	}
}

func verifyRequest(raw []byte, key statement.Key, now time.Time) (*Request, error) {
	u, err := DecodeRequest(raw)
	if err != nil {
		return nil, err
	}
	return VerifyRequest(u, key, now)
}

func TestRequestRoundTrip(t *testing.T) {
	k := newKit(t)
	raw, err := SignRequest(t.Context(), k.person, k.request())
	if err != nil {
		t.Fatal(err)
	}
	u, err := DecodeRequest(raw)
	if err != nil {
		t.Fatal(err)
	}
	if id, ok := u.KeyID(); u.env.Claims().Issuer != personURI || !ok || id != k.person.Key().Thumbprint() {
		t.Errorf("unverified: got initiator %q and kid %s", u.env.Claims().Issuer, id)
	}
	r, err := VerifyRequest(u, k.person.Key(), t0)
	if err != nil {
		t.Fatal(err)
	}
	if c := r.Claims(); c.Host != hostURI || c.Lifetime != 300 || c.Limits.MaxUses() != 1 || len(c.Parents) != 0 || !r.key.Equal(k.person.Key()) {
		t.Errorf("got %+v", c)
	}
	if r.Digest() != statement.DigestOf(raw) || r.Digest() != u.Digest() || string(r.Leaf()) != string(raw) {
		t.Error("the digest is not that of the statement")
	}
}

func TestMaxUsesIsOneUnlessItSaysMore(t *testing.T) {
	for want, l := range map[uint64]*Limits{1: nil, 3: {Uses: 3}} {
		if got := l.MaxUses(); got != want {
			t.Errorf("got %d, want %d", got, want)
		}
	}
	if (&Limits{}).MaxUses() != 1 {
		t.Error("no number of uses is not one use")
	}
}

// TestRequestRefuses breaks one thing of a valid request at a time.
func TestRequestRefuses(t *testing.T) {
	k := newKit(t)
	edit := func(f func(*RequestClaims)) []byte {
		c := k.request()
		f(&c)
		return k.sign(k.person, statement.Request, c.Initiator, c.Host, payload(t, &c))
	}
	patched := func(label int64, raw string) []byte {
		c := k.request()
		return k.sign(k.person, statement.Request, personURI, hostURI, patch(t, payload(t, &c), label, raw))
	}
	good := edit(func(*RequestClaims) {})
	rows := []struct {
		name string
		raw  []byte
		code denial.Reason // zero: accepted
	}{
		{"valid", good, 0},
		{"iat within the skew", edit(func(c *RequestClaims) { c.IssuedAt, c.Expires = uint64(t0.Unix())+60, uint64(t0.Unix())+90 }), 0},
		{"empty", nil, denial.WrongType},
		{"too long", append(good[:len(good):len(good)], make([]byte, maxRequest)...), denial.StructureLimit},
		{"another key", k.sign(k.holder, statement.Request, personURI, hostURI, mustPayload(t, k)), denial.KeyUnknown},
		{"one byte changed", flip(good, len(good)/2), denial.SignatureInvalid},
		{"another kind", k.sign(k.person, statement.Possession, personURI, hostURI, mustPayload(t, k)), denial.WrongType},
		{"header of another initiator", k.sign(k.person, statement.Request, issuerURI, hostURI, mustPayload(t, k)), denial.IdentityConflict},
		{"header of another host", k.sign(k.person, statement.Request, personURI, personURI, mustPayload(t, k)), denial.IdentityConflict},
		{"C25 exp absent", patched(claimExp, ""), denial.ClaimAbsent},
		{"C25 exp null", patched(claimExp, "f6"), denial.ClaimAbsent},
		{"C25 iat absent", patched(claimIat, ""), denial.ClaimAbsent},
		{"C26 exp text", patched(claimExp, "6131"), denial.TimeMalformed},
		{"C26 iat negative", patched(claimIat, "20"), denial.TimeMalformed},
		{"C27 exp 2^64-1", edit(func(c *RequestClaims) { c.Expires = math.MaxUint64 }), denial.TimeMalformed},
		{"C28 at exp", edit(func(c *RequestClaims) { c.Expires = uint64(t0.Unix()) }), denial.Expired},
		{"C29 too long a life", edit(func(c *RequestClaims) { c.Expires = c.IssuedAt + 601 }), denial.LifetimeTooLong},
		{"C30 iat in the future", edit(func(c *RequestClaims) { c.IssuedAt, c.Expires = uint64(t0.Unix())+61, uint64(t0.Unix())+90 }), denial.NotYetValid},
		{"C31 audience absent", patched(claimAud, ""), denial.AudienceMismatch},
		{"C31 audience array", patched(claimAud, "8161"+"61"), denial.AudienceMismatch},
		{"C32 unknown claim", patched(-90012, "00"), denial.UnsupportedVersion},
		{"C32 another profile", edit(func(c *RequestClaims) { c.Profile = Profile }), denial.UnsupportedVersion},
		{"initiator no URI", edit(func(c *RequestClaims) { c.Initiator = "ada" }), denial.ClaimAbsent},
		{"id too short", edit(func(c *RequestClaims) { c.ID = fill(15, 1) }), denial.PayloadForm},
		{"no lifetime", edit(func(c *RequestClaims) { c.Lifetime = 0 }), denial.PayloadForm},
		{"no confirmation key", edit(func(c *RequestClaims) { c.Confirmation.Key = []byte{} }), denial.KeyBinding},
		{"no scope", patched(9, "4180"), denial.StructureLimit},
		{"X08 scope of a loader", patched(9, scopeOf("file:///lib/ld.so")), denial.InterpreterUngoverned},
		{"parent digest too short", edit(func(c *RequestClaims) { c.Parents = []ParentDigest{fill(31, 1)} }), denial.LineageChainInvalid},
		{"too many parents", edit(func(c *RequestClaims) { c.Parents = slices.Repeat([]ParentDigest{fill(32, 1)}, MaxParents+1) }), denial.StructureLimit},
		{"execution id too short", edit(func(c *RequestClaims) { c.Execution.ID = fill(15, 1) }), denial.PayloadForm},
		{"limits null", patched(-90006, "f6"), denial.PayloadForm},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			got, err := verifyRequest(r.raw, k.person.Key(), t0)
			if r.code == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			refused(t, err, r.code)
			if got != nil {
				t.Error("a refused request was returned")
			}
		})
	}
	_, err := verifyRequest(good, statement.Key{}, t0)
	refused(t, err, denial.KeyUnknown)
}

func mustPayload(t *testing.T, k *kit) []byte {
	t.Helper()
	c := k.request()
	return payload(t, &c)
}

// scopeOf encodes, as a claim, a scope that executes one file with a pinned code, without the checks of Encode.
func scopeOf(target string) string {
	inner, err := statement.Marshal([]Permission{execute(target, digestOf(1))})
	if err != nil {
		panic(err)
	}
	outer, err := statement.Marshal(inner)
	if err != nil {
		panic(err)
	}
	return hex.EncodeToString(outer)
}

// TestSignRequestRefusesWhatNobodyWouldAccept: the mistakes of a client show on its own side.
func TestSignRequestRefusesWhatNobodyWouldAccept(t *testing.T) {
	k := newKit(t)
	c := k.request()
	c.Scope = Scope{withEnv("LD_PRELOAD")}
	_, err := SignRequest(t.Context(), k.person, c)
	refused(t, err, denial.LoaderInjection)
	c = k.request()
	c.Profile, c.Parents = "", nil
	if _, err := SignRequest(t.Context(), k.person, c); err != nil {
		t.Errorf("profile and parents are not filled in: %v", err)
	}
}
