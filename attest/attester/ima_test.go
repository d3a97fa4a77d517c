package attester

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/imalog"
	"github.com/governed-execution/writ/test/swtpm"
)

// A TPM whose PCR 10 was extended as Linux does, while the host went on measuring: the list is longer than the quote.
func TestCollectedIMAListVerifies(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	machine := bootlog.New(bootlog.Options{})
	var extends []swtpm.Extend
	for _, e := range machine.Extends {
		extends = append(extends, swtpm.Extend(e))
	}
	pcrs := machine.PCRs("sha256")
	for _, p := range []int64{8, 9} {
		if pcrs[p] == nil {
			pcrs[p] = make([]byte, 32)
		}
	}
	list := imalog.New("sha256", pcrs)
	measured := func() {
		digest := map[string][]byte{"sha256": list.Last()["sha256"]}
		extends = append(extends, swtpm.Extend{PCR: 10, Digests: digest})
	}
	measured()
	list.File("/usr/bin/agent", "agent")
	measured()
	list.Violation("/var/log/messages")
	measured()
	list.File("/usr/bin/late", "late") // in the list, and not yet in the PCR
	if err := emulator.ExtendAll(t.Context(), extends); err != nil {
		t.Fatal(err)
	}
	tpm := connect(t, emulator)
	dir := t.TempDir()
	o := CollectOptions{
		Challenge: attest.NewNonce(), RequestDigest: statement.DigestOf([]byte("request")), Exporter: [32]byte{1},
		Selection: attest.Selection{Bank: "sha256", PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}, Bind: []int{4, 7},
		EventLog: machine.Log, IMALogPath: filepath.Join(dir, "list"),
	}
	want := attest.Want{AK: must(tpm.AK(t.Context()))(t), Challenge: o.Challenge, Request: o.RequestDigest, Exporter: o.Exporter,
		Selection: o.Selection, Bind: o.Bind}
	verify := func(content []byte) (*attest.Facts, error) {
		if err := os.WriteFile(o.IMALogPath, content, 0o600); err != nil {
			t.Fatal(err)
		}
		c := must(tpm.Collect(t.Context(), o))(t)
		return attest.Verify(must(attest.DecodeEvidence(c.Evidence))(t), want)
	}
	if got := must(verify(list.Bytes))(t).Claims().IMA; got.Entries != 3 || got.Unknown != 1 || got.Violations != 1 {
		t.Errorf("got %+v", got)
	}
	_, err := verify(imalog.New("sha256", pcrs).Bytes)
	wantDenial(t, err, denial.LogReplayMismatch)

	if err := os.WriteFile(o.IMALogPath, make([]byte, attest.MaxIMALog+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := tpm.Collect(t.Context(), o); err == nil {
		t.Error("a list was collected that no evidence may hold")
	}
	o.IMALogPath = filepath.Join(dir, "none")
	if _, err := tpm.Collect(t.Context(), o); err == nil {
		t.Error("evidence was collected without the list that the policy wants")
	}
	o.Selection.PCRs = low.PCRs
	if _, err := tpm.Collect(t.Context(), o); err != nil {
		t.Errorf("without PCR 10 no list is read: %v", err)
	}
}
