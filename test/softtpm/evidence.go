package softtpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
)

// Evidence is evidence before it is encoded, and the private part of the cnf key in it.
type Evidence struct {
	attest.EvidenceParts
	CNFKey *ecdsa.PrivateKey
}

// Evidence makes what a host with these PCR values and this boot log sends to a verifier that wants want. The values
// must hold each selected PCR.
func (t *TPM) Evidence(tb testing.TB, want attest.Want, pcrs map[int64][]byte, log []byte) Evidence {
	tb.Helper()
	extra, certified := attest.QualifyingData(want.Challenge, want.Request, want.Exporter), attest.CNFQualifyingData()
	quoted := make(map[int64][]byte, len(want.Selection.PCRs))
	for _, p := range want.Selection.PCRs {
		quoted[int64(p)] = pcrs[int64(p)]
	}
	policy := must(attest.CNFPolicy(attest.Selection{Bank: want.Selection.Bank, PCRs: want.Bind}, quoted))(tb)
	key := t.CNF
	if key == nil {
		key = generate(tb, P256).(*ecdsa.PrivateKey)
	}
	cnf := publicArea(tb, key, P256, cnfAttributes, func(p *tpm2.TPMTPublic) {
		p.AuthPolicy = tpm2.TPM2BDigest{Buffer: policy}
		if t.Edit.CNF != nil {
			t.Edit.CNF(p)
		}
	})
	quote := t.Quote(tb, extra[:], want.Selection, quoted)
	var session *attest.AuditSession
	if want.Audit {
		session = t.Session(tb, want.Selection.Bank, extra[:])
	}
	return Evidence{
		EvidenceParts: attest.EvidenceParts{
			Quote: quote, Signature: t.Sign(tb, quote), Bank: want.Selection.Bank, PCRs: quoted, AK: t.AK,
			Certify: t.certify(tb, cnf, certified[:]), CNF: encode(cnf),
			Challenge: want.Challenge, Request: want.Request, Session: session, BootLog: log,
		},
		CNFKey: key,
	}
}

// Quote returns the TPMS_ATTEST of a quote, unsigned.
func (t *TPM) Quote(tb testing.TB, extra []byte, s attest.Selection, pcrs map[int64][]byte) []byte {
	tb.Helper()
	bank, select3 := tpm2.TPMAlgSHA256, make([]byte, 3)
	if s.Bank == "sha384" {
		bank = tpm2.TPMAlgSHA384
	}
	_, hashAlg := t.Scheme()
	h := must(hashAlg.Hash())(tb).New()
	for _, p := range s.PCRs {
		select3[p/8] |= 1 << (p % 8)
		h.Write(pcrs[int64(p)])
	}
	info := &tpm2.TPMSQuoteInfo{
		PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: bank, PCRSelect: select3}}},
		PCRDigest: tpm2.TPM2BDigest{Buffer: h.Sum(nil)},
	}
	return t.attest(tpm2.TPMSTAttestQuote, extra, tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, info), t.Edit.Quote)
}

func (t *TPM) certify(tb testing.TB, public tpm2.TPMTPublic, extra []byte) attest.Certification {
	tb.Helper()
	info := &tpm2.TPMSCertifyInfo{Name: tpm2.TPM2BName{Buffer: name(public)}, QualifiedName: tpm2.TPM2BName{Buffer: name(public)}}
	raw := t.attest(tpm2.TPMSTAttestCertify, extra, tpm2.NewTPMUAttest(tpm2.TPMSTAttestCertify, info), t.Edit.Certify)
	return attest.Certification{Attest: raw, Signature: t.Sign(tb, raw)}
}

func (t *TPM) attest(kind tpm2.TPMST, extra []byte, attested tpm2.TPMUAttest, edit func(*tpm2.TPMSAttest)) []byte {
	a := tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: kind, QualifiedSigner: tpm2.TPM2BName{Buffer: t.qualified},
		ExtraData: tpm2.TPM2BData{Buffer: extra}, ClockInfo: t.Clock, FirmwareVersion: t.Firmware, Attested: attested,
	}
	if edit != nil {
		edit(&a)
	}
	return tpm2.Marshal(a)
}

// Scheme returns the scheme of the AK, and its hash.
func (t *TPM) Scheme() (tpm2.TPMAlgID, tpm2.TPMIAlgHash) {
	if key, ok := t.akKey.(*rsa.PrivateKey); ok {
		parms, err := t.akPublic.Parameters.RSADetail()
		if err == nil && key != nil && parms.Scheme.Scheme == tpm2.TPMAlgRSAPSS {
			return tpm2.TPMAlgRSAPSS, tpm2.TPMAlgSHA256
		}
		return tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA256
	}
	if t.akKey.(*ecdsa.PrivateKey).Curve.Params().BitSize == 384 {
		return tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA384
	}
	return tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA256
}

// Sign signs a TPMS_ATTEST with the AK and returns the TPMT_SIGNATURE. Unlike a TPM it signs any bytes.
func (t *TPM) Sign(tb testing.TB, raw []byte) []byte {
	tb.Helper()
	scheme, hash := t.Scheme()
	return t.SignWith(tb, raw, scheme, hash)
}

// SignWith signs with another scheme or hash than the AK's own.
func (t *TPM) SignWith(tb testing.TB, raw []byte, scheme tpm2.TPMAlgID, hashAlg tpm2.TPMIAlgHash) []byte {
	tb.Helper()
	hash := must(hashAlg.Hash())(tb)
	h := hash.New()
	h.Write(raw)
	digest := h.Sum(nil)
	switch key := t.akKey.(type) {
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, key, digest)
		if err != nil {
			tb.Fatal(err)
		}
		size := key.Curve.Params().BitSize / 8
		return signature(scheme, &tpm2.TPMSSignatureECC{
			Hash: hashAlg, SignatureR: tpm2.TPM2BECCParameter{Buffer: r.FillBytes(make([]byte, size))},
			SignatureS: tpm2.TPM2BECCParameter{Buffer: s.FillBytes(make([]byte, size))},
		})
	case *rsa.PrivateKey:
		var opts crypto.SignerOpts = hash
		if scheme == tpm2.TPMAlgRSAPSS {
			opts = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash}
		}
		sig := must(key.Sign(rand.Reader, digest, opts))(tb)
		return signature(scheme, &tpm2.TPMSSignatureRSA{Hash: hashAlg, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: sig}})
	}
	tb.Fatal("an AK of an unknown type")
	return nil
}

func signature[C tpm2.SignatureContents](scheme tpm2.TPMAlgID, contents C) []byte {
	return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: scheme, Signature: tpm2.NewTPMUSignature(scheme, contents)})
}
