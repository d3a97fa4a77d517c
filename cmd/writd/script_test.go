package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/need"
	"github.com/governed-execution/writ/test/script"
	"github.com/governed-execution/writ/test/softhsm"
)

// TestMain lets the test program be writd, its signer process, and people who sign.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "signer" || os.Getenv(beWritd) != "" {
		main()
	}
	testscript.Main(m, map[string]func(){"writd": main, "sign": signMain})
}

// beWritd is the variable that makes a child of this program be writd.
const beWritd = "TEST_BE_WRITD"

// TestScripts runs the scripts with three tokens and the keys of four people.
func TestScripts(t *testing.T) {
	files := map[string][]byte{}
	for _, name := range []string{"token", "third", "second"} { // scripts run at the same time
		soft, err := softhsm.Init(t.TempDir())
		if err != nil && need.All() {
			t.Fatal(err)
		}
		if err != nil {
			break // the scripts that need a token skip
		}
		files[name+".toml"] = fmt.Appendf(nil, "url = \"https://issuer.example:8443\"\nlisten = \"127.0.0.1:0\"\nlog = \"log.db\"\n"+
			"tls_cert = \"tls.pem\"\ntls_key = \"tls.key\"\n[token]\nmodule = %q\ntoken = %q\npin_file = %q\nenvironment = [%q]\n",
			soft.Module, soft.Label, soft.PINFile, soft.Env()[0])
		files["regulated.toml"] = append([]byte("profile = \"regulated\"\n"), files[name+".toml"]...) // the last of them
	}
	for _, name := range []string{"alice", "bob", "wendy", "mallory"} {
		public, private, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		key, err := statement.NewKey(public)
		if err != nil {
			t.Fatal(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		files[name+".key"] = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
		if files[name+".pub"], err = key.PEM(); err != nil {
			t.Fatal(err)
		}
	}
	files["keys.toml"] = ceremonyScript(files)
	script.Run(t, files)
}

// ceremonyScript writes a script that makes every key of an issuer.
func ceremonyScript(files map[string][]byte) []byte {
	s := []byte("schema = 1\ntitle = \"Keys of issuer.example\"\nplace = \"Room 4\"\nissuer = \"https://issuer.example\"\n")
	for _, p := range [][2]string{{"alice", "custodian"}, {"bob", "custodian"}, {"wendy", "witness"}} {
		s = fmt.Appendf(s, "[[participant]]\nperson = \"mailto:%s@example.org\"\nrole = %q\nkey = \"\"\"\n%s\"\"\"\n", p[0], p[1], files[p[0]+".pub"])
	}
	s = append(s, "[[step]]\ndo = \"confirm\"\nsay = \"All are present.\"\n"...)
	for _, do := range []string{"make-key", "read-back", "birth"} {
		for _, purpose := range record.Purposes() {
			s = fmt.Appendf(s, "[[step]]\ndo = %q\npurpose = %q\n", do, purpose)
		}
	}
	return s
}

// signMain is "sign FILE KEY…": people sign a draft, or add their signatures to a step.
func signMain() {
	if err := signFile(os.Args[1], os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func signFile(path string, keys []string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b, err := record.DecodeBundle(data)
	for _, name := range keys {
		s, e := personSigner(name)
		if e != nil {
			return e
		}
		if err == nil {
			b, err = b.Cosign(context.Background(), s)
		} else if d, e := record.DecodeDraft(data); e != nil {
			return e
		} else {
			b, err = d.Sign(context.Background(), s)
		}
		if err != nil {
			return err
		}
	}
	enc, err := b.Encode()
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Clean(path), enc, 0o600)
}

func personSigner(path string) (statement.Signer, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	priv, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	return statement.NewSigner(priv.(ed25519.PrivateKey))
}
