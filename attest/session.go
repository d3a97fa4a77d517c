package attest

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
)

// AuditSession is what a TPM signs of an audit session (TPM 2.0 Part 1, section 17.7): which commands it got, and what
// it answered, whoever was on the way between. The commands are fixed, so that only the answers are sent:
//
//  1. TPM2_CreatePrimary of BootKeyTemplate in the null hierarchy, with the qualifying data as outsideInfo: the rest came
//     after the challenge. The key is another one after each reset of the TPM, and in each copy of its state that was
//     started apart.
//  2. TPM2_GetCapability(TPM_CAP_PCRS): the banks that the TPM keeps.
//  3. For each bank but the quoted one, in that order: TPM2_PCR_Read of those of PCRs 0 to 7 that it has, and again of
//     those that were not among the answer.
type AuditSession struct {
	_         struct{} `cbor:",toarray"`
	Attest    []byte   // TPMS_ATTEST of TPM2_GetSessionAuditDigest
	Signature []byte   // TPMT_SIGNATURE
	Responses [][]byte // the parameters of each response
}

// maxResponses bounds the responses: a bank needs one, and no TPM has many banks.
const maxResponses = 64

// SessionWords are what an audit session tells, for people. They prove nothing: Verify does.
type SessionWords struct {
	Banks   []string                    // that the TPM keeps, in its order
	PCRs    map[string]map[int64][]byte // PCRs 0 to 7 of those that were not quoted
	BootKey []byte                      // TPM Name
	Signed  bool                        // the attestation is of exactly these responses
}

// Explain reads the responses of a session beside a quote of the bank. It checks their form (317), and that of the
// attestation (314, 315, 313, 317).
func (s *AuditSession) Explain(quoted string) (*SessionWords, error) {
	return guarded(func() (*SessionWords, error) {
		attest, err := parseAttest(s.Attest, tpm2.TPMSTAttestSessionAudit)
		if err != nil {
			return nil, err
		}
		info, err := attest.Attested.SessionAudit()
		if err != nil {
			return nil, denial.New(denial.QuoteMalformed, "the attestation is of no session")
		}
		b, _ := bankNamed(quoted)
		r := sessionReader{rest: s.Responses}
		state, err := r.read(b, attest.ExtraData.Buffer)
		if err != nil {
			return nil, err
		}
		return &SessionWords{Banks: state.kept, PCRs: state.banks, BootKey: state.boot, Signed: bytes.Equal(info.SessionDigest.Buffer, r.digest[:])}, nil
	})
}

// check refuses a session with an empty part (317), or a part or a number of them that no TPM makes (313).
func (s *AuditSession) check() error {
	if s == nil {
		return nil
	}
	if len(s.Responses) > maxResponses {
		return denial.New(denial.StructureLimit, "an audited session has more than %d responses", maxResponses)
	}
	for _, part := range slices.Concat([][]byte{s.Attest, s.Signature}, s.Responses) {
		if len(part) == 0 {
			return denial.New(denial.QuoteMalformed, "a part of an audited session is missing")
		}
		if len(part) > maxPart {
			return denial.New(denial.StructureLimit, "a part of an audited session has more than %d bytes", maxPart)
		}
	}
	return nil
}

// BootKeyTemplate is the public area of a key that tells the boots of one TPM, and copies of it, apart. Nobody uses it.
func BootKeyTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type: tpm2.TPMAlgKeyedHash, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, NoDA: true, SignEncrypt: true,
		},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgKeyedHash, &tpm2.TPMSKeyedHashParms{Scheme: tpm2.TPMTKeyedHashScheme{
			Scheme:  tpm2.TPMAlgHMAC,
			Details: tpm2.NewTPMUSchemeKeyedHash(tpm2.TPMAlgHMAC, &tpm2.TPMSSchemeHMAC{HashAlg: tpm2.TPMAlgSHA256}),
		}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{}),
	}
}

// tpmState is what an audit session proved.
type tpmState struct {
	boot  []byte                      // TPM Name of the boot key
	kept  []string                    // names of all banks, in the order of the TPM
	banks map[string]map[int64][]byte // PCRs 0 to 7 of the banks that were not quoted, as far as they have them
}

// sessionDigest goes over an audit session as the TPM did (TPM 2.0 Part 1, section 17.7).
type sessionDigest [sha256.Size]byte

// extend takes one command, which the TPM answered with success.
func (d *sessionDigest) extend(command tpm2.TPMCC, names, parameters, response []byte) {
	cc := binary.BigEndian.AppendUint32(nil, uint32(command))
	cp := sha256.Sum256(slices.Concat(cc, names, parameters))
	rp := sha256.Sum256(slices.Concat([]byte{0, 0, 0, 0}, cc, response)) // TPM_RC_SUCCESS
	*d = sha256.Sum256(slices.Concat(d[:], cp[:], rp[:]))
}

// audited checks that this AK signed the audit session that package AuditSession describes, in answer to extra, in this
// order: structure of the attestation (314, 315, 313, 317) and of its signature (317, 302); the signature, the signer's
// qualified name and the qualifying data (620); the form of the responses (317); that the TPM saw these commands and gave
// these responses (620).
func (k *attestationKey) audited(s *AuditSession, quoted bank, extra []byte) (*tpmState, error) {
	attest, err := parseAttest(s.Attest, tpm2.TPMSTAttestSessionAudit)
	if err != nil {
		return nil, err
	}
	if err := k.verify(s.Attest, s.Signature, denial.QuoteMalformed, denial.TPMFirmware); err != nil {
		return nil, err
	}
	info, err := attest.Attested.SessionAudit()
	if err != nil {
		return nil, denial.New(denial.QuoteMalformed, "the attestation is of no session")
	}
	if !bytes.Equal(attest.QualifiedSigner.Buffer, k.qualified) || !bytes.Equal(attest.ExtraData.Buffer, extra) {
		return nil, denial.New(denial.TPMFirmware, "a session was audited by another AK or on another occasion")
	}
	r := sessionReader{rest: s.Responses}
	state, err := r.read(quoted, extra)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(info.SessionDigest.Buffer, r.digest[:]) {
		return nil, denial.New(denial.TPMFirmware, "the TPM did not see these commands, or did not give these answers: something stands between it and the host")
	}
	return state, nil
}

// sessionReader reads the responses of an audit session. What it returns is proven once its digest is the signed one.
type sessionReader struct {
	rest   [][]byte
	digest sessionDigest
}

// next takes the response to a command.
func (r *sessionReader) next(command tpm2.TPMCC, names, parameters []byte) (*cursor, error) {
	if len(r.rest) == 0 {
		return nil, denial.New(denial.QuoteMalformed, "an audited session lacks a response")
	}
	response := r.rest[0]
	r.rest = r.rest[1:]
	r.digest.extend(command, names, parameters, response)
	return &cursor{rest: response}, nil
}

func (r *sessionReader) read(quoted bank, extra []byte) (*tpmState, error) {
	state := &tpmState{banks: map[string]map[int64][]byte{}}
	var err error
	if state.boot, err = r.bootKey(extra); err != nil {
		return nil, err
	}
	banks, err := r.allocated()
	if err != nil {
		return nil, err
	}
	for _, b := range banks {
		state.kept = append(state.kept, bankName(uint16(b.Hash)))
		if b.Hash == quoted.alg {
			continue
		}
		values, err := r.firmwarePCRs(b)
		if err != nil {
			return nil, err
		}
		if len(values) > 0 {
			state.banks[bankName(uint16(b.Hash))] = values
		}
	}
	if len(r.rest) > 0 {
		return nil, denial.New(denial.QuoteMalformed, "an audited session has a response too many")
	}
	return state, nil
}

// bootKey takes the answer of TPM2_CreatePrimary and returns the key's name.
func (r *sessionReader) bootKey(extra []byte) ([]byte, error) {
	template := BootKeyTemplate()
	parameters := slices.Concat([]byte{0, 4, 0, 0, 0, 0}, // no password, no data
		tpm2.Marshal(tpm2.New2B(template)), tpm2.Marshal(tpm2.TPM2BData{Buffer: extra}), []byte{0, 0, 0, 0}) // no PCRs
	c, err := r.next(tpm2.TPMCCCreatePrimary, binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMRHNull)), parameters)
	if err != nil {
		return nil, err
	}
	area := c.sized()
	empty := tpm2.Marshal(template)
	fixed := len(empty) - 2 // up to the length of unique
	if c.short || len(area) != len(empty)+sha256.Size || !bytes.Equal(area[:fixed], empty[:fixed]) {
		return nil, denial.New(denial.QuoteMalformed, "an audited session made another key")
	}
	return nameWith(template.NameAlg, crypto.SHA256, area), nil
}

// allocated takes the answer of TPM2_GetCapability: the banks that have a PCR.
func (r *sessionReader) allocated() ([]tpm2.TPMSPCRSelection, error) {
	parameters := binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMCapPCRs))
	c, err := r.next(tpm2.TPMCCGetCapability, nil, append(parameters, 0, 0, 0, 0, 0, 0, 0, 1)) // property 0, count 1
	if err != nil {
		return nil, err
	}
	more, capability := c.u8(), c.u32()
	all, ok := c.selections()
	if !ok || !c.ended() || more != 0 || capability != uint32(tpm2.TPMCapPCRs) {
		return nil, denial.New(denial.QuoteMalformed, "an audited session does not tell of PCR banks")
	}
	banks := []tpm2.TPMSPCRSelection{}
	for i, b := range all {
		if slices.ContainsFunc(all[:i], func(o tpm2.TPMSPCRSelection) bool { return o.Hash == b.Hash }) {
			return nil, denial.New(denial.QuoteMalformed, "an audited session tells of a bank twice")
		}
		if slices.Max(b.PCRSelect) > 0 {
			banks = append(banks, b)
		}
	}
	return banks, nil
}

// firmwarePCRs takes the answers of TPM2_PCR_Read for those of PCRs 0 to 7 that a bank has.
func (r *sessionReader) firmwarePCRs(b tpm2.TPMSPCRSelection) (map[int64][]byte, error) {
	values := map[int64][]byte{}
	for left := b.PCRSelect[0]; left != 0; {
		asked := tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: b.Hash, PCRSelect: []byte{left, 0, 0}}}}
		c, err := r.next(tpm2.TPMCCPCRRead, nil, tpm2.Marshal(asked))
		if err != nil {
			return nil, err
		}
		_ = c.u32() // update counter
		got, ok := c.selections()
		if !ok || len(got) != 1 || got[0].Hash != b.Hash || got[0].PCRSelect[0] == 0 || got[0].PCRSelect[0]&^left != 0 ||
			got[0].PCRSelect[1]|got[0].PCRSelect[2] != 0 {
			return nil, denial.New(denial.QuoteMalformed, "an audited session did not read the PCRs that are wanted")
		}
		count, read := c.u32(), uint32(0)
		for pcr := range int64(8) {
			if got[0].PCRSelect[0]&(1<<pcr) != 0 {
				values[pcr] = c.sized()
				read++
			}
		}
		if !c.ended() || count != read {
			return nil, denial.New(denial.QuoteMalformed, "an audited session did not read the PCRs that are wanted")
		}
		left &^= got[0].PCRSelect[0]
	}
	return values, nil
}

// maxSelections bounds a TPML_PCR_SELECTION.
const maxSelections = 16

// selections reads a TPML_PCR_SELECTION whose bitmaps have three bytes.
func (c *cursor) selections() ([]tpm2.TPMSPCRSelection, bool) {
	n := c.u32()
	if c.short || n > maxSelections {
		return nil, false
	}
	out := make([]tpm2.TPMSPCRSelection, n)
	for i := range out {
		if out[i].Hash = c.alg(); c.u8() != selectSize {
			return nil, false
		}
		if out[i].PCRSelect = c.bytes(selectSize); c.short {
			return nil, false
		}
	}
	return out, true
}

// bankName returns the name of a bank, made of its number for one that nobody here knows.
func bankName(alg uint16) string {
	for _, b := range knownBanks {
		if b.id == alg {
			return b.name
		}
	}
	return fmt.Sprintf("%#04x", alg)
}
