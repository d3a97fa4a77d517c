package attester

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/test/swtpm"
)

// R08: each command of a quote is answered once by each fault of a TPM, or not at all. Those that ask to be asked again are; any other ends
// the quote with an error and without a wrong answer, and the next quote is as good as ever.
func TestR08_EachCommandMeetsEachFault(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	boot(t, emulator, measure{4, "loader"}, measure{9, "kernel"})
	qualifying := sha256.Sum256([]byte("nonce"))
	faults := []struct {
		name   string
		code   tpm2.TPMRC // 0: the connection ends
		passes bool
	}{
		{"RETRY", tpm2.TPMRCRetry, true},
		{"YIELDED", tpm2.TPMRCYielded, true},
		{"TESTING", tpm2.TPMRCTesting, true},
		{"LOCKOUT", tpm2.TPMRCLockout, false},
		{"OBJECT_MEMORY", tpm2.TPMRCObjectMemory, false},
		{"SESSION_MEMORY", tpm2.TPMRCSessionMemory, false},
		{"FAILURE", tpm2.TPMRCFailure, false},
		{"disconnected", 0, false},
	}
	for command, code := range map[string]tpm2.TPMCC{"CreatePrimary": tpm2.TPMCCCreatePrimary, "PCR_Read": tpm2.TPMCCPCRRead, "Quote": tpm2.TPMCCQuote,
		"ReadPublic": tpm2.TPMCCReadPublic, "StartAuthSession": tpm2.TPMCCStartAuthSession} {
		met := 0
		for _, f := range faults {
			tpm := must(Open(t.Context(), emulator.Socket))(t)
			broken := false
			meddle(tpm, code, func(rw io.ReadWriter) []byte {
				if broken {
					return nil
				}
				broken = true
				met++
				if f.code == 0 {
					rw.(io.Closer).Close()
					return nil
				}
				return binary.BigEndian.AppendUint32([]byte{0x80, 0x01, 0, 0, 0, 10}, uint32(f.code))
			})
			q, err := tpm.Quote(t.Context(), low, qualifying)
			switch {
			case err == nil:
				checkQuote(t, q, qualifying)
			case q != nil:
				t.Errorf("%s, %s: an answer beside an error", command, f.name)
			case broken && f.passes:
				t.Errorf("%s, %s: got %v, want the command to be sent again", command, f.name, err)
			}
			if broken && !f.passes && err == nil && code == tpm2.TPMCCQuote {
				t.Errorf("%s, %s: a quote that the TPM did not make", command, f.name)
			}
			if f.code != 0 && broken && err != nil && !errors.Is(err, f.code) {
				t.Errorf("%s, %s: got %v, which hides why", command, f.name, err)
			}
			checkQuote(t, must(tpm.Quote(t.Context(), low, qualifying))(t), qualifying) // the same TPM, without help
			if err := tpm.Close(); err != nil {
				t.Errorf("%s, %s: closing: %v", command, f.name, err)
			}
		}
		if met == 0 && (code == tpm2.TPMCCQuote || code == tpm2.TPMCCPCRRead || code == tpm2.TPMCCCreatePrimary) {
			t.Errorf("a quote sends no %s: the faults met nothing", command)
		}
	}
}
