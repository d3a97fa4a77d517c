package main

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

// quoteFlags are what "writ inspect quote" checks beyond showing.
type quoteFlags struct {
	attest, signature, ak, nonce, pcrs, log string
}

func (a *app) inspectQuote() *cobra.Command {
	var f quoteFlags
	cmd := &cobra.Command{
		Use:   "quote FILE | quote --attest FILE --sig FILE --ak FILE",
		Short: "Explain a TPM quote, or the whole evidence of a host",
		Long: `Quote shows a TPMS_ATTEST, with or without its length, or an evidence collection. With --sig and --ak it also checks that the key
in the file signed it, and then with --nonce, --pcrs and --log that it answers this qualifying data, covers these values
and fits this boot log. Whose key that is, it does not know: the issuer does, from enrolment.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && f.attest == "" {
				f.attest = args[0]
			} else if len(args) == 1 || f.attest == "" {
				return misuse("name one file of a quote")
			}
			if err := f.check(); err != nil {
				return err
			}
			data, err := readInput(f.attest)
			if err != nil {
				return err
			}
			s, err := f.explain(data)
			view := &sheet{}
			view.put("verified", false)
			view.rows = append(view.rows, s.rows...)
			return a.showDenied(cmd, view, unverified+"\n"+s.String(), err)
		},
	}
	cmd.Flags().StringVar(&f.attest, "attest", "", "file of the quote, in place of FILE")
	cmd.Flags().StringVar(&f.signature, "sig", "", "file of the TPMT_SIGNATURE")
	cmd.Flags().StringVar(&f.ak, "ak", "", "file of the attestation key: TPM2B_PUBLIC, TPMT_PUBLIC or PEM")
	cmd.Flags().StringVar(&f.nonce, "nonce", "", "qualifying data that it should answer, in hexadecimal")
	cmd.Flags().StringVar(&f.pcrs, "pcrs", "", "JSON file with the quoted PCR values, as for writ inspect eventlog")
	cmd.Flags().StringVar(&f.log, "log", "", "boot log that should give these values")
	return cmd
}

// check refuses flags that mean nothing without others.
func (f *quoteFlags) check() error {
	switch {
	case (f.signature == "") != (f.ak == ""):
		return misuse("--sig and --ak go together")
	case f.signature == "" && (f.nonce != "" || f.pcrs != "" || f.log != ""):
		return misuse("--nonce, --pcrs and --log need --sig and --ak: without a signature they show nothing")
	case f.log != "" && f.pcrs == "":
		return misuse("--log needs --pcrs")
	}
	return nil
}

// explain shows a quote or evidence. The error is why it is refused; the sheet is there either way.
func (f *quoteFlags) explain(data []byte) (*sheet, error) {
	explain := explainAttestation
	if len(data) > 0 && data[0]>>5 == 5 { // a CBOR map; a TPMS_ATTEST begins with 0xFF or a small length
		if f.signature == "" {
			explain = explainEvidence
		} else if _, err := attest.DecodeEvidence(data); err == nil {
			return &sheet{}, misuse("--sig and --ak are for a quote by itself: evidence brings its own")
		}
	}
	s, err := explain(data)
	if err != nil {
		s = &sheet{}
		return s, putVerdict(s, "unreadable", err)
	}
	if f.signature == "" {
		return s, nil
	}
	q, err := f.files(data)
	if err != nil {
		return s, err
	}
	r, err := attest.CheckQuote(*q)
	if err != nil {
		return s, putVerdict(s, "inconsistent", err)
	}
	if err := f.putProved(s, r); err != nil {
		return s, err
	}
	return s, putVerdict(s, "consistent", nil)
}

// files reads what is to be held against the quote.
func (f *quoteFlags) files(data []byte) (*attest.QuoteFiles, error) {
	q := &attest.QuoteFiles{Attest: data}
	for _, in := range []struct {
		path string
		into *[]byte
	}{{f.signature, &q.Signature}, {f.ak, &q.AK}, {f.log, &q.Log}} {
		if in.path == "" {
			continue
		}
		var err error
		if *in.into, err = readInput(in.path); err != nil {
			return nil, err
		}
	}
	var err error
	if f.nonce != "" {
		if q.Nonce, err = hex.DecodeString(f.nonce); err != nil {
			return nil, misuse("--nonce wants hexadecimal digits")
		}
	}
	if f.pcrs != "" {
		q.PCRs, err = readPCRs(f.pcrs)
	}
	return q, err
}

// putProved adds what was checked and held.
func (f *quoteFlags) putProved(s *sheet, r *attest.QuoteReport) error {
	s.say("signature", true, "good: the key in "+f.ak+" made it; whose key that is was not checked")
	s.putText("ak_hierarchy", r.Hierarchy)
	if f.nonce != "" {
		s.say("nonce", true, "as given")
	}
	if f.pcrs != "" {
		s.say("pcr_values", true, "as given")
	}
	if len(r.Uncovered) > 0 {
		s.say("uncovered_pcrs", r.Uncovered, "10: the log says nothing of it; an operating system measures there with IMA")
	}
	return putBoot(s, r.Boot)
}

// putVerdict adds what has come of it, and returns the denial, if there is one.
func putVerdict(s *sheet, verdict string, err error) error {
	s.put("verdict", verdict)
	if err == nil {
		s.put("code", 0)
		return nil
	}
	d := denial.Of(err)
	s.put("code", d.Reason.Code())
	s.put("reason", d.Error())
	return d
}

// putBoot adds the facts of a boot log that gives the quoted values.
func putBoot(s *sheet, boot *attest.Claims) error {
	if boot == nil {
		return nil
	}
	facts, err := logFacts(*boot)
	if err != nil {
		return err
	}
	all := &sheet{}
	for _, name := range slices.Sorted(maps.Keys(facts)) {
		all.say(name, facts[name], compact(facts[name]))
	}
	s.put("facts", all)
	return nil
}

func explainAttestation(data []byte) (*sheet, error) {
	a, err := attest.ParseAttestation(data)
	if err != nil {
		return nil, err
	}
	s := &sheet{}
	s.say("magic", "TPM_GENERATED", "made inside a TPM, if the signature is that of a restricted key")
	s.put("type", a.Type)
	s.put("qualified_signer", a.Signer)
	s.put("extra_data", a.ExtraData)
	s.say("clock", map[string]any{"milliseconds": a.Clock.Milliseconds, "resets": a.Clock.Resets, "restarts": a.Clock.Restarts, "safe": a.Clock.Safe},
		clockWords(a.Clock.Milliseconds, a.Clock.Resets, a.Clock.Restarts, a.Clock.Safe))
	s.put("tpm_firmware", fmt.Sprintf("%016x", a.Firmware))
	if a.Type == "quote" {
		s.put("pcrs", explainQuoted(a.Banks))
		s.put("pcr_digest", a.Digest)
	} else {
		s.putIf("session_digest", a.Digest)
	}
	s.putIf("certified_name", a.Name)
	return s, nil
}

func explainQuoted(banks []attest.Quoted) *sheet {
	s := &sheet{}
	for _, b := range banks {
		var pcrs []string
		for _, p := range b.PCRs {
			pcrs = append(pcrs, strconv.Itoa(p))
		}
		s.say(b.Bank, append([]int{}, b.PCRs...), strings.Join(pcrs, ","))
	}
	return s
}

// explainEvidence shows what a host sent: quote, certification of the confirmation key, PCR values and boot log.
func explainEvidence(data []byte) (*sheet, error) {
	ev, err := attest.DecodeEvidence(data)
	if err != nil {
		return nil, err
	}
	p := ev.Parts()
	quote, err := explainAttestation(p.Quote)
	if err != nil {
		return nil, err
	}
	certify, err := explainAttestation(p.Certify.Attest)
	if err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("evidence", ev.Digest().String())
	s.put("challenge", p.Challenge[:])
	s.put("request", p.Request.String())
	if err := putNames(s, &p); err != nil {
		return nil, err
	}
	s.put("quote", quote)
	values := &sheet{}
	for _, pcr := range slices.Sorted(maps.Keys(p.PCRs)) {
		values.put(strconv.FormatInt(pcr, 10), p.PCRs[pcr])
	}
	s.put("bank", p.Bank)
	s.put("pcr_values", values)
	s.put("cnf_certification", certify)
	if p.Session != nil {
		session, err := explainSession(&p)
		if err != nil {
			return nil, err
		}
		s.put("audit_session", session)
	}
	log, _ := viewLog(p.BootLog, p.OSLog, map[string]map[int64][]byte{p.Bank: p.PCRs})
	s.say("boot_log", log, fmt.Sprintf("%d bytes, %d events, %s", len(p.BootLog), len(log.Events), log.verdictText()))
	if p.IMALog != nil {
		ima, _ := (&imaFlags{bank: p.Bank}).view(p.IMALog, p.PCRs[10], attest.IMAReference{})
		s.say("ima_log", ima, fmt.Sprintf("%d bytes, %s", len(p.IMALog), ima.summary()))
	}
	return s, nil
}

// explainSession shows which banks the TPM keeps, and what firmware measured into those that are not quoted.
func explainSession(p *attest.EvidenceParts) (*sheet, error) {
	words, err := p.Session.Explain(p.Bank)
	if err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("banks", words.Banks)
	s.put("boot_key", words.BootKey)
	s.put("attested_as_sent", words.Signed)
	for _, bank := range slices.Sorted(maps.Keys(words.PCRs)) {
		values := &sheet{}
		for _, pcr := range slices.Sorted(maps.Keys(words.PCRs[bank])) {
			values.put(strconv.FormatInt(pcr, 10), words.PCRs[bank][pcr])
		}
		s.put(bank, values)
	}
	return s, nil
}

// putNames adds the Names of the keys.
func putNames(s *sheet, p *attest.EvidenceParts) error {
	ak, err := attest.Name(p.AK)
	if err != nil {
		return err
	}
	cnf, err := attest.Name(p.CNF)
	if err != nil {
		return err
	}
	s.put("ak_name", ak)
	s.put("cnf_name", cnf)
	return nil
}
