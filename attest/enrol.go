package attest

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

const (
	maxEnrolRequest = 64 << 10 // bytes
	maxChain        = 8        // certificates
)

// EnrolRequest is what a host sends to have its AK, and a gate its gate key, enrolled. All of it is unverified.
type EnrolRequest struct {
	EK      []byte         `cbor:"0,keyasint"`           // TPM2B_PUBLIC
	Chain   [][]byte       `cbor:"1,keyasint"`           // EK certificate and intermediates, DER, leaf first; may be empty
	AK      []byte         `cbor:"2,keyasint"`           // TPM2B_PUBLIC
	GateKey []byte         `cbor:"3,keyasint,omitempty"` // TPM2B_PUBLIC
	Certify *Certification `cbor:"4,keyasint,omitempty"` // of the gate key, by the AK
}

// Encode returns the request in its one encoding.
func (r EnrolRequest) Encode() ([]byte, error) {
	if r.Chain == nil {
		r.Chain = [][]byte{}
	}
	return statement.Marshal(r)
}

// DecodeEnrolRequest reads an enrolment request. It checks, in this order: size (908); one strict encoding and no
// unknown member (308-313, 911); both keys are there (104, 317); an array of certificates (312), not too many
// (313); a gate key comes with its
// certification, or neither does (702).
func DecodeEnrolRequest(raw []byte) (*EnrolRequest, error) {
	return guarded(func() (*EnrolRequest, error) {
		if len(raw) > maxEnrolRequest {
			return nil, denial.New(denial.RequestLimit, "an enrolment request has at most %d bytes", maxEnrolRequest)
		}
		var r EnrolRequest
		if err := statement.Unmarshal(raw, &r); err != nil {
			return nil, err
		}
		if len(r.EK) == 0 || len(r.AK) == 0 {
			return nil, denial.New(denial.QuoteMalformed, "EK or AK is missing")
		}
		if r.Chain == nil {
			return nil, denial.New(denial.PayloadForm, "no certificates are an empty array")
		}
		if len(r.Chain) > maxChain {
			return nil, denial.New(denial.StructureLimit, "more than %d certificates", maxChain)
		}
		if (len(r.GateKey) == 0) != (r.Certify == nil) {
			return nil, denial.New(denial.KeyBinding, "a gate key and its certification belong together")
		}
		return &r, nil
	})
}

// EKDigest returns SHA-256 of the TPMT_PUBLIC of the EK that the request names: unverified, to find the enrolment
// statement.
func (r *EnrolRequest) EKDigest() ([32]byte, error) {
	_, area, err := parsePublic(r.EK)
	if err != nil {
		return [32]byte{}, err
	}
	return sha256.Sum256(area), nil
}

// EnrolOptions is what the verifier demands of an enrolment.
type EnrolOptions struct {
	EKDigest    [32]byte            // SHA-256 of the EK's TPMT_PUBLIC, named by the authority-signed enrolment
	Roots       []*x509.Certificate // TPM vendor roots that the verifier pins
	Now         time.Time           // when certificates must be valid
	AllowListed bool                // the enrolment statement vouches for this EK: no certificate is needed
	Rules       Rules               // what else a certificate must satisfy
}

// Method says why an EK is believed to be in a genuine TPM.
type Method string

// The methods.
const (
	MethodChain Method = "chain" // its certificate leads to a pinned root
	MethodList  Method = "list"  // an authority has named it
)

// Candidate is a checked enrolment before activation. Nothing may be trusted on its account until the host has returned
// the secret of its credential: only then has a TPM shown that it holds both EK and AK. Only CheckEnrolment makes one.
type Candidate struct {
	request  EnrolRequest
	ek       *tpm2.TPMTPublic
	ekDigest [32]byte
	akName   []byte
	gate     *signer
	method   Method
	device   Device
}

// CheckEnrolment checks an enrolment request, in this order: the EK is encoded strictly (317) and is the one that the
// enrolment names (106); it is a restricted decryption key made in its TPM and fixed to it (321), of sufficient size, not
// of the weak form of CVE-2017-15361, and with AES-CFB protection (322); its certificate, as in checkChain (318, 320, 321, 620, 803, 806), where an EK that is listed
// may lack a chain (321) or a fresh list of revocations (806), but not bring another key's; the AK (317, 319); if there is a gate key, that it is an unrestricted P-256
// signing key made in its TPM and fixed to it (317, 702), certified by the AK for this EK (314, 315, 313, 317, 302, 702).
func CheckEnrolment(r *EnrolRequest, o EnrolOptions) (*Candidate, error) {
	return staged(denial.StageEnrolment, func() (*Candidate, error) { return checkEnrolment(r, o) })
}

func checkEnrolment(r *EnrolRequest, o EnrolOptions) (*Candidate, error) {
	c := &Candidate{request: *r}
	ek, area, err := parsePublic(r.EK)
	if err != nil {
		return nil, err
	}
	if c.ek, c.ekDigest = ek, sha256.Sum256(area); c.ekDigest != o.EKDigest {
		return nil, denial.New(denial.NotEnrolled, "no enrolment names this EK")
	}
	if err := checkEK(ek, area); err != nil {
		return nil, err
	}
	if c.device, err = checkChain(r.Chain, ek, o); err == nil {
		c.method = MethodChain
	} else if c.method = MethodList; !o.AllowListed || !denial.Is(err, denial.EKUntrusted) && !denial.Is(err, denial.RevocationUnknown) {
		return nil, err
	}
	ak, err := checkAK(r.AK)
	if err != nil {
		return nil, err
	}
	if weakModulus(ak.pub) {
		return nil, denial.New(denial.AKAttributes, "the AK was made by a TPM whose RSA keys anybody can factor")
	}
	c.akName = ak.name
	if r.Certify == nil {
		return c, nil
	}
	if c.gate, err = checkSigner(r.GateKey, attrUserWithAuth); err != nil {
		return nil, err
	}
	extra := GateQualifyingData(c.ekDigest)
	return c, ak.certified(*r.Certify, c.gate.name, extra[:], nil)
}

// checkEK checks the public area of an EK (TCG EK Credential Profile, annex B).
func checkEK(ek *tpm2.TPMTPublic, area []byte) error {
	if !hasExactly(area, attrResident|attrRestricted|attrDecrypt, attrUserWithAuth|attrAdminWithPolicy|attrNoDA) {
		return denial.New(denial.EKUntrusted, "the EK must be a restricted decryption key, made in this TPM and fixed to it")
	}
	key, err := publicKey(ek)
	if err != nil {
		return denial.New(denial.EKWeak, "the EK is %v", err)
	}
	if weakModulus(key) {
		return denial.New(denial.EKWeak, "the EK was made by a TPM whose RSA keys anybody can factor")
	}
	if _, ok := strongHash(ek.NameAlg); !ok {
		return denial.New(denial.EKWeak, "the EK's name algorithm is neither SHA-256 nor SHA-384")
	}
	var sym tpm2.TPMTSymDefObject
	if parms, err := ek.Parameters.RSADetail(); err == nil {
		sym = parms.Symmetric
	} else if parms, err := ek.Parameters.ECCDetail(); err == nil {
		sym = parms.Symmetric
	}
	bits, errBits := sym.KeyBits.AES()
	mode, errMode := sym.Mode.AES()
	if errBits != nil || errMode != nil || *bits != 128 && *bits != 192 && *bits != 256 || *mode != tpm2.TPMAlgCFB {
		return denial.New(denial.EKWeak, "the EK does not protect with AES in CFB mode")
	}
	return nil
}

// AKPublic returns the TPM2B_PUBLIC of the AK.
func (c *Candidate) AKPublic() []byte { return bytes.Clone(c.request.AK) }

// AKName returns the TPM Name of the AK.
func (c *Candidate) AKName() []byte { return bytes.Clone(c.akName) }

// EKDigest returns SHA-256 of the TPMT_PUBLIC of the EK.
func (c *Candidate) EKDigest() [32]byte { return c.ekDigest }

// GateKey returns the gate key and whether there is one.
func (c *Candidate) GateKey() (key statement.Key, ok bool) {
	if c.gate == nil {
		return statement.Key{}, false
	}
	return c.gate.key, true
}

// Method returns why the EK is believed.
func (c *Candidate) Method() Method { return c.method }

// Device returns what the EK certificate says about the TPM; zero unless the method is MethodChain.
func (c *Candidate) Device() Device { return c.device }

// Credential is a secret that only the TPM with the candidate's EK can open, and only while it holds the AK. The fields
// are the buffers of TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET, without their sizes.
type Credential struct {
	Blob   []byte `cbor:"0,keyasint"`
	Secret []byte `cbor:"1,keyasint"`
}

// MakeCredential does TPM2_MakeCredential in software (TPM 2.0 Part 1, section 24): it encrypts secret to the EK, bound
// to the Name of the AK. The secret must be random and used once.
func (c *Candidate) MakeCredential(secret [32]byte) (Credential, error) {
	cred, err := guarded(func() (*Credential, error) {
		key, err := tpm2.ImportEncapsulationKey(c.ek)
		if err != nil {
			return nil, denial.New(denial.EKWeak, "nothing can be encrypted to the EK")
		}
		blob, encrypted, err := tpm2.CreateCredential(rand.Reader, key, c.akName, secret[:])
		if err != nil {
			return nil, denial.New(denial.EKWeak, "nothing can be encrypted to the EK")
		}
		return &Credential{Blob: blob, Secret: encrypted}, nil
	})
	if err != nil {
		return Credential{}, err
	}
	return *cred, nil
}
