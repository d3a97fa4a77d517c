package script

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Call runs a command in this process, and returns its exit status and what it wrote.
type Call func(args ...string) (status int, stdout, stderr string)

// maxTaken is what a command may allocate while it refuses a file, in bytes: no file that is read whole is larger.
const maxTaken = 256 << 20

// takesFile says of a flag that its value names a file to be read, by its usage text: every such text says so.
var (
	takesFile = regexp.MustCompile(`(?i)\b(files?|PEM|directory|bundle|script|certificates?|key of)\b`)
	others    = regexp.MustCompile(`^(out|toml|svg|textfile|dir|facts|draft|gate-state|code|directory|interpreter|audience)$`) // written to, or no files
)

// Needs is what a command is given beside the bad file, so that it comes to read it.
type Needs struct {
	Flags []string
	Args  []string // beside the file of a flag
	Fine  []string // flags, or "arguments", with which an empty file is none that is bad
	Reads []string // flags of the root beside the configuration whose files the command reads
}

// BadFiles goes through every command below root that a person can run, and gives it for each argument, and for each flag that
// takes a file, one that is missing, a directory, empty, noise, and huge. Each call must end with a status that is no yes, say what is wrong
// and what to try, and with --json as one JSON value; none may panic, or take memory for a file that is too large. Needs are by the path of
// the command. It returns the flags whose file no call came to: what was wrong before it needs more than this test has.
func BadFiles(t *testing.T, root *cobra.Command, call Call, needs map[string]Needs) (unread []string) {
	t.Helper()
	bad := badFiles(t)
	walk(root, func(cmd *cobra.Command) {
		path := cmd.CommandPath()
		words, need, arguments := strings.Fields(path)[1:], needs[path], argumentsOf(cmd)
		try := func(name string, args func(file string) []string) {
			for kind, file := range bad {
				if kind == "empty" && (name == "config" || slices.Contains(need.Fine, name)) {
					continue
				}
				t.Run(strings.Join(append(words, name, kind), "_"), func(t *testing.T) {
					full := slices.Concat(words, need.Flags, args(file))
					for _, full := range [][]string{full, append(full, "--json")} {
						_ = os.Remove(bad["missing"]) // a command may have made it
						refuses(t, call, full)
					}
				})
			}
		}
		if arguments > 0 {
			try("arguments", func(file string) []string { return slices.Repeat([]string{file}, arguments) })
		}
		each := func(f *pflag.Flag) {
			if f.Value.Type() != "string" && f.Value.Type() != "stringArray" || !takesFile.MatchString(f.Usage) || others.MatchString(f.Name) {
				return
			}
			args := func(file string) []string { return append([]string{"--" + f.Name, file}, need.Args...) }
			if _, _, errs := call(slices.Concat(words, need.Flags, args(bad["missing"]))...); f.Name != "config" && !strings.Contains(errs, bad["missing"]) {
				unread = append(unread, path+" --"+f.Name)
			}
			try(f.Name, args)
		}
		cmd.LocalFlags().VisitAll(each)
		cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name == "config" || slices.Contains(need.Reads, f.Name) {
				each(f)
			}
		})
	})
	return unread
}

// Paths returns the path of every command that a person can run.
func Paths(root *cobra.Command) (all []string) {
	walk(root, func(cmd *cobra.Command) { all = append(all, cmd.CommandPath()) })
	return all
}

// Called checks what every command says to --help, and every one that only groups others when it is called alone.
func Called(t *testing.T, root *cobra.Command, call Call) {
	t.Helper()
	walk(root, func(cmd *cobra.Command) {
		words := strings.Fields(cmd.CommandPath())[1:]
		if status, out, errs := call(append(words, "--help")...); status != 0 || !strings.Contains(out, "Usage:") || errs != "" {
			t.Errorf("%s --help: status %d\n%s%s", cmd.CommandPath(), status, out, errs)
		}
		if argumentsOf(cmd) > 0 {
			refuses(t, call, words)
			refuses(t, call, append(words, "--json"))
		}
	})
}

func refuses(t *testing.T, call Call, args []string) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	status, out, errs := call(args...)
	runtime.ReadMemStats(&after)
	text := strings.Join(args, " ")
	if taken := after.TotalAlloc - before.TotalAlloc; taken > maxTaken {
		t.Errorf("%s: took %d MiB", text, taken>>20)
	}
	if status < 1 || status > 3 {
		t.Errorf("%s: exit status %d", text, status)
	}
	said := errs
	if args[len(args)-1] == "--json" {
		said += out
		var one any
		d := json.NewDecoder(strings.NewReader(out))
		if err := d.Decode(&one); err != nil || d.More() {
			t.Errorf("%s: not one JSON value on standard output (%v): %q", text, err, out)
		}
		if !strings.Contains(errs, "hint: ") && !strings.Contains(out, `"hint":`) {
			t.Errorf("%s: nothing says what to try:\n%s%s", text, out, errs)
		}
	} else if !strings.Contains(errs, "hint: ") {
		t.Errorf("%s: nothing says what to try:\n%s%s", text, out, errs)
	}
	for _, never := range []string{"goroutine ", "panic", "runtime error", "%!"} {
		if strings.Contains(said, never) {
			t.Errorf("%s: says %q:\n%s", text, never, said)
		}
	}
	if len(said) > 16<<10 {
		t.Errorf("%s: says %d bytes", text, len(said))
	}
}

// walk calls fn with every command that a person can run.
func walk(cmd *cobra.Command, fn func(*cobra.Command)) {
	subs := cmd.Commands()
	for _, sub := range subs {
		if !sub.Hidden && sub.Name() != "help" && sub.Name() != "completion" {
			walk(sub, fn)
		}
	}
	if len(subs) == 0 {
		fn(cmd)
	}
}

// argumentsOf counts the arguments that a command takes at least, by the words of its usage.
func argumentsOf(cmd *cobra.Command) (n int) {
	for n < 6 && cmd.ValidateArgs(make([]string, n)) != nil {
		n++
	}
	return n % 6
}

func badFiles(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	noise := make([]byte, 8<<10)
	for i := range noise {
		noise[i] = byte(i*i*31 + i>>3)
	}
	files := map[string]string{"missing": filepath.Join(dir, "missing"), "directory": dir}
	for name, data := range map[string][]byte{"empty": nil, "noise": noise, "huge": nil} {
		files[name] = filepath.Join(dir, name)
		if err := os.WriteFile(files[name], data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Truncate(files["huge"], 5<<30); err != nil { // sparse
		t.Fatal(err)
	}
	return files
}
