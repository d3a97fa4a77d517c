package attest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/need"
)

// refusal fails the test if err is a fault and not a refusal, or if a check stopped unexpectedly.
func refusal(t *testing.T, err error) {
	t.Helper()
	if d, ok := err.(*denial.Denial); err != nil && (!ok || d.Reason == denial.Internal) {
		t.Fatalf("got %v, want a denial with a reason", err)
	}
}

func seedAttest() []byte {
	return tpm2.Marshal(tpm2.TPMSAttest{
		Magic: tpm2.TPMGeneratedValue, Type: tpm2.TPMSTAttestQuote, QualifiedSigner: tpm2.TPM2BName{Buffer: make([]byte, 34)},
		ExtraData: tpm2.TPM2BData{Buffer: make([]byte, 32)},
		Attested: tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{
			PCRSelect: tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{{Hash: tpm2.TPMAlgSHA256, PCRSelect: []byte{255, 0, 0}}}},
			PCRDigest: tpm2.TPM2BDigest{Buffer: make([]byte, 32)},
		}),
	})
}

func seedSignature() []byte {
	return tpm2.Marshal(tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash: tpm2.TPMAlgSHA256, SignatureR: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)}, SignatureS: tpm2.TPM2BECCParameter{Buffer: make([]byte, 32)},
	})})
}

// FuzzAttest: whatever is accepted encodes to the same bytes.
func FuzzAttest(f *testing.F) {
	f.Add(seedAttest())
	f.Add(seedAttest()[:20])
	for _, raw := range corpusSeeds(f, "bundle/guard-oss/*/*/quote.attest") {
		f.Add(withoutSize(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for _, kind := range []tpm2.TPMST{tpm2.TPMSTAttestQuote, tpm2.TPMSTAttestCertify} {
			a, err := parseAttest(raw, kind)
			refusal(t, err)
			if err == nil && !bytes.Equal(tpm2.Marshal(*a), raw) {
				t.Fatal("a second encoding was accepted")
			}
		}
	})
}

// FuzzPublic: whatever is accepted encodes to the same bytes, and every check of a key gives a verdict.
func FuzzPublic(f *testing.F) {
	for _, template := range []tpm2.TPMTPublic{tpm2.RSAEKTemplate, tpm2.ECCEKTemplate} {
		f.Add(tpm2.Marshal(tpm2.New2B(template)))
	}
	f.Add(seedAK())
	f.Fuzz(func(t *testing.T, raw []byte) {
		pub, area, err := parsePublic(raw)
		refusal(t, err)
		if err != nil {
			return
		}
		if !bytes.Equal(tpm2.Marshal(*pub), area) || !bytes.Equal(append(binary.BigEndian.AppendUint16(nil, uint16(len(area))), area...), raw) {
			t.Fatal("a second encoding was accepted")
		}
		_, err = checkAK(raw)
		refusal(t, err)
		_, err = checkSigner(raw, 0)
		refusal(t, err)
		refusal(t, checkEK(pub, area))
	})
}

func seedAK() []byte {
	return tpm2.Marshal(tpm2.New2B(tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{FixedTPM: true, FixedParent: true, SensitiveDataOrigin: true, UserWithAuth: true, Restricted: true, SignEncrypt: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP256, Scheme: tpm2.TPMTECCScheme{
			Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256})}}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: elliptic.P256().Params().Gx.Bytes()}, Y: tpm2.TPM2BECCParameter{Buffer: elliptic.P256().Params().Gy.Bytes()}}),
	}))
}

// FuzzSignature: no signature that was not made with the key is accepted, and none stops the verifier.
func FuzzSignature(f *testing.F) {
	f.Add(seedSignature())
	f.Add([]byte{0, 0x10})
	for _, raw := range corpusSeeds(f, "bundle/guard-oss/*/*/quote.sig") {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		ak, err := checkAK(seedAK())
		if err != nil {
			t.Fatal(err)
		}
		err = ak.verify(seedAttest(), raw, denial.QuoteMalformed, denial.QuoteSignature)
		refusal(t, err)
		if err == nil {
			t.Fatal("a forged signature was accepted")
		}
	})
}

func FuzzEvidence(f *testing.F) {
	raw, err := EvidenceParts{
		Quote: seedAttest(), Signature: seedSignature(), Bank: "sha256", PCRs: map[int64][]byte{0: make([]byte, 32)},
		AK: seedAK(), Certify: Certification{Attest: seedAttest(), Signature: seedSignature()}, CNF: seedAK(), BootLog: []byte("log"),
	}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		ev, err := DecodeEvidence(raw)
		refusal(t, err)
		if err != nil {
			return
		}
		_, err = ev.AKName()
		refusal(t, err)
		facts, err := Verify(ev, Want{
			AK: ev.tpm.AK, Challenge: Nonce{1}, Request: [32]byte{1}, Exporter: [32]byte{1},
			Selection: Selection{Bank: "sha256", PCRs: []int{0}}, Bind: []int{0},
		})
		refusal(t, err)
		if err == nil || facts != nil {
			t.Fatal("forged evidence was accepted")
		}
	})
}

func FuzzEnrolRequest(f *testing.F) {
	ek := tpm2.Marshal(tpm2.New2B(tpm2.RSAEKTemplate))
	certify := Certification{Attest: seedAttest(), Signature: seedSignature()}
	for _, r := range []EnrolRequest{{EK: ek, AK: seedAK()}, {EK: ek, AK: seedAK(), Chain: [][]byte{{0x30, 0}}, GateKey: seedAK(), Certify: &certify}} {
		raw, err := r.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		r, err := DecodeEnrolRequest(raw)
		refusal(t, err)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatal("a second encoding was accepted")
		}
		digest, err := r.EKDigest()
		refusal(t, err)
		c, err := CheckEnrolment(r, EnrolOptions{EKDigest: digest, AllowListed: true})
		refusal(t, err)
		if err == nil {
			if _, err := c.MakeCredential([32]byte{1}); err != nil {
				t.Fatalf("a checked EK takes no credential: %v", err)
			}
		}
	})
}

// FuzzEKCertificate: no certificate is accepted for the EK of a real one but that one, and none stops the verifier.
func FuzzEKCertificate(f *testing.F) {
	leaf, issuer, root := testCertificate(f, "ek-rsa2048"), testCertificate(f, "issuer"), testCertificate(f, "root")
	ek := tpm2.RSAEKTemplate
	ek.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: leaf.PublicKey.(*rsa.PublicKey).N.Bytes()})
	f.Add(leaf.Raw)
	f.Add(testCertificate(f, "ek-p384").Raw)
	f.Add(issuer.Raw)
	for _, raw := range corpusSeeds(f, "ekcert/leaf-*/*.der") {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, der []byte) {
		_, err := checkChain([][]byte{der, issuer.Raw}, &ek, EnrolOptions{Roots: []*x509.Certificate{root}, Now: leaf.NotBefore})
		refusal(t, err)
		if err != nil {
			return
		}
		if cert, err := x509.ParseCertificate(der); err != nil || !bytes.Equal(cert.RawTBSCertificate, leaf.RawTBSCertificate) {
			t.Fatal("a forged certificate was accepted")
		}
	})
}

// corpusSeeds returns those files of the corpus that match a pattern; none where it is absent.
func corpusSeeds(tb testing.TB, pattern string) (seeds [][]byte) {
	tb.Helper()
	root := need.CorpusIfAny()
	if root == "" {
		return nil
	}
	paths, err := filepath.Glob(filepath.Join(root, pattern))
	if err != nil || len(paths) == 0 {
		tb.Fatalf("nothing in the corpus matches %s: %v", pattern, err)
	}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			tb.Fatal(err)
		}
		seeds = append(seeds, raw)
	}
	return seeds
}

// testCertificate reads one of the certificates that swtpm_localca made for a software TPM.
func testCertificate(tb testing.TB, name string) *x509.Certificate {
	tb.Helper()
	der, err := os.ReadFile("testdata/swtpm/" + name + ".der")
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return cert
}

// The certificates that swtpm's own CA makes pass, under its root and no other.
func TestK11_CertificatesOfSwtpm(t *testing.T) {
	issuer, root := testCertificate(t, "issuer"), testCertificate(t, "root")
	for _, name := range []string{"ek-rsa2048", "ek-p384"} {
		t.Run(name, func(t *testing.T) {
			leaf := testCertificate(t, name)
			ek := publicOf(t, leaf)
			o := EnrolOptions{Roots: []*x509.Certificate{root}, Now: leaf.NotBefore}
			got, err := checkChain([][]byte{leaf.Raw, issuer.Raw}, ek, o)
			if err != nil {
				t.Fatal(err)
			}
			want := Device{Subject: "CN=host-1", Serial: got.Serial, Manufacturer: "id:00001014", Model: "swtpm", Version: "id:20191023"}
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			o.Roots = []*x509.Certificate{leaf}
			if _, err := checkChain([][]byte{leaf.Raw, issuer.Raw, root.Raw}, publicOf(t, issuer), o); !denial.Is(err, denial.AKSubstituted) {
				t.Errorf("for another key: got %v", err)
			}
			o.Roots = []*x509.Certificate{issuer}
			if _, err := checkChain([][]byte{leaf.Raw, root.Raw}, ek, o); err != nil {
				t.Errorf("under its issuer as the pinned root: %v", err)
			}
			o.Roots = []*x509.Certificate{testCertificate(t, "ek-p384")}
			if _, err := checkChain([][]byte{testCertificate(t, "ek-rsa2048").Raw, issuer.Raw, root.Raw}, publicOf(t, testCertificate(t, "ek-rsa2048")), o); !denial.Is(err, denial.EKUntrusted) {
				t.Errorf("under another root: got %v, want %d", err, denial.EKUntrusted)
			}
		})
	}
}

// publicOf returns the public area of an EK with a certificate's key.
func publicOf(tb testing.TB, cert *x509.Certificate) *tpm2.TPMTPublic {
	tb.Helper()
	ek := tpm2.RSAEKTemplate
	switch key := cert.PublicKey.(type) {
	case *rsa.PublicKey:
		n := key.N.Bytes()
		ek.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgRSA, &tpm2.TPMSRSAParms{KeyBits: tpm2.TPMKeyBits(8 * len(n))})
		ek.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: n})
	case *ecdsa.PublicKey:
		point, err := key.Bytes()
		if err != nil {
			tb.Fatal(err)
		}
		ek.Type = tpm2.TPMAlgECC
		ek.Parameters = tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{CurveID: tpm2.TPMECCNistP384})
		ek.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:49]}, Y: tpm2.TPM2BECCParameter{Buffer: point[49:]},
		})
	}
	return &ek
}
