package decision_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/test/stock"
)

const (
	hostURI  = "spiffe://example/host/a"
	robotURI = "spiffe://example/initiator/robot"
	gateURI  = "https://gate.example/a"
	target   = "file:/usr/bin/reconcile"
)

var code = statement.DigestOf([]byte("the program"))

func must[T any](v T, err error) func(testing.TB) T { return stock.Must(v, err) }

func fill(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }

// scene is all that a decision is made of, and leads to a permit.
type scene struct {
	in      decision.Input // live
	ap, az  *firmwarepolicy.Document
	facts   *attest.Facts
	request *artifact.Request
}

func appraisal(tb testing.TB, more string) *firmwarepolicy.Document {
	tb.Helper()
	return must(firmwarepolicy.ParseTOML([]byte(`schema = 1
kind = "appraisal"
id = "https://issuer.example/policy/hosts"
version = 1
expires = 2030-01-01T00:00:00Z

[pcrs]
bank = "sha256"
quote = [0, 4, 7, 11]
bind = [4, 7, 11]

[limits]
evidence_age = "30s"

[[require]]
name = "secure-boot-on"
code = "SECURE_BOOT_OFF"
expr = "facts.secure_boot.enabled"

[[require]]
name = "boot-programs"
expr = "size(facts.boot_apps) > 0"
` + more)))(tb)
}

func authorization(tb testing.TB, delegators ...string) *firmwarepolicy.Document {
	tb.Helper()
	more := ""
	if len(delegators) > 0 {
		more = fmt.Sprintf("delegators = [%q]\n", strings.Join(delegators, `", "`))
	}
	return must(firmwarepolicy.ParseTOML([]byte(fmt.Sprintf(`schema = 1
kind = "authorization"
id = "https://issuer.example/policy/who"
version = 1
expires = 2030-01-01T00:00:00Z

[[rule]]
name = "reconcile"
initiators = [%q]
%saudiences = [%q]
lifetime = "600s"
uses = 2
when = "ask.initiator_kind == 'service'"

[rule.hosts]
env = "test"

[[rule.scope]]
target = %q
operations = ["execute"]
code = [%q]
`, robotURI, more, gateURI, target, code))))(tb)
}

func newScene(tb testing.TB) *scene {
	tb.Helper()
	s := &scene{ap: appraisal(tb, ""), az: authorization(tb)}
	tpm := softtpm.NewVendor(tb).New(tb, softtpm.Options{})
	tpm.CNF = must(ecdsa.GenerateKey(elliptic.P256(), crand.Reader))(tb)
	signer := stock.Signer(tb)
	now := uint64(softtpm.Now.Unix())
	thumb := must(statement.NewKey(tpm.CNF.Public()))(tb).Thumbprint()
	raw := must(artifact.SignRequest(tb.Context(), signer, artifact.RequestClaims{Initiator: robotURI, Host: hostURI, Audience: gateURI,
		Expires: now + 60, IssuedAt: now, ID: fill(16, 1), Confirmation: artifact.Thumbprint{Key: thumb[:]},
		Scope:     artifact.Scope{{Target: target, Terms: artifact.Terms{Operations: artifact.Execute, Code: []artifact.Digest{artifact.SHA256Digest(code)}}}},
		Execution: artifact.Execution{ID: fill(16, 2)}, Limits: &artifact.Limits{Uses: 2}, Lifetime: 300}))(tb)
	s.request = must(artifact.VerifyRequest(must(artifact.DecodeRequest(raw))(tb), signer.Key(), softtpm.Now))(tb)
	boot := bootlog.New(bootlog.Options{})
	ap := must(s.ap.Appraisal())(tb)
	want := attest.Want{AK: tpm.AK, Challenge: attest.NewNonce(), Request: s.request.Digest(), Exporter: [32]byte{7}, Selection: ap.Selection(), Bind: ap.Bind()}
	evidence := must(tpm.Evidence(tb, want, boot.PCRs("sha256"), boot.Log).Encode())(tb)
	s.facts = must(attest.Verify(must(attest.DecodeEvidence(evidence))(tb), want))(tb)
	key, ek, ak := signer.Key().Thumbprint(), tpm.EKDigest(), must(attest.AKThumbprint(tpm.AK))(tb)
	s.in = decision.Input{Issuer: "https://issuer.example", Time: now + 2, Exporter: want.Exporter[:], Challenge: want.Challenge[:], Challenged: now + 1,
		Host:      decision.Host{ID: hostURI, Labels: map[string]string{"env": "test"}, AK: ak[:], EK: ek[:], Enrolment: fill(32, 3)},
		Initiator: decision.Initiator{ID: robotURI, Kind: uint64(record.Service), Key: key[:], Enrolment: fill(32, 4)},
		Revoked:   []uint64{}, ID: fill(16, 5), StatusIndex: 3, StatusURI: "https://issuer.example/v1/status/0",
		HighWater: &attest.Clock{Resets: 1, Milliseconds: 900}}
	s.name()
	s.in.Attach(s.facts, s.request)
	return s
}

// name has the input name the policies.
func (s *scene) name() {
	ap, az := s.ap.Hash(), s.az.Hash()
	s.in.Appraisal = decision.Policy{ID: s.ap.ID(), Version: s.ap.Version(), Hash: ap[:]}
	s.in.Authorization = decision.Policy{ID: s.az.ID(), Version: s.az.Version(), Hash: az[:]}
}

func (s *scene) decide() decision.Decision { return decision.Decide(&s.in, s.ap, s.az) }

func TestPermitFollowsFromTheInput(t *testing.T) {
	s := newScene(t)
	d := s.decide()
	p := must(d.Permit())(t)
	c := p.Claims()
	encoded := must(s.in.Encode())(t)
	input := statement.DigestOf(encoded)
	if c.Subject != hostURI || c.Audience != gateURI || c.Expires != s.in.Time+300 || c.IssuedAt != s.in.Time || !bytes.Equal(c.ID, s.in.ID) ||
		!bytes.Equal(c.Policy.Input.Value, input[:]) || c.Status.List.Index != 3 || !bytes.Equal(c.Challenge, s.in.Challenge) ||
		!c.Confirmation.Key.Equal(s.in.CNF) || c.Limits.MaxUses() != 2 || c.Lineage.Depth != 0 || !bytes.Equal(c.Lineage.Root, c.ID) {
		t.Errorf("got claims %+v", c)
	}
	if got, want := c.Environment.PCRs[0].Select, []byte{0x91, 0x08, 0}; !bytes.Equal(got, want) {
		t.Errorf("got PCR selection %x, want %x", got, want)
	}
	if got := hex.EncodeToString(c.Environment.PCRs[0].Digest); got != s.in.Facts.PCRDigest || !c.Environment.SecureBoot.Enabled {
		t.Errorf("got environment %+v", c.Environment)
	}
	if must(c.Encode())(t); d.Denied() != nil {
		t.Error(d.Denied())
	}
}

func TestOnlyLiveInputsPermit(t *testing.T) {
	s := newScene(t)
	read := must(decision.DecodeInput(must(s.in.Encode())(t)))(t)
	d := decision.Decide(read, s.ap, s.az)
	if d.Denied() != nil || !reflect.DeepEqual(d.Claims(), s.decide().Claims()) {
		t.Errorf("decided again: %v, or other claims", d.Denied())
	}
	if p, err := d.Permit(); !denial.Is(err, denial.Internal) || len(p.Claims().ID) != 0 {
		t.Errorf("an input that was read back permits: %v", err)
	}
}

func TestZeroValuesRefuse(t *testing.T) {
	if d := (decision.Decision{}); !denial.Is(d.Denied(), denial.Internal) {
		t.Errorf("the zero decision: %v", d.Denied())
	}
	if _, err := (decision.Decision{}).Permit(); !denial.Is(err, denial.Internal) {
		t.Errorf("the zero decision permits: %v", err)
	}
	signer := stock.Signer(t)
	if leaf, err := artifact.Sign(t.Context(), signer, (decision.Permit{}).Claims()); err == nil || leaf != nil {
		t.Error("the zero permit can be signed")
	}
	s := newScene(t)
	for name, d := range map[string]decision.Decision{
		"no input":         decision.Decide(nil, s.ap, s.az),
		"no appraisal":     decision.Decide(&s.in, nil, s.az),
		"no authorization": decision.Decide(&s.in, s.ap, nil),
		"the zero input":   decision.Decide(&decision.Input{}, s.ap, s.az),
	} {
		if d.Denied() == nil {
			t.Errorf("%s is allowed", name)
		}
	}
}

// change leads to a denial.
type change struct {
	name   string
	spoil  func(*scene)
	reason denial.Reason
	stage  denial.Stage
}

func input(f func(*decision.Input)) func(*scene) { return func(s *scene) { f(&s.in) } }

var changes = []change{
	{"no policy", func(s *scene) { s.ap = nil }, denial.NoActivePolicy, denial.StageBinding},
	{"another version", input(func(in *decision.Input) { in.Version++ }), denial.UnsupportedVersion, denial.StageBinding},
	{"an id too short", input(func(in *decision.Input) { in.ID = in.ID[1:] }), denial.ClaimAbsent, denial.StageBinding},
	{"an EK too short", input(func(in *decision.Input) { in.Host.EK = in.Host.EK[1:] }), denial.ClaimAbsent, denial.StageBinding},
	{"no exporter", input(func(in *decision.Input) { in.Exporter = nil }), denial.ClaimAbsent, denial.StageBinding},
	{"another appraisal policy", input(func(in *decision.Input) { in.Appraisal.Hash = fill(32, 1) }), denial.PolicyHashMismatch, denial.StageBinding},
	{"another authorization policy", input(func(in *decision.Input) { in.Authorization.Hash = fill(32, 1) }), denial.PolicyHashMismatch, denial.StageBinding},
	{"policies swapped", func(s *scene) { s.ap, s.az = s.az, s.ap }, denial.PolicyHashMismatch, denial.StageBinding},
	{"policies swapped and named so", func(s *scene) { s.ap, s.az = s.az, s.ap; s.name() }, denial.PolicyError, denial.StageAppraisal},
	{"no cnf key", input(func(in *decision.Input) { in.CNF = statement.Key{} }), denial.KeyBinding, denial.StageBinding},
	{"F12 another cnf key", input(func(in *decision.Input) { in.Request.Confirmation.Key = fill(32, 1) }), denial.KeyBinding, denial.StageBinding},
	{"another host", input(func(in *decision.Input) { in.Host.ID += "b" }), denial.HostMismatch, denial.StageBinding},
	{"another initiator", input(func(in *decision.Input) { in.Initiator.ID += "b" }), denial.InitiatorDenied, denial.StageBinding},
	{"F14 resets", input(func(in *decision.Input) { in.HighWater.Resets = 2 }), denial.BootRollback, denial.StageFacts},
	{"F20 restarts", input(func(in *decision.Input) { in.HighWater.Restarts = 1 }), denial.BootRollback, denial.StageFacts},
	{"F15 clock", input(func(in *decision.Input) { in.HighWater.Milliseconds = 1001 + decision.ClockTolerance }), denial.BootRollback, denial.StageFacts},
	{"F15 clock at its end", input(func(in *decision.Input) { in.HighWater.Milliseconds = 1<<64 - 1 }), denial.BootRollback, denial.StageFacts},
	{"host revoked", input(func(in *decision.Input) { in.Revoked = []uint64{3} }), denial.HostRevoked, denial.StageRevocation},
	{"policy withdrawn", input(func(in *decision.Input) { in.Revoked = []uint64{4} }), denial.PolicyWithdrawn, denial.StageRevocation},
	{"initiator revoked", input(func(in *decision.Input) { in.Revoked = []uint64{5} }), denial.InitiatorRevoked, denial.StageRevocation},
	{"all revoked", input(func(in *decision.Input) { in.Revoked = []uint64{3, 4, 5} }), denial.HostRevoked, denial.StageRevocation},
	{"an unknown cause", input(func(in *decision.Input) { in.Revoked = []uint64{99} }), denial.RevocationUnknown, denial.StageRevocation},
	{"policies expired", input(func(in *decision.Input) { in.Time = 1893456000 }), denial.PolicyExpired, denial.StageAppraisal},
	{"F18 evidence too old", input(func(in *decision.Input) { in.Time = in.Challenged + 31 }), denial.EvidenceStale, denial.StageAppraisal},
	{"evidence of the future", input(func(in *decision.Input) { in.Challenged = in.Time + 1 }), denial.EvidenceStale, denial.StageAppraisal},
	{"requirement", input(func(in *decision.Input) { in.Facts.SecureBoot.Enabled = false }), denial.SecureBootOff, denial.StageAppraisal},
	{"another bank", input(func(in *decision.Input) { in.Facts.Bank = "sha384" }), denial.BankNotAllowed, denial.StageAppraisal},
	{"a PCR missing", input(func(in *decision.Input) { delete(in.Facts.PCR, 7) }), denial.RequiredPCRAbsent, denial.StageAppraisal},
	{"F23 a PCR more", input(func(in *decision.Input) { in.Facts.PCR[2] = in.Facts.PCR[0] }), denial.PCRSelectionMismatch, denial.StageAppraisal},
	{"F23 bound to fewer PCRs", input(func(in *decision.Input) { in.Facts.CNF.PCRs = in.Facts.CNF.PCRs[1:] }), denial.KeyBinding, denial.StageAppraisal},
	{"P08 requirement that cannot be evaluated", func(s *scene) {
		doc, err := firmwarepolicy.ParseTOML([]byte(appraisalError))
		if err != nil {
			panic(err)
		}
		s.ap = doc
		s.name()
	}, denial.PolicyError, denial.StageAppraisal},
	{"X20 parents", input(func(in *decision.Input) { in.Request.Parents = [][]byte{fill(32, 1)} }), denial.LineageChainInvalid, denial.StageAuthorization},
	{"no rule for the initiator", input(func(in *decision.Input) { in.Initiator.ID, in.Request.Initiator = "urn:x:eve", "urn:x:eve" }), denial.InitiatorDenied, denial.StageAuthorization},
	{"another kind of initiator", input(func(in *decision.Input) { in.Initiator.Kind = uint64(record.Agent) }), denial.ScopeDenied, denial.StageAuthorization},
	{"audience", input(func(in *decision.Input) { in.Request.Audience += "b" }), denial.AudienceMismatch, denial.StageAuthorization},
	{"labels", input(func(in *decision.Input) { in.Host.Labels = nil }), denial.HostMismatch, denial.StageAuthorization},
	{"target", input(func(in *decision.Input) { in.Request.Scope[0].Target += "b" }), denial.ScopeDenied, denial.StageAuthorization},
	{"no scope", input(func(in *decision.Input) { in.Request.Scope = nil }), denial.ScopeDenied, denial.StageAuthorization},
	{"operations", input(func(in *decision.Input) { in.Request.Scope[0].Terms.Operations |= artifact.Spawn }), denial.ScopeDenied, denial.StageAuthorization},
	{"code", input(func(in *decision.Input) {
		in.Request.Scope[0].Terms.Code[0] = artifact.SHA256Digest(statement.Digest{1})
	}), denial.ScopeDenied, denial.StageAuthorization},
	{"code not pinned", input(func(in *decision.Input) { in.Request.Scope[0].Terms.Code = nil }), denial.ScopeDenied, denial.StageAuthorization},
	{"code of another algorithm", input(func(in *decision.Input) {
		in.Request.Scope[0].Terms.Code[0] = artifact.Digest{Algorithm: artifact.SHA384, Value: append(code[:], fill(16, 0)...)}
	}), denial.ScopeDenied, denial.StageAuthorization},
	{"lifetime", input(func(in *decision.Input) { in.Request.Lifetime = 601 }), denial.LifetimeTooLong, denial.StageAuthorization},
	{"lifetime beyond all time", input(func(in *decision.Input) { in.Request.Lifetime = 1<<64 - 1 }), denial.LifetimeTooLong, denial.StageAuthorization},
	{"session", input(func(in *decision.Input) { in.Request.Limits.Session = 1 }), denial.LifetimeTooLong, denial.StageAuthorization},
	{"uses", input(func(in *decision.Input) { in.Request.Limits.Uses = 3 }), denial.ScopeDenied, denial.StageAuthorization},
	{"depth", input(func(in *decision.Input) { in.Request.Limits.Depth = 1 }), denial.DelegationExceeded, denial.StageAuthorization},
}

const appraisalError = `schema = 1
kind = "appraisal"
id = "https://issuer.example/policy/hosts"
version = 2
expires = 2030-01-01T00:00:00Z

[pcrs]
bank = "sha256"
quote = [0, 4, 7, 11]
bind = [4, 7, 11]

[limits]
evidence_age = "30s"

[[require]]
name = "fails"
expr = "facts.boot_apps[1000].digest == facts.pcr[4]"
`

func TestEveryRuleRefusesWithItsCode(t *testing.T) {
	for _, c := range changes {
		t.Run(c.name, func(t *testing.T) {
			s := newScene(t)
			if err := s.decide().Denied(); err != nil {
				t.Fatal(err)
			}
			s.in.Request.Scope = slices.Clone(s.in.Request.Scope)
			c.spoil(s)
			d := s.decide()
			got := d.Denied()
			if got == nil || got.Reason != c.reason || got.Stage != c.stage {
				t.Fatalf("got %v at %q, want %s at %q", got, denial.Of(got).Stage, c.reason, c.stage)
			}
			if p, err := d.Permit(); !denial.Is(err, c.reason) || len(p.Claims().ID) != 0 {
				t.Errorf("a denial permits: %v", err)
			}
			if c.name == "no policy" {
				return
			}
			raw, err := s.in.Encode()
			if err != nil {
				return // without a key there is nothing to write down
			}
			if read, err := decision.DecodeInput(raw); err == nil {
				if again := decision.Decide(read, s.ap, s.az).Denied(); !reflect.DeepEqual(again, got) {
					t.Errorf("decided again: %v, want %v", again, got)
				}
			}
		})
	}
}

func TestToleratedClocks(t *testing.T) {
	for name, seen := range map[string]*attest.Clock{
		"first":                       nil,
		"the same":                    {Resets: 1, Milliseconds: 1000},
		"behind within the tolerance": {Resets: 1, Milliseconds: 1000 + decision.ClockTolerance},
		"a later boot":                {Resets: 0, Restarts: 7, Milliseconds: 1 << 60},
	} {
		s := newScene(t)
		s.in.HighWater = seen
		if err := s.decide().Denied(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// P07: the same input and policies give the same decision, whatever happened before, and after a way through bytes.
func TestP07_DecisionsArePure(t *testing.T) {
	s := newScene(t)
	random := rand.New(rand.NewPCG(1, 2))
	base := must(s.in.Encode())(t)
	outcomes := map[string]int{}
	for range 10_000 {
		in := must(decision.DecodeInput(base))(t)
		for range random.IntN(3) {
			shake(random, in)
		}
		raw := must(in.Encode())(t)
		first := decision.Decide(in, s.ap, s.az)
		if after := must(in.Encode())(t); !bytes.Equal(raw, after) {
			t.Fatal("deciding changes the input")
		}
		again := decision.Decide(must(decision.DecodeInput(raw))(t), s.ap, s.az)
		if !reflect.DeepEqual(first, again) {
			t.Fatalf("decided twice: %v and %v", first.Denied(), again.Denied())
		}
		if d := first.Denied(); d != nil {
			outcomes[d.Reason.String()]++
			continue
		}
		outcomes["permit"]++
		if a, b := must(first.Claims().Encode())(t), must(again.Claims().Encode())(t); !bytes.Equal(a, b) {
			t.Fatal("two artifacts for one input")
		}
	}
	if len(outcomes) < 8 || outcomes["permit"] < 1000 {
		t.Errorf("the inputs are all alike: %v", outcomes)
	}
}

// shake changes something.
func shake(r *rand.Rand, in *decision.Input) {
	[]func(){
		func() { in.Time += uint64(r.IntN(60)) },
		func() { in.Revoked = []uint64{3 + uint64(r.IntN(3))} },
		func() { in.HighWater = &attest.Clock{Resets: uint64(r.IntN(3)), Milliseconds: r.Uint64N(100_000)} },
		func() { in.Facts.SecureBoot.Enabled = r.IntN(2) == 0 },
		func() { in.Facts.BootApps = nil },
		func() { in.Facts.PCR[int64(r.IntN(24))] = hex.EncodeToString(fill(32, byte(r.IntN(256)))) },
		func() {
			in.Host.Labels = map[string]string{"env": []string{"test", "office"}[r.IntN(2)], "n": fmt.Sprint(r.IntN(9))}
		},
		func() { in.Request.Lifetime = 1 + r.Uint64N(1000) },
		func() { in.Request.Limits = &artifact.Limits{Uses: r.Uint64N(4), Depth: r.Uint64N(2)} },
		func() { in.Request.Scope[0].Terms.Operations = artifact.Operations(1 + r.IntN(63)) },
		func() { in.Initiator.Kind = uint64(r.IntN(5)) },
		func() { in.ID = fill(16, byte(r.IntN(256))) },
		func() { in.StatusIndex = r.Uint64N(1 << 16) },
	}[r.IntN(13)]()
}

func TestDecodeInputIsStrict(t *testing.T) {
	s := newScene(t)
	raw := must(s.in.Encode())(t)
	var m map[uint64]any
	if err := statement.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	with := func(edit func(map[uint64]any)) []byte {
		clone := map[uint64]any{}
		for k, v := range m {
			clone[k] = v
		}
		edit(clone)
		return must(statement.Marshal(clone))(t)
	}
	for name, row := range map[string]struct {
		data []byte
		want denial.Reason
	}{
		"nothing":          {nil, denial.NotCanonical},
		"cut short":        {raw[:len(raw)-1], denial.NotCanonical},
		"a byte more":      {append(slices.Clone(raw), 0), denial.TrailingData},
		"an unknown field": {with(func(m map[uint64]any) { m[99] = 1 }), denial.UnsupportedVersion},
		"a field missing":  {with(func(m map[uint64]any) { delete(m, 3) }), denial.ClaimAbsent},
		"another type":     {with(func(m map[uint64]any) { m[3] = "now" }), denial.PayloadForm},
		"an optional null": {with(func(m map[uint64]any) { m[16] = nil }), denial.PayloadForm},
	} {
		if in, err := decision.DecodeInput(row.data); !denial.Is(err, row.want) || in != nil {
			t.Errorf("%s: got %v, want %s", name, err, row.want)
		}
	}
}

func FuzzDecodeInput(f *testing.F) {
	s := newScene(f)
	f.Add(must(s.in.Encode())(f))
	f.Add([]byte{0xa0})
	f.Fuzz(func(t *testing.T, data []byte) {
		in, err := decision.DecodeInput(data)
		if err != nil {
			return
		}
		if again := must(in.Encode())(t); !bytes.Equal(again, data) {
			t.Fatal("two encodings of one input")
		}
		d := decision.Decide(in, s.ap, s.az)
		if _, err := d.Permit(); err == nil {
			t.Fatal("an input that was read back permits")
		}
		if d.Denied() == nil {
			_, _ = d.Claims().Encode() // may be refused, must not stop
		}
	})
}
