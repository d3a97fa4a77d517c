package attest_test

import (
	"bytes"
	"math/bits"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
)

// newAuditedWorld is a host whose TPM keeps the banks, into all of which firmware measured.
func newAuditedWorld(tb testing.TB, banks []string, o softtpm.Options) *world {
	tb.Helper()
	w := newWorld(tb, o)
	b := bootlog.New(bootlog.Options{Banks: banks})
	w.want.Audit, w.log, w.pcrs, w.tpm.Banks = true, b.Log, b.PCRs("sha256"), map[string]map[int64][]byte{}
	for _, name := range banks {
		if name != "sha256" {
			w.tpm.Banks[name] = b.PCRs(name)
		}
	}
	return w
}

func TestAuditedSession(t *testing.T) {
	for _, banks := range [][]string{{"sha256"}, {"sha256", "sha384"}, {"sha1", "sha256", "sha384", "sha512"}} {
		for _, ak := range []softtpm.Algorithm{softtpm.P256, softtpm.P384, softtpm.RSA2048} {
			w := newAuditedWorld(t, banks, softtpm.Options{AK: ak})
			facts, err := verify(encode(t, w.evidence(t)), w.want)
			if err != nil {
				t.Fatalf("%v: %v", banks, err)
			}
			first := facts.BootKey()
			w.tpm.Boot = []byte("another boot")
			if facts, err = verify(encode(t, w.evidence(t)), w.want); err != nil || len(first) != 34 || bytes.Equal(first, facts.BootKey()) {
				t.Errorf("%v: got boot keys %x and %x, %v", banks, first, facts.BootKey(), err)
			}
		}
	}
}

// The first bank is that of the policy; what stands in the others must be what firmware logged.
func TestL15_OtherBanksOfAnAuditedSession(t *testing.T) {
	all := []string{"sha1", "sha256", "sha384", "sha512"}
	for _, bank := range []string{"sha1", "sha384", "sha512"} {
		w := newAuditedWorld(t, all, softtpm.Options{})
		w.tpm.Banks[bank] = bootlog.New(bootlog.Options{Banks: all, Image: []byte("another image")}).PCRs(bank)
		facts, err := verify(encode(t, w.evidence(t)), w.want)
		refusedAt(t, facts, err, denial.LogReplayMismatch, denial.StageFacts)
		w = newAuditedWorld(t, []string{"sha256"}, softtpm.Options{})
		w.tpm.Banks = map[string]map[int64][]byte{bank: bootlog.New(bootlog.Options{Banks: all}).PCRs(bank)}
		facts, err = verify(encode(t, w.evidence(t)), w.want)
		refusedAt(t, facts, err, denial.BankUncapped, denial.StageFacts)
		w.want.Audit = false // nobody looks
		if _, err = verify(encode(t, w.evidence(t)), w.want); err != nil {
			t.Error(err)
		}
	}
}

func TestF21_SessionIsRefused(t *testing.T) {
	banks := []string{"sha256", "sha384"}
	const first, second, third = 0, 1, 2 // boot key, banks, PCRs of sha384
	at := func(n, offset int, b ...byte) func(*attest.AuditSession) {
		return func(s *attest.AuditSession) { copy(s.Responses[n][offset:], b) }
	}
	edited := func(f func(*tpm2.TPMSAttest)) softtpm.Options { return softtpm.Options{Edit: softtpm.Edit{Session: f}} }
	plain := softtpm.Options{}
	resized := func(n int, f func([]byte) []byte) func(*attest.AuditSession) {
		return func(s *attest.AuditSession) { s.Responses[n] = f(s.Responses[n]) }
	}
	longer := func(b []byte) []byte { return append(b, 0) }
	shorter := func(b []byte) []byte { return b[:len(b)-1] }
	other := softtpm.NewVendor(t).New(t, softtpm.Options{})
	for name, row := range map[string]struct {
		o     softtpm.Options
		spoil func(*attest.AuditSession)
		code  denial.Reason
	}{
		"magic":             {edited(func(a *tpm2.TPMSAttest) { a.Magic = 0x11223344 }), nil, denial.QuoteMagic},
		"type":              {plain, func(s *attest.AuditSession) { s.Attest[5] = 0x18 }, denial.QuoteType},
		"trailing byte":     {plain, func(s *attest.AuditSession) { s.Attest = append(s.Attest, 0) }, denial.QuoteMalformed},
		"another AK's name": {edited(func(a *tpm2.TPMSAttest) { a.QualifiedSigner.Buffer = make([]byte, 34) }), nil, denial.TPMFirmware},
		"another occasion":  {edited(func(a *tpm2.TPMSAttest) { a.ExtraData = tpm2.TPM2BData{Buffer: make([]byte, 32)} }), nil, denial.TPMFirmware},
		"another's session": {plain, func(s *attest.AuditSession) { s.Signature = other.Sign(t, s.Attest) }, denial.TPMFirmware},
		"no signature":      {plain, func(s *attest.AuditSession) { s.Signature = []byte{0, 0x10} }, denial.QuoteMalformed},
		"another digest":    {plain, func(s *attest.AuditSession) { s.Attest = bytes.Clone(s.Attest); s.Attest[len(s.Attest)-1] ^= 1 }, denial.TPMFirmware},
		"empty part":        {plain, func(s *attest.AuditSession) { s.Attest = nil }, denial.QuoteMalformed},
		"empty response":    {plain, func(s *attest.AuditSession) { s.Responses[1] = nil }, denial.QuoteMalformed},
		"large response":    {plain, func(s *attest.AuditSession) { s.Responses[1] = make([]byte, 4097) }, denial.StructureLimit},
		"many responses":    {plain, func(s *attest.AuditSession) { s.Responses = slicesRepeat(s.Responses[2], 65) }, denial.StructureLimit},
		"no responses":      {plain, func(s *attest.AuditSession) { s.Responses = nil }, denial.QuoteMalformed},
		"a response less":   {plain, func(s *attest.AuditSession) { s.Responses = s.Responses[:2] }, denial.QuoteMalformed},
		"a response more":   {plain, func(s *attest.AuditSession) { s.Responses = append(s.Responses, s.Responses[2]) }, denial.QuoteMalformed},
		"other order":       {plain, func(s *attest.AuditSession) { slices.Reverse(s.Responses) }, denial.QuoteMalformed},
		"key of other kind": {plain, at(first, 2, 0, 0x23), denial.QuoteMalformed},
		"key of other use":  {plain, at(first, 9, 0), denial.QuoteMalformed},
		"key cut short":     {plain, resized(first, func(b []byte) []byte { return b[:30] }), denial.QuoteMalformed},
		"key of other size": {plain, at(first, 0, 0, 20), denial.QuoteMalformed},
		"ticket of a key":   {plain, resized(first, longer), denial.TPMFirmware},
		"another key":       {plain, func(s *attest.AuditSession) { s.Responses[0][40] ^= 1 }, denial.TPMFirmware},
		"more banks":        {plain, at(second, 0, 1), denial.QuoteMalformed},
		"no banks":          {plain, at(second, 1, 0, 0, 0, 6), denial.QuoteMalformed},
		"too many banks":    {plain, at(second, 5, 0, 0, 0, 17), denial.QuoteMalformed},
		"banks cut short":   {plain, resized(second, shorter), denial.QuoteMalformed},
		"banks with a tail": {plain, resized(second, longer), denial.QuoteMalformed},
		"bitmap of 2 bytes": {plain, at(second, 11, 2), denial.QuoteMalformed},
		"a bank twice":      {plain, at(second, 15, 0, 11), denial.QuoteMalformed},
		"a bank hidden": {plain, func(s *attest.AuditSession) {
			copy(s.Responses[1][18:], []byte{0, 0, 0})
			s.Responses = s.Responses[:2]
		}, denial.TPMFirmware},
		"PCRs hidden":        {plain, func(s *attest.AuditSession) { s.Responses[1][18] = 0; s.Responses = s.Responses[:2] }, denial.TPMFirmware},
		"two selections":     {plain, at(third, 7, 2), denial.QuoteMalformed},
		"read another bank":  {plain, at(third, 8, 0, 11), denial.QuoteMalformed},
		"read nothing":       {plain, at(third, 11, 0), denial.QuoteMalformed},
		"read PCR 8":         {plain, at(third, 12, 1), denial.QuoteMalformed},
		"read PCR 16":        {plain, at(third, 13, 1), denial.QuoteMalformed},
		"another count":      {plain, at(third, 17, 7), denial.QuoteMalformed},
		"values cut short":   {plain, resized(third, shorter), denial.QuoteMalformed},
		"values with a tail": {plain, resized(third, longer), denial.QuoteMalformed},
		"another value":      {plain, func(s *attest.AuditSession) { s.Responses[2][len(s.Responses[2])-1] ^= 1 }, denial.TPMFirmware},
		"the update counter": {plain, at(third, 3, 9), denial.TPMFirmware},
	} {
		t.Run(name, func(t *testing.T) {
			w := newAuditedWorld(t, banks, row.o)
			e := w.evidence(t)
			if row.spoil != nil {
				row.spoil(e.Session)
			}
			for _, audit := range []bool{true, false} { // one that is there is never passed over
				w.want.Audit = audit
				facts, err := verify(encode(t, e), w.want)
				refused(t, facts, err, row.code)
			}
		})
	}
	w := newAuditedWorld(t, banks, plain)
	e := w.evidence(t)
	e.Session = nil
	facts, err := verify(encode(t, e), w.want)
	refusedAt(t, facts, err, denial.TPMFirmware, denial.StageBinding)
}

// A TPM may return fewer PCRs at once than it was asked for, and may not keep all of them in a bank.
func TestSessionThatReadsInParts(t *testing.T) {
	for name, kept := range map[string]byte{"all": 0xff, "some": 0x95, "none": 0} {
		w := newAuditedWorld(t, []string{"sha256", "sha384"}, softtpm.Options{})
		w.tpm.Kept, w.tpm.AtOnce = kept, 3
		e := w.evidence(t)
		if got, want := len(e.Session.Responses), 2+(bits.OnesCount8(kept)+2)/3; got != want {
			t.Fatalf("%s: %d responses, want %d", name, got, want)
		}
		facts, err := verify(encode(t, e), w.want)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, want := len(facts.Claims().Banks), map[bool]int{true: 1, false: 2}[kept == 0]; got != want {
			t.Errorf("%s: %d banks are kept, want %d", name, got, want)
		}
	}
	// A bank that is off is in no log.
	w := newAuditedWorld(t, []string{"sha256"}, softtpm.Options{})
	w.tpm.Banks, w.tpm.Kept = map[string]map[int64][]byte{"sha1": {}, "sha384": {}}, 0
	if _, err := verify(encode(t, w.evidence(t)), w.want); err != nil {
		t.Errorf("banks that are off: %v", err)
	}
}

// Whatever the responses are, they are read to their end or refused, and only those that the TPM gave are what it signed.
func FuzzAuditSession(f *testing.F) {
	w := newAuditedWorld(f, []string{"sha1", "sha256", "sha384"}, softtpm.Options{})
	good := w.evidence(f).Session
	f.Add(good.Responses[0], good.Responses[1], good.Responses[2], good.Responses[3])
	f.Add(good.Responses[1], good.Responses[0], good.Responses[3], good.Responses[2])
	f.Fuzz(func(t *testing.T, a, b, c, d []byte) {
		s := *good
		s.Responses = [][]byte{a, b, c, d}
		words, err := s.Explain("sha256")
		if err != nil {
			if r := denial.Of(err).Reason; r != denial.QuoteMalformed {
				t.Errorf("got %v", err)
			}
			return
		}
		same := bytes.Equal(a, good.Responses[0]) && bytes.Equal(b, good.Responses[1]) && bytes.Equal(c, good.Responses[2]) && bytes.Equal(d, good.Responses[3])
		if words.Signed != same {
			t.Errorf("signed: %v, as it was given: %v", words.Signed, same)
		}
	})
}
