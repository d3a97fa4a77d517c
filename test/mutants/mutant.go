package mutants

import (
	"fmt"
	"strings"
)

// Kind is what a mutant does to its program.
type Kind string

// The kinds.
const (
	DropCheck  Kind = "check dropped"     // an operand of a condition that refuses is false
	DropTail   Kind = "error dropped"     // an error that a return statement passes on is nil
	Always     Kind = "condition true"    // a condition holds always
	Never      Kind = "condition false"   // a condition holds never
	Negate     Kind = "negated"           // a boolean value is negated
	Operator   Kind = "operator"          // an operator is exchanged
	Constant   Kind = "constant"          // an integer is one more
	DropStmt   Kind = "statement dropped" // a statement is not executed
	DropLoop   Kind = "loop dropped"      // a loop is not executed
	DropClause Kind = "clause dropped"    // a clause of a switch is left out
)

// Mutant is one mistake.
type Mutant struct {
	ID      int // of the switch; positive
	File    string
	Func    string
	Line    int
	Kind    Kind
	From    string // source text, on one line
	To      string
	Refuses bool // it drops a check: what the program would refuse, it now may accept

	source string // the whole mutated file, of a mutant that no switch can make
}

// Key names the mutant independently of line numbers.
func (m Mutant) Key() string {
	return fmt.Sprintf("%s %s: %s: %s -> %s", m.File, m.Func, m.Kind, m.From, m.To)
}

// Alone reports whether the mutant needs a build of its own.
func (m Mutant) Alone() bool { return m.source != "" }

// line puts source text on one line.
func line(text string) string { return strings.Join(strings.Fields(text), " ") }
