package firmwarepolicy

import (
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

const newID = "https://issuer.example/policy/hosts"

func TestPolicyFromAHostHoldsForThatHostOnly(t *testing.T) {
	claims := goodClaims()
	claims.CommandLine = []string{"root=UUID=1 quote=\"' \\ \x7f\u00e9"}
	claims.BootApps = append(claims.BootApps, claims.BootApps[0])
	text, err := FromClaims(newID, testExpires, claims)
	if err != nil {
		t.Fatal(err)
	}
	d := mustParse(t, string(text))
	if f := Lint(d, long); len(f) != 0 {
		t.Errorf("lint: %v", f)
	}
	if d.ID() != newID || d.Expires() != testExpires || d.Version() != 1 {
		t.Errorf("got %s %d %d", d.ID(), d.Expires(), d.Version())
	}
	a, _ := d.Appraisal()
	if _, err := a.Appraise(claims, Host{}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*attest.Claims)
		want   denial.Reason
	}{
		{"Secure Boot off", func(c *attest.Claims) { c.SecureBoot.Enabled = false }, denial.SecureBootOff},
		{"other PK", func(c *attest.Claims) { c.SecureBoot.PK = digest("x") }, denial.SecureBootKeys},
		{"other dbx", func(c *attest.Claims) { c.SecureBoot.DBX = digest("x") }, denial.RevocationDBStale},
		{"other program", func(c *attest.Claims) { c.BootApps[0].Digest = digest("x") }, denial.EventUnexpected},
		{"other command line", func(c *attest.Claims) { c.CommandLine = []string{"x"} }, denial.EventUnexpected},
		{"PCR 0", func(c *attest.Claims) { c.PCR[0] = digest("x") }, denial.PCRNotAllowed},
		{"PCR 4", func(c *attest.Claims) { c.PCR[4] = digest("x") }, denial.PCRNotAllowed},
		{"PCR 7", func(c *attest.Claims) { c.PCR[7] = digest("x") }, denial.PCRNotAllowed},
		{"PCR 11", func(c *attest.Claims) { c.PCR[11] = digest("x") }, denial.PCRNotAllowed},
	} {
		other := goodClaims()
		other.CommandLine = slices.Clone(claims.CommandLine)
		c.change(&other)
		_, err := a.Appraise(other, Host{})
		if !denial.Is(err, c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
	moved := goodClaims()
	moved.CommandLine = claims.CommandLine
	moved.PCR[5] = digest("other disk")
	if _, err := a.Appraise(moved, Host{}); err != nil {
		t.Errorf("a volatile PCR is required: %v", err)
	}
}

func TestPolicyFromAHostWithLess(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*attest.Claims)
		says   string
	}{
		{"Secure Boot off", func(c *attest.Claims) { c.SecureBoot = attest.SecureBoot{Present: true} }, "Secure Boot was off"},
		{"no dbx", func(c *attest.Claims) { c.SecureBoot.DBX = "" }, "secure-boot-keys"},
		{"no keys", func(c *attest.Claims) { c.SecureBoot.PK, c.SecureBoot.KEK, c.SecureBoot.DB = "", "", "" }, "secure-boot-dbx"},
		{"no boot programs", func(c *attest.Claims) { c.BootApps = nil }, "pcr-4"},
		{"no command line", func(c *attest.Claims) { c.CommandLine = nil }, "boot-apps"},
	} {
		t.Run(c.name, func(t *testing.T) {
			claims := goodClaims()
			c.change(&claims)
			text, err := FromClaims(newID, testExpires, claims)
			if err != nil || !strings.Contains(string(text), c.says) {
				t.Fatalf("got %v\n%s", err, text)
			}
		})
	}
}

func TestFactsThatDoNotSayWhatBootedMakeNoPolicy(t *testing.T) {
	for name, change := range map[string]func(*attest.Claims){
		"no facts":         func(c *attest.Claims) { *c = attest.Claims{} },
		"PCR 7 alone":      func(c *attest.Claims) { c.PCR = map[int64]string{7: digest("keys")}; c.CNF.PCRs = []int64{7} },
		"nothing that ran": func(c *attest.Claims) { delete(c.PCR, 4); delete(c.PCR, 11); c.CNF.PCRs = []int64{0}; c.BootApps = nil },
		"PCR 16":           func(c *attest.Claims) { c.PCR[16] = digest("x") },
		"bank sha1":        func(c *attest.Claims) { c.Bank = "sha1" },
		"nothing bound":    func(c *attest.Claims) { c.CNF.PCRs = nil },
	} {
		t.Run(name, func(t *testing.T) {
			claims := goodClaims()
			claims.CommandLine = nil
			change(&claims)
			text, err := FromClaims(newID, testExpires, claims)
			wantDenial(t, err, denial.PolicyError)
			if text != nil {
				t.Fatal("a policy came with the refusal")
			}
		})
	}
}
