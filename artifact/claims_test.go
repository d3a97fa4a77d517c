package artifact

import (
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// fullClaims returns valid claims with every optional member.
func fullClaims(k *kit) Claims {
	full := k.claims()
	yes, debug, mode := true, uint64(0), uint64(3)
	d := digestOf(20)
	full.OEMBoot, full.Debug = &yes, &debug
	full.Environment.IMABoot, full.Environment.BootSigner = &d, &d
	full.Environment.IMALog = &IMALog{Entries: 3, PCR10: d}
	full.Environment.References = []Reference{{ID: "corim-1", Digest: d}}
	full.Environment.SecureBoot = SecureBoot{Enabled: true, DBX: &d, SBATLevel: "sbat,1,2024010900", Mode: &mode, MOKOff: &yes}
	full.Environment.EK.Name = full.Environment.AK.Name
	full.Initiator.Credential, full.Initiator.Actor = &d, &Initiator{Principal: hostURI, Authority: issuerURI, Kind: 2}
	full.Lineage = Lineage{Root: fill(16, 5), Depth: 1, Origin: personURI, Dependencies: []Digest{d},
		Parents: []Parent{{ID: fill(16, 5), Statement: fill(32, 1), Delegation: fill(32, 2)}}}
	full.Execution.Kind, full.Execution.Inputs = "urn:example:report", []Digest{d}
	return full
}

func TestClaimsRoundTrip(t *testing.T) {
	k := newKit(t)
	for name, c := range map[string]Claims{"least": k.claims(), "full": fullClaims(k)} {
		enc := mustEncode(t, c)
		got, err := DecodeClaims(enc)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !reflect.DeepEqual(got, c) {
			t.Errorf("%s: got %+v, want %+v", name, got, c)
		}
	}
}

// verifyPayload verifies an artifact with any payload at t0.
func (k *kit) verifyPayload(payload []byte) error {
	_, err := Verify(k.transparent(payload), k.want())
	return err
}

func TestC25_TimesAbsentOrNull(t *testing.T) {
	k := newKit(t)
	enc := mustEncode(t, k.claims())
	for _, label := range []int64{claimExp, claimNbf, claimIat} {
		refused(t, k.verifyPayload(patch(t, enc, label, "")), denial.ClaimAbsent)
		refused(t, k.verifyPayload(patch(t, enc, label, "f6")), denial.ClaimAbsent)
		refused(t, k.verifyPayload(patch(t, enc, label, "00")), denial.ClaimAbsent)
	}
}

func TestC26_TimesOfAnotherType(t *testing.T) {
	k := newKit(t)
	enc := mustEncode(t, k.claims())
	values := map[string]string{
		"float":         "fb41dad274d6400000",
		"NaN":           "f97e00",
		"Inf":           "f97c00",
		"bignum":        "c2446b49d200",
		"tag 1":         "c11a6b49d200",
		"negative":      "3a6b49d200",
		"text":          "6a31383030303030303030",
		"bytes":         "446b49d200",
		"array":         "811a6b49d200",
		"boolean":       "f5",
		"undefined map": "a0",
	}
	for name, raw := range values {
		for _, label := range []int64{claimExp, claimNbf, claimIat} {
			t.Run(fmt.Sprintf("%s in claim %d", name, label), func(t *testing.T) {
				refused(t, k.verifyPayload(patch(t, enc, label, raw)), denial.TimeMalformed)
			})
		}
	}
}

func TestC27_TimesOutOfRange(t *testing.T) {
	k := newKit(t)
	c := k.claims()
	for exp, code := range map[uint64]denial.Reason{
		math.MaxUint64: denial.TimeMalformed,
		1 << 63:        denial.TimeMalformed,
		maxTime + 1:    denial.TimeMalformed,
		maxTime:        denial.LifetimeTooLong,
	} {
		c.Expires = exp
		refused(t, k.verifyPayload(payload(t, &c)), code)
	}
	c = k.claims()
	c.IssuedAt = math.MaxUint64
	refused(t, k.verifyPayload(payload(t, &c)), denial.TimeMalformed)
}

// TestTimeRules covers C28, C29 and C30 at their edges. Times are seconds relative to t0.
func TestTimeRules(t *testing.T) {
	k := newKit(t)
	rows := []struct {
		name          string
		iat, nbf, exp int64
		code          denial.Reason // zero: accepted
	}{
		{"C28 one second before exp", -10, -10, 1, 0},
		{"C28 at exp", -10, -10, 0, denial.Expired},
		{"C28 after exp", -10, -10, -1, denial.Expired},
		{"C28 at nbf", -10, 0, 10, 0},
		{"C28 within the skew before nbf", -10, 60, 100, 0},
		{"C28 beyond the skew before nbf", -10, 61, 100, denial.NotYetValid},
		{"C28 no skew for exp", -70, -70, -1, denial.Expired},
		{"C29 as long as the trust file accepts", -10, -10, 3590, 0},
		{"C29 one second longer", -10, -10, 3591, denial.LifetimeTooLong},
		{"C29 counts from iat, not nbf", -10, 100, 3591, denial.LifetimeTooLong},
		{"C30 iat within the skew", 60, 60, 100, 0},
		{"C30 iat in the future", 61, 0, 100, denial.NotYetValid},
		{"C30 nbf after exp", -10, 20, 10, denial.TimeMalformed},
		{"C30 iat after exp", 20, -10, 10, denial.TimeMalformed},
		{"nbf at exp is never valid", -10, 10, 10, 0},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			at := func(d int64) uint64 { return uint64(t0.Unix() + d) }
			c := k.claims()
			c.IssuedAt, c.NotBefore, c.Expires = at(r.iat), at(r.nbf), at(r.exp)
			err := k.verifyPayload(mustEncode(t, c))
			if r.code != 0 {
				refused(t, err, r.code)
				if r.code != denial.TimeMalformed && denial.Of(err).Stage != denial.StageTime {
					t.Errorf("refused at stage %q", denial.Of(err).Stage)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestP17_FarInstants: seconds since 1970 UTC are 64-bit, whatever the year.
func TestP17_FarInstants(t *testing.T) {
	for _, year := range []int{2027, 2038, 2039, 2106, 2107, 2400} {
		now := time.Date(year, 2, 7, 6, 28, 15, 0, time.UTC)
		s := uint64(now.Unix())
		if err := checkSpan(span{s, s, s + 1}, time.Hour, now); err != nil {
			t.Errorf("%d: %v", year, err)
		}
		refused(t, checkSpan(span{s - 10, s - 10, s}, time.Hour, now), denial.Expired)
	}
	refused(t, checkSpan(span{1, 1, 2}, time.Hour, time.Unix(-1, 0)), denial.ClockUntrusted)
}

func TestC31_Audience(t *testing.T) {
	k := newKit(t)
	enc := mustEncode(t, k.claims())
	rows := map[string]string{
		"absent":           "",
		"null":             "f6",
		"array of the one": "81" + text(gateURI),
		"empty":            "60",
		"prefix":           text(gateURI[:len(gateURI)-1]),
		"longer":           text(gateURI + "/"),
		"case":             text("https://Gate.example/one"),
		"wildcard":         text("https://gate.example/*"),
		"star":             text("*"),
		"bytes":            "43" + "616263",
		"with a space":     text(gateURI + " "),
	}
	for name, raw := range rows {
		t.Run("C31 "+name, func(t *testing.T) {
			refused(t, k.verifyPayload(patch(t, enc, claimAud, raw)), denial.AudienceMismatch)
		})
	}
}

func text(s string) string {
	enc, err := statement.Marshal(s)
	if err != nil {
		panic(err)
	}
	return fmt.Sprintf("%x", enc)
}

func TestC32_UnknownClaimOrVersion(t *testing.T) {
	k := newKit(t)
	enc := mustEncode(t, k.claims())
	for name, broken := range map[string][]byte{
		"unknown registered claim": patch(t, enc, 11, "00"),
		"unknown private claim":    patch(t, enc, -90011, "00"),
		"another profile":          patch(t, enc, 265, text("https://github.com/governed-execution/writ/profile/authz/2")),
		"unknown limit":            patch(t, enc, -90006, "a20001183200"),
	} {
		t.Run("C32 "+name, func(t *testing.T) {
			refused(t, k.verifyPayload(broken), denial.UnsupportedVersion)
		})
	}
	refused(t, k.verifyPayload(patch(t, enc, 265, "")), denial.ClaimAbsent)
}

// TestC33_ConfirmationKeyAbsent is the half of C33 that claims show; possession is the other.
func TestC33_ConfirmationKeyAbsent(t *testing.T) {
	k := newKit(t)
	enc := mustEncode(t, k.claims())
	refused(t, k.verifyPayload(patch(t, enc, claimCnf, "")), denial.KeyBinding)
	c := k.claims()
	c.Confirmation = Confirmation{}
	_, err := c.Encode()
	refused(t, err, denial.KeyBinding)
}

// TestClaimsRefuse breaks one claim at a time, each in a way that Encode refuses too.
func TestClaimsRefuse(t *testing.T) {
	k := newKit(t)
	mode := uint64(4)
	bad := Digest{Algorithm: SHA256, Value: fill(31, 0)}
	rows := []struct {
		name string
		edit func(*Claims)
		code denial.Reason
	}{
		{"issuer no URI", func(c *Claims) { c.Issuer = "issuer" }, denial.ClaimAbsent},
		{"subject with a line feed", func(c *Claims) { c.Subject += "\n" }, denial.ClaimAbsent},
		{"cti too short", func(c *Claims) { c.ID = fill(15, 1) }, denial.ClaimAbsent},
		{"challenge too short", func(c *Claims) { c.Challenge = fill(7, 1) }, denial.ClaimAbsent},
		{"ueid of another type", func(c *Claims) { c.UEID = fill(33, 2) }, denial.ClaimAbsent},
		{"bootseed too short", func(c *Claims) { c.BootSeed = fill(31, 2) }, denial.ClaimAbsent},
		{"dbgstat 5", func(c *Claims) { five := uint64(5); c.Debug = &five }, denial.PayloadForm},
		{"no status list", func(c *Claims) { c.Status.List.URI = "" }, denial.ClaimAbsent},
		{"no PCRs", func(c *Claims) { c.Environment.PCRs = nil }, denial.ClaimAbsent},
		{"PCR bank unknown", func(c *Claims) { c.Environment.PCRs = []PCRBinding{{Bank: 4, Select: fill(3, 1), Digest: fill(20, 1)}} }, denial.ClaimAbsent},
		{"no AK", func(c *Claims) { c.Environment.AK = AK{} }, denial.ClaimAbsent},
		{"no cnf policy", func(c *Claims) { c.Environment.CNFPolicy = nil }, denial.ClaimAbsent},
		{"no evidence", func(c *Claims) { c.Environment.Evidence = Digest{} }, denial.PayloadForm},
		{"EK digest too short", func(c *Claims) { c.Environment.EK = &EK{Certificate: bad} }, denial.PayloadForm},
		{"boot aggregate too short", func(c *Claims) { c.Environment.IMABoot = &bad }, denial.PayloadForm},
		{"Secure Boot mode 4", func(c *Claims) { c.Environment.SecureBoot.Mode = &mode }, denial.PayloadForm},
		{"reference without name", func(c *Claims) { c.Environment.References = []Reference{{Digest: digestOf(1)}} }, denial.PayloadForm},
		{"no initiator", func(c *Claims) { c.Initiator = Initiator{} }, denial.ClaimAbsent},
		{"initiator of kind 4", func(c *Claims) { c.Initiator.Kind = 4 }, denial.ClaimAbsent},
		{"prior actor malformed", func(c *Claims) { c.Initiator.Actor = &Initiator{} }, denial.ClaimAbsent},
		{"no policy", func(c *Claims) { c.Policy.ID = "" }, denial.ClaimAbsent},
		{"policy version 0", func(c *Claims) { c.Policy.Version = 0 }, denial.ClaimAbsent},
		{"no appraisal policy", func(c *Claims) { c.Policy.Appraisal = PolicyName{} }, denial.ClaimAbsent},
		{"no request", func(c *Claims) { c.Policy.Request = Digest{} }, denial.ClaimAbsent},
		{"no origin", func(c *Claims) { c.Lineage.Origin = "" }, denial.ClaimAbsent},
		{"root of another", func(c *Claims) { c.Lineage.Root = fill(16, 2) }, denial.LineageChainInvalid},
		{"depth without parents", func(c *Claims) { c.Lineage.Root, c.Lineage.Depth = fill(16, 2), 1 }, denial.LineageChainInvalid},
		{"parents without depth", func(c *Claims) {
			c.Lineage.Parents = []Parent{{ID: fill(16, 2), Statement: fill(32, 1), Delegation: fill(32, 1)}}
		}, denial.LineageChainInvalid},
		{"parent digest too short", func(c *Claims) {
			c.Lineage.Root, c.Lineage.Depth = fill(16, 2), 1
			c.Lineage.Parents = []Parent{{ID: fill(16, 2), Statement: fill(31, 1), Delegation: fill(32, 1)}}
		}, denial.LineageChainInvalid},
		{"dependency malformed", func(c *Claims) { c.Lineage.Dependencies = []Digest{bad} }, denial.PayloadForm},
		{"session of more than a year", func(c *Claims) { c.Limits = &Limits{Session: MaxSession + 1} }, denial.PayloadForm},
		{"execution id too short", func(c *Claims) { c.Execution.ID = fill(15, 1) }, denial.PayloadForm},
		{"execution kind no URI", func(c *Claims) { c.Execution.Kind = "kind" }, denial.PayloadForm},
		{"input malformed", func(c *Claims) { c.Execution.Inputs = []Digest{bad} }, denial.PayloadForm},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			c := k.claims()
			r.edit(&c)
			_, err := c.Encode()
			refused(t, err, r.code)
			if c.Lineage.Parents == nil {
				c.Lineage.Parents = []Parent{}
			}
			_, err = DecodeClaims(payload(t, &c))
			if err == nil {
				t.Fatal("the broken claims decode")
			}
		})
	}
}

// TestEveryMemberIsNeeded removes or nulls each claim: none may be left out without notice.
func TestEveryMemberIsNeeded(t *testing.T) {
	k := newKit(t)
	c := k.claims()
	c.Limits = nil
	enc := mustEncode(t, c)
	var m map[int64]statement.RawItem
	if err := statement.Unmarshal(enc, &m); err != nil {
		t.Fatal(err)
	}
	if len(m) != 19 {
		t.Fatalf("got %d claims, want 19", len(m))
	}
	for label := range m {
		for _, raw := range []string{"", "f6"} {
			if _, err := DecodeClaims(patch(t, enc, label, raw)); err == nil {
				t.Errorf("claim %d replaced by %q: decoded", label, raw)
			}
		}
	}
}

func TestBootSeedChangesWithEachCounter(t *testing.T) {
	name := fill(34, 1)
	seen := map[string]bool{}
	for _, c := range [][2]uint32{{0, 0}, {1, 0}, {0, 1}, {1, 1}, {256, 0}} {
		seen[string(BootSeed(name, c[0], c[1]))] = true
	}
	if len(seen) != 5 {
		t.Errorf("got %d different seeds, want 5", len(seen))
	}
}
