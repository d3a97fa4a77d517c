package main

import (
	"fmt"
	"strings"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/record"
)

// explainArtifact explains an artifact and refuses everything else.
func explainArtifact(data []byte) (*sheet, error) {
	if _, _, err := artifact.Inspect(data); err != nil {
		return nil, err
	}
	return explainStatement(data)
}

// artifactPayload says what an artifact allows, to whom, and on what grounds.
func artifactPayload(payload []byte) (*sheet, error) {
	c, err := artifact.DecodeClaims(payload)
	if err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("issuer", c.Issuer)
	s.put("host", c.Subject)
	s.put("audience", c.Audience)
	s.put("id", c.ID)
	s.put("execution", c.Execution.ID)
	s.putText("execution_kind", c.Execution.Kind)
	s.putTime("issued", c.IssuedAt)
	s.putTime("not_before", c.NotBefore)
	s.say("expires", stamp(c.Expires), fmt.Sprintf("%s, %d s after it was issued", stamp(c.Expires), c.Expires-min(c.IssuedAt, c.Expires)))
	s.say("scope", strings.Split(c.Scope.String(), "\n"), "may "+strings.ReplaceAll(c.Scope.String(), "\n", "\nand "))
	putLimits(s, c.Limits)
	s.put("initiator", explainInitiator(c.Initiator))
	s.put("policies", explainPolicies(c.Policy))
	s.put("confirmation_key", c.Confirmation.Key.Thumbprint().String())
	s.put("environment", explainEnvironment(c))
	s.put("lineage", explainLineage(c.Lineage))
	s.say("status", map[string]any{"list": c.Status.List.URI, "index": c.Status.List.Index},
		fmt.Sprintf("entry %d of %s", c.Status.List.Index, c.Status.List.URI))
	return s, nil
}

func putLimits(s *sheet, l *artifact.Limits) {
	if l == nil {
		s.say("uses", 1, "once")
		return
	}
	s.say("uses", max(l.Uses, 1), fmt.Sprintf("%d time(s)", max(l.Uses, 1)))
	if l.Depth > 0 {
		s.say("delegation_depth", l.Depth, fmt.Sprintf("may be delegated %d deep", l.Depth))
	}
	if l.Session > 0 {
		s.say("session_seconds", l.Session, fmt.Sprintf("a started execution may last %d s", l.Session))
	}
}

func explainInitiator(i artifact.Initiator) *sheet {
	s := &sheet{}
	s.put("principal", i.Principal)
	s.put("kind", record.InitiatorKind(i.Kind).String())
	s.put("authority", i.Authority)
	if i.Credential != nil {
		s.put("credential", i.Credential.String())
	}
	if i.Actor != nil {
		s.put("acting_for", explainInitiator(*i.Actor))
	}
	return s
}

func explainPolicies(p artifact.PolicyRef) *sheet {
	s := &sheet{}
	s.say("authorization", map[string]any{"id": p.ID, "version": p.Version, "hash": p.Hash.String()}, fmt.Sprintf("%s version %d\n%s", p.ID, p.Version, p.Hash))
	s.say("appraisal", map[string]any{"id": p.Appraisal.ID, "version": p.Appraisal.Version, "hash": p.Appraisal.Hash.String()},
		fmt.Sprintf("%s version %d\n%s", p.Appraisal.ID, p.Appraisal.Version, p.Appraisal.Hash))
	s.put("decision_input", p.Input.String())
	s.put("request", p.Request.String())
	return s
}

// explainEnvironment says what the host's TPM is claimed to have proved.
func explainEnvironment(c artifact.Claims) *sheet {
	e, s := c.Environment, &sheet{}
	var pcrs []string
	for _, b := range e.PCRs {
		pcrs = append(pcrs, fmt.Sprintf("%s PCRs %s digest %x", bankName(b.Bank), selected(b.Select), b.Digest))
	}
	s.put("pcrs", pcrs)
	secure := "off"
	if e.SecureBoot.Enabled {
		secure = "on"
	}
	s.say("secure_boot", e.SecureBoot.Enabled, secure)
	if e.SecureBoot.DBX != nil {
		s.put("dbx", e.SecureBoot.DBX.String())
	}
	s.putText("sbat_level", e.SecureBoot.SBATLevel)
	s.say("clock", map[string]any{"milliseconds": e.Clock.Milliseconds, "resets": e.Clock.Resets, "restarts": e.Clock.Restarts, "safe": e.Clock.Safe},
		clockWords(e.Clock.Milliseconds, e.Clock.Resets, e.Clock.Restarts, e.Clock.Safe))
	s.put("tpm_firmware", fmt.Sprintf("%016x", e.Firmware))
	s.put("attestation_key", e.AK.Name)
	if e.EK != nil {
		s.put("ek_certificate", e.EK.Certificate.String())
	}
	s.put("tpm", c.UEID)
	s.put("boot_seed", c.BootSeed)
	s.put("evidence", e.Evidence.String())
	s.put("cnf_name", e.CNFName)
	s.put("cnf_policy", e.CNFPolicy)
	return s
}

func clockWords(ms, resets, restarts uint64, safe bool) string {
	word := "safe"
	if !safe {
		word = "not safe"
	}
	return fmt.Sprintf("%d ms powered, %d resets, %d resumes since, %s", ms, resets, restarts, word)
}

func bankName(alg int64) string {
	switch alg {
	case artifact.SHA256:
		return "sha256"
	case artifact.SHA384:
		return "sha384"
	case artifact.SHA512:
		return "sha512"
	}
	return fmt.Sprintf("bank %d", alg)
}

// selected lists the PCRs of a selection bitmap.
func selected(bitmap []byte) string {
	var out []string
	for i := range 8 * len(bitmap) {
		if bitmap[i/8]>>(i%8)&1 == 1 {
			out = append(out, fmt.Sprint(i))
		}
	}
	return strings.Join(out, ",")
}

func explainLineage(l artifact.Lineage) *sheet {
	s := &sheet{}
	s.put("root", l.Root)
	s.put("depth", l.Depth)
	parents := []string{}
	for _, p := range l.Parents {
		parents = append(parents, fmt.Sprintf("%x statement %x", p.ID, p.Statement))
	}
	s.put("parents", parents)
	return s
}
