package vm

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/firmware-policy/predict"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/vm/talk"
)

// The kernel command line of a machine whose initrd is a tmpfs, as it is by default: what runs from there IMA's built-in
// policy never measures.
var tmpfsCommandLine = strings.Replace(CommandLine, "rootfstype=ramfs ", "", 1)

// imaList is where Linux shows the IMA list.
const imaList = "/sys/kernel/security/ima/binary_runtime_measurements"

// FilePolicy writes a policy that demands the predicted boot, that IMA has measured a program under its path, and that
// whatever it has measured there is the known one.
func FilePolicy(p *predict.Prediction, path string, program []byte) []byte {
	sum := sha256.New()
	sum.Write(program)
	digest := "sha256:" + hex.EncodeToString(sum.Sum(nil))
	return fmt.Appendf(nil, `schema = 1
kind = "appraisal"
id = %q
version = 1
expires = 2036-01-01T00:00:00Z

[pcrs]
bank = "sha256"
quote = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
bind = [4, 7, 9, 11]

[limits]
evidence_age = "60s"

[reference]
pcr4 = [%q]
pcr9 = [%q]
pcr11 = [%q]
program = [%q]

[ima]
known = ["program"]
watch = [%q]

[[require]]
name = "boot"
expr = "facts.pcr[4] in ref.pcr4 && facts.pcr[9] in ref.pcr9 && facts.pcr[11] in ref.pcr11"

[[require]]
name = "program-was-measured"
code = "IMA_UNKNOWN_FILE"
expr = "facts.ima.files.exists(f, f.path == '%s')"

[[require]]
name = "program-is-known"
code = "IMA_UNKNOWN_FILE"
expr = "facts.ima.files.all(f, f.digest in ref.program)"
`, policyID, p.PCR[4], p.PCR[9], p.PCR[11], digest, path, path)
}

// CollectFor has the machine make evidence for a policy, with its IMA list if the policy has PCR 10 quoted, and verifies it.
func (m *Machine) CollectFor(ctx context.Context, ak, policy []byte) (*denial.Denial, error) {
	doc, err := firmwarepolicy.ParseTOML(policy)
	if err != nil {
		return nil, err
	}
	a, err := doc.Appraisal()
	if err != nil {
		return nil, err
	}
	w := attest.Want{AK: ak, Challenge: attest.NewNonce(), Selection: a.Selection(), Bind: a.Bind(), IMA: a.IMA()}
	var request [32]byte
	for _, b := range [][]byte{request[:], w.Exporter[:]} {
		if _, err := rand.Read(b); err != nil {
			return nil, fmt.Errorf("making challenge: %w", err)
		}
	}
	w.Request = statement.Digest(request)
	r, err := m.Ask(ctx, talk.Request{Op: talk.Collect, Challenge: w.Challenge, Request: request, Exporter: w.Exporter,
		Bank: w.Selection.Bank, PCRs: w.Selection.PCRs, Bind: w.Bind})
	if err != nil {
		return nil, err
	}
	t := &Testimony{Want: w, Evidence: r.Data}
	if err := t.addIMA(ctx, m); err != nil {
		return nil, err
	}
	facts, err := t.Verify()
	if err != nil {
		return nil, err
	}
	return Decide(policy, facts)
}

// addIMA adds the IMA list of the machine if PCR 10 was quoted and the evidence does not have it.
func (t *Testimony) addIMA(ctx context.Context, m *Machine) error {
	ev, err := attest.DecodeEvidence(t.Evidence)
	if err != nil {
		return err
	}
	p := ev.Parts()
	if !slices.Contains(t.Want.Selection.PCRs, 10) || p.IMALog != nil {
		return nil
	}
	r, err := m.Ask(ctx, talk.Request{Op: talk.Get, Path: imaList})
	if err != nil {
		return err
	}
	p.IMALog = r.Data
	t.Evidence, err = p.Encode()
	return err
}

// predictFile predicts a boot of an image by an honest machine.
func (l *Lab) predictFile(image string) (*predict.Prediction, error) {
	raw, err := os.ReadFile(image)
	if err != nil {
		return nil, err
	}
	return predict.UKI(raw, l.Keys().Expect(), "sha256")
}
