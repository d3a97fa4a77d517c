package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/governed-execution/writ/ceremony"
	"github.com/governed-execution/writ/cmd/command"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

func (a *app) ceremonyCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "ceremony", Short: "Verify how the keys of an issuer were made"}
	var script string
	var given []string
	verify := &cobra.Command{
		Use:   "verify TRANSCRIPT --script SCRIPT.toml --participant PERSON=KEY.pub …",
		Short: "Verify the transcript of a key ceremony offline, with the script and the keys of all who took part",
		Long: `Verify needs nobody's word but yours: the script, and the public key of each custodian and witness as you have it from that
person. It says which keys were made, step by step, and refuses a transcript in which anything is missing, moved or changed.
What it cannot show is that the token and the people told the truth. The births in the issuer's log name the same transcript.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.verifyCeremony(cmd, args[0], script, given) },
	}
	verify.Flags().StringVar(&script, "script", "", "the script")
	verify.Flags().StringArrayVar(&given, "participant", nil, "PERSON=FILE: the URI of a participant, and the public key (PEM) that you have from that person; repeat")
	_ = verify.MarkFlagRequired("script")
	_ = verify.MarkFlagRequired("participant")
	cmd.AddCommand(verify)
	return cmd
}

func (a *app) verifyCeremony(cmd *cobra.Command, path, script string, given []string) error {
	keys := map[string]statement.Key{}
	for _, g := range given {
		person, file, ok := strings.Cut(g, "=")
		if !ok || keys[person].Valid() {
			return misuse("--participant wants PERSON=FILE, once for each person")
		}
		var err error
		if keys[person], err = readPublic(file); err != nil {
			return err
		}
	}
	src, err := command.ReadFile(script, command.Small)
	if err != nil {
		return fmt.Errorf("reading script: %w", err)
	}
	transcript, err := command.ReadFile(path, ceremony.MaxTranscript)
	if err != nil {
		return fmt.Errorf("reading transcript: %w", err)
	}
	st, err := ceremony.Verify(src, transcript, keys)
	var d *denial.Denial
	switch {
	case errors.As(err, &d):
		return err
	case err != nil:
		return misuse("%s: %w", script, err)
	}
	return a.print(cmd, st.Report(), st.Report().String())
}

// ceremonyPayload shows what somebody who takes part in a ceremony signs.
func ceremonyPayload(payload []byte) (*sheet, error) {
	var e ceremony.Entry
	if err := statement.Unmarshal(payload, &e); err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("script", e.Script)
	s.say("step", e.Step, fmt.Sprintf("number %d of the script", e.Step))
	s.put("does", string(e.Do))
	s.put("transcript_before", e.Previous)
	s.putTime("time", e.Time)
	s.putText("why", e.Why)
	if e.Key != nil {
		s.put("key", explainBirth(e.Key))
	}
	if e.Persons != nil {
		s.say("persons", e.Persons, strings.Join(e.Persons, ", "))
	}
	putHostQuote(s, e.Quote)
	return s, nil
}

// putHostQuote adds the quote of the host on which a key was made, if there is one.
func putHostQuote(s *sheet, q *record.HostQuote) {
	if q == nil {
		return
	}
	of := &sheet{}
	of.put("attest", q.Attest)
	of.put("signature", q.Signature)
	of.put("ak_public", q.AK)
	of.put("bank", q.Bank)
	s.put("host_quote", of)
}
