package artifact

import (
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
)

func execute(target string, code ...Digest) Permission {
	return Permission{Target: target, Terms: Terms{Operations: Execute, Code: code}}
}

func withEnv(names ...string) Permission {
	p := execute("file:///usr/bin/report", digestOf(1))
	p.Terms.Constraints = &Constraints{Env: names}
	return p
}

func withDirectory(d string) Permission {
	p := execute("file:///usr/bin/report", digestOf(1))
	p.Terms.Constraints = &Constraints{Directory: d}
	return p
}

func TestScopeRoundTrip(t *testing.T) {
	params := ParametersDigest([]string{"report"})
	s := Scope{
		{Target: "file:/usr/bin/report", Terms: Terms{Operations: Execute | Spawn, Code: []Digest{digestOf(1), digestOf(2)}, Parameters: &params,
			Constraints: &Constraints{Env: []string{"LANG"}, Directory: "/srv"}}},
		{Target: "tool:mcp/search", Terms: Terms{Operations: Read}},
	}
	enc, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeScope(enc)
	if err != nil || !reflect.DeepEqual(got, s) {
		t.Fatalf("got %v, %v, want %v", got, err, s)
	}
	if text := s.String(); !strings.Contains(text, "execute+spawn file:/usr/bin/report") || !strings.Contains(text, "env=LANG cwd=/srv") ||
		strings.Count(text, "\n") != 1 {
		t.Errorf("got text %q", text)
	}
	for _, o := range []Operations{Execute, Read | Net, allOperations} {
		if got, err := ParseOperations(o.String()); err != nil || got != o {
			t.Errorf("operations %s: got %v, %v", o, got, err)
		}
	}
	if _, err := ParseOperations("read+read"); err == nil {
		t.Error("an operation twice was accepted")
	}
}

func TestCanonicalSortsEverything(t *testing.T) {
	s := Scope{
		{Target: "tool:mcp/b", Terms: Terms{Operations: Read}},
		{Target: "tool:mcp/a", Terms: Terms{Operations: Read, Code: []Digest{digestOf(2), digestOf(1)}, Constraints: &Constraints{Env: []string{"TERM", "LANG"}}}},
	}
	refused(t, s.Check(), denial.NotCanonical)
	if err := s.Canonical().Check(); err != nil {
		t.Error(err)
	}
	if s[0].Target != "tool:mcp/b" || s[1].Terms.Code[0].Value[0] != 2 || s[1].Terms.Constraints.Env[0] != "TERM" {
		t.Error("Canonical changed its receiver")
	}
}

func TestScopeRefuses(t *testing.T) {
	many := make(Scope, MaxPermissions+1)
	for i := range many {
		many[i] = Permission{Target: "tool:mcp/" + strings.Repeat("a", i+1), Terms: Terms{Operations: Read}}
	}
	params := ParametersDigest([]string{"python3", "/srv/job.py"})
	python := execute("file:///usr/bin/python3.11", digestOf(1))
	python.Terms.Parameters = &params
	short := Digest{Algorithm: SHA256, Value: fill(31, 0)}
	rows := []struct {
		name  string
		scope Scope
		code  denial.Reason // zero: accepted
	}{
		{"one permission", Scope{execute("file:///usr/bin/report", digestOf(1))}, 0},
		{"a tool without code", Scope{execute("tool:mcp/search")}, 0},
		{"a file to read without code", Scope{{Target: "file:///etc/report", Terms: Terms{Operations: Read}}}, 0},
		{"none", nil, denial.StructureLimit},
		{"too many", many, denial.StructureLimit},
		{"not sorted", Scope{execute("tool:b"), execute("tool:a")}, denial.NotCanonical},
		{"twice", Scope{execute("tool:a"), execute("tool:a")}, denial.NotCanonical},
		{"target no URI", Scope{execute("search")}, denial.ScopeDenied},
		{"target with a NUL", Scope{execute("tool:a\x00")}, denial.ScopeDenied},
		{"unknown operation", Scope{{Target: "tool:a", Terms: Terms{Operations: 1 << 6}}}, denial.UnsupportedVersion},
		{"no operation", Scope{{Target: "tool:a"}}, denial.ScopeDenied},
		{"code of unknown algorithm", Scope{execute("tool:a", Digest{Algorithm: -14, Value: fill(20, 1)})}, denial.ScopeDenied},
		{"code digest too short", Scope{execute("tool:a", short)}, denial.ScopeDenied},
		{"code not sorted", Scope{execute("tool:a", digestOf(2), digestOf(1))}, denial.NotCanonical},
		{"parameters digest too short", Scope{{Target: "tool:a", Terms: Terms{Operations: Execute, Parameters: &short}}}, denial.ScopeDenied},
		{"empty constraints", Scope{withEnv()}, denial.NotCanonical},
		{"variables not sorted", Scope{withEnv("TERM", "LANG")}, denial.NotCanonical},
		{"variable with an equals sign", Scope{withEnv("A=B")}, denial.ScopeDenied},
		{"relative directory", Scope{withDirectory("srv")}, denial.ScopeDenied},
		{"directory upwards", Scope{withDirectory("/srv/../etc")}, denial.ScopeDenied},
		{"file to execute without code", Scope{execute("file:///usr/bin/report")}, denial.ScopeDenied},
		{"relative file", Scope{execute("file:report", digestOf(1))}, denial.ScopeDenied},
		{"file on a host", Scope{execute("file://host/bin/report", digestOf(1))}, denial.ScopeDenied},
		{"file upwards", Scope{execute("file:///bin/../sbin/report", digestOf(1))}, denial.ScopeDenied},
		{"file with an escape", Scope{execute("file:///lib64/ld%2Dlinux-x86-64.so.2", digestOf(1))}, denial.ScopeDenied},
		{"X07 interpreter with pinned parameters", Scope{python}, 0},
		{"X07 interpreter with any parameters", Scope{execute("file:///usr/bin/python3.11", digestOf(1))}, denial.InterpreterUngoverned},
		{"X07 a debug build of an interpreter", Scope{execute("file:///usr/bin/python3.11-dbg", digestOf(1))}, denial.InterpreterUngoverned},
		{"X07 a static build of a shell", Scope{execute("file:///usr/bin/bash-static", digestOf(1))}, denial.InterpreterUngoverned},
		{"X07 an interpreter with its machine", Scope{execute("file:///usr/bin/perl5.40-x86_64-linux-gnu", digestOf(1))}, denial.InterpreterUngoverned},
		{"X07 a launcher with any parameters", Scope{execute("file:///usr/bin/timeout", digestOf(1))}, denial.InterpreterUngoverned},
		{"X07 a machine that runs any program", Scope{execute("file:///usr/bin/qemu-x86_64-static", digestOf(1))}, denial.InterpreterUngoverned},
		{"a program that is called nearly so", Scope{execute("file:///usr/bin/timesync", digestOf(1))}, 0},
		{"X08 glibc loader", Scope{execute("file:///lib64/ld-linux-x86-64.so.2", digestOf(1))}, denial.InterpreterUngoverned},
		{"X08 musl loader", Scope{execute("file:///lib/ld-musl-x86_64.so.1", digestOf(1))}, denial.InterpreterUngoverned},
		{"X08 versioned loader", Scope{execute("file:///lib/ld-2.36.so", digestOf(1))}, denial.InterpreterUngoverned},
		{"X08 ld.so", Scope{execute("file:///usr/bin/ld.so", digestOf(1))}, denial.InterpreterUngoverned},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			err := r.scope.Check()
			if r.code != 0 {
				refused(t, err, r.code)
				_, err = r.scope.Encode()
				refused(t, err, r.code)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestX05_VariablesThatInjectCode(t *testing.T) {
	for _, name := range []string{"LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "GCONV_PATH", "PYTHONPATH", "PYTHONSTARTUP",
		"NODE_OPTIONS", "GODEBUG", "BASH_ENV", "ENV", "PERL5OPT", "RUBYOPT", "JAVA_TOOL_OPTIONS", "GLIBC_TUNABLES", "DYLD_INSERT_LIBRARIES",
		"OPENSSL_CONF", "IFS", "PS4", "PATH", "HOME", "SHELL", "EDITOR", "VISUAL", "PAGER", "BROWSER", "LESSOPEN", "LESSCLOSE", "VIMINIT",
		"EXINIT", "TAR_OPTIONS", "MAKEFLAGS", "GOFLAGS", "RSYNC_RSH", "MAVEN_OPTS", "JAVA_OPTS", "GTK_MODULES", "ERL_FLAGS", "ERL_AFLAGS",
		"PIP_CONFIG_FILE", "KUBECONFIG"} {
		t.Run("X05 "+name, func(t *testing.T) {
			refused(t, Scope{withEnv(name)}.Check(), denial.LoaderInjection)
			if !IsDangerousVariable(name) {
				t.Error("not dangerous")
			}
		})
	}
	for _, name := range []string{"LANG", "TERM", "TZ", "REPORT_MONTH", "GOLD", "HOMEPAGE", "PATHS"} {
		if err := (Scope{withEnv(name)}).Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestScopeDecodingIsStrict breaks the encoding of a valid scope.
func TestScopeDecodingIsStrict(t *testing.T) {
	rows := map[string]struct {
		raw  string
		code denial.Reason
	}{
		"unknown term":           {"\x81\x82\x66tool:a\xa2\x00\x02\x04\x00", denial.UnsupportedVersion},
		"unknown constraint":     {"\x81\x82\x66tool:a\xa2\x00\x02\x03\xa1\x63gid\x00", denial.UnsupportedVersion},
		"constraint in capitals": {"\x81\x82\x66tool:a\xa2\x00\x02\x03\xa1\x63CWD\x61/", denial.UnsupportedVersion},
		"operations absent":      {"\x81\x82\x66tool:a\xa0", denial.PayloadForm},
		"operations null":        {"\x81\x82\x66tool:a\xa1\x00\xf6", denial.PayloadForm},
		"parameters null":        {"\x81\x82\x66tool:a\xa2\x00\x02\x02\xf6", denial.PayloadForm},
		"empty code":             {"\x81\x82\x66tool:a\xa2\x00\x02\x01\x80", denial.PayloadForm},
		"three elements":         {"\x81\x83\x66tool:a\xa1\x00\x02\x00", denial.PayloadForm},
		"a map":                  {"\xa0", denial.PayloadForm},
		"trailing byte":          {"\x81\x82\x66tool:a\xa1\x00\x02\x00", denial.TrailingData},
		"long form":              {"\x81\x82\x78\x06tool:a\xa1\x00\x02", denial.NotCanonical},
	}
	if _, err := DecodeScope([]byte("\x81\x82\x66tool:a\xa1\x00\x02")); err != nil {
		t.Fatal(err)
	}
	for name, r := range rows {
		t.Run(name, func(t *testing.T) {
			_, err := DecodeScope([]byte(r.raw))
			refused(t, err, r.code)
		})
	}
}

func TestNarrowing(t *testing.T) {
	params, others := ParametersDigest([]string{"a"}), ParametersDigest([]string{"b"})
	base := Terms{Operations: Execute | Read, Code: []Digest{digestOf(1), digestOf(2)}, Parameters: &params,
		Constraints: &Constraints{Env: []string{"LANG", "TERM"}, Directory: "/srv"}}
	rows := []struct {
		name   string
		edit   func(*Terms)
		within bool
	}{
		{"the same", func(*Terms) {}, true},
		{"one operation less", func(t *Terms) { t.Operations = Read }, true},
		{"one operation more", func(t *Terms) { t.Operations |= Net }, false},
		{"one code less", func(t *Terms) { t.Code = t.Code[:1] }, true},
		{"another code", func(t *Terms) { t.Code = []Digest{digestOf(3)} }, false},
		{"any code", func(t *Terms) { t.Code = nil }, false},
		{"any parameters", func(t *Terms) { t.Parameters = nil }, false},
		{"other parameters", func(t *Terms) { t.Parameters = &others }, false},
		{"one variable less", func(t *Terms) { t.Constraints = &Constraints{Env: []string{"LANG"}, Directory: "/srv"} }, true},
		{"no variables", func(t *Terms) { t.Constraints = &Constraints{Directory: "/srv"} }, true},
		{"another variable", func(t *Terms) { t.Constraints = &Constraints{Env: []string{"TZ"}, Directory: "/srv"} }, false},
		{"another directory", func(t *Terms) { t.Constraints = &Constraints{Directory: "/"} }, false},
		{"no constraints", func(t *Terms) { t.Constraints = nil }, false},
	}
	for _, r := range rows {
		child := base
		r.edit(&child)
		parent := Scope{{Target: "tool:a", Terms: base}, {Target: "tool:b", Terms: base}}
		if got := parent.Contains(Scope{{Target: "tool:a", Terms: child}}); got != r.within {
			t.Errorf("%s: got %v, want %v", r.name, got, r.within)
		}
	}
	parent := Scope{{Target: "tool:a", Terms: base}}
	if parent.Contains(Scope{{Target: "tool:b", Terms: base}}) || parent.Contains(nil) || Scope(nil).Contains(parent) {
		t.Error("another target, an empty child or an empty parent is contained")
	}
}

// randomScope draws small scopes from few values, so that one is often within another.
func randomScope(r *rand.Rand) Scope {
	var s Scope
	for _, target := range []string{"tool:a", "tool:b"} {
		if r.IntN(3) == 0 {
			continue
		}
		t := Terms{Operations: Operations(1 + r.IntN(7))}
		for b := range byte(2) {
			if r.IntN(3) == 0 {
				t.Code = append(t.Code, digestOf(b))
			}
		}
		if r.IntN(4) == 0 {
			d := digestOf(byte(r.IntN(2)))
			t.Parameters = &d
		}
		if r.IntN(3) == 0 {
			t.Constraints = &Constraints{Env: []string{"A", "B"}[r.IntN(2):]}
		}
		s = append(s, Permission{Target: target, Terms: t})
	}
	return s
}

// uses lists every use that the values of randomScope allow for.
func uses() []Use {
	var all []Use
	for _, target := range []string{"tool:a", "tool:b"} {
		for op := Operations(1); op < 8; op++ {
			for b := range byte(3) {
				all = append(all, Use{Target: target, Operation: op, Code: digestOf(b), Argv: []string{"x"}})
			}
		}
	}
	return all
}

// TestContainsIsAnOrderAndNeverWider checks the laws of narrowing on seeded scopes: reflexive, transitive, and whatever
// a child admits its parent admits.
func TestContainsIsAnOrderAndNeverWider(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	scopes := make([]Scope, 120)
	for i := range scopes {
		for len(scopes[i]) == 0 {
			scopes[i] = randomScope(r)
		}
		if !scopes[i].Contains(scopes[i]) {
			t.Fatalf("not within itself:\n%s", scopes[i])
		}
	}
	pairs := 0
	for _, a := range scopes {
		for _, b := range scopes {
			if !a.Contains(b) {
				continue
			}
			pairs++
			for _, u := range uses() {
				if _, err := b.Admit(u); err != nil {
					continue
				}
				if _, err := a.Admit(u); err != nil {
					t.Fatalf("the child admits what the parent refuses (%v):\n%s\n\n%s", err, a, b)
				}
			}
			for _, c := range scopes {
				if b.Contains(c) && !a.Contains(c) {
					t.Fatalf("not transitive:\n%s\n\n%s\n\n%s", a, b, c)
				}
			}
		}
	}
	if pairs < 2*len(scopes) {
		t.Fatalf("only %d pairs are within one another: the test shows too little", pairs)
	}
}

func TestParametersDigestSeparatesArguments(t *testing.T) {
	seen := map[string][]string{}
	for _, argv := range [][]string{nil, {""}, {"a"}, {"a", ""}, {"", "a"}, {"a", "b"}, {"ab"}, {"a b"}, {"\xff"}, {"\xfe"}} {
		d := ParametersDigest(argv)
		if !d.Valid() {
			t.Fatalf("%q has no digest", argv)
		}
		if other, ok := seen[d.String()]; ok {
			t.Errorf("%q and %q have one digest", argv, other)
		}
		seen[d.String()] = argv
	}
}
