package main

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"maps"
	"math/big"
	"slices"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/test/swtpm"
	"github.com/governed-execution/writ/test/vectors"
)

// enrolment is the vector of a request and what is held against it.
func enrolment(r attest.EnrolRequest, ek [32]byte, roots ...*x509.Certificate) *vectors.Enrolment {
	e := &vectors.Enrolment{EK: r.EK, AK: r.AK, GateKey: r.GateKey, EKDigest: ek[:], Now: softtpm.Now, Chain: []vectors.Bytes{}, Roots: []vectors.Bytes{}}
	for _, der := range r.Chain {
		e.Chain = append(e.Chain, der)
	}
	for _, root := range roots {
		e.Roots = append(e.Roots, root.Raw)
	}
	if r.Certify != nil {
		e.Certify = [2]vectors.Bytes{r.Certify.Attest, r.Certify.Signature}
	}
	return e
}

// enrolmentVectors break the EK, its certificate, the AK and the gate key.
func enrolmentVectors(s *setup) []vectors.Vector {
	l := &list{prefix: "enrolment", signer: "swtpm"}
	l.real(s)
	l.signer = "software"
	for name, o := range map[string]softtpm.Options{"P-384": {EK: softtpm.P384}, "RSA": {EK: softtpm.RSA2048}} {
		h := newHost(s, o)
		l.enrol("a TPM with an EK of "+name, accepted, enrolment(h.tpm.EnrolRequest(), h.tpm.EKDigest(), h.ven.Root))
	}
	l.endorsements(s)
	l.certificates(s)
	l.gates(s)
	l.rules(s)
	return l.all
}

func (l *list) enrol(what string, code denial.Reason, e *vectors.Enrolment) {
	l.add(what, code, func(v *vectors.Vector) { v.Enrolment = e })
}

// real is a TPM of swtpm with the certificate that its own CA made.
func (l *list) real(s *setup) {
	emulator := swtpm.New(s, swtpm.Options{})
	root, issuer := must(emulator.Root()), must(emulator.Intermediate())
	tpm := must(attester.Open(s.ctx, emulator.Socket))
	defer tpm.Close()
	e := must(tpm.Enrol(s.ctx, attester.EnrolOptions{Intermediates: [][]byte{issuer.Raw}, Gate: true}))
	r := must(attest.DecodeEnrolRequest(e.Request))
	digest := must(r.EKDigest())
	valid := func(edit func(*attest.EnrolRequest, *vectors.Enrolment)) *vectors.Enrolment {
		q := *r
		v := enrolment(q, digest, root)
		edit(&q, v)
		fresh := enrolment(q, digest)
		fresh.Roots, fresh.Now, fresh.Listed, fresh.EKDigest = v.Roots, v.Now, v.Listed, v.EKDigest
		fresh.Now = v.Now
		return fresh
	}
	now := time.Now().UTC().Truncate(time.Second)
	at := func(edit func(*attest.EnrolRequest, *vectors.Enrolment)) *vectors.Enrolment {
		return valid(func(q *attest.EnrolRequest, v *vectors.Enrolment) { v.Now = now; edit(q, v) })
	}
	l.enrol("a TPM with its gate key", accepted, at(func(*attest.EnrolRequest, *vectors.Enrolment) {}))
	l.enrol("without a gate key", accepted, at(func(q *attest.EnrolRequest, _ *vectors.Enrolment) { q.GateKey, q.Certify = nil, nil }))
	l.enrol("F25: a TPM that no enrolment names", denial.NotEnrolled, at(func(_ *attest.EnrolRequest, v *vectors.Enrolment) { v.EKDigest = make([]byte, 32) }))
	other := softtpm.NewVendor(s)
	l.enrol("K11: a certificate under another root", denial.EKUntrusted, at(func(_ *attest.EnrolRequest, v *vectors.Enrolment) { v.Roots = []vectors.Bytes{other.Root.Raw} }))
	l.enrol("K11: no root at all", denial.EKUntrusted, at(func(_ *attest.EnrolRequest, v *vectors.Enrolment) { v.Roots = nil }))
	l.enrol("the intermediate is missing", denial.EKUntrusted, at(func(q *attest.EnrolRequest, _ *vectors.Enrolment) { q.Chain = q.Chain[:1] }))
	l.enrol("no certificate", denial.EKUntrusted, at(func(q *attest.EnrolRequest, _ *vectors.Enrolment) { q.Chain = nil }))
	l.enrol("no certificate, but an authority lists the EK", accepted, at(func(q *attest.EnrolRequest, v *vectors.Enrolment) { q.Chain, v.Listed = nil, true }))
	l.enrol("K17: before the certificate is valid", denial.EKUntrusted, at(func(_ *attest.EnrolRequest, v *vectors.Enrolment) { v.Now = issuer.NotBefore.AddDate(-1, 0, 0) }))
	l.enrol("the certificate cannot be read", denial.EKUntrusted, at(func(q *attest.EnrolRequest, _ *vectors.Enrolment) {
		q.Chain = [][]byte{q.Chain[0][:len(q.Chain[0])-1], issuer.Raw}
	}))
	l.enrol("an intermediate that cannot be read", denial.EKUntrusted, at(func(q *attest.EnrolRequest, _ *vectors.Enrolment) {
		q.Chain = append(slices.Clone(q.Chain), []byte{0x30})
	}))
	l.enrol("K24: an intermediate of the host's own making", denial.EKUntrusted, at(func(q *attest.EnrolRequest, v *vectors.Enrolment) {
		v.Roots = []vectors.Bytes{other.Root.Raw}
		q.Chain = append(slices.Clone(q.Chain), root.Raw)
	}))
	l.enrol("a byte behind the EK", denial.QuoteMalformed, at(func(q *attest.EnrolRequest, _ *vectors.Enrolment) { q.EK = append(slices.Clone(q.EK), 0) }))
	l.enrol("no EK", denial.QuoteMalformed, at(func(q *attest.EnrolRequest, _ *vectors.Enrolment) { q.EK = []byte{} }))
	l.enrol("more than eight certificates", denial.StructureLimit, at(func(q *attest.EnrolRequest, _ *vectors.Enrolment) {
		q.Chain = append(slices.Clone(q.Chain), slices.Repeat([][]byte{issuer.Raw}, 7)...)
	}))
	l.enrol("a gate key without its certification", denial.KeyBinding, at(func(q *attest.EnrolRequest, _ *vectors.Enrolment) { q.Certify = nil }))
	l.enrol("a gate key whose certification has another signature", denial.KeyBinding, at(func(q *attest.EnrolRequest, _ *vectors.Enrolment) {
		c := *q.Certify
		c.Signature = slices.Clone(c.Signature)
		c.Signature[len(c.Signature)-1] ^= 1
		q.Certify = &c
	}))
}

// endorsements break the public area of the EK, and of the AK.
func (l *list) endorsements(s *setup) {
	enrol := func(what string, code denial.Reason, o softtpm.Options) {
		h := newHost(s, o)
		l.enrol(what, code, enrolment(h.tpm.EnrolRequest(), h.tpm.EKDigest(), h.ven.Root))
	}
	ek := func(what string, code denial.Reason, alg softtpm.Algorithm, edit func(*tpm2.TPMTPublic)) {
		enrol(what, code, softtpm.Options{EK: alg, Edit: softtpm.Edit{EK: edit}})
	}
	attributes := func(edit func(*tpm2.TPMAObject)) func(*tpm2.TPMTPublic) {
		return func(p *tpm2.TPMTPublic) { edit(&p.ObjectAttributes) }
	}
	ek("an EK that is not restricted", denial.EKUntrusted, 0, attributes(func(a *tpm2.TPMAObject) { a.Restricted = false }))
	ek("an EK that is not fixed to its TPM", denial.EKUntrusted, 0, attributes(func(a *tpm2.TPMAObject) { a.FixedTPM = false }))
	ek("an EK that was imported", denial.EKUntrusted, 0, attributes(func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false }))
	ek("an EK that signs too", denial.EKUntrusted, 0, attributes(func(a *tpm2.TPMAObject) { a.SignEncrypt = true }))
	ek("an RSA EK with exponent 3", denial.EKWeak, softtpm.RSA2048, func(p *tpm2.TPMTPublic) { must(p.Parameters.RSADetail()).Exponent = 3 })
	ek("an EK that protects with another mode than CFB", denial.EKWeak, 0, func(p *tpm2.TPMTPublic) {
		must(p.Parameters.ECCDetail()).Symmetric.Mode = tpm2.NewTPMUSymMode(tpm2.TPMAlgAES, tpm2.TPMAlgCTR)
	})
	ek("an EK that protects with AES of 64 bits", denial.EKWeak, 0, func(p *tpm2.TPMTPublic) {
		must(p.Parameters.ECCDetail()).Symmetric.KeyBits = tpm2.NewTPMUSymKeyBits(tpm2.TPMAlgAES, tpm2.TPMKeyBits(64))
	})
	ek("an EK that does not protect", denial.EKWeak, 0, func(p *tpm2.TPMTPublic) {
		must(p.Parameters.ECCDetail()).Symmetric = tpm2.TPMTSymDefObject{Algorithm: tpm2.TPMAlgNull}
	})
	enrol("K05: an AK that is not restricted", denial.AKAttributes, softtpm.Options{Edit: softtpm.Edit{AK: attributes(func(a *tpm2.TPMAObject) { a.Restricted = false })}})
}

// certificates break the certificate of the EK.
func (l *list) certificates(s *setup) {
	tcg := func(arc ...int) asn1.ObjectIdentifier { return append(asn1.ObjectIdentifier{2, 23, 133}, arc...) }
	certificate := func(what string, code denial.Reason, edit func(*x509.Certificate)) {
		h := newHost(s, softtpm.Options{Edit: softtpm.Edit{Certificate: edit}})
		l.enrol(what, code, enrolment(h.tpm.EnrolRequest(), h.tpm.EKDigest(), h.ven.Root))
	}
	certificate("K13: a certificate for servers", denial.EKUntrusted, func(c *x509.Certificate) {
		c.UnknownExtKeyUsage, c.ExtKeyUsage = nil, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	})
	certificate("K13: a certificate without a purpose", denial.EKUntrusted, func(c *x509.Certificate) { c.UnknownExtKeyUsage = nil })
	certificate("K13: a certificate of a CA", denial.EKUntrusted, func(c *x509.Certificate) { c.IsCA = true })
	certificate("K13: a certificate that may sign certificates", denial.EKUntrusted, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign })
	certificate("K13: a certificate for a key that signs", denial.EKUntrusted, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	certificate("K13: a certificate that names no TPM", denial.EKUntrusted, func(c *x509.Certificate) { c.ExtraExtensions = nil })
	for what, values := range map[string][]string{
		"K13: a certificate without a manufacturer":  {"", "swtpm", "id:20191023"},
		"K13: a certificate without a model":         {"id:00001014", "", "id:20191023"},
		"K13: a certificate without a version":       {"id:00001014", "swtpm", ""},
		"K13: a certificate that names two versions": {"id:00001014", "swtpm", "id:20191023", "id:20191024"},
	} {
		certificate(what, denial.EKUntrusted, func(c *x509.Certificate) { c.ExtraExtensions = deviceName(values) })
	}
	certificate("K17: a certificate that has expired", denial.EKUntrusted, func(c *x509.Certificate) { c.NotAfter = softtpm.Now.Add(-time.Minute) })
	certificate("K23: a certificate of an AK", denial.AKUntrusted, func(c *x509.Certificate) { c.UnknownExtKeyUsage = []asn1.ObjectIdentifier{tcg(8, 3)} })
	h := newHost(s, softtpm.Options{})
	other := h.ven.New(s, softtpm.Options{})
	r := h.tpm.EnrolRequest()
	r.Chain = [][]byte{other.Certificate}
	l.enrol("K12: the certificate of another TPM", denial.AKSubstituted, enrolment(r, h.tpm.EKDigest(), h.ven.Root))
	listed := enrolment(r, h.tpm.EKDigest(), h.ven.Root)
	listed.Listed = true
	l.enrol("K12: the certificate of another TPM, for an EK that an authority lists", denial.AKSubstituted, listed)
}

// deviceName is a subject alternative name with manufacturer, model and version; what is empty is left out, and a fourth
// value is a second version.
func deviceName(values []string) []pkix.Extension {
	var device pkix.RDNSequence
	for i, value := range values {
		oid := asn1.ObjectIdentifier{2, 23, 133, 2, min(i+1, 3)}
		if value != "" {
			device = append(device, pkix.RelativeDistinguishedNameSET{{Type: oid, Value: value}})
		}
	}
	directory := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: must(asn1.Marshal(device))}
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: must(asn1.Marshal([]asn1.RawValue{directory}))}}
}

// gates break the gate key and its certification.
func (l *list) gates(s *setup) {
	gate := func(what string, edit softtpm.Edit) {
		h := newHost(s, softtpm.Options{Edit: edit})
		r, _ := h.tpm.GateRequest(s)
		l.enrol(what, denial.KeyBinding, enrolment(r, h.tpm.EKDigest(), h.ven.Root))
	}
	edits := map[string]func(*tpm2.TPMTPublic){
		"a restricted gate key":                   func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = true },
		"a gate key that was imported":            func(p *tpm2.TPMTPublic) { p.ObjectAttributes.SensitiveDataOrigin = false },
		"a gate key that no password can use":     func(p *tpm2.TPMTPublic) { p.ObjectAttributes.UserWithAuth = false },
		"a gate key whose point is off its curve": offCurve,
	}
	for _, what := range slices.Sorted(maps.Keys(edits)) {
		gate(what, softtpm.Edit{Gate: edits[what]})
	}
	gate("a gate key certified for another EK", softtpm.Edit{Certify: func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = make([]byte, 32) }})
	cnf := attest.CNFQualifyingData()
	gate("a gate key certified as a cnf key", softtpm.Edit{Certify: func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = cnf[:] }})
	h := newHost(s, softtpm.Options{})
	r, _ := h.tpm.GateRequest(s)
	second, _ := h.tpm.GateRequest(s)
	r.GateKey = second.GateKey
	l.enrol("another gate key than the certified one", denial.KeyBinding, enrolment(r, h.tpm.EKDigest(), h.ven.Root))
}

// rules are what authorities hold against a vendor's certificates: revocation lists and firmware.
func (l *list) rules(s *setup) {
	h := newHost(s, softtpm.Options{})
	other := softtpm.NewVendor(s) // of the same name, with another key
	const day = 24 * time.Hour
	mine, another := big.NewInt(2), big.NewInt(3) // every EK certificate of this vendor has the number 2
	listed := func(what string, code denial.Reason, must bool, lists ...*x509.RevocationList) {
		e := enrolment(h.tpm.EnrolRequest(), h.tpm.EKDigest(), h.ven.Root)
		for _, list := range lists {
			e.Lists = append(e.Lists, list.Raw)
		}
		e.MustList = must
		l.enrol(what, code, e)
	}
	listed("another certificate of the vendor is revoked", accepted, true, h.ven.Revoke(s, day, another))
	listed("one of two revocation lists is fresh", accepted, true, h.ven.Revoke(s, 0), h.ven.Revoke(s, day))
	listed("a list by another key of the same name revokes nothing", accepted, false, other.Revoke(s, day, mine))
	listed("K17: a revoked EK certificate", denial.HostRevoked, false, h.ven.Revoke(s, day, another, mine))
	listed("K17: an EK certificate revoked in a list that is no longer fresh", denial.HostRevoked, false, h.ven.Revoke(s, 0, mine))
	listed("K17: an EK certificate revoked in the older of two lists", denial.HostRevoked, false, h.ven.Revoke(s, day), h.ven.Revoke(s, 0, mine))
	listed("K17: no revocation list is fresh", denial.RevocationUnknown, false, h.ven.Revoke(s, 0, another))
	listed("K17: no revocation list, and one is demanded", denial.RevocationUnknown, true)
	listed("K17: only a list by another key of the same name", denial.RevocationUnknown, true, other.Revoke(s, day))
	vouched := enrolment(h.tpm.EnrolRequest(), h.tpm.EKDigest(), h.ven.Root)
	vouched.Lists, vouched.Listed = []vectors.Bytes{h.ven.Revoke(s, day, mine).Raw}, true
	l.enrol("K17: a revoked EK certificate that an authority lists", denial.HostRevoked, vouched)

	const version = 0x2019_1023
	firmware := func(what string, code denial.Reason, f vectors.Firmware) {
		e := enrolment(h.tpm.EnrolRequest(), h.tpm.EKDigest(), h.ven.Root)
		e.Firmware = []vectors.Firmware{f}
		l.enrol(what, code, e)
	}
	firmware("firmware of another vendor is denied", accepted, vectors.Firmware{Manufacturer: "49465800", To: 1 << 62})
	firmware("firmware of another model is denied", accepted, vectors.Firmware{Manufacturer: "00001014", Model: "other", To: 1 << 62})
	firmware("older firmware is denied", accepted, vectors.Firmware{Manufacturer: "00001014", To: version - 1})
	firmware("newer firmware is denied", accepted, vectors.Firmware{Manufacturer: "00001014", From: version + 1, To: 1 << 62})
	firmware("K16: firmware that is denied", denial.TPMFirmware, vectors.Firmware{Manufacturer: "00001014", From: version, To: version})
	firmware("K16: firmware of a model that is denied", denial.TPMFirmware, vectors.Firmware{Manufacturer: "id:00001014", Model: "swtpm", To: 1 << 62})
}
