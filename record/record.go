package record

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Event is what an audit record tells of. The numbers are never reused.
type Event uint64

// The events. 3, 6, 8 and 9 are kept free: presentations, revocations, policies and authorities are told by their own
// statements.
const (
	EventDenial  Event = 1
	EventSummary Event = 2 // refusals of strangers, counted by code
	EventStart   Event = 4 // a gate starts a program
	EventEnd     Event = 5 // the program has ended
	EventEnrol   Event = 7 // an AK was activated and bound to a host
	EventKey     Event = 10
	EventKept    Event = 11 // payloads were deleted, or are under a legal hold
	EventAttest  Event = 12 // a host has attested for a break-glass authorization
)

var events = map[Event]string{EventDenial: "denial", EventSummary: "summary", EventStart: "execution start",
	EventEnd: "execution end", EventEnrol: "enrolment", EventKey: "key birth", EventKept: "retention",
	EventAttest: "break-glass attestation"}

// String returns the event in words.
func (e Event) String() string {
	if n, ok := events[e]; ok {
		return n
	}
	return "unknown event"
}

// Outcome is what was decided.
type Outcome uint64

// The outcomes.
const (
	Permitted Outcome = 0
	Denied    Outcome = 1
	Failed    Outcome = 2 // an error, refused like a denial
)

// Record is the audit record of FORMATS.md section 4: the payload of a statement of kind Record.
type Record struct {
	Version      uint64            `cbor:"0,keyasint"`
	Event        Event             `cbor:"1,keyasint"`
	Outcome      Outcome           `cbor:"2,keyasint"`
	Reasons      []uint64          `cbor:"3,keyasint"` // denial codes, first cause first; empty unless denied
	Time         uint64            `cbor:"4,keyasint"` // seconds since 1970 UTC
	Emitter      Emitter           `cbor:"5,keyasint"`
	Previous     []byte            `cbor:"6,keyasint"`           // digest of this gate's previous record, null for the first and for the issuer
	RequestID    []byte            `cbor:"7,keyasint,omitempty"` // 16 bytes
	CTI          []byte            `cbor:"8,keyasint,omitempty"` // of the artifact presented, or id of the break-glass authorization
	Artifact     []byte            `cbor:"9,keyasint,omitempty"` // its digest, 32 bytes; of such an authorization, of its payload
	Workload     string            `cbor:"10,keyasint,omitempty"`
	Initiator    string            `cbor:"11,keyasint,omitempty"`
	Policy       *PolicyRef        `cbor:"12,keyasint,omitempty"`
	Input        []byte            `cbor:"13,keyasint,omitempty"` // SHA-256 of the canonical decision input
	Evidence     []byte            `cbor:"14,keyasint,omitempty"` // SHA-256 of the evidence as submitted
	Request      []byte            `cbor:"15,keyasint,omitempty"` // SHA-256 of the signed request as submitted
	Appraisal    *PolicyRef        `cbor:"16,keyasint,omitempty"`
	Challenge    []byte            `cbor:"17,keyasint,omitempty"` // 32 bytes: with the exporter, what evidence is verified again with
	Exporter     []byte            `cbor:"19,keyasint,omitempty"` // 32 bytes
	Checks       map[uint64]uint8  `cbor:"18,keyasint,omitempty"` // stage number to state (RFC 9711 measres values)
	Stage        uint64            `cbor:"20,keyasint,omitempty"` // stage that refused
	Detail       string            `cbor:"21,keyasint,omitempty"` // our own words, never a peer's
	Requirements []string          `cbor:"22,keyasint,omitempty"` // names of every policy requirement that did not hold
	Counts       map[uint64]uint64 `cbor:"23,keyasint,omitempty"` // summary: code to number of refusals
	Since        uint64            `cbor:"24,keyasint,omitempty"` // summary: start of the counting
	Enrolled     *Enrolled         `cbor:"25,keyasint,omitempty"`
	Birth        *Birth            `cbor:"26,keyasint,omitempty"`
	Execution    *Execution        `cbor:"27,keyasint,omitempty"`
	Retention    *Retention        `cbor:"28,keyasint,omitempty"`
	Glass        *Glass            `cbor:"29,keyasint,omitempty"`
	Attested     *Attested         `cbor:"30,keyasint,omitempty"`
	Hold         bool              `cbor:"31,keyasint,omitempty"` // denial: the TPM was there twice or was put back, so the host is held until authorities approve it anew
}

// Emitter is who wrote a record: a URI, a random epoch of 16 bytes, and a number that rises by one within the epoch.
type Emitter struct {
	_     struct{} `cbor:",toarray"`
	URI   string
	Epoch []byte
	Seq   uint64
}

// PolicyRef names a policy and its hash (32 bytes).
type PolicyRef struct {
	_    struct{} `cbor:",toarray"`
	ID   string
	Hash []byte
}

// Enrolled tells of an activation: the AK is in the TPM whose EK the enrolment names.
type Enrolled struct {
	Host      string         `cbor:"1,keyasint"`
	AK        []byte         `cbor:"2,keyasint"` // TPM2B_PUBLIC
	EK        []byte         `cbor:"3,keyasint"` // SHA-256 of TPMT_PUBLIC
	Method    string         `cbor:"4,keyasint"` // "chain" or "list"
	Enrolment []byte         `cbor:"5,keyasint"` // SHA-256 of the enrolment act's payload
	GateKey   *statement.Key `cbor:"6,keyasint,omitempty"`
	Request   []byte         `cbor:"7,keyasint"` // SHA-256 of the enrolment request, kept as a blob: EK, certificates, AK
}

// Birth tells of a key made on a token, as read back from it.
type Birth struct {
	Purpose    string            `cbor:"1,keyasint"`
	Key        statement.Key     `cbor:"2,keyasint"`
	Attributes map[string]string `cbor:"3,keyasint"` // PKCS#11 attribute to value, in words
	Token      map[string]string `cbor:"4,keyasint"` // module, manufacturer, model, serial, label
	Ceremony   *Ceremony         `cbor:"5,keyasint,omitempty"`
}

// SameKey reports whether what a token states of a key now is what it stated at the birth b: the purpose, the key, every
// attribute, and the token.
func (b *Birth) SameKey(now *Birth) bool {
	return now.Purpose == b.Purpose && now.Key.Equal(b.Key) && maps.Equal(now.Attributes, b.Attributes) && now.Token["serial"] == b.Token["serial"]
}

// Ceremony tells before whom a key was made. The transcript that it names shows it to whoever has the keys of the
// persons (package ceremony).
type Ceremony struct {
	Script     []byte     `cbor:"1,keyasint"` // SHA-256 of the script
	Transcript []byte     `cbor:"2,keyasint"` // SHA-256 of the whole transcript
	Persons    []string   `cbor:"3,keyasint"` // who confirmed every step, in ascending order
	Quote      *HostQuote `cbor:"4,keyasint,omitempty"`
}

// HostQuote is the state of the host on which a key was made, quoted by its TPM.
type HostQuote struct {
	Attest    []byte           `cbor:"1,keyasint"` // TPMS_ATTEST
	Signature []byte           `cbor:"2,keyasint"` // TPMT_SIGNATURE
	AK        []byte           `cbor:"3,keyasint"` // TPM2B_PUBLIC
	Bank      string           `cbor:"4,keyasint"` // of the values, such as "sha256"
	PCRs      map[int64][]byte `cbor:"5,keyasint"` // values that the quote covers
}

// check refuses what names too little.
func (c *Ceremony) check() error {
	if len(c.Script) != 32 || len(c.Transcript) != 32 || len(c.Persons) < 3 {
		return denial.New(denial.PayloadForm, "the record of a ceremony names script, transcript and at least three persons")
	}
	return nil
}

// Execution tells of one run under a gate.
type Execution struct {
	ID     []byte `cbor:"1,keyasint"`           // execution id of the artifact, 16 bytes
	Use    uint64 `cbor:"2,keyasint"`           // 1 for the first use of the artifact
	Code   []byte `cbor:"3,keyasint,omitempty"` // SHA-256 of the bytes that ran
	Args   []byte `cbor:"4,keyasint,omitempty"` // digest of the parameters
	Script []byte `cbor:"7,keyasint,omitempty"` // SHA-256 of a script that Code interpreted
	Start  []byte `cbor:"5,keyasint,omitempty"` // at the end: digest of the start record
	Status int64  `cbor:"6,keyasint,omitempty"` // at the end: exit status, or less than 0: the signal that ended it
	Left   uint64 `cbor:"9,keyasint,omitempty"` // at the end: how many processes it left behind, which the gate killed
	Ended  uint64 `cbor:"8,keyasint,omitempty"` // at the end: denial code of why the gate ended it; 0: it ended by itself, or with the gate
}

// EndedWords says for people why a gate ended an execution, given the code.
func EndedWords(code uint64) string {
	return fmt.Sprintf("the gate ended it: %d %s", code, denial.Reason(min(code, 999)))
}

// Glass tells that an execution starts by a break-glass authorization and not by an artifact, and what is known of the
// host: either an attestation or who waived it.
type Glass struct {
	Attestation []byte   `cbor:"1,keyasint,omitempty"` // statement digest of the attestation record
	Waived      []string `cbor:"2,keyasint,omitempty"` // attestation waived by these persons
}

// Words says for people what is known of the host.
func (g *Glass) Words() string {
	if len(g.Waived) > 0 {
		return "attestation waived by " + strings.Join(g.Waived, " and ")
	}
	return "the host attested"
}

// Attested is what a host proved for a break-glass authorization: what an artifact would say of it.
type Attested struct {
	Key      statement.Key `cbor:"1,keyasint"` // confirmation key, certified by the AK
	AK       []byte        `cbor:"2,keyasint"` // TPM Name
	BootSeed []byte        `cbor:"3,keyasint"` // as in an artifact
	Version  uint64        `cbor:"4,keyasint"` // of the appraisal policy
}

// Retention tells what has become of payloads: evidence, requests and decision inputs, which statements name by digest.
// No statement is ever deleted.
type Retention struct {
	Act    RetentionAct `cbor:"1,keyasint"`
	Index  uint64       `cbor:"2,keyasint,omitempty"` // deleted: of entries before it only; held: of entries from it on
	Name   string       `cbor:"3,keyasint,omitempty"` // of the hold
	Reason string       `cbor:"4,keyasint,omitempty"` // of the hold, in the operator's words
}

// RetentionAct is what happened to payloads.
type RetentionAct uint64

// The acts.
const (
	Deleted  RetentionAct = 1 // payloads that only old entries brought
	Held     RetentionAct = 2 // a legal hold was placed: nothing of it is deleted
	Released RetentionAct = 3 // a legal hold was lifted
)

// Words says for people what has become of payloads. The name of a hold and the reason for it are left out.
func (r *Retention) Words() string {
	switch r.Act {
	case Deleted:
		return fmt.Sprintf("payloads that only entries before %d brought are deleted; the entries and their proofs stay", r.Index)
	case Held:
		return fmt.Sprintf("legal hold placed: payloads of entries from %d on are kept", r.Index)
	case Released:
		return "legal hold lifted"
	}
	return "an act that this version does not know"
}

// check refuses what tells too little.
func (r *Retention) check() error {
	hold := r.Act == Held || r.Act == Released
	if !hold && r.Act != Deleted || hold != (r.Name != "") || r.Act == Deleted && r.Index == 0 {
		return denial.New(denial.PayloadForm, "a record of retention names what was deleted, or a hold")
	}
	return nil
}

// Check refuses a record that is incomplete or contradicts itself.
func (r *Record) Check() error {
	switch {
	case r.Version != Version:
		return denial.New(denial.UnsupportedVersion, "record version %d", r.Version)
	case events[r.Event] == "":
		return denial.New(denial.UnsupportedVersion, "a record of an unknown event")
	case r.Time == 0 || !absolute(r.Emitter.URI) || len(r.Emitter.Epoch) != 16:
		return denial.New(denial.ClaimAbsent, "a record needs a time and an emitter")
	case r.Previous != nil && len(r.Previous) != 32:
		return denial.New(denial.PayloadForm, "the digest of the previous record has 32 bytes")
	case (r.Outcome == Permitted) != (len(r.Reasons) == 0) || r.Outcome > Failed:
		return denial.New(denial.PayloadForm, "a record has reasons exactly if it denies")
	case (r.Event == EventDenial) != (r.Outcome != Permitted):
		return denial.New(denial.PayloadForm, "a denial record denies, and only a denial record")
	case r.Hold && r.Event != EventDenial:
		return denial.New(denial.PayloadForm, "a host is held by a denial only")
	case (r.Event == EventStart || r.Event == EventEnd) != (r.Execution != nil):
		return denial.New(denial.PayloadForm, "an execution stands in start and end records only")
	case r.Execution != nil && (r.Execution.Ended != 0 || r.Execution.Left != 0) && r.Event != EventEnd:
		return denial.New(denial.PayloadForm, "only an end record says why the gate ended the execution, and what that left behind")
	case r.Execution != nil && r.Execution.Ended != 0 && uint64(denial.Reason(min(r.Execution.Ended, 999)).Code()) != r.Execution.Ended:
		return denial.New(denial.PayloadForm, "the gate ended the execution for a reason that is not known")
	case (r.Event == EventEnrol) != (r.Enrolled != nil) || (r.Event == EventKey) != (r.Birth != nil):
		return denial.New(denial.PayloadForm, "the record's details do not fit its event")
	case r.Glass != nil && (r.Event != EventStart || (r.Glass.Attestation != nil) == (r.Glass.Waived != nil) ||
		r.Glass.Attestation != nil && len(r.Glass.Attestation) != 32):
		return denial.New(denial.PayloadForm, "a start by break-glass names either an attestation or who waived it")
	case (r.Event == EventAttest) != (r.Attested != nil):
		return denial.New(denial.PayloadForm, "details of an attestation stand in records of it only")
	case r.Attested != nil && (len(r.CTI) != 16 || len(r.Artifact) != 32 || !r.Attested.Key.Valid() || len(r.Attested.AK) == 0 || len(r.Attested.BootSeed) != 32 ||
		r.Policy == nil || r.Appraisal == nil || r.Workload == ""):
		return denial.New(denial.ClaimAbsent, "an attestation names the authorization, a host, policies, a confirmation key, an AK and a boot")
	case (r.Event == EventKept) != (r.Retention != nil):
		return denial.New(denial.PayloadForm, "details of retention stand in records of it only")
	case r.Retention != nil:
		return r.Retention.check()
	case r.Birth != nil && r.Birth.Ceremony != nil:
		return r.Birth.Ceremony.check()
	}
	return nil
}

// Sign checks and signs the record. The subject is an execution URI, or the emitter where there is none.
func (r *Record) Sign(ctx context.Context, s statement.Signer, subject string) ([]byte, error) {
	if err := r.Check(); err != nil {
		return nil, err
	}
	signed := *r
	if signed.Reasons == nil {
		signed.Reasons = []uint64{} // an empty array, not null
	}
	payload, err := statement.Marshal(signed)
	if err != nil {
		return nil, err
	}
	return statement.Sign(ctx, s, statement.Record, statement.Claims{Issuer: r.Emitter.URI, Subject: subject, IssuedAt: r.Time}, payload)
}

// Read decodes and checks the record in a verified statement. The header's iss must be the emitter and its iat the
// record's time (311).
func Read(v *statement.Verified) (*Record, error) {
	var r Record
	if v.Kind() != statement.Record {
		return nil, denial.New(denial.WrongType, "the statement is not a record")
	}
	if err := v.Unmarshal(&r); err != nil {
		return nil, err
	}
	if err := r.Check(); err != nil {
		return nil, err
	}
	if c := v.Claims(); c.Issuer != r.Emitter.URI || c.IssuedAt != r.Time {
		return nil, denial.New(denial.WrongType, "header and record name different emitters or times")
	}
	return &r, nil
}

// FillDenial writes a denial and the states of the checks into the record.
func (r *Record) FillDenial(d *denial.Denial, states map[uint64]uint8) {
	r.Event, r.Outcome = EventDenial, Denied
	if d.Reason.Condition() == denial.ConditionUndecidable {
		r.Outcome = Failed
	}
	r.Reasons = []uint64{uint64(d.Reason.Code())}
	r.Stage, r.Detail, r.Requirements = uint64(d.Stage), d.Detail, d.Requirements
	r.Checks = states
}
