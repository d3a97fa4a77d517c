package hsm

import (
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/tpmtoken"
)

// TestTPMToken: the keys of an issuer on a token of tpm2-pkcs11 are as on any other: made there, fit by what the module states
// of them, for one purpose each, and gone and back again with the service behind the module (H11).
func TestTPMToken(t *testing.T) {
	soft := tpmtoken.New(t)
	tk := openWith(t, Config{Module: soft.Module, Token: soft.Label, PIN: PINFromFile(soft.PINFile), MaxSessions: 4})
	signers := map[Purpose]statement.Signer{}
	for _, p := range Purposes() {
		signers[p] = newSigner(t, tk, p)
	}
	for p, s := range signers {
		a, err := tk.Attributes(t.Context(), s.Key().Thumbprint())
		if err != nil || a.Check() != nil || a.Purpose != p {
			t.Errorf("%s key: got %+v, %v and %v", p, a, err, a.Check())
		}
		signs(t, s, kindOf[p])
		_, err = sign(t.Context(), s, statement.Policy)
		refused(t, err, denial.WrongType)
		_, err = tk.Create(t.Context(), p)
		refused(t, err, denial.HSMKeyPolicy)
	}
	if err := soft.StopBroker(); err != nil {
		t.Fatal(err)
	}
	_, err := sign(t.Context(), signers[Log], statement.Receipt)
	refused(t, err, denial.HSMUnavailable)
	if err := soft.StartBroker(t.Context()); err != nil {
		t.Fatal(err)
	}
	healed(t, tk)
	for p, s := range signers {
		signs(t, s, kindOf[p])
	}
}
