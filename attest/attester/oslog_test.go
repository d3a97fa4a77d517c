package attester

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/swtpm"
)

// What systemd measured after the boot is collected with the boot log, and the TPM's quote tells whether it fits.
func TestEvidenceHasTheLogOfSystemd(t *testing.T) {
	t.Parallel()
	emulator := swtpm.New(t, swtpm.Options{})
	machine := bootlog.New(bootlog.Options{})
	phase := sha256.Sum256([]byte("enter-initrd"))
	var extends []swtpm.Extend
	for _, e := range machine.Extends {
		extends = append(extends, swtpm.Extend(e))
	}
	extends = append(extends, swtpm.Extend{PCR: 11, Digests: map[string][]byte{"sha256": phase[:]}})
	if err := emulator.ExtendAll(t.Context(), extends); err != nil {
		t.Fatal(err)
	}
	tpm := connect(t, emulator)
	o := CollectOptions{
		Challenge: attest.NewNonce(), RequestDigest: statement.DigestOf([]byte("request")), Exporter: [32]byte{1},
		Selection: attest.Selection{Bank: "sha256", PCRs: []int{4, 7, 11}}, Bind: []int{4, 7},
		EventLog: machine.Log, OSLogPath: filepath.Join(t.TempDir(), "log"),
	}
	want := attest.Want{AK: must(tpm.AK(t.Context()))(t), Challenge: o.Challenge, Request: o.RequestDigest, Exporter: o.Exporter,
		Selection: o.Selection, Bind: o.Bind}
	verify := func() (*attest.Facts, error) {
		c := must(tpm.Collect(t.Context(), o))(t)
		return attest.Verify(must(attest.DecodeEvidence(c.Evidence))(t), want)
	}
	_, err := verify() // there is no such file
	wantDenial(t, err, denial.LogReplayMismatch)
	log := fmt.Sprintf("\x1e{\"pcr\":11,\"digests\":[{\"hashAlg\":\"sha256\",\"digest\":\"%x\"}],\"content_type\":\"systemd\","+
		"\"content\":{\"string\":\"enter-initrd\"}}\n", phase)
	if err := os.WriteFile(o.OSLogPath, []byte(log), 0o600); err != nil {
		t.Fatal(err)
	}
	facts := must(verify())(t)
	if got := facts.Claims().OS; len(got) != 1 || got[0].Text != "enter-initrd" || got[0].PCR != 11 {
		t.Errorf("got %+v, want one phase", got)
	}
	if err := os.WriteFile(o.OSLogPath, make([]byte, attest.MaxOSLog+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.Collect(t.Context(), o); err == nil {
		t.Error("a log was collected that no evidence may hold")
	}
}
