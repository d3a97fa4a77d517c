package softtpm

import (
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/hmac"
	"crypto/rsa"
	"errors"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
)

// Activate does TPM2_ActivateCredential (TPM 2.0 Part 1, section 24) with the EK and the AK, and returns the secret. It
// refuses a credential for another EK or another AK.
func (t *TPM) Activate(c attest.Credential) ([]byte, error) {
	hash, err := t.ekPublic.NameAlg.Hash()
	if err != nil {
		return nil, err
	}
	seed, bits, err := t.openSeed(c.Secret, hash)
	if err != nil {
		return nil, err
	}
	size := 2 + hash.Size()
	if len(c.Blob) <= size {
		return nil, errors.New("the credential is cut short")
	}
	mac, encrypted := c.Blob[2:size], c.Blob[size:]
	integrity := hmac.New(hash.New, tpm2.KDFa(hash, seed, "INTEGRITY", nil, nil, hash.Size()*8))
	integrity.Write(slices.Concat(encrypted, t.AKName()))
	if !hmac.Equal(integrity.Sum(nil), mac) {
		return nil, errors.New("the credential is for another EK or AK")
	}
	block, err := aes.NewCipher(tpm2.KDFa(hash, seed, "STORAGE", t.AKName(), nil, bits))
	if err != nil {
		return nil, err
	}
	plain := make([]byte, len(encrypted))
	//lint:ignore SA1019 TPM 2.0 protects credentials in this mode
	cipher.NewCFBDecrypter(block, make([]byte, block.BlockSize())).XORKeyStream(plain, encrypted)
	secret, err := tpm2.Unmarshal[tpm2.TPM2BDigest](plain)
	if err != nil {
		return nil, err
	}
	return secret.Buffer, nil
}

// openSeed recovers the seed that was encrypted to the EK, and the size of the EK's symmetric key in bits.
func (t *TPM) openSeed(encrypted []byte, hash crypto.Hash) (seed []byte, bits int, err error) {
	bits = 128
	switch key := t.ekKey.(type) {
	case *rsa.PrivateKey:
		seed, err = rsa.DecryptOAEP(hash.New(), nil, key, encrypted, []byte("IDENTITY\x00"))
		return seed, bits, err
	case *ecdsa.PrivateKey:
		own, err := key.ECDH()
		if err != nil {
			return nil, 0, err
		}
		if own.Curve() == ecdh.P384() {
			bits = 256
		}
		point, err := tpm2.Unmarshal[tpm2.TPMSECCPoint](encrypted)
		if err != nil {
			return nil, 0, err
		}
		peer, err := own.Curve().NewPublicKey(slices.Concat([]byte{4}, point.X.Buffer, point.Y.Buffer))
		if err != nil {
			return nil, 0, err
		}
		z, err := own.ECDH(peer)
		if err != nil {
			return nil, 0, err
		}
		x := own.PublicKey().Bytes()[1:]
		return tpm2.KDFe(hash, z, "IDENTITY", point.X.Buffer, x[:len(x)/2], hash.Size()*8), bits, nil
	}
	return nil, 0, errors.New("an EK of an unknown type")
}
