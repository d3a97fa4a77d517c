package attest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
)

// The words that a session says, and the forms that say none, whoever signed them.
func TestF21_FormsOfSessions(t *testing.T) {
	w := newAuditedWorld(t, []string{"sha256", "sha384"}, softtpm.Options{})
	good := *w.evidence(t).Session
	words, err := good.Explain("sha256")
	if err != nil || !words.Signed || len(words.PCRs) != 1 || len(words.PCRs["sha384"]) != 8 {
		t.Fatalf("got %+v, %v", words, err)
	}
	// The banks of a second response: of each its algorithm, the size of the bitmap, and the bitmap.
	banks := func(n byte, list ...byte) []byte { return append([]byte{0, 0, 0, 0, 5, 0, 0, 0, n}, list...) }
	var seventeen []byte
	for i := range byte(17) {
		seventeen = append(seventeen, 1, i, 3, 0, 0, 0)
	}
	const first, second, third = 0, 1, 2
	for name, row := range map[string]struct {
		edit  func(*attest.AuditSession)
		code  denial.Reason // 0: it has the form
		banks int           // of which PCRs are told
	}{
		"another type of attestation": {edit: func(s *attest.AuditSession) { s.Attest = w.evidence(t).Quote }, code: denial.QuoteType},
		"no attestation":              {edit: func(s *attest.AuditSession) { s.Attest = nil }, code: denial.QuoteMalformed},
		"one response":                {edit: func(s *attest.AuditSession) { s.Responses = s.Responses[:1] }, code: denial.QuoteMalformed},
		"two responses":               {edit: func(s *attest.AuditSession) { s.Responses = s.Responses[:2] }, code: denial.QuoteMalformed},
		"no selection":                {edit: func(s *attest.AuditSession) { copy(s.Responses[third][4:], []byte{0, 0, 0, 0}) }, code: denial.QuoteMalformed},
		"16 banks that are off": {edit: func(s *attest.AuditSession) {
			s.Responses = [][]byte{s.Responses[first], banks(16, seventeen[:16*6]...)}
		}},
		"17 banks that are off": {edit: func(s *attest.AuditSession) {
			s.Responses = [][]byte{s.Responses[first], banks(17, seventeen...)}
		}, code: denial.QuoteMalformed},
		"a bank twice": {edit: func(s *attest.AuditSession) {
			s.Responses = [][]byte{s.Responses[first], banks(2, 0, 11, 3, 1, 0, 0, 0, 11, 3, 1, 0, 0)}
		}, code: denial.QuoteMalformed},
		"a bitmap without bytes": {edit: func(s *attest.AuditSession) {
			s.Responses = [][]byte{s.Responses[first], banks(1, 0, 11, 0)}
		}, code: denial.QuoteMalformed},
		"a bank with PCR 8 alone": {edit: func(s *attest.AuditSession) {
			s.Responses = [][]byte{s.Responses[first], banks(2, 0, 11, 3, 255, 255, 255, 0, 12, 3, 0, 1, 0)}
		}},
		"PCR 0 alone, and not read": {edit: func(s *attest.AuditSession) {
			s.Responses = [][]byte{s.Responses[first], banks(2, 0, 11, 3, 255, 255, 255, 0, 12, 3, 1, 0, 0)}
		}, code: denial.QuoteMalformed},
		"more read than there is": {edit: func(s *attest.AuditSession) {
			s.Responses[second] = banks(2, 0, 11, 3, 255, 255, 255, 0, 12, 3, 0x0f, 0, 0)
		}, code: denial.QuoteMalformed},
	} {
		s := good
		s.Responses = nil
		for _, r := range good.Responses {
			s.Responses = append(s.Responses, bytes.Clone(r))
		}
		row.edit(&s)
		words, err := s.Explain("sha256")
		if row.code == 0 && (err != nil || words.Signed || len(words.PCRs) != row.banks) || row.code != 0 && (!denial.Is(err, row.code) || words != nil) {
			t.Errorf("%s: got %+v, %v, want %s", name, words, err, row.code)
		}
	}
}

// Sessions at the limits of what any TPM makes are read, and refused for what they say.
func TestSessionsAtTheirLimits(t *testing.T) {
	for name, edit := range map[string]func(*attest.AuditSession){
		"64 responses":             func(s *attest.AuditSession) { s.Responses = slicesRepeat(s.Responses[2], 64) },
		"a response of 4096 bytes": func(s *attest.AuditSession) { s.Responses[1] = make([]byte, 4096) },
		"a response of one byte":   func(s *attest.AuditSession) { s.Responses[1] = []byte{1} },
	} {
		w := newAuditedWorld(t, []string{"sha256", "sha384"}, softtpm.Options{})
		e := w.evidence(t)
		edit(e.Session)
		facts, err := verify(encode(t, e), w.want)
		t.Run(name, func(t *testing.T) { refused(t, facts, err, denial.QuoteMalformed) })
	}
	w := newAuditedWorld(t, []string{"sha256", "sha384"}, softtpm.Options{})
	w.tpm.Kept = 1 // PCR 0 alone
	facts, err := verify(encode(t, w.evidence(t)), w.want)
	if err != nil || len(facts.Claims().Banks) != 2 {
		t.Errorf("a bank with one PCR: got %v, %v", facts, err)
	}
	words, err := w.evidence(t).Session.Explain("sha256")
	if err != nil || len(words.PCRs["sha384"]) != 1 {
		t.Errorf("a bank with one PCR: got %+v, %v", words, err)
	}
}

func TestKeysOfAnAKAtTheirEdges(t *testing.T) {
	longest := append([]byte{1}, odd(512)...) // 4097 bits, the first byte holding one of them
	w := newWorld(t, softtpm.Options{AK: softtpm.RSA2048, Edit: softtpm.Edit{AK: func(p *tpm2.TPMTPublic) {
		modulus(longest)(p)
		rsaParms(func(p *tpm2.TPMSRSAParms) { p.KeyBits = 4097 })(p)
	}}})
	if _, err := attest.AKThumbprint(w.tpm.AK); !denial.Is(err, denial.AKAttributes) {
		t.Errorf("RSA of 4097 bits: got %v", err)
	}
	w = newWorld(t, softtpm.Options{AK: softtpm.RSA2048, Edit: softtpm.Edit{AK: rsaParms(func(p *tpm2.TPMSRSAParms) { p.Exponent = 65537 })}})
	if _, err := verify(encode(t, w.evidence(t)), w.want); err != nil {
		t.Errorf("an exponent that is written out: %v", err)
	}
	w = newWorld(t, softtpm.Options{AK: softtpm.RSA2048, Edit: softtpm.Edit{AK: modulus(odd(512))}})
	if _, err := attest.AKThumbprint(w.tpm.AK); err != nil {
		t.Errorf("RSA of 4096 bits: %v", err)
	}
}

// The thumbprint of an AK is that of its key, as RFC 9679 and RFC 8230 say.
func TestThumbprintsOfAKs(t *testing.T) {
	for _, alg := range []softtpm.Algorithm{softtpm.P256, softtpm.P384, softtpm.RSA2048} {
		w := newWorld(t, softtpm.Options{AK: alg})
		got, err := attest.AKThumbprint(w.tpm.AK)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(pemKey(t, w.tpm.AK))
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		var want statement.Thumbprint
		if k, ok := pub.(*rsa.PublicKey); ok { // {1: 3, -1: n, -2: e}
			want = sha256.Sum256(slices.Concat([]byte{0xa3, 1, 3, 0x20, 0x59, 1, 0}, k.N.Bytes(), []byte{0x21, 0x43, 1, 0, 1}))
		} else if k, err := statement.NewKey(pub); err == nil {
			want = k.Thumbprint()
		}
		if got != want || got == (statement.Thumbprint{}) {
			t.Errorf("algorithm %d: got %s, want %s", alg, got, want)
		}
	}
	if got, err := attest.AKThumbprint([]byte{1}); err == nil || got != (statement.Thumbprint{}) {
		t.Errorf("no key: got %s, %v", got, err)
	}
}

func TestTheClockOfAQuoteIsRead(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	facts, err := verify(encode(t, w.evidence(t)), w.want)
	if err != nil || !slices.Equal(facts.Claims().CNF.PCRs, []int64{4, 7}) {
		t.Fatalf("the cnf key is bound to other PCRs than 4 and 7: %v", err)
	}
	ev, err := attest.DecodeEvidence(encode(t, w.evidence(t)))
	if err != nil {
		t.Fatal(err)
	}
	c := w.tpm.Clock
	if got, err := ev.Clock(); err != nil || got != (attest.Clock{Milliseconds: c.Clock, Resets: uint64(c.ResetCount), Restarts: uint64(c.RestartCount), Safe: bool(c.Safe)}) {
		t.Errorf("got %+v, %v, want %+v", got, err, c)
	}
	for _, n := range []int{attest.MaxEvidence, attest.MaxEvidence + 1} {
		if _, err := attest.DecodeEvidence(make([]byte, n)); denial.Is(err, denial.RequestLimit) != (n > attest.MaxEvidence) || err == nil {
			t.Errorf("%d bytes: got %v", n, err)
		}
	}
}

func TestQuotesAtTheirEdges(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	key := pemKey(t, w.tpm.AK)
	block, _ := pem.Decode(key)
	for name, row := range map[string]struct {
		edit func(*attest.QuoteFiles)
		code denial.Reason
	}{
		"a key by another name": {func(f *attest.QuoteFiles) {
			f.AK = pem.EncodeToMemory(&pem.Block{Type: "EC PUBLIC KEY", Bytes: block.Bytes})
		}, denial.QuoteMalformed},
		"a key that is none": {func(f *attest.QuoteFiles) {
			f.AK = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: []byte{0x30, 0}})
		}, denial.QuoteMalformed},
		"a signature of 4 bytes": {func(f *attest.QuoteFiles) { f.AK, f.Signature = key, []byte{0, 0x18, 0, 4} }, denial.AlgNotAllowed},
		"a signature of 3 bytes": {func(f *attest.QuoteFiles) { f.AK, f.Signature = key, []byte{0, 0x18, 0} }, denial.QuoteMalformed},
		"another kind of signature": {func(f *attest.QuoteFiles) {
			f.Signature = append([]byte{0, 5, 0, 0x0b}, make([]byte, 32)...) // an HMAC
		}, denial.AlgNotAllowed},
		"a longer s": {func(f *attest.QuoteFiles) {
			r, rest := f.Signature[:4+34], f.Signature[4+34:] // algorithm, hash, r; then s
			f.Signature = slices.Concat(r, binary.BigEndian.AppendUint16(nil, 33), []byte{0}, make([]byte, 32-len(rest[2:])), rest[2:])
		}, denial.QuoteSignature},
		"a log that is none": {func(f *attest.QuoteFiles) { f.Log = []byte{1} }, denial.LogMalformed},
	} {
		f := quoteFiles(t, w)
		for len(f.Signature) != 4+34+34 { // one whose numbers have 32 bytes
			f = quoteFiles(t, w)
		}
		row.edit(&f)
		if r, err := attest.CheckQuote(f); !denial.Is(err, row.code) || r != nil {
			t.Errorf("%s: got %+v, %v, want %s", name, r, err, row.code)
		}
	}
	for name, row := range map[string]struct {
		quote func(*tpm2.TPMSAttest)
		code  denial.Reason
	}{
		"no PCRs":      {quoteInfo(func(i *tpm2.TPMSQuoteInfo) { i.PCRSelect.PCRSelections = nil }), denial.PCRSelectionMismatch},
		"two banks":    {quoteInfo(func(i *tpm2.TPMSQuoteInfo) { i.PCRSelect.PCRSelections = slicesRepeat(i.PCRSelect.PCRSelections[0], 2) }), denial.QuoteMalformed},
		"bank sha1":    {selection(func(s *tpm2.TPMSPCRSelection) { s.Hash = tpm2.TPMAlgSHA1 }), denial.BankNotAllowed},
		"no PCR of it": {selection(func(s *tpm2.TPMSPCRSelection) { s.PCRSelect = make([]byte, 3) }), denial.PCRSelectionMismatch},
	} {
		w := newWorld(t, softtpm.Options{})
		w.tpm.Edit.Quote = row.quote
		f := quoteFiles(t, w)
		f.PCRs, f.Log = nil, nil // the selection is checked where nothing is held against it
		if r, err := attest.CheckQuote(f); !denial.Is(err, row.code) || r != nil {
			t.Errorf("%s, without values: got %+v, %v, want %s", name, r, err, row.code)
		}
	}
	strong := newWorld(t, softtpm.Options{})
	b := bootlog.New(bootlog.Options{Banks: []string{"sha384"}})
	strong.log, strong.pcrs, strong.want.Selection.Bank = b.Log, b.PCRs("sha384"), "sha384"
	r, err := attest.CheckQuote(quoteFiles(t, strong))
	if err != nil || r.Bank != "sha384" || r.Uncovered != nil || len(r.PCRs) != 8 || r.Boot.Bank != "sha384" {
		t.Errorf("the SHA-384 bank: got %+v, %v", r, err)
	}
}

func TestEnrolRequestsAtTheirEdges(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	r := w.tpm.EnrolRequest()
	r.Chain = nil
	raw, err := r.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := attest.DecodeEnrolRequest(raw); err != nil || len(got.Chain) != 0 {
		t.Errorf("no certificates: got %+v, %v", got, err)
	}
	for n, want := range map[int]bool{8: true, 9: false} {
		r.Chain = slicesRepeat([]byte{1}, n)
		raw, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := attest.DecodeEnrolRequest(raw); (err == nil) != want {
			t.Errorf("%d certificates: got %v", n, err)
		}
	}
	for bits, want := range map[tpm2.TPMKeyBits]denial.Reason{128: 0, 192: 0, 256: 0, 193: denial.EKWeak} {
		w := newWorld(t, softtpm.Options{Edit: softtpm.Edit{EK: func(p *tpm2.TPMTPublic) {
			if parms, err := p.Parameters.ECCDetail(); err == nil {
				parms.Symmetric.KeyBits = tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, bits)
			}
		}}})
		_, err := attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), w.enrolOptions())
		if want == 0 && err != nil || want != 0 && !denial.Is(err, want) {
			t.Errorf("an EK with AES-%d: got %v", bits, err)
		}
	}
	sized := func(n int) []byte {
		r.Chain = [][]byte{make([]byte, n)}
		raw, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	overhead := len(sized(60_000)) - 60_000
	if _, err := attest.DecodeEnrolRequest(sized(64<<10 - overhead)); err != nil {
		t.Errorf("the longest request: %v", err)
	}
	_, err = attest.DecodeEnrolRequest(sized(64<<10 - overhead + 1))
	refused(t, nil, err, denial.RequestLimit)
}

// A person is told what a certificate says of its TPM, and how far the way to a root goes.
func TestCertificatesAreExplained(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	parse := func(der []byte) *x509.Certificate {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := softtpm.EKTemplate(t)
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(7), softtpm.Now.AddDate(0, -1, 0), softtpm.Now.AddDate(1, 0, 0)
	weak := w.vendor.Issue(t, template, &p521.PublicKey)
	plain := *template
	plain.UnknownExtKeyUsage = nil
	for name, row := range map[string]struct {
		der    []byte
		edit   func(*attest.EnrolOptions)
		device bool
		way    int
		code   denial.Reason // 0: nothing speaks against it
	}{
		"a good one":       {w.tpm.EnrolRequest().Chain[0], nil, true, 2, 0},
		"under no root":    {w.tpm.EnrolRequest().Chain[0], func(o *attest.EnrolOptions) { o.Roots = []*x509.Certificate{softtpm.NewVendor(t).Root} }, true, 0, denial.EKUntrusted},
		"of a weak key":    {weak, nil, true, 0, denial.EKWeak},
		"of another usage": {w.vendor.Issue(t, &plain, &p521.PublicKey), nil, false, 0, denial.EKUntrusted},
		"of firmware that is refused": {w.tpm.EnrolRequest().Chain[0], func(o *attest.EnrolOptions) {
			o.Rules.Firmware = []attest.FirmwareRange{{Manufacturer: "00001014", From: 0, To: 1<<32 - 1, Why: "a test"}}
		}, true, 2, denial.TPMFirmware},
	} {
		o := w.enrolOptions()
		if row.edit != nil {
			row.edit(&o)
		}
		d, way, err := attest.ExplainCertificate(parse(row.der), o)
		if (d.Manufacturer != "") != row.device || len(way) != row.way || row.code == 0 && err != nil || row.code != 0 && !denial.Is(err, row.code) {
			t.Errorf("%s: got %+v, %d certificates, %v, want %s", name, d, len(way), err, row.code)
		}
	}
}

// The verifier itself must want something that can be compared.
func TestWantsThatMeanNothing(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	raw := encode(t, w.evidence(t))
	block, _ := pem.Decode(pemKey(t, w.tpm.AK))
	for name, r := range map[string]attest.IMAReference{
		"one known file":   {Known: []string{"sha256:" + strings.Repeat("0", 64)}},
		"one watched path": {Watch: []string{"/a"}},
		"a file and a key": {Known: []string{"sha256:" + strings.Repeat("0", 64)}, Keys: [][]byte{block.Bytes}},
		"no digest":        {Known: []string{"x"}},
	} {
		w.want.IMA = r
		if facts, err := verify(raw, w.want); facts != nil || !denial.Is(err, denial.Internal) {
			t.Errorf("%s, without PCR 10: got %v", name, err)
		}
	}
	var d *denial.Denial
	if _, err := (attest.EvidenceParts{Bank: "sha1"}).Encode(); err == nil || errors.As(err, &d) {
		t.Errorf("evidence of the SHA-1 bank: got %v", err)
	}
}
