package artifact

import (
	"crypto/sha256"
	"encoding/hex"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
)

const (
	issuerURI = "https://issuer.example"
	logURI    = "https://issuer.example/log"
	gateURI   = "https://gate.example/one"
	hostURI   = "spiffe://example/host/a"
	listURI   = "https://issuer.example/status/0"
	personURI = "https://people.example/ada"
	programA  = "file:///usr/bin/report"
)

// t0 is the present time of every test; artifacts are issued 10 s before.
var t0 = time.Unix(1_800_000_000, 0)

const issued = uint64(1_800_000_000 - 10)

// kit is an issuer with a log of two leaves, a host and a relying party.
type kit struct {
	t                     testing.TB
	artifact, log, status statement.Signer
	holder, person        statement.Signer
	trust                 *Trust
	code                  Digest
	argv                  []string
}

func newKit(t testing.TB) *kit {
	k := &kit{t: t, artifact: stock.Signer(t), log: stock.Signer(t), status: stock.Signer(t), holder: stock.Signer(t), person: stock.Signer(t)}
	k.code = SHA256Digest(sha256.Sum256([]byte("the program")))
	k.argv = []string{"/usr/bin/report", "--month", "2027-01"}
	k.trust = &Trust{
		Version: 1, Expires: t0.Add(24 * time.Hour), Genesis: sha256.Sum256([]byte("genesis")), Issuer: issuerURI, Log: logURI,
		RevocationAge: time.Minute, Lifetime: time.Hour,
		Keys: []TrustKey{
			{Purpose: PurposeArtifact, Key: k.artifact.Key()},
			{Purpose: PurposeLog, Key: k.log.Key()},
			{Purpose: PurposeStatus, Key: k.status.Key()},
		},
		Policies: []Pin{{ID: "https://issuer.example/policy/authz", MinVersion: 3},
			{ID: "https://issuer.example/policy/boot", MinVersion: 1, Hash: fill(32, 0xb0)}},
	}
	return k
}

func fill(n int, b byte) []byte {
	s := make([]byte, n)
	for i := range s {
		s[i] = b
	}
	return s
}

func digestOf(b byte) Digest { return Digest{Algorithm: SHA256, Value: fill(32, b)} }

// claims returns valid claims.
func (k *kit) claims() Claims {
	name := append([]byte{0, 0x0b}, fill(32, 7)...)
	params := ParametersDigest(k.argv)
	ek := statement.DigestOf([]byte("ek"))
	return Claims{
		Issuer: issuerURI, Subject: hostURI, Audience: gateURI,
		Expires: issued + 300, NotBefore: issued, IssuedAt: issued,
		ID: fill(16, 1), Confirmation: Confirmation{k.holder.Key()},
		Scope: Scope{{Target: programA, Terms: Terms{Operations: Execute | Read, Code: []Digest{k.code}, Parameters: &params,
			Constraints: &Constraints{Env: []string{"LANG", "TERM"}, Directory: "/srv"}}}},
		Challenge: fill(32, 2), UEID: UEID(ek), Profile: Profile, BootSeed: BootSeed(name, 4, 0),
		Status: StatusClaim{StatusRef{Index: 3, URI: listURI}},
		Environment: Environment{
			PCRs: []PCRBinding{{Bank: SHA256, Select: []byte{0xff, 0, 0}, Digest: fill(32, 3)}},
			AK:   AK{Thumbprint: fill(32, 4), Name: name}, EK: &EK{Certificate: digestOf(5)},
			SecureBoot: SecureBoot{Enabled: true}, Clock: Clock{Milliseconds: 9, Resets: 4, Safe: true}, Firmware: 7,
			Evidence: digestOf(6), CNFName: name, CNFPolicy: fill(32, 8),
		},
		Initiator: Initiator{Principal: personURI, Authority: issuerURI, Kind: 0},
		Policy: PolicyRef{ID: "https://issuer.example/policy/authz", Hash: digestOf(9), Version: 3, Input: digestOf(10),
			Appraisal: PolicyName{ID: "https://issuer.example/policy/boot", Hash: digestOf(0xb0), Version: 2}, Request: digestOf(11)},
		Lineage:   Lineage{Root: fill(16, 1), Parents: []Parent{}, Origin: personURI},
		Execution: Execution{ID: fill(16, 12)},
		Limits:    &Limits{Uses: 2},
	}
}

// payload encodes any claims, without the checks of Encode.
func payload(t testing.TB, c any) []byte {
	t.Helper()
	b, err := statement.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// sign makes a statement of any payload.
func (k *kit) sign(s statement.Signer, kind statement.Kind, iss, sub string, payload []byte) []byte {
	k.t.Helper()
	leaf, err := statement.Sign(k.t.Context(), s, kind, statement.Claims{Issuer: iss, Subject: sub}, payload)
	if err != nil {
		k.t.Fatal(err)
	}
	return leaf
}

// receiptFor logs the leaf as entry 1 behind a genesis leaf, at the given time.
func (k *kit) receiptFor(leaf []byte, s statement.Signer, iss, log string, at uint64) []byte {
	k.t.Helper()
	first := receipt.LeafHash([]byte("genesis"))
	second := receipt.LeafHash(leaf)
	node := append([]byte{1}, append(first[:], second[:]...)...)
	head, err := receipt.SignHead(k.t.Context(), s, iss, log, receipt.Head{Size: 2, Root: sha256.Sum256(node), Time: at})
	if err != nil {
		k.t.Fatal(err)
	}
	r, err := receipt.Make(head, 2, 1, []receipt.Hash{first})
	if err != nil {
		k.t.Fatal(err)
	}
	return r
}

func (k *kit) attach(leaf []byte, receipts ...[]byte) []byte {
	k.t.Helper()
	raw, err := statement.Attach(leaf, receipts...)
	if err != nil {
		k.t.Fatal(err)
	}
	return raw
}

// transparent signs a payload as an artifact, logs it and attaches its receipt.
func (k *kit) transparent(payload []byte) []byte {
	k.t.Helper()
	leaf := k.sign(k.artifact, statement.Artifact, issuerURI, hostURI, payload)
	return k.attach(leaf, k.receiptFor(leaf, k.log, issuerURI, logURI, issued+1))
}

// mint makes the artifact of the claims.
func (k *kit) mint(c Claims) []byte {
	k.t.Helper()
	enc, err := c.Encode()
	if err != nil {
		k.t.Fatal(err)
	}
	return k.transparent(enc)
}

func (k *kit) statusList() StatusList {
	return StatusList{Issuer: issuerURI, URI: listURI, IssuedAt: issued, Expires: issued + 120, TTL: 60, Values: make([]StatusValue, 8)}
}

func (k *kit) statusToken(l StatusList) []byte {
	k.t.Helper()
	raw, err := SignStatus(k.t.Context(), k.status, l)
	if err != nil {
		k.t.Fatal(err)
	}
	return raw
}

// view returns the verified status list in which the artifact of the kit has the value.
func (k *kit) view(v StatusValue) *Status {
	k.t.Helper()
	l := k.statusList()
	l.Values[3] = v
	s, err := VerifyStatus(k.statusToken(l), k.trust, t0, 0)
	if err != nil {
		k.t.Fatal(err)
	}
	return s
}

func (k *kit) want() Want {
	return Want{Trust: k.trust, Now: t0, Audience: gateURI, Status: k.view(StatusValid)}
}

func (k *kit) use() *Use {
	return &Use{Target: programA, Operation: Execute, Code: k.code, Argv: k.argv}
}

// artifactOf returns the verified artifact of the kit.
func (k *kit) artifactOf() *Artifact {
	k.t.Helper()
	a, err := Verify(k.mint(k.claims()), k.want())
	if err != nil {
		k.t.Fatal(err)
	}
	return a
}

// refused checks that err is a refusal with the reason.
func refused(t testing.TB, err error, want denial.Reason) {
	t.Helper()
	if err == nil {
		t.Fatalf("got no refusal, want %d %s", want.Code(), want)
	}
	if !denial.Is(err, want) {
		t.Fatalf("got %v, want %d %s", err, want.Code(), want)
	}
}

// patch returns the encoded map with the value of one integer key replaced by raw CBOR, or removed if raw is empty,
// and with nothing else changed. The key must be there unless add is set; then it goes where its order demands.
func patch(t testing.TB, enc []byte, key int64, raw string) []byte {
	t.Helper()
	value, err := hex.DecodeString(raw)
	if err != nil {
		t.Fatal(err)
	}
	var m rawMap
	m.parse(t, enc)
	label, err := statement.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	m.set(string(label), value)
	return m.encode()
}
