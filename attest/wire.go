package attest

import (
	"encoding/binary"
	"slices"

	"github.com/google/go-tpm/tpm2"
)

// The functions in this file decode the few forms of TPM structures that valid evidence has, without the reflection that
// makes go-tpm's decoding dearer than the signatures. Each returns false for any other form, valid or not, and leaves
// the verdict to parse. What one accepts, parse accepts with the same value: the fuzz tests hold both together.

// cursor reads a big-endian structure. Reading past its end makes it short and gives zeros.
type cursor struct {
	rest  []byte
	short bool
}

func (c *cursor) bytes(n int) []byte {
	if n > len(c.rest) {
		c.short, c.rest = true, nil
		return make([]byte, min(n, 8))
	}
	b := c.rest[:n:n]
	c.rest = c.rest[n:]
	return b
}

func (c *cursor) u8() byte    { return c.bytes(1)[0] }
func (c *cursor) u16() uint16 { return binary.BigEndian.Uint16(c.bytes(2)) }
func (c *cursor) u32() uint32 { return binary.BigEndian.Uint32(c.bytes(4)) }
func (c *cursor) u64() uint64 { return binary.BigEndian.Uint64(c.bytes(8)) }

// sized reads the buffer of a TPM2B.
func (c *cursor) sized() []byte { return c.bytes(int(c.u16())) }

func (c *cursor) alg() tpm2.TPMAlgID { return tpm2.TPMAlgID(c.u16()) }

// ended reports whether everything was there and nothing is left.
func (c *cursor) ended() bool { return !c.short && len(c.rest) == 0 }

// readAttest decodes a TPMS_ATTEST of a quote over one bank, or of a certification.
func readAttest(raw []byte) (*tpm2.TPMSAttest, bool) {
	c := &cursor{rest: raw}
	a := &tpm2.TPMSAttest{Magic: tpm2.TPMGenerated(c.u32()), Type: tpm2.TPMST(c.u16())}
	a.QualifiedSigner.Buffer, a.ExtraData.Buffer = c.sized(), c.sized()
	a.ClockInfo.Clock, a.ClockInfo.ResetCount, a.ClockInfo.RestartCount = c.u64(), c.u32(), c.u32()
	safe := c.u8()
	a.ClockInfo.Safe = safe == 1
	a.FirmwareVersion = c.u64()
	switch a.Type {
	case tpm2.TPMSTAttestQuote:
		if c.u32() != 1 {
			return nil, false
		}
		s := tpm2.TPMSPCRSelection{Hash: c.alg(), PCRSelect: c.bytes(int(c.u8()))}
		info := &tpm2.TPMSQuoteInfo{PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{s}}}
		info.PCRDigest.Buffer = c.sized()
		a.Attested = tpm2.NewTPMUAttest(a.Type, info)
	case tpm2.TPMSTAttestCertify:
		info := &tpm2.TPMSCertifyInfo{}
		info.Name.Buffer, info.QualifiedName.Buffer = c.sized(), c.sized()
		a.Attested = tpm2.NewTPMUAttest(a.Type, info)
	default:
		return nil, false
	}
	return a, c.ended() && safe <= 1 && a.Magic == tpm2.TPMGeneratedValue
}

// signable are the attributes that readPublic knows. Any other, and any reserved bit, is left to parse.
const signable = attrResident | attrUserWithAuth | attrAdminWithPolicy | attrNoDA | attrRestricted | attrSign

// readPublic decodes the TPMT_PUBLIC of a signing key: RSA or ECC, without symmetric cipher and key derivation.
func readPublic(area []byte) (*tpm2.TPMTPublic, bool) {
	c := &cursor{rest: area}
	p := &tpm2.TPMTPublic{Type: c.alg(), NameAlg: c.alg()}
	attributes := c.u32()
	p.ObjectAttributes = tpm2.TPMAObject{
		FixedTPM: attributes&attrFixedTPM != 0, FixedParent: attributes&attrFixedParent != 0,
		SensitiveDataOrigin: attributes&attrSensitiveDataOrigin != 0, UserWithAuth: attributes&attrUserWithAuth != 0,
		AdminWithPolicy: attributes&attrAdminWithPolicy != 0, NoDA: attributes&attrNoDA != 0,
		Restricted: attributes&attrRestricted != 0, SignEncrypt: attributes&attrSign != 0,
	}
	p.AuthPolicy.Buffer = c.sized()
	if attributes&^signable != 0 || c.alg() != tpm2.TPMAlgNull {
		return nil, false
	}
	known := false
	switch p.Type {
	case tpm2.TPMAlgRSA:
		known = c.rsaArea(p)
	case tpm2.TPMAlgECC:
		known = c.eccArea(p)
	}
	return p, known && c.ended()
}

// noCipher is the symmetric definition of a key that encrypts no other.
var noCipher = tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}

func (c *cursor) rsaArea(p *tpm2.TPMTPublic) bool {
	parms := &tpm2.TPMSRSAParms{Symmetric: noCipher}
	var known bool
	parms.Scheme.Scheme, parms.Scheme.Details, known = c.scheme(tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS)
	parms.KeyBits, parms.Exponent = tpm2.TPMKeyBits(c.u16()), c.u32()
	p.Parameters = tpm2.NewTPMUPublicParms(p.Type, parms)
	p.Unique = tpm2.NewTPMUPublicID(p.Type, &tpm2.TPM2BPublicKeyRSA{Buffer: c.sized()})
	return known
}

func (c *cursor) eccArea(p *tpm2.TPMTPublic) bool {
	parms := &tpm2.TPMSECCParms{Symmetric: noCipher}
	var known bool
	parms.Scheme.Scheme, parms.Scheme.Details, known = c.scheme(tpm2.TPMAlgECDSA)
	parms.CurveID, parms.KDF.Scheme = tpm2.TPMECCCurve(c.u16()), c.alg()
	p.Parameters = tpm2.NewTPMUPublicParms(p.Type, parms)
	point := &tpm2.TPMSECCPoint{}
	point.X.Buffer, point.Y.Buffer = c.sized(), c.sized()
	p.Unique = tpm2.NewTPMUPublicID(p.Type, point)
	return known && parms.KDF.Scheme == tpm2.TPMAlgNull
}

// scheme reads the signature scheme of a key: none, or one of the given ones with its hash.
func (c *cursor) scheme(among ...tpm2.TPMAlgID) (scheme tpm2.TPMAlgID, details tpm2.TPMUAsymScheme, known bool) {
	scheme = c.alg()
	if scheme == tpm2.TPMAlgNull {
		return scheme, details, true
	}
	if !slices.Contains(among, scheme) {
		return scheme, details, false
	}
	switch hash := c.alg(); scheme {
	case tpm2.TPMAlgRSASSA:
		details = tpm2.NewTPMUAsymScheme(scheme, &tpm2.TPMSSigSchemeRSASSA{HashAlg: hash})
	case tpm2.TPMAlgRSAPSS:
		details = tpm2.NewTPMUAsymScheme(scheme, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: hash})
	case tpm2.TPMAlgECDSA:
		details = tpm2.NewTPMUAsymScheme(scheme, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})
	}
	return scheme, details, true
}

// readSignature decodes a TPMT_SIGNATURE of the three schemes that a TPM signs attestations with.
func readSignature(raw []byte) (*tpm2.TPMTSignature, bool) {
	c := &cursor{rest: raw}
	s := &tpm2.TPMTSignature{SigAlg: c.alg()}
	switch hash := c.alg(); s.SigAlg {
	case tpm2.TPMAlgRSASSA, tpm2.TPMAlgRSAPSS:
		s.Signature = tpm2.NewTPMUSignature(s.SigAlg, &tpm2.TPMSSignatureRSA{Hash: hash, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: c.sized()}})
	case tpm2.TPMAlgECDSA:
		ecc := &tpm2.TPMSSignatureECC{Hash: hash}
		ecc.SignatureR.Buffer, ecc.SignatureS.Buffer = c.sized(), c.sized()
		s.Signature = tpm2.NewTPMUSignature(s.SigAlg, ecc)
	default:
		return nil, false
	}
	return s, c.ended()
}
