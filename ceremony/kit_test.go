package ceremony

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
)

// person is somebody with a key.
type person struct {
	uri  string
	role Role
	statement.Signer
}

// cast returns two custodians and a witness; the first has an ES256 key, the others Ed25519.
func cast(t testing.TB) []person {
	t.Helper()
	all := []person{{"mailto:alice@example.org", Custodian, nil}, {"mailto:bob@example.org", Custodian, nil}, {"mailto:wendy@example.net", Witness, nil}}
	for i := range all {
		all[i].Signer = newSigner(t, i == 0)
	}
	return all
}

func newSigner(t testing.TB, p256 bool) statement.Signer {
	t.Helper()
	if p256 {
		return stock.Signer(t)
	}
	_, priv, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return stock.Must(statement.NewSigner(priv))(t)
}

// steps are those of two keys.
const steps = `
[[step]]
do = "confirm"
say = "All are present. The release is the one that was announced."
[[step]]
do = "make-key"
purpose = "artifact"
[[step]]
do = "make-key"
purpose = "log"
[[step]]
do = "read-back"
purpose = "artifact"
[[step]]
do = "read-back"
purpose = "log"
[[step]]
do = "birth"
purpose = "artifact"
[[step]]
do = "birth"
purpose = "log"
[[step]]
do = "confirm"
say = "The PIN envelope is sealed."
`

// source writes a script.
func source(t testing.TB, people []person, steps string) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("schema = 1\ntitle = \"Keys of issuer.example\"\nplace = \"Room 4\"\nissuer = \"https://issuer.example\"\n")
	for _, p := range people {
		pem, err := p.Key().PEM()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "[[participant]]\nperson = %q\nrole = %q\nkey = \"\"\"\n%s\"\"\"\n", p.uri, p.role, pem)
	}
	return b.String() + steps
}

func parse(t *testing.T, src string) *Script {
	t.Helper()
	s, err := Parse([]byte(src))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// softToken behaves like a token, in memory.
type softToken struct {
	t    testing.TB
	keys map[statement.Thumbprint]record.Birth
}

func newToken(t testing.TB) *softToken {
	return &softToken{t, map[statement.Thumbprint]record.Birth{}}
}

func (s *softToken) Make(_ context.Context, purpose string, _ statement.Thumbprint) (record.Birth, error) {
	b := record.Birth{Purpose: purpose, Key: newSigner(s.t, true).Key(), Attributes: fit(),
		Token: map[string]string{"module": "/lib/soft.so", "serial": "0001"}}
	s.keys[b.Key.Thumbprint()] = b
	return b, nil
}

func (s *softToken) Read(_ context.Context, key statement.Thumbprint) (record.Birth, error) {
	b, ok := s.keys[key]
	if !ok {
		return b, denial.New(denial.HSMKeyPolicy, "no such key")
	}
	b.Attributes = maps.Clone(b.Attributes)
	return b, nil
}

// hold holds the ceremony to its end, or up to the given number of steps, with everybody confirming every step.
func hold(t testing.TB, s *Script, people []person, token Token, host Quoter, steps int) *State {
	t.Helper()
	st, err := Replay(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= steps; n++ {
		d, err := st.Prepare(context.Background(), token, host, uint64(1000+n))
		if err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
		if err := st.Append(confirm(t, d, people...)); err != nil {
			t.Fatalf("step %d: %v", n, err)
		}
	}
	return st
}

// confirm has people sign a draft.
func confirm(t testing.TB, d record.Draft, people ...person) record.Bundle {
	t.Helper()
	b, err := d.Sign(context.Background(), people[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range people[1:] {
		if b, err = b.Cosign(context.Background(), p); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// wantDenial asserts the code, and a part of what is said so that no other check of the same code passes for this one.
func wantDenial(t *testing.T, err error, reason denial.Reason, saying string) {
	t.Helper()
	if !denial.Is(err, reason) || !strings.Contains(err.Error(), saying) {
		t.Errorf("got %v, want %v saying %q", err, reason, saying)
	}
	if reason.Hint() == "" {
		t.Errorf("%v has no hint", reason)
	}
}
