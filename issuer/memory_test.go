package issuer_test

import (
	"bytes"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/test/softtpm"
)

// The issuer remembers what an accepted log showed; that lets no other evidence pass.
func TestARenewedQuoteMeetsTheSameChecks(t *testing.T) {
	w := issuertest.New(t)
	for range 2 {
		issuertest.Must(w.Prepare(issuertest.Spoil{}).Send())(t)
	}
	for reason, spoil := range map[denial.Reason]func(e *softtpm.Evidence){
		denial.EventDigestMismatch: func(e *softtpm.Evidence) {
			e.BootLog = bytes.Clone(e.BootLog)
			e.BootLog[bytes.Index(e.BootLog, []byte("S\x00e\x00c\x00u\x00r\x00e\x00B"))] ^= 1
		},
		denial.PCRDigestMismatch: func(e *softtpm.Evidence) { e.PCRs[4] = make([]byte, 32) },
		denial.QuoteSignature:    func(e *softtpm.Evidence) { e.Signature[len(e.Signature)-1] ^= 1 },
		denial.LogMalformed:      func(e *softtpm.Evidence) { e.BootLog = e.BootLog[:len(e.BootLog)-1] },
	} {
		_, err := w.Prepare(issuertest.Spoil{Parts: spoil}).Send()
		w.Refusal(err, reason)
	}
	issuertest.Must(w.Prepare(issuertest.Spoil{}).Send())(t)
}
