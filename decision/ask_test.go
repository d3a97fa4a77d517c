package decision

import (
	"reflect"
	"testing"

	"github.com/governed-execution/writ/artifact"
)

// What the request narrows a program by, and what it wants the program told, is all put to the policy: the claims take
// the scope of the request as it is.
func TestX05_AskHasAllOfTheScope(t *testing.T) {
	if n := reflect.TypeFor[artifact.Terms]().NumField() + reflect.TypeFor[artifact.Constraints]().NumField(); n != 6 {
		t.Fatalf("terms and constraints have %d fields, this test knows 6", n)
	}
	digest := func(b byte) artifact.Digest { return artifact.SHA256Digest([32]byte{b}) }
	parameters, others := digest(2), digest(3)
	ask := func(change func(*artifact.Permission)) any {
		p := artifact.Permission{Target: "file:/usr/bin/tar", Terms: artifact.Terms{Operations: artifact.Execute,
			Code: []artifact.Digest{digest(1)}, Parameters: &parameters}}
		change(&p)
		return askOf(&Input{Request: artifact.RequestClaims{Scope: artifact.Scope{p}}}).Scope
	}
	good := ask(func(*artifact.Permission) {})
	for name, change := range map[string]func(*artifact.Permission){
		"target":     func(p *artifact.Permission) { p.Target = "file:/usr/bin/sh" },
		"operations": func(p *artifact.Permission) { p.Terms.Operations |= artifact.Net },
		"code":       func(p *artifact.Permission) { p.Terms.Code = append(p.Terms.Code, digest(4)) },
		"parameters": func(p *artifact.Permission) { p.Terms.Parameters = &others },
		"X05 a variable": func(p *artifact.Permission) {
			p.Terms.Constraints = &artifact.Constraints{Env: []string{"TAR_OPTIONS"}}
		},
		"X05 a directory": func(p *artifact.Permission) { p.Terms.Constraints = &artifact.Constraints{Directory: "/tmp"} },
		"any parameters":  func(p *artifact.Permission) { p.Terms.Parameters = nil },
	} {
		if reflect.DeepEqual(ask(change), good) {
			t.Errorf("%s: the policy is not asked about it", name)
		}
	}
}
