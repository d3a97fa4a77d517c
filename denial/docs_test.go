package denial

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

//go:generate go test -run TestTheDocumentIsCurrent -update

var update = flag.Bool("update", false, "write docs/denials.md")

const document = "../docs/denials.md"

func TestTheDocumentIsCurrent(t *testing.T) {
	want := render()
	if *update {
		if err := os.WriteFile(document, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what the table says: run go generate ./denial", document)
	}
}

// render returns the page. Each code has an anchor, to which the type of a problem points; a stranger's problem points
// to the heading of a condition.
func render() string {
	var b strings.Builder
	b.WriteString(`# Denials

<!-- Made by "go generate ./denial" from denial/table.go. Do not edit. -->

Writ refuses with a code. The code is the first failure in a fixed order of checks, so the same input and state give
the same code. A number is never reused and never renumbered. Whatever cannot be decided is refused. A client that does
not know a code must treat it as a refusal.

Callers whose key has not verified are told the condition only; all others get the code, the stage and what to try
next. On the wire both are problem details (RFC 9457); the status in the tables is the HTTP status for a known caller.
Strangers get 403, or 503 for undecidable. Before anything of a caller is looked at, HTTP's own status says how the request was
made: 400, 404 (no such path), 405, 408, 413, 415 or 429.
`)
	condition := Condition(0)
	for _, r := range All() {
		if r.Condition() != condition {
			condition = r.Condition()
			name := condition.String()
			fmt.Fprintf(&b, "\n## %s\n\n| code | name | what failed | what to try | status |\n|---|---|---|---|---|\n",
				strings.ToUpper(name[:1])+name[1:])
		}
		fmt.Fprintf(&b, "| <a id=\"%d\"></a>%d | `%s` | %s | %s | %d |\n", r.Code(), r.Code(), r, r.Meaning(), r.Hint(), r.status())
	}
	b.WriteString("\n## The order of checks\n")
	for _, o := range []struct {
		name  string
		order Order
	}{{"An issuance", IssuanceOrder()}, {"A gate", GateOrder()}} {
		fmt.Fprintf(&b, "\n%s checks, in this order:\n\n", o.name)
		for _, s := range o.order {
			fmt.Fprintf(&b, "- %d %s\n", uint8(s), s)
		}
	}
	fmt.Fprintf(&b, "\nOutside of these orders: %d %s, %d %s.\n", uint8(StageEnrolment), StageEnrolment, uint8(StageAct), StageAct)
	return b.String()
}
