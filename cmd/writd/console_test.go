package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/governed-execution/writ/console"
)

func TestReadersFile(t *testing.T) {
	key := strings.Repeat("0a", 32)
	path := filepath.Join(t.TempDir(), "readers.toml")
	for name, c := range map[string]struct {
		text string
		good bool
	}{
		"one":            {"[[reader]]\nname = \"ada\"\nspki = \"" + key + "\"\nroles = [\"auditor\"]\n", true},
		"none":           {"", true},
		"who signs in":   {"[[reader]]\nname = \"bob\"\niss = \"https://login.example\"\nsub = \"1\"\nroles = [\"auditor\"]\n", true},
		"a name only":    {"[[reader]]\nname = \"bob\"\nroles = [\"auditor\"]\n", false},
		"an unknown key": {"[[reader]]\nname = \"ada\"\nspki = \"" + key + "\"\nroles = [\"auditor\"]\nadmin = true\n", false},
		"half a key":     {"[[reader]]\nname = \"ada\"\nspki = \"0a\"\nroles = [\"auditor\"]\n", false},
		"no hexadecimal": {"[[reader]]\nname = \"ada\"\nspki = \"ada\"\nroles = [\"auditor\"]\n", false},
		"a new role":     {"[[reader]]\nname = \"ada\"\nspki = \"" + key + "\"\nroles = [\"root\"]\n", false},
		"not TOML":       {"[[", false},
	} {
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		readers, err := readReaders(path)
		if (err == nil) != c.good {
			t.Errorf("%s: got %v", name, err)
		}
		if name == "one" && (len(readers) != 1 || readers[0].Name != "ada" || readers[0].Roles[0] != console.Auditor || readers[0].SPKI[0] != 10) {
			t.Errorf("got %+v", readers)
		}
	}
	if _, err := readReaders(path + "2"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// A01: a console without its CA or its readers does not start.
func TestA01_ConsoleWithoutItsFilesDoesNotStart(t *testing.T) {
	c := &config{Console: consoleConfig{Listen: "127.0.0.1:0", ClientCA: filepath.Join(t.TempDir(), "ca.pem")}}
	if _, err := c.Console.clientCAs(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := os.WriteFile(c.Console.ClientCA, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	cas, err := c.Console.clientCAs()
	if err != nil || len(cas) != 0 {
		t.Fatalf("got %d certificates, %v", len(cas), err)
	}
	if pages, err := c.openConsole(&service{}, nil, nil); err == nil || pages != nil {
		t.Error("a console starts without its files")
	}
	if pages, err := (&config{}).openConsole(&service{}, nil, nil); err != nil || pages != nil {
		t.Errorf("without a listener there is a console: %v", err)
	}
}

// A01: a console that nobody could sign in to, or with a provider that is reached in the clear, does not start.
func TestA01_SignInWithoutKeysDoesNotStart(t *testing.T) {
	keys := filepath.Join(t.TempDir(), "keys.json")
	c := signInConfig{Address: "https://console.example", Issuer: "https://login.example", ClientID: "writ", Authorize: "https://login.example/authorize", Keys: keys}
	if _, err := c.open(); !errors.Is(err, errMisuse) {
		t.Errorf("without keys: got %v", err)
	}
	good := `{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"26tl-ZUNWTdlyggQDKlOnEUrV6AnRnfrcXaxsvI380A","y":"zCyjyvha1a1PXIEf6Bwq_Yq2UAgz96peLq5hQSWc2kQ"}]}`
	if err := os.WriteFile(keys, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := c.open(); err != nil {
		t.Errorf("got %v", err)
	}
	c.Authorize = "http://login.example/authorize"
	if _, err := c.open(); !errors.Is(err, errMisuse) {
		t.Errorf("in the clear: got %v", err)
	}
}
