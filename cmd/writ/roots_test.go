package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/need"
	"github.com/governed-execution/writ/test/softtpm"
)

// writ runs a command and returns its exit status and what it wrote.
func writ(args ...string) (status int, stdout, stderr string) {
	var out, errs bytes.Buffer
	status = run(context.Background(), args, strings.NewReader(""), &out, &errs)
	return status, out.String(), errs.String()
}

// cas is a folder with CAs of two vendors, in several forms, and with files of other sorts.
func cas(t *testing.T) (dir string, a, b *softtpm.Vendor) {
	t.Helper()
	dir = t.TempDir()
	a, b = softtpm.NewVendor(t), softtpm.NewVendor(t)
	tpm := a.New(t, softtpm.Options{})
	encode := func(der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}) }
	for name, data := range map[string][]byte{
		"A/RootCA/a.cer": a.Root.Raw, "A/RootCA/a.pem": encode(a.Root.Raw), "B/b.crt": append(bytes.Clone(b.Root.Raw), '\n'),
		"B/list.crl": b.Revoke(t, 1e6*time.Hour, big.NewInt(77)).Raw, "leaf.pem": encode(tpm.Certificate),
		"broken.pem": encode([]byte{0x30, 0}), "version.txt": []byte("1.0"),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir, a, b
}

func TestRootsImportShowsWhatItFound(t *testing.T) {
	dir, a, b := cas(t)
	status, out, errs := writ("roots", "import", dir, "--json")
	if status != exitYes {
		t.Fatalf("status %d: %s", status, errs)
	}
	var got struct {
		Certificates int
		Other        int `json:"other_files"`
		CAs          []struct {
			SHA256, Role string
			Known        bool
			Copies       int
			Against      []string
		}
		Lists []struct {
			Revoked int
			Fresh   bool
		}
		Unreadable []unreadable
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if got.Certificates != 3 || len(got.CAs) != 3 || got.Other != 1 || len(got.Unreadable) != 1 || len(got.Lists) != 1 || got.Lists[0].Revoked != 1 || !got.Lists[0].Fresh {
		t.Errorf("got %s", out)
	}
	roots := 0
	for _, c := range got.CAs {
		switch c.SHA256 {
		case fmt.Sprintf("%x", sha256.Sum256(a.Root.Raw)):
			roots++
			if c.Role != "root" || c.Known || c.Copies != 2 || len(c.Against) != 0 {
				t.Errorf("got %+v for the root of A", c)
			}
		case fmt.Sprintf("%x", sha256.Sum256(b.Root.Raw)):
			roots++
		default:
			if len(c.Against) == 0 {
				t.Errorf("nothing speaks against an EK certificate as a CA")
			}
		}
	}
	if roots != 2 {
		t.Errorf("%d of 2 roots", roots)
	}
	if _, text, _ := writ("roots", "import", dir); !strings.Contains(text, "not known to this version") || !strings.Contains(text, "read 2 times") {
		t.Errorf("got %s", text)
	}
}

func TestRootsImportMakesAnchors(t *testing.T) {
	dir, a, b := cas(t)
	out := t.TempDir()
	names := []string{filepath.Join(out, "alice.pem"), filepath.Join(out, "bob.pem")}
	for _, name := range names {
		if status, _, errs := writ("key", "new", "--out", name); status != exitYes {
			t.Fatalf("making a key: %s", errs)
		}
	}
	prefix := func(v *softtpm.Vendor) string { return fmt.Sprintf("%x", sha256.Sum256(v.Root.Raw))[:12] }
	choice := []string{"roots", "import", dir, "--id", "https://i.example/anchors", "--version", "3", "--root", prefix(b), "--path", prefix(a), "--lists",
		"--withdraw", strings.Repeat("ab", 32), "--deny", "53544D20:73.0-73.4", "--issuer", "https://i.example"}
	file := filepath.Join(out, "anchors.toml")
	if status, _, errs := writ(append(choice, "--toml", file)...); status != exitYes {
		t.Fatalf("status %d: %s", status, errs)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := firmwarepolicy.ParseTOML(text)
	if err != nil {
		t.Fatal(err)
	}
	anchors, err := doc.Anchors()
	if err != nil {
		t.Fatal(err)
	}
	r := anchors.EKRules()
	if roots := anchors.Roots(); len(roots) != 1 || !roots[0].Equal(b.Root) || len(r.Path) != 1 || len(r.Lists) != 1 || len(r.Firmware) != 1 {
		t.Errorf("got %d roots and %+v", len(roots), r)
	}
	act := filepath.Join(out, "act")
	if status, _, errs := writ(append(choice, "--key", names[0], "--key", names[1], "--out", act)...); status != exitYes {
		t.Fatalf("status %d: %s", status, errs)
	}
	raw, err := os.ReadFile(act)
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := record.DecodeBundle(raw)
	if err != nil || len(bundle) != 2 {
		t.Fatalf("%d signatures, %v", len(bundle), err)
	}
	env, err := statement.Decode(bundle[0], statement.MaxStatement)
	if err != nil {
		t.Fatal(err)
	}
	var p record.Policy
	if err := statement.Unmarshal(env.Payload(), &p); err != nil || p.Check() != nil || p.Kind != record.Anchors || p.Revision != 3 || env.Claims().Issuer != "https://i.example" {
		t.Errorf("got %v and a policy of kind %s, version %d", err, p.Kind, p.Revision)
	}
	if status, shown, errs := writ("inspect", "statement", act); status != exitYes || !strings.Contains(shown, "anchors") {
		t.Errorf("inspect: status %d, %s%s", status, shown, errs)
	}
}

func TestRootsImportRefuses(t *testing.T) {
	dir, a, _ := cas(t)
	leaf := fmt.Sprintf("%x", sha256.Sum256(pemOf(t, filepath.Join(dir, "leaf.pem"))))
	root := fmt.Sprintf("%x", sha256.Sum256(a.Root.Raw))
	toml := filepath.Join(t.TempDir(), "a.toml")
	for name, row := range map[string]struct {
		args []string
		want int
	}{
		"a folder that is not there":   {[]string{dir + "/no"}, exitFault},
		"a root that was not read":     {[]string{dir, "--root", "0123456789"}, exitMisuse},
		"a root by seven digits":       {[]string{dir, "--root", root[:7]}, exitMisuse},
		"an EK certificate as a root":  {[]string{dir, "--root", leaf}, exitDenied},
		"a vendor of whom none is":     {[]string{dir, "--vendor", "Infineon"}, exitMisuse},
		"no version":                   {[]string{dir, "--root", root, "--id", "https://i.example/a", "--toml", toml}, exitMisuse},
		"half a digest to withdraw":    {[]string{dir, "--withdraw", "abcd"}, exitMisuse},
		"firmware without a version":   {[]string{dir, "--deny", "53544D20"}, exitMisuse},
		"firmware of nobody":           {[]string{dir, "--deny", "STM:1.0", "--id", "https://i.example/a", "--version", "1", "--toml", toml}, exitDenied},
		"withdrawn and in force":       {[]string{dir, "--root", root, "--withdraw", root, "--id", "https://i.example/a", "--version", "1", "--toml", toml}, exitDenied},
		"an id that is not a full URI": {[]string{dir, "--id", "anchors", "--version", "1", "--toml", toml}, exitDenied},
	} {
		if status, _, errs := writ(append([]string{"roots", "import"}, row.args...)...); status != row.want {
			t.Errorf("%s: status %d, want %d: %s", name, status, row.want, errs)
		}
	}
	if _, err := os.Stat(toml); err == nil {
		t.Error("anchors were written")
	}
}

func pemOf(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return pemBlocks(data, "CERTIFICATE")[0]
}

// What Microsoft publishes is known, but for what it holds of no CA; and all roots that are good fit into one statement.
func TestRootsImportOfTheCorpus(t *testing.T) {
	corpus := need.Corpus(t)
	found, err := findCAs([]string{filepath.Join(corpus, "ekcert/trustedtpm")}, time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	unknown, excepted := 0, 0
	for _, c := range found.cas {
		if !c.isKnown {
			unknown++
		}
		if !c.root && c.cert.SignatureAlgorithm.String() == "SHA1-RSA" && len(c.against) == 0 {
			excepted++
		}
	}
	if len(found.cas) != 2184 || unknown != 0 || excepted == 0 || len(found.unreadable) != 6 {
		t.Errorf("%d CAs, %d unknown, %d excepted, %d cannot be read", len(found.cas), unknown, excepted, len(found.unreadable))
	}
	set, err := (&rootsFlags{known: true, id: "https://i.example/a", version: 1, valid: time.Hour}).choose(found)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := firmwarepolicy.NewAnchors(set); err != nil || len(set.Roots) < 40 {
		t.Errorf("%d roots: %v", len(set.Roots), err)
	}
}

// What is shown of an EK certificate: a way to a root where the CAs are there, and else the issuer that is missing.
func TestInspectEKCertShowsTheWay(t *testing.T) {
	dir, a, _ := cas(t)
	leaf := filepath.Join(dir, "leaf.pem")
	for name, row := range map[string]struct {
		args []string
		want int
		says []string
	}{
		"without CAs":               {nil, exitYes, []string{`"missing_issuer":"CN=Software TPM vendor"`, `"verdict":"consistent"`}},
		"with its vendor's root":    {[]string{"--ca", filepath.Join(dir, "A")}, exitYes, []string{fmt.Sprintf("%x", sha256.Sum256(a.Root.Raw)), `"chain":`, `"verdict":"consistent"`}},
		"with another vendor's":     {[]string{"--ca", filepath.Join(dir, "B/b.crt")}, exitDenied, []string{`"missing_issuer"`, `"code":321`}},
		"with a list of its vendor": {[]string{"--ca", filepath.Join(dir, "A"), "--ca", revoking(t, a)}, exitDenied, []string{`"code":803`}},
	} {
		status, out, errs := writ(append([]string{"inspect", "ekcert", leaf, "--json"}, row.args...)...)
		if status != row.want {
			t.Errorf("%s: status %d, want %d: %s%s", name, status, row.want, out, errs)
		}
		for _, text := range row.says {
			if !strings.Contains(out, text) {
				t.Errorf("%s: no %s in %s", name, text, out)
			}
		}
	}
}

// revoking writes a list that revokes every EK certificate of a vendor: softtpm gives all of them the number 2.
func revoking(t *testing.T, v *softtpm.Vendor) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "list.crl")
	if err := os.WriteFile(path, v.Revoke(t, 1e6*time.Hour, big.NewInt(2)).Raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}
