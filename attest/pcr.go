package attest

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
)

const (
	maxPCR     = 23 // the PC client platform has PCRs 0 to 23
	selectSize = 3  // sizeofSelect: bytes of the bitmap that they fill
)

// COSE hash algorithms (RFC 9054, RFC 9053) that may name the bank of PCR values.
const (
	coseSHA1   = -14
	coseSHA256 = -16
	coseSHA384 = -43
	coseSHA512 = -44
)

// bank is a PCR bank that a policy may name. SHA-1 is not among them.
type bank struct {
	name string
	alg  tpm2.TPMIAlgHash
	cose int64
}

func bankNamed(name string) (bank, bool) {
	switch name {
	case "sha256":
		return bank{name, tpm2.TPMAlgSHA256, coseSHA256}, true
	case "sha384":
		return bank{name, tpm2.TPMAlgSHA384, coseSHA384}, true
	}
	return bank{}, false
}

// bankSize returns the length of a PCR value of the bank that a COSE hash algorithm names, zero if it names none.
func bankSize(cose int64) int {
	switch cose {
	case coseSHA1:
		return 20
	case coseSHA256:
		return 32
	case coseSHA384:
		return 48
	case coseSHA512:
		return 64
	}
	return 0
}

// Selection is the exact set of PCRs of one bank that a quote must cover.
type Selection struct {
	Bank string // "sha256" or "sha384"
	PCRs []int  // ascending, each once
}

// valid reports whether the selection names a bank and at least one PCR, in ascending order.
func (s Selection) valid() bool {
	_, ok := bankNamed(s.Bank)
	return ok && ascending(s.PCRs)
}

func ascending(pcrs []int) bool {
	for i, p := range pcrs {
		if p < 0 || p > maxPCR || i > 0 && p <= pcrs[i-1] {
			return false
		}
	}
	return len(pcrs) > 0
}

func bitmap(pcrs []int) []byte {
	m := make([]byte, selectSize)
	for _, p := range pcrs {
		m[p/8] |= 1 << (p % 8)
	}
	return m
}

// matches checks a quoted selection against this one, in this order: something is selected (707), in one bank (317),
// with a bitmap of three bytes (317); the bank is the policy's (611); something is selected in it (707); no required PCR
// is missing (107); no other PCR is selected (707).
func (s Selection) matches(quoted tpm2.TPMLPCRSelection) error {
	if len(quoted.PCRSelections) == 0 {
		return denial.New(denial.PCRSelectionMismatch, "the quote covers no PCRs")
	}
	if len(quoted.PCRSelections) > 1 {
		return denial.New(denial.QuoteMalformed, "the quote covers more than one bank")
	}
	got, b := quoted.PCRSelections[0], s.bank()
	if len(got.PCRSelect) != selectSize {
		return denial.New(denial.QuoteMalformed, "the PCR bitmap does not have %d bytes", selectSize)
	}
	if got.Hash != b.alg {
		return denial.New(denial.BankNotAllowed, "the quote is not over bank %s", b.name)
	}
	want := bitmap(s.PCRs)
	if bytes.Equal(got.PCRSelect, make([]byte, selectSize)) {
		return denial.New(denial.PCRSelectionMismatch, "the quote covers no PCRs")
	}
	for _, p := range s.PCRs {
		if got.PCRSelect[p/8]&(1<<(p%8)) == 0 {
			return denial.New(denial.RequiredPCRAbsent, "the quote does not cover PCR %d", p)
		}
	}
	if !bytes.Equal(got.PCRSelect, want) {
		return denial.New(denial.PCRSelectionMismatch, "the quote covers PCRs that the policy does not name")
	}
	return nil
}

// bank returns the bank of a valid selection.
func (s Selection) bank() bank {
	b, _ := bankNamed(s.Bank)
	return b
}

// values returns the PCR values that evidence sent for exactly this selection.
func (s Selection) values(sent bankValues) (map[int64][]byte, error) {
	if sent.Alg != s.bank().cose {
		return nil, denial.New(denial.QuoteMalformed, "the PCR values are not of the quoted bank")
	}
	if len(sent.Values) != len(s.PCRs) {
		return nil, denial.New(denial.QuoteMalformed, "the PCR values are not those of the quoted PCRs")
	}
	for _, p := range s.PCRs {
		if _, ok := sent.Values[int64(p)]; !ok {
			return nil, denial.New(denial.QuoteMalformed, "the value of PCR %d is missing", p)
		}
	}
	return sent.Values, nil
}

// pcrDigest hashes the values of PCRs in ascending order (TPM 2.0 Part 1, section 17.5).
func pcrDigest(h crypto.Hash, pcrs []int, values map[int64][]byte) []byte {
	d := h.New()
	for _, p := range pcrs {
		d.Write(values[int64(p)])
	}
	return d.Sum(nil)
}

// CNFPolicy returns the authPolicy of a cnf key: TPM2_PolicyPCR with SHA-256 over the given PCRs and their values
// (TPM 2.0 Part 3, section 23.7). While they have these values, and only then, the TPM lets the key sign.
func CNFPolicy(bind Selection, values map[int64][]byte) ([]byte, error) {
	if !bind.valid() {
		return nil, denial.New(denial.Internal, "a cnf policy needs a bank and ascending PCRs")
	}
	for _, p := range bind.PCRs {
		if values[int64(p)] == nil {
			return nil, denial.New(denial.RequiredPCRAbsent, "there is no value of PCR %d to bind the cnf key to", p)
		}
	}
	// policyDigest' = H(zeros || TPM_CC_PolicyPCR || TPML_PCR_SELECTION || pcrDigest)
	b := binary.BigEndian.AppendUint32(make([]byte, sha256.Size), uint32(tpm2.TPMCCPolicyPCR))
	b = binary.BigEndian.AppendUint32(b, 1) // one selection
	b = binary.BigEndian.AppendUint16(b, uint16(bind.bank().alg))
	b = append(append(b, selectSize), bitmap(bind.PCRs)...)
	b = append(b, pcrDigest(crypto.SHA256, bind.PCRs, values)...)
	sum := sha256.Sum256(b)
	return sum[:], nil
}
