package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/governed-execution/writ/test/mutants"
)

// results are what was found so far, of all packages.
type results struct {
	path     string
	found    map[string]bool // by key: whether it was killed
	Killed   []string
	Survived []string
	Packages []packageResult
}

// packageResult says which mutants a package has, as its source was in the last run.
type packageResult struct {
	Package string
	Mutants int      // that compile
	Failed  int      // that do not
	Chosen  []string // keys of those that were drawn
}

func readResults(path string) (*results, error) {
	r := &results{path: path, found: map[string]bool{}}
	if path == "" {
		return r, nil
	}
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return r, nil
	}
	if err == nil {
		err = json.Unmarshal(text, r)
	}
	if err != nil {
		return nil, fmt.Errorf("reading results: %w", err)
	}
	for _, k := range r.Survived {
		r.found[k] = false
	}
	for _, k := range r.Killed {
		r.found[k] = true
	}
	return r, nil
}

func (r *results) begin(pkg string, all, failed int, chosen []mutants.Mutant) {
	p := packageResult{Package: pkg, Mutants: all, Failed: failed}
	for _, m := range chosen {
		p.Chosen = append(p.Chosen, m.Key())
	}
	for i := range r.Packages {
		if r.Packages[i].Package == pkg {
			r.Packages[i] = p
			return
		}
	}
	r.Packages = append(r.Packages, p)
}

// drop forgets a mutant that turned out not to compile.
func (r *results) drop(pkg string, m mutants.Mutant) {
	for i := range r.Packages {
		p := &r.Packages[i]
		if p.Package != pkg {
			continue
		}
		for j, k := range p.Chosen {
			if k == m.Key() {
				p.Chosen = append(p.Chosen[:j], p.Chosen[j+1:]...)
				p.Mutants--
				p.Failed++
				break
			}
		}
	}
}

// add takes one result and saves all now and then.
func (r *results) add(m mutants.Mutant, killed bool) error {
	r.found[m.Key()] = killed
	if len(r.found)%50 == 0 {
		return r.write()
	}
	return nil
}

func (r *results) write() error {
	if r.path == "" {
		return nil
	}
	r.Killed, r.Survived = nil, nil
	for k, dead := range r.found {
		if dead {
			r.Killed = append(r.Killed, k)
		} else {
			r.Survived = append(r.Survived, k)
		}
	}
	text, err := json.MarshalIndent(r, "", " ")
	if err == nil {
		err = os.WriteFile(r.path, text, 0o600)
	}
	if err != nil {
		return fmt.Errorf("writing results: %w", err)
	}
	return nil
}
