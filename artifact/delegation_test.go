package artifact

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

const agentURI = "https://agents.example/summary"

// ancestor returns an artifact that may be delegated once.
func (k *kit) ancestor(edit func(*Claims)) *Ancestor {
	k.t.Helper()
	c := k.claims()
	c.Scope[0].Terms.Operations |= Delegate
	c.Limits.Depth = 1
	if edit != nil {
		edit(&c)
	}
	var keys statement.Keys
	if err := keys.Add(k.artifact.Key(), statement.Artifact); err != nil {
		k.t.Fatal(err)
	}
	a, err := VerifyAncestor(k.sign(k.artifact, statement.Artifact, c.Issuer, c.Subject, mustEncode(k.t, c)), keys)
	if err != nil {
		k.t.Fatal(err)
	}
	return a
}

// delegation returns what the holder of an ancestor may delegate.
func (k *kit) delegation(a *Ancestor) DelegationClaims {
	c, digest := a.Claims(), a.Digest()
	scope := c.Scope.Canonical()
	scope[0].Terms.Operations = Execute
	return DelegationClaims{Delegator: c.Subject, Host: hostURI + "/b", Audience: gateURI, Expires: c.Expires, IssuedAt: issued + 1, ID: fill(16, 9),
		Scope: scope, Profile: DelegationProfile, Limits: &Limits{Uses: 2}, Parent: digest[:], Initiator: agentURI}
}

// TestDelegationRefuses breaks one thing of a valid delegation at a time.
func TestDelegationRefuses(t *testing.T) {
	k := newKit(t)
	parent := k.ancestor(nil)
	edit := func(f func(*DelegationClaims)) []byte {
		c := k.delegation(parent)
		f(&c)
		return k.sign(k.holder, statement.Delegation, c.Delegator, c.Host, payload(t, &c))
	}
	patched := func(label int64, raw string) []byte {
		c := k.delegation(parent)
		return k.sign(k.holder, statement.Delegation, c.Delegator, c.Host, patch(t, payload(t, &c), label, raw))
	}
	plain := k.delegation(parent)
	good := edit(func(*DelegationClaims) {})
	for _, r := range []struct {
		name string
		raw  []byte
		code denial.Reason // zero: accepted
	}{
		{"valid", good, 0},
		{"once, by default", edit(func(c *DelegationClaims) { c.Limits = nil }), 0},
		{"iat within the skew", edit(func(c *DelegationClaims) { c.IssuedAt = uint64(t0.Unix()) + 60 }), 0},
		{"empty", nil, denial.LineageChainInvalid},
		{"too long", append(good[:len(good):len(good)], make([]byte, MaxDelegation)...), denial.LineageChainInvalid},
		{"another key", k.sign(k.person, statement.Delegation, hostURI, hostURI+"/b", payload(t, &plain)), denial.LineageChainInvalid},
		{"one byte changed", flip(good, len(good)/2), denial.LineageChainInvalid},
		{"C16 another kind", k.sign(k.holder, statement.Possession, hostURI, hostURI+"/b", payload(t, &plain)), denial.LineageChainInvalid},
		{"header of another delegator", k.sign(k.holder, statement.Delegation, personURI, hostURI+"/b", payload(t, &plain)), denial.IdentityConflict},
		{"header of another host", k.sign(k.holder, statement.Delegation, hostURI, hostURI, payload(t, &plain)), denial.IdentityConflict},
		{"C25 exp absent", patched(claimExp, ""), denial.ClaimAbsent},
		{"C25 iat null", patched(claimIat, "f6"), denial.ClaimAbsent},
		{"C26 exp text", patched(claimExp, "6131"), denial.TimeMalformed},
		{"C27 exp 2^64-1", edit(func(c *DelegationClaims) { c.Expires = math.MaxUint64 }), denial.TimeMalformed},
		{"C28 at exp", edit(func(c *DelegationClaims) { c.Expires = uint64(t0.Unix()) }), denial.Expired},
		{"C30 iat in the future", edit(func(c *DelegationClaims) { c.IssuedAt = uint64(t0.Unix()) + 61 }), denial.NotYetValid},
		{"C29 too long a life", edit(func(c *DelegationClaims) { c.IssuedAt -= 367 * 24 * 3600 }), denial.LifetimeTooLong},
		{"iat after exp", edit(func(c *DelegationClaims) { c.IssuedAt = c.Expires + 1 }), denial.TimeMalformed},
		{"C31 audience array", patched(claimAud, "816161"), denial.AudienceMismatch},
		{"audience no URI", edit(func(c *DelegationClaims) { c.Audience = "gate" }), denial.AudienceMismatch},
		{"C32 unknown claim", patched(-90013, "00"), denial.UnsupportedVersion},
		{"C32 another profile", edit(func(c *DelegationClaims) { c.Profile = RequestProfile }), denial.UnsupportedVersion},
		{"a session of more than a year", edit(func(c *DelegationClaims) { c.Limits.Session = MaxSession + 1 }), denial.PayloadForm},
		{"delegator no URI", edit(func(c *DelegationClaims) { c.Delegator = "a" }), denial.ClaimAbsent},
		{"host no URI", edit(func(c *DelegationClaims) { c.Host = "b" }), denial.ClaimAbsent},
		{"initiator no URI", edit(func(c *DelegationClaims) { c.Initiator = "x" }), denial.ClaimAbsent},
		{"id too short", edit(func(c *DelegationClaims) { c.ID = fill(15, 1) }), denial.PayloadForm},
		{"parent digest too short", edit(func(c *DelegationClaims) { c.Parent = fill(31, 1) }), denial.LineageChainInvalid},
		{"no scope", patched(9, "4180"), denial.StructureLimit},
		{"X20 of another artifact", edit(func(c *DelegationClaims) { c.Parent = fill(32, 1) }), denial.LineageChainInvalid},
		{"X20 by another than the holder", edit(func(c *DelegationClaims) { c.Delegator += "/c" }), denial.LineageChainInvalid},
		{"longer than the parent", edit(func(c *DelegationClaims) { c.Expires++ }), denial.DelegationExceeded},
		{"another target", edit(func(c *DelegationClaims) { c.Scope[0].Target += "2" }), denial.DelegationExceeded},
		{"X21 a verb more", edit(func(c *DelegationClaims) { c.Scope[0].Terms.Operations |= Net }), denial.DelegationExceeded},
		{"X21 parameters free", edit(func(c *DelegationClaims) { c.Scope[0].Terms.Parameters = nil }), denial.DelegationExceeded},
		{"X21 a variable more", edit(func(c *DelegationClaims) {
			c.Scope[0].Terms.Constraints = &Constraints{Env: []string{"LANG", "STAGE", "TERM"}, Directory: "/srv"}
		}), denial.DelegationExceeded},
		{"X21 another directory", edit(func(c *DelegationClaims) { c.Scope[0].Terms.Constraints = &Constraints{Directory: "/"} }), denial.DelegationExceeded},
		{"X21 more uses", edit(func(c *DelegationClaims) { c.Limits.Uses = 3 }), denial.DelegationExceeded},
		{"X21 a session", edit(func(c *DelegationClaims) { c.Limits.Session = 60 }), denial.DelegationExceeded},
		{"X21 as deep", edit(func(c *DelegationClaims) { c.Limits.Depth = 1 }), denial.DelegationExceeded},
	} {
		t.Run(r.name, func(t *testing.T) {
			d, err := VerifyDelegation(r.raw, parent, t0)
			if r.code == 0 {
				if err != nil || d.Digest() != statement.DigestOf(r.raw) {
					t.Fatal(err)
				}
				return
			}
			refused(t, err, r.code)
			if d != nil {
				t.Error("a refused delegation was returned")
			}
		})
	}
	_, err := VerifyDelegation(good, nil, t0)
	refused(t, err, denial.LineageChainInvalid)
	_, err = VerifyDelegation(good, &Ancestor{}, t0)
	refused(t, err, denial.LineageChainInvalid)
	_, err = VerifyDelegation(good, parent, time.Time{})
	refused(t, err, denial.ClockUntrusted)
	for name, change := range map[string]func(*Claims){
		"that may not be delegated": func(c *Claims) { c.Limits.Depth = 0 }, "without limits": func(c *Claims) { c.Limits = nil },
		"whose target may not": func(c *Claims) { c.Scope[0].Terms.Operations = Execute },
	} {
		a := k.ancestor(change)
		c := k.delegation(a)
		c.Limits = nil
		_, err := VerifyDelegation(k.sign(k.holder, statement.Delegation, c.Delegator, c.Host, payload(t, &c)), a, t0)
		if !denial.Is(err, denial.DelegationExceeded) {
			t.Errorf("an artifact %s: got %v", name, err)
		}
	}
}

// TestDelegationAllows breaks one thing of a request within a delegation at a time.
func TestDelegationAllows(t *testing.T) {
	k := newKit(t)
	d := k.delegation(k.ancestor(nil))
	at := uint64(t0.Unix())
	good := func() *RequestClaims {
		return &RequestClaims{Initiator: d.Initiator, Host: d.Host, Audience: d.Audience, Scope: d.Scope.Canonical(), Lifetime: d.Expires - at, Limits: &Limits{Uses: 2}}
	}
	for name, r := range map[string]struct {
		edit func(*RequestClaims)
		code denial.Reason
	}{
		"to the limit":      {func(*RequestClaims) {}, 0},
		"by default":        {func(c *RequestClaims) { c.Limits = nil }, 0},
		"another host":      {func(c *RequestClaims) { c.Host += "c" }, denial.HostMismatch},
		"another initiator": {func(c *RequestClaims) { c.Initiator += "c" }, denial.InitiatorDenied},
		"another gate":      {func(c *RequestClaims) { c.Audience += "c" }, denial.AudienceMismatch},
		"a second more":     {func(c *RequestClaims) { c.Lifetime++ }, denial.DelegationExceeded},
		"for ever":          {func(c *RequestClaims) { c.Lifetime = math.MaxUint64 }, denial.DelegationExceeded},
		"X21 a verb more":   {func(c *RequestClaims) { c.Scope[0].Terms.Operations |= Read }, denial.DelegationExceeded},
		"no scope":          {func(c *RequestClaims) { c.Scope = nil }, denial.DelegationExceeded},
		"a use more":        {func(c *RequestClaims) { c.Limits.Uses = 3 }, denial.DelegationExceeded},
		"a session":         {func(c *RequestClaims) { c.Limits.Session = 60 }, denial.DelegationExceeded},
		"deeper":            {func(c *RequestClaims) { c.Limits.Depth = 1 }, denial.DelegationExceeded},
	} {
		c := good()
		r.edit(c)
		if err := d.Allows(c, at); r.code == 0 && err != nil || r.code != 0 && !denial.Is(err, r.code) {
			t.Errorf("%s: got %v, want %s", name, err, r.code)
		}
	}
	for _, late := range []uint64{0, 1} {
		for _, lifetime := range []uint64{0, 1, math.MaxUint64 - 1} {
			c := good()
			c.Lifetime = lifetime
			if err := d.Allows(c, d.Expires+late); !denial.Is(err, denial.DelegationExceeded) {
				t.Errorf("%d s after it expired, for %d s: got %v", late, lifetime, err)
			}
		}
	}
}

func TestX21_SessionsAreWithin(t *testing.T) {
	for _, r := range []struct {
		child, parent *Limits
		want          bool
	}{
		{nil, nil, true}, {nil, &Limits{Uses: 2}, true}, {&Limits{Session: 9}, nil, false}, {nil, &Limits{Session: 9}, false},
		{&Limits{Session: 9}, &Limits{Session: 9}, true}, {&Limits{Session: 10}, &Limits{Session: 9}, false}, {&Limits{}, &Limits{Session: 9}, false},
		{&Limits{Session: 1}, &Limits{Session: 1}, true}, {nil, &Limits{Session: 1}, false},
	} {
		if got := r.child.sessionWithin(r.parent); got != r.want {
			t.Errorf("%+v within %+v: got %v", r.child, r.parent, got)
		}
	}
}

func TestSignDelegationRefusesWhatNobodyWouldAccept(t *testing.T) {
	k := newKit(t)
	parent := k.ancestor(nil)
	c := k.delegation(parent)
	c.Profile = "" // SignDelegation knows it
	raw, err := SignDelegation(t.Context(), k.holder, c)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := InspectDelegation(raw); err != nil || got.Initiator != agentURI {
		t.Errorf("got %+v, %v", got, err)
	}
	c.ID = nil
	_, err = SignDelegation(t.Context(), k.holder, c)
	refused(t, err, denial.PayloadForm)
	c = k.delegation(parent)
	c.Parent = fill(31, 1)
	_, err = SignDelegation(t.Context(), k.holder, c)
	refused(t, err, denial.LineageChainInvalid)
	c = k.delegation(parent)
	c.Scope = nil
	_, err = SignDelegation(t.Context(), k.holder, c)
	refused(t, err, denial.StructureLimit)
	whole := payload(t, &c)
	for name, r := range map[string]struct {
		raw  []byte
		code denial.Reason
	}{"a malformed payload": {k.sign(k.holder, statement.Delegation, hostURI, hostURI+"/b", whole[:len(whole)-1]), denial.StructureLimit}, "nothing": {nil, denial.WrongType}, "an artifact": {parent.Leaf(), denial.WrongType}, "a byte less": {raw[:len(raw)-1], denial.StructureLimit}} {
		if _, err := InspectDelegation(r.raw); !denial.Is(err, r.code) {
			t.Errorf("%s read as a delegation: got %v, want %s", name, err, r.code)
		}
	}
}

// TestVerifyAncestorRefuses: only what the issuer signed as an artifact can be delegated.
func TestVerifyAncestorRefuses(t *testing.T) {
	k := newKit(t)
	c := k.claims()
	var keys statement.Keys
	if err := keys.Add(k.artifact.Key(), statement.Artifact); err != nil {
		t.Fatal(err)
	}
	enc := mustEncode(t, c)
	for name, r := range map[string]struct {
		leaf []byte
		code denial.Reason
	}{
		"by another key":      {k.sign(k.person, statement.Artifact, issuerURI, hostURI, enc), denial.KeyUnknown},
		"another kind":        {k.sign(k.artifact, statement.Request, issuerURI, hostURI, enc), denial.WrongType},
		"another header":      {k.sign(k.artifact, statement.Artifact, issuerURI, hostURI+"b", enc), denial.IdentityConflict},
		"a malformed payload": {k.sign(k.artifact, statement.Artifact, issuerURI, hostURI, enc[:len(enc)-1]), denial.NotCanonical},
		"a claim more":        {k.sign(k.artifact, statement.Artifact, issuerURI, hostURI, patch(t, enc, 11, "00")), denial.UnsupportedVersion},
		"a signature changed": {flip(k.sign(k.artifact, statement.Artifact, issuerURI, hostURI, enc), 900), denial.SignatureInvalid},
		"nothing":             {nil, denial.WrongType},
	} {
		a, err := VerifyAncestor(r.leaf, keys)
		if !denial.Is(err, r.code) || a != nil {
			t.Errorf("%s: got %v, want %s", name, err, r.code)
		}
	}
}

func FuzzVerifyDelegation(f *testing.F) {
	k := newKit(f)
	parent := k.ancestor(nil)
	c := k.delegation(parent)
	raw, err := SignDelegation(f.Context(), k.holder, c)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add(payload(f, &c))
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := VerifyDelegation(data, parent, t0)
		if (d == nil) == (err == nil) {
			t.Fatalf("delegation %v with error %v", d, err)
		}
		if d != nil && !bytes.Equal(d.leaf, raw) {
			t.Fatalf("a forged delegation is accepted: %x", data)
		}
		if _, err := InspectDelegation(data); err != nil && d != nil {
			t.Fatalf("verified but not shown: %v", err)
		}
		var c DelegationClaims
		if decodeStrict(data, &c) == nil && !bytes.Equal(payload(t, &c), data) {
			t.Fatalf("decoded in a second encoding: %x", data)
		}
	})
}
