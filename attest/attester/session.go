package attester

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
)

// audit has the TPM answer the commands of attest.AuditSession in an audit session, and the AK sign which commands it
// got and what it answered. The session is not salted: whoever changes a command or an answer on the way cannot change
// what the AK signs, and none of it is secret.
func (c *call) audit(ak *key, bank string, qualifying [32]byte) (s *attest.AuditSession, err error) {
	session, end, err := tpm2.HMACSession(c, tpm2.TPMAlgSHA256, 16, tpm2.Audit())
	if err != nil {
		return nil, fmt.Errorf("starting audit session: %w", err)
	}
	defer func() {
		if end() != nil {
			_ = c.link.close() // the next connection starts by flushing everything
		}
	}()
	s = &attest.AuditSession{}
	if err := c.auditBoot(session, qualifying, s); err != nil {
		return nil, err
	}
	if err := c.auditBanks(session, bank, s); err != nil {
		return nil, err
	}
	r, err := tpm2.GetSessionAuditDigest{
		PrivacyAdminHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
		SignHandle:         ak.withPassword(),
		SessionHandle:      session.Handle(),
		QualifyingData:     tpm2.TPM2BData{Buffer: qualifying[:]},
		InScheme:           tpm2.TPMTSigScheme{Scheme: tpm2.TPMAlgNull},
	}.Execute(c)
	if err != nil {
		return nil, fmt.Errorf("having the audit session signed: %w", err)
	}
	s.Attest, s.Signature = r.AuditInfo.Bytes(), tpm2.Marshal(r.Signature)
	return s, nil
}

// auditBoot makes the key that tells this boot from others.
func (c *call) auditBoot(session tpm2.Session, qualifying [32]byte, s *attest.AuditSession) error {
	r, err := tpm2.CreatePrimary{
		PrimaryHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHNull, Auth: tpm2.PasswordAuth(nil)},
		InPublic:      tpm2.New2B(attest.BootKeyTemplate()), OutsideInfo: tpm2.TPM2BData{Buffer: qualifying[:]},
	}.Execute(c, session)
	if err != nil {
		return fmt.Errorf("making boot key: %w", err)
	}
	c.flush(r.ObjectHandle)
	s.Responses = append(s.Responses, slices.Concat(tpm2.Marshal(r.OutPublic), tpm2.Marshal(r.CreationData),
		tpm2.Marshal(r.CreationHash), tpm2.Marshal(r.CreationTicket), tpm2.Marshal(r.Name)))
	return nil
}

// auditBanks lists the banks, and reads what firmware measured into those that are not quoted.
func (c *call) auditBanks(session tpm2.Session, quoted string, s *attest.AuditSession) error {
	r, err := tpm2.GetCapability{Capability: tpm2.TPMCapPCRs, PropertyCount: 1}.Execute(c, session)
	if err != nil {
		return fmt.Errorf("listing PCR banks: %w", err)
	}
	banks, err := r.CapabilityData.Data.AssignedPCR()
	if err == nil && r.MoreData {
		err = errors.New("the TPM has more of them than it tells")
	}
	if err != nil {
		return fmt.Errorf("listing PCR banks: %w", err)
	}
	s.Responses = append(s.Responses, append([]byte{0}, tpm2.Marshal(r.CapabilityData)...)) // no more data
	for _, b := range banks.PCRSelections {
		if bankName(b.Hash) == quoted || len(b.PCRSelect) == 0 {
			continue
		}
		for left := b.PCRSelect[0]; left != 0; {
			r, err := tpm2.PCRRead{PCRSelectionIn: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
				{Hash: b.Hash, PCRSelect: []byte{left, 0, 0}}}}}.Execute(c, session)
			if err != nil {
				return fmt.Errorf("reading PCRs of bank %s: %w", bankName(b.Hash), err)
			}
			got := r.PCRSelectionOut.PCRSelections
			if len(got) != 1 || len(got[0].PCRSelect) == 0 || got[0].PCRSelect[0]&left == 0 {
				return fmt.Errorf("reading PCRs of bank %s: the TPM gave none of them", bankName(b.Hash))
			}
			left &^= got[0].PCRSelect[0]
			s.Responses = append(s.Responses, slices.Concat(binary.BigEndian.AppendUint32(nil, r.PCRUpdateCounter),
				tpm2.Marshal(r.PCRSelectionOut), tpm2.Marshal(r.PCRValues)))
		}
	}
	return nil
}
