package firmwarepolicy

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"strings"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

// imaTOML is a policy that looks at measured files.
var imaTOML = `
schema = 1
kind = "appraisal"
id = "https://issuer.example/policy/measured"
version = 1
expires = 2030-03-17T17:46:40Z

[pcrs]
bank = "sha256"
quote = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
bind = [4, 7, 8]
audit = true

[limits]
evidence_age = "30s"

[reference]
boot_apps = ["` + digest("shim") + `"]
pcr8 = ["` + digest("ima_policy=tcb") + `"]
files = ["sha256:` + digest("agent") + `", "verity:sha256:` + digest("image") + `"]
scripts = ["sha256:` + digest("script") + `"]
policies = ["sha256:` + digest("ima policy") + `"]
certificates = ["sha256:` + digest("certificate") + `"]

[ima]
known = ["scripts", "files"]
watch = ["/opt/agent/*", "/etc/ima/ima-policy"]

[[require]]
name = "violations"
code = "IMA_VIOLATION"
expr = "facts.ima.violations == 0"

[[require]]
name = "files"
code = "IMA_UNKNOWN_FILE"
expr = "facts.ima.unknown == 0"

[[require]]
name = "script"
code = "INTERPRETER_UNGOVERNED"
expr = "facts.ima.files.exists(f, f.path == '/opt/agent/task.py' && f.digest in ref.scripts)"

[[require]]
name = "ima-policy"
expr = "facts.pcr[8] in ref.pcr8 && size(facts.ima.files) > 0 && facts.ima.files.all(f, f.path != '/etc/ima/ima-policy' || f.digest in ref.policies)"

[[require]]
name = "keyrings"
expr = "size(facts.ima.buffers) >= 0 && facts.ima.buffers.all(b, b.name != '.ima' || b.digest in ref.certificates)"

[[require]]
name = "boot-apps"
expr = "size(facts.boot_apps) > 0 && facts.boot_apps.all(a, a.digest in ref.boot_apps)"

[[require]]
name = "secure-boot"
expr = "facts.secure_boot.enabled && facts.secure_boot.db != '' && !facts.platform.debug"
`

func imaClaims(t *testing.T, a *Appraisal) attest.Claims {
	t.Helper()
	c := goodClaims()
	c.PCR = map[int64]string{}
	for n := range int64(11) {
		c.PCR[n] = digest("pcr")
	}
	c.CNF.PCRs = []int64{4, 7, 8}
	c.BootApps = []attest.BootApp{{PCR: 4, Digest: digest("shim")}}
	c.PCR[8] = digest("ima_policy=tcb")
	reference, err := a.IMA().Digest()
	if err != nil {
		t.Fatal(err)
	}
	c.IMA = attest.IMA{Present: true, Entries: 300, Reference: reference,
		Files: []attest.IMAFile{{Path: "/opt/agent/task.py", Digest: "sha256:" + digest("script")},
			{Path: "/etc/ima/ima-policy", Digest: "sha256:" + digest("ima policy")}},
		Buffers: []attest.Buffer{{Name: ".ima", Digest: "sha256:" + digest("certificate")}, {Name: "kexec-cmdline", Digest: "sha256:" + digest("x")}}}
	return c
}

// Each row is a good host with one thing that IMA shows otherwise.
func TestMeasuredFiles(t *testing.T) {
	a := mustAppraisal(t, imaTOML)
	for _, row := range []struct {
		name   string
		change func(*attest.Claims)
		want   denial.Reason
	}{
		{"as it should be", func(*attest.Claims) {}, 0},
		{"I01 a violation", func(c *attest.Claims) { c.IMA.Violations = 1 }, denial.IMAViolation},
		{"I04 an IMA policy that leaves tmpfs out", func(c *attest.Claims) { c.IMA.Files[1].Digest = "sha256:" + digest("dont_measure") },
			denial.PCRNotAllowed},
		{"I04 another built-in policy", func(c *attest.Claims) { c.PCR[8] = digest("no ima_policy") }, denial.PCRNotAllowed},
		{"I05 an interpreter whose script was not measured", func(c *attest.Claims) { c.IMA.Files = c.IMA.Files[1:] },
			denial.InterpreterUngoverned},
		{"I05 an interpreter with another script", func(c *attest.Claims) { c.IMA.Files[0].Digest = "sha256:" + digest("agent") },
			denial.InterpreterUngoverned},
		{"I03, I08 an entry that nobody knows", func(c *attest.Claims) { c.IMA.Unknown = 1 }, denial.IMAUnknownFile},
		{"another certificate", func(c *attest.Claims) { c.IMA.Buffers[0].Digest = "sha256:" + digest("x") }, denial.PCRNotAllowed},
		{"facts for another policy", func(c *attest.Claims) { c.IMA.Reference = strings.Repeat("0", 64) }, denial.PolicyHashMismatch},
		{"no list", func(c *attest.Claims) { c.IMA.Present = false }, denial.PolicyHashMismatch},
	} {
		t.Run(row.name, func(t *testing.T) {
			c := imaClaims(t, a)
			row.change(&c)
			_, err := a.Appraise(c, goodHost())
			if row.want != 0 {
				wantDenial(t, err, row.want)
			} else if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestIMAPolicyKeepsItsHash(t *testing.T) {
	d := mustParse(t, imaTOML)
	again, err := Decode(d.Canonical())
	if err != nil || again.Hash() != d.Hash() {
		t.Fatalf("got %v, %v", again, err)
	}
	text, err := d.TOML()
	if err != nil {
		t.Fatal(err)
	}
	if mustParse(t, string(text)).Hash() != d.Hash() {
		t.Errorf("rendered, it is another policy:\n%s", text)
	}
	if mustParse(t, swap(t, imaTOML, `["scripts", "files"]`, `["files", "scripts"]`)).Hash() != d.Hash() {
		t.Error("the order of sets changes the hash")
	}
	if f := Lint(d, long); len(f) != 0 {
		t.Errorf("got %v", f)
	}
}

func TestKeysOfIMA(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	text := swap(t, imaTOML, "[ima]\n", "[ima]\nkeys = [\"signers\"]\n")
	text = swap(t, text, "[reference]\n", "[reference]\nsigners = [\""+base64.StdEncoding.EncodeToString(der)+"\"]\n")
	a := mustAppraisal(t, text)
	if got := a.IMA().Keys; len(got) != 1 || string(got[0]) != string(der) {
		t.Errorf("got %x", got)
	}
	for _, bad := range []string{"AAAA", "!"} {
		_, err := ParseTOML([]byte(swap(t, text, base64.StdEncoding.EncodeToString(der), bad)))
		wantDenial(t, err, denial.PolicyError)
	}
}

// Each row is the good policy with one thing broken.
func TestIMAPolicyIsRefused(t *testing.T) {
	for _, c := range []struct{ name, text, says string }{
		{"PCR 10 without PCR 9", swap(t, imaTOML, "8, 9, 10]", "8, 10]"), "without PCR 9"},
		{"section without PCR 10", swap(t, imaTOML, "9, 10]", "9]"), "[ima] needs PCR 10"},
		{"facts without PCR 10", swap(t, swap(t, imaTOML, "9, 10]", "9]"), "[ima]\nknown = [\"scripts\", \"files\"]\nwatch = [\"/opt/agent/*\", \"/etc/ima/ima-policy\"]\n", ""),
			"needs PCR 10"},
		{"no such set", swap(t, imaTOML, `["scripts", "files"]`, `["script", "files"]`), "no reference set"},
		{"set twice", swap(t, imaTOML, `["scripts", "files"]`, `["files", "files"]`), "twice"},
		{"a digest without algorithm", swap(t, imaTOML, `"sha256:`+digest("agent"), `"`+digest("agent")), "not a digest of a file"},
		{"SHA-1", swap(t, imaTOML, `"sha256:`+digest("agent"), `"sha1:`+digest("agent")[:40]), "not a digest of a file"},
		{"relative path", swap(t, imaTOML, `"/opt/agent/*"`, `"opt/agent/*"`), "absolute path"},
		{"unknown key", swap(t, imaTOML, "watch =", "watched ="), "ima.watched"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParseTOML([]byte(c.text))
			wantDenial(t, err, denial.PolicyError)
			if !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
		})
	}
}

func TestLintOfIMA(t *testing.T) {
	for says, text := range map[string]string{
		"facts.ima.violations == 0":  swap(t, imaTOML, "facts.ima.violations == 0", "facts.ima.entries > 0"),
		"looks at facts.ima.unknown": swap(t, imaTOML, "facts.ima.unknown == 0", "facts.ima.entries > 1"),
		"what IMA must measure": swap(t, imaTOML, "facts.pcr[8] in ref.pcr8 && ",
			""),
	} {
		found := false
		for _, f := range Lint(mustParse(t, text), long) {
			found = found || strings.Contains(f.Message, says)
		}
		if !found {
			t.Errorf("lint does not say %q", says)
		}
	}
}

// A first policy is written from the facts of a host with IMA, and allows that host.
func TestPolicyFromAHostWithIMA(t *testing.T) {
	c := imaClaims(t, mustAppraisal(t, imaTOML))
	c.Unexplained = map[int64]int64{5: 0, 8: 0}
	c.Sections = nil // of PCR 11, which this policy does not quote
	reference, err := attest.IMAReference{}.Digest()
	if err != nil {
		t.Fatal(err)
	}
	c.IMA = attest.IMA{Present: true, Entries: 300, Violations: 2, Unknown: 290, Files: []attest.IMAFile{}, Buffers: []attest.Buffer{}, Reference: reference}
	text, err := FromClaims("https://issuer.example/policy/hosts", testExpires, c)
	if err != nil {
		t.Fatal(err)
	}
	a := mustAppraisal(t, string(text))
	c.IMA.Violations = 3
	_, err = a.Appraise(c, goodHost())
	wantDenial(t, err, denial.IMAViolation)
}

// A case of a policy test has facts that no list was sorted for.
func TestCasesWithIMA(t *testing.T) {
	d := mustParse(t, imaTOML)
	c := imaClaims(t, d.appraisal)
	c.IMA.Reference = ""
	data, err := EncodeFacts(c)
	if err != nil {
		t.Fatal(err)
	}
	results, err := RunTests(d, []byte("schema = 1\n[[case]]\nname = \"x\"\nfacts = \"f\"\nexpect = \"IMA_UNKNOWN_FILE\"\n[case.change]\nima.unknown = 7\n"),
		func(string) ([]byte, error) { return data, nil })
	if err != nil || len(results) != 1 || !results[0].OK {
		t.Errorf("got %+v, %v", results, err)
	}
}
