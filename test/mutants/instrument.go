package mutants

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
)

// file is a source file while its mutants are written into it.
type file struct {
	name    string // from the root of the module
	src     []byte
	set     *token.FileSet
	fn      string         // function that is being read
	results *ast.FieldList // of the innermost function
	add     func(Mutant) (id int, ok bool)
}

// edit replaces a part of the source.
type edit struct {
	from, to token.Pos
	text     string
}

// instrument returns the source with every mutant that add takes behind a switch, a call of mutantOn.
func instrument(name string, src []byte, add func(Mutant) (int, bool)) ([]byte, error) {
	f := &file{name: name, src: src, set: token.NewFileSet(), add: add}
	tree, err := parser.ParseFile(f.set, name, src, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parsing %s: %w", name, err)
	}
	var edits []edit
	for _, d := range tree.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Body != nil {
				f.fn, f.results = funcName(d), d.Type.Results
				edits = append(edits, f.stmts(d.Body.List)...)
			}
		case *ast.GenDecl:
			f.fn = d.Tok.String()
			f.constants(d)
		}
	}
	return []byte(f.apply(tree.FileStart, tree.FileEnd, edits)), nil
}

func funcName(d *ast.FuncDecl) string {
	if d.Recv == nil {
		return d.Name.Name
	}
	t := d.Recv.List[0].Type
	if s, ok := t.(*ast.StarExpr); ok {
		t = s.X
	}
	if id, ok := t.(*ast.Ident); ok {
		return id.Name + "." + d.Name.Name
	}
	return d.Name.Name
}

func (f *file) offset(p token.Pos) int { return f.set.Position(p).Offset }

// text returns the source of a node.
func (f *file) text(n ast.Node) string { return string(f.src[f.offset(n.Pos()):f.offset(n.End())]) }

// apply returns the source between two positions with the edits in it.
func (f *file) apply(from, to token.Pos, edits []edit) string {
	slices.SortStableFunc(edits, func(a, b edit) int { return int(a.from - b.from) })
	var b strings.Builder
	at := f.offset(from)
	for _, e := range edits {
		b.Write(f.src[at:f.offset(e.from)])
		b.WriteString(e.text)
		at = f.offset(e.to)
	}
	b.Write(f.src[at:f.offset(to)])
	return b.String()
}

// mutant offers a mutant at a node and returns the call of its switch; "" if it is not taken.
func (f *file) mutant(n ast.Node, k Kind, to string, refuses bool) string {
	id, ok := f.add(Mutant{File: f.name, Func: f.fn, Line: f.set.Position(n.Pos()).Line, Kind: k, From: line(f.text(n)),
		To: line(to), Refuses: refuses})
	if !ok {
		return ""
	}
	return fmt.Sprintf("mutantOn(%d)", id)
}

// alone offers a mutant that needs a build of its own: the source with one edit.
func (f *file) alone(n ast.Node, k Kind, e edit) {
	source := string(f.src[:f.offset(e.from)]) + e.text + string(f.src[f.offset(e.to):])
	f.add(Mutant{File: f.name, Func: f.fn, Line: f.set.Position(n.Pos()).Line, Kind: k, From: line(f.text(n)),
		To: line(e.text), source: source})
}

// constants offers each integer of a constant declaration, one more.
func (f *file) constants(d *ast.GenDecl) {
	if d.Tok != token.CONST {
		return
	}
	for _, s := range d.Specs {
		v := s.(*ast.ValueSpec)
		for _, value := range v.Values {
			if lit, ok := value.(*ast.BasicLit); ok && lit.Kind == token.INT {
				f.alone(v, Constant, edit{lit.Pos(), lit.End(), "(" + lit.Value + " + 1)"})
			}
		}
	}
}

func (f *file) stmts(list []ast.Stmt) (edits []edit) {
	for _, s := range list {
		edits = append(edits, f.stmt(s)...)
	}
	return edits
}

// stmt returns the edits that put the mutants of a statement behind switches.
func (f *file) stmt(s ast.Stmt) []edit {
	switch s := s.(type) {
	case *ast.BlockStmt:
		return f.stmts(s.List)
	case *ast.LabeledStmt:
		return f.stmt(s.Stmt)
	case *ast.IfStmt:
		return f.ifStmt(s)
	case *ast.ForStmt:
		edits := f.stmts(s.Body.List)
		if s.Cond != nil {
			edits = append(edits, f.padded(s.Cond, s.Cond, f.never(s.Cond, f.boolean(s.Cond), DropLoop, false)))
		}
		return edits
	case *ast.RangeStmt:
		edits := f.stmts(s.Body.List)
		if on := f.mutant(s.X, DropLoop, "nothing", false); on != "" {
			edits = append(edits, edit{s.Body.Lbrace + 1, s.Body.Lbrace + 1, " if " + on + " { break };"})
		}
		return append(edits, f.literals(s.X)...)
	case *ast.SwitchStmt:
		return f.switchStmt(s)
	case *ast.TypeSwitchStmt:
		return f.clauses(s.Body)
	case *ast.ReturnStmt:
		return f.returnStmt(s)
	case *ast.AssignStmt:
		if s.Tok == token.DEFINE {
			return f.values(s.Rhs)
		}
		return f.droppable(s, f.values(s.Rhs))
	case *ast.ExprStmt:
		return f.droppable(s, f.literals(s.X))
	case *ast.IncDecStmt, *ast.BranchStmt:
		return f.droppable(s, nil)
	case *ast.DeferStmt:
		return f.literals(s.Call)
	case *ast.DeclStmt:
		return f.literals(s)
	}
	return nil
}

func (f *file) ifStmt(s *ast.IfStmt) []edit {
	edits := f.stmts(s.Body.List)
	if s.Init != nil {
		edits = append(edits, f.literals(s.Init)...)
	}
	edits = append(edits, f.padded(s.Cond, s.Cond, f.condition(s.Cond, refuses(s.Body.List))))
	if s.Else != nil {
		edits = append(edits, f.stmt(s.Else)...)
	}
	return edits
}

func (f *file) switchStmt(s *ast.SwitchStmt) []edit {
	edits := f.clauses(s.Body)
	for _, c := range s.Body.List {
		clause := c.(*ast.CaseClause)
		for _, e := range clause.List {
			if s.Tag == nil {
				edits = append(edits, f.padded(e, e, f.condition(e, refuses(clause.Body))))
			}
		}
		if s.Tag != nil && len(clause.List) > 0 {
			f.alone(clause.List[0], DropClause, edit{clause.Pos(), clause.End(), ""})
		}
	}
	return edits
}

func (f *file) clauses(body *ast.BlockStmt) (edits []edit) {
	for _, c := range body.List {
		edits = append(edits, f.stmts(c.(*ast.CaseClause).Body)...)
	}
	return edits
}

// droppable puts a statement behind a switch that leaves it out.
func (f *file) droppable(s ast.Stmt, inside []edit) []edit {
	on := f.mutant(s, DropStmt, "nothing", false)
	if on == "" {
		return inside
	}
	text := f.apply(s.Pos(), s.End(), inside)
	return []edit{{s.Pos(), s.End(), "if !" + on + " { " + text + " }"}}
}

// returnStmt offers an error that becomes nil, and what values offers.
func (f *file) returnStmt(s *ast.ReturnStmt) []edit {
	edits := f.values(s.Results)
	n := len(s.Results)
	if n == 0 || f.results == nil || f.results.NumFields() != n {
		return edits
	}
	last := s.Results[n-1]
	kind := f.text(f.results.List[len(f.results.List)-1].Type)
	if kind == "error" && f.text(last) != "nil" {
		if on := f.mutant(s, DropTail, "nil", !isDenial(last)); on != "" {
			dropped := f.apply(s.Pos(), last.Pos(), nil) + "nil"
			if flat, ok := oneLine(dropped); ok {
				edits = append(edits, edit{s.Pos(), s.Pos(), "if " + on + " { " + flat + " }; "})
			}
		}
	}
	return edits
}

// isDenial reports whether an expression makes an error: then the condition before it is the check.
func isDenial(e ast.Expr) bool {
	switch e := e.(type) {
	case *ast.CallExpr:
		if s, ok := e.Fun.(*ast.SelectorExpr); ok {
			return s.Sel.Name == "New" || s.Sel.Name == "Errorf"
		}
		id, ok := e.Fun.(*ast.Ident)
		return ok && id.Name == "malformed"
	case *ast.Ident:
		return strings.HasPrefix(e.Name, "err")
	}
	return false
}

// refuses reports whether a block ends with the return of an error or of false.
func refuses(body []ast.Stmt) bool {
	if len(body) == 0 {
		return false
	}
	r, ok := body[len(body)-1].(*ast.ReturnStmt)
	if !ok || len(r.Results) == 0 {
		return false
	}
	last := r.Results[len(r.Results)-1]
	id, ok := last.(*ast.Ident)
	return isDenial(last) || ok && id.Name == "false"
}
