package audit

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// gateSkew is how far a gate's clock may be from the log's, in seconds, when it records a start: the 300 s that the
// issuer allows, and a minute for the entry to be logged.
const gateSkew = 360

// gate checks a record of a gate, in this order: signed by a gate key that an earlier enrolment record names (305, 301);
// complete, by that gate and by the key of its host's enrolment in force (910); it continues the chain of that key's records (508); it is
// of a kind that gates write (910). Then a start: the gate's clock was right (205), its host was not revoked or held (803), and this use is
// left (504); then all of under; an end: it ends a start (508), and is left unchecked if the gate let the program run on after its lease. A gate's denial is its own word about what it was shown: unchecked.
func (v *verifier) gate(e *entry, f *Finding) error {
	id, _ := e.env.KeyID()
	g := v.world.gates[id]
	if g == nil {
		return denial.New(denial.KeyUnknown, "the record is signed by no key of the issuer and of no enrolled gate")
	}
	var keys statement.Keys
	if err := keys.Add(g.key, statement.Record); err != nil {
		return err
	}
	signed, err := e.env.Verify(keys, statement.Record)
	if err != nil {
		return err
	}
	r, err := record.Read(signed)
	if err != nil {
		return err
	}
	if r.Emitter.URI != g.uri {
		return denial.New(denial.NotPermitted, "the record names another emitter than its gate")
	}
	if v.world.current[g.host] != g.enrolment {
		return denial.New(denial.NotPermitted, "the host is not enrolled with this gate key any more")
	}
	whole, err := v.chained(e, r, g)
	if err != nil {
		return err
	}
	if err := v.gateEvent(e, r, g, f); err != nil {
		return err
	}
	if !whole && f.Verdict == Proved {
		f.leave("earlier records of this gate are not in the bundle")
	}
	return nil
}

func (v *verifier) gateEvent(e *entry, r *record.Record, g *gate, f *Finding) error {
	switch r.Event {
	case record.EventStart:
		return v.start(e, r, g, f)
	case record.EventEnd:
		return v.end(r, f)
	case record.EventDenial:
		f.leave("what a gate was shown is its own word")
		_, _, err := v.capsule(e)
		return err
	}
	return denial.New(denial.NotPermitted, "a gate writes starts, ends and denials only")
}

// part reports whether the bundle may lack earlier statements.
func (v *verifier) part() bool { return v.m.Query.chosen() || v.m.Query.From > 0 }

// chained checks the place of a record in its gate's chain, and reports whether it is shown to follow the one before.
func (v *verifier) chained(e *entry, r *record.Record, g *gate) (whole bool, err error) {
	follows := r.Emitter.Seq == g.next && bytes.Equal(r.Previous, g.previous) && (!g.begun || string(r.Emitter.Epoch) == g.epoch)
	gap := v.part() && (!g.begun || v.m.Query.chosen() && r.Emitter.Seq > g.next && string(r.Emitter.Epoch) == g.epoch)
	if !follows && !gap {
		return false, denial.New(denial.StateRollback, "the record does not continue the gate's chain at number %d", g.next)
	}
	g.begun, g.epoch, g.next, g.previous = true, string(r.Emitter.Epoch), r.Emitter.Seq+1, e.digest[:]
	return follows, nil
}

// start checks the start of an execution.
func (v *verifier) start(e *entry, r *record.Record, g *gate, f *Finding) error {
	if r.Time > e.logged+gateSkew || r.Time+gateSkew < e.logged {
		return denial.New(denial.EvidenceStale, "the gate's clock was more than %d s away", gateSkew)
	}
	if v.world.revoked[revocation{record.CauseHost, g.host}] {
		return denial.New(denial.HostRevoked, "the gate's host had been revoked")
	}
	if err := v.world.notHeld(g.host); err != nil {
		return err
	}
	v.begin(e, r)
	if v.world.uses.add(keyOf(string(r.CTI), numbered(r.Execution.Use)...)) {
		return denial.New(denial.ArtifactReplayed, "an earlier start has the same use of the artifact")
	}
	if b := v.world.glassOf[string(r.CTI)]; b != nil || r.Glass != nil {
		return v.underGlass(e, r, g, b, f)
	}
	p, err := v.permitOf(r.CTI)
	if err != nil {
		return err
	}
	if p == nil && v.part() {
		f.leave("the artifact is not in the bundle")
		return nil
	}
	if p == nil {
		return denial.New(denial.KeyUnknown, "no earlier artifact in the log has this id")
	}
	return v.under(e, r, g, p, f)
}

// under checks a start against its artifact, in this order: it is this artifact, for this gate and execution (411); the
// record names its host, initiator and policies (325); it had not expired, by the gate's clock or the log's (201); it has
// this use (505) and allows this code (616) with these arguments (404); the log was not restored since, and it was not revoked,
// nor its host held, nor what it descends from (801 to 805, 807).
func (v *verifier) under(e *entry, r *record.Record, g *gate, p *permit, f *Finding) error {
	c, n := p.claims, r.Execution.Use
	switch {
	case !bytes.Equal(r.Artifact, p.digest[:]) || c.Audience != g.uri || !bytes.Equal(r.Execution.ID, c.Execution.ID):
		return denial.New(denial.AudienceMismatch, "the artifact is for another gate or another execution")
	case r.Workload != c.Subject || r.Initiator != c.Initiator.Principal || !names(r.Policy, c.Policy.ID, c.Policy.Hash) ||
		r.Appraisal != nil && !names(r.Appraisal, c.Policy.Appraisal.ID, c.Policy.Appraisal.Hash):
		return denial.New(denial.LogInconsistent, "the record names another host, initiator or policy than the artifact")
	case r.Time >= c.Expires, e.logged >= c.Expires+clockSkew: // the issuer looked at its clock before it logged
		return denial.New(denial.Expired, "the artifact had expired")
	case n == 0 || n > c.Limits.MaxUses():
		return denial.New(denial.UseCountExceeded, "the artifact allows %d uses", c.Limits.MaxUses())
	}
	if err := admitted(c.Scope, r.Execution); err != nil {
		return err
	}
	if err := v.world.restored(v.world.permits[keyOf(string(c.ID))]); err != nil {
		return err
	}
	_, err := v.permitRevoked(c, f)
	return err
}

func names(p *record.PolicyRef, id string, hash artifact.Digest) bool {
	return p != nil && p.ID == id && hash.Equal(artifact.SHA256Digest(sum(p.Hash)))
}

// admitted checks that a scope pins the code that ran, and its arguments if it pins arguments. Those of a script are the
// script's; what its interpreter was given beside is not recorded.
func admitted(s artifact.Scope, x *record.Execution) error {
	if len(x.Script) == 0 {
		return pinned(s, x.Code, x.Args)
	}
	if err := pinned(s, x.Script, x.Args); err != nil {
		return err
	}
	if err := pinned(s, x.Code, nil); denial.Is(err, denial.CodeDigestMismatch) {
		return err
	}
	return nil
}

// pinned checks that a permission to execute pins the code, with these arguments if it pins arguments.
func pinned(s artifact.Scope, code, args []byte) error {
	err := denial.New(denial.CodeDigestMismatch, "the artifact does not pin the code that ran")
	for _, p := range s {
		t := p.Terms
		if t.Operations&artifact.Execute == 0 || !slices.ContainsFunc(t.Code, artifact.SHA256Digest(sum(code)).Equal) {
			continue
		}
		if t.Parameters == nil || t.Parameters.Equal(artifact.SHA256Digest(sum(args))) {
			return nil
		}
		err = denial.New(denial.ScopeDenied, "the artifact pins other arguments")
	}
	return err
}

// end checks the end of an execution.
func (v *verifier) end(r *record.Record, f *Finding) error {
	s, err := v.startOf(sum(r.Execution.Start))
	switch {
	case err != nil:
		return err
	case s == nil && v.part():
		f.leave("its start is not in the bundle")
		return nil
	case s == nil:
		return denial.New(denial.StateRollback, "no earlier record is the start that this one ends")
	case s.Emitter.URI != r.Emitter.URI || !bytes.Equal(s.CTI, r.CTI) || !bytes.Equal(s.Execution.ID, r.Execution.ID) || s.Execution.Use != r.Execution.Use:
		return denial.New(denial.LogInconsistent, "the end and its start name different executions")
	}
	return v.lease(s, r, f)
}

// leaseSlack is by how many seconds an execution may outlast its lease: the gate looks at its clock once a second, and gives the
// program ten seconds to end.
const leaseSlack = 60

// lease looks at for how long an execution went on (X16). One that went on for longer is no forgery: its host may have slept.
func (v *verifier) lease(start, end *record.Record, f *Finding) error {
	until := uint64(0)
	if b := v.world.glassOf[string(start.CTI)]; b != nil {
		until = b.Expires
	} else if p, err := v.permitOf(start.CTI); err != nil {
		return err
	} else if p != nil {
		until = p.claims.LeaseEnd(start.Time)
	}
	if until != 0 && end.Time > until+leaseSlack {
		f.leave(fmt.Sprintf("the program ran for %d s after its authorization had ended, as far as its gate knows", end.Time-until))
	}
	return nil
}
