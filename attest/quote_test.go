package attest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"runtime"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/softtpm"
)

func TestValidEvidenceGivesFacts(t *testing.T) {
	for name, o := range map[string]softtpm.Options{
		"P-256": {}, "P-384": {AK: softtpm.P384}, "RSASSA": {AK: softtpm.RSA2048}, "RSAPSS": {AK: softtpm.RSA2048PSS},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, o)
			e := w.evidence(t)
			raw := encode(t, e)
			facts, err := verify(raw, w.want)
			if err != nil {
				t.Fatal(err)
			}
			c := facts.Claims()
			if got, want := c.AK, hex.EncodeToString(w.tpm.AKName()); got != want {
				t.Errorf("AK: got %s, want %s", got, want)
			}
			if len(c.PCR) != 8 || c.PCR[4] != hex.EncodeToString(w.pcrs[4]) || c.Bank != "sha256" {
				t.Errorf("PCRs: got %v in bank %s", c.PCR, c.Bank)
			}
			if want := (attest.Clock{Milliseconds: 1000, Resets: 1, Safe: true}); c.Clock != want {
				t.Errorf("clock: got %+v, want %+v", c.Clock, want)
			}
			if c.Firmware != 0x2019102300163636 {
				t.Errorf("firmware: got %x", c.Firmware)
			}
			if got, want := facts.Evidence(), sha256.Sum256(raw); got != want {
				t.Errorf("evidence digest: got %s, want %x", got, want)
			}
			key, cnfName, policy := facts.CNF()
			want, err := attest.Name(e.CNF)
			if err != nil || !bytes.Equal(cnfName, want) || !key.Valid() || hex.EncodeToString(policy) != c.CNF.AuthPolicy {
				t.Errorf("cnf: got name %x and policy %x, want name %x and policy %s", cnfName, policy, want, c.CNF.AuthPolicy)
			}
		})
	}
}

func TestQuoteIsRefused(t *testing.T) {
	attested := func(kind tpm2.TPMST, u tpm2.TPMUAttest) func(*tpm2.TPMSAttest) {
		return func(a *tpm2.TPMSAttest) { a.Type, a.Attested = kind, u }
	}
	rows := []struct {
		name string
		edit func(*tpm2.TPMSAttest)
		want denial.Reason
	}{
		{"Q01 no TPM magic", func(a *tpm2.TPMSAttest) { a.Magic = 0x11223344 }, denial.QuoteMagic},
		{"Q02 certify", attested(0x8017, tpm2.NewTPMUAttest(0x8017, &tpm2.TPMSCertifyInfo{})), denial.QuoteType},
		{"Q03 NV certify", attested(0x8014, tpm2.NewTPMUAttest(0x8014, &tpm2.TPMSNVCertifyInfo{
			NVContents: tpm2.TPM2BData{Buffer: []byte("chosen by the host")}})), denial.QuoteType},
		{"Q04 time", attested(0x8019, tpm2.NewTPMUAttest(0x8019, &tpm2.TPMSTimeAttestInfo{})), denial.QuoteType},
		{"Q04 session audit", attested(0x8016, tpm2.NewTPMUAttest(0x8016, &tpm2.TPMSSessionAuditInfo{})), denial.QuoteType},
		{"Q04 creation", attested(0x801a, tpm2.NewTPMUAttest(0x801a, &tpm2.TPMSCreationInfo{})), denial.QuoteType},
		{"Q05 empty bitmap", selection(func(s *tpm2.TPMSPCRSelection) { s.PCRSelect = []byte{0, 0, 0} }), denial.PCRSelectionMismatch},
		{"Q05 no selection", quoteInfo(func(i *tpm2.TPMSQuoteInfo) { i.PCRSelect.PCRSelections = nil }), denial.PCRSelectionMismatch},
		{"Q06 no mask", selection(func(s *tpm2.TPMSPCRSelection) { s.PCRSelect = nil }), denial.QuoteMalformed},
		{"Q06 mask of four bytes", selection(func(s *tpm2.TPMSPCRSelection) { s.PCRSelect = append(s.PCRSelect, 0) }), denial.QuoteMalformed},
		{"Q07 required PCRs left out", selection(func(s *tpm2.TPMSPCRSelection) { s.PCRSelect = []byte{7, 0, 0} }), denial.RequiredPCRAbsent},
		{"Q08 extra PCR", selection(func(s *tpm2.TPMSPCRSelection) { s.PCRSelect = []byte{0xff, 0, 1} }), denial.PCRSelectionMismatch},
		{"Q10 5,000 selections", quoteInfo(func(i *tpm2.TPMSQuoteInfo) {
			i.PCRSelect.PCRSelections = slicesRepeat(i.PCRSelect.PCRSelections[0], 5000)
		}), denial.StructureLimit},
		{"Q11 two banks", quoteInfo(func(i *tpm2.TPMSQuoteInfo) {
			i.PCRSelect.PCRSelections = append(i.PCRSelect.PCRSelections, tpm2.TPMSPCRSelection{Hash: tpm2.TPMAlgSHA384, PCRSelect: []byte{255, 0, 0}})
		}), denial.QuoteMalformed},
		{"Q12 SHA-1 bank", selection(func(s *tpm2.TPMSPCRSelection) { s.Hash = tpm2.TPMAlgSHA1 }), denial.BankNotAllowed},
		{"Q12 another bank", selection(func(s *tpm2.TPMSPCRSelection) { s.Hash = tpm2.TPMAlgSHA384 }), denial.BankNotAllowed},
		{"Q18 another digest", quoteInfo(func(i *tpm2.TPMSQuoteInfo) { i.PCRDigest.Buffer[0] ^= 1 }), denial.PCRDigestMismatch},
		{"Q18 empty digest", quoteInfo(func(i *tpm2.TPMSQuoteInfo) { i.PCRDigest.Buffer = nil }), denial.PCRDigestMismatch},
		{"Q20 no qualified signer", func(a *tpm2.TPMSAttest) { a.QualifiedSigner.Buffer = nil }, denial.AKSubstituted},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, softtpm.Options{Edit: softtpm.Edit{Quote: row.edit}})
			facts, err := verify(encode(t, w.evidence(t)), w.want)
			refusedAt(t, facts, err, row.want, denial.StageQuote)
		})
	}
}

func slicesRepeat[T any](v T, n int) []T {
	s := make([]T, n)
	for i := range s {
		s[i] = v
	}
	return s
}

func TestQ05_EmptyQuoteAndEmptyValues(t *testing.T) {
	w := newWorld(t, softtpm.Options{Edit: softtpm.Edit{Quote: quoteInfo(func(i *tpm2.TPMSQuoteInfo) {
		i.PCRSelect.PCRSelections[0].PCRSelect = []byte{0, 0, 0}
		none := sha256.Sum256(nil)
		i.PCRDigest.Buffer = none[:]
	})}})
	e := w.evidence(t)
	e.PCRs = map[int64][]byte{}
	facts, err := verify(encode(t, e), w.want)
	refusedAt(t, facts, err, denial.PCRSelectionMismatch, denial.StageQuote)
}

// A selection that leaves a PCR out is refused although its digest fits and the missing value is sent beside it.
func TestQ07_UnquotedValueBesideAQuote(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	e, want := w.evidence(t), w.want
	want.Selection.PCRs, want.Bind = []int{0, 1, 2}, []int{0}
	less := w.tpm.Evidence(t, want, w.pcrs, w.log)
	e.Quote, e.Signature = less.Quote, less.Signature
	facts, err := verify(encode(t, e), w.want)
	refusedAt(t, facts, err, denial.RequiredPCRAbsent, denial.StageQuote)
}

func TestQ09_DuplicateValues(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	raw := encode(t, w.evidence(t))
	forged := map[int64]any{4: make([]byte, 32)}
	for name, order := range map[string]func(true0 any) []any{
		"forged first": func(real any) []any { return []any{[]any{-16, forged}, real} },
		"forged last":  func(real any) []any { return []any{real, []any{-16, forged}} },
		"the same":     func(real any) []any { return []any{real, real} },
	} {
		t.Run(name, func(t *testing.T) {
			twice := rewire(t, raw, func(m map[int64]any) { m[2] = order(m[2].([]any)[0]) })
			facts, err := verify(twice, w.want)
			refused(t, facts, err, denial.QuoteMalformed)
		})
	}
	t.Run("twice in one map", func(t *testing.T) {
		// The map of eight becomes one of nine whose last two keys are both 7.
		value := append([]byte{0x07, 0x58, 0x20}, w.pcrs[7]...)
		twice := rewireBytes(t, raw, func(quote []byte) []byte {
			quote = bytes.Replace(quote, []byte{0x82, 0x2f, 0xa8}, []byte{0x82, 0x2f, 0xa9}, 1)
			return bytes.Replace(quote, value, append(bytes.Clone(value), value...), 1)
		})
		facts, err := verify(twice, w.want)
		refused(t, facts, err, denial.LabelDuplicate)
	})
}

func TestQ10_IsCheap(t *testing.T) {
	w := newWorld(t, softtpm.Options{Edit: softtpm.Edit{Quote: quoteInfo(func(i *tpm2.TPMSQuoteInfo) {
		i.PCRSelect.PCRSelections = slicesRepeat(i.PCRSelect.PCRSelections[0], 5000)
	})}})
	ev, err := attest.DecodeEvidence(encode(t, w.evidence(t)))
	if err != nil {
		t.Fatal(err)
	}
	allocations := testing.AllocsPerRun(5, func() {
		facts, err := attest.Verify(ev, w.want)
		refused(t, facts, err, denial.StructureLimit)
	})
	if allocations > 1000 {
		t.Errorf("%v allocations, want at most 1,000", allocations)
	}
}

// What is dear is done for an AK that signed only: junk logs behind a bad signature cost what the signature costs.
func TestA13_SignatureBeforeReplay(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	w.want.Selection.PCRs = []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	w.pcrs[10] = make([]byte, 32)
	small := w.evidence(t)
	small.IMALog = []byte{1}
	large := small
	large.BootLog, large.OSLog, large.IMALog = slices.Concat(w.log, make([]byte, attest.MaxBootLog-len(w.log))), make([]byte, attest.MaxOSLog), make([]byte, attest.MaxIMALog)
	cost := func(e softtpm.Evidence, want denial.Reason) uint64 {
		ev, err := attest.DecodeEvidence(encode(t, e))
		if err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		facts, err := attest.Verify(ev, w.want)
		runtime.ReadMemStats(&after)
		refused(t, facts, err, want)
		return after.TotalAlloc - before.TotalAlloc
	}
	if cost(large, denial.LogMalformed) < 1000 {
		t.Fatal("reading the log costs nothing: this test sees nothing")
	}
	for name, spoil := range map[string]func(e *softtpm.Evidence) denial.Reason{
		"signature": func(e *softtpm.Evidence) denial.Reason {
			e.Signature = slices.Clone(e.Signature)
			e.Signature[len(e.Signature)-1] ^= 1
			return denial.QuoteSignature
		},
		"another AK": func(e *softtpm.Evidence) denial.Reason {
			e.AK = w.vendor.New(t, softtpm.Options{}).AK
			return denial.AKSubstituted
		},
		"exporter": func(e *softtpm.Evidence) denial.Reason {
			other := w.want
			other.Exporter[0] ^= 1
			made := w.tpm.Evidence(t, other, w.pcrs, e.BootLog)
			made.OSLog, made.IMALog = e.OSLog, e.IMALog
			*e = made
			return denial.ChannelBinding
		},
	} {
		e, f := large, small
		want := spoil(&e)
		spoil(&f)
		if dear, cheap := cost(e, want), cost(f, want); dear > cheap+64<<10 {
			t.Errorf("%s: %d bytes allocated with long logs, %d without", name, dear, cheap)
		}
	}
}

func TestQ13_ValueOfTheWrongLength(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	raw := encode(t, w.evidence(t))
	rows := map[string]func(bank []any){
		"32 bytes labelled SHA-1":   func(bank []any) { bank[0] = -14 },
		"32 bytes labelled SHA-384": func(bank []any) { bank[0] = -43 },
		"an unknown bank":           func(bank []any) { bank[0] = -7 },
		"one byte short":            func(bank []any) { bank[1].(map[any]any)[uint64(4)] = make([]byte, 31) },
		"PCR 24":                    func(bank []any) { bank[1].(map[any]any)[uint64(24)] = make([]byte, 32) },
		"PCR -1":                    func(bank []any) { bank[1].(map[any]any)[int64(-1)] = make([]byte, 32) },
		"a PCR that is not quoted":  func(bank []any) { bank[1].(map[any]any)[uint64(16)] = make([]byte, 32) },
		"a quoted PCR is missing":   func(bank []any) { delete(bank[1].(map[any]any), uint64(4)) },
		"a PCR for another": func(bank []any) {
			values := bank[1].(map[any]any)
			values[uint64(8)] = values[uint64(4)]
			delete(values, uint64(4))
		},
	}
	for name, edit := range rows {
		t.Run(name, func(t *testing.T) {
			bad := rewire(t, raw, func(m map[int64]any) { edit(m[2].([]any)[0].([]any)) })
			facts, err := verify(bad, w.want)
			refused(t, facts, err, denial.QuoteMalformed)
		})
	}
}

func TestQ14Q15_AnotherScheme(t *testing.T) {
	rows := []struct {
		name   string
		ak     softtpm.Algorithm
		scheme tpm2.TPMAlgID
		hash   tpm2.TPMIAlgHash
	}{
		{"Q14 RSASSA with SHA-1", softtpm.RSA2048, tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA1},
		{"Q14 ECDSA with SHA-1", softtpm.P256, tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA1},
		{"Q15 RSAPSS by an RSASSA key", softtpm.RSA2048, tpm2.TPMAlgRSAPSS, tpm2.TPMAlgSHA256},
		{"Q15 RSASSA by an RSAPSS key", softtpm.RSA2048PSS, tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256},
		{"Q15 SHA-384 by a SHA-256 key", softtpm.P256, tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA384},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, softtpm.Options{AK: row.ak})
			e := w.evidence(t)
			e.Signature = w.tpm.SignWith(t, e.Quote, row.scheme, row.hash)
			facts, err := verify(encode(t, e), w.want)
			refusedAt(t, facts, err, denial.AlgNotAllowed, denial.StageQuote)
		})
	}
	t.Run("Q15 PKCS #1 padding labelled RSAPSS", func(t *testing.T) {
		w := newWorld(t, softtpm.Options{AK: softtpm.RSA2048})
		e := w.evidence(t)
		e.Signature[1] = byte(tpm2.TPMAlgRSAPSS)
		facts, err := verify(encode(t, e), w.want)
		refusedAt(t, facts, err, denial.AlgNotAllowed, denial.StageQuote)
	})
}

func TestQ16Q17_TrailingBytes(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	t.Run("Q16 after the attestation", func(t *testing.T) {
		e := w.evidence(t)
		w.sign(t, &e, append(e.Quote, 0, 0, 0))
		facts, err := verify(encode(t, e), w.want)
		refusedAt(t, facts, err, denial.QuoteMalformed, denial.StageQuote)
	})
	t.Run("Q17 after the signature", func(t *testing.T) {
		e := w.evidence(t)
		e.Signature = append(e.Signature, 0, 0, 0)
		facts, err := verify(encode(t, e), w.want)
		refusedAt(t, facts, err, denial.QuoteMalformed, denial.StageQuote)
	})
	t.Run("a second encoding of safe", func(t *testing.T) {
		e := w.evidence(t)
		i := bytes.Index(e.Quote, []byte{0, 0, 0, 1, 0, 0, 0, 0, 1}) // resetCount, restartCount, safe
		if i < 0 {
			t.Fatal("the clock is not where it was expected")
		}
		e.Quote[i+8] = 2
		w.sign(t, &e, e.Quote)
		facts, err := verify(encode(t, e), w.want)
		refusedAt(t, facts, err, denial.QuoteMalformed, denial.StageQuote)
	})
}

func TestQ18_FlippedValue(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	e := w.evidence(t)
	e.PCRs[4] = append([]byte{e.PCRs[4][0] ^ 1}, e.PCRs[4][1:]...)
	facts, err := verify(encode(t, e), w.want)
	refusedAt(t, facts, err, denial.PCRDigestMismatch, denial.StageQuote)
}

func TestQ19_SignatureOfAnotherKeyType(t *testing.T) {
	ecc, rsa := newWorld(t, softtpm.Options{}), newWorld(t, softtpm.Options{AK: softtpm.RSA2048})
	for name, pair := range map[string][2]*world{"RSA signature, ECC key": {ecc, rsa}, "ECC signature, RSA key": {rsa, ecc}} {
		t.Run(name, func(t *testing.T) {
			e := pair[0].evidence(t)
			e.Signature = pair[1].tpm.Sign(t, e.Quote)
			facts, err := verify(encode(t, e), pair[0].want)
			refusedAt(t, facts, err, denial.QuoteSignature, denial.StageQuote)
			if _, err := verify(encode(t, pair[0].evidence(t)), pair[0].want); err != nil {
				t.Errorf("a good quote afterwards: %v", err)
			}
		})
	}
}

func TestQuoteSignedByAnotherKey(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	other := w.vendor.New(t, softtpm.Options{})
	e := w.evidence(t)
	e.Signature = other.Sign(t, e.Quote)
	facts, err := verify(encode(t, e), w.want)
	refusedAt(t, facts, err, denial.QuoteSignature, denial.StageQuote)
}

func TestQ20_QuoteOfAnotherAK(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	other := w.vendor.New(t, softtpm.Options{})
	theirs := other.Evidence(t, w.want, w.pcrs, w.log)
	t.Run("under the enrolled AK's name", func(t *testing.T) {
		e := w.evidence(t)
		e.Quote, e.Signature = theirs.Quote, theirs.Signature
		facts, err := verify(encode(t, e), w.want)
		refusedAt(t, facts, err, denial.AKSubstituted, denial.StageQuote)
	})
	t.Run("under its own", func(t *testing.T) {
		facts, err := verify(encode(t, theirs), w.want)
		refusedAt(t, facts, err, denial.AKSubstituted, denial.StageQuote)
	})
}

func TestK10_NoSignature(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	null := []byte{0x00, 0x10} // TPM_ALG_NULL
	t.Run("under the quote", func(t *testing.T) {
		e := w.evidence(t)
		e.Signature = null
		facts, err := verify(encode(t, e), w.want)
		refusedAt(t, facts, err, denial.QuoteMalformed, denial.StageQuote)
	})
	t.Run("under the certification", func(t *testing.T) {
		e := w.evidence(t)
		e.Certify.Signature = null
		facts, err := verify(encode(t, e), w.want)
		refusedAt(t, facts, err, denial.QuoteMalformed, denial.StageBinding)
	})
	t.Run("of the wrong type under the certification", func(t *testing.T) {
		rsa := w.vendor.New(t, softtpm.Options{AK: softtpm.RSA2048})
		e := w.evidence(t)
		e.Certify.Signature = rsa.Sign(t, e.Certify.Attest)
		facts, err := verify(encode(t, e), w.want)
		refusedAt(t, facts, err, denial.QuoteMalformed, denial.StageBinding)
	})
	if _, err := verify(encode(t, w.evidence(t)), w.want); err != nil {
		t.Errorf("a good quote afterwards: %v", err)
	}
}
