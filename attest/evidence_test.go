package attest_test

import (
	"bytes"
	"testing"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
)

func TestEvidenceDecoding(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	raw := encode(t, w.evidence(t))
	outer := func(edit func(c map[string]any)) []byte {
		var c map[string]any
		if err := statement.Unmarshal(raw, &c); err != nil {
			t.Fatal(err)
		}
		edit(c)
		return marshal(t, c)
	}
	record := func(name string, i int, v any) []byte {
		return outer(func(c map[string]any) { c[name].([]any)[i] = v })
	}
	inner := func(edit func(m map[int64]any)) []byte { return rewire(t, raw, edit) }
	rows := []struct {
		name string
		raw  []byte
		want denial.Reason
	}{
		{"none", nil, denial.NoEvidence},
		{"more than 8 MiB", make([]byte, attest.MaxEvidence+1), denial.RequestLimit},
		{"boot log of more than 1 MiB", record("boot-log", 1, make([]byte, attest.MaxBootLog+1)), denial.RequestLimit},
		{"another profile", outer(func(c map[string]any) { c["__cmwc_t"] = "https://example.com/2" }), denial.UnsupportedVersion},
		{"no profile", outer(func(c map[string]any) { delete(c, "__cmwc_t") }), denial.UnsupportedVersion},
		{"no quote", outer(func(c map[string]any) { delete(c, "quote") }), denial.NoEvidence},
		{"no boot log", outer(func(c map[string]any) { delete(c, "boot-log") }), denial.NoEvidence},
		{"empty boot log", record("boot-log", 1, []byte{}), denial.NoEvidence},
		{"boot log null", record("boot-log", 1, nil), denial.NoEvidence},
		{"boot log as text", record("boot-log", 1, "log"), denial.PayloadForm},
		{"another media type", record("quote", 0, "application/cbor"), denial.WrongType},
		{"not evidence", record("quote", 2, uint64(1)), denial.WrongType},
		{"K22 a test member", outer(func(c map[string]any) { c["test"] = true }), denial.UnsupportedVersion},
		{"K22 a test member in the quote", inner(func(m map[int64]any) { m[99] = true }), denial.UnsupportedVersion},
		{"creation data, which nothing covers", inner(func(m map[int64]any) { m[6] = []byte{0, 0} }), denial.UnsupportedVersion},
		{"up-time, which nothing covers", inner(func(m map[int64]any) { m[9] = uint64(1) }), denial.UnsupportedVersion},
		{"trailing byte", append(bytes.Clone(raw), 0), denial.TrailingData},
		{"trailing byte in the quote", rewireBytes(t, raw, func(b []byte) []byte { return append(b, 0) }), denial.TrailingData},
		{"not a map", []byte{0x80}, denial.PayloadForm},
		{"no attestation", inner(func(m map[int64]any) { delete(m, 0) }), denial.ClaimAbsent},
		{"no signature", inner(func(m map[int64]any) { m[1] = []byte{} }), denial.QuoteMalformed},
		{"no PCR values", inner(func(m map[int64]any) { delete(m, 2) }), denial.ClaimAbsent},
		{"no AK", inner(func(m map[int64]any) { delete(m, 3) }), denial.ClaimAbsent},
		{"no certification", inner(func(m map[int64]any) { delete(m, 4) }), denial.ClaimAbsent},
		{"half a certification", inner(func(m map[int64]any) { m[4] = m[4].([]any)[:1] }), denial.PayloadForm},
		{"no cnf key", inner(func(m map[int64]any) { delete(m, 5) }), denial.ClaimAbsent},
		{"no challenge", inner(func(m map[int64]any) { delete(m, 7) }), denial.ClaimAbsent},
		{"challenge of 33 bytes", inner(func(m map[int64]any) { m[7] = make([]byte, 33) }), denial.QuoteMalformed},
		{"no request digest", inner(func(m map[int64]any) { delete(m, 8) }), denial.ClaimAbsent},
		{"PCR values null", inner(func(m map[int64]any) { m[2] = []any{[]any{-16, nil}} }), denial.QuoteMalformed},
		{"Q09 two banks of values", inner(func(m map[int64]any) {
			m[2] = append(m[2].([]any), []any{-43, map[int64]any{0: make([]byte, 48)}})
		}), denial.QuoteMalformed},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			facts, err := verify(row.raw, w.want)
			refused(t, facts, err, row.want)
		})
	}
}

// K22: no environment variable changes a verdict. These are the switches that other attestation software has.
func TestK22_NoSwitchInTheEnvironment(t *testing.T) {
	for _, name := range []string{"KEYLIME_TEST", "WRIT_TEST", "WRIT_INSECURE", "TPM_SIMULATOR"} {
		t.Setenv(name, "on")
	}
	w := newWorld(t, softtpm.Options{})
	o := w.enrolOptions()
	o.Roots = nil
	_, err := attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), o)
	refusedAt(t, nil, err, denial.EKUntrusted, denial.StageEnrolment)
}

func TestAKName(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	ev, err := attest.DecodeEvidence(encode(t, w.evidence(t)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ev.AKName(); err != nil || !bytes.Equal(got, w.tpm.AKName()) {
		t.Errorf("got %x, %v, want %x", got, err, w.tpm.AKName())
	}
}

func TestSHA384Bank(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	boot := bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}})
	w.log, w.pcrs, w.want.Selection.Bank = boot.Log, boot.PCRs("sha384"), "sha384"
	facts, err := verify(encode(t, w.evidence(t)), w.want)
	if err != nil {
		t.Fatal(err)
	}
	if c := facts.Claims(); c.Bank != "sha384" || len(c.PCR[0]) != 96 {
		t.Errorf("got bank %s, PCR 0 %s", c.Bank, c.PCR[0])
	}
}

func TestEncodeRefusesAnUnknownBank(t *testing.T) {
	if _, err := (attest.EvidenceParts{Bank: "sha1"}).Encode(); err == nil {
		t.Error("got no error")
	}
}

func TestNonce(t *testing.T) {
	n := attest.NewNonce()
	if got, err := attest.ParseNonce(n[:]); err != nil || got != n {
		t.Errorf("got %x, %v, want %x", got, err, n)
	}
	for name, b := range map[string][]byte{"zero": make([]byte, 32), "short": n[:31], "long": append(n[:], 1), "none": nil} {
		if _, err := attest.ParseNonce(b); !denial.Is(err, denial.NoChallenge) {
			t.Errorf("%s: got %v, want %d", name, err, denial.NoChallenge)
		}
	}
}

// Facts hand out copies: who changes them changes nothing.
func TestFactsCannotBeChanged(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	facts, err := verify(encode(t, w.evidence(t)), w.want)
	if err != nil {
		t.Fatal(err)
	}
	before := marshal(t, facts.Claims())
	c := facts.Claims()
	c.PCR[4], c.CNF.PCRs[0] = "00", 9
	for i := range c.BootApps {
		c.BootApps[i].Digest = "00"
	}
	for i := range c.SecureBoot.Authorities {
		c.SecureBoot.Authorities[i] = "00"
	}
	_, name, policy := facts.CNF()
	name[0] ^= 1
	policy[0] ^= 1
	facts.AKName()[0] ^= 1
	_, name2, policy2 := facts.CNF()
	if !bytes.Equal(before, marshal(t, facts.Claims())) || bytes.Equal(name, name2) || bytes.Equal(policy, policy2) {
		t.Error("a copy led back to the facts")
	}
}
