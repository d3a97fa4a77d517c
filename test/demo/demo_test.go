package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/test/need"
	"github.com/governed-execution/writ/test/secret"
	"github.com/governed-execution/writ/test/swtpm"
)

// TestDemo runs the demo, which fails at the first step that does not go as it tells, with binaries built for the race
// detector. Then it searches all that was said and written for secrets.
func TestDemo(t *testing.T) {
	need.Have(t, swtpm.Available())
	bin := t.TempDir()
	build := exec.Command("go", "build", "-race", "-o", bin+"/", "./cmd/writd", "./cmd/writ", "./cmd/writ-gate")
	build.Dir = filepath.Join("..", "..")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building: %v\n%s", err, out)
	}
	t.Chdir(build.Dir)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := run(ctx, bin, false, func(d *demo) error { searchDemo(t, d); return nil }); err != nil {
		t.Fatal(err)
	}
}

// searchDemo holds H18 over the whole path: keys of people and hosts, requests, writ-gate exec, break-glass and writ audit, beside the
// issuer. The PIN, the TLS key and the private keys of people are in the files that hold them, and in nothing else that any
// program was told, has said or has left behind.
func searchDemo(t *testing.T, d *demo) {
	hidden, holders := secret.Set{}, map[string]bool{d.token.PINFile: false}
	pin, err := os.ReadFile(d.token.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	hidden.Add("the PIN", bytes.TrimSpace(pin))
	for _, name := range []string{"tls.key", "alice.pem", "bob.pem", "carol.pem", "robot.pem", "agent.pem"} {
		hidden.Add("the private key in "+name, privateKey(t, d.path(name)))
		holders[d.path(name)] = false
	}
	said := d.heard.Bytes()
	for _, command := range []string{"writ-gate ", `writ ["-c"`, `"audit" "verify"`, `"audit" "pull"`, `"break-glass"`, "writd "} {
		if !bytes.Contains(said, []byte(command)) {
			t.Errorf("nothing was said by %s: the search is of nothing", command)
		}
	}
	for _, name := range hidden.In(said) {
		t.Errorf("%s is in what programs were told or have said", name)
	}
	for _, of := range []string{"cmdline", "environ"} {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", d.server.Process.Pid, of))
		if err != nil && os.Geteuid() == 0 {
			t.Error(err)
		}
		for _, name := range hidden.In(data) {
			t.Errorf("%s is in the %s of writd", name, of)
		}
	}
	files := 0
	err = filepath.WalkDir(d.dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		files++
		if strings.HasPrefix(e.Name(), "core") {
			t.Errorf("a core file was written: %s", path)
		}
		data, err := os.ReadFile(path)
		for _, name := range hidden.In(data) {
			if _, ok := holders[path]; !ok {
				t.Errorf("%s is in %s", name, path)
			}
			holders[path] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for path, found := range holders {
		if !found {
			t.Errorf("the search does not find the secret in %s: it is wrong", path)
		}
	}
	for _, name := range []string{"evidence.tar", "log.db", "writd.log"} {
		if _, err := os.Stat(d.path(name)); err != nil || files < 30 {
			t.Errorf("%s was not searched, of %d files: %v", name, files, err)
		}
	}
}

// privateKey returns the secret bytes of a key in a PEM file.
func privateKey(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		t.Fatalf("%s is no PEM", path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	switch k := key.(type) {
	case ed25519.PrivateKey:
		return k.Seed()
	case *ecdsa.PrivateKey:
		raw, err := k.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	t.Fatalf("%s holds a %T", path, key)
	return nil
}
