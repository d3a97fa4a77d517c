package softtpm

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
)

// bankAlgs are the PCR banks by name, in the order in which TPMs list them.
var bankAlgs = []struct {
	name string
	alg  tpm2.TPMIAlgHash
}{{"sha1", tpm2.TPMAlgSHA1}, {"sha256", tpm2.TPMAlgSHA256}, {"sha384", tpm2.TPMAlgSHA384}, {"sha512", tpm2.TPMAlgSHA512}}

// Session answers the commands of attest.AuditSession for a quote of the bank, with the values of t.Banks.
func (t *TPM) Session(tb testing.TB, quoted string, extra []byte) *attest.AuditSession {
	tb.Helper()
	audit := must(tpm2.NewAudit(tpm2.TPMAlgSHA256))(tb)
	s := &attest.AuditSession{}
	key := attest.BootKeyTemplate()
	unique := sha256.Sum256(append([]byte("boot key"), t.Boot...))
	key.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgKeyedHash, &tpm2.TPM2BDigest{Buffer: unique[:]})
	made := &tpm2.CreatePrimaryResponse{OutPublic: tpm2.New2B(key), Name: tpm2.TPM2BName{Buffer: name(key)},
		CreationTicket: tpm2.TPMTTKCreation{Tag: tpm2.TPMSTCreation, Hierarchy: tpm2.TPMRHNull}}
	check(tb, tpm2.AuditCommand(audit, tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHNull, InPublic: tpm2.New2B(attest.BootKeyTemplate()),
		OutsideInfo: tpm2.TPM2BData{Buffer: extra}}, made))
	s.Responses = append(s.Responses, slices.Concat(tpm2.Marshal(made.OutPublic), tpm2.Marshal(made.CreationData),
		tpm2.Marshal(made.CreationHash), tpm2.Marshal(made.CreationTicket), tpm2.Marshal(made.Name)))

	var banks tpm2.TPMLPCRSelection
	for _, b := range bankAlgs {
		switch kept := []byte{255, 255, 255}; {
		case b.name == quoted:
			banks.PCRSelections = append(banks.PCRSelections, tpm2.TPMSPCRSelection{Hash: b.alg, PCRSelect: kept})
		case t.Banks[b.name] != nil:
			kept[0] = t.Kept
			if t.Kept == 0 {
				kept = []byte{0, 0, 0}
			}
			banks.PCRSelections = append(banks.PCRSelections, tpm2.TPMSPCRSelection{Hash: b.alg, PCRSelect: kept})
		}
	}
	list := &tpm2.GetCapabilityResponse{CapabilityData: tpm2.TPMSCapabilityData{Capability: tpm2.TPMCapPCRs,
		Data: tpm2.NewTPMUCapabilities(tpm2.TPMCapPCRs, &banks)}}
	check(tb, tpm2.AuditCommand(audit, tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}, list))
	s.Responses = append(s.Responses, append([]byte{0}, tpm2.Marshal(list.CapabilityData)...))
	for _, b := range bankAlgs {
		if values := t.Banks[b.name]; values != nil && b.name != quoted {
			s.Responses = append(s.Responses, t.readPCRs(tb, audit, b.alg, values)...)
		}
	}
	info := &tpm2.TPMSSessionAuditInfo{SessionDigest: tpm2.TPM2BDigest{Buffer: audit.Digest()}}
	s.Attest = t.attest(tpm2.TPMSTAttestSessionAudit, extra, tpm2.NewTPMUAttest(tpm2.TPMSTAttestSessionAudit, info), t.Edit.Session)
	s.Signature = t.Sign(tb, s.Attest)
	return s
}

// readPCRs reads PCRs 0 to 7 of a bank, t.AtOnce with each command.
func (t *TPM) readPCRs(tb testing.TB, audit *tpm2.CommandAudit, alg tpm2.TPMIAlgHash, values map[int64][]byte) (responses [][]byte) {
	tb.Helper()
	selected := func(pcrs byte) tpm2.TPMLPCRSelection {
		return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: alg, PCRSelect: []byte{pcrs, 0, 0}}}}
	}
	for left := t.Kept; left != 0; {
		read, given := &tpm2.PCRReadResponse{PCRUpdateCounter: 7}, byte(0)
		for pcr := range int64(8) {
			if left&(1<<pcr) != 0 && len(read.PCRValues.Digests) < t.AtOnce {
				read.PCRValues.Digests = append(read.PCRValues.Digests, tpm2.TPM2BDigest{Buffer: values[pcr]})
				given |= 1 << pcr
			}
		}
		read.PCRSelectionOut = selected(given)
		check(tb, tpm2.AuditCommand(audit, tpm2.PCRRead{PCRSelectionIn: selected(left)}, read))
		responses = append(responses, slices.Concat(binary.BigEndian.AppendUint32(nil, read.PCRUpdateCounter),
			tpm2.Marshal(read.PCRSelectionOut), tpm2.Marshal(read.PCRValues)))
		left &^= given
	}
	return responses
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
