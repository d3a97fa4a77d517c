package hsm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/pkcs11"
)

// What Cryptoki 3 has and the binding does not know.
const (
	ckmECEdwardsKeyPairGen = 0x1055
	ckmEDDSA               = 0x1057
	ckmMLDSAKeyPairGen     = 0x1c
	ckmMLDSA               = 0x1d

	ckoValidation                      = 0xa
	ckaValidationType                  = 0x61f
	ckaValidationLevel                 = 0x621
	ckaValidationModuleID              = 0x622
	ckaValidationAuthorityType         = 0x624
	ckaValidationCertificateIdentifier = 0x626
)

// mechanisms are those that an issuer uses, or that a later one may.
var mechanisms = []struct {
	number   uint
	name     string
	required bool
}{
	{pkcs11.CKM_EC_KEY_PAIR_GEN, "CKM_EC_KEY_PAIR_GEN", true},
	{pkcs11.CKM_ECDSA, "CKM_ECDSA", true},
	{pkcs11.CKM_ECDSA_SHA256, "CKM_ECDSA_SHA256", false},
	{pkcs11.CKM_RSA_PKCS_PSS, "CKM_RSA_PKCS_PSS", false},
	{pkcs11.CKM_SHA256_RSA_PKCS_PSS, "CKM_SHA256_RSA_PKCS_PSS", false},
	{ckmECEdwardsKeyPairGen, "CKM_EC_EDWARDS_KEY_PAIR_GEN", false},
	{ckmEDDSA, "CKM_EDDSA", false},
	{ckmMLDSAKeyPairGen, "CKM_ML_DSA_KEY_PAIR_GEN", false},
	{ckmMLDSA, "CKM_ML_DSA", false},
}

// Mechanism is what a module says of one mechanism.
type Mechanism struct {
	Name     string `json:"name"`
	Required bool   `json:"required"` // an issuer cannot do without
	There    bool   `json:"there"`
	Hardware bool   `json:"hardware"` // CKF_HW: done by the device, and not by the module
}

// Probe is what a module and a token say of themselves, without a key.
type Probe struct {
	Info       Info        `json:"info"`
	Cryptoki   string      `json:"cryptoki"`   // version of PKCS#11
	Mechanisms []Mechanism `json:"mechanisms"` // that concern an issuer
	Others     int         `json:"others"`     // mechanisms beside these
	Sessions   int         `json:"sessions"`   // calls that can be in the module at once
}

// Probe asks the module what it can do. It changes nothing.
func (t *Token) Probe(ctx context.Context) (Probe, error) {
	return call(ctx, t, func(c *conn, session pkcs11.SessionHandle) (p Probe, err error) {
		lib, err := t.mod.GetInfo()
		if err != nil {
			return p, fmt.Errorf("reading module information: %w", err)
		}
		p = Probe{Info: c.info, Cryptoki: fmt.Sprintf("%d.%02d", lib.CryptokiVersion.Major, lib.CryptokiVersion.Minor), Sessions: len(c.sessions)}
		if p.Info.Validations, err = t.validations(session); err != nil {
			return p, err
		}
		list, err := t.mod.GetMechanismList(c.slot)
		if err != nil {
			return p, fmt.Errorf("listing mechanisms: %w", err)
		}
		have := map[uint]bool{}
		for _, m := range list {
			have[m.Mechanism] = true
		}
		p.Others = len(have)
		for _, m := range mechanisms {
			got := Mechanism{Name: m.name, Required: m.required, There: have[m.number]}
			if got.There {
				p.Others--
				info, err := t.mod.GetMechanismInfo(c.slot, []*pkcs11.Mechanism{pkcs11.NewMechanism(m.number, nil)})
				if err != nil {
					return p, fmt.Errorf("reading mechanism %s: %w", m.name, err)
				}
				got.Hardware = info.Flags&pkcs11.CKF_HW != 0
			}
			p.Mechanisms = append(p.Mechanisms, got)
		}
		return p, nil
	})
}

// Missing names the mechanisms that an issuer cannot do without and the token does not have.
func (p Probe) Missing() (names []string) {
	for _, m := range p.Mechanisms {
		if m.Required && !m.There {
			names = append(names, m.Name)
		}
	}
	return names
}

// Software returns why the keys of the token count as being in software, or nothing: it is SoftHSM or a TPM in software,
// or the module does not say that a device makes its signatures (CKF_HW).
func (p Probe) Software() string {
	if strings.HasPrefix(p.Info.Manufacturer, "SoftHSM") || strings.HasPrefix(p.Info.Library, "SoftHSM") {
		return "it is SoftHSM: whoever copies its directory has the keys"
	}
	if strings.HasPrefix(p.Info.Model, "SW ") {
		return "it is a TPM in software: whoever copies its state has the keys"
	}
	for _, m := range mechanisms {
		if m.required && !slices.ContainsFunc(p.Mechanisms, func(got Mechanism) bool { return got.Name == m.name && got.Hardware }) {
			return "the module does not say that a device does " + m.name
		}
	}
	return ""
}

// Validation is what a token of Cryptoki 3.2 says of one examination of its module by others.
type Validation struct {
	Authority   string `json:"authority"`
	Type        string `json:"type"`
	Level       uint64 `json:"level"`
	Module      string `json:"module"`
	Certificate string `json:"certificate"`
}

// String returns it in words, as it stands in a birth record.
func (v Validation) String() string {
	return fmt.Sprintf("%s certificate %q, level %d, %s, module %q", v.Authority, v.Certificate, v.Level, v.Type, v.Module)
}

// validations reads the validation objects. Older tokens have none.
func (t *Token) validations(session pkcs11.SessionHandle) ([]Validation, error) {
	objects, err := t.find(session, pkcs11.NewAttribute(pkcs11.CKA_CLASS, uint(ckoValidation)))
	if err != nil {
		return nil, err
	}
	var all []Validation
	for _, object := range objects {
		r := &reader{mod: t.mod, session: session, object: object}
		authority, _ := r.ulong(ckaValidationAuthorityType)
		kind, _ := r.ulong(ckaValidationType)
		level, _ := r.ulong(ckaValidationLevel)
		module, _ := r.bytes(ckaValidationModuleID)
		certificate, _ := r.bytes(ckaValidationCertificateIdentifier)
		if r.err != nil {
			return nil, r.err
		}
		all = append(all, Validation{Authority: named(authority, "unspecified", "NIST CMVP", "Common Criteria"),
			Type: named(kind, "unspecified", "software", "hardware", "firmware", "hybrid"), Level: level,
			Module: string(module), Certificate: string(certificate)})
	}
	return all, nil
}

// named returns the name at the index, or the number where there is none.
func named(n uint64, names ...string) string {
	if n < uint64(len(names)) {
		return names[n]
	}
	return fmt.Sprintf("0x%x", n)
}
