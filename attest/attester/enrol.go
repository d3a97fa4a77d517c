package attester

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

// EnrolOptions say what to enrol.
type EnrolOptions struct {
	EK            EKKind   // default: the first one of EKs
	Intermediates [][]byte // DER certificates between the EK certificate and the vendor's root, which few TPMs hold
	Gate          bool     // also make and certify a gate key
}

// Enrolment is what a host sends to be enrolled, and the gate key that it keeps.
type Enrolment struct {
	Request []byte // as attest.DecodeEnrolRequest reads it
	EK      EK     // whose Digest an authority must have enrolled; Activate needs its Kind
	Gate    *Key   // nil unless asked for; save it
}

// Enrol prepares an enrolment. It is complete when the host has returned the secret of the issuer's credential: see
// Activate.
func (t *TPM) Enrol(ctx context.Context, o EnrolOptions) (*Enrolment, error) {
	e := &Enrolment{}
	var r attest.EnrolRequest
	err := t.use(ctx, func(c *call) (err error) {
		if e.EK, err = c.ek(o.EK); err != nil {
			return err
		}
		ak, err := c.createAK()
		if err != nil {
			return err
		}
		defer ak.free()
		r.EK, r.AK = e.EK.Public, tpm2.Marshal(ak.public)
		if !o.Gate {
			return nil
		}
		var certify attest.Certification
		if e.Gate, certify, err = c.newGate(ak, e.EK); err == nil {
			r.GateKey, r.Certify = e.Gate.Public, &certify
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("preparing enrolment: %w", err)
	}
	if e.EK.Cert != nil {
		r.Chain = append([][]byte{e.EK.Cert}, o.Intermediates...)
	}
	if e.Request, err = r.Encode(); err != nil {
		return nil, fmt.Errorf("preparing enrolment: %w", err)
	}
	return e, nil
}

// NewGateKey makes a gate key and has the AK certify it for the given EK.
func (t *TPM) NewGateKey(ctx context.Context, ek EK) (*Key, attest.Certification, error) {
	var k *Key
	var certify attest.Certification
	err := t.use(ctx, func(c *call) error {
		ak, err := c.createAK()
		if err != nil {
			return err
		}
		defer ak.free()
		k, certify, err = c.newGate(ak, ek)
		return err
	})
	return k, certify, err
}

func (c *call) newGate(ak *key, ek EK) (*Key, attest.Certification, error) {
	k, err := c.createGate()
	if err != nil {
		return nil, attest.Certification{}, err
	}
	certify, err := c.certify(ak, k, attest.GateQualifyingData(ek.Digest()))
	return k, certify, err
}

// Activate opens the issuer's credential with the EK: the TPM gives the secret away only if it holds the AK that the
// credential names. A credential for another EK or AK is ActivationFailed.
func (t *TPM) Activate(ctx context.Context, kind EKKind, cred attest.Credential) ([]byte, error) {
	var secret []byte
	err := t.use(ctx, func(c *call) (err error) {
		secret, err = c.activate(kind, cred)
		return err
	})
	return secret, err
}

func (c *call) activate(kind EKKind, cred attest.Credential) ([]byte, error) {
	ek, err := c.loadEKOf(kind)
	if err != nil {
		return nil, err
	}
	defer ek.free()
	auth, err := c.authorizeEK(ek)
	if err != nil {
		return nil, err
	}
	ak, err := c.createAK()
	if err != nil {
		return nil, err
	}
	defer ak.free()
	public, err := ek.public.Contents()
	if err != nil {
		return nil, err
	}
	// Only the EK of the certificate opens the salt, so the secret can be read on no bus (F21).
	shielded := tpm2.HMAC(tpm2.TPMAlgSHA256, 16, tpm2.Salted(ek.handle, *public), tpm2.AESEncryption(128, tpm2.EncryptOut))
	r, err := tpm2.ActivateCredential{
		ActivateHandle: ak.withPassword(),
		KeyHandle:      tpm2.AuthHandle{Handle: ek.handle, Name: ek.name, Auth: auth},
		CredentialBlob: tpm2.TPM2BIDObject{Buffer: cred.Blob},
		Secret:         tpm2.TPM2BEncryptedSecret{Buffer: cred.Secret},
	}.Execute(c, shielded)
	if c.refused(err) {
		return nil, denial.New(denial.ActivationFailed, "the TPM refused the credential: it is not for this EK and this AK")
	}
	if err != nil {
		return nil, fmt.Errorf("activating credential: %w", err)
	}
	return r.CertInfo.Buffer, nil
}

// refused reports whether an error of TPM2_ActivateCredential is about the credential. libtpms answers TPM_RC_FAILURE to
// an RSA ciphertext for another key; a TPM that has really failed answers so to every command.
func (c *call) refused(err error) bool {
	for _, code := range []tpm2.TPMRC{tpm2.TPMRCIntegrity, tpm2.TPMRCValue, tpm2.TPMRCSize, tpm2.TPMRCECCPoint} {
		if errors.Is(err, code) {
			return true
		}
	}
	if !errors.Is(err, tpm2.TPMRCFailure) {
		return false
	}
	_, err = tpm2.ReadClock{}.Execute(c)
	return err == nil
}

// loadEKOf loads the EK of a kind, or the preferred one for the zero EKKind.
func (c *call) loadEKOf(kind EKKind) (*key, error) {
	if kind == 0 {
		ek, err := c.ek(0)
		if err != nil {
			return nil, err
		}
		kind = ek.Kind
	}
	for _, p := range ekPlaces() {
		if p.kind == kind {
			return c.loadEK(p)
		}
	}
	return nil, fmt.Errorf("loading EK: there is no such kind")
}
