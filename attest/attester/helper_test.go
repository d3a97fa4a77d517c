package attester

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/stock"
	"github.com/governed-execution/writ/test/swtpm"
)

// connect opens the TPM. When the test ends, nothing that it did may have left anything in the TPM.
func connect(t *testing.T, emulator *swtpm.TPM) *TPM {
	t.Helper()
	tpm, err := Open(t.Context(), emulator.Socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { disconnect(t, tpm) })
	return tpm
}

// disconnect checks that nothing is left in the TPM and closes it, once.
func disconnect(t *testing.T, tpm *TPM) {
	t.Helper()
	if tpm.link.path == "" {
		return
	}
	// Not t.Context: that one has ended when cleanup runs.
	err := tpm.use(context.Background(), func(c *call) error { return c.checkEmpty(t) })
	if err := errors.Join(err, tpm.Close()); err != nil {
		t.Errorf("closing TPM: %v", err)
	}
}

func (c *call) checkEmpty(t *testing.T) error {
	for _, class := range []tpm2.TPMHT{tpm2.TPMHTTransient, tpm2.TPMHTHMACSession, tpm2.TPMHTPolicySession} {
		left, err := c.handles(class)
		if err != nil {
			return err
		}
		if len(left) > 0 {
			t.Errorf("left in the TPM: %#x", left)
		}
	}
	return nil
}

func must[T any](v T, err error) func(testing.TB) T { return stock.Must(v, err) }

func wantDenial(t *testing.T, err error, want denial.Reason) {
	t.Helper()
	if !denial.Is(err, want) {
		t.Errorf("got %v, want %d %v", err, want.Code(), want)
	}
}

// sign makes a statement with the key and verifies it.
func sign(t *testing.T, s *Signer, kind statement.Kind) error {
	t.Helper()
	leaf, err := statement.Sign(t.Context(), s, kind, statement.Claims{
		Issuer: "spiffe://example/host/1", Subject: "urn:test", IssuedAt: 1_800_000_000,
	}, []byte{0xa0})
	if err != nil {
		return err
	}
	var keys statement.Keys
	if err := keys.Add(s.Key(), kind); err != nil {
		t.Fatal(err)
	}
	_, err = must(statement.Decode(leaf, len(leaf)))(t).Verify(keys, kind)
	if err != nil {
		t.Errorf("the statement does not verify: %v", err)
	}
	return nil
}

// measure is one event of a boot.
type measure struct {
	pcr  int
	data string
}

func boot(t *testing.T, emulator *swtpm.TPM, events ...measure) {
	t.Helper()
	var list []swtpm.Extend
	for _, e := range events {
		d := sha256.Sum256([]byte(e.data))
		list = append(list, swtpm.Extend{PCR: e.pcr, Digests: map[string][]byte{"sha256": d[:]}})
	}
	if err := emulator.ExtendAll(t.Context(), list); err != nil {
		t.Fatal(err)
	}
}

// meddler stands between a TPM and its socket. Before it passes a command of the given code on it calls meddle, which
// may answer in place of the TPM.
type meddler struct {
	io.ReadWriteCloser
	code   tpm2.TPMCC
	meddle func(tpm io.ReadWriter) (answer []byte)
	answer *bytes.Reader
}

func meddle(tpm *TPM, code tpm2.TPMCC, f func(io.ReadWriter) []byte) {
	tpm.link.rw = &meddler{ReadWriteCloser: tpm.link.rw, code: code, meddle: f}
}

func (m *meddler) Write(command []byte) (int, error) {
	m.answer = nil
	if tpm2.TPMCC(binary.BigEndian.Uint32(command[6:])) == m.code {
		if a := m.meddle(m.ReadWriteCloser); a != nil {
			m.answer = bytes.NewReader(a)
			return len(command), nil
		}
	}
	return m.ReadWriteCloser.Write(command)
}

func (m *meddler) Read(p []byte) (int, error) {
	if m.answer != nil {
		return m.answer.Read(p)
	}
	return m.ReadWriteCloser.Read(p)
}

// extendVia extends a PCR on the connection of somebody else, between two of their commands.
func extendVia(t *testing.T, rw io.ReadWriter, pcr int) {
	_, err := tpm2.PCRExtend{
		PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests:   tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: make([]byte, 32)}}},
	}.Execute(sender{rw})
	if err != nil {
		t.Errorf("extending PCR %d: %v", pcr, err)
	}
}

type sender struct{ io.ReadWriter }

func (s sender) Send(command []byte) ([]byte, error) { return roundTrip(s, command) }

var low = attest.Selection{Bank: "sha256", PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}
