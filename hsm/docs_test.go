package hsm

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/test/softhsm"
	"github.com/governed-execution/writ/test/tpmtoken"
)

//go:generate go test -run TestDocsTokenTable -update .

var update = flag.Bool("update", false, "write the table into docs/tokens.md")

const (
	tokensDoc  = "../docs/tokens.md"
	tableBegin = "<!-- table: made by \"go generate ./hsm\" from tokens that were probed and tried. Do not edit. -->\n"
	tableEnd   = "<!-- end of table -->\n"
)

// abuses are everything that Try tries, in its order.
var abuses = []string{"CKA_EXTRACTABLE is set", "CKA_SENSITIVE is cleared", "CKA_DECRYPT is set", "CKA_MODIFIABLE is set",
	"the key is copied as extractable", "the private value is read"}

// column is what one token turned out to be.
type column struct {
	name  string
	probe Probe
	trial Trial
}

// TestDocsTokenTable holds the table of docs/tokens.md against tokens that are probed and tried now.
func TestDocsTokenTable(t *testing.T) {
	soft, tpm := softhsm.New(t), tpmtoken.New(t)
	columns := []column{{name: "SoftHSM"}, {name: "tpm2-pkcs11, on swtpm"}}
	for i, cfg := range []Config{config(soft), {Module: tpm.Module, Token: tpm.Label, PIN: PINFromFile(tpm.PINFile)}} {
		tk := openWith(t, cfg)
		columns[i].probe, columns[i].trial = probe(t, tk), try(t, tk)
		for _, a := range columns[i].trial.Allowed {
			if !slices.Contains(abuses, a) {
				t.Fatalf("the table has no row for %q", a)
			}
		}
	}
	doc, err := os.ReadFile(tokensDoc)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(doc), tableBegin)
	old, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table", tokensDoc)
	}
	table := tokenTable(columns)
	if *update {
		if err := os.WriteFile(tokensDoc, []byte(before+tableBegin+table+tableEnd+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if old != "" && strings.SplitN(old, "\n", 4)[2] != strings.SplitN(table, "\n", 4)[2] {
		t.Log("the table is of other versions of the modules than there are here, and not compared")
	} else if old != table {
		t.Errorf("%s is not current; run go generate ./hsm. It should have:\n%s", tokensDoc, table)
	}
}

func tokenTable(columns []column) string {
	var b strings.Builder
	row := func(what string, of func(column) string) {
		fmt.Fprintf(&b, "| %s |", what)
		for _, c := range columns {
			fmt.Fprintf(&b, " %s |", of(c))
		}
		b.WriteString("\n")
	}
	row("", func(c column) string { return c.name })
	row("---", func(column) string { return "---" })
	row("module", func(c column) string { return c.probe.Info.Library })
	row("Cryptoki", func(c column) string { return c.probe.Cryptoki })
	for i, m := range mechanisms {
		what := "`" + m.name + "`"
		if m.required {
			what += " (needed)"
		}
		row(what, func(c column) string {
			switch got := c.probe.Mechanisms[i]; {
			case !got.There:
				return "no"
			case got.Hardware:
				return "by the device"
			}
			return "in software"
		})
	}
	row("validation objects", func(c column) string { return fmt.Sprint(len(c.probe.Info.Validations)) })
	for _, a := range slices.Sorted(maps.Keys(columns[0].trial.Attributes)) {
		row("states `"+a+"`", func(c column) string { return c.trial.Attributes[a] })
	}
	row("such a key is fit (904)", func(c column) string {
		return map[bool]string{true: "yes", false: "no: " + c.trial.Unfit}[c.trial.Unfit == ""]
	})
	for _, a := range abuses {
		row("refuses, to who has the PIN, that "+a, func(c column) string {
			return map[bool]string{true: "no", false: "yes"}[slices.Contains(c.trial.Allowed, a)]
		})
	}
	row("`profile = \"regulated\"`", func(c column) string {
		if why := c.probe.Software(); why != "" {
			return "refused (914): " + why
		}
		return "taken"
	})
	return b.String()
}
