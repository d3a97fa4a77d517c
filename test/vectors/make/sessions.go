package main

import (
	"bytes"
	"slices"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/test/vectors"
)

// sessionVectors break the audit session: what swtpm signed of one, with other answers or of another TPM, and sessions
// that no TPM would sign.
func sessionVectors(s *setup) []vectors.Vector {
	l := &list{prefix: "session", signer: "swtpm", layer: "session"}
	m := newMachine(s, "sha256", "sha384")
	wide, narrow := bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}}), bootlog.New(bootlog.Options{})
	audit := after{want: func(w *attest.Want) { w.Audit = true }}
	p, w := m.bootThen(wide, "sha256", quoted, audit)
	l.bad("an audit session of a TPM with two banks, both measured into", accepted, p, w)
	open, wOpen := m.bootThen(narrow, "sha256", quoted, audit)
	l.bad("L15: a bank that firmware left open", denial.BankUncapped, open, wOpen)
	open.BootLog = wide.Log
	l.bad("L15: a log that claims to be of a bank which was left open", denial.LogReplayMismatch, open, wOpen)
	none := p
	none.Session = nil
	l.bad("F21: no audit session", denial.TPMFirmware, none, w)
	other, _ := m.bootThen(wide, "sha256", quoted, audit)
	spoil := func(what string, code denial.Reason, edit func(*attest.AuditSession)) {
		q, c := p, *p.Session
		c.Responses = nil
		for _, r := range p.Session.Responses {
			c.Responses = append(c.Responses, bytes.Clone(r))
		}
		c.Attest, c.Signature = bytes.Clone(c.Attest), bytes.Clone(c.Signature)
		edit(&c)
		q.Session = &c
		l.bad(what, code, q, w)
	}
	const key, banks, read = 0, 1, 2
	put := func(n, at int, b ...byte) func(*attest.AuditSession) {
		return func(s *attest.AuditSession) { copy(s.Responses[n][at:], b) }
	}
	spoil("F21: the session of another challenge", denial.TPMFirmware, func(s *attest.AuditSession) { *s = *other.Session })
	spoil("F21: an answer that the TPM did not give", denial.TPMFirmware, func(s *attest.AuditSession) { s.Responses[read][len(s.Responses[read])-1] ^= 1 })
	spoil("F21: another boot key", denial.TPMFirmware, func(s *attest.AuditSession) { s.Responses[key][40] ^= 1 })
	spoil("L15: a bank hidden", denial.TPMFirmware, func(s *attest.AuditSession) {
		at := bytes.Index(s.Responses[banks], []byte{0, 0xc, 3, 0xff})
		copy(s.Responses[banks][at+3:], []byte{0, 0, 0})
		s.Responses = s.Responses[:read]
	})
	spoil("a session attestation with bytes behind it", denial.QuoteMalformed, func(s *attest.AuditSession) { s.Attest = append(s.Attest, 0) })
	spoil("the quote in place of the session attestation", denial.QuoteType, func(s *attest.AuditSession) { s.Attest, s.Signature = p.Quote, p.Signature })
	spoil("a session without a signature", denial.QuoteMalformed, func(s *attest.AuditSession) { s.Signature = []byte{0, 0x10} })
	spoil("a session signed by nobody", denial.TPMFirmware, func(s *attest.AuditSession) { s.Signature[len(s.Signature)-1] ^= 1 })
	spoil("a session with an empty response", denial.QuoteMalformed, func(s *attest.AuditSession) { s.Responses[banks] = nil })
	spoil("a session with a large response", denial.StructureLimit, func(s *attest.AuditSession) { s.Responses[banks] = make([]byte, 4097) })
	spoil("a session with many responses", denial.StructureLimit, func(s *attest.AuditSession) { s.Responses = slices.Repeat(s.Responses[read:], 65) })
	spoil("a session with a response less", denial.QuoteMalformed, func(s *attest.AuditSession) { s.Responses = s.Responses[:read] })
	spoil("a session with a response more", denial.QuoteMalformed, func(s *attest.AuditSession) { s.Responses = append(s.Responses, s.Responses[read]) })
	spoil("a session that made a key of another use", denial.QuoteMalformed, put(key, 9, 0))
	spoil("a session that made a key of another length", denial.QuoteMalformed, put(key, 0, 0, 20))
	spoil("a session whose key is cut short", denial.QuoteMalformed, func(s *attest.AuditSession) { s.Responses[key] = s.Responses[key][:20] })
	spoil("a session that tells of part of the banks", denial.QuoteMalformed, put(banks, 0, 1))
	spoil("a session that tells of something else than banks", denial.QuoteMalformed, put(banks, 4, 6))
	spoil("a session that tells of more banks than there are", denial.QuoteMalformed, put(banks, 5, 0, 0, 0, 17))
	spoil("a session that tells of a bank twice", denial.QuoteMalformed, func(s *attest.AuditSession) {
		at := bytes.Index(s.Responses[banks], []byte{0, 0xc, 3, 0xff})
		s.Responses[banks][at+1] = 0xb
	})
	spoil("a session that tells of banks with bytes behind them", denial.QuoteMalformed, func(s *attest.AuditSession) { s.Responses[banks] = append(s.Responses[banks], 0) })
	spoil("a session with a bitmap of two bytes", denial.QuoteMalformed, put(banks, 11, 2))
	spoil("a session that read two selections", denial.QuoteMalformed, put(read, 7, 2))
	spoil("a session that read another bank", denial.QuoteMalformed, put(read, 8, 0, 11))
	spoil("a session that read nothing", denial.QuoteMalformed, put(read, 11, 0))
	spoil("a session that read PCR 8", denial.QuoteMalformed, put(read, 12, 1))
	spoil("a session that read PCR 16", denial.QuoteMalformed, put(read, 13, 1))
	spoil("a session with fewer values than it says", denial.QuoteMalformed, put(read, 17, 9))
	spoil("a session with bytes behind its values", denial.QuoteMalformed, func(s *attest.AuditSession) { s.Responses[read] = append(s.Responses[read], 0) })

	l.signer = "software"
	for what, edit := range map[string]func(*tpm2.TPMSAttest){
		"F21: a session signed by an AK that calls itself another": func(a *tpm2.TPMSAttest) { a.QualifiedSigner.Buffer = make([]byte, 34) },
		"F21: a session signed in answer to something else":        func(a *tpm2.TPMSAttest) { a.ExtraData.Buffer = make([]byte, 32) },
	} {
		h := newHost(s, softtpm.Options{Edit: softtpm.Edit{Session: edit}})
		h.want.Audit = true
		l.bad(what, denial.TPMFirmware, h.parts(), h.want)
	}
	h := newHost(s, softtpm.Options{Edit: softtpm.Edit{Session: func(a *tpm2.TPMSAttest) { a.Magic = 0x11223344 }}})
	h.want.Audit = true
	l.bad("Q01: a session attestation without TPM magic", denial.QuoteMagic, h.parts(), h.want)
	return l.all
}
