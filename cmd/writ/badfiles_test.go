package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/governed-execution/writ/test/script"
)

// TestEveryCommandRefusesBadFiles: whatever stands in the place of a file, a person is told what is wrong and what to try.
func TestEveryCommandRefusesBadFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	for name, data := range newKit(t).files {
		if err := os.WriteFile(filepath.Clean(name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if status, _, errs := call(t, "key", "new", "-o", "ada"); status != exitYes {
		t.Fatal(errs)
	}
	act := []string{"--issuer", issuerURI, "--key", "ada", "-o", "out"}
	needs := map[string]script.Needs{
		"writ audit lineage":      {Flags: []string{"--bundle", "bundle.tar"}, Args: []string{"00"}},
		"writ audit verify":       {Args: []string{"bundle.tar"}},
		"writ audit report":       {Args: []string{"bundle.tar"}},
		"writ audit show":         {Args: []string{"bundle.tar"}},
		"writ break-glass attest": {Flags: []string{"--key", "ada"}, Args: []string{"file.glass"}},
		"writ break-glass review": {Flags: append([]string{"--finding", "x", "--verdict", "justified"}, act...), Args: []string{"file.glass"}},
		"writ ceremony verify":    {Flags: []string{"--script", "keys.toml", "--participant", "mailto:alice@example.org=alice.pub"}, Args: []string{"keys.transcript"}},
		"writ host approve":       {Flags: append([]string{"--id", hostURI, "--ek", "0909090909090909090909090909090909090909090909090909090909090909"}, act...)},
		"writ initiator approve":  {Flags: append([]string{"--id", robotURI, "--kind", "service", "--public", "ada.pub"}, act...)},
		"writ inspect ekcert":     {Args: []string{"ek.der"}},
		"writ inspect quote":      {Args: []string{"quote.attest"}},
		"writ inspect eventlog":   {Args: []string{"boot.log"}},
		"writ inspect ima":        {Args: []string{"ima.list"}, Fine: []string{"arguments"}},
		"writ revoke":             {Flags: act, Args: []string{"host", hostURI}},
		"writ sign":               {Args: []string{"genesis.draft"}},
		"writ genesis fetch":      {Flags: []string{"--server", "https://127.0.0.1:1"}, Reads: []string{"ca"}},
		"writ verify":             {Args: []string{"artifact.cose"}},
		"writ monitor":            {Flags: []string{"--server", "https://127.0.0.1:1", "--ca", "ada"}},
		"writ monitor evidence":   {Args: []string{"."}},
	}
	root := (&app{}).root()
	run := func(args ...string) (int, string, string) { return call(t, args...) }
	script.Called(t, root, run)
	unread := script.BadFiles(t, root, run, needs)
	// The others come after an answer of an issuer or a TPM, or name several files together.
	for _, flag := range []string{"writ verify --trust", "writ verify --status", "writ audit verify --trust", "writ audit verify --known", "writ audit report --trust",
		"writ audit lineage --bundle", "writ audit lineage --trust", "writ sign --key", "writ revoke --key", "writ host approve --key", "writ initiator approve --public",
		"writ inspect ekcert --ca", "writ inspect ima --policy", "writ monitor --trust", "writ monitor evidence --key-history", "writ ceremony verify --script",
		"writ break-glass review --key", "writ genesis fetch --ca"} {
		if slices.Contains(unread, flag) {
			t.Errorf("%s: no call came to read its file", flag)
		}
	}
}
