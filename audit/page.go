package audit

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"strings"
)

//go:embed report.gohtml
var reportPage string

// WriteReport writes what an account tells as one HTML page for people: it holds all that it shows, runs no script,
// loads nothing, and prints. The same account gives the same page.
func WriteReport(w io.Writer, a *Account) error {
	t := count(a)
	page, err := template.New("report").Funcs(template.FuncMap{
		"when":   When,
		"moment": moment,
		"short":  Short,
		"method": MethodWords,
		"upper":  func(v Verdict) string { return strings.ToUpper(string(v)) },
		"figure": func(words, section string, f Figure) map[string]any {
			return map[string]any{"Words": words, "Section": section, "Figure": f}
		},
		"more":   func(f Figure) int { return f.Of - len(f.First) },
		"person": func(key string) string { return a.People[key] },
		"handover": func(index uint64) []string {
			for i := range a.Report.Handovers {
				if h := &a.Report.Handovers[i]; h.Index == index {
					return h.Lines
				}
			}
			return nil
		},
		"policy": func(p *PolicyID) string {
			if index, ok := t.InForce(p); ok {
				return fmt.Sprint(index)
			}
			return ""
		},
	}).Parse(reportPage)
	if err != nil {
		return fmt.Errorf("parsing page: %w", err)
	}
	if err := page.Execute(w, t); err != nil {
		return fmt.Errorf("writing report: %w", err)
	}
	return nil
}

// When writes seconds since 1970 UTC for people.
func When(seconds uint64) string {
	return strings.TrimSuffix(strings.Replace(instant(seconds), "T", " ", 1), "Z") + " UTC"
}

// moment is When for a narrow column: date and time, neither of which breaks.
func moment(seconds uint64) template.HTML {
	date, clock, _ := strings.Cut(When(seconds), " ")
	return template.HTML("<time>" + date + "</time> <time>" + clock + "</time>") // digits, of a number
}

// Short abbreviates the digests in a text.
func Short(s string) string {
	return digests.ReplaceAllStringFunc(s, func(d string) string { return d[:16] + "…" })
}
