package attest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/binary"
	"errors"
	"math/big"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Bits of TPMA_OBJECT (TPM 2.0 Part 2, section 8.3).
const (
	attrFixedTPM            = 1 << 1
	attrFixedParent         = 1 << 4
	attrSensitiveDataOrigin = 1 << 5
	attrUserWithAuth        = 1 << 6
	attrAdminWithPolicy     = 1 << 7
	attrNoDA                = 1 << 10
	attrRestricted          = 1 << 16
	attrDecrypt             = 1 << 17
	attrSign                = 1 << 18

	attrResident = attrFixedTPM | attrFixedParent | attrSensitiveDataOrigin // made in this TPM, never leaves it
)

// hasExactly reports whether in a parsed TPMT_PUBLIC all required attributes are set, and no other but the optional
// ones. Reserved bits are other ones.
func hasExactly(area []byte, required, optional uint32) bool {
	got := binary.BigEndian.Uint32(area[4:]) // after type and nameAlg
	return got&required == required && got&^(required|optional) == 0
}

// Name returns the TPM Name of a TPM2B_PUBLIC: nameAlg and digest of the public area (TPM 2.0 Part 1, section 16).
func Name(public []byte) ([]byte, error) {
	pub, area, err := parsePublic(public)
	if err != nil {
		return nil, err
	}
	return nameOf(pub, area)
}

func nameOf(pub *tpm2.TPMTPublic, area []byte) ([]byte, error) {
	h, ok := strongHash(pub.NameAlg)
	if !ok {
		return nil, denial.New(denial.AKAttributes, "a key's name algorithm is neither SHA-256 nor SHA-384")
	}
	return nameWith(pub.NameAlg, h, area), nil
}

// nameWith returns nameAlg || H(parts).
func nameWith(alg tpm2.TPMIAlgHash, h crypto.Hash, parts ...[]byte) []byte {
	d := h.New()
	for _, p := range parts {
		d.Write(p)
	}
	return d.Sum(binary.BigEndian.AppendUint16(nil, uint16(alg)))
}

// strongHash returns the hash of an algorithm that is accepted anywhere in a name or signature.
func strongHash(alg tpm2.TPMIAlgHash) (crypto.Hash, bool) {
	switch alg {
	case tpm2.TPMAlgSHA256:
		return crypto.SHA256, true
	case tpm2.TPMAlgSHA384:
		return crypto.SHA384, true
	}
	return 0, false
}

var errWeakKey = errors.New("a key other than RSA of at least 2048 bits with exponent 65537, P-256 and P-384")

// publicKey returns the key that a public area holds: RSA of 2048 to 4096 bits with exponent 65537, or a point on
// P-256 or P-384.
func publicKey(pub *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	switch pub.Type {
	case tpm2.TPMAlgRSA:
		return rsaKey(pub)
	case tpm2.TPMAlgECC:
		return eccKey(pub)
	}
	return nil, errWeakKey
}

func rsaKey(pub *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	parms, err := pub.Parameters.RSADetail()
	if err != nil {
		return nil, errWeakKey
	}
	unique, err := pub.Unique.RSA()
	if err != nil {
		return nil, errWeakKey
	}
	n := new(big.Int).SetBytes(unique.Buffer)
	bits := int(parms.KeyBits)
	// Exponent 0 means 65537 (TPM 2.0 Part 2, section 12.2.3.5).
	if parms.Exponent != 0 && parms.Exponent != 65537 || bits < 2048 || bits > 4096 || n.BitLen() != bits || n.Bit(0) == 0 {
		return nil, errWeakKey
	}
	return &rsa.PublicKey{N: n, E: 65537}, nil
}

func eccKey(pub *tpm2.TPMTPublic) (crypto.PublicKey, error) {
	parms, err := pub.Parameters.ECCDetail()
	if err != nil {
		return nil, errWeakKey
	}
	point, err := pub.Unique.ECC()
	if err != nil {
		return nil, errWeakKey
	}
	var curve elliptic.Curve
	switch parms.CurveID {
	case tpm2.TPMECCNistP256:
		curve = elliptic.P256()
	case tpm2.TPMECCNistP384:
		curve = elliptic.P384()
	default:
		return nil, errWeakKey
	}
	size := curve.Params().BitSize / 8
	x, y := point.X.Buffer, point.Y.Buffer
	if len(x) > size || len(y) > size {
		return nil, errWeakKey
	}
	encoded := slices.Concat([]byte{4}, make([]byte, size-len(x)), x, make([]byte, size-len(y)), y)
	key, err := ecdsa.ParseUncompressedPublicKey(curve, encoded) // checks that the point is on the curve
	if err != nil {
		return nil, errWeakKey
	}
	return key, nil
}

// signatureScheme returns the scheme and hash of a key's public area. TPMAlgNull means that the key has none.
func signatureScheme(pub *tpm2.TPMTPublic) (scheme tpm2.TPMAlgID, hash tpm2.TPMIAlgHash) {
	var details tpm2.TPMUAsymScheme
	switch pub.Type {
	case tpm2.TPMAlgRSA:
		if parms, err := pub.Parameters.RSADetail(); err == nil {
			scheme, details = parms.Scheme.Scheme, parms.Scheme.Details
		}
	case tpm2.TPMAlgECC:
		if parms, err := pub.Parameters.ECCDetail(); err == nil {
			scheme, details = parms.Scheme.Scheme, parms.Scheme.Details
		}
	}
	switch scheme {
	case tpm2.TPMAlgRSASSA:
		if d, err := details.RSASSA(); err == nil {
			return scheme, d.HashAlg
		}
	case tpm2.TPMAlgRSAPSS:
		if d, err := details.RSAPSS(); err == nil {
			return scheme, d.HashAlg
		}
	case tpm2.TPMAlgECDSA:
		if d, err := details.ECDSA(); err == nil {
			return scheme, d.HashAlg
		}
	}
	return scheme, tpm2.TPMAlgNull
}

// attestationKey is an AK whose public area has been checked. That a TPM holds it is shown by activation alone.
type attestationKey struct {
	public    []byte // TPM2B_PUBLIC
	name      []byte
	qualified []byte // qualified name as a primary key of the endorsement hierarchy
	pub       crypto.PublicKey
	scheme    tpm2.TPMAlgID
	hashAlg   tpm2.TPMIAlgHash
	hash      crypto.Hash
}

// checkAK checks, in this order: one strict encoding (317); the attributes of a restricted signing key that was made in
// its TPM and cannot leave it, and no others (319); name algorithm SHA-256 or SHA-384 (319); key type and size (319); a
// signature scheme of its own, with SHA-256 or SHA-384 (319).
func checkAK(public []byte) (*attestationKey, error) {
	pub, area, err := parsePublic(public)
	if err != nil {
		return nil, err
	}
	if !hasExactly(area, attrResident|attrRestricted|attrSign, attrUserWithAuth|attrAdminWithPolicy|attrNoDA) {
		return nil, denial.New(denial.AKAttributes, "the AK must be a restricted signing key, made in this TPM and fixed to it")
	}
	name, err := nameOf(pub, area)
	if err != nil {
		return nil, err
	}
	key, err := publicKey(pub)
	if err != nil {
		return nil, denial.New(denial.AKAttributes, "the AK is %v", err)
	}
	ak := &attestationKey{public: public, name: name, pub: key}
	ak.scheme, ak.hashAlg = signatureScheme(pub)
	var ok bool
	if ak.hash, ok = strongHash(ak.hashAlg); !ok {
		return nil, denial.New(denial.AKAttributes, "the AK has no signature scheme with SHA-256 or SHA-384")
	}
	h, _ := strongHash(pub.NameAlg)
	// Part 1, section 16: QN = nameAlg || H(QN of the parent || Name); that of a hierarchy is its handle.
	parent := binary.BigEndian.AppendUint32(nil, uint32(tpm2.TPMRHEndorsement))
	ak.qualified = nameWith(pub.NameAlg, h, parent, name)
	return ak, nil
}

// signer is an unrestricted signing key of a TPM whose public area has been checked: a cnf key or a gate key.
type signer struct {
	key        statement.Key
	name       []byte
	authPolicy []byte
}

// checkSigner checks, in this order: one strict encoding (317); then, each with 702, the attributes of an unrestricted
// signing key that was made in its TPM and cannot leave it, the required ones, and no others; name algorithm SHA-256;
// a key on P-256; scheme null or ECDSA with SHA-256.
func checkSigner(public []byte, required uint32) (*signer, error) {
	pub, area, err := parsePublic(public)
	if err != nil {
		return nil, err
	}
	if !hasExactly(area, attrResident|attrSign|required, attrNoDA) {
		return nil, denial.New(denial.KeyBinding, "a key does not have the attributes that its use needs")
	}
	if pub.NameAlg != tpm2.TPMAlgSHA256 {
		return nil, denial.New(denial.KeyBinding, "the name algorithm of a key is not SHA-256")
	}
	point, err := publicKey(pub)
	ec, ok := point.(*ecdsa.PublicKey)
	if err != nil || !ok || ec.Curve != elliptic.P256() {
		return nil, denial.New(denial.KeyBinding, "a key is not on P-256")
	}
	scheme, hash := signatureScheme(pub)
	if scheme != tpm2.TPMAlgNull && (scheme != tpm2.TPMAlgECDSA || hash != tpm2.TPMAlgSHA256) {
		return nil, denial.New(denial.KeyBinding, "the scheme of a key is not ECDSA with SHA-256")
	}
	key, err := statement.NewKey(ec)
	if err != nil {
		return nil, denial.New(denial.KeyBinding, "a key is not on P-256")
	}
	return &signer{key, nameWith(pub.NameAlg, crypto.SHA256, area), pub.AuthPolicy.Buffer}, nil
}
