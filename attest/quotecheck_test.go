package attest_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/softtpm"
)

// quoteFiles is the quote of a world with everything that can be held against it.
func quoteFiles(t *testing.T, w *world) attest.QuoteFiles {
	t.Helper()
	e := w.evidence(t)
	extra := attest.QualifyingData(w.want.Challenge, w.want.Request, w.want.Exporter)
	pcrs := map[int64][]byte{23: make([]byte, 32)} // not quoted
	for pcr, v := range e.PCRs {
		pcrs[pcr] = bytes.Clone(v)
	}
	return attest.QuoteFiles{Attest: bytes.Clone(e.Quote), Signature: e.Signature, AK: bytes.Clone(e.AK), Nonce: extra[:],
		PCRs: map[string]map[int64][]byte{e.Bank: pcrs}, Log: e.BootLog}
}

// pemKey returns the public key of a TPM2B_PUBLIC as PEM.
func pemKey(t *testing.T, public []byte) []byte {
	t.Helper()
	area, err := tpm2.Unmarshal[tpm2.TPMTPublic](public[2:])
	if err != nil {
		t.Fatal(err)
	}
	key, err := tpm2.Pub(*area)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf(t, key)
}

func pemOf(t *testing.T, key crypto.PublicKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}

func TestCheckQuoteTakesEveryFormOfKeyAndQuote(t *testing.T) {
	for _, alg := range []softtpm.Algorithm{softtpm.P256, softtpm.P384, softtpm.RSA2048, softtpm.RSA2048PSS} {
		f := quoteFiles(t, newWorld(t, softtpm.Options{AK: alg}))
		sized := append(binary.BigEndian.AppendUint16(nil, uint16(len(f.Attest))), f.Attest...)
		for hierarchy, keys := range map[string][][]byte{"endorsement": {f.AK, f.AK[2:]}, "": {pemKey(t, f.AK)}} {
			for _, key := range keys {
				for _, quote := range [][]byte{f.Attest, sized} {
					g := f
					g.AK, g.Attest = key, quote
					r, err := attest.CheckQuote(g)
					if err != nil {
						t.Fatalf("algorithm %d: %v", alg, err)
					}
					if r.Hierarchy != hierarchy || r.Bank != "sha256" || len(r.PCRs) == 0 || !r.Boot.SecureBoot.Enabled {
						t.Errorf("algorithm %d: got %+v", alg, r)
					}
				}
			}
		}
	}
}

func TestCheckQuoteChecksNoMoreThanItHas(t *testing.T) {
	f := quoteFiles(t, newWorld(t, softtpm.Options{}))
	f.Nonce, f.PCRs, f.Log = nil, nil, nil
	r, err := attest.CheckQuote(f)
	if err != nil || r.Boot != nil || r.Quote.Type != "quote" {
		t.Errorf("got %+v %v", r, err)
	}
}

// ownerSigned makes the quote of an AK that is a primary key of the owner hierarchy.
func ownerSigned(a *tpm2.TPMSAttest, name []byte) {
	owner := binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMRHOwner))
	h := crypto.SHA256.New()
	h.Write(owner)
	h.Write(name)
	a.QualifiedSigner.Buffer = h.Sum([]byte{0, 0x0B})
}

func TestCheckQuoteSaysWhoseHierarchy(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	w.tpm.Edit.Quote = func(a *tpm2.TPMSAttest) { ownerSigned(a, w.tpm.AKName()) }
	r, err := attest.CheckQuote(quoteFiles(t, w))
	if err != nil || r.Hierarchy != "owner" {
		t.Errorf("got %+v %v, want an AK of the owner hierarchy", r, err)
	}
}

func TestCheckQuotePassesOverIMAWhereTheLogDoes(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	w.want.Selection.PCRs = append(w.want.Selection.PCRs, 10)
	w.pcrs[10] = bytes.Repeat([]byte{1}, 32)
	r, err := attest.CheckQuote(quoteFiles(t, w))
	if err != nil || !slices.Equal(r.Uncovered, []int{10}) || len(r.PCRs) != 9 {
		t.Errorf("got %+v %v", r, err)
	}
	w.want.Selection.PCRs[8] = 13
	w.pcrs[13] = w.pcrs[10]
	if _, err := attest.CheckQuote(quoteFiles(t, w)); !denial.Is(err, denial.LogUncovered) {
		t.Errorf("another PCR without events: got %v, want 604", err)
	}
}

func TestCheckQuoteRefuses(t *testing.T) {
	other := newWorld(t, softtpm.Options{})
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		name  string
		quote func(*tpm2.TPMSAttest) // before it is signed
		edit  func(*attest.QuoteFiles)
		want  denial.Reason
	}{
		{"Q01 magic", func(a *tpm2.TPMSAttest) { a.Magic = 0x11223344 }, nil, denial.QuoteMagic},
		{"Q02 certification", nil, func(f *attest.QuoteFiles) { f.Attest = other.evidence(t).Certify.Attest }, denial.QuoteType},
		{"Q05 no PCRs", quoteInfo(func(i *tpm2.TPMSQuoteInfo) { i.PCRSelect.PCRSelections = nil }), nil, denial.PCRSelectionMismatch},
		{"Q05 empty bitmap", selection(func(s *tpm2.TPMSPCRSelection) { s.PCRSelect = make([]byte, 3) }), nil, denial.PCRSelectionMismatch},
		{"Q06 no bitmap", selection(func(s *tpm2.TPMSPCRSelection) { s.PCRSelect = nil }), nil, denial.QuoteMalformed},
		{"Q11 two banks", quoteInfo(func(i *tpm2.TPMSQuoteInfo) {
			i.PCRSelect.PCRSelections = slicesRepeat(i.PCRSelect.PCRSelections[0], 2)
		}), nil, denial.QuoteMalformed},
		{"Q12 bank sha1", selection(func(s *tpm2.TPMSPCRSelection) { s.Hash = tpm2.TPMAlgSHA1 }), nil, denial.BankNotAllowed},
		{"Q12 a bank that is none", selection(func(s *tpm2.TPMSPCRSelection) { s.Hash = 0 }), nil, denial.BankNotAllowed},
		{"Q07 a value is missing", nil, func(f *attest.QuoteFiles) { delete(f.PCRs["sha256"], 7) }, denial.QuoteMalformed},
		{"Q18 another value", nil, func(f *attest.QuoteFiles) { f.PCRs["sha256"][7][0] ^= 1 }, denial.PCRDigestMismatch},
		{"Q16 bytes behind the quote", nil, func(f *attest.QuoteFiles) { f.Attest = append(f.Attest, 1, 2, 3) }, denial.QuoteMalformed},
		{"Q17 bytes behind the signature", nil, func(f *attest.QuoteFiles) { f.Signature = append(f.Signature, 1, 2, 3) }, denial.QuoteMalformed},
		{"Q20 another AK", nil, func(f *attest.QuoteFiles) { f.AK = other.tpm.AK }, denial.AKSubstituted},
		{"Q20 another AK as PEM", nil, func(f *attest.QuoteFiles) { f.AK = pemKey(t, other.tpm.AK) }, denial.QuoteSignature},
		{"Q21 a short quote", nil, func(f *attest.QuoteFiles) { f.Attest = f.Attest[:5] }, denial.QuoteMalformed},
		{"a long quote", nil, func(f *attest.QuoteFiles) { f.Attest = append(f.Attest, make([]byte, 4096)...) }, denial.StructureLimit},
		{"a changed clock", nil, func(f *attest.QuoteFiles) { f.Attest[50] ^= 1 }, denial.QuoteSignature},
		{"no signature", nil, func(f *attest.QuoteFiles) { f.Signature = nil }, denial.QuoteMalformed},
		{"no signature for a bare key", nil, func(f *attest.QuoteFiles) { f.AK, f.Signature = pemKey(t, f.AK), nil }, denial.QuoteMalformed},
		{"Q14 SHA-1 by a bare key", nil, func(f *attest.QuoteFiles) {
			f.AK, f.Signature = pemKey(t, f.AK), bytes.Clone(f.Signature)
			binary.BigEndian.PutUint16(f.Signature[2:], uint16(tpm2.TPMAlgSHA1))
		}, denial.AlgNotAllowed},
		{"Q19 RSA for a P-256 key", nil, func(f *attest.QuoteFiles) { f.AK = pemOf(t, &rsaPair(t).PublicKey) }, denial.QuoteSignature},
		{"K05 a cnf key as AK", nil, func(f *attest.QuoteFiles) { f.AK = other.evidence(t).CNF }, denial.AKAttributes},
		{"K09 RSA-1024", nil, func(f *attest.QuoteFiles) { f.AK = pemOf(t, &weak.PublicKey) }, denial.AKAttributes},
		{"K09 P-521", nil, func(f *attest.QuoteFiles) { f.AK = pemOf(t, &p521.PublicKey) }, denial.AKAttributes},
		{"no key", nil, func(f *attest.QuoteFiles) { f.AK = nil }, denial.QuoteMalformed},
		{"PEM of something else", nil, func(f *attest.QuoteFiles) {
			f.AK = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.tpm.Certificate})
		}, denial.QuoteMalformed},
		{"a long key", nil, func(f *attest.QuoteFiles) { f.AK = make([]byte, 70000) }, denial.StructureLimit},
		{"an empty nonce", nil, func(f *attest.QuoteFiles) { f.Nonce = []byte{} }, denial.NoChallenge},
		{"another nonce", nil, func(f *attest.QuoteFiles) { f.Nonce = make([]byte, 32) }, denial.ChallengeMismatch},
		{"an empty log", nil, func(f *attest.QuoteFiles) { f.Log = []byte{} }, denial.LogMalformed},
		{"a log of no other events than its header", nil, func(f *attest.QuoteFiles) { f.Log = f.Log[:headerSize(f.Log)] }, denial.LogUncovered},
	} {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, softtpm.Options{})
			f := quoteFiles(t, w)
			if _, err := attest.CheckQuote(f); err != nil {
				t.Fatalf("before the change: %v", err)
			}
			if row.quote != nil {
				w.tpm.Edit.Quote = row.quote
				f = quoteFiles(t, w)
			} else {
				row.edit(&f)
			}
			if r, err := attest.CheckQuote(f); !denial.Is(err, row.want) || r != nil {
				t.Errorf("got %+v %v, want %v", r, err, row.want)
			}
		})
	}
}

// headerSize returns the length of the first record of a log.
func headerSize(log []byte) int { return 32 + int(binary.LittleEndian.Uint32(log[28:])) }

func rsaPair(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
