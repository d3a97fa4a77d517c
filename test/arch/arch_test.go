// Package arch holds the import table and the test that the code keeps to it.
package arch

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/governed-execution/writ/"

// rows is the import table: a package may import those of rows below its own, never one above and never a neighbour.
var rows = [][]string{
	{"cmd/writd", "cmd/writ", "cmd/writ-gate"},
	{"cmd/command"},
	{"issuer/server", "issuer/client", "console"},
	{"issuer", "gate", "audit", "witness", "monitor", "custody"}, // custody knows tokens and what their keys may sign: artifacts, records
	{"decision"},
	{"firmware-policy", "artifact", "attest/attester", "hsm", "tlog", "ceremony"},
	{"attest", "receipt", "record", "issuer/wire", "firmware-policy/predict"},
	{"statement"},
	{"denial", "settings"},
}

// owners says which packages alone may import an outside module.
var owners = map[string][]string{
	"github.com/spf13/cobra":              {"cmd/writd", "cmd/writ", "cmd/writ-gate", "cmd/command"},
	"github.com/labstack/echo/v4":         {"issuer/server"},
	"github.com/prometheus/client_golang": {"issuer/server"},
	"github.com/coreos/go-oidc/v3":        {"console"},
	"github.com/go-jose/go-jose/v4":       {"console"},
	"golang.org/x/time":                   {"issuer/server"},
	"cel.dev/cel-go":                      {"firmware-policy"},
	"github.com/google/go-tpm":            {"attest", "attest/attester"},
	"github.com/miekg/pkcs11":             {"hsm"},
	"modernc.org/sqlite":                  {"tlog"},
	"github.com/transparency-dev/merkle":  {"receipt", "tlog"},
	"github.com/fxamacker/cbor/v2":        {"statement"},
	"github.com/pelletier/go-toml/v2":     {"settings", "firmware-policy", "artifact"},
	"golang.org/x/sys":                    {"gate", "tlog", "attest/attester", "custody"},
}

// pure lists the packages that must work from their arguments alone: no network, no environment, no clock.
var pure = []string{"denial", "settings", "statement", "receipt", "record", "attest", "artifact", "firmware-policy", "firmware-policy/predict", "decision", "ceremony"}

// file is one parsed Go file outside tests.
type file struct {
	pkg     string
	path    string
	imports []string
	source  string
}

func files(t *testing.T) []file {
	t.Helper()
	root := filepath.Join("..", "..")
	var all []file
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (strings.HasPrefix(d.Name(), ".") && path != root || d.Name() == "testdata" || d.Name() == "node_modules") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if pkg := filepath.ToSlash(filepath.Dir(rel)); pkg != "test" && !strings.HasPrefix(pkg, "test/") {
			f, err := parse(path, pkg)
			if err != nil {
				return err
			}
			all = append(all, f)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("found only %d files: the walk is wrong", len(all))
	}
	return all
}

func parse(path, pkg string) (file, error) {
	src, err := os.ReadFile(path)
	if err != nil {
		return file{}, err
	}
	ast, err := parser.ParseFile(token.NewFileSet(), path, src, parser.ImportsOnly)
	if err != nil {
		return file{}, err
	}
	f := file{pkg: pkg, path: path, source: string(src)}
	for _, i := range ast.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			return file{}, err
		}
		f.imports = append(f.imports, p)
	}
	return f, nil
}

func rowOf(pkg string) int {
	return slices.IndexFunc(rows, func(row []string) bool { return slices.Contains(row, pkg) })
}

func TestImportsGoDown(t *testing.T) {
	for _, f := range files(t) {
		own := rowOf(f.pkg)
		if own < 0 {
			t.Errorf("%s: package %s is in no row of the table", f.path, f.pkg)
			continue
		}
		for _, i := range f.imports {
			pkg, ours := strings.CutPrefix(i, module)
			if ours && rowOf(pkg) <= own {
				t.Errorf("%s imports %s, which is not below it", f.path, pkg)
			}
		}
	}
}

func TestOutsideModulesHaveOwners(t *testing.T) {
	for _, f := range files(t) {
		for _, i := range f.imports {
			if !strings.Contains(strings.Split(i, "/")[0], ".") || strings.HasPrefix(i, module) {
				continue
			}
			if !owned(f.pkg, i) {
				t.Errorf("%s imports %s, which its package does not own", f.path, i)
			}
		}
	}
}

func owned(pkg, imported string) bool {
	for mod, pkgs := range owners {
		if imported == mod || strings.HasPrefix(imported, mod+"/") {
			return slices.Contains(pkgs, pkg)
		}
	}
	return false
}

func TestPurePackagesReadTheirArgumentsOnly(t *testing.T) {
	for _, f := range files(t) {
		if !slices.Contains(pure, f.pkg) {
			continue
		}
		for _, i := range f.imports {
			if i == "net" || i == "net/http" || i == "os" || i == "os/exec" || i == "C" || i == "database/sql" {
				if f.pkg == "denial" && i == "net/http" && !strings.Contains(f.source, "http.Client") {
					continue // status numbers of problem details
				}
				t.Errorf("%s imports %s", f.path, i)
			}
		}
		if strings.Contains(f.source, "time.Now(") {
			t.Errorf("%s reads the clock", f.path)
		}
	}
}

// The private keys of the issuer and PKCS#11 live in one binary; the artifact key has one user.
func TestOneBinaryHoldsTheToken(t *testing.T) {
	for _, f := range files(t) {
		if slices.Contains(f.imports, module+"hsm") && f.pkg != "cmd/writd" && f.pkg != "custody" {
			t.Errorf("%s imports hsm", f.path)
		}
		if slices.Contains(f.imports, module+"custody") && f.pkg != "cmd/writd" {
			t.Errorf("%s imports custody", f.path)
		}
	}
}

func TestArtifactsAreSignedInOnePlace(t *testing.T) {
	var places []string
	for _, f := range files(t) {
		if n := strings.Count(f.source, "artifact.Sign("); n > 0 {
			for range n {
				places = append(places, f.path)
			}
		}
	}
	if len(places) != 1 || !strings.HasSuffix(places[0], "issuer/permit.go") {
		t.Errorf("artifacts are signed in %v, not in issuer/permit.go alone (A20)", places)
	}
}
