package audit

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// maxListed is how many statements a table of the report lists one by one.
const maxListed = 5000

// Figure is a number of the report and the statements behind it.
type Figure struct {
	N     int
	Of    int      // statements that it is counted from
	First []uint64 // indices of the first few
}

func (f *Figure) add(index uint64) {
	f.N++
	if f.Of++; len(f.First) < 12 {
		f.First = append(f.First, index)
	}
}

// Row is a line of a table: what is counted, beside the words for it.
type Row struct {
	Words []string
	Figure
}

// group counts statements by words.
type group struct{ rows map[string]*Row }

func (g *group) add(index uint64, words ...string) { g.addN(index, 1, words...) }

// addN counts n that one statement tells of.
func (g *group) addN(index uint64, n int, words ...string) {
	if g.rows == nil {
		g.rows = map[string]*Row{}
	}
	key := strings.Join(words, "\x00")
	if g.rows[key] == nil {
		g.rows[key] = &Row{Words: words}
	}
	g.rows[key].add(index)
	g.rows[key].N += n - 1
}

// sorted returns the rows, the greatest first.
func (g *group) sorted() []*Row {
	rows := make([]*Row, 0, len(g.rows))
	for _, r := range g.rows {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b *Row) int { return cmp.Or(cmp.Compare(b.N, a.N), slices.Compare(a.Words, b.Words)) })
	return rows
}

// MachineRow is a host in one state.
type MachineRow struct {
	Host    string
	Machine *Machine
	State   string
	Permits Figure
	Denials Figure
}

// ActRow is an act of the authorities with all its signatures.
type ActRow struct {
	Item    *Item
	Signers []string
	Indices []uint64
}

// tally is what the report shows.
type tally struct {
	Account    *Account
	First      string // logged time of the first and the last statement
	Last       string
	Permits    Figure
	Denials    Figure
	Starts     Figure
	Ends       Figure
	Proved     Figure
	Refuted    Figure
	Unchecked  Figure
	Strangers  uint64 // refusals of strangers, from summaries
	Summaries  Figure
	Faults     Figure // refusals that were faults of the issuer
	Pulls      Figure // bundles that were made before
	PermitRows []*Item
	DenyRows   []*Item
	Cut        bool // more were decided than are listed
	Reasons    []*Row
	Initiators []*Row
	Gates      []*Row
	Needs      []*Row // requirements that did not hold
	Stranger   []*Row // by code, name and meaning; N counts refusals
	Machines   []*MachineRow
	Policies   []*ActRow
	Changes    []*ActRow // enrolments, revocations, genesis
	KeyChanges []*ActRow
	Keys       []*Item
	Bound      []*Item
	Kept       []*Item // what became of payloads
	Holds      []*Item // legal holds that were placed and not lifted, as far as this bundle shows
	Unproved   []*Row
	Wrong      []*Item
	Open       []*Item // starts without an end
	Statements []*Item // those that the figures link to
	Controls   []Control
	Limits     []string
}

// count goes through the account once.
func count(a *Account) *tally {
	t := &tally{Account: a, Limits: limitsOf(a.Report)}
	c := &counting{tally: t, machines: map[string]*MachineRow{}, acts: map[string]*ActRow{}, open: map[string]*Item{}, permits: map[string]*Item{}}
	for _, it := range a.Items {
		c.verdict(it)
		c.statement(it)
	}
	c.finish()
	return t
}

type counting struct {
	*tally
	reasons, initiators, gates, needs, why group
	machines                               map[string]*MachineRow
	acts                                   map[string]*ActRow
	open                                   map[string]*Item
	strangers                              group
	permits                                map[string]*Item // by id of the artifact
}

func (c *counting) verdict(it *Item) {
	if it.Logged != 0 && c.First == "" {
		c.First = When(it.Logged)
	}
	if it.Logged != 0 {
		c.Last = When(it.Logged)
	}
	switch it.Verdict {
	case Proved:
		c.Proved.add(it.Index)
	case Refuted:
		c.Refuted.add(it.Index)
		c.Wrong = append(c.Wrong, it)
	default:
		c.Unchecked.add(it.Index)
		c.why.add(it.Index, it.Name(), it.Why)
	}
}

// statement counts what a statement tells.
func (c *counting) statement(it *Item) {
	switch {
	case it.Permitted():
		c.Permits.add(it.Index)
		c.permits[it.Artifact] = it
		c.initiators.add(it.Index, it.Initiator, "permitted")
		c.gates.add(it.Index, it.Gate, "permitted")
		c.PermitRows = list(c.tally, c.PermitRows, it)
		c.machine(it)
	case it.Refusal != nil:
		c.denial(it)
	case it.Event == record.EventStart.String():
		c.Starts.add(it.Index)
		c.open[it.Digest] = it
		c.gates.add(it.Index, it.Gate, "started")
	case it.Event == record.EventEnd.String():
		c.Ends.add(it.Index)
		c.gates.add(it.Index, it.Gate, "ended")
		delete(c.open, it.started)
	case it.Event == record.EventSummary.String():
		c.Summaries.add(it.Index)
		for _, n := range it.Counts {
			c.Strangers += n.N
			c.strangers.addN(it.Index, int(min(n.N, 1<<53)), fmt.Sprint(n.Code), n.Kind, denial.Reason(min(n.Code, 999)).Meaning())
		}
	case it.Birth != nil:
		c.Keys = append(c.Keys, it)
	case it.Act != nil:
		c.act(it)
	case it.Enrolled != nil:
		c.Bound = append(c.Bound, it)
	case it.Kept != nil:
		c.kept(it)
	case it.Kind == statement.Manifest.String():
		c.Pulls.add(it.Index)
	}
}

func (c *counting) kept(it *Item) {
	c.Kept = append(c.Kept, it)
	switch {
	case it.Kept.Lifted:
		c.Holds = slices.DeleteFunc(c.Holds, func(h *Item) bool { return h.Kept.Hold == it.Kept.Hold })
	case it.Kept.Hold != "":
		c.Holds = append(c.Holds, it)
	}
}

func list(t *tally, rows []*Item, it *Item) []*Item {
	if len(rows) >= maxListed {
		t.Cut = true
		return rows
	}
	return append(rows, it)
}

func (c *counting) denial(it *Item) {
	if p := c.permits[it.Artifact]; it.Initiator == "" && p != nil {
		copied := *it
		copied.Initiator = p.Initiator // the record names the artifact alone
		it = &copied
	}
	c.Denials.add(it.Index)
	c.reasons.add(it.Index, fmt.Sprint(it.Refusal.Code), it.Refusal.Name, it.Refusal.Meaning, it.Refusal.Condition)
	if it.Initiator != "" {
		c.initiators.add(it.Index, it.Initiator, "denied")
	}
	if it.Refusal.Fault {
		c.Faults.add(it.Index)
	}
	for _, r := range it.Refusal.Requirements {
		c.needs.add(it.Index, r)
	}
	c.DenyRows = list(c.tally, c.DenyRows, it)
	c.machine(it)
}

// machine counts decisions by host and state.
func (c *counting) machine(it *Item) {
	if it.Machine == nil {
		return
	}
	m := it.Machine
	state := fmt.Sprintf("Secure Boot %s, firmware %s", m.SecureBoot, m.Firmware)
	key := strings.Join(append([]string{it.Host, state, m.EK, m.AK}, m.PCRs...), "\x00")
	row := c.machines[key]
	if row == nil {
		row = &MachineRow{Host: it.Host, Machine: m, State: state}
		c.machines[key] = row
	}
	if it.Refusal != nil {
		row.Denials.add(it.Index)
	} else {
		row.Permits.add(it.Index)
	}
}

func (c *counting) act(it *Item) {
	row := c.acts[it.Act.Payload]
	if row == nil {
		row = &ActRow{Item: it}
		c.acts[it.Act.Payload] = row
		switch {
		case it.Act.Policy != nil:
			c.Policies = append(c.Policies, row)
		case it.Keys != nil:
			c.KeyChanges = append(c.KeyChanges, row)
		default:
			c.Changes = append(c.Changes, row)
		}
	}
	name := c.Account.People[it.Signer]
	if name == "" {
		name = "key " + it.Signer
	}
	row.Signers, row.Indices = append(row.Signers, name), append(row.Indices, it.Index)
}

func (c *counting) finish() {
	c.Reasons, c.Initiators, c.Gates, c.Needs, c.Unproved = c.reasons.sorted(), c.initiators.sorted(), c.gates.sorted(), c.needs.sorted(), c.why.sorted()
	c.Stranger = c.strangers.sorted()
	for _, key := range sortedKeys(c.machines) {
		c.Machines = append(c.Machines, c.machines[key])
	}
	for _, it := range c.open {
		c.Open = append(c.Open, it)
	}
	slices.SortFunc(c.Open, func(a, b *Item) int { return cmp.Compare(a.Index, b.Index) })
	c.Controls = controls(c.tally)
	c.Statements = c.Account.Items
	if len(c.Statements) > maxStatements {
		c.Statements, c.Cut = c.linked(), true
	}
}

// maxStatements is up to how many statements the report describes each.
const maxStatements = 20000

// InForce returns the entry that published a policy; false if this bundle does not hold it.
func (t *tally) InForce(p *PolicyID) (uint64, bool) {
	for _, row := range t.Policies {
		if p != nil && row.Item.Act.Policy.Hash == p.Hash {
			return row.Indices[0], true
		}
	}
	return 0, false
}

// linked returns the statements that figures and tables name.
func (c *counting) linked() []*Item {
	want := map[uint64]bool{}
	mark := func(f Figure) {
		for _, i := range f.First {
			want[i] = true
		}
	}
	for _, f := range []Figure{c.Permits, c.Denials, c.Starts, c.Ends, c.Proved, c.Refuted, c.Unchecked, c.Summaries, c.Faults, c.Pulls} {
		mark(f)
	}
	for _, rows := range [][]*Row{c.Reasons, c.Initiators, c.Gates, c.Needs, c.Unproved, c.Stranger} {
		for _, r := range rows {
			mark(r.Figure)
		}
	}
	for _, m := range c.Machines {
		mark(m.Permits)
		mark(m.Denials)
	}
	for _, items := range [][]*Item{c.PermitRows, c.DenyRows, c.Wrong, c.Open, c.Keys, c.Bound, c.Kept} {
		for _, it := range items {
			want[it.Index] = true
		}
	}
	for _, rows := range [][]*ActRow{c.Policies, c.Changes, c.KeyChanges} {
		for _, r := range rows {
			for _, i := range r.Indices {
				want[i] = true
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(c.Account.Items), func(it *Item) bool { return !want[it.Index] })
}

// limitsOf says what the report does not show.
func limitsOf(r *Report) []string {
	return append(slices.Clone(r.Limits),
		"Whether a permitted execution was wise: the report says that policy allowed it, not that the policy was good.",
		"What a program did after it had started: a gate records its start, its end and its exit status.",
		"Programs that were started on a host beside its gate.",
		"Who the caller was, where a request was refused before any key of the caller had verified: such refusals are counted.",
		"Why a person signed an act, beyond what the act itself says.",
		"Entries behind the end of this bundle, or of another log of the same issuer.")
}
