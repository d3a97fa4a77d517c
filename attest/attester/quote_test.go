package attester

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/need"
	"github.com/governed-execution/writ/test/swtpm"
)

// checkQuote verifies a quote with nothing but crypto/ecdsa.
func checkQuote(t *testing.T, q *Quote, qualifying [32]byte) {
	t.Helper()
	ak := (&Key{Public: q.AK})
	pub := must(ak.Verifier())(t).Public().(*ecdsa.PublicKey)
	sig := must(must(tpm2.Unmarshal[tpm2.TPMTSignature](q.Signature))(t).Signature.ECDSA())(t)
	digest := sha256.Sum256(q.Attest)
	r, s := new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer)
	if !ecdsa.Verify(pub, digest[:], r, s) {
		t.Error("the signature of the quote does not verify")
	}
	att := must(tpm2.Unmarshal[tpm2.TPMSAttest](q.Attest))(t)
	info := must(att.Attested.Quote())(t)
	h := sha256.New()
	for _, p := range low.PCRs {
		h.Write(q.PCRs[int64(p)])
	}
	if !bytes.Equal(info.PCRDigest.Buffer, h.Sum(nil)) {
		t.Error("the quoted digest is not that of the PCR values")
	}
	if !bytes.Equal(att.ExtraData.Buffer, qualifying[:]) {
		t.Error("the quote is over other qualifying data")
	}
}

func TestQuote(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	boot(t, emulator, measure{4, "loader"}, measure{9, "kernel"})
	tpm := connect(t, emulator)
	qualifying := sha256.Sum256([]byte("nonce"))
	q := must(tpm.Quote(t.Context(), low, qualifying))(t)
	checkQuote(t, q, qualifying)
	clock := must(tpm.Clock(t.Context()))(t)
	att := must(tpm2.Unmarshal[tpm2.TPMSAttest](q.Attest))(t)
	if uint64(att.ClockInfo.ResetCount) != clock.Resets {
		t.Errorf("quoted resetCount %d, want %d: is the AK in the endorsement hierarchy?", att.ClockInfo.ResetCount, clock.Resets)
	}

	// PCRs that move between reading and quoting are read again.
	quotes := 0
	meddle(tpm, tpm2.TPMCCQuote, func(rw io.ReadWriter) []byte {
		if quotes++; quotes < 3 {
			extendVia(t, rw, 9)
		}
		return nil
	})
	checkQuote(t, must(tpm.Quote(t.Context(), low, qualifying))(t), qualifying)
	if quotes != 3 {
		t.Errorf("quoted %d times, want 3", quotes)
	}
	// So are PCRs that move between two parts of the reading.
	reads := 0
	meddle(tpm, tpm2.TPMCCPCRRead, func(rw io.ReadWriter) []byte {
		if reads++; reads == 2 {
			extendVia(t, rw, 0)
		}
		return nil
	})
	values := must(tpm.PCRs(t.Context(), low))(t)
	if reads != 4 || bytes.Equal(values[0], make([]byte, 32)) {
		t.Errorf("read %d parts, PCR 0 = %x; want 4 parts and the later value", reads, values[0])
	}
}

// pcrFileFirstValue is where the first PCR value stands in a pcrFile.
const pcrFileFirstValue = 4 + 16*8 + 4 + 4 + 2

// pcrFile writes PCR values as tpm2_quote --pcr does: C structures of tpm2-tss in little-endian order, a
// TPML_PCR_SELECTION with room for 16 banks, and a number of TPML_DIGEST with room for 8 digests of 64 bytes.
func pcrFile(s attest.Selection, values map[int64][]byte) []byte {
	le := binary.LittleEndian
	f := le.AppendUint32(nil, 1)
	f = append(le.AppendUint16(f, uint16(tpm2.TPMAlgSHA256)), 3)
	bits := make([]byte, 5) // pcrSelect[4] and padding
	for _, p := range s.PCRs {
		bits[p/8] |= 1 << (p % 8)
	}
	f = append(append(f, bits...), make([]byte, 15*8)...)
	f = le.AppendUint32(f, uint32(len(s.PCRs)+7)/8)
	for part := range slices.Chunk(s.PCRs, 8) {
		f = le.AppendUint32(f, uint32(len(part)))
		for i := range 8 {
			digest := make([]byte, 64)
			size := 0
			if i < len(part) {
				size = copy(digest, values[int64(part[i])])
			}
			f = append(le.AppendUint16(f, uint16(size)), digest...)
		}
	}
	return f
}

func TestToolsAcceptOurQuote(t *testing.T) {
	if _, err := exec.LookPath("tpm2_checkquote"); err != nil {
		need.Missing(t, "no tpm2-tools: %v", err)
	}
	emulator := swtpm.New(t, swtpm.Options{})
	boot(t, emulator, measure{4, "loader"}, measure{9, "kernel"})
	tpm := connect(t, emulator)
	nonce := sha256.Sum256([]byte("nonce"))
	q := must(tpm.Quote(t.Context(), low, nonce))(t)
	pcrs, other := pcrFile(low, q.PCRs), pcrFile(low, q.PCRs)
	other[pcrFileFirstValue] ^= 1
	ak := must((&Key{Public: q.AK}).Verifier())(t)
	dir := t.TempDir()
	for name, content := range map[string][]byte{
		"message": q.Attest, "signature": q.Signature, "pcrs": pcrs, "ak.pem": must(ak.PEM())(t),
		"other": other,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wrong := sha256.Sum256([]byte("another nonce"))
	for _, c := range []struct {
		name, pcrs string
		nonce      [32]byte
		complaint  string
	}{
		{"our quote", "pcrs", nonce, ""},
		{"another nonce", "pcrs", wrong, "Error validating nonce"},
		{"other PCR values", "other", nonce, "Error validating PCR composite"},
	} {
		cmd := exec.CommandContext(t.Context(), "tpm2_checkquote", "-u", "ak.pem", "-m", "message", "-s", "signature",
			"-f", c.pcrs, "-g", "sha256", "-q", hex.EncodeToString(c.nonce[:]))
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if (err == nil) != (c.complaint == "") || !strings.Contains(string(out), c.complaint) {
			t.Errorf("%s: tpm2_checkquote says %v, want %q:\n%s", c.name, err, c.complaint, out)
		}
	}
}

func TestCollectedEvidenceVerifies(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	machine := bootlog.New(bootlog.Options{})
	var list []swtpm.Extend
	for _, e := range machine.Extends {
		list = append(list, swtpm.Extend(e))
	}
	if err := emulator.ExtendAll(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	tpm := connect(t, emulator)
	o := CollectOptions{
		Challenge: attest.NewNonce(), RequestDigest: statement.DigestOf([]byte("request")), Exporter: [32]byte{1, 2, 3},
		Selection: low, Bind: []int{4, 7}, EventLogPath: filepath.Join(t.TempDir(), "log"),
	}
	if err := os.WriteFile(o.EventLogPath, machine.Log, 0o600); err != nil {
		t.Fatal(err)
	}
	c := must(tpm.Collect(t.Context(), o))(t)
	want := attest.Want{
		AK: must(tpm.AK(t.Context()))(t), Challenge: o.Challenge, Request: o.RequestDigest, Exporter: o.Exporter,
		Selection: low, Bind: o.Bind,
	}
	ev := must(attest.DecodeEvidence(c.Evidence))(t)
	facts := must(attest.Verify(ev, want))(t)
	if cnf, _, _ := facts.CNF(); !cnf.Equal(must(c.CNF.Verifier())(t)) {
		t.Error("the verifier sees another cnf key")
	}
	if err := sign(t, must(tpm.Signer(t.Context(), c.CNF))(t), statement.Possession); err != nil {
		t.Errorf("the collected cnf key does not sign: %v", err)
	}

	want.Exporter[0] ^= 1
	_, err := attest.Verify(ev, want)
	wantDenial(t, err, denial.ChannelBinding)

	o.Bind = []int{11}
	if _, err := tpm.Collect(t.Context(), o); err == nil {
		t.Error("a cnf key was bound to a PCR that is not quoted")
	}
	o.Bind, o.EventLogPath = []int{4, 7}, filepath.Join(t.TempDir(), "none")
	if _, err := tpm.Collect(t.Context(), o); err == nil {
		t.Error("evidence was collected without a boot log")
	}
}
