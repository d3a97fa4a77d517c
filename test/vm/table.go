package vm

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/governed-execution/writ/denial"
)

//go:generate go run ./table ../../docs/boots.md

// The lines in a document between which the table stands.
const (
	tableBegin = "<!-- table: made by \"go generate ./test/vm\" from the recorded boots. Do not edit. -->\n"
	tableEnd   = "<!-- end of table -->\n"
)

// Verdict is what verifier and baseline policy say of a recorded boot.
type Verdict struct {
	Moved    []int
	Verify   denial.Reason
	Decide   denial.Reason
	Failed   []string // requirements that did not hold
	Foretold bool     // the quoted values are the predicted ones
}

// Judge verifies recorded boots anew, in a directory of fixtures, and returns the verdict on each by name.
func Judge(dir string) (map[string]Verdict, error) {
	out := map[string]Verdict{}
	for _, v := range Variants() {
		f, err := ReadFixture(filepath.Join(dir, v.Name+".json"))
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		base, err := ReadFixture(filepath.Join(dir, v.base()+".json"))
		if err != nil {
			return nil, err
		}
		policy, err := os.ReadFile(policyPath(dir, v.base()))
		if err != nil {
			return nil, err
		}
		if out[v.Name], err = f.judge(base, policy); err != nil {
			return nil, fmt.Errorf("judging %s: %w", v.Name, err)
		}
	}
	return out, nil
}

func (f *Fixture) judge(base *Fixture, policy []byte) (v Verdict, err error) {
	t, err := f.Testimony()
	if err != nil {
		return v, err
	}
	facts, refusal := t.Verify()
	v.Verify = Reason(refusal)
	v.Moved = Moved(f.PCRs, base.PCRs)
	v.Foretold = f.Prediction != nil && len(Predicted(f.Prediction, hexadecimal(f.Parts.PCRs))) == 0
	if facts == nil {
		return v, nil
	}
	d, err := Decide(policy, facts)
	if d != nil {
		v.Decide, v.Failed = d.Reason, d.Requirements
	}
	return v, err
}

// Table writes what came of every variant as a table in Markdown.
func Table(verdicts map[string]Verdict) string {
	var b strings.Builder
	b.WriteString("| machine | what differs | PCRs that move | verifier | baseline policy |\n|---|---|---|---|---|\n")
	for _, v := range Variants() {
		got, booted := verdicts[v.Name]
		moved, verifier, policy := list(got.Moved), "facts", "allows"
		switch {
		case v.Refused != "":
			moved, verifier, policy = "–", "–", "firmware does not start it"
		case v.Enrol != 0:
			moved, verifier, policy = "–", fmt.Sprintf("enrolment: %d %s", v.Enrol.Code(), v.Enrol), "–"
		case !booted:
			continue
		case got.Verify != 0:
			verifier, policy = fmt.Sprintf("%d %s", got.Verify.Code(), got.Verify), "–"
		case got.Decide != 0:
			policy = fmt.Sprintf("%d %s: %s", got.Decide.Code(), got.Decide, strings.Join(got.Failed, ", "))
		}
		if v.Base == v.Name {
			moved = "–"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s |\n", v.Name, v.What, moved, verifier, policy)
	}
	return b.String()
}

// Refresh puts the table into a document.
func Refresh(document, table string) (string, error) {
	before, rest, found := strings.Cut(document, tableBegin)
	_, after, ended := strings.Cut(rest, tableEnd)
	if !found || !ended {
		return "", fmt.Errorf("writing the table: the document has no place for it")
	}
	return before + tableBegin + table + tableEnd + after, nil
}

func hexadecimal(pcrs map[int64][]byte) map[int64]string {
	out := map[int64]string{}
	for n, v := range pcrs {
		out[n] = fmt.Sprintf("%x", v)
	}
	return out
}
