package firmwarepolicy

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
)

//go:generate go test -run TestDocsFactTable -update .

var update = flag.Bool("update", false, "write the table of facts into docs/policies.md")

const docsPath = "../docs/policies.md"

// Every example of the documentation compiles, has no error in lint, and its test cases go as they say.
func TestDocsExamplesHold(t *testing.T) {
	docs := readDocs(t)
	facts := blocks(docs, "json")
	if len(facts) != 1 {
		t.Fatalf("got %d JSON examples, want 1", len(facts))
	}
	var policies []*Document
	var files []string
	for _, text := range blocks(docs, "toml") {
		if strings.Contains(text, "[[case]]") {
			files = append(files, text)
			continue
		}
		d := mustParse(t, text)
		for _, f := range Lint(d, d.Expires()-365*24*3600) {
			t.Errorf("%s: %s", f.Severity, f.Message)
		}
		policies = append(policies, d)
	}
	if len(policies) != 2 || len(files) != 2 {
		t.Fatalf("got %d policies and %d test files, want 2 each", len(policies), len(files))
	}
	for i, d := range policies {
		results, err := RunTests(d, []byte(files[i]), func(string) ([]byte, error) { return []byte(facts[0]), nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range results {
			if !r.OK {
				t.Errorf("%s: got %s, want %s", r.Name, r.Got, r.Want)
			}
		}
	}
}

// The documentation lists every key of the two forms.
func TestDocsNameEveryKey(t *testing.T) {
	docs := readDocs(t)
	var walk func(prefix string, typ reflect.Type)
	walk = func(prefix string, typ reflect.Type) {
		for i := range typ.NumField() {
			f := typ.Field(i)
			key, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
			switch inner := elem(f.Type); {
			case f.Anonymous:
				walk("", inner)
			case inner.Kind() == reflect.Struct:
				walk(key+".", inner)
			case !strings.Contains(docs, "| `"+prefix+key+"` |") && !strings.Contains(docs, "| `"+key+".NAME` |"):
				t.Errorf("no row for key %s%s", prefix, key)
			}
		}
	}
	walk("", reflect.TypeFor[tomlAppraisal]())
	walk("", reflect.TypeFor[tomlAuthorization]())
}

func elem(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Slice {
		return t.Elem()
	}
	return t
}

// The table of facts is that of the Go types, their cel tags and their comments.
func TestDocsFactTable(t *testing.T) {
	const begin, end = "Do not edit. -->\n", "<!-- end of facts -->"
	docs := readDocs(t)
	head, rest, ok := strings.Cut(docs, begin)
	got, tail, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatal("the marks of the table are gone")
	}
	want := factTable(t)
	if got == want {
		return
	}
	if !*update {
		t.Fatal("the table of facts is not current: run go generate ./firmware-policy")
	}
	if err := os.WriteFile(docsPath, []byte(head+begin+want+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

func factTable(t *testing.T) string {
	t.Helper()
	types := map[string]*ast.StructType{}
	for _, file := range []string{"../attest/claims.go", "appraise.go", "authorize.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if s, ok := n.(*ast.TypeSpec); ok {
				if st, ok := s.Type.(*ast.StructType); ok {
					types[s.Name.Name] = st
				}
			}
			return true
		})
	}
	var out strings.Builder
	out.WriteString("| name | type | meaning |\n|---|---|---|\n")
	for _, top := range [][2]string{{"facts", "Claims"}, {"host", "Host"}, {"ask", "Ask"}} {
		factRows(t, &out, types, top[0], top[1])
	}
	return out.String()
}

func factRows(t *testing.T, out *strings.Builder, types map[string]*ast.StructType, prefix, name string) {
	t.Helper()
	for _, f := range types[name].Fields.List {
		tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("cel")
		if tag == "" {
			t.Fatalf("%s.%s has no cel tag", name, f.Names[0])
		}
		path := prefix + "." + tag
		kind, below := typeWord(f.Type)
		if below == "" || kind != "" {
			fmt.Fprintf(out, "| `%s` | %s | %s |\n", path, kind, strings.ReplaceAll(strings.TrimSpace(f.Comment.Text()), "|", "\\|"))
		}
		if below != "" {
			if kind != "" {
				path += "[0]"
			}
			factRows(t, out, types, path, below)
		}
	}
}

// typeWord returns the type of a field in words, and the struct below it, if any.
func typeWord(e ast.Expr) (kind, below string) {
	switch e := e.(type) {
	case *ast.Ident:
		switch e.Name {
		case "string":
			return "text", ""
		case "bool":
			return "true or false", ""
		case "uint64":
			return "number (`u`)", ""
		case "int64":
			return "number", ""
		}
		return "", e.Name
	case *ast.ArrayType:
		kind, below = typeWord(e.Elt)
		if below != "" {
			return "list", below
		}
		return "list of " + kind, ""
	case *ast.MapType:
		key, _ := typeWord(e.Key)
		value, _ := typeWord(e.Value)
		return value + ", by " + key, ""
	}
	return "", ""
}

func readDocs(t *testing.T) string {
	t.Helper()
	data, err := os.ReadFile(docsPath)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// blocks returns the fenced blocks of one language.
func blocks(text, language string) []string {
	var out []string
	for {
		_, rest, ok := strings.Cut(text, "```"+language+"\n")
		if !ok {
			return out
		}
		block, after, _ := strings.Cut(rest, "```")
		out, text = append(out, block), after
	}
}
