package corpus

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	goattest "github.com/google/go-attestation/attest"
	"github.com/google/go-eventlog/extract"
	pb "github.com/google/go-eventlog/proto/state"
	"github.com/google/go-eventlog/register"
	"github.com/google/go-eventlog/tcg"
	"github.com/google/go-eventlog/tpmeventlog"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

// stricter says why we refuse what go-attestation or go-eventlog accepts, by the code of the refusal. Each is wanted.
var stricter = map[denial.Reason]string{
	denial.LogMalformed:        "bytes that are no event, a header with other fields, unknown digests, PCRs from 24 on and localities beyond 0, 3 and 4 (L09, L10, L28)",
	denial.LogUncovered:        "all events of a PCR, or its digests in the bank, left out (L01, L02)",
	denial.EventUnexpected:     "a type that does not belong in its PCR, a second, late or missing separator, a second StartupLocality (L03, L05 to L08)",
	denial.EventDigestMismatch: "data that means something and is not what the digest is of (L03, L04)",
	denial.SecureBootKeys:      "Secure Boot on, and nothing that verified anything, or a test key (L20, L21); they check it only where they read facts",
	denial.BankNotAllowed:      "SHA-1 (L16, Q12, Q14)",
	denial.QuoteMalformed:      "bytes behind a structure or a second encoding of it, more than one bank, a bitmap of another length (Q06, Q11, Q16, Q17)",
	denial.AKAttributes:        "a key that is not restricted, not fixed to its TPM or not of an allowed kind (K05 to K09)",
	denial.AKSubstituted:       "a qualified signer that is not the key (Q20), which they never look at",
	denial.AlgNotAllowed:       "a scheme that is not the key's (Q15)",
}

// laxer says why we accept what one of them refuses, by its error. Each is a real machine that they refuse.
var laxer = []struct{ library, err, why string }{
	{"go-eventlog", "reached padding before event log EOF", "Windows appends its own records to the log, of no PCR; they are taken for padding. They extend nothing, and no fact rests on them"},
	{"go-eventlog facts", "reached padding before event log EOF", "as above"},
	{"go-eventlog facts", "invalid SCRTM version event for PCR0", "the version of the firmware is data of the vendor; its digest is compared through PCR 0, and no fact rests on its form"},
	{"go-eventlog facts", "invalid Non-Host info event for PCR0", "data of the vendor in PCR 0, as above"},
	{"go-eventlog facts", "contains separator data but non-separator type 7", "firmware measured four zero bytes as its contents; a separator is one by its type, its data and its digest, and each PCR must have exactly one"},
	{"go-eventlog facts", "negative serial number", "a platform key with a certificate that Go's x509 does not read; keys are facts by the digest of their variable"},
	{"go-attestation facts", "negative serial number", "as above"},
	{"go-attestation facts", "cannot compare hash of length 48", "it reads facts from SHA-1 and SHA-256 alone"},
	{"go-attestation facts", "SecureBoot data len is 0", "firmware that was never set up has the variable empty, which is Secure Boot off"},
}

// tally counts the differences of a run by their class, and fails on one that is not listed.
type tally struct {
	same    int
	classes map[string]int
}

func (c *tally) count(t *testing.T, name, library string, ours, theirs error) {
	t.Helper()
	if c.classes == nil {
		c.classes = map[string]int{}
	}
	switch {
	case (ours == nil) == (theirs == nil):
		c.same++
	case ours != nil:
		reason := denial.Of(ours).Reason
		if stricter[reason] == "" {
			t.Fatalf("%s: %s accepts what is refused here with %v, and no reason is written down", name, library, ours)
		}
		c.classes[fmt.Sprintf("stricter than %s: %d %s", library, reason.Code(), reason)]++
	default:
		listed := false
		for _, l := range laxer {
			if l.library == library && strings.Contains(theirs.Error(), l.err) {
				c.classes["laxer than "+library+": "+l.err]++
				listed = true
			}
		}
		if !listed {
			t.Fatalf("%s: accepted here, but %s says %v", name, library, theirs)
		}
	}
}

func (c *tally) log(t *testing.T) {
	t.Helper()
	for _, class := range slices.Sorted(maps.Keys(c.classes)) {
		t.Logf("%6d %s", c.classes[class], class)
	}
	t.Logf("%6d verdicts are the same", c.same)
}

// peers are PCR values in the types of the two libraries.
type peers struct {
	eventlog register.PCRBank
	attest   []goattest.PCR
}

func newPeers(bank string, pcrs map[int64][]byte) peers {
	p := peers{eventlog: register.PCRBank{TCGHashAlgo: pb.HashAlgo_SHA256}}
	h := crypto.SHA256
	if bank == "sha384" {
		p.eventlog.TCGHashAlgo, h = pb.HashAlgo_SHA384, crypto.SHA384
	}
	for _, pcr := range slices.Sorted(maps.Keys(pcrs)) {
		p.eventlog.PCRs = append(p.eventlog.PCRs, register.PCR{Index: int(pcr), Digest: pcrs[pcr], DigestAlg: h})
		p.attest = append(p.attest, goattest.PCR{Index: int(pcr), Digest: pcrs[pcr], DigestAlg: h})
	}
	return p
}

// caught calls a library, which may panic.
func caught[T any](f func() (T, error)) (v T, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return f()
}

// replays returns the verdicts of both on a log.
func (p peers) replays(log []byte) (eventlog, attestation error, events []goattest.Event) {
	_, eventlog = caught(func() ([]tcg.Event, error) { return tcg.ParseAndReplay(log, p.eventlog.MRs(), tcg.ParseOpts{}) })
	events, attestation = caught(func() ([]goattest.Event, error) {
		l, err := goattest.ParseEventLog(log)
		if err != nil {
			return nil, err
		}
		return l.Verify(p.attest)
	})
	return eventlog, attestation, events
}

func TestDifferencesOverTheCorpus(t *testing.T) {
	var c tally
	for _, l := range logCases(t) {
		for _, bank := range []string{"sha256", "sha384"} {
			pcrs := l.boot(bank)
			if len(pcrs) == 0 {
				continue
			}
			p, name := newPeers(bank, pcrs), l.path+" "+bank
			facts, ours := compare(l.raw, bank, pcrs)
			eventlog, attestation, events := p.replays(l.raw)
			c.count(t, name, "go-eventlog", ours, eventlog)
			c.count(t, name, "go-attestation", ours, attestation)
			if ours != nil {
				continue
			}
			state, err := tpmeventlog.ReplayAndExtract(l.raw, p.eventlog, extract.Opts{Loader: extract.UnsupportedLoader,
				AllowEmptySBVar: true, AllowEFIAppBeforeCallingEvent: true})
			c.count(t, name, "go-eventlog facts", nil, err)
			if sb := state.GetSecureBoot(); sb != nil && sb.Enabled != facts.SecureBoot.Enabled {
				t.Errorf("%s: Secure Boot is %v, go-eventlog says %v", name, facts.SecureBoot.Enabled, sb.Enabled)
			}
			sb, err := goattest.ParseSecurebootState(events)
			c.count(t, name, "go-attestation facts", nil, err)
			if err == nil && sb.Enabled != facts.SecureBoot.Enabled {
				t.Errorf("%s: Secure Boot is %v, go-attestation says %v", name, facts.SecureBoot.Enabled, sb.Enabled)
			}
		}
	}
	for _, l := range laxer {
		if c.classes["laxer than "+l.library+": "+l.err] == 0 {
			t.Errorf("no machine needs that we are laxer than %s with %q", l.library, l.err)
		}
	}
	c.log(t)
}

// given returns the PCR values that a log gives, for the PCRs that were quoted, as a TPM to which all of it happened would
// have them.
func given(log []byte, bank string, quoted map[int64][]byte) map[int64][]byte {
	l, err := attest.ParseLog(log)
	if err != nil {
		return quoted
	}
	values, err := l.Replay(bank)
	if err != nil {
		return quoted
	}
	out := maps.Clone(quoted)
	for pcr := range out {
		if v, ok := values[pcr]; ok {
			out[pcr], _ = hex.DecodeString(v)
		}
	}
	return out
}

// hcrtm begins an EV_EFI_HCRTM_EVENT.
var hcrtm = []byte{0, 0, 0, 0, 0x10, 0, 0, 0x80}

// Of changed logs we may refuse more than the libraries, never fewer. Half of them come with the PCR values that they give.
func TestDifferencesOverMutatedLogs(t *testing.T) {
	var honest []logCase
	for _, l := range logCases(t) {
		pcrs := l.boot("sha256")
		windows := bytes.Contains(l.raw, binary.LittleEndian.AppendUint32([]byte{0xFF, 0xFF, 0xFF, 0xFF}, 3))
		if _, err := compare(l.raw, "sha256", pcrs); err == nil && len(pcrs) > 0 && !windows {
			honest = append(honest, l)
		}
	}
	var c tally
	for i := range cases(t, 20_000) / 20 {
		m := newMutator(i)
		l := honest[m.IntN(len(honest))]
		log, pcrs := m.log(l.raw), l.boot("sha256")
		if m.IntN(4) == 0 {
			log = m.bytes(l.raw)
		}
		if m.IntN(2) == 0 {
			pcrs = given(log, "sha256", pcrs)
		}
		_, ours := compare(log, "sha256", pcrs)
		eventlog, attestation, _ := newPeers("sha256", pcrs).replays(log)
		name := fmt.Sprintf("case %d of %s", i, l.path)
		c.count(t, name, "go-eventlog", ours, eventlog)
		if !bytes.Contains(log, hcrtm) { // after which PCR 0 begins with 4: go-attestation does not know
			c.count(t, name, "go-attestation", ours, attestation)
		}
	}
	c.log(t)
}

// verifyQuote is go-attestation's verdict on a quote.
func verifyQuote(f attest.QuoteFiles) error {
	_, err := caught(func() (struct{}, error) {
		ak, err := akOf(f.AK)
		if err != nil {
			return struct{}{}, err
		}
		var pcrs []goattest.PCR
		for bank, h := range map[string]crypto.Hash{"sha1": crypto.SHA1, "sha256": crypto.SHA256, "sha384": crypto.SHA384} {
			for pcr, v := range f.PCRs[bank] {
				pcrs = append(pcrs, goattest.PCR{Index: int(pcr), Digest: v, DigestAlg: h})
			}
		}
		return struct{}{}, ak.Verify(goattest.Quote{Quote: f.Attest, Signature: f.Signature}, pcrs, f.Nonce)
	})
	return err
}

// akOf reads a TPM2B_PUBLIC, a TPMT_PUBLIC or a key as PEM, which has no hash of its own.
func akOf(raw []byte) (*goattest.AKPublic, error) {
	if block, _ := pem.Decode(raw); block != nil {
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		return &goattest.AKPublic{Public: pub, Hash: crypto.SHA256}, err
	}
	if len(raw) > 2 && int(binary.BigEndian.Uint16(raw)) == len(raw)-2 {
		raw = raw[2:]
	}
	return goattest.ParseAKPublic(raw)
}

func TestDifferencesOverTheQuotesOfTheCorpus(t *testing.T) {
	var c tally
	for _, q := range quoteCases(t) {
		f := q.QuoteFiles
		f.Log = nil // go-attestation checks it apart
		if a, err := attest.ParseAttestation(f.Attest); f.Nonce == nil && err == nil {
			f.Nonce = a.ExtraData
		}
		if len(f.PCRs) == 0 {
			continue // which it demands
		}
		_, ours := attest.CheckQuote(f)
		c.count(t, q.name, "go-attestation", ours, verifyQuote(f))
	}
	c.log(t)
}

// Of changed quotes we may refuse more than go-attestation, never fewer. It takes no key with RSAPSS, so there is none here.
func TestDifferencesOverMutatedQuotes(t *testing.T) {
	var c tally
	worlds := newWorlds(t)[:3]
	for i := range cases(t, 20_000) / 10 {
		m := newMutator(i)
		w := m.pick(worlds)
		extra := attest.QualifyingData(w.want.Challenge, w.want.Request, w.want.Exporter)
		f := attest.QuoteFiles{Attest: w.parts.Quote, Signature: w.parts.Signature, AK: w.parts.AK[2:], Nonce: extra[:],
			PCRs: map[string]map[int64][]byte{"sha256": w.parts.PCRs}}
		switch m.IntN(4) {
		case 0, 1:
			f.Attest = m.bytes(f.Attest)
		case 2:
			f.Signature = m.bytes(f.Signature)
		case 3:
			f.AK = m.bytes(f.AK)
		}
		_, ours := attest.CheckQuote(f)
		c.count(t, fmt.Sprintf("case %d", i), "go-attestation", ours, verifyQuote(f))
	}
	c.log(t)
}
