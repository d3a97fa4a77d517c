package attester

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// EKKind is one of the endorsement keys that a TPM may have. The zero EKKind means: the first one of EKs.
type EKKind uint8

// The kinds of EKs, in the order of preference.
const (
	EKRSA2048 EKKind = 1 // TCG EK Credential Profile, template L-1
	EKP256    EKKind = 2 // template L-2
	EKP384    EKKind = 3 // template H-3
)

// String returns the kind in words.
func (k EKKind) String() string {
	switch k {
	case EKRSA2048:
		return "RSA-2048"
	case EKP256:
		return "ECC P-256"
	case EKP384:
		return "ECC P-384"
	}
	return "unknown EK"
}

// EK is an endorsement key.
type EK struct {
	Kind   EKKind
	Public []byte // TPM2B_PUBLIC
	Cert   []byte // the vendor's certificate, DER; nil if the TPM has none for this key
}

// Digest returns SHA-256 of the EK's TPMT_PUBLIC: the name of the TPM in an enrolment.
func (e EK) Digest() [32]byte { return sha256.Sum256(e.Public[min(2, len(e.Public)):]) }

// ekPlace is where the TCG profile puts a kind of EK.
type ekPlace struct {
	kind       EKKind
	cert       tpm2.TPMHandle // NV index of the certificate
	persistent tpm2.TPMHandle // zero if the profile reserves none
	template   tpm2.TPMTPublic
}

func ekPlaces() []ekPlace {
	return []ekPlace{
		{EKRSA2048, 0x01C00002, 0x81010001, tpm2.RSAEKTemplate},
		{EKP256, 0x01C0000A, 0, tpm2.ECCEKTemplate},
		{EKP384, 0x01C00016, 0x81010016, p384EKTemplate()},
	}
}

// p384EKTemplate returns template H-3. Its policy is PolicyB of the profile for SHA-384: PolicyOR of PolicySecret with
// the endorsement authorization and of PolicyAuthorizeNV.
func p384EKTemplate() tpm2.TPMTPublic {
	return tpm2.TPMTPublic{
		Type:    tpm2.TPMAlgECC,
		NameAlg: tpm2.TPMAlgSHA384,
		ObjectAttributes: tpm2.TPMAObject{
			FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, AdminWithPolicy: true,
			Restricted: true, Decrypt: true,
		},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: []byte{
			0xB2, 0x6E, 0x7D, 0x28, 0xD1, 0x1A, 0x50, 0xBC, 0x53, 0xD8, 0x82, 0xBC, 0xF5, 0xFD, 0x3A, 0x1A,
			0x07, 0x41, 0x48, 0xBB, 0x35, 0xD3, 0xB4, 0xE4, 0xCB, 0x1C, 0x0A, 0xD9, 0xBD, 0xE4, 0x19, 0xCA,
			0xCB, 0x47, 0xBA, 0x09, 0x69, 0x96, 0x46, 0x15, 0x0F, 0x9F, 0xC0, 0x00, 0xF3, 0xF8, 0x0E, 0x12,
		}},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			Symmetric: tpm2.TPMTSymDefObject{
				Algorithm: tpm2.TPMAlgAES,
				KeyBits:   tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(256)),
				Mode:      tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCFB),
			},
			CurveID: tpm2.TPMECCNistP384,
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{}),
	}
}

// EKs returns the endorsement keys of the TPM, RSA first: those with a certificate in the TPM or, where it holds no
// certificate, the RSA one, which an authority may have listed by its digest.
func (t *TPM) EKs(ctx context.Context) ([]EK, error) {
	var found []EK
	err := t.use(ctx, func(c *call) (err error) {
		found, err = c.eks()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("finding EKs: %w", err)
	}
	return found, nil
}

func (c *call) eks() ([]EK, error) {
	var found []EK
	places := ekPlaces()
	for _, p := range places {
		cert, err := c.certificate(p.cert)
		if err != nil {
			return nil, fmt.Errorf("reading %v certificate: %w", p.kind, err)
		}
		if cert == nil {
			continue
		}
		ek, err := c.describe(p, cert)
		if err != nil {
			return nil, err
		}
		found = append(found, ek)
	}
	if len(found) > 0 {
		return found, nil
	}
	ek, err := c.describe(places[0], nil)
	return []EK{ek}, err
}

// ek returns the EK of a kind, or the preferred one for the zero EKKind.
func (c *call) ek(kind EKKind) (EK, error) {
	all, err := c.eks()
	if err != nil {
		return EK{}, err
	}
	for _, e := range all {
		if kind == 0 || e.Kind == kind {
			return e, nil
		}
	}
	return EK{}, fmt.Errorf("the TPM has no certificate for an %v EK", kind)
}

func (c *call) describe(p ekPlace, cert []byte) (EK, error) {
	key, err := c.loadEK(p)
	if err != nil {
		return EK{}, fmt.Errorf("loading %v EK: %w", p.kind, err)
	}
	key.free()
	ek := EK{Kind: p.kind, Public: tpm2.Marshal(key.public), Cert: cert}
	if cert != nil && !matches(cert, key.public) {
		return EK{}, fmt.Errorf("the %v certificate in the TPM is for another key than the standard template makes", p.kind)
	}
	return ek, nil
}

// matches reports whether a certificate is for the key. One that Go cannot read is left to the verifier to judge.
func matches(der []byte, public tpm2.TPM2BPublic) bool {
	cert, err := x509.ParseCertificate(der)
	if err != nil || cert.PublicKey == nil {
		return true
	}
	area, err := public.Contents()
	if err != nil {
		return false
	}
	key, err := tpm2.Pub(*area)
	if err != nil {
		return false
	}
	want, errWant := x509.MarshalPKIXPublicKey(cert.PublicKey)
	got, errGot := x509.MarshalPKIXPublicKey(key)
	return errWant == nil && errGot == nil && bytes.Equal(want, got)
}

// certificate reads a DER certificate from an NV index, without the padding that some vendors leave behind it. It
// returns nil if the index does not exist.
func (c *call) certificate(index tpm2.TPMHandle) ([]byte, error) {
	r, err := tpm2.NVReadPublic{NVIndex: index}.Execute(c)
	if errors.Is(err, tpm2.TPMRCHandle) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	nv, err := r.NVPublic.Contents()
	if err != nil {
		return nil, err
	}
	data, err := c.readNV(index, r.NVName, nv)
	if err != nil {
		return nil, err
	}
	var der asn1.RawValue
	if _, err := asn1.Unmarshal(data, &der); err != nil || der.Tag != asn1.TagSequence {
		return nil, fmt.Errorf("NV index %#x holds no certificate", uint32(index))
	}
	return der.FullBytes, nil
}

func (c *call) readNV(index tpm2.TPMHandle, name tpm2.TPM2BName, nv *tpm2.TPMSNVPublic) ([]byte, error) {
	auth := tpm2.AuthHandle{Handle: index, Name: name, Auth: tpm2.PasswordAuth(nil)}
	if !nv.Attributes.AuthRead {
		auth = tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	}
	const chunk = 512 // every TPM of the PC client platform reads as much at once
	var data []byte
	for len(data) < int(nv.DataSize) {
		r, err := tpm2.NVRead{
			AuthHandle: auth, NVIndex: tpm2.NamedHandle{Handle: index, Name: name},
			Size: uint16(min(chunk, int(nv.DataSize)-len(data))), Offset: uint16(len(data)),
		}.Execute(c)
		if err != nil {
			return nil, err
		}
		if len(r.Data.Buffer) == 0 {
			return nil, fmt.Errorf("NV index %#x ends early", uint32(index))
		}
		data = append(data, r.Data.Buffer...)
	}
	return data, nil
}

// loadEK takes the persistent EK if it is of the template, or makes it again: the TPM derives the same key each time.
func (c *call) loadEK(p ekPlace) (*key, error) {
	if p.persistent != 0 {
		r, err := tpm2.ReadPublic{ObjectHandle: p.persistent}.Execute(c)
		if err == nil && ofTemplate(r.OutPublic, p.template) {
			return &key{handle: p.persistent, name: r.Name, public: r.OutPublic}, nil
		}
		if err != nil && !errors.Is(err, tpm2.TPMRCHandle) {
			return nil, err
		}
	}
	return c.createPrimary(tpm2.TPMRHEndorsement, p.template)
}

// ofTemplate reports whether a key differs from the template in nothing but its unique field.
func ofTemplate(public tpm2.TPM2BPublic, template tpm2.TPMTPublic) bool {
	area, err := public.Contents()
	if err != nil || area.Type != template.Type {
		return false
	}
	template.Unique = area.Unique
	return bytes.Equal(tpm2.Marshal(*area), tpm2.Marshal(template))
}

// authorizeEK returns the authorization to use an EK: its empty password where the template allows that, or else the
// policy of the template, TPM2_PolicySecret with the endorsement authorization.
func (c *call) authorizeEK(ek *key) (tpm2.Session, error) {
	area, err := ek.public.Contents()
	if err != nil {
		return nil, err
	}
	if area.ObjectAttributes.UserWithAuth {
		return tpm2.PasswordAuth(nil), nil
	}
	return c.policy(func(conn transport.TPM, session tpm2.TPMISHPolicy, nonce tpm2.TPM2BNonce) error {
		_, err := tpm2.PolicySecret{
			AuthHandle:    tpm2.AuthHandle{Handle: tpm2.TPMRHEndorsement, Auth: tpm2.PasswordAuth(nil)},
			PolicySession: session, NonceTPM: nonce,
		}.Execute(conn)
		return err
	}), nil
}
