package main

import (
	"bytes"
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
	signature, ak, nonce string
}

func (a *app) inspectQuote() *cobra.Command {
	var f quoteFlags
	cmd := &cobra.Command{
		Use:   "quote FILE",
		Short: "Explain a TPM quote, or the whole evidence of a host",
		Long: `Quote shows a TPMS_ATTEST, with or without its length, or an evidence collection. With --sig and --ak it also checks that the key
in the file signed it, and with --nonce that it answers this qualifying data. Whose key that is, it does not know: the
issuer does, from enrolment.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if (f.signature == "") != (f.ak == "") {
				return misuse("--sig and --ak go together")
			}
			data, err := readInput(args[0])
			if err != nil {
				return err
			}
			s, err := f.explain(data)
			if err != nil {
				return err
			}
			return a.show(cmd, s)
		},
	}
	cmd.Flags().StringVar(&f.signature, "sig", "", "file of the TPMT_SIGNATURE")
	cmd.Flags().StringVar(&f.ak, "ak", "", "file of the attestation key (TPM2B_PUBLIC)")
	cmd.Flags().StringVar(&f.nonce, "nonce", "", "qualifying data that it should answer, in hexadecimal")
	return cmd
}

func (f *quoteFlags) explain(data []byte) (*sheet, error) {
	if len(data) > 0 && data[0]>>5 == 5 { // a CBOR map; a TPMS_ATTEST begins with 0xFF or a small length
		return f.explainEvidence(data)
	}
	s, err := explainAttestation(data)
	if err != nil {
		return nil, err
	}
	return s, f.check(s, data)
}

// check adds what --sig, --ak and --nonce ask for.
func (f *quoteFlags) check(s *sheet, data []byte) error {
	if f.signature != "" {
		signature, err := readInput(f.signature)
		if err != nil {
			return err
		}
		ak, err := readInput(f.ak)
		if err != nil {
			return err
		}
		if err := attest.CheckSignature(data, signature, ak); err != nil {
			return err
		}
		s.say("signature", true, "good: the key in "+f.ak+" made it; whose key that is was not checked")
	}
	if f.nonce == "" {
		return nil
	}
	want, err := hex.DecodeString(f.nonce)
	if err != nil {
		return misuse("--nonce wants hexadecimal digits")
	}
	a, err := attest.ParseAttestation(data)
	if err != nil {
		return err
	}
	if !bytes.Equal(a.ExtraData, want) {
		return denial.New(denial.ChallengeMismatch, "the quote answers other qualifying data")
	}
	s.say("nonce", true, "the quote answers the given qualifying data")
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
func (f *quoteFlags) explainEvidence(data []byte) (*sheet, error) {
	if f.signature != "" || f.nonce != "" {
		return nil, misuse("--sig, --ak and --nonce are for a quote by itself: evidence brings its own")
	}
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
	log, _ := viewLog(p.BootLog, map[string]map[int64][]byte{p.Bank: p.PCRs})
	s.say("boot_log", log, fmt.Sprintf("%d bytes, %d events, %s", len(p.BootLog), len(log.Events), log.verdictText()))
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
