package attester

import (
	"bytes"
	"io"
	"os"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/swtpm"
)

// audited is a machine whose TPM keeps some banks, and what a verifier wants of it.
type audited struct {
	*testing.T
	tpm  *TPM
	log  []byte
	want attest.Want
}

// boots starts a machine. Its firmware measures into the banks that it logs, and the others of the TPM stay open.
func boots(t *testing.T, emulator *swtpm.TPM, logged []string) *audited {
	t.Helper()
	machine := bootlog.New(bootlog.Options{Banks: logged})
	var list []swtpm.Extend
	for _, e := range machine.Extends {
		list = append(list, swtpm.Extend(e))
	}
	if err := emulator.ExtendAll(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	a := &audited{T: t, tpm: connect(t, emulator), log: machine.Log}
	a.want = attest.Want{AK: must(a.tpm.AK(t.Context()))(t), Challenge: attest.NewNonce(), Request: statement.DigestOf([]byte("request")),
		Exporter: [32]byte{1}, Selection: low, Bind: []int{4, 7}, Audit: true}
	return a
}

func (a *audited) verify() (*attest.Facts, error) {
	a.Helper()
	c := must(a.tpm.Collect(a.Context(), CollectOptions{Challenge: a.want.Challenge, RequestDigest: a.want.Request, Exporter: a.want.Exporter,
		Selection: a.want.Selection, Bind: a.want.Bind, Audit: a.want.Audit, EventLog: a.log}))(a.T)
	return attest.Verify(must(attest.DecodeEvidence(c.Evidence))(a.T), a.want)
}

func TestL15_EveryBankOfTheTPMIsAccountedFor(t *testing.T) {
	for _, row := range []struct {
		name              string
		allocated, logged []string
		code              denial.Reason
	}{
		{"one bank", []string{"sha256"}, []string{"sha256"}, 0},
		{"all banks are measured into", []string{"sha1", "sha256", "sha384", "sha512"}, []string{"sha1", "sha256", "sha384", "sha512"}, 0},
		{"sha384 is open", []string{"sha256", "sha384"}, []string{"sha256"}, denial.BankUncapped},
		{"sha1 is open", []string{"sha1", "sha256"}, []string{"sha256"}, denial.BankUncapped},
		{"sha512 is open", []string{"sha256", "sha512"}, []string{"sha256"}, denial.BankUncapped},
	} {
		t.Run(row.name, func(t *testing.T) {
			a := boots(t, swtpm.New(t, swtpm.Options{Banks: row.allocated}), row.logged)
			facts, err := a.verify()
			switch {
			case row.code != 0:
				wantDenial(t, err, row.code)
			case err != nil:
				t.Error(err)
			case len(facts.BootKey()) != 34:
				t.Errorf("got boot key %x", facts.BootKey())
			}
			a.want.Audit = false
			if facts, err = a.verify(); err != nil || facts.BootKey() != nil {
				t.Errorf("without an audit session: got %v, boot key %x", err, facts.BootKey())
			}
		})
	}
	// A log can claim to be of a bank that it is not of.
	a := boots(t, swtpm.New(t, swtpm.Options{Banks: []string{"sha256", "sha384"}}), []string{"sha256"})
	a.log = bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}}).Log
	_, err := a.verify()
	wantDenial(t, err, denial.LogReplayMismatch)
}

func TestF21_WhatStandsOnTheBusIsSeen(t *testing.T) {
	a := boots(t, swtpm.New(t, swtpm.Options{Banks: []string{"sha256", "sha384"}}), []string{"sha256", "sha384"})
	plain := a.want
	plain.Audit = false
	c := must(a.tpm.Collect(t.Context(), CollectOptions{Challenge: a.want.Challenge, RequestDigest: a.want.Request, Exporter: a.want.Exporter,
		Selection: a.want.Selection, Bind: a.want.Bind, EventLog: a.log}))(t)
	_, err := attest.Verify(must(attest.DecodeEvidence(c.Evidence))(t), a.want)
	wantDenial(t, err, denial.TPMFirmware)
	if _, err := attest.Verify(must(attest.DecodeEvidence(c.Evidence))(t), plain); err != nil {
		t.Error(err)
	}
	if _, err := a.verify(); err != nil {
		t.Fatal(err)
	}
	// An answer that is changed on the way makes the agent stop.
	bus := &tamperer{ReadWriteCloser: a.tpm.link.rw, was: []byte{0, 0xc, 3, 0xff, 0xff, 0xff}, is: []byte{0, 0xc, 3, 0, 0, 0}}
	a.tpm.link.rw = bus
	if _, err := a.tpm.Collect(t.Context(), CollectOptions{Challenge: a.want.Challenge, RequestDigest: a.want.Request, Exporter: a.want.Exporter,
		Selection: a.want.Selection, Bind: a.want.Bind, Audit: true, EventLog: a.log}); err == nil || bus.changed != 1 {
		t.Errorf("got %v, %d answers changed", err, bus.changed)
	}
}

// tamperer changes bytes of what a TPM answers.
type tamperer struct {
	io.ReadWriteCloser
	was, is []byte
	changed int
}

func (b *tamperer) Read(p []byte) (int, error) {
	n, err := b.ReadWriteCloser.Read(p)
	if i := bytes.Index(p[:n], b.was); i >= 0 {
		copy(p[i:], b.is)
		b.changed++
	}
	return n, err
}

// One boot of one TPM has one boot key. Another boot has another, and so has a copy of the TPM's state that is started apart.
func TestK21_BootKeyTellsCopiesApart(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	key := func(emulator *swtpm.TPM) string {
		t.Helper()
		a := boots(t, emulator, []string{"sha256"})
		first, second := must(a.verify())(t).BootKey(), must(a.verify())(t).BootKey()
		if !bytes.Equal(first, second) {
			t.Errorf("one boot has the keys %x and %x", first, second)
		}
		disconnect(t, a.tpm)
		return string(first)
	}
	before := key(emulator)
	if err := emulator.Stop(); err != nil {
		t.Fatal(err)
	}
	dir := must(os.MkdirTemp("", "twin"))(t) // a path that is short enough for a socket
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	twin := must(emulator.Clone(t.Context(), dir))(t)
	t.Cleanup(func() { _ = twin.Stop() })
	if err := emulator.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	after, copied := key(emulator), key(twin)
	if before == after || after == copied || before == copied {
		t.Errorf("got keys %x, %x after a reset, and %x of a copy", before, after, copied)
	}
}
