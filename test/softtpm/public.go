package softtpm

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

var (
	ekAttributes = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, AdminWithPolicy: true,
		Restricted: true, Decrypt: true}
	akAttributes = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true,
		Restricted: true, SignEncrypt: true}
	gateAttributes = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true,
		SignEncrypt: true}
	cnfAttributes = tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, SignEncrypt: true}
)

// newKey makes a private key and the public area that a TPM would give it.
func newKey(tb testing.TB, a Algorithm, attr tpm2.TPMAObject, edit func(*tpm2.TPMTPublic)) (crypto.Signer, tpm2.TPMTPublic) {
	tb.Helper()
	key := generate(tb, a)
	return key, publicArea(tb, key, a, attr, edit)
}

// publicArea makes the public area that a TPM would give the key.
func publicArea(tb testing.TB, key crypto.Signer, a Algorithm, attr tpm2.TPMAObject, edit func(*tpm2.TPMTPublic)) tpm2.TPMTPublic {
	tb.Helper()
	public := tpm2.TPMTPublic{NameAlg: tpm2.TPMAlgSHA256, ObjectAttributes: attr}
	if a == P384 {
		public.NameAlg = tpm2.TPMAlgSHA384
	}
	switch pub := key.Public().(type) {
	case *ecdsa.PublicKey:
		eccArea(tb, &public, pub)
	case *rsa.PublicKey:
		rsaArea(&public, pub, a == RSA2048PSS)
	}
	if edit != nil {
		edit(&public)
	}
	return public
}

func eccArea(tb testing.TB, public *tpm2.TPMTPublic, pub *ecdsa.PublicKey) {
	tb.Helper()
	parms := &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256, Symmetric: protection(public)}
	if public.NameAlg == tpm2.TPMAlgSHA384 {
		parms.CurveID = tpm2.TPMECCNistP384
	}
	if public.ObjectAttributes.SignEncrypt {
		parms.Scheme = tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: public.NameAlg})}
	}
	point := must(pub.Bytes())(tb)[1:]
	public.Type = tpm2.TPMAlgECC
	public.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, parms)
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[:len(point)/2]}, Y: tpm2.TPM2BECCParameter{Buffer: point[len(point)/2:]},
	})
}

func rsaArea(public *tpm2.TPMTPublic, pub *rsa.PublicKey, pss bool) {
	parms := &tpm2.TPMSRSAParms{KeyBits: tpm2.TPMKeyBits(pub.N.BitLen()), Symmetric: protection(public)}
	switch {
	case !public.ObjectAttributes.SignEncrypt:
	case pss:
		parms.Scheme = tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSAPSS,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: tpm2.TPMAlgSHA256})}
	default:
		parms.Scheme = tpm2.TPMTRSAScheme{Scheme: tpm2.TPMAlgRSASSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})}
	}
	public.Type = tpm2.TPMAlgRSA
	public.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, parms)
	public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: pub.N.Bytes()})
}

// protection returns AES-CFB for a storage key, with 256 bits beside SHA-384, and nothing for another key.
func protection(public *tpm2.TPMTPublic) tpm2.TPMTSymDefObject {
	if !public.ObjectAttributes.Decrypt {
		return tpm2.TPMTSymDefObject{}
	}
	bits := tpm2.TPMKeyBits(128)
	if public.NameAlg == tpm2.TPMAlgSHA384 {
		bits = 256
	}
	return tpm2.TPMTSymDefObject{
		Algorithm: tpm2.TPMAlgAES, KeyBits: tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, bits),
		Mode: tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
	}
}

// encode returns the TPM2B_PUBLIC of a public area.
func encode(public tpm2.TPMTPublic) []byte { return tpm2.Marshal(tpm2.New2B(public)) }

// name returns the TPM Name of a public area, empty if go-tpm does not know its name algorithm.
func name(public tpm2.TPMTPublic) []byte {
	n, err := tpm2.ObjectName(&public)
	if err != nil {
		return nil
	}
	return n.Buffer
}

// QualifiedName returns the qualified name of a primary key of the endorsement hierarchy.
func QualifiedName(public tpm2.TPMTPublic) []byte {
	h, err := public.NameAlg.Hash()
	if err != nil {
		return nil
	}
	d := h.New()
	d.Write(binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMRHEndorsement)))
	d.Write(name(public))
	return slices.Concat(binary.BigEndian.AppendUint16(nil, uint16(public.NameAlg)), d.Sum(nil))
}
