// Package denial is the one table of the reasons for which Writ refuses, and the one type that carries a refusal.
//
// A refusal is a *Denial, made by New. A fault (a disk, a socket, a bug) is any other error; to whoever must decide,
// a fault is the denial Internal. The zero Reason is Internal, so a forgotten assignment refuses.
package denial

import (
	"errors"
	"fmt"
	"sort"
)

// Reason is the machine-readable cause of a refusal: one of the constants of this package. Its zero value means Internal.
type Reason uint16

// Condition groups reasons into the eight conditions that are always denied, and ConditionUndecidable.
type Condition uint8

// The conditions, in the order of the code ranges 1xx to 9xx.
const (
	ConditionMissing             Condition = 1
	ConditionExpired             Condition = 2
	ConditionBadProof            Condition = 3
	ConditionPolicyMismatch      Condition = 4
	ConditionReplay              Condition = 5
	ConditionRuntimeIntegrity    Condition = 6
	ConditionEnvironmentMismatch Condition = 7
	ConditionRevoked             Condition = 8
	ConditionUndecidable         Condition = 9 // also the condition of the zero Reason
)

var conditionNames = [...]string{
	1: "missing", 2: "expired", 3: "bad proof", 4: "policy mismatch", 5: "replay",
	6: "runtime integrity", 7: "environment mismatch", 8: "revoked", 9: "undecidable",
}

// String returns the condition in words: all that a stranger is told.
func (c Condition) String() string {
	if c == 0 || int(c) >= len(conditionNames) {
		c = ConditionUndecidable
	}
	return conditionNames[c]
}

type row struct {
	reason  Reason
	name    string
	meaning string
	hint    string
}

func (r Reason) row() row {
	i := sort.Search(len(table), func(i int) bool { return table[i].reason >= r })
	if i == len(table) || table[i].reason != r {
		r = Internal
		i = sort.Search(len(table), func(i int) bool { return table[i].reason >= r })
	}
	return table[i]
}

// Code returns the number of the reason. An unknown reason is Internal.
func (r Reason) Code() int { return int(r.row().reason) }

// String returns the name of the reason, such as EXPIRED.
func (r Reason) String() string { return r.row().name }

// Condition returns the condition that the reason belongs to.
func (r Reason) Condition() Condition { return Condition(r.row().reason / 100) }

// Meaning returns one sentence that says what failed.
func (r Reason) Meaning() string { return r.row().meaning }

// Hint returns one sentence that says what to try next.
func (r Reason) Hint() string { return r.row().hint }

// Parse returns the reason with the given name or decimal code.
func Parse(s string) (Reason, error) {
	for _, row := range table {
		if row.name == s || fmt.Sprint(uint16(row.reason)) == s {
			return row.reason, nil
		}
	}
	return Internal, fmt.Errorf("finding denial reason %q: no such name or code", s)
}

// All returns every reason, ordered by number.
func All() []Reason {
	all := make([]Reason, len(table))
	for i, row := range table {
		all[i] = row.reason
	}
	return all
}

// Denial is a refusal. Its Detail may be shown to the caller whose key verified; it never holds a secret, a nonce or
// text that a peer supplied.
type Denial struct {
	Reason       Reason
	Stage        Stage    // where in a check order it was refused; zero if outside of one
	Detail       string   // one sentence for a person, without the full stop
	Requirements []string // names of every policy requirement that did not hold, sorted

	hint string // see Try
}

// New returns a refusal with a detail formatted as fmt.Sprintf does.
func New(r Reason, format string, args ...any) *Denial {
	detail := format
	if len(args) > 0 { // most have none, and a passage makes one before each of its checks
		detail = fmt.Sprintf(format, args...)
	}
	return &Denial{Reason: r, Detail: detail}
}

// At returns a copy of the denial that names the stage, unless it names one already.
func (d *Denial) At(s Stage) *Denial {
	c := *d
	if c.Stage == 0 {
		c.Stage = s
	}
	return &c
}

// Try returns a copy of the denial with a hint of its own, a full sentence, for a place where that of the reason would mislead.
func (d *Denial) Try(hint string) *Denial {
	c := *d
	c.hint = hint
	return &c
}

// Hint returns what to try next: the hint of the place that refused, or else that of the reason.
func (d *Denial) Hint() string {
	if d.hint != "" {
		return d.hint
	}
	return d.Reason.Hint()
}

// Error returns the name, the code and the detail.
func (d *Denial) Error() string {
	if d.Detail == "" {
		return fmt.Sprintf("%d %s", d.Reason.Code(), d.Reason)
	}
	return fmt.Sprintf("%d %s: %s", d.Reason.Code(), d.Reason, d.Detail)
}

// Of returns the refusal that err is or wraps. A nil error gives nil; any other error is a fault, which is refused as
// Internal and whose text is not repeated.
func Of(err error) *Denial {
	if err == nil {
		return nil
	}
	var d *Denial
	if errors.As(err, &d) && d != nil {
		return d
	}
	return &Denial{Reason: Internal}
}

// Is reports whether err is a refusal with the given reason.
func Is(err error, r Reason) bool {
	var d *Denial
	return errors.As(err, &d) && d != nil && d.Reason.Code() == r.Code()
}
