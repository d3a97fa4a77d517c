package hsm

import (
	"slices"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/tpmtoken"
)

func probe(t testing.TB, tk *Token) Probe {
	t.Helper()
	p, err := tk.Probe(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func try(t testing.TB, tk *Token) Trial {
	t.Helper()
	trial, err := tk.Try(t.Context(), 20*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	for _, class := range []uint{pkcs11.CKO_PUBLIC_KEY, pkcs11.CKO_PRIVATE_KEY} {
		readWrite(t, tk, func(session pkcs11.SessionHandle) {
			left, err := tk.find(session, pkcs11.NewAttribute(pkcs11.CKA_CLASS, class), pkcs11.NewAttribute(pkcs11.CKA_LABEL, trialLabel))
			if err != nil || len(left) > 0 {
				t.Errorf("got %d objects and %v after the trial, want none", len(left), err)
			}
		})
	}
	return trial
}

// H20: what is in software is known to be.
func TestH20_ProbeKnowsSoftware(t *testing.T) {
	p := probe(t, open(t))
	if len(p.Missing()) > 0 || p.Cryptoki != "2.40" || p.Software() == "" || len(p.Info.Validations) > 0 || p.Others == 0 {
		t.Errorf("got %+v", p)
	}
	hardware := Probe{Info: Info{Manufacturer: "Example", Model: "HSM 7"}}
	for _, m := range p.Mechanisms {
		m.Hardware = true
		hardware.Mechanisms = append(hardware.Mechanisms, m)
	}
	if why := hardware.Software(); why != "" {
		t.Errorf("a token of hardware is refused: %s", why)
	}
	for name, spoil := range map[string]func(*Probe){
		"SoftHSM under another name":   func(p *Probe) { p.Info.Library = "SoftHSM, Implementation of PKCS11 2.6" },
		"a TPM in software":            func(p *Probe) { p.Info.Model = "SW   TPM" },
		"signatures are not in device": func(p *Probe) { p.Mechanisms[1].Hardware = false },
		"no mechanism is known":        func(p *Probe) { p.Mechanisms = nil },
	} {
		spoiled := hardware
		spoiled.Mechanisms = slices.Clone(hardware.Mechanisms)
		spoil(&spoiled)
		if spoiled.Software() == "" {
			t.Errorf("%s counts as hardware", name)
		}
	}
}

// TestTrialOfSoftHSM: SoftHSM keeps a key as it was made (H05).
func TestTrialOfSoftHSM(t *testing.T) {
	tk := open(t)
	s := newSigner(t, tk, Artifact)
	trial := try(t, tk)
	if trial.Unfit != "" || len(trial.Allowed) > 0 || trial.One <= 0 || trial.All <= 0 || trial.Attributes["CKA_ALWAYS_SENSITIVE"] != "true" {
		t.Errorf("got %+v", trial)
	}
	signs(t, s, statement.Artifact)
}

// TestTrialOfTPMToken: what tpm2-pkcs11 states of a key, it lets anybody with the PIN change in its store. The key stays in the TPM.
func TestTrialOfTPMToken(t *testing.T) {
	soft := tpmtoken.New(t)
	tk := openWith(t, Config{Module: soft.Module, Token: soft.Label, PIN: PINFromFile(soft.PINFile), MaxSessions: 2})
	s := newSigner(t, tk, Artifact)
	p, trial := probe(t, tk), try(t, tk)
	if len(p.Missing()) > 0 || p.Software() == "" {
		t.Errorf("got %+v", p)
	}
	t.Logf("%+v\n%+v", p, trial)
	if trial.Unfit != "" || trial.One <= 0 {
		t.Errorf("got %+v", trial)
	}
	if slices.Contains(trial.Allowed, "the private value is read") || slices.Contains(trial.Allowed, "the key is copied as extractable") {
		t.Errorf("got %q: the key leaves the TPM", trial.Allowed)
	}
	signs(t, s, statement.Artifact)
}

// TestTrialThatFails leaves no key behind, and what it cannot do is an error.
func TestTrialThatFails(t *testing.T) {
	m, cfg := faulty(t)
	tk := openWith(t, cfg)
	m.Script(t, "C_Sign 3 1 rv 0x30")
	_, err := tk.Try(t.Context(), time.Second)
	refused(t, err, denial.HSMUnavailable)
	healed(t, tk)
	m.Script(t)
	if trial := try(t, tk); trial.Unfit != "" {
		t.Errorf("got %+v", trial)
	}
}

// TestValidationIsRecordedAtBirth: what a token of Cryptoki 3.2 states of its validation stands in the birth of its keys.
func TestValidationIsRecordedAtBirth(t *testing.T) {
	m, cfg := faulty(t)
	m.Script(t, "validation")
	tk := openWith(t, cfg)
	key := create(t, tk, Log)
	a, err := tk.Attributes(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	const want = `NIST CMVP certificate "4711", level 3, hardware, module "Example HSM 7"`
	if got := a.Birth().Token["validation 1"]; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if p := probe(t, tk); len(p.Info.Validations) != 1 || p.Info.Validations[0].String() != want {
		t.Errorf("got %+v", p.Info.Validations)
	}
}
