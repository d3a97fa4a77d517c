package firmwarepolicy

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

const testExpires = 1_900_000_000

func digest(s string) string {
	d := sha256.Sum256([]byte(s))
	return hex.EncodeToString(d[:])
}

// goodClaims are facts of a host that booted a unified kernel image under Secure Boot.
func goodClaims() attest.Claims {
	return attest.Claims{
		AK:   "000b" + digest("ak"),
		Bank: "sha256", Banks: []string{"sha256"},
		PCR: map[int64]string{0: digest("firmware"), 4: digest("boot programs"), 5: digest("disk"), 7: digest("keys"),
			11: digest("image"), 12: digest("options")},
		PCRDigest: digest("pcrs"),
		Clock:     attest.Clock{Milliseconds: 90_000, Resets: 7, Restarts: 1, Safe: true},
		Firmware:  0x2020_0101_0001_0002,
		SecureBoot: attest.SecureBoot{Present: true, Enabled: true, PK: digest("pk"), KEK: digest("kek"), DB: digest("db"),
			DBX: digest("dbx"), Authorities: []string{digest("authority")}},
		BootApps:    []attest.BootApp{{PCR: 4, Digest: digest("uki")}, {PCR: 4, Digest: digest("kernel")}},
		CommandLine: []string{"console=ttyS0 lockdown=integrity"},
		CNF:         attest.CNF{Name: "000b" + digest("cnf"), AuthPolicy: digest("policy"), PCRs: []int64{4, 7, 11}},
		Log:         attest.Log{Events: 35, Digest: digest("log")},
		Platform:    attest.Platform{Version: "2.8.1"},
		Disks: []attest.Disk{{GUID: "54495257-7420-7365-7420-6f776e65722e", Partitions: []attest.Partition{
			{Type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", GUID: "54495257-7420-7365-7420-6f776e65722f", Name: "ESP"}}}},
		Shim:        attest.Shim{SBAT: 2023012900, Generations: map[string]int64{"sbat": 1, "shim": 2}},
		Commands:    []string{},
		Sections:    map[string]string{".linux": digest("kernel"), ".initrd": digest("initrd")},
		Measured:    map[int64][]string{0: {digest("volume")}, 12: {digest("line")}},
		Unexplained: map[int64]int64{5: 0, 11: 0, 12: 0},
		OS:          []attest.OSEvent{{PCR: 11, Digest: digest("enter-initrd"), Text: "enter-initrd"}},
		IMA:         attest.IMA{Files: []attest.IMAFile{}, Buffers: []attest.Buffer{}},
	}
}

func goodHost() Host {
	return Host{ID: "spiffe://example/host/a", Labels: map[string]string{"rack": "7", "Zone": "eu"}}
}

var appraisalTOML = `
schema = 1
kind = "appraisal"
id = "https://issuer.example/policy/hosts"
version = 3
expires = 2030-03-17T17:46:40Z

[pcrs]
bank = "sha256"
quote = [0, 4, 5, 7, 11, 12]
bind = [4, 7, 11]
audit = true

[limits]
evidence_age = "30s"

[reference]
pcr4 = ["` + digest("boot programs") + `"]
boot_apps = ["` + digest("uki") + `", "` + digest("kernel") + `"]
command_line = ["console=ttyS0 lockdown=integrity"]

[[require]]
name = "secure-boot-on"
code = "SECURE_BOOT_OFF"
expr = "facts.secure_boot.enabled"

[[require]]
name = "db"
code = 609
expr = "facts.secure_boot.db == '` + digest("db") + `'"

[[require]]
name = "boot-programs"
expr = "facts.pcr[4] in ref.pcr4"

[[require]]
name = "boot-apps"
code = "EVENT_UNEXPECTED"
expr = "size(facts.boot_apps) > 0 && facts.boot_apps.all(a, a.digest in ref.boot_apps)"

[[require]]
name = "command-line"
code = "EVENT_UNEXPECTED"
expr = "size(facts.command_line) > 0 && facts.command_line.all(c, c in ref.command_line) && facts.unexplained[12] == 0"

[[require]]
name = "no-debugger"
code = "DEBUG_STATE"
expr = "!facts.platform.debug && !facts.platform.dma_unprotected"

[[require]]
name = "zone"
code = "TENANT_MISMATCH"
expr = "'Zone' in host.labels && host.labels['Zone'] == 'eu'"
`

var authorizationTOML = `
schema = 1
kind = "authorization"
id = "https://issuer.example/policy/who"
version = 1
expires = 2030-03-17T17:46:40Z

[[rule]]
name = "deploy"
initiators = ["https://people.example/ada", "https://people.example/bob"]
hosts = { Zone = "eu", rack = "7" }
host_ids = ["spiffe://example/host/a"]
audiences = ["https://gate.example/a"]
lifetime = "5m"
uses = 2
depth = 1
session = "10m"
when = "ask.initiator_kind == 'human'"

[[rule.scope]]
target = "file:/usr/bin/deploy"
operations = ["execute", "read"]
code = ["` + digest("deploy 1") + `", "` + digest("deploy 2") + `"]
parameters = ["` + digest("--production") + `"]
env = ["STAGE", "LANG"]
directory = "/srv/deploy"

[[rule.scope]]
target = "tool:mcp/tickets/*"
operations = ["read", "write", "delegate"]

[[rule]]
name = "read-only"
initiators = ["https://people.example/ada"]
audiences = ["https://gate.example/a", "https://gate.example/b"]
lifetime = "1h"
uses = 10

[[rule.scope]]
target = "tool:mcp/tickets/list"
operations = ["read"]
`

func goodAsk() Ask {
	return Ask{
		Initiator: "https://people.example/bob", InitiatorKind: "human", Host: "spiffe://example/host/a",
		Labels: map[string]string{"rack": "7", "Zone": "eu", "floor": "2"}, Audience: "https://gate.example/a",
		Scope: []AskScope{
			{Target: "file:/usr/bin/deploy", Operations: []string{"execute"}, Code: []string{digest("deploy 2")},
				Parameters: digest("--production"), Env: []string{"LANG"}, Directory: "/srv/deploy"},
			{Target: "tool:mcp/tickets/close", Operations: []string{"write", "read"}},
		},
		Lifetime: 300, Session: 600, Uses: 2, Depth: 1,
	}
}

func mustParse(t testing.TB, text string) *Document {
	t.Helper()
	d, err := ParseTOML([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mustAppraisal(t testing.TB, text string) *Appraisal {
	t.Helper()
	a, err := mustParse(t, text).Appraisal()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func mustAuthorization(t testing.TB, text string) *Authorization {
	t.Helper()
	a, err := mustParse(t, text).Authorization()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// swap replaces the one occurrence of old in text.
func swap(t testing.TB, text, old, new string) string {
	t.Helper()
	if n := strings.Count(text, old); n != 1 {
		t.Fatalf("%q stands %d times in the policy, want once", old, n)
	}
	return strings.Replace(text, old, new, 1)
}

// withRequirement returns the good policy with one more requirement.
func withRequirement(expr string) string {
	return appraisalTOML + "\n[[require]]\nname = \"added\"\ncode = 615\nexpr = '''" + expr + "'''\n"
}

func wantDenial(t testing.TB, err error, want denial.Reason) {
	t.Helper()
	if !denial.Is(err, want) {
		t.Fatalf("got %v, want %d %s", err, want.Code(), want)
	}
}
