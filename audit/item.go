package audit

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Item is one statement of a log in words: what it says. Whether that is true is what Verdict tells, and it is empty where
// nobody has verified it. Digests and ids are lower-case hexadecimal, times are seconds since 1970 UTC.
type Item struct {
	Index   uint64  `json:"index"`
	Digest  string  `json:"digest"` // statement digest
	Kind    string  `json:"kind"`
	Event   string  `json:"event,omitempty"` // of a record
	Time    uint64  `json:"time,omitempty"`  // by the statement's own word
	Logged  uint64  `json:"logged,omitempty"`
	Signer  string  `json:"signer"` // thumbprint of the key that the header names
	Verdict Verdict `json:"verdict,omitempty"`
	Why     string  `json:"why,omitempty"` // why it is not proved

	Initiator string     `json:"initiator,omitempty"`
	Host      string     `json:"host,omitempty"`
	Gate      string     `json:"gate,omitempty"`
	Artifact  string     `json:"artifact,omitempty"` // cti
	Execution string     `json:"execution,omitempty"`
	Policy    *PolicyID  `json:"policy,omitempty"`    // authorization
	Appraisal *PolicyID  `json:"appraisal,omitempty"` // or, of an act, nothing: see Act
	Scope     []string   `json:"scope,omitempty"`
	Expires   uint64     `json:"expires,omitempty"`
	Uses      uint64     `json:"uses,omitempty"` // allowed; of a start or an end, which use
	Parents   []string   `json:"parents,omitempty"`
	Program   string     `json:"program,omitempty"` // SHA-256 of what ran
	Exit      *int64     `json:"exit,omitempty"`
	Ended     uint64     `json:"ended_by_gate,omitempty"` // code for which the gate ended it
	Left      uint64     `json:"left_behind,omitempty"`   // processes that the gate killed at its end
	Refusal   *Refusal   `json:"refusal,omitempty"`
	Held      bool       `json:"held,omitempty"` // the host gets nothing more until authorities approve it anew
	Machine   *Machine   `json:"machine,omitempty"`
	Act       *ActWords  `json:"act,omitempty"`
	Enrolled  *Enrolled  `json:"enrolled,omitempty"`
	Birth     *BirthSeen `json:"birth,omitempty"`
	Keys      []KeySeen  `json:"keys,omitempty"`   // of a key change
	Counts    []Count    `json:"counts,omitempty"` // of a summary
	Since     uint64     `json:"since,omitempty"`
	Kept      *Kept      `json:"kept,omitempty"`
	Glass     *GlassSeen `json:"break_glass,omitempty"`

	input     []byte // SHA-256 of the decision input
	started   string // of an end: statement digest of its start
	enrolment string // statement digest of the host's enrolment record
	registry  string // payload digest of the initiator's enrolment
}

// GlassSeen is what a statement tells of a break-glass authorization.
type GlassSeen struct {
	Act       string   `json:"act"`                 // SHA-256 of the payload of the authorization
	Why       string   `json:"why,omitempty"`       // of the authorization, for people
	Waived    []string `json:"waived,omitempty"`    // persons who waive attestation
	Rule      string   `json:"rule,omitempty"`      // of the policy
	Justified *bool    `json:"justified,omitempty"` // of a review
	Finding   string   `json:"finding,omitempty"`   // of a review, for people
	Host      string   `json:"host,omitempty"`      // of a start: what is known of the host
}

// Kept is what has become of payloads.
type Kept struct {
	What   string `json:"what"`             // in words
	Hold   string `json:"hold,omitempty"`   // name of the legal hold that was placed or lifted
	Reason string `json:"reason,omitempty"` // for the hold, in the operator's words
	Lifted bool   `json:"lifted,omitempty"` // the hold was lifted
}

// PolicyID names a policy.
type PolicyID struct {
	ID      string `json:"id"`
	Version uint64 `json:"version,omitempty"`
	Hash    string `json:"hash"`
}

// Refusal is why something was denied.
type Refusal struct {
	Code         int      `json:"code"`
	Name         string   `json:"name"`
	Meaning      string   `json:"meaning"`
	Condition    string   `json:"condition"`
	Stage        string   `json:"stage,omitempty"`
	Detail       string   `json:"detail,omitempty"`
	Requirements []string `json:"requirements,omitempty"`
	Checks       []Check  `json:"checks,omitempty"` // in order
	Fault        bool     `json:"fault,omitempty"`  // of the issuer
}

// Check is the state of one stage of a decision.
type Check struct {
	Stage string `json:"stage"`
	State string `json:"state"` // success, fail, not run or absent (RFC 9711, measres)
}

// Machine is the state of a host as its TPM proved it.
type Machine struct {
	EK          string            `json:"ek"` // SHA-256 of TPMT_PUBLIC
	AK          string            `json:"ak"` // TPM Name
	SecureBoot  string            `json:"secure_boot"`
	PCRs        []string          `json:"pcrs,omitempty"` // bank, selection and digest of each quote
	Firmware    string            `json:"firmware"`       // TPMS_ATTEST.firmwareVersion
	Resets      uint64            `json:"resets"`
	Restarts    uint64            `json:"restarts"`
	Programs    []string          `json:"programs,omitempty"` // boot programs, in order, by digest
	CommandLine []string          `json:"command_line,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Evidence    string            `json:"evidence"` // SHA-256 as submitted
}

// ActWords is what authorities signed.
type ActWords struct {
	ID      string    `json:"id"`      // policy, host, initiator, or what is revoked
	What    string    `json:"what"`    // in words
	Payload string    `json:"payload"` // SHA-256: one act, several signatures
	Policy  *PolicyID `json:"policy,omitempty"`
	Why     string    `json:"why,omitempty"` // of a revocation, for people
	Cause   string    `json:"cause,omitempty"`
	Subject string    `json:"subject"`           // host, initiator, policy kind
	Number  uint64    `json:"number,omitempty"`  // of the acts of its kind about its subject; break-glass has none
	Expires uint64    `json:"expires,omitempty"` // of its approvals: it was logged before

	Personal []Personal `json:"personal,omitempty"` // what an enrolment commits to
}

// Enrolled is the binding of an AK to a host.
type Enrolled struct {
	EK      string `json:"ek"`
	AK      string `json:"ak"` // TPM Name
	Method  string `json:"method"`
	Act     string `json:"act"` // payload digest of the approval
	GateKey string `json:"gate_key,omitempty"`
}

// KeySeen is a step of a key change.
type KeySeen struct {
	Purpose    string `json:"purpose"`
	Thumbprint string `json:"thumbprint"`
	From       string `json:"from"`
	To         string `json:"to"`
	Fell       uint64 `json:"fell,omitempty"` // compromised since then
}

// BirthSeen is a key of the issuer as its token described it.
type BirthSeen struct {
	Purpose    string            `json:"purpose"`
	Thumbprint string            `json:"thumbprint"`
	Attributes map[string]string `json:"attributes"`
	Token      map[string]string `json:"token"`
}

// Describe says what an entry of a log says. It verifies nothing.
func Describe(index uint64, leaf []byte) (*Item, error) {
	e, err := readEntry(index, leaf)
	if err != nil {
		return nil, err
	}
	return describe(e)
}

func describe(e *entry) (*Item, error) {
	it := &Item{Index: e.index, Digest: e.digest.String(), Kind: e.kind.String(), Time: e.env.Claims().IssuedAt, Logged: e.logged}
	if id, ok := e.env.KeyID(); ok {
		it.Signer = id.String()
	}
	switch {
	case e.claims != nil:
		it.permit(e.claims)
	case e.record != nil:
		it.tell(e.record)
	case record.IsAct(e.kind):
		return it, it.act(e)
	}
	return it, nil
}

func (it *Item) permit(c *artifact.Claims) {
	it.input = c.Policy.Input.Value
	it.Time, it.Initiator, it.Host, it.Gate = c.IssuedAt, c.Initiator.Principal, c.Subject, c.Audience
	it.Artifact, it.Execution = hex.EncodeToString(c.ID), hex.EncodeToString(c.Execution.ID)
	it.Policy = &PolicyID{c.Policy.ID, c.Policy.Version, hex.EncodeToString(c.Policy.Hash.Value)}
	it.Appraisal = &PolicyID{c.Policy.Appraisal.ID, c.Policy.Appraisal.Version, hex.EncodeToString(c.Policy.Appraisal.Hash.Value)}
	it.Scope, it.Expires, it.Uses = scopeWords(c.Scope), c.Expires, c.Limits.MaxUses()
	for _, p := range c.Lineage.Parents {
		it.Parents = append(it.Parents, hex.EncodeToString(p.ID))
	}
	m := &Machine{AK: hex.EncodeToString(c.Environment.AK.Name), Firmware: fmt.Sprintf("%#x", c.Environment.Firmware), Resets: c.Environment.Clock.Resets,
		Restarts: c.Environment.Clock.Restarts, SecureBoot: "off", Evidence: hex.EncodeToString(c.Environment.Evidence.Value)}
	if c.Environment.SecureBoot.Enabled {
		m.SecureBoot = "on"
	}
	if len(c.UEID) == 33 {
		m.EK = hex.EncodeToString(c.UEID[1:])
	}
	for _, p := range c.Environment.PCRs {
		m.PCRs = append(m.PCRs, pcrWords(p))
	}
	it.Machine = m
}

var banks = map[int64]string{artifact.SHA256: "sha256", artifact.SHA384: "sha384", artifact.SHA512: "sha512"}

func pcrWords(p artifact.PCRBinding) string {
	var which []string
	for i := range 8 * len(p.Select) {
		if p.Select[i/8]>>(i%8)&1 == 1 {
			which = append(which, fmt.Sprint(i))
		}
	}
	return fmt.Sprintf("%s PCR %s: %s", banks[p.Bank], strings.Join(which, ","), hex.EncodeToString(p.Digest))
}

func scopeWords(s artifact.Scope) (out []string) {
	for _, p := range s {
		words := p.Terms.Operations.String() + " " + p.Target
		for _, c := range p.Terms.Code {
			words += ", code " + hex.EncodeToString(c.Value)
		}
		out = append(out, words)
	}
	return out
}

func (it *Item) tell(r *record.Record) {
	it.Event, it.Time, it.Initiator, it.Host = r.Event.String(), r.Time, r.Initiator, r.Workload
	it.Artifact, it.Since, it.input = hex.EncodeToString(r.CTI), r.Since, r.Input
	if r.Event == record.EventStart || r.Event == record.EventEnd || r.Previous != nil {
		it.Gate = r.Emitter.URI
	}
	it.Policy, it.Appraisal = policyID(r.Policy), policyID(r.Appraisal)
	if x := r.Execution; x != nil {
		it.Execution, it.Uses, it.Program = hex.EncodeToString(x.ID), x.Use, hex.EncodeToString(x.Code)
		if r.Event == record.EventEnd {
			it.Exit, it.Ended, it.Left, it.started = &x.Status, x.Ended, x.Left, hex.EncodeToString(x.Start)
		}
	}
	if len(r.Reasons) > 0 {
		it.Refusal, it.Held = refusalWords(r), r.Hold
	}
	if en := r.Enrolled; en != nil {
		it.Host = en.Host
		it.Enrolled = &Enrolled{EK: hex.EncodeToString(en.EK), Method: en.Method, Act: hex.EncodeToString(en.Enrolment)}
		if name, err := attest.Name(en.AK); err == nil {
			it.Enrolled.AK = hex.EncodeToString(name)
		}
		if en.GateKey != nil {
			it.Enrolled.GateKey = en.GateKey.Thumbprint().String()
		}
	}
	if k := r.Retention; k != nil {
		it.Kept = &Kept{What: k.Words(), Hold: k.Name, Reason: k.Reason, Lifted: k.Act == record.Released}
	}
	if r.Glass != nil {
		it.Glass = &GlassSeen{Act: hex.EncodeToString(r.Artifact), Waived: r.Glass.Waived, Host: r.Glass.Words()}
	}
	if r.Attested != nil {
		it.Glass = &GlassSeen{Act: hex.EncodeToString(r.Artifact)}
	}
	if b := r.Birth; b != nil {
		it.Birth = &BirthSeen{b.Purpose, b.Key.Thumbprint().String(), b.Attributes, b.Token}
	}
	counts := map[class]uint64{}
	for code, n := range r.Counts {
		counts[class{kind: denial.Reason(code).String(), code: code}] = n
	}
	it.Counts = countsOf(counts)
}

func policyID(p *record.PolicyRef) *PolicyID {
	if p == nil {
		return nil
	}
	return &PolicyID{ID: p.ID, Hash: hex.EncodeToString(p.Hash)}
}

func refusalWords(r *record.Record) *Refusal {
	reason := denial.Reason(min(r.Reasons[0], 999))
	out := &Refusal{Code: int(r.Reasons[0]), Name: reason.String(), Meaning: reason.Meaning(), Condition: reason.Condition().String(),
		Detail: r.Detail, Requirements: r.Requirements, Fault: r.Outcome == record.Failed}
	if r.Stage != 0 {
		out.Stage = denial.Stage(r.Stage).String()
	}
	words := map[uint8]string{uint8(denial.Success): "success", uint8(denial.Fail): "fail", uint8(denial.NotRun): "not run", uint8(denial.Absent): "absent"}
	for _, stage := range sortedStages(r.Checks) {
		out.Checks = append(out.Checks, Check{denial.Stage(stage).String(), words[r.Checks[stage]]})
	}
	return out
}

func sortedStages(m map[uint64]uint8) []uint64 {
	keys := make([]uint64, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// act describes a statement of the authorities.
func (it *Item) act(e *entry) error {
	payload, claims := e.env.Payload(), e.env.Claims()
	it.Act = &ActWords{Payload: statement.DigestOf(payload).String(), Subject: e.kind.String(), Number: claims.Sequence, Expires: claims.Expires}
	switch e.kind {
	case statement.Genesis:
		return told(payload, func(g *record.Genesis) {
			it.Time, it.Act.ID, it.Act.What = g.Time, g.Log, "genesis: the authorities, their quorums and the keys of the issuer"
		})
	case statement.Policy:
		return it.policy(payload)
	case statement.Enrolment:
		return told(payload, it.enrolmentAct)
	case statement.Revocation:
		return told(payload, func(r *record.Revocation) {
			it.Time, it.Act.ID, it.Act.Cause, it.Act.Why = r.Time, r.Target, r.Cause.String(), r.Why
			it.Act.What = "revocation of the " + r.Cause.String()
		})
	case statement.KeyChange:
		c, err := record.ReadKeyChange(payload)
		if err == nil {
			it.keyChange(c)
		}
		return err
	case statement.Epoch:
		return told(payload, func(p *record.Epoch) {
			it.Time, it.Act.ID, it.Act.Why, it.Act.Subject = p.Time, fmt.Sprintf("epoch %d", p.Number), p.Why, "log"
			it.Act.What = "epoch after a restore: " + p.Words()
		})
	case statement.BreakGlass:
		var g record.BreakGlass
		if err := statement.Unmarshal(payload, &g); err != nil {
			return err
		}
		return it.breakGlass(&g)
	case statement.Review:
		return told(payload, func(r *record.Review) {
			it.Time, it.Act.ID, it.Act.Why, it.Act.What = r.Time, hex.EncodeToString(r.Act), r.Finding, "break-glass review: "+r.Words()
			it.Glass = &GlassSeen{Act: it.Act.ID, Justified: &r.Justified, Finding: r.Finding}
		})
	}
	return nil
}

// told decodes a payload and tells what is in it.
func told[T any](payload []byte, tell func(*T)) error {
	var v T
	err := statement.Unmarshal(payload, &v)
	if err == nil {
		tell(&v)
	}
	return err
}

func (it *Item) policy(payload []byte) error {
	p, doc, err := policyOf(payload)
	if err != nil {
		return err
	}
	it.Time, it.Act.ID, it.Act.Subject = p.Time, p.ID, string(p.Kind)
	it.Act.Policy = &PolicyID{p.ID, p.Revision, doc.Hash().String()}
	it.Act.What = fmt.Sprintf("%s policy version %d", p.Kind, p.Revision)
	return nil
}

// policyOf reads the payload of a policy act, and the document in it, whether or not they fit each other.
func policyOf(payload []byte) (p record.Policy, doc *firmwarepolicy.Document, err error) {
	if err = statement.Unmarshal(payload, &p); err == nil {
		doc, err = firmwarepolicy.Decode(p.Document)
	}
	return p, doc, err
}

// keyChange tells what becomes of each key.
func (it *Item) keyChange(c *record.KeyChange) {
	it.Time, it.Act.ID, it.Act.Why, it.Act.Subject = c.Time, fmt.Sprintf("key change %d", c.Sequence), c.Why, "keys of the issuer"
	if c.People != nil {
		it.Act.Subject, it.Act.What = "authorities", "change of authorities: "+peopleWords(c.People)
		return
	}
	var words []string
	for _, s := range c.Steps {
		k := KeySeen{Purpose: s.Purpose, Thumbprint: hex.EncodeToString(s.Key), From: s.From.String(), To: s.To.String()}
		if s.To == record.KeyCompromised {
			k.Fell = s.Since
		}
		it.Keys = append(it.Keys, k)
		if s.To != record.KeyPreActive || len(c.Steps) == 1 {
			words = append(words, s.Purpose+" key "+k.To)
		}
	}
	it.Act.What = "key change: " + strings.Join(words, ", ")
}

// peopleWords tells who the authorities are to be, and how many must sign in each role.
func peopleWords(p *record.People) string {
	var roles []string
	for _, role := range slices.Sorted(maps.Keys(p.Quorums)) {
		roles = append(roles, fmt.Sprintf("%s takes %s", role, p.Quorums[role].Words()))
	}
	words := strings.Join(roles, "; ")
	if len(p.Reset) > 0 {
		words += fmt.Sprintf("; the versions of %v begin anew", p.Reset)
	}
	return words
}

func (it *Item) breakGlass(g *record.BreakGlass) error {
	scope, err := artifact.DecodeScope(g.Scope)
	if err != nil {
		return err
	}
	id := hex.EncodeToString(g.ID)
	it.Time, it.Host, it.Gate, it.Initiator, it.Artifact, it.Execution = g.IssuedAt, g.Host, g.Audience, g.Initiator, id, id
	it.Scope, it.Expires, it.Uses = scopeWords(scope), g.Expires, 1
	it.Policy = &PolicyID{g.Policy.ID, g.Policy.Version, hex.EncodeToString(g.Policy.Hash)}
	it.Act.ID, it.Act.Why, it.Act.What = id, g.Why, "break-glass authorization"
	it.Glass = &GlassSeen{Act: it.Act.Payload, Why: g.Why, Waived: g.Waived, Rule: g.Policy.Rule}
	return nil
}

func (it *Item) enrolmentAct(en *record.Enrolment) {
	it.Time, it.Act.ID, it.Act.Personal = en.Time, en.ID, personalOf(en.Personal)
	switch {
	case en.Host != nil:
		it.Host, it.Gate, it.Act.Subject, it.Act.What = en.ID, en.Host.Gate, "host", "approval of a host"
		it.Enrolled = &Enrolled{EK: hex.EncodeToString(en.Host.EK)}
	case en.Initiator != nil:
		it.Initiator, it.Act.Subject = en.ID, "initiator"
		it.Act.What = "registration of an initiator: " + en.Initiator.Kind.String()
	}
}

// Enrich adds what the canonical decision input of the statement says: the facts about the machine, what was asked for,
// and the statements that host and initiator were enrolled by.
func (it *Item) Enrich(input []byte) error {
	in, err := decision.DecodeInput(input)
	if err != nil {
		return err
	}
	it.Execution, it.Gate = hex.EncodeToString(in.Request.Execution.ID), in.Request.Audience
	if len(it.Scope) == 0 {
		it.Scope = scopeWords(in.Request.Scope)
	}
	if it.Policy != nil && it.Appraisal != nil {
		it.Policy.Version, it.Appraisal.Version = in.Authorization.Version, in.Appraisal.Version
	}
	it.enrolment, it.registry = hex.EncodeToString(in.Host.Enrolment), hex.EncodeToString(in.Initiator.Enrolment)
	f := in.Facts
	m := &Machine{EK: hex.EncodeToString(in.Host.EK), AK: f.AK, SecureBoot: "not measured", Firmware: fmt.Sprintf("%#x", f.Firmware), Resets: f.Clock.Resets,
		Restarts: f.Clock.Restarts, CommandLine: f.CommandLine, Labels: in.Host.Labels, Evidence: hex.EncodeToString(in.Evidence)}
	var which []string
	for _, n := range slices.Sorted(maps.Keys(f.PCR)) {
		which = append(which, fmt.Sprint(n))
	}
	m.PCRs = []string{fmt.Sprintf("%s PCR %s: %s", f.Bank, strings.Join(which, ","), f.PCRDigest)}
	switch {
	case f.SecureBoot.Enabled:
		m.SecureBoot = "on"
	case f.SecureBoot.Present:
		m.SecureBoot = "off"
	}
	for _, a := range f.BootApps {
		m.Programs = append(m.Programs, a.Digest)
	}
	it.Machine = m
	return nil
}

// Permitted reports whether the statement is an artifact.
func (it *Item) Permitted() bool { return it.Kind == statement.Artifact.String() }

// Name says what the statement is, in few words.
func (it *Item) Name() string {
	switch {
	case it.Permitted():
		return "permit"
	case it.Act != nil:
		return it.Act.What
	case it.Event != "":
		return it.Event
	}
	return it.Kind
}
