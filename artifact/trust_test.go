package artifact

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

// trustText returns a valid trust file by hand, as a person would write it.
func trustText(k *kit) string {
	id := k.artifact.Key().Thumbprint()
	return fmt.Sprintf(`schema = 1
version = 7
expires = 2027-06-01T00:00:00Z
genesis = "%064x"
issuer = "https://issuer.example"
log = "https://issuer.example/log"

[[key]]
purpose = "artifact"
thumbprint = "%s"
cose = "%s"
not_before = 2026-01-01T00:00:00Z

[[policy]]
id = "https://issuer.example/policy/boot"
min_version = 2
`, 1, id, base64.RawURLEncoding.EncodeToString(k.artifact.Key().COSE()))
}

func TestTrustFileIsRead(t *testing.T) {
	k := newKit(t)
	tr, err := ParseTrust([]byte(trustText(k)))
	if err != nil {
		t.Fatal(err)
	}
	if tr.Version != 7 || tr.Genesis[31] != 1 || tr.RevocationAge != DefaultRevocationAge || tr.Lifetime != DefaultLifetime ||
		len(tr.Keys) != 1 || !tr.Keys[0].Key.Equal(k.artifact.Key()) || !tr.Keys[0].NotAfter.IsZero() || tr.Policies[0].MinVersion != 2 {
		t.Errorf("got %+v", tr)
	}
}

func TestTrustFileRoundTrip(t *testing.T) {
	k := newKit(t)
	k.trust.Expires, k.trust.Audience, k.trust.RunningAge = k.trust.Expires.UTC(), gateURI, 10*time.Minute
	k.trust.Keys[0].NotBefore, k.trust.Keys[0].NotAfter = t0.UTC(), t0.Add(time.Hour).UTC()
	k.trust.TPMRoots = []TPMRoot{{File: "infineon.pem"}, {PEM: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}}
	text, err := k.trust.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseTrust(text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	again, err := got.Marshal()
	if err != nil || string(again) != string(text) {
		t.Fatalf("written again: %v\n%s\nwant\n%s", err, again, text)
	}
	if !got.Expires.Equal(k.trust.Expires) || got.Audience != gateURI || len(got.Keys) != 3 || !got.Keys[0].NotAfter.Equal(k.trust.Keys[0].NotAfter) ||
		!reflect.DeepEqual(got.TPMRoots, k.trust.TPMRoots) || len(got.Policies) != 2 || string(got.Policies[1].Hash) != string(k.trust.Policies[1].Hash) {
		t.Errorf("got %+v, want %+v", got, k.trust)
	}
	want := k.want()
	want.Trust = got
	k.trust.Keys[0].NotBefore, k.trust.Keys[0].NotAfter = time.Time{}, time.Time{}
	got.Keys[0].NotBefore = time.Time{}
	if _, err := Verify(k.mint(k.claims()), want); err != nil {
		t.Errorf("with the file that was read back: %v", err)
	}
}

// TestTrustFileRefuses edits a valid file at one place each.
func TestTrustFileRefuses(t *testing.T) {
	k := newKit(t)
	good := trustText(k)
	entry := good[strings.Index(good, "[[key]]"):strings.Index(good, "[[policy]]")]
	policy := good[strings.Index(good, "[[policy]]"):]
	rows := []struct{ name, old, new, says string }{
		{"unknown key", "version = 7", "version = 7\nverison = 8", `line 3, column 1: unknown key "verison"`},
		{"unknown key in a table", "min_version = 2", "min_version = 2\nmax_version = 3", `line 17, column 1: unknown key`},
		{"not TOML", "schema = 1", "schema =", "line 1"},
		{"wrong type", "version = 7", `version = "7"`, "line 2"},
		{"digest in capitals", "0000000001", "000000000A", "line 4"},
		{"another schema", "schema = 1", "schema = 2", "schema 2"},
		{"no version", "version = 7\n", "", "version"},
		{"negative version", "version = 7", "version = -7", "version"},
		{"no expiry", "expires = 2027-06-01T00:00:00Z\n", "", "expires"},
		{"expiry without offset", "expires = 2027-06-01T00:00:00Z", "expires = 2027-06-01T00:00:00", "offset"},
		{"expiry a date", "expires = 2027-06-01T00:00:00Z", "expires = 2027-06-01", "offset"},
		{"key date without offset", "not_before = 2026-01-01T00:00:00Z", "not_before = 2026-01-01", "offset"},
		{"no genesis", good[strings.Index(good, "genesis"):strings.Index(good, "issuer =")], "", "genesis"},
		{"issuer no URI", `"https://issuer.example"`, `"issuer"`, "issuer"},
		{"log with a fragment", "/log\"", "/log#2\"", "fragment"},
		{"revocation age too great", "version = 7", "version = 7\nmax_revocation_age = \"901s\"", "max_revocation_age"},
		{"revocation age zero", "version = 7", "version = 7\nmax_revocation_age = \"0s\"", "line 3"},
		{"lifetime too great", "version = 7", "version = 7\nmax_lifetime = \"25h\"", "max_lifetime"},
		{"no key", entry, "", "at least one key"},
		{"C22 the same key twice", entry, entry + entry, "306 KEY_AMBIGUOUS"},
		{"unknown purpose", `purpose = "artifact"`, `purpose = "any"`, "unknown purpose"},
		{"thumbprint of another key", `thumbprint = "` + k.artifact.Key().Thumbprint().String(), `thumbprint = "` + k.log.Key().Thumbprint().String(), "thumbprint"},
		{"neither pem nor cose", `cose = "`, `pem = ""` + "\n# \"", "either pem or cose"},
		{"a byte behind cose", base64.RawURLEncoding.EncodeToString(k.artifact.Key().COSE()), base64.RawURLEncoding.EncodeToString(k.artifact.Key().COSE()) + "!", "illegal base64"},
		{"malformed pem", `cose = "`, `pem = "x"` + "\n# \"", "PEM"},
		{"key ends before it begins", "not_before = 2026-01-01T00:00:00Z", "not_before = 2026-01-01T00:00:00Z\nnot_after = 2025-01-01T00:00:00Z", "not_after"},
		{"end of a key without offset", "not_before = 2026-01-01T00:00:00Z", "not_after = 2027-01-01", "offset"},
		{"a key change without its digest", "version = 7", "version = 7\nkey_change = 1", "key_change"},
		{"the digest of no key change", "version = 7", "version = 7\nkey_change_sha256 = \"" + strings.Repeat("ab", 32) + "\"", "key_change"},
		{"a negative key change", "version = 7", "version = 7\nkey_change = -1\nkey_change_sha256 = \"" + strings.Repeat("ab", 32) + "\"", "key_change"},
		{"a digest of 31 bytes", "min_version = 2", "sha256 = \"" + strings.Repeat("ab", 31) + "\"", "64 lower-case"},
		{"a digest with a letter too many", "min_version = 2", "sha256 = \"" + strings.Repeat("ab", 32) + "x\"", "64 lower-case"},
		{"a duration that is none", "version = 7", "version = 7\nmax_lifetime = \"90\"", "whole seconds"},
		{"T12 witnesses, and one policy twice", good, strings.Replace(good, "version = 7", "version = 7\nwitness_threshold = 1", 1) + policy +
			"\n[[witness]]\noperator = \"a\"\nkey = \"" + testWitness + "\"\n", "stands twice"},
		{"no policy", policy, "", "at least one"},
		{"one policy twice", policy, policy + policy, "stands twice"},
		{"policy without version and hash", "min_version = 2\n", "", "min_version or sha256"},
		{"policy id no URI", `"https://issuer.example/policy/boot"`, `"boot"`, "not a URI"},
		{"T12 witnesses without a threshold", "min_version = 2", "min_version = 2\n[[witness]]\noperator = \"a\"\nkey = \"" + testWitness + "\"", "326"},
		{"T12 a threshold without witnesses", "version = 7", "version = 7\nwitness_threshold = 1", "326"},
		{"T12 a negative threshold", "version = 7", "version = 7\nwitness_threshold = -1", "326"},
		{"T11 one witness twice", good, strings.Replace(good, "version = 7", "version = 7\nwitness_threshold = 2", 1) +
			"\n[[witness]]\noperator = \"a\"\nkey = \"" + testWitness + "\"\n[[witness]]\noperator = \"b\"\nkey = \"" + testWitness + "\"\n", "326"},
		{"a witness without key", good, strings.Replace(good, "version = 7", "version = 7\nwitness_threshold = 1", 1) + "\n[[witness]]\noperator = \"a\"\n", "witness 1"},
		{"empty TPM root", "min_version = 2", "min_version = 2\n[[tpm_root]]", "tpm_root"},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			if !strings.Contains(good, r.old) {
				t.Fatalf("the file does not hold %q", r.old)
			}
			_, err := ParseTrust([]byte(strings.Replace(good, r.old, r.new, 1)))
			if err == nil || !strings.Contains(err.Error(), r.says) {
				t.Errorf("got %v, want an error with %q", err, r.says)
			}
		})
	}
	longest := good + "#" + strings.Repeat("x", maxTrustFile-len(good)-1)
	if _, err := ParseTrust([]byte(longest)); err != nil {
		t.Errorf("the longest: %v", err)
	}
	for name, raw := range map[string]string{"empty": "", "too long": longest + "x"} {
		if _, err := ParseTrust([]byte(raw)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// testWitness is a verifier key of a witness.
var testWitness = func() string {
	key, err := receipt.WitnessNoteKey("witness.example/w", ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey))
	if err != nil {
		panic(err)
	}
	return key.String()
}()

func TestTrustFileNamesWitnesses(t *testing.T) {
	good := strings.Replace(trustText(newKit(t)), "version = 7", "version = 7\nwitness_threshold = 1", 1) + "\n[[witness]]\noperator = \"a\"\nkey = \"" + testWitness + "\"\n"
	first, err := ParseTrust([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	text, err := first.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseTrust(text)
	if err != nil || got.Witnesses.Threshold != 1 || len(got.Witnesses.List) != 1 || got.Witnesses.List[0].Operator != "a" || got.Witnesses.List[0].Key.String() != testWitness {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestZeroTrustIsNotWritten(t *testing.T) {
	if _, err := (&Trust{}).Marshal(); err == nil {
		t.Error("a trust file that refuses everything was written")
	}
}

// TestPolicyPins covers what a relying party accepts of one policy.
func TestPolicyPins(t *testing.T) {
	hash := digestOf(7)
	tr := &Trust{Policies: []Pin{{ID: "urn:p:least", MinVersion: 3}, {ID: "urn:p:exact", Hash: hash.Value}, {ID: "urn:p:both", MinVersion: 3, Hash: hash.Value}}}
	sha384 := Digest{Algorithm: SHA384, Value: fill(48, 7)}
	rows := []struct {
		id      string
		version uint64
		hash    Digest
		code    denial.Reason
	}{
		{"urn:p:least", 3, digestOf(1), 0},
		{"urn:p:least", 2, digestOf(1), denial.PolicyRollback},
		{"urn:p:exact", 1, hash, 0},
		{"urn:p:exact", 9, digestOf(1), denial.PolicyHashMismatch},
		{"urn:p:exact", 9, sha384, denial.PolicyHashMismatch},
		{"urn:p:both", 3, hash, 0},
		{"urn:p:both", 2, hash, denial.PolicyRollback},
		{"urn:p:both", 3, digestOf(1), denial.PolicyHashMismatch},
		{"urn:p:other", 3, hash, denial.PolicyHashMismatch},
		{"urn:p:LEAST", 3, hash, denial.PolicyHashMismatch},
		{"", 3, hash, denial.PolicyHashMismatch},
	}
	for _, r := range rows {
		err := tr.checkPolicy(r.id, r.version, r.hash)
		if r.code != 0 {
			refused(t, err, r.code)
		} else if err != nil {
			t.Errorf("%s version %d: %v", r.id, r.version, err)
		}
	}
}

func TestTrustFilePinsAKeyChange(t *testing.T) {
	k := newKit(t)
	want := &KeyPin{Change: 3, Digest: fill(32, 3)}
	k.trust.KeyPin = want
	text, err := k.trust.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseTrust(text); err != nil || !reflect.DeepEqual(got.KeyPin, want) {
		t.Errorf("got %+v, %v, want %+v", got.KeyPin, err, want)
	}
	for _, bad := range []*KeyPin{{Digest: fill(32, 3)}, {Change: 3}, {Change: 3, Digest: fill(31, 3)}} {
		k.trust.KeyPin = bad
		if text, err := k.trust.Marshal(); err == nil {
			t.Errorf("%+v was written:\n%s", bad, text)
		}
	}
}

func TestTrustFileWritesNoTimeThatIsNone(t *testing.T) {
	k := newKit(t)
	text, err := k.trust.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "not_before") || strings.Contains(string(text), "not_after") {
		t.Errorf("keys without bounds have some:\n%s", text)
	}
}

// P21: the least and the most that a gate can accept of break-glass.
func TestBoundsOfBreakGlassInATrustFile(t *testing.T) {
	k := newKit(t)
	targets := func(n int) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf("file:/bin/%03d", i))
		}
		return list
	}
	for name, c := range map[string]struct {
		Emergency
		good bool
	}{
		"a second":         {Emergency{targets(1), time.Second, false}, true},
		"less":             {Emergency{targets(1), time.Second - 1, false}, false},
		"an hour":          {Emergency{targets(1), MaxBreakGlass, false}, true},
		"more":             {Emergency{targets(1), MaxBreakGlass + 1, false}, false},
		"as many targets":  {Emergency{targets(MaxPermissions), time.Hour, true}, true},
		"a target more":    {Emergency{targets(MaxPermissions + 1), time.Hour, true}, false},
		"no target at all": {Emergency{nil, time.Hour, true}, false},
	} {
		k.trust.BreakGlass = &c.Emergency
		if _, err := k.trust.Marshal(); (err == nil) != c.good {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// No trust file, and no key in it: whatever is asked of a key, the answer is that it is unknown.
func TestWithoutATrustFileNoKeyIsKnown(t *testing.T) {
	k := newKit(t)
	for _, trust := range []*Trust{nil, {}, {Keys: k.trust.Keys[1:]}} {
		id := k.artifact.Key().Thumbprint()
		refused(t, trust.CheckKey(id, issued), denial.KeyUnknown)
		refused(t, trust.CheckClaimed(id, issued), denial.KeyUnknown)
		refused(t, trust.CheckThen(id, issued), denial.KeyUnknown)
	}
	narrow := Trust{Keys: []TrustKey{{Purpose: PurposeArtifact, Key: k.artifact.Key(), NotAfter: t0}}}
	refused(t, narrow.CheckThen(k.artifact.Key().Thumbprint(), uint64(t0.Unix())), denial.KeyOutsideValidity)
}
