package audit_test

import (
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/imalog"
	"github.com/governed-execution/writ/test/issuertest"
)

// measured is a policy that wants PCR 10, and knows one file.
func (s *stage) measured(file string) string {
	text := strings.Replace(s.Appraisal(), "quote = [0, 4, 7, 11]", "quote = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]", 1)
	known := hex.EncodeToString(imalog.Sum("sha256", file))
	text = strings.Replace(text, "[reference]\n", fmt.Sprintf("[ima]\nknown = [\"files\"]\nwatch = [\"/usr/*\"]\n\n[reference]\nfiles = [\"sha256:%s\"]\n", known), 1)
	return text + `
[[require]]
name = "violations"
code = "IMA_VIOLATION"
expr = "facts.ima.violations == 0"

[[require]]
name = "files"
code = "IMA_UNKNOWN_FILE"
expr = "facts.ima.unknown == 0"
`
}

// Permits and denials over lists of measured files are verified again, each with what the policy of its time knew.
func TestMeasuredFilesAreVerifiedAgain(t *testing.T) {
	s := newStage(t)
	list := func(files ...string) *imalog.List {
		l := imalog.New("sha256", s.Boot.PCRs("sha256"))
		for _, f := range files {
			l.File("/usr/bin/"+f, f)
		}
		return l
	}
	ask := func(l *imalog.List, want denial.Reason) {
		t.Helper()
		s.tick()
		_, err := s.Ask(issuertest.Spoil{Measured: l})
		if want == 0 && err != nil || want != 0 && !denial.Is(err, want) {
			t.Fatalf("got %v, want %d", err, want.Code())
		}
	}
	s.publish(s.measured("agent"))
	ask(list("agent"), 0)
	ask(list("agent", "evil"), denial.IMAUnknownFile)
	violated := list("agent")
	violated.Violation("/usr/bin/agent")
	ask(violated, denial.IMAViolation)
	short := list("agent")
	short.Bytes = short.Bytes[:len(list().Bytes)]
	ask(short, denial.LogReplayMismatch)
	ask(nil, denial.LogUncovered)
	s.publish(s.measured("other"))
	ask(list("agent"), denial.IMAUnknownFile)
	ask(list("other"), 0)
	s.publish(s.Appraisal())
	ask(nil, 0)
	if r := s.verify(s.export(audit.Query{})); r.Verdict != audit.Proved {
		t.Fatalf("got %s, %v\n%s", r.Verdict, r.Err(), r.Text())
	}
}
