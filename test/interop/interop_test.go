// Package interop shows that a COSE library in another language reads what Writ signs.
package interop

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/npm"
)

// files are what an installation consists of, besides the packages.
var files = []string{"package.json", "verify.js"}

// install returns a directory with the other library.
func install(t *testing.T) string {
	t.Helper()
	return npm.Install(t, ".", files...)
}

// question is one statement for the other library, with the answer that it must give.
type question struct {
	COSE     []byte `json:"cose"`
	Key      []byte `json:"key"`
	Detached []byte `json:"detached,omitempty"`

	name string
	want bool
	kid  statement.Thumbprint
	alg  int64
}

type answer struct {
	OK      bool   `json:"ok"`
	Error   string `json:"error"`
	Alg     int64  `json:"alg"`
	Kid     []byte `json:"kid"`
	Payload []byte `json:"payload"`
}

func ask(t *testing.T, dir string, questions []question) []answer {
	t.Helper()
	input, err := json.Marshal(questions)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), npm.Patience)
	defer cancel()
	node := exec.CommandContext(ctx, "node", filepath.Join(dir, "verify.js"))
	node.Stdin, node.Stderr = bytes.NewReader(input), os.Stderr
	output, err := node.Output()
	if err != nil {
		t.Fatalf("running the COSE library: %v", err)
	}
	var answers []answer
	if err := json.Unmarshal(output, &answers); err != nil || len(answers) != len(questions) {
		t.Fatalf("%d answers to %d questions, %v", len(answers), len(questions), err)
	}
	return answers
}

var (
	claims  = statement.Claims{Issuer: "https://issuer.example", Subject: "spiffe://example/host/1", IssuedAt: 1_800_000_000}
	payload = []byte{0xa1, 0x01, 0x63, 'y', 'e', 's'}
)

func sign(t *testing.T, s statement.Signer, kind statement.Kind) []byte {
	t.Helper()
	leaf, err := statement.Sign(context.Background(), s, kind, claims, payload)
	if err != nil {
		t.Fatal(err)
	}
	return leaf
}

// signers returns a signer for each algorithm that Writ emits.
func signers(t *testing.T) map[int64]statement.Signer {
	t.Helper()
	p256, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	all := map[int64]statement.Signer{}
	for alg, priv := range map[int64]crypto.Signer{-7: p256, -35: p384, -8: ed} {
		if all[alg], err = statement.NewSigner(priv); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

// TestAnotherLibraryVerifiesOurStatements: every kind, under every algorithm, with and without a receipt.
func TestAnotherLibraryVerifiesOurStatements(t *testing.T) {
	dir := install(t)
	var questions []question
	for alg, s := range signers(t) {
		for _, kind := range statement.Kinds() {
			q := question{COSE: sign(t, s, kind), Key: s.Key().COSE(), name: kind.String(), want: true, kid: s.Key().Thumbprint(), alg: alg}
			if kind == statement.Receipt {
				q.Detached = payload
			}
			questions = append(questions, q)
		}
		transparent, err := statement.Attach(sign(t, s, statement.Artifact), sign(t, s, statement.Receipt))
		if err != nil {
			t.Fatal(err)
		}
		questions = append(questions, question{COSE: transparent, Key: s.Key().COSE(), name: "artifact with a receipt", want: true,
			kid: s.Key().Thumbprint(), alg: alg})
	}
	check(t, questions, ask(t, dir, questions))
}

// TestAnotherLibraryRefusesChangedArtifacts changes each byte of an artifact, and the key.
func TestAnotherLibraryRefusesChangedArtifacts(t *testing.T) {
	dir := install(t)
	all := signers(t)
	s := all[-7]
	leaf := sign(t, s, statement.Artifact)
	questions := []question{{COSE: leaf, Key: s.Key().COSE(), name: "unchanged", want: true, kid: s.Key().Thumbprint(), alg: -7}}
	for i := 2; i < len(leaf); i++ { // behind the tag and the array head, which are not signed
		changed := bytes.Clone(leaf)
		changed[i] ^= 1
		questions = append(questions, question{COSE: changed, Key: s.Key().COSE(), name: "changed byte"})
	}
	questions = append(questions, question{COSE: leaf, Key: signers(t)[-7].Key().COSE(), name: "another key"})
	check(t, questions, ask(t, dir, questions))
}

func check(t *testing.T, questions []question, answers []answer) {
	t.Helper()
	for i, a := range answers {
		q := questions[i]
		switch {
		case a.OK != q.want:
			t.Errorf("%s (algorithm %d): got %v %s, want %v: %x", q.name, q.alg, a.OK, a.Error, q.want, q.COSE)
		case !a.OK:
		case a.Alg != q.alg || !bytes.Equal(a.Kid, q.kid[:]) || q.Detached == nil && !bytes.Equal(a.Payload, payload):
			t.Errorf("%s (algorithm %d): got algorithm %d, kid %x, payload %x", q.name, q.alg, a.Alg, a.Kid, a.Payload)
		}
	}
}
