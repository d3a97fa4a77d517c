package main

import (
	"fmt"
	"strings"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// explainGlassFile shows what a gate is shown: what people allowed, who signed, and what the host has attested.
func explainGlassFile(f *artifact.GlassFile) (*sheet, error) {
	b, err := record.Bundle(f.Act).Encode()
	if err != nil {
		return nil, err
	}
	s, err := explainAct(b)
	if err != nil {
		return nil, err
	}
	out := &sheet{}
	out.say("file", "break-glass", "a break-glass authorization as a gate is shown it")
	history, err := artifact.DecodeKeyHistory(f.History)
	if err != nil {
		return nil, err
	}
	if len(history.Genesis) == 0 {
		return nil, denial.New(denial.ClaimAbsent, "the key history has no genesis")
	}
	genesis, err := statement.Decode(history.Genesis[0], statement.MaxStatement)
	if err != nil {
		return nil, err
	}
	out.put("genesis", statement.DigestOf(genesis.Payload()).String())
	out.put("key_changes", len(history.Changes))
	out.rows = append(out.rows, s.rows...)
	if f.Attestation == nil {
		out.say("attestation", nil, "none in this file: the gate takes it only if the quorum has waived it, and the gate's trust file accepts that")
		return out, nil
	}
	proof, err := explainStatement(f.Attestation)
	if err == nil {
		out.put("attestation", proof)
	}
	return out, err
}

// glassPayload says what people allow, to whom, where and for how long.
func glassPayload(payload []byte) (*sheet, error) {
	var g record.BreakGlass
	if err := statement.Unmarshal(payload, &g); err != nil {
		return nil, err
	}
	if err := g.Check(); err != nil {
		return nil, err
	}
	scope, err := artifact.DecodeScope(g.Scope)
	if err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("id", g.ID)
	s.put("justification", g.Why)
	s.put("host", g.Host)
	s.put("audience", g.Audience)
	s.put("initiator", g.Initiator)
	s.say("scope", strings.Split(scope.String(), "\n"), "may, once, "+strings.ReplaceAll(scope.String(), "\n", "\nand "))
	s.putTime("issued", g.IssuedAt)
	s.say("expires", stamp(g.Expires), fmt.Sprintf("%s, %d s after it was issued", stamp(g.Expires), g.Expires-g.IssuedAt))
	s.say("declared_by", map[string]any{"policy": g.Policy.ID, "version": g.Policy.Version, "hash": fmt.Sprintf("%x", g.Policy.Hash), "rule": g.Policy.Rule},
		fmt.Sprintf("rule %s of policy %s, version %d\n%x", g.Policy.Rule, g.Policy.ID, g.Policy.Version, g.Policy.Hash))
	if g.Waived != nil {
		s.say("attestation_waived_by", g.Waived, "attestation waived by "+strings.Join(g.Waived, " and ")+", who must all sign")
	} else {
		s.say("attestation_waived_by", []string{}, "nobody: the host must attest")
	}
	return s, nil
}

// reviewPayload says what people found afterwards.
func reviewPayload(payload []byte) (*sheet, error) {
	var r record.Review
	if err := statement.Unmarshal(payload, &r); err != nil {
		return nil, err
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("reviews", r.Act)
	s.say("justified", r.Justified, r.Words())
	s.put("finding", r.Finding)
	s.putTime("time", r.Time)
	return s, nil
}

// putGlass shows what a record says about break-glass.
func putGlass(s *sheet, r *record.Record) {
	if g := r.Glass; g != nil {
		use := &sheet{}
		use.say("host", map[string]any{"attestation": fmt.Sprintf("%x", g.Attestation), "waived": g.Waived}, g.Words())
		use.putIf("attestation", g.Attestation)
		s.put("by_break_glass", use)
	}
	if a := r.Attested; a != nil {
		proved := &sheet{}
		proved.put("confirmation_key", a.Key.Thumbprint().String())
		proved.put("attestation_key", a.AK)
		proved.put("boot_seed", a.BootSeed)
		proved.put("appraisal_policy_version", a.Version)
		s.put("attested", proved)
	}
}
