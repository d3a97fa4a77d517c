package gate

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
)

func (r *rig) script(text string) string { return r.program("script", []byte(text)) }

func TestX10_ScriptAndInterpreterAreBothSealed(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	text := "#! \t" + r.child + " interpret \nhello\n"
	script := r.script(text)
	both := permit{scope: artifact.Scope{file(t, script, []string{"x", "y z"}, nil), file(t, r.child, []string{"interpret", script, "x", "y z"}, nil)}.Canonical()}
	cmd := r.commandFor(both, script, "x", "y z")
	r.line.onRecord(func(_ context.Context, _ []byte, pass func() ([]byte, error)) ([]byte, error) {
		edit(t, script, func([]byte) []byte { return []byte("other") }) // all is checked, nothing runs yet
		return pass()
	})
	if got, want := r.runs(cmd, 0), `["x" "y z"] `+text; got != want {
		t.Errorf("the interpreter wrote %q, want %q", got, want)
	}
	r.line.onRecord(nil)
	var start *record.Record
	for _, rec := range r.records() {
		if rec.Event == record.EventStart {
			start = rec
		}
	}
	program, source := must(loadBytes(t, childProgram(t)))(t), must(loadBytes(t, []byte(text)))(t)
	if start == nil || string(start.Execution.Code) != string(program.digest[:]) || string(start.Execution.Script) != string(source.digest[:]) {
		t.Errorf("the start record does not hold both digests: %+v", start)
	}
}

func TestX10_ScriptsThatAreRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	good := "#!" + r.child + " interpret\n"
	script := r.script(good)
	inner := r.program("inner", []byte(good))
	env, setsid := r.program("env", childProgram(t)), r.program("setsid", childProgram(t))
	of := func(paths ...string) permit {
		var scope artifact.Scope
		for _, p := range paths {
			var args []string
			if p == env || p == setsid {
				args = []string{"interpret", script}
			}
			scope = append(scope, file(t, p, args, nil))
		}
		return permit{scope: scope.Canonical()}
	}
	for _, row := range []struct {
		name   string
		text   string
		permit func() permit
		after  string // text of the script once the artifact is there
		want   denial.Reason
	}{
		{"interpreter not in scope", good, func() permit { return of(script) }, "", denial.ScopeDenied},
		{"interpreter with other arguments", good, func() permit {
			return permit{scope: artifact.Scope{file(t, script, nil, nil), file(t, r.child, []string{"interpret", "/x"}, nil)}.Canonical()}
		}, "", denial.ScopeDenied},
		{"nested script", "#!" + inner + "\n", func() permit { return of(script, inner, r.child) }, "", denial.InterpreterUngoverned},
		{"env", "#!" + env + " interpret\n", func() permit { return of(script, env) }, "", denial.InterpreterUngoverned},
		{"a program that runs another", "#!" + setsid + " interpret\n", func() permit { return of(script, setsid) }, "", denial.InterpreterUngoverned},
		{"one that it is told to run", "#!" + r.child + " /usr/bin/env\n", func() permit { return of(script, r.child) }, "", denial.InterpreterUngoverned},
		{"long line", "#!" + strings.Repeat(" ", 254) + r.child + "\n", func() permit { return of(script, r.child) }, "", denial.InterpreterUngoverned},
		{"no interpreter", "#!\n", func() permit { return of(script) }, "", denial.ScopeDenied},
		{"relative interpreter", "#!child\n", func() permit { return of(script, r.child) }, "", denial.ScopeDenied},
		{"neither script nor program", "echo hello\n", func() permit { return of(script) }, "", denial.InterpreterUngoverned},
		{"empty", "", func() permit { return of(script) }, "", denial.InterpreterUngoverned},
		{"three bytes of a program", "\x7fEL", func() permit { return of(script) }, "", denial.InterpreterUngoverned},
		{"edited", good, func() permit { return of(script, r.child) }, good + "rm -rf /\n", denial.CodeDigestMismatch},
		{"edited interpreter", good, func() permit { return of(script, r.child) }, "#!/bin/false\n", denial.CodeDigestMismatch},
	} {
		t.Run(row.name, func(t *testing.T) {
			edit(t, script, func([]byte) []byte { return []byte(row.text) })
			cmd := r.commandFor(row.permit(), script)
			if row.after != "" {
				edit(t, script, func([]byte) []byte { return []byte(row.after) })
			}
			out := r.refuses(cmd, row.want)
			if out.Denied != nil && out.Denied.Stage != denial.StageScope {
				t.Errorf("refused at %s", out.Denied.Stage)
			}
		})
	}
	t.Run("changed interpreter", func(t *testing.T) {
		edit(t, script, func([]byte) []byte { return []byte(good) })
		cmd := r.commandFor(of(script, r.child), script)
		edit(t, r.child, func([]byte) []byte { return changed(t) })
		r.refuses(cmd, denial.CodeDigestMismatch)
	})
}

func TestX10_ShellScript(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Fatal(err)
	}
	sh = must(filepath.EvalSymlinks(sh))(t)
	r := newRig(t, newWorld(t), "a")
	script := r.script("#!" + sh + "\necho \"$# $1\"; exit 4\n")
	cmd := r.commandFor(permit{scope: artifact.Scope{file(t, script, nil, nil), file(t, sh, []string{script, "a b"}, nil)}.Canonical()}, script, "a b")
	if got := r.runs(cmd, 4); got != "1 a b\n" {
		t.Errorf("the script wrote %q", got)
	}
}
