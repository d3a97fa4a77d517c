package attester

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/swtpm"
)

func TestEKsAndTheirTemplates(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	tpm := connect(t, emulator)
	eks := must(tpm.EKs(t.Context()))(t)
	if len(eks) != 2 || eks[0].Kind != EKRSA2048 || eks[1].Kind != EKP384 {
		t.Fatalf("got %d EKs, want RSA-2048 and P-384", len(eks))
	}
	issuer := must(emulator.Intermediate())(t)
	for _, ek := range eks {
		cert := must(x509.ParseCertificate(ek.Cert))(t) // exact: no padding behind the certificate
		if err := cert.CheckSignatureFrom(issuer); err != nil {
			t.Errorf("%v: the certificate is not from the CA: %v", ek.Kind, err)
		}
		if ek.Digest() != sha256.Sum256(ek.Public[2:]) {
			t.Errorf("%v: Digest is not that of TPMT_PUBLIC", ek.Kind)
		}
	}
	// The template alone gives the same key as the vendor's persistent handle.
	for i, kind := range []EKKind{EKRSA2048, EKP384} {
		for _, p := range ekPlaces() {
			if p.kind != kind {
				continue
			}
			p.persistent = 0
			made := must(tpm.describeAlone(t, p))(t)
			if !bytes.Equal(made.Public, eks[i].Public) {
				t.Errorf("%v: the template makes another key than the persistent one", kind)
			}
		}
	}
	// The P-256 EK, for which swtpm has no certificate, can be made. Another key's certificate is not taken for its own.
	for _, p := range ekPlaces() {
		if p.kind == EKP256 {
			must(tpm.describeAlone(t, p))(t)
			err := tpm.use(t.Context(), func(c *call) error { _, err := c.describe(p, eks[0].Cert); return err })
			if err == nil {
				t.Error("a certificate for another key was accepted")
			}
		}
	}
}

func (t *TPM) describeAlone(tb *testing.T, p ekPlace) (ek EK, err error) {
	err = t.use(tb.Context(), func(c *call) error { ek, err = c.describe(p, nil); return err })
	return ek, err
}

func TestAKIsTheSameEachTime(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	tpm := connect(t, emulator)
	first := must(tpm.AK(t.Context()))(t)
	disconnect(t, tpm)
	if err := emulator.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	if again := must(connect(t, emulator).AK(t.Context()))(t); !bytes.Equal(first, again) {
		t.Error("the AK changed over a power cycle")
	}
	if other := must(connect(t, swtpm.New(t, swtpm.Options{})).AK(t.Context()))(t); bytes.Equal(first, other) {
		t.Error("two TPMs have one AK")
	}
}

// candidate has package attest check an enrolment as the issuer does.
func candidate(t *testing.T, emulator *swtpm.TPM, e *Enrolment) *attest.Candidate {
	t.Helper()
	r := must(attest.DecodeEnrolRequest(e.Request))(t)
	return must(attest.CheckEnrolment(r, attest.EnrolOptions{
		EKDigest: e.EK.Digest(), Roots: []*x509.Certificate{must(emulator.Root())(t)}, Now: time.Now(),
	}))(t)
}

func TestEnrolmentAndActivation(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	tpm, other := connect(t, emulator), connect(t, swtpm.New(t, swtpm.Options{}))
	issuer := must(emulator.Intermediate())(t)
	for _, kind := range []EKKind{EKRSA2048, EKP384} {
		e := must(tpm.Enrol(t.Context(), EnrolOptions{EK: kind, Intermediates: [][]byte{issuer.Raw}, Gate: true}))(t)
		c := candidate(t, emulator, e)
		if gate, ok := c.GateKey(); !ok || !gate.Equal(must(e.Gate.Verifier())(t)) || c.Method() != attest.MethodChain {
			t.Errorf("%v: the candidate lacks the gate key, or has method %s", kind, c.Method())
		}
		secret := sha256.Sum256([]byte(kind.String()))
		cred := must(c.MakeCredential(secret))(t)
		if got := must(tpm.Activate(t.Context(), kind, cred))(t); !bytes.Equal(got, secret[:]) {
			t.Errorf("%v: activation gave another secret", kind)
		}
		_, err := other.Activate(t.Context(), kind, cred)
		wantDenial(t, err, denial.ActivationFailed)

		wrong := must(c.MakeCredential(secret))(t)
		wrong.Blob[len(wrong.Blob)-1] ^= 1
		_, err = tpm.Activate(t.Context(), kind, wrong)
		wantDenial(t, err, denial.ActivationFailed)
	}
}

func TestActivationNeedsTheAKThatTheCredentialNames(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	tpm := connect(t, emulator)
	strangersAK := must(connect(t, swtpm.New(t, swtpm.Options{})).AK(t.Context()))(t)
	for _, ek := range must(tpm.EKs(t.Context()))(t) {
		public := must(tpm2.Unmarshal[tpm2.TPM2BPublic](ek.Public))(t)
		key := must(tpm2.ImportEncapsulationKey(must(public.Contents())(t)))(t)
		blob, encrypted, err := tpm2.CreateCredential(rand.Reader, key, must(attest.Name(strangersAK))(t), []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = tpm.Activate(t.Context(), ek.Kind, attest.Credential{Blob: blob, Secret: encrypted})
		wantDenial(t, err, denial.ActivationFailed)
	}
}

func TestGateKey(t *testing.T) {
	emulator := swtpm.New(t, swtpm.Options{})
	tpm := connect(t, emulator)
	ek := must(tpm.EKs(t.Context()))(t)[0]
	key, _, err := tpm.NewGateKey(t.Context(), ek)
	if err != nil {
		t.Fatal(err)
	}
	gate := must(tpm.Signer(t.Context(), key))(t)
	if err := sign(t, gate, statement.Record); err != nil {
		t.Errorf("signing a record: %v", err)
	}
	for _, kind := range statement.Kinds() {
		if kind != statement.Record {
			wantDenial(t, sign(t, gate, kind), denial.WrongType)
		}
	}
	disconnect(t, tpm)
	boot(t, emulator, measure{8, "a gate key is bound to no PCR"})
	again := must(connect(t, emulator).Signer(t.Context(), key))(t)
	if err := sign(t, again, statement.Record); err != nil {
		t.Errorf("signing a record after a reboot: %v", err)
	}
}
