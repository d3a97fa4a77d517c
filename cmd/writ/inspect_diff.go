package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	firmwarepolicy "github.com/governed-execution/writ/firmware-policy"
)

// diffView is what "writ inspect eventlog --diff A B --json" writes.
type diffView struct {
	Verified     bool                     `json:"verified"` // never
	Bank         string                   `json:"bank"`
	PCRs         []pcrDiff                `json:"pcrs"`  // those whose value differs
	Facts        []factDiff               `json:"facts"` // that differ, with the names that policies use
	Requirements []firmwarepolicy.Touched `json:"requirements"`
}

// pcrDiff is how the events of one PCR differ.
type pcrDiff struct {
	PCR     int            `json:"pcr"`
	Before  string         `json:"before"` // "" if no event extends it
	After   string         `json:"after"`
	Removed []attest.Event `json:"removed"`
	Added   []attest.Event `json:"added"`
}

type factDiff struct {
	Fact   string          `json:"fact"`
	Before json.RawMessage `json:"before"`
	After  json.RawMessage `json:"after"`
}

// side is one of the two boots that are compared.
type side struct {
	log    *attest.EventLog
	values map[int64]string
	facts  attest.Claims
}

// diffLogs compares two logs in a bank that both have: that of the policy if there is one, else the first of SHA-256 and
// SHA-384.
func diffLogs(before, after []byte, policy *firmwarepolicy.Appraisal) (*diffView, error) {
	a, err := attest.ParseLog(before)
	if err != nil {
		return nil, err
	}
	b, err := attest.ParseLog(after)
	if err != nil {
		return nil, err
	}
	v := &diffView{Bank: "sha256", PCRs: []pcrDiff{}, Facts: []factDiff{}}
	if policy != nil {
		v.Bank = policy.Selection().Bank
	} else if !slices.Contains(a.Banks, v.Bank) || !slices.Contains(b.Banks, v.Bank) {
		v.Bank = "sha384"
	}
	var sides [2]side
	for i, log := range []*attest.EventLog{a, b} {
		if sides[i], err = newSide(log, v.Bank); err != nil {
			return nil, err
		}
	}
	v.diffPCRs(sides)
	v.Requirements = policy.Compare(sides[0].facts, sides[1].facts)
	return v, v.diffFacts(sides)
}

func newSide(log *attest.EventLog, bank string) (side, error) {
	values, err := log.Replay(bank)
	if err != nil {
		return side{}, denial.New(denial.BankNotAllowed, "a log has no bank %s", bank)
	}
	facts, _, err := log.Compare(bank, decoded(values))
	facts.PCR = values
	return side{log, values, facts}, err
}

func (v *diffView) diffPCRs(s [2]side) {
	for pcr := range int64(24) {
		before, after := s[0].values[pcr], s[1].values[pcr]
		if before == after {
			continue
		}
		removed, added := diffEvents(events(s[0].log, v.Bank, int(pcr)), events(s[1].log, v.Bank, int(pcr)), v.Bank)
		v.PCRs = append(v.PCRs, pcrDiff{int(pcr), before, after, removed, added})
	}
}

// events are those that extended a PCR in a bank.
func events(l *attest.EventLog, bank string, pcr int) []attest.Event {
	return slices.DeleteFunc(slices.Clone(l.Events), func(e attest.Event) bool {
		return e.PCR != pcr || e.Type == "EV_NO_ACTION" || e.Digests[bank] == ""
	})
}

// diffEvents takes away from both lists what both have as often. What only changed its place is left out: the values of the
// PCR tell of it.
func diffEvents(before, after []attest.Event, bank string) (removed, added []attest.Event) {
	count := map[string]int{}
	for _, e := range before {
		count[e.Digests[bank]]++
	}
	for _, e := range after {
		if d := e.Digests[bank]; count[d] > 0 {
			count[d]--
		} else {
			added = append(added, e)
		}
	}
	for _, e := range slices.Backward(before) {
		if d := e.Digests[bank]; count[d] > 0 {
			count[d]--
			removed = append(removed, e)
		}
	}
	slices.Reverse(removed)
	return slices.Concat([]attest.Event{}, removed), slices.Concat([]attest.Event{}, added)
}

// diffFacts shows the facts that differ. PCR values and the log itself are shown elsewhere.
func (v *diffView) diffFacts(s [2]side) error {
	var trees [2]map[string]any
	for i := range s {
		data, err := firmwarepolicy.EncodeFacts(s[i].facts)
		if err == nil {
			err = json.Unmarshal(data, &trees[i])
		}
		if err != nil {
			return fmt.Errorf("reading facts: %w", err)
		}
	}
	for _, fact := range firmwarepolicy.Differences(s[0].facts, s[1].facts) {
		if strings.HasPrefix(fact, "facts.pcr[") || strings.HasPrefix(fact, "facts.log.") {
			continue
		}
		d := factDiff{Fact: fact}
		for i, out := range []*json.RawMessage{&d.Before, &d.After} {
			data, err := json.Marshal(lookUp(trees[i], fact))
			if err != nil {
				return fmt.Errorf("encoding fact: %w", err)
			}
			*out = data
		}
		v.Facts = append(v.Facts, d)
	}
	return nil
}

// lookUp finds a fact by its name, nil if it is absent.
func lookUp(tree map[string]any, fact string) any {
	var at any = tree
	for _, step := range strings.FieldsFunc(strings.TrimPrefix(fact, "facts."), func(r rune) bool { return strings.ContainsRune(".[]", r) }) {
		m, ok := at.(map[string]any)
		if !ok {
			return nil
		}
		at = m[step]
	}
	return at
}

// text renders the differences for people.
func (v *diffView) text(policy bool) string {
	var b strings.Builder
	if len(v.PCRs) == 0 {
		fmt.Fprintf(&b, "both boots give the same PCRs in bank %s\n", v.Bank)
	}
	for _, p := range v.PCRs {
		fmt.Fprintf(&b, "PCR %d\n  before %s\n  after  %s\n", p.PCR, orNever(p.Before), orNever(p.After))
		for _, e := range p.Removed {
			b.WriteString(changedEvent("-", e, v.Bank))
		}
		for _, e := range p.Added {
			b.WriteString(changedEvent("+", e, v.Bank))
		}
		if len(p.Removed)+len(p.Added) == 0 {
			b.WriteString("  the same events in another order, or another start\n")
		}
	}
	if len(v.Facts) > 0 {
		b.WriteString("facts that differ\n")
	}
	for _, f := range v.Facts {
		fmt.Fprintf(&b, "  %s\n    before %s\n    after  %s\n", f.Fact, compact(f.Before), compact(f.After))
	}
	if !policy {
		return b.String()
	}
	fmt.Fprintf(&b, "requirements of the policy that look at what differs: %d\n", len(v.Requirements))
	for _, r := range v.Requirements {
		fmt.Fprintf(&b, "  %-20s before: %s; after: %s (%d)\n    looks at %s\n", r.Requirement, r.Before, r.After, r.Code, strings.Join(r.Facts, ", "))
	}
	return b.String()
}

func orNever(value string) string {
	if value == "" {
		return "never extended"
	}
	return value
}

// changedEvent renders an event that only one of the boots has.
func changedEvent(sign string, e attest.Event, bank string) string {
	note := ""
	if !e.Covered {
		note = "untrusted: "
	}
	return fmt.Sprintf("  %s event %d %s %s\n      %s%s\n", sign, e.Number, e.Type, e.Digests[bank], note, clean(e.Description))
}

func sortedNames(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }
