package hsm

import (
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// TestH19_OnlyTheLogKeySignsCheckpoints: the text of a checkpoint is no COSE statement, and is bound to one purpose all
// the same.
func TestH19_OnlyTheLogKeySignsCheckpoints(t *testing.T) {
	tk := open(t)
	for _, p := range Purposes() {
		_, _, err := statement.SignCheckpoint(t.Context(), newSigner(t, tk, p), "issuer.example/log", 7, [32]byte{1})
		switch {
		case p == Log && err != nil:
			t.Errorf("the log key does not sign checkpoints: %v", err)
		case p != Log && !denial.Is(err, denial.WrongType):
			t.Errorf("%s key: got %v, want 311", p, err)
		}
	}
}
