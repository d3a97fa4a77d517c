package hsm

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/softhsm"
)

// kindOf is one kind that each purpose signs.
var kindOf = map[Purpose]statement.Kind{
	Artifact: statement.Artifact, Record: statement.Record, Log: statement.Receipt, Status: statement.StatusList,
}

func config(soft *softhsm.Token) Config {
	return Config{Module: soft.Module, Token: soft.Label, PIN: PINFromFile(soft.PINFile)}
}

func openWith(t testing.TB, cfg Config) *Token {
	t.Helper()
	tk, err := Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tk.Close(); err != nil {
			t.Error(err)
		}
	})
	return tk
}

func open(t testing.TB) *Token {
	t.Helper()
	return openWith(t, config(softhsm.New(t)))
}

func create(t testing.TB, tk *Token, p Purpose) statement.Thumbprint {
	t.Helper()
	k, err := tk.Create(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	return k.Thumbprint()
}

// signer makes the key for a purpose and returns its use.
func newSigner(t testing.TB, tk *Token, p Purpose) statement.Signer {
	t.Helper()
	s, err := tk.Signer(t.Context(), p, create(t, tk, p))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sign(ctx context.Context, s statement.Signer, kind statement.Kind) ([]byte, error) {
	c := statement.Claims{Issuer: "https://issuer.example", Subject: "urn:example:subject", IssuedAt: 1}
	return statement.Sign(ctx, s, kind, c, []byte{0xa0})
}

func refused(t testing.TB, err error, want denial.Reason) {
	t.Helper()
	if !denial.Is(err, want) {
		t.Fatalf("got %v, want %d", err, want.Code())
	}
}

// signs fails the test unless the signer makes a statement that verifies with its key.
func signs(t testing.TB, s statement.Signer, kind statement.Kind) {
	t.Helper()
	leaf, err := sign(t.Context(), s, kind)
	if err != nil {
		t.Fatal(err)
	}
	env, err := statement.Decode(leaf, len(leaf))
	if err != nil {
		t.Fatal(err)
	}
	var keys statement.Keys
	if err := keys.Add(s.Key(), kind); err != nil {
		t.Fatal(err)
	}
	if kind == statement.Receipt {
		_, err = env.VerifyDetached(keys, kind, []byte{0xa0})
	} else {
		_, err = env.Verify(keys, kind)
	}
	if err != nil && kind != statement.Receipt { // a receipt needs proofs too; its signature was verified by Sign
		t.Fatal(err)
	}
}

// catcher keeps what it should sign.
type catcher struct {
	statement.Signer
	tbs statement.ToBeSigned
}

func (c *catcher) Sign(ctx context.Context, tbs statement.ToBeSigned) ([]byte, error) {
	c.tbs = tbs
	return c.Signer.Sign(ctx, tbs)
}

// structure returns what package statement would have the signer sign.
func structure(t testing.TB, s statement.Signer, kind statement.Kind) statement.ToBeSigned {
	t.Helper()
	c := &catcher{Signer: s}
	if _, err := sign(t.Context(), c, kind); err != nil {
		t.Fatal(err)
	}
	return c.tbs
}

// healed waits until the token serves again, at most the 5 s of H10.
func healed(t testing.TB, tk *Token) {
	t.Helper()
	settled(t, tk)
	if err := tk.Healthy(); err != nil {
		t.Fatal(err)
	}
}

// settled waits until nothing tries to heal the token, because it is healthy or because there is no use.
func settled(t testing.TB, tk *Token) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		tk.healing.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("still healing after 5 s")
	}
}

// readWrite runs f in a session that can change the token.
func readWrite(t testing.TB, tk *Token, f func(pkcs11.SessionHandle)) {
	t.Helper()
	session, err := tk.mod.OpenSession(tk.conn.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		t.Fatal(err)
	}
	defer tk.mod.CloseSession(session)
	f(session)
}

// set returns the templates with one attribute changed or added.
func set(template []*pkcs11.Attribute, attribute uint, value any) []*pkcs11.Attribute {
	out := []*pkcs11.Attribute{pkcs11.NewAttribute(attribute, value)}
	for _, a := range template {
		if a.Type != attribute {
			out = append(out, a)
		}
	}
	return out
}

// generateWith makes a key as Create does, except for one attribute of its private half.
func generateWith(t testing.TB, tk *Token, p Purpose, id string, attribute uint, value any) statement.Key {
	t.Helper()
	var key statement.Key
	readWrite(t, tk, func(session pkcs11.SessionHandle) {
		public, private, _ := templates([]byte(id), p.label())
		mech := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}
		object, _, err := tk.mod.GenerateKeyPair(session, mech, public, set(set(private, pkcs11.CKA_COPYABLE, false), attribute, value))
		if err != nil {
			t.Fatal(err)
		}
		if key, _, err = tk.publicKey(session, object); err != nil {
			t.Fatal(err)
		}
	})
	return key
}

// destroy destroys the objects of a class that have the label of a purpose.
func destroy(t testing.TB, tk *Token, class uint, p Purpose) {
	t.Helper()
	readWrite(t, tk, func(session pkcs11.SessionHandle) {
		found, err := tk.find(session, pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, p.label()))
		if err != nil || len(found) == 0 {
			t.Fatalf("got %d objects and %v, want some", len(found), err)
		}
		for _, object := range found {
			if err := tk.mod.DestroyObject(session, object); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func writePIN(t testing.TB, soft *softhsm.Token, pin string) {
	t.Helper()
	if err := os.WriteFile(soft.PINFile, []byte(pin), 0o600); err != nil {
		t.Fatal(err)
	}
}
