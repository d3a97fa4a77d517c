package firmwarepolicy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/governed-execution/writ/denial"
)

// TestResult is the outcome of one case of a test file.
type TestResult struct {
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Want string `json:"want"` // "allow", or the name of a denial
	Got  string `json:"got"`  // the same, with the requirements that did not hold or the rules that were tried
}

type tomlTests struct {
	Schema uint64     `toml:"schema"`
	Cases  []tomlCase `toml:"case"`
}

type tomlCase struct {
	Name         string            `toml:"name"`
	Expect       string            `toml:"expect"`       // "allow", or the name or number of a denial
	Requirements []string          `toml:"requirements"` // if given: exactly those that must not hold
	Facts        string            `toml:"facts"`        // a file that EncodeFacts wrote
	Change       map[string]any    `toml:"change"`       // facts that this case has otherwise
	Host         string            `toml:"host"`
	Labels       map[string]string `toml:"labels"`
	Ask          *Ask              `toml:"ask"`
	BreakGlass   string            `toml:"break_glass"` // rule that a break-glass authorization names: the ask is what the quorum has signed
	Waived       bool              `toml:"waived"`      // the quorum has waived attestation
}

// RunTests runs a test file of a policy: TOML with one or more [[case]], each with what is expected. The function read
// gives the content of a facts file by the name that a case has for it. An error means that the file is no test file; a
// case that goes otherwise than expected is a result with OK false.
func RunTests(d *Document, file []byte, read func(name string) ([]byte, error)) ([]TestResult, error) {
	if d == nil {
		return nil, refuse("there is no policy to test")
	}
	var t tomlTests
	if err := strictTOML(file, &t); err != nil {
		return nil, err
	}
	if t.Schema != Schema {
		return nil, refuse("schema must be %d", Schema)
	}
	if len(t.Cases) == 0 {
		return nil, refuse("a test file needs at least one [[case]]")
	}
	results := make([]TestResult, 0, len(t.Cases))
	for _, c := range t.Cases {
		r, err := c.run(d, read)
		if err != nil {
			return nil, refuse("case %q: %v", c.Name, err)
		}
		results = append(results, r)
	}
	return results, nil
}

func (c *tomlCase) run(d *Document, read func(string) ([]byte, error)) (TestResult, error) {
	r := TestResult{Name: c.Name, Want: "allow"}
	if c.Name == "" || c.Expect == "" {
		return r, fmt.Errorf("a case needs name and expect")
	}
	if c.Expect != "allow" {
		want, err := denial.Parse(c.Expect)
		if err != nil {
			return r, fmt.Errorf("expect: %w", err)
		}
		r.Want = want.String()
	}
	outcome, err := c.evaluate(d, read)
	if err != nil {
		return r, err
	}
	r.Got = "allow"
	var names []string
	if outcome != nil {
		r.Got, names = outcome.Reason.String(), outcome.Requirements
	}
	r.OK = r.Got == r.Want && (c.Requirements == nil || slices.Equal(slices.Sorted(slices.Values(c.Requirements)), names))
	if len(names) > 0 {
		r.Got += " (" + strings.Join(names, ", ") + ")"
	}
	return r, nil
}

// evaluate returns the refusal of the policy, nil if it allows, or an error if the case cannot be put to it.
func (c *tomlCase) evaluate(d *Document, read func(string) ([]byte, error)) (*denial.Denial, error) {
	if d.Kind() == KindAnchors {
		return nil, fmt.Errorf("anchors have no test cases")
	}
	if d.Kind() == KindAuthorization {
		if c.Ask == nil || c.Facts != "" || c.Change != nil || c.Host != "" || c.Labels != nil {
			return nil, fmt.Errorf("a case for an authorization policy has [case.ask] and no facts, change, host or labels")
		}
		return c.authorize(d.authorization)
	}
	if c.Facts == "" || c.Ask != nil || c.BreakGlass != "" || c.Waived {
		return nil, fmt.Errorf("a case for an appraisal policy has facts, a file, and no ask, break_glass or waived")
	}
	data, err := read(c.Facts)
	if err != nil {
		return nil, fmt.Errorf("reading facts: %w", err)
	}
	tree, err := factTree(data)
	if err != nil {
		return nil, err
	}
	merge(tree, c.Change)
	claims, err := factsOf(tree)
	if err != nil {
		return nil, err
	}
	if claims.IMA.Present { // facts of a case count as drawn for this policy
		if claims.IMA.Reference, err = d.appraisal.IMA().Digest(); err != nil {
			return nil, err
		}
	}
	_, err = d.appraisal.Appraise(claims, Host{ID: c.Host, Labels: c.Labels})
	return denial.Of(err), nil
}

// authorize puts what is asked to the rules of the policy or, where the case names an authorization by people, to the break-glass rule
// that this names. It is for one use, as every authorization is.
func (c *tomlCase) authorize(a *Authorization) (*denial.Denial, error) {
	if c.BreakGlass == "" {
		if c.Waived {
			return nil, fmt.Errorf("waived is for a case with break_glass: nothing else waives attestation")
		}
		_, err := a.Authorize(*c.Ask)
		return denial.Of(err), nil
	}
	ask := *c.Ask
	if ask.Uses == 0 {
		ask.Uses = 1
	}
	return denial.Of(a.BreakGlass(c.BreakGlass, ask, c.Waived)), nil
}

func merge(into, change map[string]any) {
	for k, v := range change {
		below, isTable := v.(map[string]any)
		if there, ok := into[k].(map[string]any); ok && isTable {
			merge(there, below)
			continue
		}
		into[k] = v
	}
}
