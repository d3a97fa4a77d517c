package audit

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Verdict is what a check has come to.
type Verdict string

// The verdicts.
const (
	Proved    Verdict = "proved"    // it follows from the bundle and the trust file
	Refuted   Verdict = "refuted"   // it contradicts them
	Unchecked Verdict = "unchecked" // nothing in the bundle shows it, or shows otherwise
)

// Report is what Verify has found.
type Report struct {
	Verdict    Verdict   `json:"verdict"`
	Issuer     string    `json:"issuer,omitempty"` // of the trust file
	Log        string    `json:"log,omitempty"`
	From       uint64    `json:"from"`
	To         uint64    `json:"to"`
	Execution  string    `json:"execution,omitempty"` // in hexadecimal
	Host       string    `json:"host,omitempty"`
	Disclosed  []string  `json:"disclosed,omitempty"` // fields of personal data that the bundle opens
	Head       *Head     `json:"head,omitempty"`
	Sealed     uint64    `json:"sealed,omitempty"` // logged time of the manifest
	Trust      Anchors   `json:"trust"`            // what it was checked with
	Bundle     Finding   `json:"bundle"`           // the bundle as a whole
	Statements []Finding `json:"statements"`       // by index; empty if Options.Brief, or if the bundle is refuted before they are read
	Counts     []Count   `json:"counts"`

	Epochs []EpochCase `json:"epochs,omitempty"` // that the log had up to the end of the bundle: each has lost entries

	BreakGlass []GlassCase `json:"break_glass,omitempty"` // authorizations by people up to the end of the bundle

	Handovers []Handover `json:"authorities,omitempty"` // changes of the authorities up to the end of the bundle

	Keys []KeyNow `json:"keys,omitempty"` // of the issuer, as the statements leave them

	Lacks  []Lack   `json:"lacks"`  // parts that the issuer no longer has
	Absent []Absent `json:"absent"` // parts of the layout that no bundle of this issuer has
	Limits []string `json:"limits"` // what no check of this bundle can show

	tallies tallies
}

// Anchors names the trust file that a bundle was checked with.
type Anchors struct {
	Version uint64 `json:"version"` // of the trust file
	Genesis string `json:"genesis"` // digest that it pins, in hexadecimal
}

// tallies are what is counted of all findings.
type tallies struct {
	rows    map[string]*[3]int // by what the statement is: proved, refuted, unchecked
	why     map[string]int     // for what reason statements are unchecked
	refuted []Finding          // the first
	more    int                // refuted ones that are not kept
	open    bool               // an artifact or an attestation is not proved
}

// maxRefuted is how many refuted statements are named.
const maxRefuted = 10_000

// take counts findings, and keeps them unless it is to be brief.
func (r *Report) take(brief bool, findings ...Finding) {
	t := &r.tallies
	if t.rows == nil {
		t.rows, t.why = map[string]*[3]int{}, map[string]int{}
	}
	for i := range findings {
		f := &findings[i]
		name := f.name()
		if t.rows[name] == nil {
			t.rows[name] = &[3]int{}
		}
		t.rows[name][column(f.Verdict)]++
		switch {
		case f.Verdict == Refuted && len(t.refuted) < maxRefuted:
			t.refuted = append(t.refuted, *f)
		case f.Verdict == Refuted:
			t.more++
		case f.Verdict == Unchecked:
			t.why[name+": "+f.Why]++
		}
		decided := f.Kind == statement.Artifact.String() || f.Event == record.EventAttest.String()
		t.open = t.open || f.Verdict != Proved && decided
	}
	if !brief {
		r.Statements = append(r.Statements, findings...)
	}
}

func column(v Verdict) int { return slices.Index([]Verdict{Proved, Refuted, Unchecked}, v) }

// Head is the tree head that everything in the bundle is proved against.
type Head struct {
	Size uint64 `json:"size"`
	Root string `json:"root"` // in hexadecimal
	Time uint64 `json:"time"`
}

// Finding is the verdict on one statement, or on the bundle.
type Finding struct {
	Index   uint64  `json:"index"`
	Kind    string  `json:"kind"`
	Event   string  `json:"event,omitempty"`  // of a record
	Denied  uint64  `json:"denied,omitempty"` // code that the statement itself tells of
	Logged  uint64  `json:"logged,omitempty"` // logged time, seconds since 1970 UTC
	Verdict Verdict `json:"verdict"`
	Code    int     `json:"code,omitempty"` // why it is refuted
	Reason  string  `json:"reason,omitempty"`
	Why     string  `json:"why,omitempty"` // why it is refuted or unchecked, for people

	denied *denial.Denial
}

// refute makes the finding a refutation.
func (f *Finding) refute(d *denial.Denial) {
	f.Verdict, f.Code, f.Reason, f.Why, f.denied = Refuted, d.Reason.Code(), d.Reason.String(), d.Detail, d
}

// leave makes the finding unchecked, unless it is refuted.
func (f *Finding) leave(why string) {
	if f.Verdict != Refuted {
		f.Verdict, f.Why = Unchecked, why
	}
}

// conclude sets the overall verdict: refuted if anything is; unchecked if the bundle, an artifact or an attestation is; else proved.
// Other statements that are unchecked are told of, and do not change it: their truth is the word of who signed them.
func (r *Report) conclude() {
	r.Verdict = r.Bundle.Verdict
	switch {
	case !r.allSound():
		r.Verdict = Refuted
	case r.tallies.open && r.Verdict == Proved:
		r.Verdict = Unchecked
	}
}

// allSound reports whether no statement is refuted.
func (r *Report) allSound() bool { return len(r.tallies.refuted) == 0 }

// hintRefuted is what to try about a statement that is refuted: the hints of the reasons are for whoever made it.
const hintRefuted = "Keep the bundle: it is evidence. Ask the issuer how the entry came into its log, and do not rely on what follows from it."

// HintBundle is what to try about a file that is no bundle.
const HintBundle = "Give a bundle as \"writ audit pull\" has written it, whole: no other tar file has its one form."

// Err returns nil if the verdict is proved. For a refuted bundle it is the first denial found; for an unchecked one
// NO_EVIDENCE.
func (r *Report) Err() error {
	switch {
	case r == nil || r.Verdict == "":
		return denial.New(denial.Internal, "nothing was verified")
	case r.Verdict == Proved:
		return nil
	case r.Verdict == Unchecked:
		return denial.New(denial.NoEvidence, "the bundle does not hold all that its artifacts were decided on").
			Try("See the gaps: what the issuer no longer has only an older bundle can show.")
	case r.Bundle.Verdict == Refuted:
		return r.Bundle.denied
	}
	if len(r.tallies.refuted) > 0 {
		return r.tallies.refuted[0].denied.Try(hintRefuted)
	}
	return denial.New(denial.Internal, "a refutation was lost")
}

// Text returns the report for people.
func (r *Report) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: ", strings.ToUpper(string(r.Verdict)))
	fmt.Fprintf(&b, "%s of %s\n", r.Subject(), r.Log)
	if r.Head != nil {
		fmt.Fprintf(&b, "tree of %d entries at %s, root %s\n", r.Head.Size, instant(r.Head.Time), r.Head.Root)
	}
	for i := range r.Epochs {
		fmt.Fprintf(&b, "ALARM: %s\n", r.Epochs[i].Words())
	}
	if r.Bundle.Verdict != Proved {
		fmt.Fprintf(&b, "bundle %s: %s\n", r.Bundle.Verdict, r.Bundle.words())
	}
	if len(r.Disclosed) > 0 {
		fmt.Fprintf(&b, "personal data disclosed: %s\n", strings.Join(r.Disclosed, ", "))
	}
	r.tally(&b)
	r.details(&b)
	for i := range r.Handovers {
		fmt.Fprintf(&b, "authorities: %s\n", r.Handovers[i].Words())
	}
	for i := range r.BreakGlass {
		fmt.Fprintf(&b, "break-glass: %s\n", r.BreakGlass[i].words())
	}
	for _, l := range r.Lacks {
		fmt.Fprintf(&b, "gap: entry %d has no %s: %s\n", l.Index, l.Part, l.Reason)
	}
	for _, l := range r.Limits {
		fmt.Fprintf(&b, "limit: %s\n", l)
	}
	return b.String()
}

// Subject says what the bundle is about, for people.
func (r *Report) Subject() string {
	switch {
	case r.Execution != "":
		return "execution " + r.Execution
	case r.Host != "":
		return "host " + r.Host
	}
	return fmt.Sprintf("entries %d to %d", r.From, r.To)
}

// words says why, with the code of a refutation.
func (f *Finding) words() string {
	if f.Code == 0 {
		return f.Why
	}
	return strings.TrimSuffix(fmt.Sprintf("%d %s: %s", f.Code, f.Reason, f.Why), ": ")
}

// name says what the statement is.
func (f *Finding) name() string {
	n := f.Kind
	if f.Event != "" {
		n += ": " + f.Event
	}
	if f.Denied != 0 {
		n += fmt.Sprintf(" %d", f.Denied)
	}
	return n
}

// tally writes how many statements of each sort have which verdict.
func (r *Report) tally(b *strings.Builder) {
	if len(r.tallies.rows) == 0 {
		return
	}
	names := sortedKeys(r.tallies.rows)
	width := 24
	for _, name := range names {
		width = max(width, len(name))
	}
	fmt.Fprintf(b, "%-*s %9s %9s %9s\n", width, "statement", Proved, Refuted, Unchecked)
	for _, name := range names {
		n := r.tallies.rows[name]
		fmt.Fprintf(b, "%-*s %9d %9d %9d\n", width, name, n[0], n[1], n[2])
	}
}

// details writes each refutation, and once each reason for which statements are unchecked.
func (r *Report) details(b *strings.Builder) {
	for _, f := range r.tallies.refuted {
		fmt.Fprintf(b, "refuted: entry %d, %s: %s\n", f.Index, f.name(), f.words())
	}
	if r.tallies.more > 0 {
		fmt.Fprintf(b, "refuted: %d more\n", r.tallies.more)
	}
	for _, w := range sortedKeys(r.tallies.why) {
		fmt.Fprintf(b, "unchecked: %d x %s\n", r.tallies.why[w], w)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func instant(seconds uint64) string {
	return time.Unix(int64(min(seconds, 1<<37)), 0).UTC().Format(time.RFC3339)
}
