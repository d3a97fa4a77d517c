package attest

import (
	"bytes"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
)

// quote is a quote whose structure and signature have been checked.
type quote struct {
	ak     *attestationKey
	attest *tpm2.TPMSAttest
	digest []byte           // TPMS_QUOTE_INFO.pcrDigest
	pcrs   map[int64][]byte // the values that digest covers
	ima    *imaReference    // what is known of files, where PCR 10 is quoted
}

// checkQuote checks the quote of ev, as Verify lists under its first stage. Everything before the signature is cheap
// and bounded; that the signature is last makes a denial of a later stage mean that the enrolled AK signed.
func checkQuote(ev *Evidence, want Want) (*quote, error) {
	if ev == nil {
		return nil, denial.New(denial.NoEvidence, "there is no evidence")
	}
	ima, err := want.check()
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(ev.tpm.AK, want.AK) {
		return nil, denial.New(denial.AKSubstituted, "the evidence names another AK than the enrolled one")
	}
	ak, err := checkAK(ev.tpm.AK)
	if err != nil {
		return nil, err
	}
	attest, err := parseAttest(ev.tpm.Quote, tpm2.TPMSTAttestQuote)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(attest.QualifiedSigner.Buffer, ak.qualified) {
		return nil, denial.New(denial.AKSubstituted, "the quote was signed by another key than the enrolled AK")
	}
	q := &quote{ak: ak, attest: attest, ima: ima}
	if err := q.checkPCRs(ev.tpm.Banks[0], want.Selection); err != nil {
		return nil, err
	}
	if err := ak.verify(ev.tpm.Quote, ev.tpm.Signature, denial.QuoteSignature, denial.QuoteSignature); err != nil {
		return nil, err
	}
	return q, nil
}

func (q *quote) checkPCRs(sent bankValues, want Selection) error {
	info, err := q.attest.Attested.Quote()
	if err != nil {
		return denial.New(denial.QuoteMalformed, "the attestation quotes nothing")
	}
	if err := want.matches(info.PCRSelect); err != nil {
		return err
	}
	if q.pcrs, err = want.values(sent); err != nil {
		return err
	}
	// TPM 2.0 Part 3, section 18.4: the digest uses the hash of the signing scheme.
	if q.digest = pcrDigest(q.ak.hash, want.PCRs, q.pcrs); !bytes.Equal(q.digest, info.PCRDigest.Buffer) {
		return denial.New(denial.PCRDigestMismatch, "the PCR values are not the quoted ones")
	}
	return nil
}
