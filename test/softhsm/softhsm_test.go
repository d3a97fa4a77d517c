package softhsm

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestTokenIsFoundThroughItsEnvironmentOnly(t *testing.T) {
	token := New(t)
	other, err := Init(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, tk := range []*Token{token, other} {
		cmd := exec.Command("softhsm2-util", "--show-slots")
		cmd.Env = append(os.Environ(), tk.Env()...)
		out, err := cmd.CombinedOutput()
		if got := strings.Count(string(out), tk.Label); err != nil || got != 1 {
			t.Errorf("got %d tokens and %v, want 1", got, err)
		}
		info, err := os.Stat(tk.PINFile)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got %v and %v, want a PIN file with mode 0600", info, err)
		}
	}
	if token.PINFile == other.PINFile || os.Getenv("SOFTHSM2_CONF") != token.ConfPath {
		t.Error("the process must see the token of New, each token must have files of its own")
	}
}
