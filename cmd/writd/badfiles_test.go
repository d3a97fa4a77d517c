package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/governed-execution/writ/test/script"
)

// TestEveryCommandRefusesBadFiles: whatever stands in the place of a file, the configuration first, a person is told what is wrong and
// what to try.
func TestEveryCommandRefusesBadFiles(t *testing.T) {
	t.Chdir(t.TempDir())
	const config = `url = "https://issuer.example"
listen = "127.0.0.1:0"
log = "log.db"
tls_certificate = "tls.crt"
tls_key = "tls.key"
tpm_roots = ["roots.pem"]
[token]
module = "/nowhere.so"
token = "writ"
pin_file = "pin"
`
	for name, text := range map[string]string{"writd.toml": config, "pin": "1234\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(args ...string) (int, string, string) {
		var out, errs bytes.Buffer
		status := run(t.Context(), args, strings.NewReader(""), &out, &errs)
		return status, out.String(), errs.String()
	}
	root, needs := rootCommand(), map[string]script.Needs{}
	script.Called(t, root, run)
	script.BadFiles(t, root, run, needs) // without a configuration
	for _, path := range script.Paths(root) {
		needs[path] = script.Needs{Flags: []string{"--config", "writd.toml"}}
	}
	script.BadFiles(t, root, run, needs)
}
