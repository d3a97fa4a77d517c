package record

import (
	"bytes"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/cddl"
)

func TestOpeningsFitTheirCommitments(t *testing.T) {
	values := map[string]string{"name": "Alice Example", "team": "Payments"}
	openings, commitments, err := Withhold(values)
	if err != nil || len(openings) != 2 || len(commitments) != 2 {
		t.Fatalf("got %d openings, %d commitments, %v", len(openings), len(commitments), err)
	}
	_, again, err := Withhold(values)
	if err != nil || bytes.Equal(again["name"], commitments["name"]) {
		t.Errorf("one value has one commitment (%v): who guesses it has found it", err)
	}
	s := cddl.Load(t, formats, "acts.cddl", "common.cddl")
	e := Enrolment{Personal: commitments}
	for _, raw := range openings {
		o, err := e.Opens(raw)
		if err != nil || o.Value != values[o.Field] || len(o.Salt) != saltSize {
			t.Errorf("got %+v, %v", o, err)
		}
		if err := s.Match("opening", cddl.Decode(t, raw)); err != nil {
			t.Error(err)
		}
	}
	for name, e := range map[string]Enrolment{"none": {}, "of another salt": {Personal: again}, "of another field": {Personal: map[string][]byte{"name": commitments["team"]}}} {
		if _, err := e.Opens(openings[0]); !denial.Is(err, denial.PayloadForm) {
			t.Errorf("commitments %s: got %v", name, err)
		}
	}
}

func TestOddOpeningsAreRefused(t *testing.T) {
	good := Opening{Form: openingForm, Field: "name", Salt: make([]byte, saltSize), Value: "x"}
	for name, c := range map[string]struct {
		edit func(*Opening)
		want denial.Reason
	}{
		"another form":   {func(o *Opening) { o.Form += "1" }, denial.UnsupportedVersion},
		"no field":       {func(o *Opening) { o.Field = "" }, denial.PayloadForm},
		"field in caps":  {func(o *Opening) { o.Field = "Name" }, denial.PayloadForm},
		"a long field":   {func(o *Opening) { o.Field = strings.Repeat("a", 33) }, denial.PayloadForm},
		"a short salt":   {func(o *Opening) { o.Salt = o.Salt[1:] }, denial.PayloadForm},
		"a long salt":    {func(o *Opening) { o.Salt = append(o.Salt, 0) }, denial.PayloadForm},
		"no value":       {func(o *Opening) { o.Value = "" }, denial.PayloadForm},
		"a long value":   {func(o *Opening) { o.Value = strings.Repeat("a", maxValue+1) }, denial.PayloadForm},
		"trailing bytes": {nil, denial.TrailingData},
	} {
		o := good
		if c.edit != nil {
			c.edit(&o)
		}
		raw, err := statement.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		if c.edit == nil {
			raw = append(raw, 0)
		}
		if _, err := DecodeOpening(raw); !denial.Is(err, c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}

func TestOddCommitmentsAreRefused(t *testing.T) {
	many := map[string][]byte{}
	for i := range MaxPersonal + 1 {
		many["f"+string(rune('a'+i))] = make([]byte, 32)
	}
	for name, c := range map[string]struct {
		personal map[string][]byte
		want     denial.Reason
	}{
		"too many":         {many, denial.StructureLimit},
		"no proper field":  {map[string][]byte{"a b": make([]byte, 32)}, denial.PayloadForm},
		"no proper digest": {map[string][]byte{"a": make([]byte, 31)}, denial.PayloadForm},
	} {
		e := Enrolment{Version: Version, ID: "urn:x:1", Time: 1, Nonce: make([]byte, 16), Host: &Host{EK: make([]byte, 32), Labels: map[string]string{}}}
		if err := e.Check(); err != nil {
			t.Fatal(err)
		}
		e.Personal = c.personal
		if err := e.Check(); !denial.Is(err, c.want) {
			t.Errorf("%s: got %v, want %s", name, err, c.want)
		}
	}
}
