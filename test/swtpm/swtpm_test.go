package swtpm

import (
	"bytes"
	"context"
	"crypto/sha256"
	"net"
	"testing"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

func (t *TPM) observe(tb testing.TB, bank string, pcr uint) (value []byte, resets uint32) {
	tb.Helper()
	err := t.converse(context.Background(), func(conn transport.TPM) error {
		r, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
			{Hash: bankAlg(bank), PCRSelect: tpm2.PCClientCompatible.PCRs(pcr)}}}}.Execute(conn)
		if err != nil {
			return err
		}
		if len(r.PCRValues.Digests) == 1 {
			value = r.PCRValues.Digests[0].Buffer
		}
		c, err := tpm2.ReadClock{}.Execute(conn)
		if err == nil {
			resets = c.CurrentTime.ClockInfo.ResetCount
		}
		return err
	})
	if err != nil {
		tb.Fatalf("observing TPM: %v", err)
	}
	return value, resets
}

func TestExtendAndPowerCycle(t *testing.T) {
	tpm := New(t, Options{})
	event := sha256.Sum256([]byte("event"))
	list := []Extend{{PCR: 4, Digests: map[string][]byte{"sha256": event[:]}}}
	if err := tpm.ExtendAll(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	want := sha256.Sum256(append(make([]byte, 32), event[:]...))
	got, before := tpm.observe(t, "sha256", 4)
	if !bytes.Equal(got, want[:]) {
		t.Errorf("PCR 4 = %x, want %x", got, want)
	}
	if err := tpm.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, after := tpm.observe(t, "sha256", 4)
	if !bytes.Equal(got, make([]byte, 32)) {
		t.Errorf("PCR 4 after a power cycle = %x, want zero", got)
	}
	if after != before+1 {
		t.Errorf("resetCount went from %d to %d, want one more", before, after)
	}
}

func TestBanksAndSharedCA(t *testing.T) {
	ca := t.TempDir()
	a := New(t, Options{CA: ca, Banks: []string{"sha256", "sha384"}})
	b := New(t, Options{CA: ca})
	if v, _ := a.observe(t, "sha384", 0); len(v) != 48 {
		t.Errorf("the sha384 bank of the first TPM has values of %d bytes, want 48", len(v))
	}
	if v, _ := b.observe(t, "sha384", 0); v != nil {
		t.Error("the second TPM has a sha384 bank that was not asked for")
	}
	rootA, err := a.Root()
	if err != nil {
		t.Fatal(err)
	}
	issuer, err := b.Intermediate()
	if err != nil {
		t.Fatal(err)
	}
	if err := issuer.CheckSignatureFrom(rootA); err != nil {
		t.Errorf("the intermediate of the second TPM is not from the root of the first: %v", err)
	}
}

func TestExtendRefusesAnIncompleteList(t *testing.T) {
	tpm := New(t, Options{})
	for name, digests := range map[string]map[string][]byte{
		"no digest":    {},
		"unknown bank": {"md5": make([]byte, 16)},
	} {
		if err := tpm.ExtendAll(t.Context(), []Extend{{PCR: 4, Digests: digests}}); err == nil {
			t.Errorf("%s: ExtendAll accepted it", name)
		}
	}
}

func TestStopWhileAClientIsConnected(t *testing.T) {
	tpm := New(t, Options{})
	conn, err := net.Dial("unix", tpm.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := (tpm2.ReadClock{}).Execute(transport.FromReadWriter(conn)); err != nil {
		t.Fatal(err)
	}
	if err := tpm.Stop(); err != nil {
		t.Errorf("Stop: %v", err)
	}
	if _, err := net.Dial("unix", tpm.Socket); err == nil {
		t.Error("the TPM still accepts connections after Stop")
	}
}
