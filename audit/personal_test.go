package audit_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/cddl"
)

const carol = "urn:example:staff:4711"

// The personal data of carol.
var personal = map[string]string{"name": "Carol Quite-Unguessable", "team": "Zymurgy and Payments"}

// enrolCarol has the authorities enrol carol with personal data, and returns what opens the commitments, by field.
func (s *stage) enrolCarol() map[string][]byte {
	s.Helper()
	openings, commitments, err := record.Withhold(personal)
	if err != nil {
		s.Fatal(err)
	}
	s.tick()
	e := s.Initiator(carol)
	e.Personal = commitments
	act := must(s.Sign(statement.Enrolment, e, alice, bob).WithOpenings(openings))(s)
	must(s.Issuer.Apply(s.Ctx, statement.Enrolment, act))(s)
	byField := map[string][]byte{}
	for n, field := range slices.Sorted(maps.Keys(personal)) {
		byField[field] = openings[n]
	}
	return byField
}

// whole is everything that a bundle, its account and its report hold.
func (s *stage) whole(t *testing.T, raw []byte) string {
	t.Helper()
	a := s.tell(raw)
	wantProved(t, a.Report)
	return string(raw) + page(t, a) + a.Report.Text()
}

// What is not disclosed stands in no byte of a bundle, in no leaf of the log, in no page and no text; what is stands in
// the bundle and is told, with the statement that commits to it.
func TestUndisclosedPersonalDataIsNotInTheBundle(t *testing.T) {
	s := newStage(t)
	openings := s.enrolCarol()
	holds := func(text, field string) bool {
		return strings.Contains(text, personal[field]) || strings.Contains(text, string(openings[field])) ||
			strings.Contains(text, string(openings[field][len("writ-personal-v1")+2:][:40])) // its salt
	}
	var log bytes.Buffer
	if err := s.Tree.Leaves(s.Ctx, 0, s.Tree.Head().Size, func(_ uint64, leaf []byte) error { log.Write(leaf); return nil }); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		text   string
		opened []string
	}{
		"log":               {log.String(), nil},
		"nothing disclosed": {s.whole(t, s.export(audit.Query{})), nil},
		"another field":     {s.whole(t, s.export(audit.Query{Disclose: []string{"phone"}})), nil},
		"one":               {s.whole(t, s.export(audit.Query{Disclose: []string{"team"}})), []string{"team"}},
		"one, of a host":    {s.whole(t, s.export(audit.Query{Host: hostURI, Disclose: []string{"name"}})), []string{"name"}},
		"both":              {s.whole(t, s.export(audit.Query{Disclose: []string{"name", "team"}})), []string{"name", "team"}},
	} {
		for field := range personal {
			if got, want := holds(c.text, field), slices.Contains(c.opened, field); got != want {
				t.Errorf("%s: holds the %s: %v, want %v", name, field, got, want)
			}
		}
	}
	a := s.tell(s.export(audit.Query{Disclose: []string{"team"}}))
	if html := page(t, a); !strings.Contains(html, personal["team"]) || !strings.Contains(html, "disclosed: team") || !strings.Contains(html, "withheld; commitment") {
		t.Error("the report does not say what is disclosed and what withheld")
	}
	if !slices.Equal(a.Report.Disclosed, []string{"team"}) || !strings.Contains(a.Report.Text(), "personal data disclosed: team") {
		t.Errorf("got %q", a.Report.Text())
	}
}

func TestForgedOpeningsAreRefuted(t *testing.T) {
	s := newStage(t)
	openings := s.enrolCarol()
	name := func(field string) string { return audit.NameOpening(statement.DigestOf(openings[field])) }
	good := s.export(audit.Query{Disclose: []string{"team"}})
	other := must(statement.Marshal([]any{"writ-personal-v1", "team", make([]byte, 32), personal["team"]}))(t)
	wantProved(t, s.verify(good))
	if err := cddl.Load(t, "../docs/formats", "acts.cddl", "common.cddl").Match("opening", cddl.Decode(t, unpack(t, good)[name("team")])); err != nil {
		t.Error(err)
	}
	for what, c := range map[string]struct {
		edit func(files)
		seal func(*audit.Manifest)
		want denial.Reason
	}{
		"another value":            {func(f files) { f[name("team")] = bytes.Replace(f[name("team")], []byte("Zym"), []byte("Gym"), 1) }, nil, denial.LogInconsistent},
		"another salt":             {func(f files) { f[name("team")] = other }, nil, denial.LogInconsistent},
		"of another field":         {func(f files) { f[name("team")] = openings["name"] }, nil, denial.LogInconsistent},
		"no opening at all":        {func(f files) { f[name("team")] = []byte{1} }, nil, denial.PayloadForm},
		"more than was asked for":  {func(f files) { f[name("name")] = openings["name"] }, nil, denial.ReceiptInvalid},
		"left out":                 {func(f files) { delete(f, name("team")) }, nil, denial.NoEvidence},
		"disclosed without asking": {nil, func(m *audit.Manifest) { m.Query.Disclose = nil }, denial.ReceiptInvalid},
		"asked for and not opened": {nil, func(m *audit.Manifest) { m.Query.Disclose = []string{"name", "team"} }, denial.NoEvidence},
		"fields out of order":      {nil, func(m *audit.Manifest) { m.Query.Disclose = []string{"team", "name"} }, denial.PayloadForm},
	} {
		t.Run(what, func(t *testing.T) {
			f := unpack(t, good)
			if c.edit != nil {
				c.edit(f)
			}
			wantRefuted(t, s.verify(s.reseal(f, c.seal)), c.want)
		})
	}
}

// An opening that was deleted is a gap that the bundle names; the log and its proofs stay.
func TestDeletedOpeningIsAGap(t *testing.T) {
	s := newStage(t)
	openings := s.enrolCarol()
	lost := lossy{Log: s.Tree, lost: map[statement.Digest]bool{statement.DigestOf(openings["team"]): true}}
	b := must(audit.Build(s.Ctx, lost, s.Issuer, audit.Query{Disclose: []string{"name", "team"}}))(t)
	defer b.Close()
	var raw bytes.Buffer
	if err := b.Write(s.Ctx, &raw); err != nil {
		t.Fatal(err)
	}
	r := s.verify(raw.Bytes())
	wantProved(t, r)
	if len(r.Lacks) != 1 || r.Lacks[0].Part != "team" {
		t.Errorf("got gaps %+v", r.Lacks)
	}
}
