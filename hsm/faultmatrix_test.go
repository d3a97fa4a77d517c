package hsm

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/faultp11"
	"github.com/governed-execution/writ/test/softhsm"
)

// returned are the values that a call returns wrongly in the matrix.
var returned = []pkcs11.Error{
	pkcs11.CKR_DEVICE_ERROR, pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_SESSION_HANDLE_INVALID, 0x80000001, // the sample
	pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED,
	pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_CANT_LOCK, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_DEVICE_MEMORY,
	pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_FUNCTION_CANCELED, pkcs11.CKR_KEY_HANDLE_INVALID, pkcs11.CKR_MECHANISM_INVALID,
	pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_OPERATION_ACTIVE, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_COUNT,
	pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED,
}

// The calls that each act makes of the module.
var (
	opening = []string{"C_Initialize", "C_GetSlotList", "C_GetTokenInfo", "C_GetInfo", "C_OpenSession", "C_Login"}
	finding = []string{"C_FindObjectsInit", "C_FindObjects", "C_FindObjectsFinal", "C_GetAttributeValue"}
	signing = []string{"C_SignInit", "C_Sign"}
	making  = []string{"C_OpenSession", "C_GenerateKeyPair", "C_CloseSession"}
)

// cell is one call that goes wrong once, before it takes effect or after.
type cell struct {
	call, when string
	code       pkcs11.Error
}

func (c cell) rule(skip int) string {
	return fmt.Sprintf("%s %d 1 %s %#x", c.call, skip, c.when, uint(c.code))
}

// cells are all of the calls with every value, or with the sample where the whole matrix is not asked for.
func cells(calls ...[]string) []cell {
	codes, whens := returned[:4], []string{"rv"}
	if os.Getenv("FAULTS") == "all" {
		codes, whens = returned, []string{"rv", "after"}
	}
	var all []cell
	for _, list := range calls {
		for _, call := range list {
			for _, when := range whens {
				for _, code := range codes {
					all = append(all, cell{call, when, code})
				}
			}
		}
	}
	return all
}

func (c cell) latches() bool {
	return c.call == "C_Login" && c.code == pkcs11.CKR_PIN_INCORRECT
}

func faulty(t *testing.T) (*faultp11.Module, Config) {
	t.Helper()
	cfg := config(softhsm.New(t))
	cfg.MaxSessions = 2
	m := faultp11.New(t, cfg.Module)
	cfg.Module = m.Path
	return m, cfg
}

// TestFaultsWhenOpening lets each call of Open go wrong once: 903, and the next Open serves.
func TestFaultsWhenOpening(t *testing.T) {
	m, cfg := faulty(t)
	for _, c := range cells(opening) {
		m.Script(t, c.rule(0))
		tk, err := Open(t.Context(), cfg)
		if err == nil {
			t.Errorf("%v: got no error, want 903", c)
			tk.Close()
		} else if !denial.Is(err, denial.HSMUnavailable) {
			t.Errorf("%v: got %v, want 903", c, err)
		}
		if tk, err = Open(t.Context(), cfg); err != nil {
			t.Fatalf("%v: got %v of the next Open", c, err)
		}
		tk.Close()
	}
}

// TestFaultsWhenSigning lets each call of a signature go wrong once: 903, no signature, and then it serves again.
func TestFaultsWhenSigning(t *testing.T) {
	m, cfg := faulty(t)
	tk := openWith(t, cfg)
	s := newSigner(t, tk, Artifact)
	for _, c := range cells(signing) {
		m.Script(t, c.rule(0))
		leaf, err := sign(t.Context(), s, statement.Artifact)
		if leaf != nil || !denial.Is(err, denial.HSMUnavailable) {
			t.Errorf("%v: got %v, want 903", c, err)
		}
		healed(t, tk)
		signs(t, s, statement.Artifact)
	}
}

// TestFaultsWhenHealing lets the token be lost, and then each call of the way back go wrong once. It is back all the
// same, within 5 s; a PIN that is refused is not tried again.
func TestFaultsWhenHealing(t *testing.T) {
	m, cfg := faulty(t)
	tk := openWith(t, cfg)
	key := create(t, tk, Artifact)
	s, err := tk.Signer(t.Context(), Artifact, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range cells([]string{"C_Finalize"}, opening, finding, signing) {
		skip, lost := 0, cell{"C_Sign", "rv", pkcs11.CKR_DEVICE_REMOVED}
		if c.call == "C_Sign" || c.call == "C_SignInit" {
			skip = 1 // the first is the one that is lost
		}
		m.Script(t, lost.rule(0), c.rule(skip))
		leaf, err := sign(t.Context(), s, statement.Artifact)
		if leaf != nil || !denial.Is(err, denial.HSMUnavailable) && !denial.Is(err, denial.HSMKeyPolicy) {
			t.Errorf("%v: got %v, want 903 or 904", c, err)
		}
		settled(t, tk)
		if !c.latches() {
			healed(t, tk)
			signs(t, s, statement.Artifact)
			continue
		}
		refused(t, tk.Healthy(), denial.HSMUnavailable)
		if err := tk.Close(); err != nil {
			t.Fatal(err)
		}
		tk = openWith(t, cfg)
		if s, err = tk.Signer(t.Context(), Artifact, key); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFaultsWhenMakingAKey lets each call go wrong once that makes a key: the token is healthy afterwards, it has the keys
// that it had and at most one more, and the one before is fit for use. The one that may be there too is not: genesis
// does not name it.
func TestFaultsWhenMakingAKey(t *testing.T) {
	m, cfg := faulty(t)
	tk := openWith(t, cfg)
	for _, c := range cells(making, finding, signing) {
		present := create(t, tk, Record)
		m.Script(t, c.rule(0))
		_, err := tk.Rotate(t.Context(), Record, present)
		if err != nil && !denial.Is(err, denial.HSMUnavailable) && !denial.Is(err, denial.HSMKeyPolicy) {
			t.Errorf("%v: got %v, want a key, 903 or 904", c, err)
		}
		healed(t, tk)
		m.Script(t)
		keys, err := tk.Keys(t.Context())
		if err != nil || len(keys) > 2 {
			t.Errorf("%v: got %d keys and %v, want at most 2", c, len(keys), err)
		}
		a, err := tk.Attributes(t.Context(), present)
		if err != nil || a.Check() != nil {
			t.Errorf("%v: got %v and %v of the present key", c, err, a.Check())
		}
		destroy(t, tk, pkcs11.CKO_PRIVATE_KEY, Record)
		destroy(t, tk, pkcs11.CKO_PUBLIC_KEY, Record)
	}
}

func TestH13_PINThatLocksIsTriedOnce(t *testing.T) {
	m, cfg := faulty(t)
	m.Script(t, "pin-tries 3")
	good := cfg.PIN
	cfg.PIN = func() ([]byte, error) { return []byte("wrong"), nil }
	for range 10 { // restarts
		_, err := Open(t.Context(), cfg)
		refused(t, err, denial.HSMUnavailable)
	}
	if got := m.Calls(t, "C_Login"); got != 1 {
		t.Errorf("got %d logins in 10 starts, want 1", got)
	}
	cfg.RetryPIN = true // a person acts, and is wrong each time
	for range 5 {
		_, err := Open(t.Context(), cfg)
		refused(t, err, denial.HSMUnavailable)
	}
	if got := m.Calls(t, "C_Login"); got != 3 {
		t.Errorf("got %d logins, want 3: a locked PIN is not tried", got)
	}
	cfg.PIN = good
	_, err := Open(t.Context(), cfg)
	refused(t, err, denial.HSMUnavailable)
}

func TestH09_TokenWithFewSessionsServes(t *testing.T) {
	m, cfg := faulty(t)
	cfg.MaxSessions = 8
	m.Script(t, "C_OpenSession 3 1000 rv 0xb1") // the keeper and two more
	tk := openWith(t, cfg)
	if got := len(tk.conn.sessions); got != 2 {
		t.Errorf("got %d sessions, want 2", got)
	}
	m.Script(t)
	s := newSigner(t, tk, Artifact)
	signs(t, s, statement.Artifact)
}

func TestH09_TokenWithoutASessionIsRefused(t *testing.T) {
	m, cfg := faulty(t)
	m.Script(t, "C_OpenSession 1 1000 rv 0xb1")
	_, err := Open(t.Context(), cfg)
	refused(t, err, denial.HSMUnavailable)
}

func TestH07_H12_HandleOfAnotherKey(t *testing.T) {
	m, cfg := faulty(t)
	tk := openWith(t, cfg)
	s := newSigner(t, tk, Artifact)
	newSigner(t, tk, Record)
	t.Run("once", func(t *testing.T) {
		m.Script(t, "C_SignInit 0 1 swap writ-record")
		leaf, err := sign(t.Context(), s, statement.Artifact)
		refused(t, err, denial.HSMUnavailable)
		if leaf != nil {
			t.Error("got a statement")
		}
		healed(t, tk)
		signs(t, s, statement.Artifact)
	})
	t.Run("from now on", func(t *testing.T) {
		m.Script(t, "C_SignInit 0 100000 swap writ-record")
		_, err := sign(t.Context(), s, statement.Artifact)
		refused(t, err, denial.HSMKeyPolicy)
		m.Script(t)
		healed(t, tk)
		signs(t, s, statement.Artifact)
	})
}

func TestH08_FlippedBitOfTheModule(t *testing.T) {
	m, cfg := faulty(t)
	tk := openWith(t, cfg)
	s := newSigner(t, tk, Log)
	m.Script(t, "C_Sign 0 1 flip")
	leaf, err := sign(t.Context(), s, statement.Receipt)
	refused(t, err, denial.HSMUnavailable)
	if leaf != nil || !errors.Is(err, errBadSignature) {
		t.Errorf("got %v, want that the signature does not verify", err)
	}
	healed(t, tk)
	signs(t, s, statement.Receipt)
}

func TestH11_SessionsEndUnderTheModule(t *testing.T) {
	m, cfg := faulty(t)
	tk := openWith(t, cfg)
	s := newSigner(t, tk, Status)
	m.Script(t, "C_SignInit 0 1 invalidate")
	_, err := sign(t.Context(), s, statement.StatusList)
	refused(t, err, denial.HSMUnavailable)
	healed(t, tk)
	signs(t, s, statement.StatusList)
}
