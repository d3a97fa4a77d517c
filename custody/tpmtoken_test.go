package custody

import (
	"syscall"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/tpmtoken"
)

// TestTPMTokenInItsProcess: the confinement of the signer process leaves tpm2-pkcs11 what it needs, and a crash of the process (H15)
// or of the service behind the module (H11) is healed as with any token.
func TestTPMTokenInItsProcess(t *testing.T) {
	soft := tpmtoken.New(t)
	p := open(t, Config{Module: soft.Module, Token: soft.Label, PINFile: soft.PINFile, Sessions: 4})
	log, rec := newSigner(t, p, hsm.Log), newSigner(t, p, hsm.Record)
	if probe, err := p.Probe(t.Context()); err != nil || len(probe.Missing()) > 0 || probe.Sessions != 4 {
		t.Errorf("got %+v, %v", probe, err)
	}
	if trial, err := p.Try(t.Context(), 50*time.Millisecond); err != nil || trial.Unfit != "" {
		t.Errorf("got %+v, %v", trial, err)
	}
	signs(t, log, statement.Receipt)
	signs(t, rec, statement.Record)
	if err := syscall.Kill(p.pid(t), syscall.SIGSEGV); err != nil {
		t.Fatal(err)
	}
	starts := p.Starts()
	waitFor(t, func() bool { return p.Starts() > starts })
	healed(t, log, statement.Receipt)
	if err := soft.StopBroker(); err != nil {
		t.Fatal(err)
	}
	_, err := sign(t.Context(), log, statement.Receipt)
	refused(t, err, denial.HSMUnavailable)
	if err := soft.StartBroker(t.Context()); err != nil {
		t.Fatal(err)
	}
	healed(t, log, statement.Receipt)
	signs(t, rec, statement.Record)
}
