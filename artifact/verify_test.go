package artifact

import (
	"bytes"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
)

func TestValidArtifactIsVerified(t *testing.T) {
	k := newKit(t)
	raw := k.mint(k.claims())
	want := k.want()
	want.Use = k.use()
	run := denial.GateOrder().Begin()
	a, err := Check(run, raw, want)
	if err != nil {
		t.Fatal(err)
	}
	leaf := a.leaf
	if got := statement.DigestOf(leaf); got != a.Digest() {
		t.Errorf("digest %s is not that of the leaf, %s", a.Digest(), got)
	}
	if p := a.Proof(); p.Index != 1 || p.Size != 2 || p.Time != issued+1 {
		t.Errorf("proof: got %+v, want entry 1 of 2 at %d", p, issued+1)
	}
	if !a.key.Equal(k.artifact.Key()) || a.Claims().Subject != hostURI {
		t.Error("key or claims are not those that were signed")
	}
	if run.Allowed() == nil {
		t.Error("a verified artifact alone is allowed")
	}
	if err := run.Check(func() error { return nil }, denial.StagePossession); err != nil {
		t.Errorf("the run cannot continue with possession: %v", err)
	}
}

func TestWithoutUseTheRunStopsBeforeScope(t *testing.T) {
	k := newKit(t)
	run := denial.GateOrder().Begin()
	if _, err := Check(run, k.mint(k.claims()), k.want()); err != nil {
		t.Fatal(err)
	}
	refused(t, run.Check(func() error { return nil }, denial.StagePossession), denial.Internal)
}

func TestUsedRunIsRefused(t *testing.T) {
	k := newKit(t)
	raw := k.mint(k.claims())
	run := denial.GateOrder().Begin()
	if _, err := Check(run, raw, k.want()); err != nil {
		t.Fatal(err)
	}
	_, err := Check(run, raw, k.want())
	refused(t, err, denial.Internal)
	_, err = Check(&denial.Run{}, raw, k.want())
	refused(t, err, denial.Internal)
}

// TestVerifyRefuses has one row for each check of Check: a valid artifact and a valid demand with one thing broken.
func TestVerifyRefuses(t *testing.T) {
	k := newKit(t)
	good := k.mint(k.claims())
	leaf := k.sign(k.artifact, statement.Artifact, issuerURI, hostURI, mustEncode(t, k.claims()))
	rec := k.receiptFor(leaf, k.log, issuerURI, logURI, issued+1)
	stranger := stock.Signer(t)
	other := k.claims()
	other.ID, other.Lineage.Root = fill(16, 9), fill(16, 9)
	otherLeaf := k.sign(k.artifact, statement.Artifact, issuerURI, hostURI, mustEncode(t, other))

	rows := []struct {
		name  string
		raw   []byte
		want  func(*Want)
		code  denial.Reason
		stage denial.Stage
	}{
		{"no artifact", nil, nil, denial.NoArtifact, denial.StagePresent},
		{"not CBOR", []byte("not CBOR at all"), nil, denial.WrongType, denial.StageArtifactDecode},
		{"too long", append(bytes.Clone(good), make([]byte, maxArtifact)...), nil, denial.StructureLimit, denial.StageArtifactDecode},
		{"trailing byte", append(bytes.Clone(good), 0), nil, denial.TrailingData, denial.StageArtifactDecode},
		{"unknown key", k.attach(k.sign(stranger, statement.Artifact, issuerURI, hostURI, mustEncode(t, k.claims())), rec), nil, denial.KeyUnknown, denial.StageSignature},
		{"no trust", good, func(w *Want) { w.Trust = nil }, denial.KeyUnknown, denial.StageSignature},
		{"zero trust", good, func(w *Want) { w.Trust = &Trust{} }, denial.KeyUnknown, denial.StageSignature},
		{"C22 two keys with one thumbprint", good, func(w *Want) { w.Trust.Keys = append(w.Trust.Keys, w.Trust.Keys[0]) }, denial.KeyAmbiguous, denial.StageSignature},
		{"one byte of the payload changed", flip(good, len(good)/3), nil, denial.SignatureInvalid, denial.StageSignature},
		{"one byte of the signature changed", flip(good, len(good)-1), nil, denial.SignatureInvalid, denial.StageSignature},
		{"another kind", k.attach(k.sign(k.artifact, statement.Request, issuerURI, hostURI, mustEncode(t, k.claims())), rec), nil, denial.WrongType, denial.StageType},
		{"key of another purpose", k.attach(k.sign(k.log, statement.Artifact, issuerURI, hostURI, mustEncode(t, k.claims())), rec), nil, denial.WrongType, denial.StageType},
		{"header of another host", k.attach(k.sign(k.artifact, statement.Artifact, issuerURI, "spiffe://example/host/b", mustEncode(t, k.claims())), rec), nil, denial.IdentityConflict, denial.StageType},
		{"C35 malformed payload under a valid signature", k.transparent([]byte{0xa1, 0x01}), nil, denial.NotCanonical, denial.StageType},
		{"no receipt", leaf, nil, denial.NoReceipt, denial.StageReceipt},
		{"empty receipts", k.attach(leaf, [][]byte{}...), nil, denial.ReceiptInvalid, denial.StageReceipt},
		{"receipts that are null", k.attach(leaf), nil, denial.ReceiptInvalid, denial.StageReceipt},
		{"C36 receipt of another artifact", k.attach(otherLeaf, rec), nil, denial.ReceiptInvalid, denial.StageReceipt},
		{"receipt by another log key", k.attach(leaf, k.receiptFor(leaf, stranger, issuerURI, logURI, issued)), nil, denial.ReceiptInvalid, denial.StageReceipt},
		{"receipt by the artifact key", k.attach(leaf, k.receiptFor(leaf, k.artifact, issuerURI, logURI, issued)), nil, denial.ReceiptInvalid, denial.StageReceipt},
		{"receipt of another log", k.attach(leaf, k.receiptFor(leaf, k.log, issuerURI, logURI+"2", issued)), nil, denial.ReceiptInvalid, denial.StageReceipt},
		{"receipt of another issuer", k.attach(leaf, k.receiptFor(leaf, k.log, issuerURI+"/2", logURI, issued)), nil, denial.ReceiptInvalid, denial.StageReceipt},
		{"too many receipts", k.attach(leaf, rec, rec, rec, rec, rec), nil, denial.ReceiptInvalid, denial.StageReceipt},
		{"no present time", good, func(w *Want) { w.Now = time.Time{} }, denial.ClockUntrusted, denial.StageTime},
		{"expired", good, func(w *Want) { w.Now = t0.Add(time.Hour) }, denial.Expired, denial.StageTime},
		{"logged in the future", k.attach(leaf, k.receiptFor(leaf, k.log, issuerURI, logURI, uint64(t0.Unix())+61)), nil, denial.NotYetValid, denial.StageTime},
		{"another gate", good, func(w *Want) { w.Audience = gateURI + "x" }, denial.AudienceMismatch, denial.StageAudience},
		{"no gate", good, func(w *Want) { w.Audience = "" }, denial.AudienceMismatch, denial.StageAudience},
		{"another gate in the trust file", good, func(w *Want) { w.Trust.Audience = gateURI + "x" }, denial.AudienceMismatch, denial.StageAudience},
		{"expired trust file", good, func(w *Want) { w.Trust.Expires = t0 }, denial.PolicyExpired, denial.StagePins},
		{"no policy pinned", good, func(w *Want) { w.Trust.Policies = nil }, denial.PolicyHashMismatch, denial.StagePins},
		{"older policy", good, func(w *Want) { w.Trust.Policies[0].MinVersion = 4 }, denial.PolicyRollback, denial.StagePins},
		{"policy of another hash", good, func(w *Want) { w.Trust.Policies[0].Hash = fill(32, 1) }, denial.PolicyHashMismatch, denial.StagePins},
		{"appraisal policy not pinned", good, func(w *Want) { w.Trust.Policies = w.Trust.Policies[:1] }, denial.PolicyHashMismatch, denial.StagePins},
		{"appraisal policy of another hash", good, func(w *Want) { w.Trust.Policies[1].Hash = fill(32, 1) }, denial.PolicyHashMismatch, denial.StagePins},
		{"no status list", good, func(w *Want) { w.Status = nil }, denial.RevocationUnknown, denial.StageGateRevocation},
		{"zero status list", good, func(w *Want) { w.Status = &Status{} }, denial.RevocationUnknown, denial.StageGateRevocation},
		{"stale status list", good, func(w *Want) { w.Now = t0.Add(51 * time.Second) }, denial.RevocationUnknown, denial.StageGateRevocation},
		{"scope of another program", good, func(w *Want) { w.Use = &Use{Target: "file:///usr/bin/other", Operation: Execute} }, denial.ScopeDenied, denial.StageScope},
		{"code of another program", good, func(w *Want) { w.Use = k.use(); w.Use.Code = digestOf(1) }, denial.CodeDigestMismatch, denial.StageScope},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			want := k.want()
			trust := *k.trust
			trust.Policies = append([]Pin(nil), trust.Policies...)
			want.Trust = &trust
			if r.want != nil {
				r.want(&want)
			}
			a, err := Verify(r.raw, want)
			refused(t, err, r.code)
			if a != nil {
				t.Error("a refused artifact was returned")
			}
			if got := denial.Of(err).Stage; got != r.stage {
				t.Errorf("refused at stage %q, want %q", got, r.stage)
			}
		})
	}
}

func mustEncode(t testing.TB, c Claims) []byte {
	t.Helper()
	enc, err := c.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return enc
}

func flip(raw []byte, i int) []byte {
	c := bytes.Clone(raw)
	c[i] ^= 1
	return c
}

func TestArtifactOfAnotherIssuerIsRefused(t *testing.T) {
	k := newKit(t)
	c := k.claims()
	c.Issuer = "https://other.example"
	leaf := k.sign(k.artifact, statement.Artifact, c.Issuer, hostURI, mustEncode(t, c))
	_, err := Verify(k.attach(leaf, k.receiptFor(leaf, k.log, issuerURI, logURI, issued)), k.want())
	refused(t, err, denial.IdentityConflict)
}

func TestOneValidReceiptAmongOthersSuffices(t *testing.T) {
	k := newKit(t)
	leaf := k.sign(k.artifact, statement.Artifact, issuerURI, hostURI, mustEncode(t, k.claims()))
	foreign := k.receiptFor(leaf, stock.Signer(t), "https://witness.example", "https://witness.example/log", issued)
	own := k.receiptFor(leaf, k.log, issuerURI, logURI, issued+1)
	if _, err := Verify(k.attach(leaf, foreign, []byte{0xf6}, own), k.want()); err != nil {
		t.Fatal(err)
	}
}

func TestAudienceMayComeFromTheTrustFile(t *testing.T) {
	k := newKit(t)
	want := k.want()
	want.Audience, want.Trust.Audience = "", gateURI
	if _, err := Verify(k.mint(k.claims()), want); err != nil {
		t.Fatal(err)
	}
}

// TestC34_KeyOutsideValidity: the artifact key must be valid at iat and at logged time, the log key at logged time. So a
// stolen key cannot date an artifact back (P19).
func TestC34_KeyOutsideValidity(t *testing.T) {
	at := func(s uint64) time.Time { return time.Unix(int64(s), 0) }
	rows := []struct {
		name   string
		key    int // index in Trust.Keys
		from   uint64
		until  uint64
		logged uint64
		code   denial.Reason // zero: accepted
	}{
		{"within", 0, issued, issued + 6, issued + 5, 0},
		{"retired since it was logged", 0, 0, issued + 6, issued + 5, 0},
		{"born after iat", 0, issued + 1, 0, issued + 5, denial.KeyOutsideValidity},
		{"retired before iat", 0, 0, issued, issued + 5, denial.KeyOutsideValidity},
		{"P19 dated back: retired before it was logged", 0, 0, issued + 5, issued + 5, denial.KeyOutsideValidity},
		{"log key retired before it was logged", 1, 0, issued + 5, issued + 5, denial.KeyOutsideValidity},
		{"log key born after it was logged", 1, issued + 6, 0, issued + 5, denial.KeyOutsideValidity},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			k := newKit(t)
			leaf := k.sign(k.artifact, statement.Artifact, issuerURI, hostURI, mustEncode(t, k.claims()))
			raw := k.attach(leaf, k.receiptFor(leaf, k.log, issuerURI, logURI, r.logged))
			if r.from != 0 {
				k.trust.Keys[r.key].NotBefore = at(r.from)
			}
			if r.until != 0 {
				k.trust.Keys[r.key].NotAfter = at(r.until)
			}
			_, err := Verify(raw, k.want())
			if r.code == 0 {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			refused(t, err, r.code)
		})
	}
}

// TestP12_RevokedIsRefusedWithItsCause covers every value that an entry can have.
func TestP12_RevokedIsRefusedWithItsCause(t *testing.T) {
	k := newKit(t)
	raw := k.mint(k.claims())
	codes := []denial.Reason{1: denial.ArtifactRevoked, 2: denial.KeyRevoked, 3: denial.HostRevoked, 4: denial.PolicyWithdrawn,
		5: denial.InitiatorRevoked, 6: denial.AncestorRevoked}
	for v := StatusValue(1); v < 16; v++ {
		code := denial.RevocationUnknown
		if int(v) < len(codes) {
			code = codes[v]
		}
		want := k.want()
		want.Status = k.view(v)
		_, err := Verify(raw, want)
		refused(t, err, code)
		if got := denial.Of(err).Stage; got != denial.StageGateRevocation {
			t.Errorf("value %d: refused at stage %q", v, got)
		}
	}
}

// TestX16_RevokedWhileItRuns asks again of an artifact that was verified: its key and its list say it, and its lifetime no longer matters.
func TestX16_RevokedWhileItRuns(t *testing.T) {
	k := newKit(t)
	a := k.artifactOf()
	if err := a.CheckRevoked(k.want()); err != nil {
		t.Error(err)
	}
	for v, code := range map[StatusValue]denial.Reason{1: denial.ArtifactRevoked, 2: denial.KeyRevoked, 3: denial.HostRevoked, 6: denial.AncestorRevoked, 7: denial.RevocationUnknown} {
		want := k.want()
		want.Status = k.view(v)
		refused(t, a.CheckRevoked(want), code)
	}
	want := k.want()
	want.Status = nil
	refused(t, a.CheckRevoked(want), denial.RevocationUnknown)
	want = k.want()
	want.Now = t0.Add(MaxRevocationAge + time.Second)
	refused(t, a.CheckRevoked(want), denial.RevocationUnknown)
	want = k.want()
	k.trust.Keys[0].NotAfter = time.Unix(int64(issued), 0) // before it was signed, as is found out later
	refused(t, a.CheckRevoked(want), denial.KeyOutsideValidity)
}

func TestX16_LeaseEnds(t *testing.T) {
	for _, r := range []struct {
		limits *Limits
		want   uint64
	}{{nil, 500}, {&Limits{Uses: 2}, 500}, {&Limits{Session: 1}, 101}, {&Limits{Session: 900}, 1000}, {&Limits{Session: MaxSession + 1}, 100 + MaxSession}} {
		c := Claims{Expires: 500, Limits: r.limits}
		if got := c.LeaseEnd(100); got != r.want {
			t.Errorf("%+v: started at 100, ends at %d, want %d", r.limits, got, r.want)
		}
	}
}

func TestInspectShowsButDoesNotVerify(t *testing.T) {
	k := newKit(t)
	enc := mustEncode(t, k.claims())
	leaf := k.sign(stock.Signer(t), statement.Artifact, issuerURI, hostURI, enc)
	c, digest, err := Inspect(leaf)
	if err != nil || c.Audience != gateURI || digest != statement.DigestOf(leaf) {
		t.Fatalf("got %v, digest %s, want the claims", err, digest)
	}
	_, _, err = Inspect(k.sign(k.person, statement.Request, personURI, hostURI, enc))
	refused(t, err, denial.WrongType)
	_, _, err = Inspect(leaf[:len(leaf)-1])
	refused(t, err, denial.StructureLimit)
	_, _, err = Inspect(k.sign(k.artifact, statement.Artifact, issuerURI, hostURI, patch(t, enc, 11, "00")))
	refused(t, err, denial.UnsupportedVersion)
}
