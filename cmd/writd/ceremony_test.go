package main

import (
	"context"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/test/swtpm"
)

// TestTheHostOfACeremonyIsQuoted: the quote that a birth gets is one that verifies, over the PCRs of firmware and system.
func TestTheHostOfACeremonyIsQuoted(t *testing.T) {
	t.Parallel()
	emulator := swtpm.New(t, swtpm.Options{})
	nonce := [32]byte{1}
	q, err := hostTPM(emulator.Socket).Quote(context.Background(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	r, err := attest.CheckQuote(attest.QuoteFiles{Attest: q.Attest, Signature: q.Signature, AK: q.AK, Nonce: nonce[:],
		PCRs: map[string]map[int64][]byte{q.Bank: q.PCRs}})
	if err != nil || len(r.PCRs) != 15 || r.Hierarchy != "endorsement" {
		t.Fatalf("%+v: %v", r, err)
	}
	if _, err := hostTPM(t.TempDir()+"/none").Quote(context.Background(), nonce); err == nil {
		t.Error("a quote without a TPM")
	}
}
