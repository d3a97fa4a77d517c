package attest_test

import (
	"crypto/elliptic"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/softtpm"
)

// rsaParms lets edit change the parameters of an RSA key.
func rsaParms(edit func(*tpm2.TPMSRSAParms)) func(*tpm2.TPMTPublic) {
	return func(p *tpm2.TPMTPublic) {
		parms, err := p.Parameters.RSADetail()
		if err != nil {
			panic(err)
		}
		edit(parms)
	}
}

func modulus(n []byte) func(*tpm2.TPMTPublic) {
	return func(p *tpm2.TPMTPublic) {
		rsaParms(func(parms *tpm2.TPMSRSAParms) { parms.KeyBits = tpm2.TPMKeyBits(8 * len(n)) })(p)
		p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: n})
	}
}

// odd returns a number of n bytes with its first and last bit set.
func odd(n int) []byte {
	b := make([]byte, n)
	b[0], b[n-1] = 0x80, 1
	return b
}

func TestAKAttributes(t *testing.T) {
	x224, y224 := point(t, elliptic.P224())
	x521, y521 := point(t, elliptic.P521())
	rows := []struct {
		name string
		ak   softtpm.Algorithm
		edit func(*tpm2.TPMTPublic)
	}{
		{"K05 not restricted", softtpm.P256, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false }},
		{"K05 does not sign", softtpm.P256, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = false }},
		{"K06 no fixedTPM", softtpm.P256, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false }},
		{"K06 no fixedParent", softtpm.P256, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedParent = false }},
		{"K06 encryptedDuplication", softtpm.P256, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.EncryptedDuplication = true }},
		{"K07 imported", softtpm.P256, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false }},
		{"K08 decrypts too", softtpm.P256, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Decrypt = true }},
		{"reserved bit", softtpm.P256, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SetReservedBit(0, true) }},
		{"K09 RSA-1024", softtpm.RSA2048, modulus(odd(128))},
		{"K09 RSA-2048 in name, with a short modulus", softtpm.RSA2048, func(p *tpm2.TPMTPublic) {
			modulus(odd(128))(p)
			rsaParms(func(p *tpm2.TPMSRSAParms) { p.KeyBits = 2048 })(p)
		}},
		{"K09 RSA-8192", softtpm.RSA2048, func(p *tpm2.TPMTPublic) { rsaParms(func(p *tpm2.TPMSRSAParms) { p.KeyBits = 8192 })(p) }},
		{"K09 even modulus", softtpm.RSA2048, modulus(append(odd(255), 2))},
		{"K09 exponent 3", softtpm.RSA2048, rsaParms(func(p *tpm2.TPMSRSAParms) { p.Exponent = 3 })},
		{"K09 P-192", softtpm.P256, onCurve(tpm2.TPMECCNistP192, make([]byte, 24), make([]byte, 24))},
		{"K09 P-224", softtpm.P256, onCurve(tpm2.TPMECCNistP224, x224, y224)},
		{"K09 P-521", softtpm.P256, onCurve(tpm2.TPMECCNistP521, x521, y521)},
		{"K09 BN-256", softtpm.P256, onCurve(tpm2.TPMECCBNP256, odd(32), odd(32))},
		{"K09 point not on the curve", softtpm.P256, onCurve(tpm2.TPMECCNistP256, odd(32), odd(32))},
		{"K09 coordinates too long", softtpm.P256, onCurve(tpm2.TPMECCNistP256, odd(33), odd(32))},
		{"no scheme", softtpm.P256, eccScheme(tpm2.TPMAlgNull, 0)},
		{"Q14 scheme with SHA-1", softtpm.P256, eccScheme(tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA1)},
		{"SHA-1 name", softtpm.P256, func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA1 }},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, softtpm.Options{AK: row.ak, Edit: softtpm.Edit{AK: row.edit}})
			facts, err := verify(encode(t, w.evidence(t)), w.want)
			refusedAt(t, facts, err, denial.AKAttributes, denial.StageQuote)
			_, err = attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), w.enrolOptions())
			refusedAt(t, nil, err, denial.AKAttributes, denial.StageEnrolment)
		})
	}
	t.Run("not a key that signs", func(t *testing.T) {
		w := newWorld(t, softtpm.Options{})
		w.tpm.AK, w.want.AK = w.tpm.EK, w.tpm.EK
		facts, err := verify(encode(t, w.evidence(t)), w.want)
		refusedAt(t, facts, err, denial.AKAttributes, denial.StageQuote)
	})
}

func ptr[T any](v T) *T { return &v }

func TestName(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	got, err := attest.Name(w.tpm.AK)
	if err != nil || string(got) != string(w.tpm.AKName()) {
		t.Errorf("got %x, %v, want %x", got, err, w.tpm.AKName())
	}
	for name, public := range map[string][]byte{
		"empty": nil, "cut short": w.tpm.AK[:20], "followed by bytes": append(append([]byte{}, w.tpm.AK...), 0),
		"no length": w.tpm.AK[2:], "an unknown type": {0, 2, 0x77, 0x77},
	} {
		if _, err := attest.Name(public); !denial.Is(err, denial.QuoteMalformed) {
			t.Errorf("%s: got %v, want %d", name, err, denial.QuoteMalformed)
		}
	}
	if _, err := attest.Name(append([]byte{0x10, 0}, make([]byte, 0x1000)...)); !denial.Is(err, denial.StructureLimit) {
		t.Errorf("4 KiB: got %v, want %d", err, denial.StructureLimit)
	}
}
