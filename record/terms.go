package record

import (
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// For how long an approval is good: no longer than MaxApproval after it was drafted, and DefaultApproval where nobody says.
const (
	MaxApproval     = 30 * 24 * time.Hour
	DefaultApproval = 7 * 24 * time.Hour
	approvalSkew    = 60 // seconds by which the clock of whoever drafts an act may be ahead
)

// terms checks the claims of an act: genesis, which the pin stands for, has none; any other says when it was drafted, until when
// it is good and which one it is of its order (104), is good for a time (204), and for no longer than MaxApproval (203).
func terms(kind statement.Kind, c statement.Claims) error {
	switch {
	case !kind.Acts():
		return nil
	case c.IssuedAt == 0 || c.Expires == 0 || c.Sequence == 0:
		return denial.New(denial.ClaimAbsent, "an act says when it was drafted, when it expires, and which number it is about its subject")
	case c.Expires <= c.IssuedAt:
		return denial.New(denial.TimeMalformed, "the act expired before it was drafted")
	case c.Expires-c.IssuedAt > uint64(MaxApproval/time.Second):
		return denial.New(denial.LifetimeTooLong, "an approval is good for %d days at most", MaxApproval/(24*time.Hour))
	}
	return nil
}

// logDelay is how long, in seconds, an act may take from its check into the log: one that could expire on the way is refused.
const logDelay = 60

// Follows checks that the act can be logged from now on, at a second since 1970 UTC, as the next after as many of its kind about
// its subject: it has not expired and will not within a minute (201), and is not dated later (202); it is not one that was
// drafted before the last one took effect, nor that one again, and none between is missing (409).
func (a *Act) Follows(before, now uint64) error { return a.inPlace(before, now, now+logDelay) }

// Followed checks that the act was logged in time and in its place: what Follows demands, without the minute.
func (a *Act) Followed(before, logged uint64) error { return a.inPlace(before, logged, logged) }

func (a *Act) inPlace(before, at, latest uint64) error {
	switch c := a.claims; {
	case !a.kind.Acts():
		return denial.New(denial.WrongType, "a %s follows no other", a.kind)
	case latest >= c.Expires:
		return denial.New(denial.Expired, "the approvals of this act have expired, or are about to")
	case c.IssuedAt > at+approvalSkew:
		return denial.New(denial.NotYetValid, "the act is dated later than now")
	case c.Sequence != before+1:
		return denial.New(denial.DualControlMissing, "this is act number %d about its subject, and number %d is next: draft it and have it approved anew", c.Sequence, before+1).
			Try("Draft the act anew, which gives it the next number, and have it approved again.")
	}
	return nil
}

// SubjectOf returns what an act with the payload is about: sub of each of its statements. Acts about one subject have an order.
func SubjectOf(kind statement.Kind, issuer string, payload []byte) (string, error) {
	switch kind {
	case statement.Genesis:
		var g Genesis
		err := statement.Unmarshal(payload, &g)
		return g.Log, err
	case statement.Policy:
		var p Policy
		err := statement.Unmarshal(payload, &p)
		return issuer + "/policies/" + string(p.Kind), err
	case statement.Enrolment:
		var e Enrolment
		err := statement.Unmarshal(payload, &e)
		return e.ID, err
	case statement.Revocation:
		var r Revocation
		err := statement.Unmarshal(payload, &r)
		return issuer + "/revocations/" + r.Cause.String() + "/" + r.Target, err
	case statement.KeyChange:
		return KeySubject(issuer), nil
	case statement.Epoch:
		return EpochSubject(issuer), nil
	case statement.BreakGlass:
		var g BreakGlass
		err := statement.Unmarshal(payload, &g)
		return g.Subject(issuer), err
	case statement.Review:
		var r Review
		err := statement.Unmarshal(payload, &r)
		return r.Subject(issuer), err
	}
	return "", denial.New(denial.WrongType, "%s is not an act of authorities", kind)
}

func (a *Act) checkSubject() error {
	if a.kind == statement.BreakGlass || a.kind == statement.Review {
		return nil // ReadBreakGlass and ReadReview do
	}
	subject, err := SubjectOf(a.kind, a.claims.Issuer, a.payload)
	if err != nil {
		return err
	}
	if a.claims.Subject != subject {
		return denial.New(denial.IdentityConflict, "the act says that it is about another subject than its payload names")
	}
	return nil
}
