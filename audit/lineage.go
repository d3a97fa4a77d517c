package audit

import (
	"fmt"
	"slices"
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// Lineage is where one execution comes from and what came of it. Origin leads from each of its artifacts back to the
// initiator, the authorities behind policies and enrolments, the boot state and the chip; Derived leads forward to runs,
// refusals and the artifacts that descend from it.
type Lineage struct {
	Execution string  `json:"execution"`
	Origin    []*Node `json:"origin"`
	Derived   []*Node `json:"derived"`
}

// Node is one step of a lineage.
type Node struct {
	Kind    string   `json:"kind"` // artifact, initiator, policy, host, boot state, chip, start, end, denial or act
	Title   string   `json:"title"`
	Detail  []string `json:"detail,omitempty"`
	Indices []uint64 `json:"indices,omitempty"` // of the statements behind it
	Verdict Verdict  `json:"verdict,omitempty"` // the worst of them
	Next    []*Node  `json:"next,omitempty"`
}

// weave finds statements by what they name.
type weave struct {
	people     map[string]string
	byDigest   map[string]*Item
	permits    map[string]*Item   // by cti
	execution  map[string][]*Item // artifacts and refusals, by execution id
	records    map[string][]*Item // by cti
	children   map[string][]*Item // by cti of the parent
	acts       map[string][]*Item // by payload digest
	enrolments map[string][]*Item // enrolment records, by host
	initiators map[string]string  // payload digest of the enrolment, by initiator
	policies   map[string]string  // payload digest of the act, by hash of the policy
	reviews    map[string][]*Item // of break-glass, by payload digest of the authorization
}

func newWeave(items []*Item, people map[string]string) *weave {
	w := &weave{people: people, byDigest: map[string]*Item{}, permits: map[string]*Item{}, execution: map[string][]*Item{}, records: map[string][]*Item{},
		children: map[string][]*Item{}, acts: map[string][]*Item{}, enrolments: map[string][]*Item{}, initiators: map[string]string{}, policies: map[string]string{},
		reviews: map[string][]*Item{}}
	for _, it := range items {
		w.byDigest[it.Digest] = it
		switch {
		case it.Permitted():
			w.permits[it.Artifact] = it
			w.execution[it.Execution] = append(w.execution[it.Execution], it)
			for _, p := range it.Parents {
				w.children[p] = append(w.children[p], it)
			}
		case it.Kind == statement.BreakGlass.String() && it.Act != nil:
			if w.acts[it.Act.Payload] == nil { // one for all who signed
				w.execution[it.Execution] = append(w.execution[it.Execution], it)
			}
			w.acts[it.Act.Payload] = append(w.acts[it.Act.Payload], it)
		case it.Kind == statement.Review.String() && it.Glass != nil:
			if w.acts[it.Act.Payload] == nil {
				w.reviews[it.Glass.Act] = append(w.reviews[it.Glass.Act], it)
			}
			w.acts[it.Act.Payload] = append(w.acts[it.Act.Payload], it)
		case it.Act != nil:
			w.acts[it.Act.Payload] = append(w.acts[it.Act.Payload], it)
			if it.Act.Policy != nil {
				w.policies[it.Act.Policy.Hash] = it.Act.Payload
			} else if it.Initiator != "" {
				w.initiators[it.Initiator] = it.Act.Payload
			}
		case it.Enrolled != nil:
			w.enrolments[it.Host] = append(w.enrolments[it.Host], it)
		case it.Artifact != "":
			w.records[it.Artifact] = append(w.records[it.Artifact], it)
		case it.Execution != "":
			w.execution[it.Execution] = append(w.execution[it.Execution], it)
		}
	}
	return w
}

// Trace returns the lineage of an execution among statements. The id is an execution id, the id of an artifact, a
// statement digest or the index of an entry; one that none of the statements has is refused (101).
func Trace(items []*Item, people map[string]string, id string) (*Lineage, error) {
	w := newWeave(items, people)
	for _, it := range items {
		if it.Digest == id || it.Artifact == id && id != "" || fmt.Sprint(it.Index) == id {
			if it.Execution == "" && w.permits[it.Artifact] != nil {
				it = w.permits[it.Artifact]
			}
			if it.Execution != "" {
				id = it.Execution
				break
			}
		}
	}
	found := w.execution[id]
	if len(found) == 0 {
		return nil, denial.New(denial.NoArtifact, "no statement in this bundle is about such an execution").
			Try("Give its id, that of an artifact, a statement's digest or an entry's index; see with \"writ inspect bundle\" what the bundle is about, or pull one of the whole log.")
	}
	l, seen := &Lineage{Execution: id, Origin: []*Node{}, Derived: []*Node{}}, map[string]bool{}
	for _, it := range found {
		if it.Act != nil {
			l.Origin = append(l.Origin, w.breakGlass(it))
			l.Derived = append(l.Derived, w.derived(it, map[string]bool{})...)
			for _, r := range w.reviews[it.Act.Payload] {
				l.Derived = append(l.Derived, w.review(r))
			}
			continue
		}
		if !it.Permitted() {
			l.Derived = append(l.Derived, w.event(it))
			continue
		}
		l.Origin = append(l.Origin, w.origin("permitted by", it, seen))
		l.Derived = append(l.Derived, w.derived(it, map[string]bool{})...)
	}
	return l, nil
}

// node makes a node out of statements.
func node(kind, title string, detail []string, items ...*Item) *Node {
	n := &Node{Kind: kind, Title: title, Detail: detail}
	for _, it := range items {
		n.Indices = append(n.Indices, it.Index)
		n.Verdict = worse(n.Verdict, it.Verdict)
	}
	slices.Sort(n.Indices)
	return n
}

// worse returns the verdict that promises less.
func worse(a, b Verdict) Verdict {
	for _, v := range []Verdict{Refuted, Unchecked, Proved} {
		if a == v || b == v {
			return v
		}
	}
	return ""
}

// origin leads back from an artifact, which stands in it as what it was to what came of it.
func (w *weave) origin(as string, it *Item, seen map[string]bool) *Node {
	n := node("artifact", as+" artifact "+it.Artifact, []string{"issued " + instant(it.Time) + ", until " + instant(it.Expires), strings.Join(it.Scope, "; "),
		"for gate " + it.Gate}, it)
	if seen[it.Artifact] {
		return n
	}
	seen[it.Artifact] = true
	n.Next = append(n.Next, w.initiator(it), w.policy("authorization", it.Policy), w.policy("appraisal", it.Appraisal), w.host(it))
	for _, id := range it.Parents {
		if p := w.permits[id]; p != nil {
			n.Next = append(n.Next, w.origin("delegated from", p, seen))
		} else {
			n.Next = append(n.Next, node("artifact", "descends from artifact "+id, []string{"not among these statements"}))
		}
	}
	return n
}

// breakGlass leads back from a break-glass authorization.
func (w *weave) breakGlass(it *Item) *Node {
	signed := w.acts[it.Act.Payload]
	detail := []string{"justification: " + it.Glass.Why, "issued " + instant(it.Time) + ", until " + instant(it.Expires), strings.Join(it.Scope, "; "),
		"for gate " + it.Gate + ", declared by rule " + it.Glass.Rule}
	if len(it.Glass.Waived) > 0 {
		detail = append(detail, "attestation waived by "+strings.Join(it.Glass.Waived, " and "))
	}
	n := node("artifact", "allowed by break-glass authorization "+it.Artifact+", signed by "+strings.Join(w.signers(signed), ", "), detail, signed...)
	initiator := node("initiator", "to be used by "+it.Initiator, nil)
	initiator.Next = w.act(w.initiators[it.Initiator])
	host := it
	for _, r := range w.records[it.Artifact] {
		if r.Event == record.EventAttest.String() {
			host = r
		}
	}
	n.Next = []*Node{initiator, w.policy("authorization", it.Policy), w.host(host)}
	return n
}

// review describes the review of a break-glass authorization.
func (w *weave) review(it *Item) *Node {
	signed := w.acts[it.Act.Payload]
	return node("act", it.Act.What+", signed by "+strings.Join(w.signers(signed), ", "), []string{instant(it.Time), "finding: " + it.Act.Why}, signed...)
}

func (w *weave) initiator(it *Item) *Node {
	payload := it.registry
	if payload == "" {
		payload = w.initiators[it.Initiator]
	}
	n := node("initiator", "asked for by "+it.Initiator, nil)
	n.Next = w.act(payload)
	return n
}

func (w *weave) policy(kind string, p *PolicyID) *Node {
	if p == nil {
		return node("policy", "under no "+kind+" policy", nil)
	}
	n := node("policy", fmt.Sprintf("under %s policy %s, version %d", kind, p.ID, p.Version), []string{"SHA-256 " + p.Hash})
	n.Next = w.act(w.policies[p.Hash])
	return n
}

// act returns the act with a payload, and who signed it.
func (w *weave) act(payload string) []*Node {
	items := w.acts[payload]
	if len(items) == 0 {
		return []*Node{node("act", "the act behind it is not among these statements", nil)}
	}
	return []*Node{node("act", items[0].Act.What+", signed by "+strings.Join(w.signers(items), ", "), []string{instant(items[0].Time)}, items...)}
}

// signers returns who signed the statements of an act.
func (w *weave) signers(items []*Item) (names []string) {
	for _, it := range items {
		name := w.people[it.Signer]
		if name == "" {
			name = "key " + it.Signer
		}
		names = append(names, name)
	}
	return names
}

// host leads from a host to its boot state, its chip and who approved it.
func (w *weave) host(it *Item) *Node {
	n := node("host", "on host "+it.Host, nil)
	m := it.Machine
	if m == nil {
		return n
	}
	boot := []string{fmt.Sprintf("Secure Boot %s, firmware %s, reset %d, restart %d", m.SecureBoot, m.Firmware, m.Resets, m.Restarts)}
	boot = append(boot, m.PCRs...)
	boot = append(boot, fmt.Sprintf("boot programs: %d; evidence SHA-256 %s", len(m.Programs), m.Evidence))
	chip := node("chip", "TPM with EK "+m.EK, []string{"quoted by AK " + m.AK})
	if en := w.enrolment(it); en != nil {
		chip = node("chip", chip.Title, append(chip.Detail, "AK bound to EK and host "+instant(en.Time)+"; EK trusted by "+MethodWords(en.Enrolled.Method)), en)
		chip.Next = w.act(en.Enrolled.Act)
	}
	state := node("boot state", "in the state that its TPM quoted", boot, it)
	state.Next = []*Node{chip}
	n.Next = []*Node{state}
	return n
}

// MethodWords says why an EK is trusted.
func MethodWords(method string) string {
	switch method {
	case "chain":
		return "its certificate chain"
	case "list":
		return "the word of the authorities"
	}
	return method
}

// enrolment returns the enrolment record that an artifact was decided on: the one that its input names, or else the last
// of the host before it.
func (w *weave) enrolment(it *Item) (found *Item) {
	if en := w.byDigest[it.enrolment]; en != nil {
		return en
	}
	for _, en := range w.enrolments[it.Host] {
		if en.Index < it.Index {
			found = en
		}
	}
	return found
}

// derived leads forward from an artifact: its runs and refusals, and what descends from it.
func (w *weave) derived(it *Item, seen map[string]bool) (nodes []*Node) {
	if seen[it.Artifact] {
		return nil
	}
	seen[it.Artifact] = true
	starts := map[uint64]*Node{}
	for _, r := range w.records[it.Artifact] {
		n := w.event(r)
		if r.Event == record.EventStart.String() {
			starts[r.Uses] = n
		}
		if start := starts[r.Uses]; r.Event == record.EventEnd.String() && start != nil {
			start.Next = append(start.Next, n)
			continue
		}
		nodes = append(nodes, n)
	}
	for _, c := range w.children[it.Artifact] {
		n := node("artifact", "led to artifact "+c.Artifact, []string{"of execution " + c.Execution, "asked for by " + c.Initiator}, c)
		n.Next = w.derived(c, seen)
		nodes = append(nodes, n)
	}
	return nodes
}

// event describes a record about an execution.
func (w *weave) event(it *Item) *Node {
	switch {
	case it.Refusal != nil:
		why := []string{instant(it.Time), it.Refusal.Detail}
		return node("denial", fmt.Sprintf("denied: %d %s", it.Refusal.Code, it.Refusal.Name), slices.DeleteFunc(why, func(s string) bool { return s == "" }), it)
	case it.Event == record.EventStart.String():
		return node("start", fmt.Sprintf("started, use %d, at gate %s", it.Uses, it.Gate), w.startDetail(it), it)
	case it.Event == record.EventEnd.String():
		detail := []string{instant(it.Time)}
		if it.Ended != 0 {
			detail = append(detail, record.EndedWords(it.Ended))
		}
		if it.Left != 0 {
			detail = append(detail, fmt.Sprintf("processes that it left behind, killed by the gate: %d", it.Left))
		}
		return node("end", fmt.Sprintf("ended with status %d", *it.Exit), detail, it)
	}
	return node("record", it.Name(), []string{instant(it.Time)}, it)
}

func (w *weave) startDetail(it *Item) []string {
	detail := []string{instant(it.Time), "code SHA-256 " + it.Program}
	if it.Glass != nil {
		detail = append(detail, "by break-glass: "+it.Glass.Host)
	}
	return detail
}

// Text returns the lineage as a tree for people.
func (l *Lineage) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "execution %s\n", l.Execution)
	b.WriteString("├─ comes from\n")
	write(&b, "│  ", l.Origin)
	b.WriteString("└─ led to\n")
	write(&b, "   ", l.Derived)
	return b.String()
}

func write(b *strings.Builder, indent string, nodes []*Node) {
	if len(nodes) == 0 {
		b.WriteString(indent + "└─ nothing that is logged\n")
	}
	for i, n := range nodes {
		branch, below := "├─ ", "│  "
		if i == len(nodes)-1 {
			branch, below = "└─ ", "   "
		}
		b.WriteString(indent + branch + n.Title + n.source() + "\n")
		for _, d := range n.Detail {
			mark := "   "
			if len(n.Next) > 0 {
				mark = "│  "
			}
			b.WriteString(indent + below + mark + d + "\n")
		}
		if len(n.Next) > 0 {
			write(b, indent+below, n.Next)
		}
	}
}

// source names the statements behind a node, and their verdict.
func (n *Node) source() string {
	if len(n.Indices) == 0 {
		return ""
	}
	s := "entry"
	if len(n.Indices) > 1 {
		s = "entries"
	}
	for _, i := range n.Indices {
		s += fmt.Sprintf(" %d", i)
	}
	if n.Verdict != "" {
		s += ", " + string(n.Verdict)
	}
	return "  [" + s + "]"
}
