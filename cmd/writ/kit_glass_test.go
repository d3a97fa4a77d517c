package main

import (
	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// glass makes a break-glass file that too few have signed, one without attestation, and records about it.
func (k *kit) glass() {
	p := digest(4)
	scope := k.scope()
	scope[0].Terms.Parameters = &p
	g := &record.BreakGlass{Version: record.Version, ID: fill(16, 0x5a), Host: hostURI, Audience: gateURI, Initiator: robotURI, Scope: must(scope.Encode())(k.t),
		Policy: record.Declared{ID: issuerURI + "/policy/authorization", Hash: fill(32, 9), Version: 1, Rule: "restore"}, IssuedAt: k.now, Expires: k.now + 900, Why: "the database is lost"}
	payload := must(statement.Marshal(g))(k.t)
	act := statement.DigestOf(payload)
	leaf := must(statement.Sign(k.t.Context(), k.by, statement.BreakGlass, statement.Claims{Issuer: issuerURI, Subject: g.Subject(issuerURI)}, payload))(k.t)
	ref := &record.PolicyRef{ID: issuerURI + "/policy/authorization", Hash: fill(32, 9)}
	proof := k.emitted(record.Record{Event: record.EventAttest, CTI: g.ID, Artifact: act[:], Workload: hostURI, Initiator: robotURI, Policy: ref, Appraisal: ref,
		Attested: &record.Attested{Key: k.cnf.Key(), AK: fill(34, 1), BootSeed: fill(32, 2), Version: 3}})
	genesis := must(record.DecodeBundle(k.files["genesis.act"]))(k.t)
	history := must(artifact.KeyHistory{Genesis: genesis, Changes: [][][]byte{}}.Encode())(k.t)
	f := artifact.GlassFile{History: history, Act: [][]byte{k.logged(leaf, k.now)}}
	k.files["bare.glass"] = must(f.Encode())(k.t)
	f.Attestation = k.logged(proof, k.now)
	k.files["file.glass"] = must(f.Encode())(k.t)
	k.files["glass-start.cose"] = k.emitted(record.Record{Event: record.EventStart, CTI: g.ID, Artifact: act[:], Glass: &record.Glass{Waived: []string{"mailto:ada@example.org", "mailto:bob@example.org"}},
		Execution: &record.Execution{ID: g.ID, Use: 1}})
}
