// Package softhsm makes SoftHSM tokens for tests and the demo: a directory of its own for each, and a random PIN.
//
// SoftHSM reads the variable SOFTHSM2_CONF when a process initializes the module. New sets it for the running test
// with t.Setenv, so that such a test cannot be parallel. A caller of Init sets it itself: with os.Setenv in TestMain,
// or in the environment of a child process with Env.
//
// A SoftHSM token is a directory of files. Whoever can copy it has the keys: it is for tests and trials.
package softhsm

import (
	"crypto/rand"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/governed-execution/writ/test/need"
)

// Token is an initialized token without keys.
type Token struct {
	Module   string // path of the PKCS#11 library
	Label    string // label of the token
	PINFile  string // file with the user PIN, mode 0600
	ConfPath string // value of SOFTHSM2_CONF
	Dir      string // where SoftHSM keeps its objects
}

// Env returns what the environment of a process must have to find the token.
func (t *Token) Env() []string { return []string{"SOFTHSM2_CONF=" + t.ConfPath} }

// New makes a token that lives as long as the test, and points this process at it. Without SoftHSM the test is
// skipped, or fails if REQUIRE_ALL=1.
func New(t testing.TB) *Token {
	t.Helper()
	_, err := find()
	need.Have(t, err)
	token, err := Init(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("SOFTHSM2_CONF", token.ConfPath)
	return token
}

// Init makes a token in a directory, which it creates if it is not there.
func Init(dir string) (*Token, error) {
	module, err := find()
	if err != nil {
		return nil, err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, fmt.Errorf("finding token directory: %w", err)
	}
	t := &Token{
		Module: module, Label: "writ", PINFile: filepath.Join(dir, "pin"),
		ConfPath: filepath.Join(dir, "softhsm2.conf"), Dir: filepath.Join(dir, "tokens"),
	}
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making token directory: %w", err)
	}
	if err := t.configure(); err != nil {
		return nil, err
	}
	pin := rand.Text()
	if err := os.WriteFile(t.PINFile, []byte(pin+"\n"), 0o600); err != nil {
		return nil, fmt.Errorf("writing PIN file: %w", err)
	}
	// softhsm2-util takes a PIN as an argument or from a terminal only. The PINs are random and for this token.
	cmd := exec.Command("softhsm2-util", "--init-token", "--free", "--label", t.Label, "--pin", pin, "--so-pin", rand.Text())
	cmd.Env = append(os.Environ(), t.Env()...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initializing token: %w: %s", err, out)
	}
	return t, nil
}

func (t *Token) configure() error {
	conf := fmt.Sprintf("directories.tokendir = %s\nobjectstore.backend = file\nlog.level = ERROR\nslots.removable = false\n", t.Dir)
	if err := os.WriteFile(t.ConfPath, []byte(conf), 0o600); err != nil {
		return fmt.Errorf("writing SoftHSM configuration: %w", err)
	}
	return nil
}

// find returns the path of the module, if its tool is installed too.
func find() (string, error) {
	if _, err := exec.LookPath("softhsm2-util"); err != nil {
		return "", fmt.Errorf("finding SoftHSM: %w; run: apt-get install softhsm2", err)
	}
	for _, pattern := range []string{"/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/*/softhsm/libsofthsm2.so", "/usr/lib64/pkcs11/libsofthsm2.so"} {
		if found, _ := filepath.Glob(pattern); len(found) > 0 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("finding SoftHSM: libsofthsm2.so is not installed; run: apt-get install softhsm2")
}

// Copy makes a second token that holds the same keys, in a directory of its own: what vendors of hardware call cloning, and
// what is nothing but a copy of files here.
func (t *Token) Copy(dir string) (*Token, error) {
	c := *t
	c.ConfPath, c.Dir = filepath.Join(dir, "softhsm2.conf"), filepath.Join(dir, "tokens")
	if err := os.CopyFS(c.Dir, os.DirFS(t.Dir)); err != nil {
		return nil, fmt.Errorf("copying token: %w", err)
	}
	return &c, c.configure()
}
