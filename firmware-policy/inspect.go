package firmwarepolicy

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/overloads"
	"cel.dev/cel-go/common/types"
)

// uses is what an expression looks at.
type uses struct {
	paths  map[string]bool  // such as "facts.secure_boot.enabled", "facts.pcr", "host.labels", "ref.pcr4"
	pcrs   map[int64]bool   // n of facts.pcr[n]
	events map[string]int64 // facts.measured[n] and facts.unexplained[n], with n
	sized  map[string]bool  // lists of which the size or the whole is compared, so that an empty one is noticed
	ranged map[string]bool  // lists that a loop goes through
	other  map[string]bool  // reference sets of which more is asked than that something is in them (see membershipOnly)
}

func newUses() *uses {
	return &uses{paths: map[string]bool{}, pcrs: map[int64]bool{}, events: map[string]int64{}, sized: map[string]bool{}, ranged: map[string]bool{}, other: map[string]bool{}}
}

// any reports whether one of the paths, or something below it, is looked at.
func (u *uses) any(paths ...string) bool {
	for p := range u.paths {
		if slices.ContainsFunc(paths, func(q string) bool { return p == q || strings.HasPrefix(p, q+".") }) {
			return true
		}
	}
	return false
}

func (u *uses) anyPCR(pcrs ...int64) bool {
	return slices.ContainsFunc(pcrs, func(n int64) bool { return u.pcrs[n] })
}

func (u *uses) add(o uses) {
	for _, m := range [][2]map[string]bool{{u.paths, o.paths}, {u.sized, o.sized}, {u.ranged, o.ranged}, {u.other, o.other}} {
		for k := range m[1] {
			m[0][k] = true
		}
	}
	for n := range o.pcrs {
		u.pcrs[n] = true
	}
	for path, n := range o.events {
		u.events[path] = n
	}
}

func isVariable(name string) bool {
	return name == "facts" || name == "host" || name == "ask" || name == "ref" || strings.HasPrefix(name, "ref.")
}

// inspect walks a checked expression. It refuses: literals of fractions, maps and structs, which no fact needs; loops
// over maps, whose order is not determined; loop variables that hide a variable of the policy; facts, host or ask
// without a field; facts.pcr, facts.measured and facts.unexplained without a literal number of a PCR; an expression that
// looks at nothing.
func inspect(what string, a *ast.AST) (*uses, error) {
	i := inspector{what: what, ast: a, uses: newUses()}
	for _, e := range ast.MatchDescendants(ast.NavigateAST(a), ast.AllMatcher()) {
		if err := i.node(e); err != nil {
			return nil, err
		}
	}
	if !i.uses.any("facts", "host", "ask") {
		return nil, refuse("%s: the expression looks at nothing, it would always say the same", what)
	}
	return i.uses, nil
}

type inspector struct {
	what string
	ast  *ast.AST
	uses *uses
}

func (i *inspector) node(e ast.NavigableExpr) error {
	switch e.Kind() {
	case ast.MapKind, ast.StructKind:
		return refuse("%s: a policy expression cannot make maps or structs", i.what)
	case ast.LiteralKind:
		if _, fraction := e.AsLiteral().(types.Double); fraction {
			return refuse("%s: a policy expression cannot use fractions", i.what)
		}
	case ast.ComprehensionKind:
		return i.loop(e.AsComprehension())
	case ast.IdentKind:
		return i.variable(e)
	}
	return nil
}

func (i *inspector) loop(c ast.ComprehensionExpr) error {
	if i.ast.GetType(c.IterRange().ID()).Kind() != types.ListKind {
		return refuse("%s: a loop goes through a list only, the order of a map is not determined", i.what)
	}
	if isVariable(c.IterVar()) || c.HasIterVar2() {
		return refuse("%s: a loop variable may not be called facts, host, ask or ref", i.what)
	}
	return nil
}

func (i *inspector) variable(e ast.NavigableExpr) error {
	path := e.AsIdent()
	if !isVariable(path) {
		return nil
	}
	top, parent := climb(e)
	if strings.HasPrefix(path, "ref.") {
		i.uses.paths[path] = true
		if !membershipOnly(e) {
			i.uses.other[path] = true
		}
		return nil
	}
	fields := fieldsBetween(e, top)
	if len(fields) == 0 {
		return refuse("%s: write %s with a field behind it, such as %s", i.what, path, map[string]string{
			"facts": "facts.firmware", "host": "host.id", "ask": "ask.audience"}[path])
	}
	path += "." + strings.Join(fields, ".")
	i.uses.paths[path] = true
	switch path {
	case "facts.pcr", "facts.measured", "facts.unexplained":
		return i.pcr(path, top, parent)
	}
	i.list(path, top, parent)
	return nil
}

// climb goes up from a variable through the fields selected of it.
func climb(e ast.NavigableExpr) (top, parent ast.NavigableExpr) {
	top = e
	for {
		p, ok := top.Parent()
		if !ok {
			return top, nil
		}
		if p.Kind() != ast.SelectKind {
			return top, p
		}
		top = p
	}
}

func fieldsBetween(e, top ast.NavigableExpr) []string {
	var fields []string
	for e.ID() != top.ID() {
		e, _ = e.Parent()
		fields = append(fields, e.AsSelect().FieldName())
	}
	return fields
}

// pcr takes a map by PCR, which must be followed by the number of one.
func (i *inspector) pcr(path string, e, parent ast.NavigableExpr) error {
	if parent == nil || parent.Kind() != ast.CallKind || parent.AsCall().FunctionName() != operators.Index {
		return refuse("%s: write %s[9], with the number of one PCR", i.what, path)
	}
	args := parent.AsCall().Args()
	n, ok := literalInt(args[1])
	if !ok || args[0].ID() != e.ID() {
		return refuse("%s: write %s[9], with the number of one PCR", i.what, path)
	}
	if path == "facts.pcr" {
		i.uses.pcrs[n] = true
		return nil
	}
	path = fmt.Sprintf("%s[%d]", path, n)
	i.uses.events[path] = n
	above, _ := parent.Parent()
	i.list(path, parent, above)
	return nil
}

func (i *inspector) list(path string, e, parent ast.NavigableExpr) {
	if parent == nil {
		return
	}
	switch parent.Kind() {
	case ast.ComprehensionKind:
		if parent.AsComprehension().IterRange().ID() == e.ID() {
			i.uses.ranged[path] = true
		}
	case ast.CallKind:
		switch parent.AsCall().FunctionName() {
		case overloads.Size, operators.Equals, operators.NotEquals, operators.Index:
			i.uses.sized[path] = true
		}
	}
}
