package corpus

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/softtpm"
)

// certificates returns the certificates in a file: PEM blocks, or one DER value with the padding that TPMs leave behind it.
func certificates(raw []byte) (ders [][]byte) {
	for rest := raw; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		ders = append(ders, block.Bytes)
	}
	var der asn1.RawValue
	if _, err := asn1.Unmarshal(raw, &der); ders == nil && err == nil {
		ders = [][]byte{der.FullBytes}
	}
	return ders
}

// store is every CA certificate of the corpus that can be read, once.
type store struct {
	certs []*x509.Certificate
	seen  map[[32]byte]bool
}

func newStore(tb testing.TB) *store {
	tb.Helper()
	s := &store{seen: map[[32]byte]bool{}}
	for _, f := range manifest(tb, "ekcert") {
		if !strings.HasPrefix(f.path, "ekcert/store-") && !strings.HasPrefix(f.path, "ekcert/trustedtpm/") || companion(f.path) != "" {
			continue
		}
		for _, der := range certificates(read(tb, f.path)) {
			if cert, err := x509.ParseCertificate(der); err == nil && !s.seen[sha256.Sum256(der)] {
				s.seen[sha256.Sum256(der)] = true
				s.certs = append(s.certs, cert)
			}
		}
	}
	return s
}

// chain returns the certificates from a leaf to a root as names and key identifiers give them. Whether they signed one
// another is for the verifier to say.
func (s *store) chain(leaf *x509.Certificate) (path, roots []*x509.Certificate) {
	for cert := leaf; len(path) < 7; {
		i := slices.IndexFunc(s.certs, func(c *x509.Certificate) bool {
			return bytes.Equal(c.RawSubject, cert.RawIssuer) && (len(cert.AuthorityKeyId) == 0 || len(c.SubjectKeyId) == 0 ||
				bytes.Equal(c.SubjectKeyId, cert.AuthorityKeyId))
		})
		if i < 0 {
			return path, nil
		}
		if cert = s.certs[i]; bytes.Equal(cert.RawSubject, cert.RawIssuer) {
			return path, []*x509.Certificate{cert}
		}
		path = append(path, cert)
	}
	return path, nil
}

// ekPublic returns the TPM2B_PUBLIC that a TPM with the usual EK template has for the key of a certificate.
func ekPublic(tb testing.TB, key any) []byte {
	tb.Helper()
	var public tpm2.TPMTPublic
	switch k := key.(type) {
	case *rsa.PublicKey:
		public = tpm2.RSAEKTemplate
		public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgRSA, &tpm2.TPM2BPublicKeyRSA{Buffer: k.N.Bytes()})
	case *ecdsa.PublicKey:
		if k.Curve != elliptic.P256() {
			tb.Fatalf("an EK on %s", k.Curve.Params().Name)
		}
		point, err := k.Bytes()
		if err != nil {
			tb.Fatal(err)
		}
		public = tpm2.ECCEKTemplate
		public.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]}})
	default:
		tb.Fatalf("an EK of type %T", key)
	}
	return tpm2.Marshal(tpm2.New2B(public))
}

// enrolled is when the TPMs of the corpus are enrolled: all their certificates were valid then.
var enrolled = time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)

// enrol checks the enrolment of a TPM with this EK certificate and an AK made for the test. The roots are those of the
// corpus. As a host does, it leaves out the padding behind the certificate.
func (s *store) enrol(tb testing.TB, ak []byte, raw []byte) (*attest.Candidate, error) {
	tb.Helper()
	leaf, err := x509.ParseCertificate(certificates(raw)[0])
	if err != nil {
		tb.Fatal(err)
	}
	path, roots := s.chain(leaf)
	r := &attest.EnrolRequest{EK: ekPublic(tb, leaf.PublicKey), Chain: [][]byte{leaf.Raw}, AK: ak}
	for _, cert := range path {
		r.Chain = append(r.Chain, cert.Raw)
	}
	if roots == nil { // none is known, so any other stands for it
		roots = s.certs[:1]
	}
	return attest.CheckEnrolment(r, attest.EnrolOptions{EKDigest: sha256.Sum256(r.EK[2:]), Roots: roots, Now: enrolled})
}

// certTrials tries every certificate of the corpus: those of TPMs as EK certificates, and all others in the place of one.
func certTrials(tb testing.TB) []trial {
	tb.Helper()
	all, s := []trial{}, newStore(tb)
	vendor := softtpm.NewVendor(tb)
	tpm := vendor.New(tb, softtpm.Options{})
	for _, f := range manifest(tb, "ekcert") {
		if companion(f.path) != "" || path.Ext(f.path) == ".yaml" {
			continue
		}
		raw := read(tb, f.path)
		if path.Ext(f.path) == ".json" {
			raw = ekOfIntel(tb, raw)
		}
		if strings.HasPrefix(f.path, "ekcert/leaf-") {
			c, err := s.enrol(tb, tpm.AK, raw)
			t := trial{file: f, name: f.path, err: err}
			if leaf, err := x509.ParseCertificate(certificates(raw)[0]); err == nil {
				t.what = leaf.Issuer.CommonName
			}
			if c != nil {
				d := c.Device()
				t.device = &d
			}
			all = append(all, t)
			continue
		}
		all = append(all, trial{file: f, name: f.path, err: asLeaf(tpm.EnrolRequest(), vendor.Root, raw)})
	}
	return all
}

// asLeaf returns why no certificate of a file is taken for one of an EK, nil if one is. One that cannot be read takes the
// place of the certificate in a good enrolment.
func asLeaf(good attest.EnrolRequest, root *x509.Certificate, raw []byte) (refusal error) {
	for _, der := range certificates(raw) {
		if cert, err := x509.ParseCertificate(der); err == nil {
			_, refusal = attest.ReadDevice(cert)
		} else {
			good.Chain = [][]byte{der}
			_, refusal = attest.CheckEnrolment(&good, attest.EnrolOptions{EKDigest: sha256.Sum256(good.EK[2:]),
				Roots: []*x509.Certificate{root}, Now: enrolled})
		}
		if refusal == nil {
			return nil
		}
	}
	return refusal
}

// ekOfIntel returns the certificate in an answer of Intel's service for EK certificates.
func ekOfIntel(tb testing.TB, raw []byte) []byte {
	tb.Helper()
	var d struct{ Certificate string }
	if err := json.Unmarshal(raw, &d); err != nil {
		tb.Fatal(err)
	}
	der, err := base64.URLEncoding.DecodeString(strings.NewReplacer("%3D", "=", "+", "-", "/", "_").Replace(d.Certificate))
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

// A TPM may hold padding behind its certificate. A host cuts it off; the verifier takes one encoding alone.
func TestVerifierTakesNoPadding(t *testing.T) {
	s, tpm := newStore(t), softtpm.NewVendor(t).New(t, softtpm.Options{})
	raw := read(t, "ekcert/leaf-keylime/st_sha256_with_rsa_der-02d30b.der")
	if padding := len(raw) - len(certificates(raw)[0]); padding != 431 {
		t.Fatalf("%d bytes of padding", padding)
	}
	if _, err := s.enrol(t, tpm.AK, raw); err != nil {
		t.Errorf("without padding: %v", err)
	}
	leaf, err := x509.ParseCertificate(certificates(raw)[0])
	if err != nil {
		t.Fatal(err)
	}
	path, roots := s.chain(leaf)
	r := &attest.EnrolRequest{EK: ekPublic(t, leaf.PublicKey), Chain: [][]byte{raw}, AK: tpm.AK}
	for _, cert := range path {
		r.Chain = append(r.Chain, cert.Raw)
	}
	_, err = attest.CheckEnrolment(r, attest.EnrolOptions{EKDigest: sha256.Sum256(r.EK[2:]), Roots: roots, Now: enrolled})
	if !denial.Is(err, denial.EKUntrusted) {
		t.Errorf("with padding: got %v, want 321", err)
	}
}
