package mutants

import (
	"go/ast"
	"go/token"
	"strings"
)

// swaps are the operators that take the place of another.
var swaps = map[token.Token][]token.Token{
	token.EQL: {token.NEQ}, token.NEQ: {token.EQL},
	token.LSS: {token.LEQ, token.GEQ}, token.LEQ: {token.LSS, token.GTR},
	token.GTR: {token.GEQ, token.LEQ}, token.GEQ: {token.GTR, token.LSS},
	token.LAND: {token.LOR}, token.LOR: {token.LAND},
	token.ADD: {token.SUB}, token.SUB: {token.ADD}, token.MUL: {token.QUO}, token.QUO: {token.MUL}, token.REM: {token.MUL},
	token.AND: {token.OR}, token.OR: {token.AND}, token.SHL: {token.SHR}, token.SHR: {token.SHL}, token.AND_NOT: {token.AND},
}

// oneLine joins lines, where that does not change what they say.
func oneLine(text string) (string, bool) {
	if strings.Contains(text, "\n") && (strings.Contains(text, "//") || strings.Contains(text, "`") || strings.Contains(text, "{\n")) {
		return "", false
	}
	return strings.ReplaceAll(text, "\n", " "), true
}

// never returns a condition that the switch of a mutant makes false.
func (f *file) never(n ast.Expr, text string, k Kind, refuses bool) string {
	if on := f.mutant(n, k, "false", refuses); on != "" {
		return "(bool(" + text + ") && !" + on + ")"
	}
	return text
}

// condition returns a condition with its mutants. Of one that refuses, each alternative can be dropped.
func (f *file) condition(e ast.Expr, refuses bool) string {
	var parts []string
	kind := Never
	if refuses {
		kind = DropCheck
	}
	operands := flatten(e, token.LOR)
	if !refuses {
		operands = []ast.Expr{e}
	}
	for _, o := range operands {
		parts = append(parts, f.never(o, f.boolean(o), kind, refuses))
	}
	text := strings.Join(parts, " || ")
	if on := f.mutant(e, Always, "true", false); on != "" {
		text = "(" + on + " || " + text + ")"
	}
	return text
}

// padded keeps the number of lines, so that what the compiler says names the line of the source.
func (f *file) padded(from, to ast.Expr, text string) edit {
	lines := strings.Count(string(f.src[f.offset(from.Pos()):f.offset(to.End())]), "\n") - strings.Count(text, "\n")
	if lines > 0 {
		text = "(" + strings.Repeat("\n", lines) + text + ")"
	}
	return edit{from.Pos(), to.End(), text}
}

// flatten returns the operands of a chain of one operator.
func flatten(e ast.Expr, op token.Token) []ast.Expr {
	switch x := e.(type) {
	case *ast.ParenExpr:
		if b, ok := x.X.(*ast.BinaryExpr); ok && b.Op == op {
			return flatten(b, op)
		}
	case *ast.BinaryExpr:
		if x.Op == op {
			return append(flatten(x.X, op), flatten(x.Y, op)...)
		}
	}
	return []ast.Expr{e}
}

// boolean returns a boolean expression with its mutants.
func (f *file) boolean(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.ParenExpr:
		return "(" + f.boolean(x.X) + ")"
	case *ast.UnaryExpr:
		if x.Op == token.NOT {
			return "!" + f.boolean(x.X)
		}
	case *ast.BinaryExpr:
		switch x.Op {
		case token.LAND, token.LOR:
			text := "(" + f.boolean(x.X) + " " + x.Op.String() + " " + f.boolean(x.Y) + ")"
			return f.variants(x, text, []variant{f.swapped(x, x, swaps[x.Op][0])})
		case token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
			return f.variants(x, f.leaf(x), f.comparisons(x))
		}
	}
	if on := f.mutant(e, Negate, "!"+f.text(e), false); on != "" {
		return "(bool(" + f.leaf(e) + ") != " + on + ")"
	}
	return f.leaf(e)
}

// leaf returns an expression with the mutants of function literals in it, and no others.
func (f *file) leaf(e ast.Expr) string { return f.apply(e.Pos(), e.End(), f.literals(e)) }

// variant is another text of an expression.
type variant struct {
	kind Kind
	text string
}

// variants returns a boolean expression that the switch of each variant exchanges for it.
func (f *file) variants(e ast.Expr, text string, all []variant) string {
	for _, v := range all {
		flat, ok := oneLine(v.text)
		if !ok {
			continue
		}
		if on := f.mutant(e, v.kind, flat, false); on != "" {
			text = "(" + on + " && bool(" + flat + ") || !" + on + " && bool(" + text + "))"
		}
	}
	return text
}

// swapped returns whole with the operator of one expression in it exchanged.
func (f *file) swapped(whole ast.Expr, x *ast.BinaryExpr, op token.Token) variant {
	return variant{Operator, f.apply(whole.Pos(), whole.End(), []edit{{x.OpPos, x.OpPos + token.Pos(len(x.Op.String())), op.String()}})}
}

// comparisons returns the variants of a comparison: its operator, operators in its operands, and integers, one more.
func (f *file) comparisons(x *ast.BinaryExpr) (all []variant) {
	for _, op := range swaps[x.Op] {
		all = append(all, f.swapped(x, x, op))
	}
	for _, side := range []ast.Expr{x.X, x.Y} {
		ast.Inspect(side, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit, *ast.ArrayType:
				return false
			case *ast.BinaryExpr:
				if to := swaps[n.Op]; to != nil && n.Op != token.LAND && n.Op != token.LOR {
					all = append(all, f.swapped(x, n, to[0]))
				}
			case *ast.BasicLit:
				if n.Kind == token.INT {
					text := f.apply(x.Pos(), x.End(), []edit{{n.Pos(), n.End(), "(" + n.Value + " + 1)"}})
					all = append(all, variant{Constant, text})
				}
			}
			return true
		})
	}
	return all
}

// values returns the edits of expressions whose values are assigned or returned: those that are boolean, and the
// function literals in the others.
func (f *file) values(list []ast.Expr) (edits []edit) {
	for _, e := range list {
		if !isBoolean(e) {
			edits = append(edits, f.literals(e)...)
			continue
		}
		var parts []string
		for _, o := range flatten(e, token.LAND) {
			text := f.boolean(o)
			if _, literal := o.(*ast.Ident); !literal {
				if on := f.mutant(o, Always, "true", true); on != "" {
					text = "(" + on + " || bool(" + text + "))"
				}
			}
			parts = append(parts, text)
		}
		edits = append(edits, f.padded(e, e, strings.Join(parts, " && ")))
	}
	return edits
}

// isBoolean reports whether an expression is boolean by its form.
func isBoolean(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.ParenExpr:
		return isBoolean(x.X)
	case *ast.UnaryExpr:
		return x.Op == token.NOT
	case *ast.Ident:
		return x.Name == "true" || x.Name == "false"
	case *ast.BinaryExpr:
		switch x.Op {
		case token.LAND, token.LOR, token.EQL, token.NEQ, token.LSS, token.LEQ, token.GTR, token.GEQ:
			return true
		}
	}
	return false
}

// literals returns the edits of the bodies of function literals in a node.
func (f *file) literals(n ast.Node) (edits []edit) {
	ast.Inspect(n, func(n ast.Node) bool {
		lit, ok := n.(*ast.FuncLit)
		if !ok {
			return true
		}
		outer := f.results
		f.results = lit.Type.Results
		edits = append(edits, f.stmts(lit.Body.List)...)
		f.results = outer
		return false
	})
	return edits
}
