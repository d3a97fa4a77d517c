package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/vectors"
)

// scopes breaks the scope. Claims encode it as it is, without the checks of its package.
func scopes(l *list, w *site) {
	scope := func(what string, code denial.Reason, s artifact.Scope) {
		l.claim(w, what, code, func(c *artifact.Claims) { c.Scope = s })
		l.all[len(l.all)-1].Artifact.Use = nil // which the scope would not admit in any case
	}
	one := func(what string, code denial.Reason, edit func(*artifact.Permission)) {
		s := slices.Clone(w.claims().Scope)
		edit(&s[0])
		scope(what, code, s)
	}
	good := w.claims().Scope[0]
	read := artifact.Permission{Target: "tool:report", Terms: artifact.Terms{Operations: artifact.Read}}
	scope("an empty scope", denial.StructureLimit, artifact.Scope{})
	many := make(artifact.Scope, 33)
	for i := range many {
		many[i] = artifact.Permission{Target: fmt.Sprintf("tool:%03d", i), Terms: artifact.Terms{Operations: artifact.Read}}
	}
	scope("33 permissions", denial.StructureLimit, many)
	scope("targets that are not sorted", denial.NotCanonical, artifact.Scope{read, good})
	scope("a target twice", denial.NotCanonical, artifact.Scope{good, good})
	target := func(what, target string) {
		one(what, denial.ScopeDenied, func(p *artifact.Permission) { p.Target = target })
	}
	target("a target that is no URI", "/usr/bin/report")
	target("a file target that is not clean", "file:///usr/bin/../bin/report")
	target("a file target with an escape", "file:///usr/bin/repor%74")
	target("a file target on another host", "file://host/usr/bin/report")
	target("a file target with two slashes too many", "file:////usr/bin/report")
	target("a file target that is the root", "file:///")
	one("C32: an unknown operation", denial.UnsupportedVersion, func(p *artifact.Permission) { p.Terms.Operations = 64 })
	one("no operation", denial.ScopeDenied, func(p *artifact.Permission) { p.Terms.Operations = 0 })
	codes := make([]artifact.Digest, 65)
	for i := range codes {
		codes[i] = artifact.Digest{Algorithm: artifact.SHA256, Value: append(make([]byte, 31), byte(i))}
	}
	one("65 code digests", denial.StructureLimit, func(p *artifact.Permission) { p.Terms.Code = codes })
	one("code digests that are not sorted", denial.NotCanonical, func(p *artifact.Permission) { p.Terms.Code = []artifact.Digest{codes[1], codes[0]} })
	one("a code digest twice", denial.NotCanonical, func(p *artifact.Permission) { p.Terms.Code = []artifact.Digest{codes[0], codes[0]} })
	one("a code digest of 31 bytes", denial.ScopeDenied, func(p *artifact.Permission) {
		p.Terms.Code = []artifact.Digest{{Algorithm: artifact.SHA256, Value: make([]byte, 31)}}
	})
	one("a code digest of SHA-1", denial.ScopeDenied, func(p *artifact.Permission) {
		p.Terms.Code = []artifact.Digest{{Algorithm: -14, Value: make([]byte, 20)}}
	})
	one("a parameters digest of 31 bytes", denial.ScopeDenied, func(p *artifact.Permission) {
		p.Terms.Parameters = &artifact.Digest{Algorithm: artifact.SHA256, Value: make([]byte, 31)}
	})
	one("X08: a dynamic loader", denial.InterpreterUngoverned, func(p *artifact.Permission) { p.Target = "file:///lib/ld-linux.so.2" })
	one("a file to execute without the digest of its code", denial.ScopeDenied, func(p *artifact.Permission) { p.Terms.Code = nil })
	one("X07: an interpreter without the digest of its parameters", denial.InterpreterUngoverned, func(p *artifact.Permission) {
		p.Target, p.Terms.Parameters = "file:///usr/bin/python3", nil
	})
	limits := func(what string, code denial.Reason, c artifact.Constraints) {
		one(what, code, func(p *artifact.Permission) { p.Terms.Constraints = &c })
	}
	names := make([]string, 65)
	for i := range names {
		names[i] = fmt.Sprintf("V%02d", i)
	}
	limits("constraints that say nothing", denial.NotCanonical, artifact.Constraints{})
	limits("65 variables", denial.StructureLimit, artifact.Constraints{Env: names})
	limits("a directory of 1025 bytes", denial.StructureLimit, artifact.Constraints{Directory: "/" + strings.Repeat("d", 1024)})
	limits("variables that are not sorted", denial.NotCanonical, artifact.Constraints{Env: []string{"TERM", "LANG"}})
	limits("a variable twice", denial.NotCanonical, artifact.Constraints{Env: []string{"LANG", "LANG"}})
	limits("a directory that is not absolute", denial.ScopeDenied, artifact.Constraints{Directory: "srv"})
	limits("a directory that is not clean", denial.ScopeDenied, artifact.Constraints{Directory: "/srv/../etc"})
	limits("a directory with a NUL", denial.ScopeDenied, artifact.Constraints{Directory: "/srv\x00"})
	limits("a variable with a hyphen", denial.ScopeDenied, artifact.Constraints{Env: []string{"LANG-X"}})
	limits("a variable that begins with a digit", denial.ScopeDenied, artifact.Constraints{Env: []string{"1LANG"}})
	limits("a variable without a name", denial.ScopeDenied, artifact.Constraints{Env: []string{""}})
	limits("a variable of 129 bytes", denial.ScopeDenied, artifact.Constraints{Env: []string{strings.Repeat("V", 129)}})
	limits("X05: LD_PRELOAD", denial.LoaderInjection, artifact.Constraints{Env: []string{"LD_PRELOAD"}})
	limits("X05: BASH_ENV", denial.LoaderInjection, artifact.Constraints{Env: []string{"BASH_ENV"}})
}

// uses asks for another use than the scope of a valid artifact allows.
func uses(l *list, w *site) {
	raw := w.transparent(encode(ptr(w.claims())))
	use := func(what string, code denial.Reason, edit func(*vectors.Use)) {
		a := w.vector(raw)
		edit(a.Use)
		l.artifact(what, code, a)
	}
	use("to read, with the artifact of an execution that may read", accepted, func(u *vectors.Use) { u.Operations, u.Code, u.Argv = "read", nil, nil })
	use("another target", denial.ScopeDenied, func(u *vectors.Use) { u.Target = "file:///usr/bin/other" })
	use("another operation", denial.ScopeDenied, func(u *vectors.Use) { u.Operations = "write" })
	use("an operation more", denial.ScopeDenied, func(u *vectors.Use) { u.Operations = "execute+write" })
	use("X01: other code", denial.CodeDigestMismatch, func(u *vectors.Use) { u.Code = make([]byte, 32) })
	use("X09: other arguments", denial.ScopeDenied, func(u *vectors.Use) { u.Argv = append(slices.Clone(u.Argv), "--all") })
	use("X08: a dynamic loader by its first argument", denial.InterpreterUngoverned, func(u *vectors.Use) { u.Argv = []string{"/lib/ld-linux.so.2", "x"} })
	use("X07: an interpreter by its first argument, with code on the command line", denial.InterpreterUngoverned, func(u *vectors.Use) { u.Argv = []string{"bash", "-c", "id"} })
}
