package issuertest

import (
	"encoding/hex"
	"encoding/pem"
	"fmt"

	"github.com/governed-execution/writ/artifact"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/softtpm"
)

// Sign makes an act of the persons.
func (w *World) Sign(kind statement.Kind, payload any, persons ...string) record.Bundle {
	w.Helper()
	return w.SignAs(Issuer, kind, payload, persons...)
}

// SignAs makes an act for any issuer.
func (w *World) SignAs(iss string, kind statement.Kind, payload any, persons ...string) record.Bundle {
	w.Helper()
	return w.SignWith(w.ActClaims(iss, kind, payload), kind, payload, persons...)
}

// ActClaims returns the claims of the next act of a kind about what its payload names: good for an hour from now.
func (w *World) ActClaims(iss string, kind statement.Kind, payload any) statement.Claims {
	w.Helper()
	c := statement.Claims{Issuer: iss, Subject: Must(record.SubjectOf(kind, iss, Must(statement.Marshal(payload))(w)))(w)}
	if kind.Acts() {
		c.IssuedAt, c.Expires = w.Seconds(), w.Seconds()+3600
		c.Sequence = Must(w.Issuer.NextAct(w.Ctx, kind, c.Subject))(w)
	}
	return c
}

// SignWith makes an act with any claims.
func (w *World) SignWith(c statement.Claims, kind statement.Kind, payload any, persons ...string) record.Bundle {
	w.Helper()
	raw := Must(statement.Marshal(payload))(w)
	var b record.Bundle
	for _, p := range persons {
		b = Must(record.SignAct(w.Ctx, b, w.Keys[p], kind, c, raw))(w)
	}
	return b
}

// Apply applies an act of all authorities, which must be accepted.
func (w *World) Apply(kind statement.Kind, payload any) {
	w.Helper()
	Must(w.Issuer.Apply(w.Ctx, kind, w.Sign(kind, payload, w.Persons...)))(w)
}

// Initiator returns the payload that registers a key, which it makes if there is none of the name.
func (w *World) Initiator(id string) record.Enrolment {
	w.Helper()
	if w.Keys[id] == nil {
		w.Keys[id] = NewKey(w)
	}
	return record.Enrolment{Version: record.Version, ID: id, Time: w.Seconds(), Nonce: Random(16),
		Initiator: &record.Initiator{Kind: record.Service, Key: w.Keys[id].Key()}}
}

// EnrolInitiator registers an initiator.
func (w *World) EnrolInitiator(id string) {
	w.Helper()
	w.Apply(statement.Enrolment, w.Initiator(id))
}

// Host is a machine with a software TPM and a gate.
type Host struct {
	URI, Gate string
	TPM       *softtpm.TPM
	Labels    map[string]string
	Key       *Key // of the gate
	Chain     Chain
}

// Chain is how a gate goes on with its records.
type Chain struct {
	Epoch, Previous []byte
	Next            uint64
}

// NewHost makes a machine that nobody knows.
func (w *World) NewHost(uri, gate string) *Host {
	w.Helper()
	t := w.Vendor.New(w, softtpm.Options{})
	t.CNF = ecdsaKey(w)
	return &Host{URI: uri, Gate: gate, TPM: t, Labels: map[string]string{"env": "test"}, Chain: Chain{Epoch: Random(16)}}
}

// Approval returns the payload by which authorities approve a host.
func (w *World) Approval(h *Host) record.Enrolment {
	ek := h.TPM.EKDigest()
	return record.Enrolment{Version: record.Version, ID: h.URI, Time: w.Seconds(), Nonce: Random(16),
		Host: &record.Host{EK: ek[:], Labels: h.Labels, Gate: h.Gate}}
}

// Approve has the authorities approve a host.
func (w *World) Approve(h *Host) {
	w.Helper()
	w.Apply(statement.Enrolment, w.Approval(h))
}

// Begin sends a host's enrolment request, with a new gate key, and opens the credential.
func (w *World) Begin(conn *issuer.Connection, h *Host) (secret []byte, err error) {
	w.Helper()
	request, key := h.TPM.GateRequest(w)
	cred, err := w.Issuer.BeginEnrolment(w.Ctx, conn, Must(request.Encode())(w))
	if err != nil {
		return nil, err
	}
	h.Key = &Key{Signer: Must(statement.NewSigner(key))(w)}
	return h.TPM.Activate(*cred)
}

// Activate enrols an approved host.
func (w *World) Activate(h *Host) {
	w.Helper()
	conn := issuer.NewConnection()
	secret := Must(w.Begin(conn, h))(w)
	Must(w.Issuer.FinishEnrolment(w.Ctx, conn, secret))(w)
}

// EnrolHost approves and enrols a new host.
func (w *World) EnrolHost(uri, gate string) *Host {
	w.Helper()
	h := w.NewHost(uri, gate)
	w.Approve(h)
	w.Activate(h)
	return h
}

// Policy returns the payload that publishes a policy.
func (w *World) Policy(toml string) record.Policy {
	w.Helper()
	doc := Must(firmwarepolicy.ParseTOML([]byte(toml)))(w)
	return record.Policy{Version: record.Version, Kind: record.PolicyKind(doc.Kind()), ID: doc.ID(), Revision: doc.Version(),
		Document: doc.Canonical(), Time: w.Seconds()}
}

// Publish publishes a policy.
func (w *World) Publish(toml string) {
	w.Helper()
	p := w.Policy(toml)
	w.Apply(statement.Policy, p)
}

// Appraisal returns a new version of the appraisal policy, with more at its end.
func (w *World) Appraisal(more ...string) string {
	w.versions[record.Appraisal]++
	text := fmt.Sprintf(`schema = 1
kind = "appraisal"
id = "https://issuer.example/policy/hosts"
version = %d
expires = 2030-01-01T00:00:00Z

[pcrs]
bank = "sha256"
quote = [0, 4, 7, 11]
bind = [4, 7, 11]

[limits]
evidence_age = "30s"

[reference]
pcr4 = [%q]

[[require]]
name = "secure-boot-on"
code = "SECURE_BOOT_OFF"
expr = "facts.secure_boot.enabled"

[[require]]
name = "boot-programs"
expr = "facts.pcr[4] in ref.pcr4"
`, w.versions[record.Appraisal], hex.EncodeToString(w.Boot.PCRs("sha256")[4]))
	for _, m := range more {
		text += m
	}
	return text
}

// Authorization returns a new version of the authorization policy: Robot may have Code run by Gate.
func (w *World) Authorization(more ...string) string {
	w.versions[record.Authorization]++
	text := fmt.Sprintf(`schema = 1
kind = "authorization"
id = "https://issuer.example/policy/who"
version = %d
expires = 2030-01-01T00:00:00Z

[[rule]]
name = "reconcile"
initiators = [%q]
audiences = [%q, %q]
lifetime = "600s"
uses = 2

[rule.hosts]
env = "test"

[[rule.scope]]
target = %q
operations = ["execute"]
code = [%q]
`, w.versions[record.Authorization], Robot, Gate, OtherGate, Target, hex.EncodeToString(Code[:]))
	for _, m := range more {
		text += m
	}
	return text
}

// Revocation returns the payload of a revocation.
func (w *World) Revocation(c record.Cause, target string) record.Revocation {
	return record.Revocation{Version: record.Version, Cause: c, Target: target, Time: w.Seconds(), Why: "a test", Nonce: Random(16)}
}

// Revoke revokes.
func (w *World) Revoke(c record.Cause, target string) {
	w.Helper()
	w.Apply(statement.Revocation, w.Revocation(c, target))
}

// Trust returns the trust file of a relying party and auditor.
func (w *World) Trust() *artifact.Trust {
	w.Helper()
	genesis := Must(statement.Decode(w.Act[0], statement.MaxStatement))(w)
	t := &artifact.Trust{Version: 1, Expires: w.Now().AddDate(1, 0, 0), Genesis: statement.DigestOf(genesis.Payload()), Issuer: Issuer, Log: Log,
		RevocationAge: artifact.DefaultRevocationAge, Lifetime: artifact.DefaultLifetime, Audience: Gate,
		Policies: []artifact.Pin{{ID: "https://issuer.example/policy/who", MinVersion: 1}, {ID: "https://issuer.example/policy/hosts", MinVersion: 1}},
		TPMRoots: []artifact.TPMRoot{{PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: w.Vendor.Root.Raw}))}}}
	t.PinKeys(w.Ring())
	return Must(artifact.ParseTrust(Must(t.Marshal())(w)))(w)
}
