package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"math/big"
	"slices"
	"strconv"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/test/vectors"
)

// host is a machine with a software AK that signs what it is told to.
type host struct {
	s    *setup
	ven  *softtpm.Vendor
	tpm  *softtpm.TPM
	want attest.Want
	boot *bootlog.Boot
}

var quoted = []int{0, 1, 2, 3, 4, 5, 6, 7, 12}

func newHost(s *setup, o softtpm.Options) *host {
	h := &host{s: s, ven: softtpm.NewVendor(s), boot: bootlog.New(bootlog.Options{})}
	h.tpm = h.ven.New(s, o)
	h.want = wants(h.tpm.AK)
	return h
}

func wants(ak []byte) attest.Want {
	return attest.Want{
		AK: ak, Challenge: attest.NewNonce(), Request: statement.DigestOf([]byte("the request of these vectors")),
		Exporter:  sha256.Sum256([]byte("the TLS exporter of these vectors")),
		Selection: attest.Selection{Bank: "sha256", PCRs: quoted}, Bind: []int{4, 7},
	}
}

// parts makes valid evidence.
func (h *host) parts() attest.EvidenceParts {
	return h.tpm.Evidence(h.s, h.want, h.boot.PCRs(h.want.Selection.Bank), h.boot.Log).EvidenceParts
}

// resign changes the quote and signs it.
func (h *host) resign(p attest.EvidenceParts, edit func(*tpm2.TPMSAttest)) attest.EvidenceParts {
	a := must(tpm2.Unmarshal[tpm2.TPMSAttest](p.Quote))
	edit(a)
	return h.resignBytes(p, tpm2.Marshal(*a))
}

func (h *host) resignBytes(p attest.EvidenceParts, quote []byte) attest.EvidenceParts {
	p.Quote, p.Signature = quote, h.tpm.Sign(h.s, quote)
	return p
}

// recertify changes the certification of the cnf key and signs it.
func (h *host) recertify(p attest.EvidenceParts, edit func(*tpm2.TPMSAttest)) attest.EvidenceParts {
	a := must(tpm2.Unmarshal[tpm2.TPMSAttest](p.Certify.Attest))
	edit(a)
	raw := tpm2.Marshal(*a)
	p.Certify = attest.Certification{Attest: raw, Signature: h.tpm.Sign(h.s, raw)}
	return p
}

// evidence is the vector of parts.
func evidence(p attest.EvidenceParts, w attest.Want) *vectors.Evidence {
	qualifying := attest.QualifyingData(w.Challenge, w.Request, w.Exporter)
	e := &vectors.Evidence{
		Attest: p.Quote, Signature: p.Signature, AK: p.AK, Bank: p.Bank, PCRs: map[string]vectors.Bytes{}, Log: p.BootLog, CNF: p.CNF,
		Certify: [2]vectors.Bytes{p.Certify.Attest, p.Certify.Signature}, Challenge: p.Challenge[:], Request: p.Request[:],
		Want: vectors.Want{AK: w.AK, Challenge: w.Challenge[:], Request: w.Request[:], Exporter: w.Exporter[:],
			Qualifying: qualifying[:], Bank: w.Selection.Bank, PCRs: w.Selection.PCRs, Bind: w.Bind},
	}
	e.OSLog, e.IMAList, e.Want.Audit, e.Want.Known, e.Want.Watch = p.OSLog, p.IMALog, w.Audit, w.IMA.Known, w.IMA.Watch
	for _, key := range w.IMA.Keys {
		e.Want.Keys = append(e.Want.Keys, key)
	}
	if s := p.Session; s != nil {
		e.Session = &vectors.Session{Attest: s.Attest, Signature: s.Signature}
		for _, r := range s.Responses {
			e.Session.Responses = append(e.Session.Responses, r)
		}
	}
	if bytes.Equal(p.AK, w.AK) {
		e.AK = nil
	}
	if p.Challenge == w.Challenge {
		e.Challenge = nil
	}
	if p.Request == w.Request {
		e.Request = nil
	}
	for pcr, value := range p.PCRs {
		e.PCRs[strconv.FormatInt(pcr, 10)] = value
	}
	return e
}

// evidenceVectors break the encoding, the quote, and what binds it.
func evidenceVectors(s *setup) []vectors.Vector {
	l := &list{prefix: "evidence", signer: "software"}
	for name, o := range map[string]softtpm.Options{"P-256": {}, "P-384": {AK: softtpm.P384}, "RSASSA": {AK: softtpm.RSA2048},
		"RSAPSS": {AK: softtpm.RSA2048PSS}} {
		h := newHost(s, o)
		l.evidence("quote", "valid evidence with an AK of "+name, accepted, h.parts(), h.want)
	}
	slices.SortFunc(l.all, func(a, b vectors.Vector) int { return bytes.Compare([]byte(a.ID), []byte(b.ID)) })
	h := newHost(s, softtpm.Options{})
	encodings(l, h)
	quotes(l, h)
	selections(l, h)
	signatures(l, s, h)
	keys(l, s)
	freshness(l, h)
	cnfKeys(l, s, h)
	return l.all
}

func (l *list) evidence(layer, what string, code denial.Reason, p attest.EvidenceParts, w attest.Want) {
	l.layer = layer
	l.add(what, code, func(v *vectors.Vector) { v.Evidence = evidence(p, w) })
}

// quotes change what the quote says, and sign it.
func quotes(l *list, h *host) {
	base := h.parts()
	quote := func(what string, code denial.Reason, edit func(*tpm2.TPMSAttest)) {
		l.evidence("quote", what, code, h.resign(base, edit), h.want)
	}
	as := func(kind tpm2.TPMST, u tpm2.TPMUAttest) func(*tpm2.TPMSAttest) {
		return func(a *tpm2.TPMSAttest) { a.Type, a.Attested = kind, u }
	}
	quote("Q01: the magic is not that of a TPM", denial.QuoteMagic, func(a *tpm2.TPMSAttest) { a.Magic = 0x11223344 })
	quote("Q02: a certification with our qualifying data", denial.QuoteType, as(0x8017, tpm2.NewTPMUAttest(0x8017, &tpm2.TPMSCertifyInfo{})))
	quote("Q03: NV content that the host chose", denial.QuoteType, as(0x8014, tpm2.NewTPMUAttest(0x8014, &tpm2.TPMSNVCertifyInfo{
		NVContents: tpm2.TPM2BData{Buffer: []byte("chosen by the host")}})))
	quote("Q04: a time attestation", denial.QuoteType, as(0x8019, tpm2.NewTPMUAttest(0x8019, &tpm2.TPMSTimeAttestInfo{})))
	quote("Q04: a session audit", denial.QuoteType, as(0x8016, tpm2.NewTPMUAttest(0x8016, &tpm2.TPMSSessionAuditInfo{})))
	quote("Q04: a creation attestation", denial.QuoteType, as(0x801a, tpm2.NewTPMUAttest(0x801a, &tpm2.TPMSCreationInfo{})))
	quote("Q20: the qualified signer is another key", denial.AKSubstituted, func(a *tpm2.TPMSAttest) {
		a.QualifiedSigner.Buffer = slices.Clone(a.QualifiedSigner.Buffer)
		a.QualifiedSigner.Buffer[5] ^= 1
	})
	quote("Q18: the PCR digest is another", denial.PCRDigestMismatch, func(a *tpm2.TPMSAttest) {
		info := must(a.Attested.Quote())
		info.PCRDigest.Buffer = slices.Clone(info.PCRDigest.Buffer)
		info.PCRDigest.Buffer[0] ^= 1
	})
	quote("F17: the clock of the TPM is not safe", denial.EvidenceStale, func(a *tpm2.TPMSAttest) { a.ClockInfo.Safe = false })
	quote("F09: qualifying data cut to 16 bytes", denial.ChallengeMismatch, func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = a.ExtraData.Buffer[:16] })
	quote("F09: qualifying data with a byte more", denial.ChallengeMismatch, func(a *tpm2.TPMSAttest) {
		a.ExtraData.Buffer = append(slices.Clone(a.ExtraData.Buffer), 0)
	})
	quote("F11: qualifying data of another connection", denial.ChannelBinding, func(a *tpm2.TPMSAttest) {
		other := attest.QualifyingData(h.want.Challenge, h.want.Request, [32]byte{1})
		a.ExtraData.Buffer = other[:]
	})
	raw := func(what string, code denial.Reason, quote []byte) {
		l.evidence("quote", what, code, h.resignBytes(base, quote), h.want)
	}
	raw("Q16: bytes behind the attestation", denial.QuoteMalformed, append(slices.Clone(base.Quote), 1, 2, 3))
	raw("Q21: the attestation cut short", denial.QuoteMalformed, base.Quote[:len(base.Quote)-1])
	raw("Q21: an attestation of five bytes", denial.QuoteMalformed, base.Quote[:5])
	safe := slices.Clone(base.Quote)
	safe[clockSafe(base.Quote)] = 2
	raw("the flag of the clock is neither yes nor no", denial.QuoteMalformed, safe)
	long := must(tpm2.Unmarshal[tpm2.TPMSAttest](base.Quote))
	long.ExtraData.Buffer = make([]byte, 1100)
	raw("an attestation of more than 1024 bytes", denial.StructureLimit, tpm2.Marshal(*long))
}

// clockSafe returns where TPMS_CLOCK_INFO.safe stands in a TPMS_ATTEST.
func clockSafe(quote []byte) int {
	at := 6
	for range 2 { // qualifiedSigner, extraData
		at += 2 + int(binary.BigEndian.Uint16(quote[at:]))
	}
	return at + 8 + 4 + 4
}

// selections change which PCRs the quote covers, and which values stand beside it.
func selections(l *list, h *host) {
	base := h.parts()
	selecting := func(what string, code denial.Reason, edit func(*tpm2.TPMSQuoteInfo)) {
		l.evidence("quote", what, code, h.resign(base, func(a *tpm2.TPMSAttest) { edit(must(a.Attested.Quote())) }), h.want)
	}
	first := func(edit func(*tpm2.TPMSPCRSelection)) func(*tpm2.TPMSQuoteInfo) {
		return func(i *tpm2.TPMSQuoteInfo) { edit(&i.PCRSelect.PCRSelections[0]) }
	}
	none := sha256.Sum256(nil)
	selecting("Q05: no selection", denial.PCRSelectionMismatch, func(i *tpm2.TPMSQuoteInfo) { i.PCRSelect.PCRSelections = nil })
	selecting("Q05: an empty bitmap", denial.PCRSelectionMismatch, func(i *tpm2.TPMSQuoteInfo) {
		i.PCRSelect.PCRSelections[0].PCRSelect, i.PCRDigest.Buffer = []byte{0, 0, 0}, none[:]
	})
	selecting("Q06: a bitmap of no bytes", denial.QuoteMalformed, first(func(s *tpm2.TPMSPCRSelection) { s.PCRSelect = nil }))
	selecting("Q06: a bitmap of four bytes", denial.QuoteMalformed, first(func(s *tpm2.TPMSPCRSelection) { s.PCRSelect = append(slices.Clone(s.PCRSelect), 0) }))
	selecting("Q08: a PCR more than wanted", denial.PCRSelectionMismatch, first(func(s *tpm2.TPMSPCRSelection) {
		s.PCRSelect = slices.Clone(s.PCRSelect)
		s.PCRSelect[2] |= 1
	}))
	selecting("Q10: 5000 selections", denial.StructureLimit, func(i *tpm2.TPMSQuoteInfo) {
		i.PCRSelect.PCRSelections = slices.Repeat(i.PCRSelect.PCRSelections[:1], 5000)
	})
	selecting("Q11: two banks", denial.QuoteMalformed, func(i *tpm2.TPMSQuoteInfo) {
		i.PCRSelect.PCRSelections = append(i.PCRSelect.PCRSelections, tpm2.TPMSPCRSelection{Hash: tpm2.TPMAlgSHA384, PCRSelect: []byte{255, 0, 0}})
	})
	selecting("Q12: the SHA-1 bank", denial.BankNotAllowed, first(func(s *tpm2.TPMSPCRSelection) { s.Hash = tpm2.TPMAlgSHA1 }))
	less := h.want
	less.Selection.PCRs = slices.DeleteFunc(slices.Clone(quoted), func(p int) bool { return p == 7 })
	less.Bind = []int{4}
	short := h.tpm.Evidence(h.s, less, h.boot.PCRs("sha256"), h.boot.Log).EvidenceParts
	p := base
	p.Quote, p.Signature = short.Quote, short.Signature
	l.evidence("quote", "Q07: PCR 7 left out of the quote, and its value sent beside it", denial.RequiredPCRAbsent, p, h.want)
	values := func(what string, code denial.Reason, edit func(map[int64][]byte)) {
		p := base
		p.PCRs = maps.Clone(p.PCRs)
		edit(p.PCRs)
		l.evidence("quote", what, code, p, h.want)
	}
	values("Q18: one bit of a PCR value", denial.PCRDigestMismatch, func(m map[int64][]byte) {
		m[4] = slices.Clone(m[4])
		m[4][0] ^= 1
	})
	values("Q09: a value less than quoted", denial.QuoteMalformed, func(m map[int64][]byte) { delete(m, 12) })
	values("Q09: a value more than quoted", denial.QuoteMalformed, func(m map[int64][]byte) { m[9] = make([]byte, 32) })
	values("Q09: the value of another PCR", denial.QuoteMalformed, func(m map[int64][]byte) { m[9] = m[12]; delete(m, 12) })
	values("Q13: a value of 20 bytes", denial.QuoteMalformed, func(m map[int64][]byte) { m[4] = m[4][:20] })
	values("L10: a value of PCR 24", denial.QuoteMalformed, func(m map[int64][]byte) { m[24] = m[12]; delete(m, 12) })
	p = base
	p.Bank, p.PCRs = "sha384", map[int64][]byte{}
	for pcr, v := range base.PCRs {
		p.PCRs[pcr] = append(slices.Clone(v), make([]byte, 16)...)
	}
	l.evidence("quote", "Q13: values of another bank than the quoted one", denial.QuoteMalformed, p, h.want)
}

// signatures break the TPMT_SIGNATURE of the quote.
func signatures(l *list, s *setup, h *host) {
	base := h.parts()
	sign := func(what string, code denial.Reason, h *host, p attest.EvidenceParts, signature []byte) {
		p.Signature = signature
		l.evidence("quote", what, code, p, h.want)
	}
	sign("one bit of the signature", denial.QuoteSignature, h, base, flipped(base.Signature))
	sign("Q17: bytes behind the signature", denial.QuoteMalformed, h, base, append(slices.Clone(base.Signature), 1, 2, 3))
	sign("Q21: the signature cut short", denial.QuoteMalformed, h, base, base.Signature[:len(base.Signature)-1])
	sign("K10: no signature but the null scheme", denial.QuoteMalformed, h, base, []byte{0, 0x10})
	sign("Q18: signed by another AK", denial.QuoteSignature, h, base, h.ven.New(s, softtpm.Options{}).Sign(s, base.Quote))
	rsaHost := newHost(s, softtpm.Options{AK: softtpm.RSA2048})
	rsaBase := rsaHost.parts()
	sign("Q19: an ECDSA signature for an RSA key", denial.QuoteSignature, rsaHost, rsaBase, base.Signature)
	sign("Q19: an RSA signature for an ECC key", denial.QuoteSignature, h, base, rsaBase.Signature)
	sign("one bit of an RSASSA signature", denial.QuoteSignature, rsaHost, rsaBase, flipped(rsaBase.Signature))
	pssHost := newHost(s, softtpm.Options{AK: softtpm.RSA2048PSS})
	pssBase := pssHost.parts()
	sign("one bit of an RSAPSS signature", denial.QuoteSignature, pssHost, pssBase, flipped(pssBase.Signature))
	sign("Q14: signed with SHA-1", denial.AlgNotAllowed, rsaHost, rsaBase, rsaHost.tpm.SignWith(s, rsaBase.Quote, tpm2.TPMAlgRSASSA, tpm2.TPMAlgSHA1))
	sign("Q15: RSAPSS of an RSASSA key", denial.AlgNotAllowed, rsaHost, rsaBase, rsaHost.tpm.SignWith(s, rsaBase.Quote, tpm2.TPMAlgRSAPSS, tpm2.TPMAlgSHA256))
	sign("Q14: signed with SHA-384 by a key whose scheme has SHA-256", denial.AlgNotAllowed, h, base, h.tpm.SignWith(s, base.Quote, tpm2.TPMAlgECDSA, tpm2.TPMAlgSHA384))
	wide := must(tpm2.Unmarshal[tpm2.TPMTSignature](base.Signature))
	ecc := must(wide.Signature.ECDSA())
	ecc.SignatureR.Buffer = append([]byte{0}, ecc.SignatureR.Buffer...)
	sign("r with a leading zero byte", denial.QuoteSignature, h, base, tpm2.Marshal(*wide))
	ecc.SignatureR.Buffer, ecc.SignatureS.Buffer = make([]byte, 32), make([]byte, 32)
	sign("r and s of zero", denial.QuoteSignature, h, base, tpm2.Marshal(*wide))
}

// keys break the public area of the AK. The verifier has enrolled that very key, so only its own checks can refuse it.
func keys(l *list, s *setup) {
	ak := func(what string, code denial.Reason, alg softtpm.Algorithm, edit func(*tpm2.TPMTPublic)) {
		h := newHost(s, softtpm.Options{AK: alg, Edit: softtpm.Edit{AK: edit}})
		l.evidence("quote", what, code, h.parts(), h.want)
	}
	attributes := func(edit func(*tpm2.TPMAObject)) func(*tpm2.TPMTPublic) {
		return func(p *tpm2.TPMTPublic) { edit(&p.ObjectAttributes) }
	}
	ak("K05: an AK that is not restricted", denial.AKAttributes, 0, attributes(func(a *tpm2.TPMAObject) { a.Restricted = false }))
	ak("K06: an AK that is not fixed to its TPM", denial.AKAttributes, 0, attributes(func(a *tpm2.TPMAObject) { a.FixedTPM = false }))
	ak("K06: an AK that is not fixed to its parent", denial.AKAttributes, 0, attributes(func(a *tpm2.TPMAObject) { a.FixedParent = false }))
	ak("K07: an AK that was imported", denial.AKAttributes, 0, attributes(func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false }))
	ak("K08: an AK that decrypts too", denial.AKAttributes, 0, attributes(func(a *tpm2.TPMAObject) { a.Decrypt = true }))
	ak("an AK with an attribute that it must not have", denial.AKAttributes, 0, attributes(func(a *tpm2.TPMAObject) { a.STClear = true }))
	ak("K09: an AK whose scheme has SHA-1", denial.AKAttributes, 0, eccScheme(tpm2.TPMAlgSHA1))
	ak("K10: an AK without a scheme", denial.AKAttributes, 0, func(p *tpm2.TPMTPublic) { must(p.Parameters.ECCDetail()).Scheme = tpm2.TPMTECCScheme{} })
	ak("K09: an RSA AK with exponent 3", denial.AKAttributes, softtpm.RSA2048, func(p *tpm2.TPMTPublic) { must(p.Parameters.RSADetail()).Exponent = 3 })
	ak("K09: an RSA AK of 1024 bits", denial.AKAttributes, softtpm.RSA2048, rsaBits(1024))
	ak("K09: an RSA AK whose modulus is shorter than it says", denial.AKAttributes, softtpm.RSA2048, func(p *tpm2.TPMTPublic) {
		u := must(p.Unique.RSA())
		u.Buffer = slices.Clone(u.Buffer)
		u.Buffer[0] &= 0x7f
	})
	ak("K09: an RSA AK of 5120 bits", denial.AKAttributes, softtpm.RSA2048, rsaBits(5120))
	ak("K09: an RSA AK whose modulus is even", denial.AKAttributes, softtpm.RSA2048, func(p *tpm2.TPMTPublic) {
		u := must(p.Unique.RSA())
		u.Buffer = slices.Clone(u.Buffer)
		u.Buffer[len(u.Buffer)-1] &= 0xfe
	})
	ak("K09: an AK on P-521", denial.AKAttributes, 0, func(p *tpm2.TPMTPublic) { must(p.Parameters.ECCDetail()).CurveID = tpm2.TPMECCNistP521 })
	ak("K09: an AK whose point is not on its curve", denial.AKAttributes, 0, offCurve)
	ak("K09: an AK with a coordinate that is too long", denial.AKAttributes, 0, longCoordinate)
	h := newHost(s, softtpm.Options{})
	p := h.parts()
	other := h.ven.New(s, softtpm.Options{})
	p.AK = other.AK
	l.evidence("quote", "Q20: evidence that names another AK than the enrolled one", denial.AKSubstituted, p, h.want)
	p = other.Evidence(s, h.want, h.boot.PCRs("sha256"), h.boot.Log).EvidenceParts
	l.evidence("quote", "Q20: the evidence of another TPM", denial.AKSubstituted, p, h.want)
	p, w := h.parts(), h.want
	p.AK = append(slices.Clone(p.AK), 0)
	w.AK = p.AK
	l.evidence("quote", "a byte behind the AK", denial.QuoteMalformed, p, w)
	named := newHost(s, softtpm.Options{})
	p, w = named.parts(), named.want
	p.AK = slices.Clone(p.AK)
	p.AK[5] = 0x04 // nameAlg: SHA-1
	w.AK = p.AK
	l.evidence("quote", "K09: an AK whose name algorithm is SHA-1", denial.AKAttributes, p, w)
}

func rsaBits(bits int) func(*tpm2.TPMTPublic) {
	return func(p *tpm2.TPMTPublic) {
		must(p.Parameters.RSADetail()).KeyBits = tpm2.TPMKeyBits(bits)
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		must(p.Unique.RSA()).Buffer = n.SetBit(n, 0, 1).Bytes()
	}
}

func eccScheme(hash tpm2.TPMIAlgHash) func(*tpm2.TPMTPublic) {
	return func(p *tpm2.TPMTPublic) {
		must(p.Parameters.ECCDetail()).Scheme = tpm2.TPMTECCScheme{Scheme: tpm2.TPMAlgECDSA,
			Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: hash})}
	}
}

func offCurve(p *tpm2.TPMTPublic) {
	point := must(p.Unique.ECC())
	point.X.Buffer = slices.Clone(point.X.Buffer)
	point.X.Buffer[len(point.X.Buffer)-1] ^= 1
}

func longCoordinate(p *tpm2.TPMTPublic) {
	point := must(p.Unique.ECC())
	point.X.Buffer = append([]byte{0}, point.X.Buffer...)
}

// freshness moves valid evidence to where it does not belong, and spoils what is wanted of it.
func freshness(l *list, h *host) {
	base := h.parts()
	moved := func(what string, code denial.Reason, edit func(*attest.Want, *attest.EvidenceParts)) {
		w, p := h.want, base
		edit(&w, &p)
		l.evidence("binding", what, code, p, w)
	}
	moved("F02: an old quote for a new challenge", denial.ChallengeMismatch, func(w *attest.Want, _ *attest.EvidenceParts) { w.Challenge = attest.NewNonce() })
	moved("F02: an old quote under the name of a new challenge", denial.ChannelBinding, func(w *attest.Want, p *attest.EvidenceParts) {
		w.Challenge = attest.NewNonce()
		p.Challenge = w.Challenge
	})
	moved("F10: another request", denial.ChallengeMismatch, func(w *attest.Want, _ *attest.EvidenceParts) { w.Request = statement.DigestOf([]byte("another")) })
	moved("F10: another request, and evidence that names it", denial.ChannelBinding, func(w *attest.Want, p *attest.EvidenceParts) {
		w.Request = statement.DigestOf([]byte("another"))
		p.Request = w.Request
	})
	moved("F11: another connection", denial.ChannelBinding, func(w *attest.Want, _ *attest.EvidenceParts) { w.Exporter[31] ^= 1 })
	answers := map[string]denial.Reason{"a verifier without a challenge": denial.NoChallenge,
		"a verifier without an exporter": denial.ChannelBinding, "a verifier without a request": denial.Internal}
	for what, edit := range map[string]func(*attest.Want){
		"a verifier without a challenge": func(w *attest.Want) { w.Challenge = attest.Nonce{} },
		"a verifier without an exporter": func(w *attest.Want) { w.Exporter = [32]byte{} },
		"a verifier without a request":   func(w *attest.Want) { w.Request = statement.Digest{} },
	} { // and evidence that answers it
		bare := *h
		edit(&bare.want)
		l.evidence("binding", what, answers[what], bare.parts(), bare.want)
	}
	moved("a verifier that wants no PCR", denial.Internal, func(w *attest.Want, _ *attest.EvidenceParts) { w.Selection.PCRs = nil })
	moved("a verifier that wants PCR 24", denial.Internal, func(w *attest.Want, _ *attest.EvidenceParts) { w.Selection.PCRs = append(slices.Clone(quoted), 24) })
	moved("a verifier that wants a PCR twice", denial.Internal, func(w *attest.Want, _ *attest.EvidenceParts) { w.Selection.PCRs = append(slices.Clone(quoted), 12) })
	moved("a verifier that wants PCR -1", denial.Internal, func(w *attest.Want, _ *attest.EvidenceParts) { w.Selection.PCRs = append([]int{-1}, quoted...) })
	moved("a verifier that wants the SHA-1 bank", denial.Internal, func(w *attest.Want, _ *attest.EvidenceParts) { w.Selection.Bank = "sha1" })
	moved("a verifier that binds the cnf key to nothing", denial.Internal, func(w *attest.Want, _ *attest.EvidenceParts) { w.Bind = nil })
	moved("a verifier that binds the cnf key to a PCR that is not quoted", denial.Internal, func(w *attest.Want, _ *attest.EvidenceParts) { w.Bind = []int{4, 9} })
}

// cnfKeys break the cnf key and its certification.
func cnfKeys(l *list, s *setup, h *host) {
	cnf := func(what string, code denial.Reason, edit func(*tpm2.TPMTPublic)) {
		spoilt := newHost(s, softtpm.Options{Edit: softtpm.Edit{CNF: edit}})
		l.evidence("binding", what, code, spoilt.parts(), spoilt.want)
	}
	attributes := func(edit func(*tpm2.TPMAObject)) func(*tpm2.TPMTPublic) {
		return func(p *tpm2.TPMTPublic) { edit(&p.ObjectAttributes) }
	}
	cnf("F24: a cnf key that a password can use", denial.KeyBinding, attributes(func(a *tpm2.TPMAObject) { a.UserWithAuth = true }))
	cnf("F24: a cnf key with the admin role by policy", denial.KeyBinding, attributes(func(a *tpm2.TPMAObject) { a.AdminWithPolicy = true }))
	cnf("F12: a cnf key that is not fixed to its TPM", denial.KeyBinding, attributes(func(a *tpm2.TPMAObject) { a.FixedTPM = false }))
	cnf("F12: a cnf key that is not fixed to its parent", denial.KeyBinding, attributes(func(a *tpm2.TPMAObject) { a.FixedParent = false }))
	cnf("F12: a cnf key that was imported", denial.KeyBinding, attributes(func(a *tpm2.TPMAObject) { a.SensitiveDataOrigin = false }))
	cnf("F12: a restricted cnf key", denial.KeyBinding, attributes(func(a *tpm2.TPMAObject) { a.Restricted = true }))
	cnf("F12: a cnf key that does not sign", denial.KeyBinding, attributes(func(a *tpm2.TPMAObject) { a.SignEncrypt = false }))
	cnf("F24: a cnf key whose policy is empty", denial.KeyBinding, func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = nil })
	cnf("F24: a cnf key whose policy names other values", denial.KeyBinding, func(p *tpm2.TPMTPublic) { p.AuthPolicy.Buffer = make([]byte, 32) })
	cnf("F12: a cnf key whose scheme has SHA-1", denial.KeyBinding, eccScheme(tpm2.TPMAlgSHA1))
	cnf("F12: a cnf key whose point is not on its curve", denial.KeyBinding, offCurve)
	cnf("F12: a cnf key on P-384", denial.KeyBinding, p384Point)
	cnf("F12: a cnf key whose name algorithm is SHA-384", denial.KeyBinding, func(p *tpm2.TPMTPublic) { p.NameAlg = tpm2.TPMAlgSHA384 })
	base := h.parts()
	swapped := func(what string, code denial.Reason, edit func(*attest.EvidenceParts)) {
		p := base
		edit(&p)
		l.evidence("binding", what, code, p, h.want)
	}
	other := h.parts()
	stranger := h.ven.New(s, softtpm.Options{})
	swapped("F12: a cnf key beside the certified one", denial.KeyBinding, func(p *attest.EvidenceParts) { p.CNF = other.CNF })
	swapped("F12: a byte behind the cnf key", denial.QuoteMalformed, func(p *attest.EvidenceParts) { p.CNF = append(slices.Clone(p.CNF), 0) })
	swapped("F12: certified by another AK", denial.KeyBinding, func(p *attest.EvidenceParts) { p.Certify.Signature = stranger.Sign(s, p.Certify.Attest) })
	swapped("Q02: the quote in place of the certification", denial.QuoteType, func(p *attest.EvidenceParts) {
		p.Certify = attest.Certification{Attest: p.Quote, Signature: p.Signature}
	})
	swapped("Q17: bytes behind the signature of the certification", denial.QuoteMalformed, func(p *attest.EvidenceParts) {
		p.Certify.Signature = append(slices.Clone(p.Certify.Signature), 0)
	})
	quoted, gate := attest.QualifyingData(h.want.Challenge, h.want.Request, h.want.Exporter), attest.GateQualifyingData(h.tpm.EKDigest())
	for what, edit := range map[string]func(*tpm2.TPMSAttest){
		"F12: certified by another key, as the certification says": func(a *tpm2.TPMSAttest) {
			a.QualifiedSigner.Buffer = slices.Clone(a.QualifiedSigner.Buffer)
			a.QualifiedSigner.Buffer[5] ^= 1
		},
		"F12: certified for another use":            func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = make([]byte, 32) },
		"F12: certified as a gate key":              func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = gate[:] },
		"F12: certified in answer to the challenge": func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = quoted[:] },
		"F12: the certification names another key": func(a *tpm2.TPMSAttest) {
			info := must(a.Attested.Certify())
			info.Name.Buffer = slices.Clone(info.Name.Buffer)
			info.Name.Buffer[5] ^= 1
		},
	} {
		l.evidence("binding", what, denial.KeyBinding, h.recertify(base, edit), h.want)
	}
	l.evidence("binding", "Q01: the magic of the certification is not that of a TPM", denial.QuoteMagic,
		h.recertify(base, func(a *tpm2.TPMSAttest) { a.Magic = 0x11223344 }), h.want)
}

// p384Point makes the key one of P-384 in a public area whose name algorithm stays SHA-256.
func p384Point(p *tpm2.TPMTPublic) {
	key := must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	point := must(key.PublicKey.Bytes())[1:]
	must(p.Parameters.ECCDetail()).CurveID = tpm2.TPMECCNistP384
	p.Unique = tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
		X: tpm2.TPM2BECCParameter{Buffer: point[:48]}, Y: tpm2.TPM2BECCParameter{Buffer: point[48:]}})
}
