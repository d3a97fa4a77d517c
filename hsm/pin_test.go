package hsm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/softhsm"
)

func TestPINFromFile(t *testing.T) {
	for name, row := range map[string]struct {
		text string
		mode os.FileMode
		want string // PIN, or if it begins with "!" part of the error
	}{
		"bare":             {"1234", 0o600, "1234"},
		"newline":          {"1234\n", 0o400, "1234"},
		"carriage return":  {"1234\r\n", 0o600, "1234"},
		"longest":          {strings.Repeat("1", 255) + "\n", 0o600, strings.Repeat("1", 255)},
		"too long":         {strings.Repeat("1", 256), 0o600, "!bytes"},
		"much too long":    {strings.Repeat("1", 4096), 0o600, "!more than 255 bytes"},
		"empty":            {"\n", 0o600, "!want 1 to 255 bytes"},
		"readable by all":  {"1234", 0o604, "!chmod 600"},
		"readable by some": {"1234", 0o640, "!chmod 600"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "pin")
			if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, row.mode); err != nil {
				t.Fatal(err)
			}
			pin, err := PINFromFile(path)()
			if want, bad := strings.CutPrefix(row.want, "!"); bad {
				if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "1234") {
					t.Errorf("got %v, want an error with %q", err, want)
				}
			} else if err != nil || string(pin) != row.want {
				t.Errorf("got %q and %v, want %q", pin, err, row.want)
			}
		})
	}
	for _, path := range []string{t.TempDir(), filepath.Join(t.TempDir(), "absent")} {
		if _, err := PINFromFile(path)(); err == nil {
			t.Error("got no error, want one")
		}
	}
}

func TestPINIsWipedAfterLogin(t *testing.T) {
	soft := softhsm.New(t)
	cfg := config(soft)
	var given []byte
	cfg.PIN = func() (pin []byte, err error) {
		given, err = PINFromFile(soft.PINFile)()
		return given, err
	}
	openWith(t, cfg)
	for _, b := range given {
		if b != 0 {
			t.Fatal("the PIN is still in memory")
		}
	}
	if len(given) == 0 {
		t.Fatal("the PIN was not asked for")
	}
}

func TestH01_WrongPINWhereSomebodyIsLoggedIn(t *testing.T) {
	soft := softhsm.New(t)
	wrong := config(soft)
	wrong.PIN = func() ([]byte, error) {
		t.Error("the PIN was asked for, where the token would not look at it")
		return []byte("wrong"), nil
	}

	t.Run("by this package", func(t *testing.T) {
		tk := openWith(t, config(soft))
		_, err := Open(t.Context(), wrong)
		refused(t, err, denial.HSMUnavailable)
		s := newSigner(t, tk, Artifact)
		signs(t, s, kindOf[Artifact]) // the first is unharmed
	})
	t.Run("by other code of the process", func(t *testing.T) {
		other := pkcs11.New(soft.Module)
		if err := other.Initialize(); err != nil {
			t.Fatal(err)
		}
		defer other.Finalize()
		_, err := Open(t.Context(), wrong)
		refused(t, err, denial.HSMUnavailable)
	})
}

func TestH13_WrongPINIsTriedOnce(t *testing.T) {
	soft := softhsm.New(t)
	right, err := os.ReadFile(soft.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	writePIN(t, soft, "wrong")
	tries := 0
	cfg := config(soft)
	cfg.PIN = func() ([]byte, error) {
		tries++
		return PINFromFile(soft.PINFile)()
	}
	for range 10 { // restarts
		_, err := Open(t.Context(), cfg)
		refused(t, err, denial.HSMUnavailable)
	}
	if tries != 1 {
		t.Errorf("got %d tries, want 1", tries)
	}

	writePIN(t, soft, string(right))
	_, err = Open(t.Context(), cfg)
	refused(t, err, denial.HSMUnavailable)
	cfg.RetryPIN = true // the operator acts
	tk := openWith(t, cfg)
	if tries != 2 {
		t.Errorf("got %d tries, want 2", tries)
	}
	tk.Close()
	cfg.RetryPIN = false
	openWith(t, cfg)
}

func TestH13_WrongPINWhileHealingLatches(t *testing.T) {
	soft := softhsm.New(t)
	tries := 0
	cfg := config(soft)
	cfg.PIN = func() ([]byte, error) {
		tries++
		return PINFromFile(soft.PINFile)()
	}
	tk := openWith(t, cfg)
	s := newSigner(t, tk, Artifact)
	writePIN(t, soft, "wrong")
	if err := tk.mod.CloseAllSessions(tk.conn.slot); err != nil {
		t.Fatal(err)
	}
	for range 10 {
		_, err := sign(t.Context(), s, kindOf[Artifact])
		refused(t, err, denial.HSMUnavailable)
	}
	settled(t, tk)
	refused(t, tk.Healthy(), denial.HSMUnavailable)
	if tries != 2 {
		t.Errorf("got %d tries, want 1 at the start and 1 after", tries)
	}
}

func TestConfigAndTokenMustBeGiven(t *testing.T) {
	soft := softhsm.New(t)
	for name, change := range map[string]func(*Config){
		"no module": func(c *Config) { c.Module = "" },
		"no token":  func(c *Config) { c.Token = "" },
		"no PIN":    func(c *Config) { c.PIN = nil },
	} {
		cfg := config(soft)
		change(&cfg)
		if _, err := Open(t.Context(), cfg); err == nil {
			t.Errorf("%s: got no error, want one", name)
		}
	}
	for name, change := range map[string]func(*Config){
		"not a module":  func(c *Config) { c.Module = soft.ConfPath },
		"other token":   func(c *Config) { c.Token = "other" },
		"PIN file open": func(c *Config) { c.PIN = PINFromFile(soft.ConfPath + ".absent") },
	} {
		cfg := config(soft)
		change(&cfg)
		_, err := Open(t.Context(), cfg)
		if !denial.Is(err, denial.HSMUnavailable) {
			t.Errorf("%s: got %v, want 903", name, err)
		}
	}
}
