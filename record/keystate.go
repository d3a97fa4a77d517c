package record

import (
	"slices"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// KeyState is where a key of the issuer is in its life (NIST SP 800-57 part 1, section 7). The zero KeyState is that of
// a key that nobody knows: it signs nothing and nothing that it signed is accepted.
type KeyState uint8

// The states.
const (
	KeyUnknown     KeyState = iota
	KeyPreActive            // announced: relying parties may learn of it, it signs nothing yet
	KeyActive               // signs
	KeySuspended            // signs nothing, and relying parties accept nothing that it signed until it is active again
	KeyRetired              // signs nothing more; what was logged before stays good
	KeyCompromised          // what was logged from a time on was never good; what was logged before stays good
	KeyDestroyed            // the token holds it no longer; it had been retired, or never signed
)

var keyStates = [...]string{"unknown", "pre-active", "active", "suspended", "retired", "compromised", "destroyed"}

// String returns the state in words.
func (s KeyState) String() string {
	if int(s) >= len(keyStates) {
		return keyStates[KeyUnknown]
	}
	return keyStates[s]
}

// ParseKeyState reads what String wrote; KeyUnknown for anything else.
func ParseKeyState(s string) KeyState { return KeyState(max(slices.Index(keyStates[:], s), 0)) }

// keyPaths are the transitions that there are, by the state that is left. A compromised key keeps that state when the
// token gives it up: when it fell is what matters of it.
var keyPaths = [...][]KeyState{
	KeyUnknown:     {KeyPreActive},
	KeyPreActive:   {KeyActive, KeyCompromised, KeyDestroyed},
	KeyActive:      {KeySuspended, KeyRetired, KeyCompromised},
	KeySuspended:   {KeyActive, KeyRetired, KeyCompromised},
	KeyRetired:     {KeyCompromised, KeyDestroyed},
	KeyCompromised: {},
	KeyDestroyed:   {KeyCompromised},
}

// To reports whether a key may go from the state to another one.
func (s KeyState) To(next KeyState) bool {
	return int(s) < len(keyPaths) && slices.Contains(keyPaths[s], next)
}

// IssuerKey is a key of the issuer with what authorities have said of it. Times are logged times, in seconds since 1970
// UTC, and 0 where there is none.
type IssuerKey struct {
	Purpose string
	Key     statement.Key
	State   KeyState
	From    uint64     // its signatures count from then on; 0: never
	Until   uint64     // they count no more from then on: it was retired
	Fell    uint64     // of a compromised key: since when it was somebody else's too
	Begins  uint64     // it was announced to become active not before
	Gaps    []KeyPause // when it was suspended, in order; the end of the last one is 0 while it still is
}

// KeyPause is a time in which a key was suspended.
type KeyPause struct{ From, To uint64 }

// Since returns since when the key has its state, in logged time, 0 where the log does not say; and more about that in words.
func (k *IssuerKey) Since() (at uint64, note string) {
	const form = "2006-01-02T15:04:05Z"
	switch k.State {
	case KeyPreActive:
		return 0, "signs not before " + time.Unix(int64(k.Begins), 0).UTC().Format(form)
	case KeyActive:
		at = k.From
		if n := len(k.Gaps); n > 0 {
			at, note = k.Gaps[n-1].To, "in use since "+time.Unix(int64(k.From), 0).UTC().Format(form)
		}
	case KeySuspended:
		at = k.Gaps[len(k.Gaps)-1].From
	case KeyRetired, KeyDestroyed:
		at = k.Until
	case KeyCompromised:
		at = k.Fell
	}
	return at, note
}

// Counts returns the time in which what the key signed counts, as logged, apart from pauses: from a second on, 0 if never, and
// up to another, not including it, 0 if there is no end.
func (k *IssuerKey) Counts() (from, to uint64) {
	to = k.Until
	if k.State == KeyCompromised && (to == 0 || k.Fell < to) {
		to = k.Fell
	}
	return k.From, to
}

// Check decides whether a relying party may accept now what the key signed, if that was logged at a time. It is the
// logged time that decides, never a time that the signer wrote: a stolen key can write any (P19). In this order: the
// key is known (305); it is not suspended now (802); what CheckThen says.
func (k *IssuerKey) Check(logged uint64) error {
	if k != nil && k.State == KeySuspended {
		return denial.New(denial.KeyRevoked, "the %s key is suspended", k.Purpose)
	}
	return k.CheckThen(logged)
}

// CheckThen decides whether what the key signed counts that was logged at a time, whatever may be suspended by now: it is
// for auditors, who look back. In this order: the key is known (305); that was logged before it fell (802) and not while
// it was suspended (802); it had become active by then, and was not retired (208).
func (k *IssuerKey) CheckThen(logged uint64) error {
	if k == nil || k.State == KeyUnknown || int(k.State) >= len(keyPaths) {
		return denial.New(denial.KeyUnknown, "no such key of the issuer")
	}
	if k.State == KeyCompromised && logged >= k.Fell {
		return denial.New(denial.KeyRevoked, "the %s key was compromised when this was logged", k.Purpose)
	}
	for _, p := range k.Gaps {
		if logged >= p.From && (p.To == 0 || logged < p.To) {
			return denial.New(denial.KeyRevoked, "the %s key was suspended when this was logged", k.Purpose)
		}
	}
	if k.From == 0 || logged < k.From || k.Until != 0 && logged >= k.Until {
		return denial.New(denial.KeyOutsideValidity, "the %s key was not active when this was logged", k.Purpose)
	}
	return nil
}

// CheckClaimed decides about what is in no log, so that only the key itself says when it signed it: tree heads, and status
// lists. A key that fell can say any time, so nothing of it is accepted any more (802). Else it is Check.
func (k *IssuerKey) CheckClaimed(signed uint64) error {
	if k != nil && k.State == KeyCompromised {
		return denial.New(denial.KeyRevoked, "the %s key was compromised, and nothing but its own word says when it signed", k.Purpose)
	}
	return k.Check(signed)
}
