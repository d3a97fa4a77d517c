package attest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/softtpm"
)

func (w *world) enrolOptions() attest.EnrolOptions {
	return attest.EnrolOptions{EKDigest: w.tpm.EKDigest(), Roots: []*x509.Certificate{w.vendor.Root}, Now: softtpm.Now}
}

func TestEnrolmentAndActivation(t *testing.T) {
	for name, o := range map[string]softtpm.Options{
		"EK P-256": {}, "EK P-384": {EK: softtpm.P384}, "EK RSA-2048": {EK: softtpm.RSA2048}, "AK RSA": {AK: softtpm.RSA2048},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, o)
			raw, err := w.tpm.EnrolRequest().Encode()
			if err != nil {
				t.Fatal(err)
			}
			r, err := attest.DecodeEnrolRequest(raw)
			if err != nil {
				t.Fatal(err)
			}
			if ek, err := r.EKDigest(); err != nil || ek != w.tpm.EKDigest() {
				t.Errorf("EK digest: got %x, %v", ek, err)
			}
			c, err := attest.CheckEnrolment(r, w.enrolOptions())
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(c.AKName(), w.tpm.AKName()) || !bytes.Equal(c.AKPublic(), w.tpm.AK) || c.EKDigest() != w.tpm.EKDigest() {
				t.Error("the candidate is not the TPM")
			}
			if _, ok := c.GateKey(); ok {
				t.Error("a gate key that nobody sent")
			}
			if got := c.Device(); c.Method() != attest.MethodChain || got.Manufacturer != "id:00001014" || got.Model != "swtpm" || got.Version != "id:20191023" {
				t.Errorf("got method %s, device %+v", c.Method(), got)
			}
			secret := [32]byte(attest.NewNonce())
			cred, err := c.MakeCredential(secret)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := w.tpm.Activate(cred); err != nil || !bytes.Equal(got, secret[:]) {
				t.Errorf("activation: got %x, %v", got, err)
			}
		})
	}
}

// K01 and K02: a TPM opens no credential for an AK or an EK that is not its own. The issuer answers with 323.
func TestK02_CredentialForAnotherTPM(t *testing.T) {
	for name, alg := range map[string]softtpm.Algorithm{"P-256": softtpm.P256, "P-384": softtpm.P384, "RSA": softtpm.RSA2048} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, softtpm.Options{EK: alg})
			other := w.vendor.New(t, softtpm.Options{EK: alg})
			r := w.tpm.EnrolRequest()
			r.AK = other.AK
			c, err := attest.CheckEnrolment(&r, w.enrolOptions())
			if err != nil {
				t.Fatal(err)
			}
			cred, err := c.MakeCredential([32]byte{1})
			if err != nil {
				t.Fatal(err)
			}
			if got, err := w.tpm.Activate(cred); err == nil {
				t.Errorf("the TPM with the EK: got %x, want an error", got)
			}
			if got, err := other.Activate(cred); err == nil {
				t.Errorf("the TPM with the AK: got %x, want an error", got)
			}
		})
	}
}

func TestF25_StrangersTPM(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	o := w.enrolOptions()
	for name, digest := range map[string][32]byte{"another EK": w.vendor.New(t, softtpm.Options{}).EKDigest(), "none": {}} {
		t.Run(name, func(t *testing.T) {
			o.EKDigest = digest
			_, err := attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), o)
			refusedAt(t, nil, err, denial.NotEnrolled, denial.StageEnrolment)
		})
	}
}

func TestListedEK(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	o := w.enrolOptions()
	o.Roots = nil
	for name, chain := range map[string][][]byte{"no certificate": nil, "a certificate of an unknown root": {w.tpm.Certificate}, "one that cannot be read": {{1}}} {
		t.Run(name, func(t *testing.T) {
			r := w.tpm.EnrolRequest()
			r.Chain = chain
			_, err := attest.CheckEnrolment(&r, o)
			refusedAt(t, nil, err, denial.EKUntrusted, denial.StageEnrolment)
			listed := o
			listed.AllowListed = true
			c, err := attest.CheckEnrolment(&r, listed)
			if err != nil || c.Method() != attest.MethodList || c.Device() != (attest.Device{}) {
				t.Errorf("got %v, want a candidate by list", err)
			}
		})
	}
	t.Run("K12 does not excuse another key's certificate", func(t *testing.T) {
		listed := w.enrolOptions()
		listed.AllowListed = true
		r := w.tpm.EnrolRequest()
		r.Chain = [][]byte{w.vendor.New(t, softtpm.Options{}).Certificate}
		_, err := attest.CheckEnrolment(&r, listed)
		refusedAt(t, nil, err, denial.AKSubstituted, denial.StageEnrolment)
	})
}

func TestEKCertificate(t *testing.T) {
	tcg := func(arc ...int) asn1.ObjectIdentifier { return append(asn1.ObjectIdentifier{2, 23, 133}, arc...) }
	rows := []struct {
		name string
		edit func(*x509.Certificate)
		want denial.Reason
	}{
		{"K13 server certificate", func(c *x509.Certificate) {
			c.UnknownExtKeyUsage, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		}, denial.EKUntrusted},
		{"K13 CA", func(c *x509.Certificate) { c.IsCA = true }, denial.EKUntrusted},
		{"K13 may sign certificates", func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }, denial.EKUntrusted},
		{"K13 may only sign", func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature }, denial.EKUntrusted},
		{"K13 no purpose", func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil }, denial.EKUntrusted},
		{"K14 empty list of purposes", func(c *x509.Certificate) {
			c.UnknownExtKeyUsage = nil
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Value: []byte{0x30, 0}})
		}, denial.EKUntrusted},
		{"K14 unknown purpose", func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{tcg(8, 2)} }, denial.EKUntrusted},
		{"K23 AK certificate", func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{tcg(8, 3)} }, denial.AKUntrusted},
		{"no TPM in the alternative name", func(c *x509.Certificate) { c.ExtraExtensions = nil }, denial.EKUntrusted},
		{"alternative name with bytes behind it", func(c *x509.Certificate) {
			c.ExtraExtensions[0].Value = append(bytes.Clone(c.ExtraExtensions[0].Value), 0)
		}, denial.EKUntrusted},
		{"two alternative TPMs", func(c *x509.Certificate) {
			var names []asn1.RawValue
			if _, err := asn1.Unmarshal(c.ExtraExtensions[0].Value, &names); err != nil {
				panic(err)
			}
			c.ExtraExtensions[0].Value, _ = asn1.Marshal(append(names, names...))
		}, denial.EKUntrusted},
		{"unknown critical extension", func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: tcg(99), Critical: true, Value: []byte{5, 0}})
		}, denial.EKUntrusted},
		{"expired", func(c *x509.Certificate) {
			c.NotAfter = softtpm.Now.AddDate(0, 0, -1)
			c.NotBefore = softtpm.Now.AddDate(-1, 0, 0)
		}, denial.EKUntrusted},
		{"not yet valid", func(c *x509.Certificate) { c.NotBefore = softtpm.Now.AddDate(0, 0, 1) }, denial.EKUntrusted},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, softtpm.Options{Edit: softtpm.Edit{Certificate: row.edit}})
			_, err := attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), w.enrolOptions())
			refusedAt(t, nil, err, row.want, denial.StageEnrolment)
		})
	}
}

func TestK11_UnpinnedRoot(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	o := w.enrolOptions()
	for name, roots := range map[string][]*x509.Certificate{"another vendor's": {softtpm.NewVendor(t).Root}, "none": nil} {
		t.Run(name, func(t *testing.T) {
			o.Roots = roots
			_, err := attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), o)
			refusedAt(t, nil, err, denial.EKUntrusted, denial.StageEnrolment)
		})
	}
	t.Run("without a time, which x509 takes for the present", func(t *testing.T) {
		o := w.enrolOptions()
		o.Now = time.Time{}
		_, err := attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), o)
		refusedAt(t, nil, err, denial.EKUntrusted, denial.StageEnrolment)
	})
}

func TestK12_CertificateOfAnotherTPM(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	for name, alg := range map[string]softtpm.Algorithm{"same type": softtpm.P256, "another type": softtpm.RSA2048} {
		t.Run(name, func(t *testing.T) {
			r := w.tpm.EnrolRequest()
			r.Chain = [][]byte{w.vendor.New(t, softtpm.Options{EK: alg}).Certificate}
			_, err := attest.CheckEnrolment(&r, w.enrolOptions())
			refusedAt(t, nil, err, denial.AKSubstituted, denial.StageEnrolment)
		})
	}
}

// issue makes a CA under parent and an EK certificate under that CA.
func TestIntermediates(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), Subject: pkix.Name{CommonName: "Intermediate"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: w.vendor.Root.NotBefore, NotAfter: w.vendor.Root.NotAfter,
	}
	leaf, err := x509.ParseCertificate(w.tpm.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	underCA, err := x509.CreateCertificate(rand.Reader, softtpm.EKTemplate(t), template, leaf.PublicKey, caKey)
	if err != nil {
		t.Fatal(err)
	}
	selfMade, err := x509.CreateCertificate(rand.Reader, template, template, caKey.Public(), caKey)
	if err != nil {
		t.Fatal(err)
	}
	r := w.tpm.EnrolRequest()
	t.Run("of the vendor", func(t *testing.T) {
		r.Chain = [][]byte{underCA, w.vendor.Issue(t, template, caKey.Public())}
		if _, err := attest.CheckEnrolment(&r, w.enrolOptions()); err != nil {
			t.Error(err)
		}
	})
	for name, chain := range map[string][][]byte{
		"K24 self-made": {underCA, selfMade}, "missing": {underCA}, "not a certificate": {underCA, {1, 2, 3}},
		"K24 root sent along": {underCA, selfMade, w.vendor.Root.Raw},
	} {
		t.Run(name, func(t *testing.T) {
			r.Chain = chain
			_, err := attest.CheckEnrolment(&r, w.enrolOptions())
			refusedAt(t, nil, err, denial.EKUntrusted, denial.StageEnrolment)
		})
	}
}

func TestEKPublic(t *testing.T) {
	ecc := func(edit func(*tpm2.TPMSECCParms)) func(*tpm2.TPMTPublic) {
		return func(p *tpm2.TPMTPublic) {
			parms, err := p.Parameters.ECCDetail()
			if err != nil {
				panic(err)
			}
			edit(parms)
		}
	}
	rows := []struct {
		name string
		ek   softtpm.Algorithm
		edit func(*tpm2.TPMTPublic)
		want denial.Reason
	}{
		{"not restricted", softtpm.P256, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false }, denial.EKUntrusted},
		{"signs", softtpm.P256, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SignEncrypt = true }, denial.EKUntrusted},
		{"no fixedTPM", softtpm.P256, func(p *tpm2.TPMTPublic) { p.ObjectAttributes.FixedTPM = false }, denial.EKUntrusted},
		{"RSA-1024", softtpm.RSA2048, modulus(odd(128)), denial.EKWeak},
		{"exponent 3", softtpm.RSA2048, rsaParms(func(p *tpm2.TPMSRSAParms) { p.Exponent = 3 }), denial.EKWeak},
		{"SHA-1 name", softtpm.P256, func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA1 }, denial.EKWeak},
		{"K10 no symmetric scheme", softtpm.P256, ecc(func(p *tpm2.TPMSECCParms) { p.Symmetric = tpm2.TPMTSymDefObject{} }), denial.EKWeak},
		{"CBC instead of CFB", softtpm.P256, ecc(func(p *tpm2.TPMSECCParms) {
			p.Symmetric.Mode = tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCBC)
		}), denial.EKWeak},
		{"AES-64", softtpm.P256, ecc(func(p *tpm2.TPMSECCParms) {
			p.Symmetric.KeyBits = tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(64))
		}), denial.EKWeak},
		{"AES-129", softtpm.P256, ecc(func(p *tpm2.TPMSECCParms) {
			p.Symmetric.KeyBits = tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(129))
		}), denial.EKWeak},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			w := newWorld(t, softtpm.Options{EK: row.ek, Edit: softtpm.Edit{EK: row.edit}})
			_, err := attest.CheckEnrolment(ptr(w.tpm.EnrolRequest()), w.enrolOptions())
			refusedAt(t, nil, err, row.want, denial.StageEnrolment)
		})
	}
}

func TestGateKey(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	good, _ := w.tpm.GateRequest(t)
	t.Run("valid", func(t *testing.T) {
		c, err := attest.CheckEnrolment(&good, w.enrolOptions())
		if err != nil {
			t.Fatal(err)
		}
		if key, ok := c.GateKey(); !ok || !key.Valid() {
			t.Error("no gate key")
		}
	})
	t.Run("signed by another AK", func(t *testing.T) {
		r := good
		r.AK = w.vendor.New(t, softtpm.Options{}).AK
		_, err := attest.CheckEnrolment(&r, w.enrolOptions())
		refusedAt(t, nil, err, denial.KeyBinding, denial.StageEnrolment)
	})
	t.Run("another key than the certified one", func(t *testing.T) {
		other, _ := w.tpm.GateRequest(t)
		r := good
		r.GateKey = other.GateKey
		_, err := attest.CheckEnrolment(&r, w.enrolOptions())
		refusedAt(t, nil, err, denial.KeyBinding, denial.StageEnrolment)
	})
	t.Run("certified as a cnf key", func(t *testing.T) {
		extra := attest.CNFQualifyingData()
		w := newWorld(t, softtpm.Options{Edit: softtpm.Edit{Certify: func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = extra[:] }}})
		r, _ := w.tpm.GateRequest(t)
		_, err := attest.CheckEnrolment(&r, w.enrolOptions())
		refusedAt(t, nil, err, denial.KeyBinding, denial.StageEnrolment)
	})
	t.Run("a cnf key's certification", func(t *testing.T) {
		e := w.evidence(t)
		r := good
		r.GateKey, r.Certify = e.CNF, &e.Certify
		_, err := attest.CheckEnrolment(&r, w.enrolOptions())
		refusedAt(t, nil, err, denial.KeyBinding, denial.StageEnrolment)
	})
	for name, edit := range map[string]func(*tpm2.TPMTPublic){
		"restricted": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = true },
		"imported":   func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false },
		"no auth":    func(p *tpm2.TPMTPublic) { p.ObjectAttributes.UserWithAuth = false },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, softtpm.Options{Edit: softtpm.Edit{Gate: edit}})
			r, _ := w.tpm.GateRequest(t)
			_, err := attest.CheckEnrolment(&r, w.enrolOptions())
			refusedAt(t, nil, err, denial.KeyBinding, denial.StageEnrolment)
		})
	}
	t.Run("for another EK", func(t *testing.T) {
		w := newWorld(t, softtpm.Options{Edit: softtpm.Edit{Certify: func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = make([]byte, 32) }}})
		r, _ := w.tpm.GateRequest(t)
		_, err := attest.CheckEnrolment(&r, w.enrolOptions())
		refusedAt(t, nil, err, denial.KeyBinding, denial.StageEnrolment)
	})
	rsa := w.vendor.New(t, softtpm.Options{AK: softtpm.RSA2048})
	for name, signature := range map[string][]byte{
		"K10 no signature": {0, 0x10}, "K10 signature of the wrong type": rsa.Sign(t, good.Certify.Attest),
	} {
		t.Run(name, func(t *testing.T) {
			r := good
			r.Certify = &attest.Certification{Attest: good.Certify.Attest, Signature: signature}
			_, err := attest.CheckEnrolment(&r, w.enrolOptions())
			refusedAt(t, nil, err, denial.QuoteMalformed, denial.StageEnrolment)
		})
	}
}

func TestEnrolRequestDecoding(t *testing.T) {
	w := newWorld(t, softtpm.Options{})
	good, _ := w.tpm.GateRequest(t)
	edited := func(edit func(*attest.EnrolRequest)) []byte {
		r := good
		edit(&r)
		raw, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	raw := edited(func(*attest.EnrolRequest) {})
	if _, err := attest.DecodeEnrolRequest(raw); err != nil {
		t.Fatal(err)
	}
	rows := []struct {
		name string
		raw  []byte
		want denial.Reason
	}{
		{"too long", make([]byte, 64<<10+1), denial.RequestLimit},
		{"no EK", edited(func(r *attest.EnrolRequest) { r.EK = nil }), denial.QuoteMalformed},
		{"no AK", edited(func(r *attest.EnrolRequest) { r.AK = nil }), denial.QuoteMalformed},
		{"nine certificates", edited(func(r *attest.EnrolRequest) { r.Chain = make([][]byte, 9) }), denial.StructureLimit},
		{"gate key alone", edited(func(r *attest.EnrolRequest) { r.Certify = nil }), denial.KeyBinding},
		{"certification alone", edited(func(r *attest.EnrolRequest) { r.GateKey = nil }), denial.KeyBinding},
		{"trailing byte", append(bytes.Clone(raw), 0), denial.TrailingData},
		{"K22 a test purpose", marshal(t, map[int64]any{0: good.EK, 1: [][]byte{}, 2: good.AK, 5: true}), denial.UnsupportedVersion},
		{"null for no certificates", marshal(t, map[int64]any{0: good.EK, 1: nil, 2: good.AK}), denial.PayloadForm},
		{"not a map", []byte{0x80}, denial.PayloadForm},
	}
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			_, err := attest.DecodeEnrolRequest(row.raw)
			refused(t, nil, err, row.want)
		})
	}
}
