package attest

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
)

// Attestation says what a TPMS_ATTEST claims, for people. It proves nothing: only Verify draws facts from a quote.
type Attestation struct {
	Type      string // "quote", "certify", "session-audit", or the number of another type
	Signer    []byte // qualified name of the key that signed
	ExtraData []byte // qualifying data
	Clock     Clock
	Firmware  uint64
	Banks     []Quoted // of a quote
	Digest    []byte   // of a quote: pcrDigest; of an audit session: sessionDigest
	Name      []byte   // of a certification: Name of the certified object
}

// Quoted are the PCRs of one bank that a quote covers.
type Quoted struct {
	Bank string // one without a name is given by its number
	PCRs []int  // ascending
}

// ParseAttestation reads a TPMS_ATTEST for people, with or without the length that makes it a TPM2B_ATTEST. It checks
// magic (314), size (313) and one strict encoding (317).
func ParseAttestation(raw []byte) (*Attestation, error) {
	return guarded(func() (*Attestation, error) { return explainAttest(withoutSize(raw)) })
}

// withoutSize strips the length of a TPM2B_ATTEST. No TPMS_ATTEST begins with its own length: it begins with 0xFF54.
func withoutSize(raw []byte) []byte {
	if len(raw) >= 2 && len(raw) <= maxStructure+2 && int(binary.BigEndian.Uint16(raw)) == len(raw)-2 {
		return raw[2:]
	}
	return raw
}

func explainAttest(raw []byte) (*Attestation, error) {
	if len(raw) < 6 {
		return nil, denial.New(denial.QuoteMalformed, "an attestation is cut short")
	}
	a, err := parseAttest(raw, tpm2.TPMST(binary.BigEndian.Uint16(raw[4:])))
	if err != nil {
		return nil, err
	}
	return explain(a), nil
}

func explain(a *tpm2.TPMSAttest) *Attestation {
	out := &Attestation{Signer: a.QualifiedSigner.Buffer, ExtraData: a.ExtraData.Buffer,
		Clock: Clock{Milliseconds: a.ClockInfo.Clock, Resets: uint64(a.ClockInfo.ResetCount), Restarts: uint64(a.ClockInfo.RestartCount),
			Safe: bool(a.ClockInfo.Safe)}, Firmware: a.FirmwareVersion}
	switch a.Type {
	case tpm2.TPMSTAttestCertify:
		if info, err := a.Attested.Certify(); err == nil {
			out.Type, out.Name = "certify", info.Name.Buffer
		}
	case tpm2.TPMSTAttestSessionAudit:
		if info, err := a.Attested.SessionAudit(); err == nil {
			out.Type, out.Digest = "session-audit", info.SessionDigest.Buffer
		}
	case tpm2.TPMSTAttestQuote:
		if info, err := a.Attested.Quote(); err == nil {
			out.Type, out.Digest = "quote", info.PCRDigest.Buffer
			for _, s := range info.PCRSelect.PCRSelections {
				out.Banks = append(out.Banks, explainSelection(s))
			}
		}
	}
	if out.Type == "" {
		out.Type = fmt.Sprintf("%#04x", uint16(a.Type))
	}
	return out
}

func explainSelection(s tpm2.TPMSPCRSelection) Quoted {
	var q Quoted
	for _, b := range knownBanks {
		if b.id == uint16(s.Hash) {
			q.Bank = b.name
		}
	}
	if q.Bank == "" {
		q.Bank = fmt.Sprintf("%#04x", uint16(s.Hash))
	}
	for i := range 8 * len(s.PCRSelect) {
		if s.PCRSelect[i/8]>>(i%8)&1 == 1 {
			q.PCRs = append(q.PCRs, i)
		}
	}
	return q
}

// Parts returns what the evidence holds, unverified, for people. It must not be written to.
func (e *Evidence) Parts() EvidenceParts {
	p := EvidenceParts{Quote: e.tpm.Quote, Signature: e.tpm.Signature, PCRs: e.tpm.Banks[0].Values, AK: e.tpm.AK, Certify: e.tpm.Certify,
		CNF: e.tpm.CNF, Challenge: Nonce(e.tpm.Challenge), Session: e.tpm.Session, BootLog: e.log, OSLog: e.os, IMALog: e.ima}
	copy(p.Request[:], e.tpm.Request)
	switch e.tpm.Banks[0].Alg {
	case coseSHA1:
		p.Bank = "sha1"
	case coseSHA256:
		p.Bank = "sha256"
	case coseSHA384:
		p.Bank = "sha384"
	case coseSHA512:
		p.Bank = "sha512"
	}
	return p
}

// StartupLocality returns the locality that the log names for TPM2_Startup, and whether it names one.
func (l *EventLog) StartupLocality() (locality byte, ok bool) {
	for i := range l.log.events {
		e := &l.log.events[i]
		if e.kind == evNoAction && e.pcr == 0 && bytes.HasPrefix(e.data, []byte(startupLocality)) {
			return e.data[len(startupLocality)], true
		}
	}
	return 0, false
}

// Compare compares the log, with that of the system if there is one, with PCR values of one bank as Verify does with quoted
// ones (603 to 607, 609, 611, 612), and returns the facts of the logs alone, with the events that prove them. Nobody has
// signed the values, so the facts prove nothing.
func (l *EventLog) Compare(bank string, pcrs map[int64][]byte) (Claims, []Proof, error) {
	proofs := []Proof{}
	f, err := guarded(func() (*bootFacts, error) {
		return bootLogs{firmware: l.log.raw, os: l.os}.replay(bank, pcrs, &proofs)
	})
	if err != nil {
		return Claims{}, nil, err
	}
	return f.claims(bank), proofs, nil
}

// ReadDevice returns what an EK certificate says about its TPM, if the certificate has the form that TCG demands (321).
// It does not ask who signed it.
func ReadDevice(leaf *x509.Certificate) (Device, error) { return checkProfile(leaf) }
