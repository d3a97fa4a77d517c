package firmwarepolicy

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/governed-execution/writ/attest"
)

// Touched is a requirement that looks at facts which differ between two boots.
type Touched struct {
	Requirement string   `json:"requirement"`
	Code        int      `json:"code"`  // of the denial where it does not hold
	Facts       []string `json:"facts"` // those that differ
	Before      string   `json:"before"`
	After       string   `json:"after"`
}

// What a requirement can say of one boot.
const (
	Holds       = "holds"
	HoldsNot    = "does not hold"
	NotDecided  = "cannot be evaluated"
	pcrFact     = "facts.pcr"
	factsPrefix = "facts."
)

// Compare returns, in the order of the policy, the requirements that look at facts which differ, and what they say of each
// boot. It does not appraise: nobody vouches for the facts, and labels of hosts count as absent.
func (a *Appraisal) Compare(before, after attest.Claims) []Touched {
	touched := []Touched{}
	if a == nil || a.body == nil {
		return touched
	}
	differ := Differences(before, after)
	for i, r := range a.body.Require {
		seen := slices.DeleteFunc(slices.Clone(differ), func(fact string) bool { return !a.programs[i].uses.sees(fact) })
		if len(seen) > 0 {
			touched = append(touched, Touched{Requirement: r.Name, Code: r.Code.Code(), Facts: seen,
				Before: a.says(i, before), After: a.says(i, after)})
		}
	}
	return touched
}

// says evaluates one requirement.
func (a *Appraisal) says(i int, claims attest.Claims) string {
	vars := &appraisalVars{facts: a.adapter.NativeToValue(&claims), host: a.adapter.NativeToValue(&Host{}), refs: a.refs}
	switch holds, err := a.programs[i].holds(vars); {
	case err != nil:
		return NotDecided
	case holds:
		return Holds
	}
	return HoldsNot
}

// sees reports whether an expression looks at a fact, at something in it, or at what it is in.
func (u *uses) sees(fact string) bool {
	for n := range u.pcrs {
		if fact == fmt.Sprintf("%s[%d]", pcrFact, n) {
			return true
		}
	}
	if _, ok := u.events[fact]; ok {
		return true
	}
	for path := range u.paths {
		if path == fact || strings.HasPrefix(fact, path+".") || strings.HasPrefix(path, fact+".") {
			return true
		}
	}
	return false
}

// Differences names the facts that differ, as policies name them and in the order of Claims: a list or a map of texts as a
// whole, of a map by PCR each.
func Differences(before, after attest.Claims) []string {
	return differences(strings.TrimSuffix(factsPrefix, "."), reflect.ValueOf(before), reflect.ValueOf(after))
}

func differences(name string, a, b reflect.Value) []string {
	var out []string
	switch {
	case a.Kind() == reflect.Struct:
		for i := range a.NumField() {
			out = append(out, differences(name+"."+a.Type().Field(i).Tag.Get("cel"), a.Field(i), b.Field(i))...)
		}
	case a.Kind() == reflect.Map && a.Type().Key().Kind() == reflect.Int64:
		for pcr := range int64(maxPCR + 1) {
			k := reflect.ValueOf(pcr)
			x, y := a.MapIndex(k), b.MapIndex(k)
			if x.IsValid() != y.IsValid() || x.IsValid() && !reflect.DeepEqual(x.Interface(), y.Interface()) {
				out = append(out, fmt.Sprintf("%s[%d]", name, pcr))
			}
		}
	case !reflect.DeepEqual(a.Interface(), b.Interface()):
		out = []string{name}
	}
	return out
}
