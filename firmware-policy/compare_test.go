package firmwarepolicy

import (
	"reflect"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
)

func TestCompareNamesRequirementsThatABootTouches(t *testing.T) {
	a, err := mustParse(t, appraisalTOML).Appraisal()
	if err != nil {
		t.Fatal(err)
	}
	before, after := goodClaims(), goodClaims()
	if got := a.Compare(before, after); len(got) != 0 || len(Differences(before, after)) != 0 {
		t.Errorf("equal boots differ: %v", got)
	}
	after.PCR[4] = digest("others")
	after.CommandLine = append(slices.Clone(after.CommandLine), "init=/bin/sh")
	after.Unexplained[5] = 2
	after.SecureBoot.DBX = digest("new dbx")
	if want := []string{"facts.pcr[4]", "facts.secure_boot.dbx", "facts.command_line", "facts.unexplained[5]"}; !slices.Equal(Differences(before, after), want) {
		t.Errorf("got %v, want %v", Differences(before, after), want)
	}
	want := []Touched{
		{Requirement: "boot-programs", Code: denial.PCRNotAllowed.Code(), Facts: []string{"facts.pcr[4]"}, Before: Holds, After: HoldsNot},
		{Requirement: "command-line", Code: denial.EventUnexpected.Code(), Facts: []string{"facts.command_line"}, Before: Holds, After: HoldsNot},
	}
	if got := a.Compare(before, after); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	after = goodClaims()
	delete(after.Unexplained, 12)
	if got := a.Compare(before, after); len(got) != 1 || got[0].Requirement != "command-line" || got[0].After != NotDecided {
		t.Errorf("got %+v, want one requirement that cannot be evaluated", got)
	}
	var none *Appraisal
	if got := none.Compare(before, after); len(got) != 0 {
		t.Errorf("no policy is touched: %v", got)
	}
}
