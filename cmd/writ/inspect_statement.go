package main

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// maxEnvelope bounds a statement with its receipts: the largest kind is a capsule.
const maxEnvelope = 10 << 20

// explainFile explains a statement (a tagged COSE_Sign1), an act (an array of statements), a draft or a break-glass file
// (maps), told apart by their form.
func explainFile(data []byte) (*sheet, error) {
	if len(data) > 0 && data[0]>>5 == 4 {
		return explainAct(data)
	}
	if artifact.IsGlassFile(data) {
		if f, err := artifact.DecodeGlassFile(data); err == nil {
			return explainGlassFile(f)
		}
		return explainDraft(data)
	}
	return explainStatement(data)
}

// explainDraft shows what an authority would sign.
func explainDraft(data []byte) (*sheet, error) {
	d, err := record.DecodeDraft(data)
	if err != nil {
		return nil, err
	}
	s := &sheet{}
	s.say("kind", d.Kind, "draft of: "+d.Kind+", not signed by anybody")
	s.put("issuer", d.Issuer)
	s.put("subject", d.Subject)
	putTerms(s, d.Claims())
	s.put("act", statement.DigestOf(d.Payload).String())
	for _, k := range statement.Kinds() {
		if k.String() == d.Kind {
			return s, putPayload(s, k, d.Payload)
		}
	}
	return s, nil
}

// explainAct shows what was signed, and each signature. Statements that differ are shown one by one: no issuer takes
// them for one act.
func explainAct(data []byte) (*sheet, error) {
	b, err := record.DecodeBundle(data)
	if err != nil {
		return nil, err
	}
	var all, signatures []*sheet
	var first *statement.Envelope
	same := true
	for _, raw := range b {
		env, err := statement.Decode(raw, maxEnvelope)
		if err != nil {
			return nil, err
		}
		full, err := explainEnvelope(env)
		if err != nil {
			return nil, err
		}
		if first == nil {
			first = env
		}
		same = same && env.Kind() == first.Kind() && env.Claims() == first.Claims() && bytes.Equal(env.Payload(), first.Payload())
		all, signatures = append(all, full), append(signatures, explainSignature(env))
	}
	s := &sheet{}
	s.say("signatures_on_file", len(b), fmt.Sprintf("%d statement(s)", len(b)))
	if !same {
		s.say("one_act", false, "no: the statements differ")
		s.put("statement", all)
		return s, nil
	}
	s.put("act", statement.DigestOf(first.Payload()).String())
	s.put("signature", signatures)
	for _, r := range all[0].rows {
		if !slices.Contains([]string{"digest", "bytes", "algorithm", "key"}, r.name) { // each signature has its own
			s.rows = append(s.rows, r)
		}
	}
	return s, nil
}

func explainSignature(env *statement.Envelope) *sheet {
	s := &sheet{}
	if kid, ok := env.KeyID(); ok {
		s.put("key", kid.String())
	}
	s.put("algorithm", algorithm(env))
	s.put("digest", env.Digest().String())
	return s
}

func explainStatement(data []byte) (*sheet, error) {
	env, err := statement.Decode(data, maxEnvelope)
	if err != nil {
		return nil, err
	}
	return explainEnvelope(env)
}

// explainEnvelope shows header, payload and receipts.
func explainEnvelope(env *statement.Envelope) (*sheet, error) {
	s, claims := &sheet{}, env.Claims()
	s.put("kind", env.Kind().String())
	s.putText("type", env.Kind().MediaType())
	s.put("digest", env.Digest().String())
	s.put("bytes", len(env.Leaf()))
	s.put("algorithm", algorithm(env))
	if kid, ok := env.KeyID(); ok {
		s.put("key", kid.String())
	}
	s.putText("header_issuer", claims.Issuer)
	s.putText("header_subject", claims.Subject)
	putTerms(s, claims)
	if err := putPayload(s, env.Kind(), env.Payload()); err != nil {
		return nil, err
	}
	return s, putReceipts(s, env)
}

// putTerms shows when something was signed or drafted and, of an act, until when and in which place it is good.
func putTerms(s *sheet, c statement.Claims) {
	if c.IssuedAt != 0 {
		s.putTime("header_issued", c.IssuedAt)
	}
	if c.Expires != 0 {
		s.say("header_expires", stamp(c.Expires), stamp(c.Expires)+": logged before that or not at all")
	}
	if c.Sequence != 0 {
		s.say("header_sequence", c.Sequence, fmt.Sprintf("number %d about this subject, after %d", c.Sequence, c.Sequence-1))
	}
}

func putReceipts(s *sheet, env *statement.Envelope) error {
	if env.Kind() == statement.Receipt {
		r, err := explainReceipt(env)
		if err == nil {
			s.put("receipt", r)
		}
		return err
	}
	raw, err := env.Receipts()
	if err != nil {
		return err
	}
	receipts := []*sheet{}
	for _, r := range raw {
		env, err := statement.Decode(r, statement.MaxStatement)
		if err != nil {
			return err
		}
		one, err := explainReceipt(env)
		if err != nil {
			return err
		}
		receipts = append(receipts, one)
	}
	if len(receipts) == 0 {
		s.say("receipt", receipts, "none")
		return nil
	}
	s.put("receipt", receipts)
	return nil
}

// algorithm names the algorithm that the header claims.
func algorithm(env *statement.Envelope) string {
	alg, err := env.Algorithm()
	if err != nil {
		return "none that is allowed"
	}
	names := map[statement.Algorithm]string{statement.ES256: "ES256", statement.EdDSA: "EdDSA", statement.ESP256: "ESP256",
		statement.Ed25519: "Ed25519", statement.ES384: "ES384", statement.ESP384: "ESP384"}
	return names[alg]
}

// putPayload explains the payload under its kind. A payload that its kind's reader refuses is refused here too.
func putPayload(s *sheet, kind statement.Kind, payload []byte) error {
	explain, ok := map[statement.Kind]func([]byte) (*sheet, error){
		statement.Artifact: artifactPayload, statement.Genesis: genesisPayload, statement.Policy: policyPayload,
		statement.Enrolment: enrolmentPayload, statement.Revocation: revocationPayload, statement.Record: recordPayload,
		statement.Request: requestPayload, statement.Possession: possessionPayload, statement.StatusList: statusPayload,
		statement.Manifest: manifestPayload, statement.Capsule: capsulePayload, statement.Ceremony: ceremonyPayload,
		statement.KeyChange: keyChangePayload, statement.Succession: successionPayload,
		statement.BreakGlass: glassPayload, statement.Review: reviewPayload, statement.Epoch: epochPayload,
		statement.Delegation: delegationPayload,
	}[kind]
	if !ok {
		if payload == nil {
			s.say("payload", nil, "detached")
		} else {
			s.put("payload_bytes", len(payload))
		}
		return nil
	}
	content, err := explain(payload)
	if err == nil {
		s.put("content", content)
	}
	return err
}

// diagnose renders a file, and the payload in it, in CBOR diagnostic notation.
func diagnose(s *sheet, data []byte) error {
	text, err := statement.Diagnose(data)
	if err != nil {
		return err
	}
	s.put("diagnostic", text)
	if payload, ok := payloadOf(data); ok && statement.Scan(payload) == nil {
		if text, err = statement.Diagnose(payload); err != nil {
			return err
		}
		s.put("payload_diagnostic", text)
	}
	return nil
}

// payloadOf finds the payload of a statement, an act or a draft that was explained.
func payloadOf(data []byte) ([]byte, bool) {
	if f, err := artifact.DecodeGlassFile(data); err == nil {
		data = f.Act[0]
	}
	if d, err := record.DecodeDraft(data); err == nil {
		return d.Payload, true
	}
	if b, err := record.DecodeBundle(data); err == nil {
		data = b[0]
	}
	env, err := statement.Decode(data, maxEnvelope)
	if err != nil || env.Payload() == nil {
		return nil, false
	}
	return env.Payload(), true
}
