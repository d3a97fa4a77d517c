package attest

import (
	"bytes"
	"crypto"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// seedCertify is a TPMS_ATTEST of a certification.
func seedCertify() []byte {
	name := tpm2.TPM2BName{Buffer: make([]byte, 34)}
	return tpm2.Marshal(tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestCertify, QualifiedSigner: name, ClockInfo: tpm2.TPMSClockInfo{Safe: true},
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestCertify, &tpm2.TPMSCertifyInfo{Name: name, QualifiedName: name}),
	})
}

func seedRSA(scheme tpm2.TPMAlgID, details tpm2.TPMUAsymScheme) []byte {
	return tpm2.Marshal(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgRSA, NameAlg: tpm2.TPMAlgSHA384, ObjectAttributes: tpm2.TPMAObject{AdminWithPolicy: true, NoDA: true},
		AuthPolicy: tpm2.TPM2BDigest{Buffer: make([]byte, 48)},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: 2048, Exponent: 3,
			Scheme: tpm2.TPMTRSAScheme{Scheme: scheme, Details: details}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: make([]byte, 256)}),
	})
}

func seedRSASignature(scheme tpm2.TPMAlgID) []byte {
	return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: scheme, Signature: tpm2.NewTPMUSignature(scheme,
		&tpm2.TPMSSignatureRSA{Hash: tpm2.TPMAlgSHA384, Sig: tpm2.TPM2BPublicKeyRSA{Buffer: make([]byte, 256)}})})
}

// TestQuickDecodingAgreesWithGoTPM changes the forms that are decoded by hand in each byte and cuts them at each. What
// is accepted then is what go-tpm accepts, with the same value.
func TestQuickDecodingAgreesWithGoTPM(t *testing.T) {
	attests := [][]byte{seedAttest(), seedCertify()}
	publics := [][]byte{
		seedAK()[2:], seedRSA(tpm2.TPMAlgNull, tpm2.TPMUAsymScheme{}),
		seedRSA(tpm2.TPMAlgRSASSA, tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSASSA, &tpm2.TPMSSigSchemeRSASSA{HashAlg: tpm2.TPMAlgSHA256})),
		seedRSA(tpm2.TPMAlgRSAPSS, tpm2.NewTPMUAsymScheme(tpm2.TPMAlgRSAPSS, &tpm2.TPMSSigSchemeRSAPSS{HashAlg: tpm2.TPMAlgSHA256})),
	}
	signatures := [][]byte{seedSignature(), seedRSASignature(tpm2.TPMAlgRSASSA), seedRSASignature(tpm2.TPMAlgRSAPSS)}
	agrees(t, attests, readAttest)
	agrees(t, publics, readPublic)
	agrees(t, signatures, readSignature)
}

func agrees[T tpm2.Marshallable, P unmarshallable[T]](t *testing.T, seeds [][]byte, quick func([]byte) (*T, bool)) {
	t.Helper()
	check := func(raw []byte) bool {
		t.Helper()
		got, ok := quick(raw)
		if !ok {
			return false
		}
		want, err := tpm2.Unmarshal[T, P](raw)
		if err != nil || !bytes.Equal(tpm2.Marshal(*want), raw) {
			t.Fatalf("%x: accepted, but not by go-tpm: %v", raw, err)
		}
		if !bytes.Equal(tpm2.Marshal(*got), raw) {
			t.Fatalf("%x: read as another structure", raw)
		}
		return true
	}
	for n, seed := range seeds {
		if !check(seed) {
			t.Errorf("structure %d is not decoded by hand", n)
		}
		for i := range seed {
			if check(seed[:i]) {
				t.Errorf("structure %d is accepted when cut at %d", n, i)
			}
			for _, flip := range []byte{1, 2, 0x0f, 0x80, 0xff} {
				changed := bytes.Clone(seed)
				changed[i] ^= flip
				check(changed)
			}
		}
		if check(append(bytes.Clone(seed), 0)) {
			t.Errorf("structure %d is accepted with a byte after it", n)
		}
	}
}

func TestCNFPolicyIsThatOfGoTPM(t *testing.T) {
	values := map[int64][]byte{0: bytes.Repeat([]byte{1}, 48), 7: bytes.Repeat([]byte{2}, 48), 23: bytes.Repeat([]byte{3}, 48)}
	for _, bind := range []Selection{{"sha256", []int{0}}, {"sha384", []int{0, 7, 23}}} {
		got, err := CNFPolicy(bind, values)
		if err != nil {
			t.Fatal(err)
		}
		calc, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
		if err != nil {
			t.Fatal(err)
		}
		if err := (tpm2.PolicyPCR{PcrDigest: tpm2.TPM2BDigest{Buffer: pcrDigest(crypto.SHA256, bind.PCRs, values)},
			Pcrs: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: bind.bank().alg, PCRSelect: bitmap(bind.PCRs)}}}}).Update(calc); err != nil {
			t.Fatal(err)
		}
		if want := calc.Hash().Digest; !bytes.Equal(got, want) {
			t.Errorf("%v: got %x, want %x", bind, got, want)
		}
	}
}
