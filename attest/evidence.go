package attest

import (
	"fmt"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Greatest sizes in bytes.
const (
	MaxEvidence = 8 << 20 // the evidence collection
	MaxBootLog  = 1 << 20 // the boot log in it
	MaxIMALog   = 6 << 20 // the IMA list in it: about 48,000 entries of ima-ng
	maxPart     = 4 << 10 // each structure that the TPM made: hardware makes none above 1 KiB
)

const (
	profileEvidence = "https://github.com/governed-execution/writ/profile/evidence/1"
	mediaQuote      = "application/vnd.writ.tpm2-evidence+cbor"
	mediaBootLog    = "application/vnd.writ.tcg-crypto-agile-log"
	mediaOSLog      = "application/vnd.writ.systemd-measure-log"
	mediaIMALog     = "application/vnd.writ.linux-ima-log"
	indEvidence     = 4 // RFC 9999, conceptual message indicator: evidence
)

// collection is the evidence collection: a CMW collection (RFC 9999, section 3.3).
type collection struct {
	Profile string  `cbor:"__cmwc_t,omitempty"`
	Quote   *record `cbor:"quote,omitempty"`
	BootLog *record `cbor:"boot-log,omitempty"`
	OSLog   *record `cbor:"os-log,omitempty"`  // of a host whose systemd measures
	IMALog  *record `cbor:"ima-log,omitempty"` // where the policy has PCR 10 quoted
}

// record is a CMW record (RFC 9999, section 3.1).
type record struct {
	_     struct{} `cbor:",toarray"`
	Type  string
	Value []byte
	Ind   uint64
}

// tpm2Evidence is what the TPM made. The keys 6 (creation data) and 9 (up-time) of earlier drafts are not accepted:
// no signature of this profile covers them.
type tpm2Evidence struct {
	Quote     []byte        `cbor:"0,keyasint"` // TPMS_ATTEST
	Signature []byte        `cbor:"1,keyasint"` // TPMT_SIGNATURE
	Banks     []bankValues  `cbor:"2,keyasint"` // exactly one
	AK        []byte        `cbor:"3,keyasint"` // TPM2B_PUBLIC
	Certify   Certification `cbor:"4,keyasint"` // of the cnf key, by the AK
	CNF       []byte        `cbor:"5,keyasint"` // TPM2B_PUBLIC
	Challenge []byte        `cbor:"7,keyasint"`
	Request   []byte        `cbor:"8,keyasint"`
	Session   *AuditSession `cbor:"10,keyasint,omitempty"` // where the policy wants it
}

// bankValues are PCR values of one bank, named by its COSE hash algorithm (RFC 9054). The quote signs their digest.
type bankValues struct {
	_      struct{} `cbor:",toarray"`
	Alg    int64
	Values map[int64][]byte
}

// Certification is the output of TPM2_Certify.
type Certification struct {
	_         struct{} `cbor:",toarray"`
	Attest    []byte   // TPMS_ATTEST
	Signature []byte   // TPMT_SIGNATURE
}

// Evidence is a decoded, unverified evidence collection. Only DecodeEvidence makes one; only Verify draws facts from it.
type Evidence struct {
	digest statement.Digest
	tpm    tpm2Evidence
	log    []byte
	os     []byte // nil if there is none
	ima    []byte // nil if there is none
}

// DecodeEvidence reads an evidence collection as a host sent it. It checks, in this order: that there is one (102); its
// size (908); one strict encoding and no unknown member (308-313, 911); the profile (911); the records (102, 311); the
// sizes of boot log, log of the system and IMA list (908); one strict encoding of the quote record, with no unknown key and none missing (308-313, 911,
// 104); no part of it empty (317); exactly one bank of PCR values, each PCR below 24 and each value as long as the bank's
// digests (317).
func DecodeEvidence(raw []byte) (*Evidence, error) {
	return guarded(func() (*Evidence, error) { return decodeEvidence(raw) })
}

func decodeEvidence(raw []byte) (*Evidence, error) {
	if len(raw) == 0 {
		return nil, denial.New(denial.NoEvidence, "there is no evidence")
	}
	if len(raw) > MaxEvidence {
		return nil, denial.New(denial.RequestLimit, "evidence has at most %d bytes", MaxEvidence)
	}
	var c collection
	if err := statement.Unmarshal(raw, &c); err != nil {
		return nil, err
	}
	if c.Profile != profileEvidence {
		return nil, denial.New(denial.UnsupportedVersion, "not an evidence collection of profile 1")
	}
	if err := c.Quote.check(mediaQuote); err != nil {
		return nil, err
	}
	if err := c.BootLog.check(mediaBootLog); err != nil {
		return nil, err
	}
	if len(c.BootLog.Value) > MaxBootLog {
		return nil, denial.New(denial.RequestLimit, "a boot log has at most %d bytes", MaxBootLog)
	}
	ev := &Evidence{digest: statement.DigestOf(raw), log: c.BootLog.Value}
	if c.OSLog != nil {
		if err := c.OSLog.check(mediaOSLog); err != nil {
			return nil, err
		}
		if ev.os = c.OSLog.Value; len(ev.os) > MaxOSLog {
			return nil, denial.New(denial.RequestLimit, "a log of the system has at most %d bytes", MaxOSLog)
		}
	}
	if c.IMALog != nil {
		if err := c.IMALog.check(mediaIMALog); err != nil {
			return nil, err
		}
		if ev.ima = c.IMALog.Value; len(ev.ima) > MaxIMALog {
			return nil, denial.New(denial.RequestLimit, "an IMA list has at most %d bytes", MaxIMALog)
		}
	}
	if err := ev.tpm.decode(c.Quote.Value); err != nil {
		return nil, err
	}
	return ev, nil
}

func (r *record) check(media string) error {
	if r == nil || len(r.Value) == 0 {
		return denial.New(denial.NoEvidence, "a record is missing or empty")
	}
	if r.Type != media || r.Ind != indEvidence {
		return denial.New(denial.WrongType, "a record is not evidence of type %s", media)
	}
	return nil
}

func (t *tpm2Evidence) decode(raw []byte) error {
	if err := statement.Unmarshal(raw, t); err != nil {
		return err
	}
	for _, part := range [][]byte{t.Quote, t.Signature, t.AK, t.Certify.Attest, t.Certify.Signature, t.CNF} {
		if len(part) == 0 {
			return denial.New(denial.QuoteMalformed, "a part of the quote is missing")
		}
	}
	for _, part := range [][]byte{t.Certify.Attest, t.Certify.Signature, t.CNF} { // the rest is bounded before the AK counts as known
		if len(part) > maxPart {
			return denial.New(denial.StructureLimit, "a part of the evidence has more than %d bytes", maxPart)
		}
	}
	if err := t.Session.check(); err != nil {
		return err
	}
	if len(t.Challenge) != 32 || len(t.Request) != 32 {
		return denial.New(denial.QuoteMalformed, "challenge and request digest have 32 bytes")
	}
	if len(t.Banks) != 1 {
		return denial.New(denial.QuoteMalformed, "PCR values of %d banks, not of one", len(t.Banks))
	}
	return t.Banks[0].check()
}

func (b bankValues) check() error {
	size := bankSize(b.Alg)
	if size == 0 {
		return denial.New(denial.QuoteMalformed, "PCR values of an unknown bank")
	}
	for index, value := range b.Values {
		if index < 0 || index > maxPCR {
			return denial.New(denial.QuoteMalformed, "a PCR value has no PCR")
		}
		if len(value) != size {
			return denial.New(denial.QuoteMalformed, "the value of PCR %d does not have the length of its bank", index)
		}
	}
	return nil
}

// Digest returns SHA-256 of the evidence as it was received.
func (e *Evidence) Digest() statement.Digest { return e.digest }

// AKName returns the TPM Name of the AK that the evidence names. It is unverified and serves to find the enrolment.
func (e *Evidence) AKName() ([]byte, error) { return Name(e.tpm.AK) }

// EvidenceParts is what a host collects. Encode makes the evidence collection of it.
type EvidenceParts struct {
	Quote     []byte           // TPMS_ATTEST of TPM2_Quote
	Signature []byte           // TPMT_SIGNATURE of TPM2_Quote
	Bank      string           // "sha256" or "sha384"
	PCRs      map[int64][]byte // the quoted values
	AK        []byte           // TPM2B_PUBLIC
	Certify   Certification    // TPM2_Certify of the cnf key by the AK
	CNF       []byte           // TPM2B_PUBLIC
	Challenge Nonce
	Request   statement.Digest
	Session   *AuditSession // nil: none
	BootLog   []byte        // TCG crypto agile log
	OSLog     []byte        // log of systemd; nil: none
	IMALog    []byte        // IMA list, binary; nil: none
}

// Encode returns the evidence collection in its one encoding.
func (p EvidenceParts) Encode() ([]byte, error) {
	b, ok := bankNamed(p.Bank)
	if !ok {
		return nil, fmt.Errorf("encoding evidence: no PCR bank %q", p.Bank)
	}
	quote, err := statement.Marshal(tpm2Evidence{
		Quote: p.Quote, Signature: p.Signature, Banks: []bankValues{{Alg: b.cose, Values: p.PCRs}}, AK: p.AK,
		Certify: p.Certify, CNF: p.CNF, Challenge: p.Challenge[:], Request: p.Request[:], Session: p.Session,
	})
	if err != nil {
		return nil, err
	}
	c := collection{
		Profile: profileEvidence,
		Quote:   &record{Type: mediaQuote, Value: quote, Ind: indEvidence},
		BootLog: &record{Type: mediaBootLog, Value: p.BootLog, Ind: indEvidence},
	}
	if p.OSLog != nil {
		c.OSLog = &record{Type: mediaOSLog, Value: p.OSLog, Ind: indEvidence}
	}
	if p.IMALog != nil {
		c.IMALog = &record{Type: mediaIMALog, Value: p.IMALog, Ind: indEvidence}
	}
	return statement.Marshal(c)
}
