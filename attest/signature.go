package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rsa"
	"math/big"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
)

// verify checks a TPMT_SIGNATURE over a TPMS_ATTEST, in this order: one strict encoding, with a signature in it (317);
// SHA-256 or SHA-384 (302); a signature of the key's type (reason mismatch); the key's own scheme and hash (302); the
// signature itself (reason bad).
func (k *attestationKey) verify(attest, signature []byte, mismatch, bad denial.Reason) error {
	sig, err := parse(signature, readSignature)
	if err != nil {
		return err
	}
	if sig.SigAlg == tpm2.TPMAlgNull {
		return denial.New(denial.QuoteMalformed, "there is no signature")
	}
	rsaSig, eccSig, hashAlg := signatureOf(sig)
	if _, ok := strongHash(hashAlg); !ok {
		return denial.New(denial.AlgNotAllowed, "the signature's hash is neither SHA-256 nor SHA-384")
	}
	if _, isRSA := k.pub.(*rsa.PublicKey); isRSA != (rsaSig != nil) {
		return denial.New(mismatch, "the signature is not of the key's type")
	}
	if sig.SigAlg != k.scheme || hashAlg != k.hashAlg {
		return denial.New(denial.AlgNotAllowed, "the signature's scheme is not the one of the key")
	}
	h := k.hash.New()
	h.Write(attest)
	if !k.verifyDigest(h.Sum(nil), rsaSig, eccSig) {
		return denial.New(bad, "the signature of the AK does not verify")
	}
	return nil
}

// signatureOf returns the one signature in the union, and its hash. Where there is none of the three schemes that a TPM
// signs attestations with, both are nil and the hash is TPMAlgNull.
func signatureOf(sig *tpm2.TPMTSignature) (*tpm2.TPMSSignatureRSA, *tpm2.TPMSSignatureECC, tpm2.TPMIAlgHash) {
	if s, err := sig.Signature.RSASSA(); err == nil {
		return s, nil, s.Hash
	}
	if s, err := sig.Signature.RSAPSS(); err == nil {
		return s, nil, s.Hash
	}
	if s, err := sig.Signature.ECDSA(); err == nil {
		return nil, s, s.Hash
	}
	return nil, nil, tpm2.TPMAlgNull
}

func (k *attestationKey) verifyDigest(digest []byte, rsaSig *tpm2.TPMSSignatureRSA, eccSig *tpm2.TPMSSignatureECC) bool {
	switch pub := k.pub.(type) {
	case *rsa.PublicKey:
		if k.scheme == tpm2.TPMAlgRSAPSS {
			return rsa.VerifyPSS(pub, k.hash, digest, rsaSig.Sig.Buffer, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
		}
		return rsa.VerifyPKCS1v15(pub, k.hash, digest, rsaSig.Sig.Buffer) == nil
	case *ecdsa.PublicKey:
		size := pub.Curve.Params().BitSize / 8
		if len(eccSig.SignatureR.Buffer) > size || len(eccSig.SignatureS.Buffer) > size {
			return false
		}
		r, s := new(big.Int).SetBytes(eccSig.SignatureR.Buffer), new(big.Int).SetBytes(eccSig.SignatureS.Buffer)
		return ecdsa.Verify(pub, digest, r, s)
	}
	return false
}

// certified checks that this AK certified the object with the given name in answer to extra, in this order: structure
// of the attestation (314, 315, 313, 317) and of its signature (317, 302); the signature (702); the signer's qualified
// name, the qualifying data and the certified name (702). A signature that is known to have verified is not verified again.
func (k *attestationKey) certified(c Certification, name, extra []byte, known *Memory) error {
	attest, err := parseAttest(c.Attest, tpm2.TPMSTAttestCertify)
	if err != nil {
		return err
	}
	if err := known.verify(k, c); err != nil {
		return err
	}
	info, err := attest.Attested.Certify()
	if err != nil {
		return denial.New(denial.QuoteMalformed, "the attestation certifies nothing")
	}
	switch {
	case !bytes.Equal(attest.QualifiedSigner.Buffer, k.qualified):
		return denial.New(denial.KeyBinding, "a key was certified by another AK")
	case !bytes.Equal(attest.ExtraData.Buffer, extra):
		return denial.New(denial.KeyBinding, "a key was certified for another use or on another occasion")
	case !bytes.Equal(info.Name.Buffer, name):
		return denial.New(denial.KeyBinding, "the AK certified another key")
	}
	return nil
}
