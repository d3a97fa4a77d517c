package audit

import (
	"bytes"

	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// act checks an act of the authorities, in this order: enough distinct persons have signed the same claims and payload (403,
// 410, 326, 409), for this issuer (706), once (509); by logged time it had not expired (201), and it was the next about its
// subject (409); the payload is complete; a policy's document is what the payload says (401)
// and its version rises (402), and all of the quorum has signed one that does not only narrow (409); an enrolment does not give a host or a key that is another's (706), and one of a host
// ends the one in force; an opening of personal data opens a commitment of the enrolment (325), of
// a field that the manifest says is disclosed (324), and of such a field there is one, or a note that it is gone (102); a key
// change is the next of the chain, and the one in the bundle's key history (see keyChange); an epoch is as epoch says.
func (v *verifier) act(group []*entry) error {
	e := group[0]
	act, err := v.world.ring.Authorities().Verify(leavesOf(group), e.kind)
	if err != nil {
		return err
	}
	if act.Claims().Issuer != v.trust.Issuer {
		return denial.New(denial.IdentityConflict, "the act is for another issuer")
	}
	v.opened = nil
	digest := act.Digest()
	if v.world.acts[digest] {
		return denial.New(denial.RequestReplayed, "the act stands in the log twice")
	}
	v.world.acts[digest] = true
	if err := v.world.follows(act, e.logged); err != nil {
		return err
	}
	switch e.kind {
	case statement.KeyChange:
		return v.keyChange(act, e)
	case statement.Policy:
		return v.world.policy(act)
	case statement.Enrolment:
		return v.enrolment(act, e.index)
	case statement.Revocation:
		return v.world.revocation(act)
	case statement.BreakGlass:
		return v.breakGlass(act, e)
	case statement.Review:
		return v.review(act, e)
	case statement.Epoch:
		return v.epoch(act, e)
	}
	return denial.New(denial.WrongType, "a %s does not stand in a log", e.kind)
}

// subject is what acts are numbered by.
type subject struct {
	kind statement.Kind
	sub  string
}

// follows checks that an act was logged in time and in its place, and takes note of that.
func (w *world) follows(act *record.Act, logged uint64) error {
	if !act.Kind().Acts() {
		return nil // good once, by an id of its own
	}
	about := subject{act.Kind(), act.Claims().Subject}
	if err := act.Followed(w.numbers[about], logged); err != nil {
		return err
	}
	w.numbers[about]++
	return nil
}

func (w *world) policy(act *record.Act) error {
	p, doc, err := firmwarepolicy.Published(act.Payload())
	if err != nil {
		return err
	}
	if old := w.force[p.Kind]; old != nil && !w.reset[p.Kind] && doc.Version() <= old.Version() {
		return denial.New(denial.PolicyRollback, "version %d was in force, %d is not above it", old.Version(), doc.Version())
	}
	if c := firmwarepolicy.Diff(w.force[p.Kind], doc); c.Widens() {
		if err := w.ring.Authorities().CheckQuorum(act, c.Why()); err != nil {
			return err
		}
	}
	w.policies[doc.Hash()] = published{doc, p.Kind}
	w.force[p.Kind], w.reset[p.Kind] = doc, false
	return nil
}

// enrolment checks an enrolment, and then opens what the bundle discloses of its personal data.
func (v *verifier) enrolment(act *record.Act, index uint64) error {
	var e record.Enrolment
	if err := statement.Unmarshal(act.Payload(), &e); err != nil {
		return err
	}
	if err := e.Check(); err != nil {
		return err
	}
	if err := v.world.enrolment(act, &e); err != nil {
		return err
	}
	return v.personal(&e, index)
}

func (w *world) enrolment(act *record.Act, e *record.Enrolment) error {
	if e.Initiator != nil {
		id := e.Initiator.Key.Thumbprint()
		if _, ok := w.initiators[id]; ok {
			return denial.New(denial.IdentityConflict, "the key is enrolled already")
		}
		for _, other := range w.initiators {
			if other.id == e.ID && other.kind != e.Initiator.Kind {
				return denial.New(denial.IdentityConflict, "the initiator is enrolled as another kind, %s", other.kind)
			}
		}
		w.initiators[id] = initiator{e.ID, e.Initiator.Kind, e.Initiator.Key, act.Digest()}
		return nil
	}
	ek := string(e.Host.EK)
	if h, ok := w.hostOfEK[ek]; ok && h != e.ID {
		return denial.New(denial.IdentityConflict, "the EK is another host's")
	}
	if k, ok := w.ekOfHost[e.ID]; ok && k != ek {
		return denial.New(denial.IdentityConflict, "the host has another EK")
	}
	w.hostOfEK[ek], w.ekOfHost[e.ID], w.approvals[ek] = e.ID, ek, approval{act.Digest(), e}
	if w.held[e.ID] { // authorities have seen to it: the counters of its TPM begin where they are
		delete(w.held, e.ID)
		delete(w.clocks, ek)
	}
	delete(w.current, e.ID) // until its TPM has answered anew
	return nil
}

func (w *world) revocation(act *record.Act) error {
	var r record.Revocation
	if err := statement.Unmarshal(act.Payload(), &r); err != nil {
		return err
	}
	if err := r.Check(); err != nil {
		return err
	}
	w.revoked[revocation{r.Cause, r.Target}] = true
	return nil
}

// equalCBOR reports whether two values have the same encoding.
func equalCBOR(a, b any) bool {
	x, errX := statement.Marshal(a)
	y, errY := statement.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}
