package denial

import (
	"fmt"
	"slices"
)

// Stage is one numbered check of a check order. The numbers stand in signed records and are never reused.
type Stage uint8

// The stages of an issuance, in their order.
const (
	StageLimits        Stage = 1  // sizes, rates, time
	StageDecode        Stage = 2  // request and evidence decode strictly
	StageCaller        Stage = 3  // enrolled AK and registered initiator key
	StageChallenge     Stage = 4  // the challenge of this connection, unused and in time
	StageQuote         Stage = 5  // quote structure and signature
	StageBinding       Stage = 6  // AK, cnf key and exporter are bound to the quote
	StageFacts         Stage = 7  // event log replays, facts follow
	StageRevocation    Stage = 8  // host, initiator, policy and ancestors are not revoked
	StageAppraisal     Stage = 9  // every requirement of the appraisal policy holds
	StageAuthorization Stage = 10 // initiator, scope, lifetime, lineage
	StageTransaction   Stage = 11 // request id, versions, log
	StageMint          Stage = 12 // signature and receipt
)

// The stages of a gate, in their order.
const (
	StagePresent        Stage = 21 // there is an artifact
	StageArtifactDecode Stage = 22 // it decodes strictly
	StageSignature      Stage = 23 // algorithm and signature
	StageType           Stage = 24 // typ and crit
	StageReceipt        Stage = 25 // a receipt for exactly this artifact
	StageTime           Stage = 26 // within [nbf, exp)
	StageAudience       Stage = 27 // this gate
	StagePins           Stage = 28 // issuer and policy pins of the trust file
	StageGateRevocation Stage = 29 // fresh status, not revoked
	StageScope          Stage = 30 // scope and code
	StagePossession     Stage = 31 // proof of possession and environment
	StageUses           Stage = 32 // a use is left, and consumed
	StageStartRecord    Stage = 33 // the start record is in the log
	StageRun            Stage = 34 // the checked bytes run
)

// The stages of acts that have no longer order of their own.
const (
	StageEnrolment Stage = 41 // enrolment and activation
	StageAct       Stage = 42 // an act of the authorities: policy, enrolment, revocation
)

var stageNames = map[Stage]string{
	StageLimits: "limits", StageDecode: "decode", StageCaller: "enrolled AK and initiator key",
	StageChallenge: "challenge", StageQuote: "quote", StageBinding: "key bindings", StageFacts: "event log and facts",
	StageRevocation: "revocation", StageAppraisal: "appraisal", StageAuthorization: "authorization and lineage",
	StageTransaction: "transaction", StageMint: "mint",
	StagePresent: "artifact present", StageArtifactDecode: "artifact decode", StageSignature: "algorithm and signature",
	StageType: "type and crit", StageReceipt: "receipt", StageTime: "time", StageAudience: "audience",
	StagePins: "issuer and policy pins", StageGateRevocation: "gate revocation", StageScope: "scope and code",
	StagePossession: "proof of possession and environment", StageUses: "uses", StageStartRecord: "start record",
	StageRun: "run", StageEnrolment: "enrolment", StageAct: "authority act",
}

// String returns the stage in words.
func (s Stage) String() string {
	if n, ok := stageNames[s]; ok {
		return n
	}
	return "unknown stage"
}

// Order is a fixed sequence of stages. The first failure in it gives the code, so that the same input and state
// always give the same one.
type Order []Stage

// IssuanceOrder returns the check order of an issuance.
func IssuanceOrder() Order {
	return Order{StageLimits, StageDecode, StageCaller, StageChallenge, StageQuote, StageBinding, StageFacts,
		StageRevocation, StageAppraisal, StageAuthorization, StageTransaction, StageMint}
}

// GateOrder returns the check order of a gate.
func GateOrder() Order {
	return Order{StagePresent, StageArtifactDecode, StageSignature, StageType, StageReceipt, StageTime, StageAudience,
		StagePins, StageGateRevocation, StageScope, StagePossession, StageUses, StageStartRecord, StageRun}
}

// BreakGlassOrder returns the check order of a gate for a break-glass authorization. It has no status list to look at:
// whether it was revoked is asked of the issuer with the start record, in the transaction that takes its one use.
func BreakGlassOrder() Order {
	return slices.DeleteFunc(GateOrder(), func(s Stage) bool { return s == StageGateRevocation })
}

// State is what became of one check: the registered values of the EAT claim measres (RFC 9711, section 4.2.17).
type State uint8

// The states of a check.
const (
	Success State = 1
	Fail    State = 2
	NotRun  State = 3
	Absent  State = 4 // the check does not apply to this input
)

// Run is one passage through an order. It refuses to run a stage before all earlier ones have succeeded, and it never
// goes on after a failure. The zero Run allows nothing. A Run is for one goroutine.
type Run struct {
	order  Order
	states []State
	next   int
	denied *Denial
	begun  Denial // what denied points to while a check runs
}

// Begin starts a passage through the order.
func (o Order) Begin() *Run {
	r := &Run{order: slices.Clone(o), states: make([]State, len(o))}
	for i := range r.states {
		r.states[i] = NotRun
	}
	return r
}

// Check runs f, which stands for the given stages: the next ones of the order. If f fails, the passage ends with a
// denial that names the failing stage (the one that the denial itself names, if it is among the given or the earlier
// ones, else the first of the given). A panic in f is the denial Internal. While f runs, and for ever if it never
// returns, the passage is refused.
func (r *Run) Check(f func() error, stages ...Stage) (err error) {
	if r.denied != nil {
		return r.denied
	}
	if !r.isNext(stages) {
		r.denied = New(Internal, "check out of order")
		return r.denied
	}
	r.begun = Denial{Reason: Internal, Detail: "a check has not ended"}
	r.denied = &r.begun
	defer func() {
		if p := recover(); p != nil {
			err = r.fail(New(Internal, "a check stopped unexpectedly"), stages)
		}
	}()
	if err := f(); err != nil {
		return r.fail(Of(err), stages)
	}
	r.succeed(len(stages))
	r.denied = nil
	return nil
}

// isNext reports whether the stages, at least one, are the next ones of the order.
func (r *Run) isNext(stages []Stage) bool {
	rest := r.order[r.next:]
	return len(stages) > 0 && len(stages) <= len(rest) && slices.Equal(stages, rest[:len(stages)])
}

// fail ends the passage. The failing stage is the one that the denial names: one of the given stages, those before it
// having succeeded, or an earlier stage of the order whose fault a later check found out. Otherwise it is the first of
// the given stages.
func (r *Run) fail(d *Denial, stages []Stage) error {
	failed := slices.Index(r.order[:r.next+len(stages)], d.Stage)
	if failed < 0 {
		failed = r.next
	}
	c := *d
	c.Stage = r.order[failed]
	r.denied = &c
	r.succeed(failed - r.next)
	r.states[failed] = Fail
	return r.denied
}

func (r *Run) succeed(n int) {
	for range n {
		r.states[r.next] = Success
		r.next++
	}
}

// Allowed returns nil only if every stage of the order has succeeded. This is the only source of an allow.
func (r *Run) Allowed() error {
	switch {
	case r.denied != nil:
		return r.denied
	case len(r.order) == 0 || r.next != len(r.order):
		return New(Internal, "checks are missing")
	}
	return nil
}

// States returns the state of every check, by stage number.
func (r *Run) States() map[uint64]uint8 {
	m := make(map[uint64]uint8, len(r.order))
	for i, s := range r.order {
		m[uint64(s)] = uint8(r.states[i])
	}
	return m
}

// Describe returns one line for each stage and its state, for people.
func (r *Run) Describe() []string {
	words := [...]string{Success: "success", Fail: "fail", NotRun: "not run", Absent: "absent"}
	lines := make([]string, len(r.order))
	for i, s := range r.order {
		lines[i] = fmt.Sprintf("%-36s %s", s, words[r.states[i]])
	}
	return lines
}
