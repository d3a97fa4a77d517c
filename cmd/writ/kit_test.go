package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/imalog"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/test/stock"
)

const (
	issuerURI = "https://issuer.example"
	logURI    = "https://issuer.example/log"
	gateURI   = "https://gate.example/a"
	hostURI   = "spiffe://example/host/a"
	listURI   = "https://issuer.example/v1/status/0"
	robotURI  = "spiffe://example/robot"
)

// kit makes one valid file of every sort, as an issuer, its authorities and a host would.
type kit struct {
	t                                      testing.TB
	artifact, record, log, status, cnf, by statement.Signer
	now                                    uint64
	files                                  map[string][]byte
}

func must[T any](v T, err error) func(testing.TB) T { return stock.Must(v, err) }

func newKit(t testing.TB) *kit {
	k := &kit{t: t, now: uint64(time.Now().Unix()), files: map[string][]byte{}}
	for _, s := range []*statement.Signer{&k.artifact, &k.record, &k.log, &k.status, &k.cnf, &k.by} {
		*s = stock.Signer(t)
	}
	k.trust()
	k.permits()
	k.statements()
	k.acts()
	k.glass()
	k.host()
	k.bundle()
	k.ceremony()
	return k
}

func (k *kit) trust() {
	trust := &artifact.Trust{Version: 1, Expires: time.Now().Add(time.Hour).Truncate(time.Second).UTC(), Genesis: sha256.Sum256([]byte("genesis")),
		Issuer: issuerURI, Log: logURI, Audience: gateURI, RevocationAge: time.Minute, Lifetime: time.Hour,
		Keys: []artifact.TrustKey{{Purpose: artifact.PurposeArtifact, Key: k.artifact.Key()}, {Purpose: artifact.PurposeRecord, Key: k.record.Key()},
			{Purpose: artifact.PurposeLog, Key: k.log.Key()}, {Purpose: artifact.PurposeStatus, Key: k.status.Key()}},
		Policies: []artifact.Pin{{ID: issuerURI + "/policy/authorization", MinVersion: 1}, {ID: issuerURI + "/policy/appraisal", MinVersion: 1}}}
	k.files["trust.toml"] = must(trust.Marshal())(k.t)
}

func fill(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }

func digest(b byte) artifact.Digest {
	return artifact.Digest{Algorithm: artifact.SHA256, Value: fill(32, b)}
}

func (k *kit) scope() artifact.Scope {
	return artifact.Scope{{Target: "file:/usr/bin/report", Terms: artifact.Terms{Operations: artifact.Execute, Code: []artifact.Digest{digest(9)}}}}
}

// claims returns the claims of an artifact that was issued at a time.
func (k *kit) claims(issued uint64) artifact.Claims {
	name := append([]byte{0, 0x0b}, fill(32, 7)...)
	return artifact.Claims{
		Issuer: issuerURI, Subject: hostURI, Audience: gateURI, Expires: issued + 300, NotBefore: issued, IssuedAt: issued,
		ID: fill(16, 1), Confirmation: artifact.Confirmation{Key: k.cnf.Key()}, Scope: k.scope(), Challenge: fill(32, 2),
		UEID: artifact.UEID([32]byte{1}), Profile: artifact.Profile, BootSeed: artifact.BootSeed(name, 4, 0),
		Status: artifact.StatusClaim{List: artifact.StatusRef{Index: 3, URI: listURI}},
		Environment: artifact.Environment{PCRs: []artifact.PCRBinding{{Bank: artifact.SHA256, Select: []byte{0x95, 0, 0}, Digest: fill(32, 3)}},
			AK: artifact.AK{Thumbprint: fill(32, 4), Name: name}, SecureBoot: artifact.SecureBoot{Enabled: true},
			Clock: artifact.Clock{Milliseconds: 9, Resets: 4, Safe: true}, Firmware: 7, Evidence: digest(6), CNFName: name, CNFPolicy: fill(32, 8)},
		Initiator: artifact.Initiator{Principal: robotURI, Authority: issuerURI, Kind: 1},
		Policy: artifact.PolicyRef{ID: issuerURI + "/policy/authorization", Hash: digest(9), Version: 1, Input: digest(10),
			Appraisal: artifact.PolicyName{ID: issuerURI + "/policy/appraisal", Hash: digest(11), Version: 1}, Request: digest(12)},
		Lineage:   artifact.Lineage{Root: fill(16, 1), Parents: []artifact.Parent{}, Origin: robotURI},
		Execution: artifact.Execution{ID: fill(16, 12)}, Limits: &artifact.Limits{Uses: 2},
	}
}

// logged attaches the receipt of entry 1 of a tree of two entries.
func (k *kit) logged(leaf []byte, at uint64) []byte {
	first, second := receipt.LeafHash([]byte("genesis")), receipt.LeafHash(leaf)
	root := sha256.Sum256(append([]byte{1}, append(first[:], second[:]...)...))
	head := must(receipt.SignHead(k.t.Context(), k.log, issuerURI, logURI, receipt.Head{Size: 2, Root: root, Time: at}))(k.t)
	r := must(receipt.Make(head, 2, 1, []receipt.Hash{first}))(k.t)
	k.files["receipt.cose"] = r
	k.files["growth.cose"] = must(receipt.MakeConsistency(head, 1, 2, []receipt.Hash{second}))(k.t)
	return must(statement.Attach(leaf, r))(k.t)
}

func (k *kit) permits() {
	for name, issued := range map[string]uint64{"artifact.cose": k.now, "expired.cose": k.now - 3600} {
		leaf := must(artifact.Sign(k.t.Context(), k.artifact, k.claims(issued)))(k.t)
		k.files[name] = k.logged(leaf, issued)
		k.files["unlogged.cose"] = leaf
	}
	for name, value := range map[string]artifact.StatusValue{"status.cwt": artifact.StatusValid, "revoked.cwt": artifact.StatusHost} {
		k.files[name] = must(artifact.SignStatus(k.t.Context(), k.status, artifact.StatusList{Issuer: issuerURI, URI: listURI, IssuedAt: k.now,
			Expires: k.now + 600, TTL: 60, Values: []artifact.StatusValue{0, 0, 0, value}}))(k.t)
	}
}

// emitted signs a record.
func (k *kit) emitted(r record.Record) []byte {
	r.Version, r.Time, r.Emitter = record.Version, k.now, record.Emitter{URI: issuerURI, Epoch: fill(16, 1), Seq: 7}
	return must(r.Sign(k.t.Context(), k.record, issuerURI))(k.t)
}

func (k *kit) statements() {
	refusal := record.Record{Initiator: robotURI, RequestID: fill(16, 3)}
	refusal.FillDenial(denial.New(denial.LogReplayMismatch, "PCR 9 is not what the event log gives").At(denial.StageFacts),
		map[uint64]uint8{uint64(denial.StageQuote): uint8(denial.Success), uint64(denial.StageFacts): uint8(denial.Fail)})
	k.files["denial.cose"] = k.emitted(refusal)
	k.files["summary.cose"] = k.emitted(record.Record{Event: record.EventSummary, Counts: map[uint64]uint64{301: 4, 999: 1}, Since: k.now - 60})
	k.files["end.cose"] = k.emitted(record.Record{Event: record.EventEnd, CTI: fill(16, 1), Artifact: fill(32, 2),
		Execution: &record.Execution{ID: fill(16, 12), Use: 1, Start: fill(32, 5), Status: -9}})
	k.files["enrolled.cose"] = k.emitted(record.Record{Event: record.EventEnrol, Enrolled: &record.Enrolled{Host: hostURI, AK: fill(88, 1), EK: fill(32, 2),
		Method: "chain", Enrolment: fill(32, 3), Request: fill(32, 4)}})
	k.files["held.cose"] = k.emitted(record.Record{Event: record.EventKept, Retention: &record.Retention{Act: record.Held, Index: 12, Name: "case 7", Reason: "litigation"}})
	k.files["birth.cose"] = k.emitted(record.Record{Event: record.EventKey, Birth: &record.Birth{Purpose: "log", Key: k.log.Key(),
		Attributes: map[string]string{"CKA_SENSITIVE": "true"}, Token: map[string]string{"label": "writ"}}})
	k.files["request.cose"] = must(artifact.SignRequest(k.t.Context(), k.by, artifact.RequestClaims{Initiator: robotURI, Host: hostURI, Audience: gateURI,
		IssuedAt: k.now, Expires: k.now + 120, ID: fill(16, 3), Confirmation: artifact.Thumbprint{Key: fill(32, 4)}, Scope: k.scope(),
		Execution: artifact.Execution{ID: fill(16, 12)}, Lifetime: 300}))(k.t)
	k.files["delegation.cose"] = must(artifact.SignDelegation(k.t.Context(), k.cnf, artifact.DelegationClaims{Delegator: hostURI, Host: hostURI + "/b", Audience: gateURI,
		IssuedAt: k.now, Expires: k.now + 120, ID: fill(16, 4), Scope: k.scope(), Limits: &artifact.Limits{Uses: 2, Depth: 1}, Parent: fill(32, 5), Initiator: robotURI}))(k.t)
	k.files["possession.cose"] = must(artifact.SignPossession(k.t.Context(), k.cnf, artifact.Possession{Holder: hostURI, Audience: gateURI,
		Artifact: [32]byte{1}, Parameters: digest(2), Nonce: [32]byte{3}, IssuedAt: k.now}))(k.t)
	capsule := must(statement.Marshal(map[string]any{"__cmwc_t": "https://example.org/capsule", "outcome": []any{"text/plain", []byte("x"), 8}}))(k.t)
	k.files["capsule.cose"] = must(statement.Sign(k.t.Context(), k.record, statement.Capsule, statement.Claims{Issuer: issuerURI, Subject: hostURI,
		IssuedAt: k.now}, capsule))(k.t)
	k.files["manifest.cose"] = must(statement.Sign(k.t.Context(), k.record, statement.Manifest, statement.Claims{Issuer: issuerURI, Subject: logURI},
		fill(32, 6)))(k.t)
}

func (k *kit) acts() {
	genesis := &record.Genesis{Version: record.Version, Issuer: issuerURI, Log: logURI, Time: k.now, Epoch: fill(16, 1),
		Authorities: []record.Authority{{Person: "mailto:ada@example.org", Key: k.by.Key()}}, OnePerson: true, Quorums: map[record.Role]record.Quorum{},
		Keys:  map[string]statement.Key{"artifact": k.artifact.Key(), "record": k.record.Key(), "log": k.log.Key(), "status": k.status.Key()},
		Roots: [][]byte{fill(32, 1)}}
	for _, role := range record.Roles() {
		genesis.Quorums[role] = record.Quorum{Threshold: 1, Persons: []string{"mailto:ada@example.org"}}
	}
	payload := must(statement.Marshal(genesis))(k.t)
	d := record.Draft{Kind: statement.Genesis.String(), Issuer: issuerURI, Subject: logURI, Payload: payload}
	k.files["genesis.draft"] = must(d.Encode())(k.t)
	b := must(d.Sign(k.t.Context(), k.by))(k.t)
	k.files["genesis.act"] = must(b.Encode())(k.t)
	k.keyChange()
	// Two statements that are not one act.
	b = append(b, k.files["denial.cose"])
	k.files["mixed.act"] = must(b.Encode())(k.t)
}

// keyChange drafts the change that puts another log key in use.
func (k *kit) keyChange() {
	old, next := k.log.Key().Thumbprint(), k.by.Key()
	id := next.Thumbprint()
	said := must(record.SignSuccession(k.t.Context(), k.log, issuerURI, record.Succession{Version: record.Version, Purpose: "log", Key: next, Previous: fill(32, 1)}))(k.t)
	payload := must(statement.Marshal(record.KeyChange{Version: record.Version, Sequence: 1, Previous: fill(32, 1), Time: k.now, Why: "cryptoperiod", Steps: []record.KeyStep{
		{Purpose: "log", Key: id[:], To: record.KeyPreActive, Since: k.now, Succession: said, Birth: &record.Birth{Purpose: "log", Key: next,
			Attributes: map[string]string{"CKA_LOCAL": "true"}, Token: map[string]string{"label": "writ"}}},
		{Purpose: "log", Key: old[:], From: record.KeyActive, To: record.KeyCompromised, Since: k.now},
		{Purpose: "log", Key: id[:], From: record.KeyPreActive, To: record.KeyActive}}}))(k.t)
	d := record.Draft{Kind: statement.KeyChange.String(), Issuer: issuerURI, Subject: record.KeySubject(issuerURI), Payload: payload,
		Drafted: k.now, Expires: k.now + 3600, Sequence: 1}
	k.files["succession.cose"], k.files["keys.draft"] = said, must(d.Encode())(k.t)
	d.Drafted, d.Expires = k.now-7200, k.now-3600
	k.files["expired.draft"] = must(d.Encode())(k.t)
}

// host makes what comes from a machine and its TPM.
func (k *kit) host() {
	boot := bootlog.New(bootlog.Options{Banks: []string{"sha1", "sha256"}, Locality: 3})
	forged := bootlog.New(bootlog.Options{Banks: []string{"sha1", "sha256"}, Locality: 3, CommandLine: "init=/bin/sh"})
	k.files["other.log"] = bootlog.New(bootlog.Options{Locality: 3, CommandLine: "init=/bin/sh"}).Log
	k.files["boot.log"], k.files["forged.log"], k.files["empty"] = boot.Log, forged.Log, nil
	values := map[string]string{}
	for pcr, v := range boot.PCRs("sha256") {
		if pcr < 10 {
			values[string('0'+rune(pcr))] = hex.EncodeToString(v)
		}
	}
	k.files["pcrs.json"] = must(json.Marshal(map[string]any{"replayed": map[string]any{"sha256": values}}))(k.t)
	k.files["sha1.json"] = []byte(`{"replayed":{"sha1":{"0":"00"}}}`)
	t := softtpm.NewVendor(k.t).New(k.t, softtpm.Options{})
	e := t.Evidence(k.t, attest.Want{AK: t.AK, Challenge: attest.Nonce{1}, Request: statement.DigestOf([]byte("request")), Exporter: [32]byte{7},
		Selection: attest.Selection{Bank: "sha256", PCRs: []int{0, 4, 7}}, Bind: []int{4, 7}, Audit: true}, boot.PCRs("sha256"), boot.Log)
	k.files["evidence.cbor"] = must(e.Encode())(k.t)
	k.files["quote.attest"], k.files["quote.sig"], k.files["ak.pub"], k.files["ek.der"] = e.Quote, e.Signature, t.AK, append(t.Certificate, fill(40, 0xff)...)
	k.files["certify.attest"] = e.Certify.Attest
	k.measured(boot)
}

// measured makes an IMA list of which the last entry was measured after the quote, and evidence with it.
func (k *kit) measured(boot *bootlog.Boot) {
	pcrs := boot.PCRs("sha256")
	list := imalog.New("sha256", pcrs)
	list.File("/usr/bin/agent", "agent")
	list.File("/tmp/a\nb", "other")
	list.Violation("/var/log/messages")
	pcrs[10] = list.PCR10("sha256")
	list.Buffer(".ima", "certificate")
	k.files["ima.list"] = list.Bytes
	t := softtpm.NewVendor(k.t).New(k.t, softtpm.Options{})
	e := t.Evidence(k.t, attest.Want{AK: t.AK, Challenge: attest.Nonce{1}, Request: statement.DigestOf([]byte("request")), Exporter: [32]byte{7},
		Selection: attest.Selection{Bank: "sha256", PCRs: []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}}, Bind: []int{4, 7}}, pcrs, boot.Log)
	e.IMALog = list.Bytes
	k.files["measured.cbor"] = must(e.Encode())(k.t)
}

// bundle packs a bundle with a manifest and a member of every sort. No issuer has signed it.
func (k *kit) bundle() {
	m := manifest{Version: 1, Issuer: issuerURI, Log: logURI, Head: head{Size: 2, Root: [32]byte{5}, Time: k.now},
		Files: [][]statement.RawItem{}, Lacks: [][]audit.Lack{{{Index: 1, Part: "evidence", Reason: "lost"}}}, Counts: [][]audit.Count{{{Kind: "record", Event: 1, Code: 603, N: 1}}}}
	m.Query.To = 2
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range []struct {
		name string
		data []byte
	}{
		{"capsules/00.cmw", k.files["capsule.cose"]}, {"checkpoint", nil}, {"keys/scitt-keys.cbor", nil},
		{"manifest.cbor", must(statement.Marshal(&m))(k.t)}, {"manifest.cose", k.files["manifest.cose"]}, {"policy/00.cbor", nil},
		{"proofs/0000000000000000.tlog-proof", nil}, {"receipts/0000000000000000.receipt", nil},
		{"receipts/consistency-0000000000000002.receipt", k.files["growth.cose"]},
		{"statements/0000000000000000.scitt", k.files["artifact.cose"]}, {"statements/0000000000000001.scitt", k.files["denial.cose"]},
		{"statements/0000000000000002.scitt", []byte("no statement")}, {"status/0000000000000000.cwt", nil}, {"tlog-policy", nil}, {"x\x1b[2J", nil},
	} {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Typeflag: tar.TypeReg, Size: int64(len(f.data)), Mode: 0o644, Format: tar.FormatPAX}); err != nil {
			k.t.Fatal(err)
		}
		if _, err := w.Write(f.data); err != nil {
			k.t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		k.t.Fatal(err)
	}
	k.files["bundle.tar"] = b.Bytes()
}
