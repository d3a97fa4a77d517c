package main

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

func genesisPayload(payload []byte) (*sheet, error) {
	var g record.Genesis
	if err := statement.Unmarshal(payload, &g); err != nil {
		return nil, err
	}
	if err := g.Check(); err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("act", statement.DigestOf(payload).String())
	s.put("issuer", g.Issuer)
	s.put("log", g.Log)
	s.putTime("time", g.Time)
	s.put("epoch", g.Epoch)
	keys := &sheet{}
	for _, purpose := range slices.Sorted(maps.Keys(g.Keys)) {
		keys.put(purpose, g.Keys[purpose].Thumbprint().String())
	}
	s.put("issuer_keys", keys)
	putPeople(s, g.Authorities, g.Quorums, g.OnePerson)
	s.put("tpm_roots", hexes(g.Roots))
	return s, nil
}

// putPeople shows who the authorities are and what they may do.
func putPeople(s *sheet, authorities []record.Authority, roles map[record.Role]record.Quorum, onePerson bool) {
	people := []string{}
	for _, a := range authorities {
		people = append(people, a.Key.Thumbprint().String()+" "+a.Person)
	}
	s.put("authorities", people)
	quorums := &sheet{}
	for _, role := range slices.Sorted(maps.Keys(roles)) {
		putQuorum(quorums, role, roles[role])
	}
	s.put("quorums", quorums)
	if onePerson {
		s.say("one_person", true, "yes: there is no dual control, nobody but the author approves anything")
	}
}

func putQuorum(s *sheet, role record.Role, q record.Quorum) {
	value := map[string]any{"threshold": q.Threshold, "persons": q.Persons}
	if q.Narrow != 0 {
		value["narrow"] = q.Narrow
	}
	s.say(string(role), value, q.Words())
}

func hexes(all [][]byte) []string {
	out := []string{}
	for _, b := range all {
		out = append(out, fmt.Sprintf("%x", b))
	}
	return out
}

func policyPayload(payload []byte) (*sheet, error) {
	p, doc, err := firmwarepolicy.Published(payload)
	if err != nil {
		return nil, err
	}
	text, err := doc.TOML()
	if err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("policy", string(p.Kind))
	s.put("id", p.ID)
	s.put("version", p.Revision)
	s.put("hash", doc.Hash().String())
	s.putTime("time", p.Time)
	s.put("toml", string(text))
	return s, nil
}

func enrolmentPayload(payload []byte) (*sheet, error) {
	var e record.Enrolment
	if err := statement.Unmarshal(payload, &e); err != nil {
		return nil, err
	}
	if err := e.Check(); err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("id", e.ID)
	s.putTime("time", e.Time)
	if e.Initiator != nil {
		s.put("initiator", e.Initiator.Kind.String())
		s.put("key", e.Initiator.Key.Thumbprint().String())
	}
	if h := e.Host; h != nil {
		trusted := "a certificate chain to a TPM vendor's root"
		if h.Listed {
			trusted = "this enrolment alone, without a certificate"
		}
		s.put("host_ek", h.EK)
		s.say("listed", h.Listed, "the EK is trusted by "+trusted)
		labels := []string{}
		for _, k := range slices.Sorted(maps.Keys(h.Labels)) {
			labels = append(labels, k+"="+h.Labels[k])
		}
		s.put("labels", labels)
		s.putText("gate", h.Gate)
	}
	if len(e.Personal) > 0 {
		personal := &sheet{}
		for _, field := range slices.Sorted(maps.Keys(e.Personal)) {
			personal.say(field, hex.EncodeToString(e.Personal[field]), "withheld, committed to by "+hex.EncodeToString(e.Personal[field]))
		}
		s.put("personal", personal)
	}
	return s, nil
}

func revocationPayload(payload []byte) (*sheet, error) {
	var r record.Revocation
	if err := statement.Unmarshal(payload, &r); err != nil {
		return nil, err
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("revokes", r.Cause.String())
	s.put("target", r.Target)
	s.say("code", r.Cause.Reason().Code(), fmt.Sprintf("gates refuse with %d %s", r.Cause.Reason().Code(), r.Cause.Reason()))
	s.putTime("time", r.Time)
	s.putText("why", r.Why)
	return s, nil
}

func requestPayload(payload []byte) (*sheet, error) {
	var c artifact.RequestClaims
	if err := statement.Unmarshal(payload, &c); err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("initiator", c.Initiator)
	s.put("host", c.Host)
	s.put("audience", c.Audience)
	if c.BreakGlass != nil {
		s.say("break_glass", fmt.Sprintf("%x", c.BreakGlass), fmt.Sprintf("an attestation is asked for, not an artifact: for break-glass authorization %x", c.BreakGlass))
	}
	s.put("request_id", c.ID)
	s.put("execution", c.Execution.ID)
	s.putTime("issued", c.IssuedAt)
	s.putTime("expires", c.Expires)
	s.say("scope", strings.Split(c.Scope.String(), "\n"), "asks to "+strings.ReplaceAll(c.Scope.String(), "\n", "\nand to "))
	putLimits(s, c.Limits)
	s.say("lifetime_seconds", c.Lifetime, fmt.Sprintf("asks for %d s", c.Lifetime))
	s.put("confirmation_key", c.Confirmation.Key)
	s.put("parents", hexes(c.Parents))
	return s, nil
}

func delegationPayload(payload []byte) (*sheet, error) {
	var c artifact.DelegationClaims
	if err := statement.Unmarshal(payload, &c); err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("delegator", c.Delegator)
	s.put("parent", hex.EncodeToString(c.Parent))
	s.put("initiator", c.Initiator)
	s.put("host", c.Host)
	s.put("audience", c.Audience)
	s.put("delegation_id", c.ID)
	s.putTime("issued", c.IssuedAt)
	s.putTime("expires", c.Expires)
	s.say("scope", strings.Split(c.Scope.String(), "\n"), "lets the initiator ask to "+strings.ReplaceAll(c.Scope.String(), "\n", "\nand to "))
	putLimits(s, c.Limits)
	return s, nil
}

// possession are the claims of a proof of possession (docs/formats).
type possession struct {
	Audience   string          `cbor:"3,keyasint"`
	IssuedAt   uint64          `cbor:"6,keyasint"`
	Nonce      []byte          `cbor:"10,keyasint"`
	Profile    string          `cbor:"265,keyasint"`
	Artifact   []byte          `cbor:"-90009,keyasint"`
	Parameters artifact.Digest `cbor:"-90010,keyasint"`
}

func possessionPayload(payload []byte) (*sheet, error) {
	var c possession
	if err := statement.Unmarshal(payload, &c); err != nil {
		return nil, err
	}
	s := &sheet{}
	s.put("audience", c.Audience)
	s.putTime("issued", c.IssuedAt)
	s.put("nonce", c.Nonce)
	s.put("artifact", c.Artifact)
	s.put("parameters", c.Parameters.String())
	return s, nil
}

// manifestPayload shows a hash envelope (RFC 9995): the payload is the digest of what was signed.
func manifestPayload(payload []byte) (*sheet, error) {
	if len(payload) != 32 {
		return nil, denial.New(denial.PayloadForm, "the payload of a hash envelope with SHA-256 has 32 bytes")
	}
	s := &sheet{}
	s.put("manifest_sha256", payload)
	return s, nil
}
