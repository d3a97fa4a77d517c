package audit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// EpochCase is an epoch of the log: it went on behind a backup, and what stood there before is lost.
type EpochCase struct {
	Number  uint64   `json:"number"`
	Index   uint64   `json:"index"` // of the act: so many entries were restored
	Logged  uint64   `json:"logged"`
	Persons []string `json:"persons"` // who signed
	Why     string   `json:"why"`
	Known   bool     `json:"known"`           // whether the act says how much is lost
	To      uint64   `json:"to,omitempty"`    // entries that there had been, at least
	Lost    string   `json:"lost"`            // for people
	Given   []string `json:"given,omitempty"` // what was given out before and stands in what is lost, for people
}

// Words says for people what the case is.
func (c *EpochCase) Words() string {
	s := fmt.Sprintf("epoch %d, from entry %d on, by %s (%s): %s", c.Number, c.Index, strings.Join(c.Persons, ", "), c.Why, c.Lost)
	for _, g := range c.Given {
		s += "; " + g
	}
	return s
}

// epoch checks an epoch, in this order: the payload, and that its number is the act's (409); it is of this log (706); it stands behind
// the entries that it says were restored (324), and these have the root that it says (325); the key history of the bundle holds it (324). What was permitted
// before it may not start any more: see restored.
func (v *verifier) epoch(act *record.Act, e *entry) error {
	p, err := record.ReadEpoch(act)
	if err != nil {
		return err
	}
	if p.Log != v.trust.Log || statement.Digest(p.Genesis) != v.trust.Genesis {
		return denial.New(denial.IdentityConflict, "the epoch is of another log")
	}
	proof, raw, err := v.transparent(e.raw, e.outer)
	if err != nil {
		return err
	}
	if err := artifact.BeginsAt(p, proof, raw); err != nil {
		return err
	}
	if n := p.Number; n > uint64(len(v.epochs)) || v.epochs[n-1].Act != act.Digest() {
		return denial.New(denial.ReceiptInvalid, "the key history of the bundle does not hold the epoch")
	}
	v.world.epoch = e.index
	c := EpochCase{Number: p.Number, Index: e.index, Logged: e.logged, Persons: act.Persons(), Why: p.Why, Lost: p.Words()}
	if p.Lost != nil {
		c.Known, c.To = true, p.Lost.Size
	}
	v.report.Epochs = append(v.report.Epochs, c)
	return nil
}

// restored refuses a start of what was permitted at an index before the newest epoch (801): whether it was revoked or used in
// what is lost is not known.
func (w *world) restored(permitted uint64) error {
	if permitted < w.epoch {
		return denial.New(denial.ArtifactRevoked, "the log was restored from a backup after it was permitted")
	}
	return nil
}

// epochsSeen checks that the key history holds no epoch that the log does not have up to the end of the bundle's range (324).
func (v *verifier) epochsSeen() error {
	for i := range v.epochs {
		e := &v.epochs[i]
		seen := slices.ContainsFunc(v.report.Epochs, func(c EpochCase) bool { return c.Number == e.Number })
		if e.Size < v.m.Query.To && !seen {
			return denial.New(denial.ReceiptInvalid, "the key history tells of an epoch that the bundle does not have")
		}
	}
	return nil
}

// isLost returns the epoch that says that a head is of what was lost; nil if none does.
func (v *verifier) isLost(head receipt.Head) *artifact.Epoch {
	for i := range v.epochs {
		if e := &v.epochs[i]; e.Lost(head.Size, head.Time) && e.Covers(head.Size, head.Root) {
			return e
		}
	}
	return nil
}

// lost reports whether a head that was given out is of what was lost, and takes note of that.
func (v *verifier) lost(head receipt.Head) bool {
	e := v.isLost(head)
	if e == nil {
		return false
	}
	words := fmt.Sprintf("a tree of %d entries that was given out before is among what is lost", head.Size)
	for n := range v.report.Epochs {
		if c := &v.report.Epochs[n]; c.Number == e.Number {
			c.Given = append(c.Given, words)
			return true
		}
	}
	v.report.Limits = append(v.report.Limits, fmt.Sprintf("%s, with epoch %d", words, e.Number))
	return true
}
