package artifact

import (
	"testing"

	"github.com/governed-execution/writ/denial"
)

func TestAdmit(t *testing.T) {
	argv := []string{"report", "--month", "1"}
	params := ParametersDigest(argv)
	python := []string{"python3", "/srv/job.py", "now"}
	pinned := ParametersDigest(python)
	inline := ParametersDigest([]string{"python3", "-c", "print()"})
	s := Scope{
		{Target: "file:///usr/bin/report", Terms: Terms{Operations: Execute | Read, Code: []Digest{digestOf(1), digestOf(2)}, Parameters: &params}},
		{Target: "file:///usr/bin/python3", Terms: Terms{Operations: Execute, Code: []Digest{digestOf(3)}, Parameters: &pinned}},
		{Target: "file:///usr/local/bin/python3", Terms: Terms{Operations: Execute, Code: []Digest{digestOf(3)}, Parameters: &inline}},
		{Target: "tool:mcp/search", Terms: Terms{Operations: Execute}},
		{Target: "tool:mcp/sh", Terms: Terms{Operations: Execute}},
	}.Canonical()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	good := Use{Target: "file:///usr/bin/report", Operation: Execute, Code: digestOf(2), Argv: argv}
	script := Use{Target: "file:///usr/bin/python3", Operation: Execute, Code: digestOf(3), Argv: python}
	with := func(u Use, edit func(*Use)) Use { edit(&u); return u }
	rows := []struct {
		name string
		use  Use
		code denial.Reason // zero: admitted
	}{
		{"the program", good, 0},
		{"reading", Use{Target: "file:///usr/bin/report", Operation: Read}, 0},
		{"a tool", Use{Target: "tool:mcp/search", Operation: Execute, Argv: []string{"anything"}}, 0},
		{"a tool without arguments", Use{Target: "tool:mcp/search", Operation: Execute}, 0},
		{"a tool that is called like a shell", Use{Target: "tool:mcp/sh", Operation: Execute, Argv: []string{"anything"}}, 0},
		{"X07 the pinned script", script, 0},
		{"another target", with(good, func(u *Use) { u.Target += "2" }), denial.ScopeDenied},
		{"the target in another spelling", with(good, func(u *Use) { u.Target = "file:/usr/bin/report" }), denial.ScopeDenied},
		{"another operation", with(good, func(u *Use) { u.Operation = Write }), denial.ScopeDenied},
		{"one operation too many", with(good, func(u *Use) { u.Operation |= Net }), denial.ScopeDenied},
		{"no operation", with(good, func(u *Use) { u.Operation = 0 }), denial.ScopeDenied},
		{"other code", with(good, func(u *Use) { u.Code = digestOf(9) }), denial.CodeDigestMismatch},
		{"no code", with(good, func(u *Use) { u.Code = Digest{} }), denial.CodeDigestMismatch},
		{"X09 an argument more", with(good, func(u *Use) { u.Argv = append(argv[:3:3], "x") }), denial.ScopeDenied},
		{"X09 an argument less", with(good, func(u *Use) { u.Argv = argv[:2] }), denial.ScopeDenied},
		{"X09 another name", with(good, func(u *Use) { u.Argv = []string{"other", "--month", "1"} }), denial.ScopeDenied},
		{"X07 inline code", with(script, func(u *Use) { u.Argv = []string{"python3", "-c", "print()"} }), denial.InterpreterUngoverned},
		{"X07 inline code in a cluster", with(script, func(u *Use) { u.Argv = []string{"python3", "-Bc", "print()"} }), denial.InterpreterUngoverned},
		{"X07 inline code, even pinned", with(script, func(u *Use) { u.Target, u.Argv = "file:///usr/local/bin/python3", []string{"python3", "-c", "print()"} }), denial.InterpreterUngoverned},
		{"X07 a module", with(script, func(u *Use) { u.Argv = []string{"python3", "-m", "http.server"} }), denial.InterpreterUngoverned},
		{"X07 long option", with(script, func(u *Use) { u.Argv = []string{"node", "--eval=1"} }), denial.InterpreterUngoverned},
		{"X07 standard input", with(script, func(u *Use) { u.Argv = []string{"python3"} }), denial.InterpreterUngoverned},
		{"X07 standard input by a dash", with(script, func(u *Use) { u.Argv = []string{"python3", "-"} }), denial.InterpreterUngoverned},
		{"X07 another script", with(script, func(u *Use) { u.Argv = []string{"python3", "/srv/other.py", "now"} }), denial.ScopeDenied},
		{"X07 inline code by another name", with(script, func(u *Use) { u.Argv = []string{"report", "-c", "print()"} }), denial.InterpreterUngoverned},
		{"X07 standard input behind an option", with(script, func(u *Use) { u.Argv = []string{"python3", "-u"} }), denial.InterpreterUngoverned},
		{"X08 a loader alone", with(good, func(u *Use) { u.Argv = []string{"/lib64/ld-linux-x86-64.so.2"} }), denial.InterpreterUngoverned},
		{"X08 a loader as argv[0]", with(good, func(u *Use) { u.Argv = []string{"/lib64/ld-linux-x86-64.so.2", "--month", "1"} }), denial.InterpreterUngoverned},
	}
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			p, err := s.Admit(r.use)
			if r.code != 0 {
				refused(t, err, r.code)
				return
			}
			if err != nil || p.Target != r.use.Target {
				t.Fatalf("got %v, %v, want it admitted", p, err)
			}
		})
	}
}

// X08: a scope that Check never saw does not make a loader run either.
func TestX08_AnUncheckedScopeRunsNoLoader(t *testing.T) {
	s := Scope{{Target: "file:///lib64/ld-linux-x86-64.so.2", Terms: Terms{Operations: Execute}}}
	_, err := s.Admit(Use{Target: s[0].Target, Operation: Execute, Argv: []string{"report"}})
	refused(t, err, denial.InterpreterUngoverned)
}
