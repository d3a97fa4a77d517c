package firmwarepolicy

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

func TestHostThatFulfilsThePolicyIsAppraised(t *testing.T) {
	d := mustParse(t, appraisalTOML)
	a, _ := d.Appraisal()
	r, err := a.Appraise(goodClaims(), goodHost())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"secure-boot-on", "db", "boot-programs", "boot-apps", "command-line", "no-debugger", "zone"}
	if r.Policy != d.Hash() || a.Hash() != d.Hash() || !slices.Equal(r.Held, want) {
		t.Fatalf("got %v, want %v", r, want)
	}
	s := a.Selection()
	if s.Bank != "sha256" || !slices.Equal(s.PCRs, []int{0, 4, 5, 7, 11, 12}) || !slices.Equal(a.Bind(), []int{4, 7, 11}) || a.EvidenceAge() != 30 {
		t.Fatalf("got %v %v %d", s, a.Bind(), a.EvidenceAge())
	}
}

// Each row is a good host with one thing otherwise.
func TestHostIsRefused(t *testing.T) {
	a := mustAppraisal(t, appraisalTOML)
	for _, c := range []struct {
		name         string
		change       func(*attest.Claims, *Host)
		want         denial.Reason
		requirements []string
	}{
		{"no facts", func(c *attest.Claims, _ *Host) { *c = attest.Claims{} }, denial.BankNotAllowed, nil},
		{"Q12 bank sha1", func(c *attest.Claims, _ *Host) { c.Bank = "sha1" }, denial.BankNotAllowed, nil},
		{"PCR missing", func(c *attest.Claims, _ *Host) { delete(c.PCR, 11) }, denial.RequiredPCRAbsent, nil},
		{"PCR empty", func(c *attest.Claims, _ *Host) { c.PCR[11] = "" }, denial.RequiredPCRAbsent, nil},
		{"PCR too many", func(c *attest.Claims, _ *Host) { c.PCR[8] = digest("x") }, denial.PCRSelectionMismatch, nil},
		{"cnf key bound to less", func(c *attest.Claims, _ *Host) { c.CNF.PCRs = []int64{4, 7} }, denial.KeyBinding, nil},
		{"F21 no audit session", func(c *attest.Claims, _ *Host) { c.Banks = nil }, denial.TPMFirmware, nil},
		{"cnf key not bound", func(c *attest.Claims, _ *Host) { c.CNF = attest.CNF{} }, denial.KeyBinding, nil},
		{"L18 Secure Boot off", func(c *attest.Claims, _ *Host) { c.SecureBoot.Enabled = false }, denial.SecureBootOff, []string{"secure-boot-on"}},
		{"other keys", func(c *attest.Claims, _ *Host) { c.SecureBoot.DB = digest("x") }, denial.SecureBootKeys, []string{"db"}},
		{"other boot programs", func(c *attest.Claims, _ *Host) { c.PCR[4] = digest("x") }, denial.PCRNotAllowed, []string{"boot-programs"}},
		{"one more program", func(c *attest.Claims, _ *Host) { c.BootApps = append(c.BootApps, attest.BootApp{Digest: digest("x")}) },
			denial.EventUnexpected, []string{"boot-apps"}},
		{"no program", func(c *attest.Claims, _ *Host) { c.BootApps = nil }, denial.EventUnexpected, []string{"boot-apps"}},
		{"other command line", func(c *attest.Claims, _ *Host) { c.CommandLine[0] += " evil=1" }, denial.EventUnexpected, []string{"command-line"}},
		{"other label", func(_ *attest.Claims, h *Host) { h.Labels["Zone"] = "us" }, denial.TenantMismatch, []string{"zone"}},
		{"no labels", func(_ *attest.Claims, h *Host) { h.Labels = nil }, denial.TenantMismatch, []string{"zone"}},
		{"two things", func(c *attest.Claims, _ *Host) { c.CommandLine, c.SecureBoot.DB = nil, "" }, denial.SecureBootKeys, []string{"command-line", "db"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			claims, host := goodClaims(), goodHost()
			c.change(&claims, &host)
			r, err := a.Appraise(claims, host)
			wantDenial(t, err, c.want)
			d := denial.Of(err)
			if r != nil || !slices.Equal(d.Requirements, c.requirements) || d.Stage != denial.StageAppraisal {
				t.Fatalf("got %v, %v at %s, want %v", r, d.Requirements, d.Stage, c.requirements)
			}
		})
	}
}

func TestP08ErrorIsNeverAllowed(t *testing.T) {
	huge := "facts.command_line.all(a, facts.command_line.all(b, a == b || a != b))"
	for _, c := range []struct{ name, expr string }{
		{"missing label", "host.labels['missing'] == ''"},
		{"list too short", "facts.boot_apps[9].digest == ''"},
		{"absorbed by or", "facts.boot_apps[9].digest == '' || facts.clock.safe"},
		{"absorbed by a constant", "facts.boot_apps[9].digest == '' || 1 == 1"},
		{"absorbed by and, then denied", "!(facts.boot_apps[9].digest == '' && !facts.clock.safe)"},
		{"absorbed by exists", "[9, 0].exists(i, facts.boot_apps[i].digest != '')"},
		{"absorbed by not all", "![9, 0].all(i, facts.boot_apps[i].digest == '')"},
		{"in exists_one", "[9, 0].exists_one(i, facts.boot_apps[i].digest != '')"},
		{"in filter", "size([9, 0].filter(i, facts.boot_apps[i].digest != '')) > 0"},
		{"in map", "size([9, 0].map(i, facts.boot_apps[i].digest)) == 2"},
		{"in a condition", "(facts.boot_apps[9].digest == '' ? 1 : 2) > 0 && facts.clock.safe"},
		{"in a chosen branch", "facts.clock.safe ? facts.boot_apps[9].digest == '' : facts.clock.safe"},
		{"timeout: cost limit", huge},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := mustAppraisal(t, withRequirement(c.expr))
			claims := goodClaims()
			if c.expr == huge {
				claims.CommandLine = slices.Repeat(claims.CommandLine, 1000)
			}
			r, err := a.Appraise(claims, goodHost())
			wantDenial(t, err, denial.PolicyError)
			if r != nil || !slices.Equal(denial.Of(err).Requirements, []string{"added"}) {
				t.Fatalf("got %v, %v", r, denial.Of(err).Requirements)
			}
			claims.SecureBoot.Enabled = false
			_, err = a.Appraise(claims, goodHost())
			wantDenial(t, err, denial.SecureBootOff)
			if got := denial.Of(err).Requirements; !slices.Equal(got, []string{"added", "secure-boot-on"}) {
				t.Fatalf("got %v", got)
			}
		})
	}
}

func TestOperandThatIsNotNeededIsNotEvaluated(t *testing.T) {
	for _, expr := range []string{
		"facts.clock.safe || facts.boot_apps[9].digest == ''",
		"!(size(facts.boot_apps) > 9 && facts.boot_apps[9].digest == '')",
		"'missing' in host.labels ? host.labels['missing'] == '' : facts.clock.safe",
		"facts.boot_apps.exists(a, a.digest == '" + digest("uki") + "')",
		"facts.boot_apps.map(a, a.digest) == ref.boot_apps",
		"facts.boot_apps.exists_one(a, a.digest in ref.boot_apps && a.digest == ref.boot_apps[1])",
		"facts.firmware >= 2 && facts.clock.resets == 7u",
		"facts.command_line[0].contains('lockdown') && facts.command_line[0].startsWith('console') && host.id.endsWith('/a')",
		"facts.secure_boot.authorities == ['" + digest("authority") + "']",
		"facts.cnf.name != facts.ak && facts.cnf.pcrs == [4, 7, 11] && facts.log.events > 0 && facts.log.digest != ''",
	} {
		if _, err := mustAppraisal(t, withRequirement(expr)).Appraise(goodClaims(), goodHost()); err != nil {
			t.Errorf("%s: %v", expr, err)
		}
	}
}

// randomClaims are good claims with a few things otherwise.
func randomClaims(r *rand.Rand) (attest.Claims, Host) {
	c, h := goodClaims(), goodHost()
	for range r.IntN(4) {
		switch r.IntN(11) {
		case 0:
			c.SecureBoot.Enabled = false
		case 1:
			c.PCR[[]int64{0, 4, 5, 7, 11, 12}[r.IntN(6)]] = digest("random")
		case 2:
			c.BootApps = c.BootApps[:r.IntN(2)]
		case 3:
			c.CommandLine = append(c.CommandLine, "x")
		case 4:
			delete(h.Labels, "Zone")
		case 5:
			h.Labels["Zone"] = []string{"eu", "us"}[r.IntN(2)]
		case 6:
			c.SecureBoot.DB = ""
		case 7:
			delete(c.PCR, 5)
		case 8:
			c.CNF.PCRs = nil
		case 9:
			c.Clock.Resets = r.Uint64()
		case 10:
			delete(h.Labels, "rack")
		}
	}
	return c, h
}

type verdict struct {
	Claims  attest.Claims
	Host    Host
	Code    int
	Failed  []string
	Allowed bool
}

func judge(a *Appraisal, c attest.Claims, h Host) verdict {
	_, err := a.Appraise(c, h)
	v := verdict{Claims: c, Host: h, Allowed: err == nil}
	if d := denial.Of(err); d != nil {
		v.Code, v.Failed = d.Reason.Code(), d.Requirements
	}
	return v
}

// 10,000 decisions are recorded, then replayed from the record on a policy compiled anew from its canonical bytes, by
// several goroutines: all verdicts must be the same.
func TestP07ReplayedDecisionsAreIdentical(t *testing.T) {
	const n = 10_000
	text := withRequirement("host.labels['rack'] == '7' || facts.clock.safe")
	d := mustParse(t, text)
	first, _ := d.Appraisal()
	r := rand.New(rand.NewPCG(1, 2))
	var record bytes.Buffer
	enc := json.NewEncoder(&record)
	codes := map[int]int{}
	for range n {
		c, h := randomClaims(r)
		v := judge(first, c, h)
		codes[v.Code]++
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
	}
	if codes[0] == 0 || codes[int(denial.PolicyError)] == 0 || len(codes) < 7 {
		t.Fatalf("the record is too uniform: %v", codes)
	}
	decoded, err := Decode(d.Canonical())
	if err != nil {
		t.Fatal(err)
	}
	second, _ := decoded.Appraisal()
	replay(t, second, &record)
}

func replay(t *testing.T, a *Appraisal, record *bytes.Buffer) {
	t.Helper()
	lines := bytes.Split(bytes.TrimSpace(record.Bytes()), []byte("\n"))
	var wg sync.WaitGroup
	for part := range slices.Chunk(lines, len(lines)/4+1) {
		wg.Go(func() {
			for _, line := range part {
				var v verdict
				if err := json.Unmarshal(line, &v); err != nil {
					t.Error(err)
					return
				}
				if got, _ := json.Marshal(judge(a, v.Claims, v.Host)); !bytes.Equal(got, line) {
					t.Errorf("got %s, recorded %s", got, line)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestRefusalDoesNotRepeatFacts(t *testing.T) {
	claims := goodClaims()
	claims.CommandLine[0] = "password=secret"
	for _, text := range []string{appraisalTOML, withRequirement("host.labels[facts.command_line[0]] == ''")} {
		_, err := mustAppraisal(t, text).Appraise(claims, goodHost())
		if err == nil || bytes.Contains([]byte(err.Error()), []byte("secret")) {
			t.Fatalf("got %v", err)
		}
	}
}

func TestProgramThatIsNotCompiledIsAnError(t *testing.T) {
	for _, p := range []*program{nil, {}} {
		holds, err := p.holds(&askVars{})
		if holds || !denial.Is(err, denial.PolicyError) {
			t.Fatalf("got %v, %v", holds, err)
		}
	}
}

func FuzzAppraise(f *testing.F) {
	a := mustAppraisal(f, withRequirement("facts.boot_apps[1].digest != '' && host.labels[facts.bank] != facts.command_line[0]"))
	good, _ := EncodeFacts(goodClaims())
	f.Add(good, "eu")
	f.Add([]byte(`{"bank":"sha256"}`), "")
	f.Fuzz(func(t *testing.T, facts []byte, zone string) {
		claims, err := DecodeFacts(facts)
		if err != nil {
			return
		}
		host := Host{Labels: map[string]string{"Zone": zone, "sha256": "x"}}
		r, err := a.Appraise(claims, host)
		if (r != nil) == (err != nil) {
			t.Fatalf("got %v, %v", r, err)
		}
		var d *denial.Denial
		if err != nil && (!errors.As(err, &d) || d.Reason == 0) {
			t.Fatalf("not a denial: %v", err)
		}
		if err == nil && (zone != "eu" || !claims.SecureBoot.Enabled || claims.PCR[4] != digest("boot programs")) {
			t.Fatal("allowed what the policy forbids")
		}
	})
}

func BenchmarkAppraise(b *testing.B) {
	a := mustAppraisal(b, appraisalTOML)
	claims, host := goodClaims(), goodHost()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.Appraise(claims, host); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	canonical := mustParse(b, appraisalTOML).Canonical()
	for b.Loop() {
		if _, err := Decode(canonical); err != nil {
			b.Fatal(err)
		}
	}
}
