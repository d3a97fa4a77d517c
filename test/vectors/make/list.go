package main

import (
	"strings"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/vectors"
)

// accepted is the reason of a vector that is accepted.
const accepted = denial.Reason(0)

// list collects vectors of one kind.
type list struct {
	prefix string
	signer string
	layer  string
	all    []vectors.Vector
}

// add adds a vector. Its id is the prefix and the words of what it breaks; words in front of a colon are rows.
func (l *list) add(what string, code denial.Reason, fill func(*vectors.Vector)) {
	v := vectors.Vector{Signer: l.signer, Layer: l.layer, Name: "ACCEPTED"}
	rows, text, ok := strings.Cut(what, ": ")
	if ok {
		v.Rows = strings.Fields(rows)
	} else {
		text = what
	}
	if v.Says = text; code != accepted {
		v.Says, v.Breaks, v.Code, v.Name = "", text, code.Code(), code.String()
	}
	v.ID = l.prefix + "-" + strings.Join(append(v.Rows, slug(text)), "-")
	fill(&v)
	l.all = append(l.all, v)
}

// slug makes words of letters and digits.
func slug(text string) string {
	words := strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
	return strings.Join(words, "-")
}
