package main

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/script"
	"github.com/governed-execution/writ/test/softtpm"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"writ-gate": main})
}

func TestScripts(t *testing.T) {
	public, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := statement.NewKey(public)
	if err != nil {
		t.Fatal(err)
	}
	trust, err := (&artifact.Trust{Version: 1, Expires: time.Now().Add(time.Hour).Truncate(time.Second).UTC(), Genesis: [32]byte{1},
		Issuer: "https://issuer.example", Log: "https://issuer.example/log", Audience: "https://gate.example/a", RevocationAge: time.Minute,
		Lifetime: time.Hour, Keys: []artifact.TrustKey{{Purpose: artifact.PurposeArtifact, Key: key}},
		Policies: []artifact.Pin{{ID: "https://issuer.example/policy", MinVersion: 1}}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	root := softtpm.NewVendor(t).Root.Raw
	script.Run(t, map[string][]byte{"trust.toml": trust, "ca.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: root})})
}
