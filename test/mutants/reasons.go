package mutants

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
)

// Reasons explain mutants that nothing notices: the first whose words all stand in the key of a mutant is its explanation.
type Reasons []reason

type reason struct {
	words []string
	text  string
}

// ReadReasons reads paragraphs: lines that begin with "= " hold parts of a key, separated by " & ", and the lines behind
// them the explanation. Lines that begin with "#" say nothing. No file is no explanation.
func ReadReasons(path string) (all Reasons, err error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading explanations: %w", err)
	}
	defer f.Close()
	var r []reason // those that the next text explains
	s := bufio.NewScanner(f)
	for s.Scan() {
		line := strings.TrimSpace(s.Text())
		switch {
		case strings.HasPrefix(line, "#") || line == "":
			if len(r) > 0 && r[0].text != "" {
				all, r = append(all, r...), nil
			}
		case strings.HasPrefix(line, "= "):
			if len(r) > 0 && r[0].text != "" {
				all, r = append(all, r...), nil
			}
			r = append(r, reason{words: strings.Split(line[2:], " & ")})
		default:
			for i := range r {
				r[i].text = strings.TrimSpace(r[i].text + " " + line)
			}
		}
	}
	return append(all, r...), s.Err()
}

// Of returns the explanation of a mutant, "" if there is none.
func (all Reasons) Of(key string) string {
	for _, r := range all {
		if !slices.ContainsFunc(r.words, func(w string) bool { return !strings.Contains(key, w) }) {
			return r.text
		}
	}
	return ""
}
