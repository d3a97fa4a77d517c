package artifact

import (
	"path"
	"slices"
	"strings"

	"github.com/governed-execution/writ/denial"
)

// Use is one thing that somebody wants to do under a scope.
type Use struct {
	Target    string
	Operation Operations // one or more bits, all of which must be allowed
	Code      Digest     // of the bytes that would run; needed with Execute
	Argv      []string   // with Execute, argv[0] included
}

// Admit returns the permission that covers the use. It checks, in this order: a permission names exactly the target
// (404) and every operation asked for (404); then for Execute: neither target nor argv[0] is a loader (619, X08), an
// interpreter is not told to run inline code (619, X07), the code is one of the pinned digests (616), the arguments are
// the pinned ones (404, X09).
//
// A file is known as an interpreter by its name; that a renamed one is no interpreter is what its code digest says.
func (s Scope) Admit(u Use) (Permission, error) {
	p, ok := s.find(u.Target)
	switch {
	case !ok:
		return Permission{}, denial.New(denial.ScopeDenied, "the scope does not name the target")
	case u.Operation == 0 || u.Operation&^p.Terms.Operations != 0:
		return Permission{}, denial.New(denial.ScopeDenied, "the scope does not allow the operation on the target")
	}
	if u.Operation&Execute != 0 {
		if err := p.Terms.admitRun(u); err != nil {
			return Permission{}, err
		}
	}
	return p, nil
}

func (t Terms) admitRun(u Use) error {
	names := programNames(u)
	switch {
	case slices.ContainsFunc(names, IsLoader):
		return denial.New(denial.InterpreterUngoverned, "a dynamic loader never runs")
	case slices.ContainsFunc(names, IsInterpreter) && hasInlineCode(u.Argv):
		return denial.New(denial.InterpreterUngoverned, "an interpreter is told to run code that nothing pins")
	case len(t.Code) > 0 && !slices.ContainsFunc(t.Code, u.Code.Equal):
		return denial.New(denial.CodeDigestMismatch, "the code is not one that the scope pins")
	case t.Parameters != nil && !t.Parameters.Equal(ParametersDigest(u.Argv)):
		return denial.New(denial.ScopeDenied, "the arguments are not those that the scope pins")
	}
	return nil
}

func programNames(u Use) []string {
	var names []string
	if base, ok := fileBase(u.Target); ok {
		names = append(names, base)
	}
	if len(u.Argv) > 0 {
		names = append(names, path.Base(u.Argv[0]))
	}
	return names
}

// codeOptions are the long options by which interpreters take code.
var codeOptions = []string{"eval", "exec", "print", "require", "import", "command", "run", "init-file", "rcfile"}

// hasInlineCode reports whether an interpreter runs something else than a script that is named: code from the command line
// or a module path, by an option before the script (-c, -e, -m, -p, -r, -E, -x, -I, their long forms, or one within a cluster), or
// standard input, where no script follows the options, or a dash.
func hasInlineCode(argv []string) bool {
	args := argv[min(1, len(argv)):]
	for len(args) > 0 && args[0] != "-" && strings.HasPrefix(args[0], "-") {
		option := args[0]
		args = args[1:]
		if option == "--" {
			break // the script follows
		}
		name, _, _ := strings.Cut(strings.TrimLeft(option, "-"), "=")
		if long := strings.HasPrefix(option, "--"); long && slices.Contains(codeOptions, name) || !long && strings.ContainsAny(option, "cemprExI") {
			return true
		}
	}
	return len(args) == 0 || args[0] == "-"
}

// IsLoader reports whether a file name is that of a dynamic loader, which would run any file it is given (X08).
func IsLoader(base string) bool {
	for _, prefix := range []string{"ld-linux", "ld-musl", "ld64.so", "ld.so", "ld-uClibc", "ld-elf"} {
		if strings.HasPrefix(base, prefix) {
			return true
		}
	}
	return strings.HasPrefix(base, "ld-") && strings.Contains(base, ".so")
}

// IsInterpreter reports whether a file name is that of a well-known interpreter or launcher, versions aside (X07).
func IsInterpreter(base string) bool {
	return slices.Contains(interpreters, plainName(base)) || IsLauncher(base)
}

// IsLauncher reports whether a file name is that of a program whose one purpose is to run the program that its arguments name,
// such as env.
func IsLauncher(base string) bool { return slices.Contains(launchers, plainName(base)) }

// plainName returns a file name without version and what follows it, and without the mark of a static or debug build.
func plainName(name string) string {
	if i := strings.IndexAny(name, "0123456789"); i >= 0 {
		name = name[:i]
	}
	return strings.TrimSuffix(strings.TrimSuffix(strings.TrimRight(name, ".-"), "-static"), "-dbg")
}

// interpreters run the code of files that they are given.
var interpreters = []string{"ash", "awk", "bash", "bun", "busybox", "csh", "dash", "deno", "dotnet", "elixir", "escript", "expect", "fish",
	"gawk", "groovy", "guile", "java", "julia", "ksh", "lksh", "lua", "luajit", "mawk", "mksh", "mono", "node", "nodejs", "ocaml", "perl",
	"php", "pwsh", "pypy", "python", "racket", "rbash", "Rscript", "ruby", "sbcl", "sh", "tcsh", "tclsh", "toybox", "wish", "yash", "zsh"}

// launchers run whatever program they are given, which nobody has checked.
var launchers = []string{"bwrap", "chroot", "chrt", "doas", "dumb-init", "env", "fakeroot", "flock", "gdb", "ionice", "ltrace", "nice",
	"nohup", "nsenter", "proot", "qemu-aarch", "qemu-x", "runuser", "setarch", "setpriv", "setsid", "start-stop-daemon",
	"stdbuf", "strace", "su", "sudo", "systemd-run", "taskset", "timeout", "tini", "unshare", "xargs"}

func isVariable(name string) bool {
	if name == "" || len(name) > 128 || name[0] >= '0' && name[0] <= '9' {
		return false
	}
	for i := range len(name) {
		c := name[i]
		if c != '_' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// IsDangerousVariable reports whether an environment variable can make a loader, a language runtime, a shell or a common
// tool run or load code that nobody measured (X05). No scope may name one, and no gate passes one on. It is a second
// barrier: no list is complete, and the first is that the policy names the variables.
func IsDangerousVariable(name string) bool {
	for _, prefix := range []string{"LD_", "DYLD_", "_RLD", "PYTHON", "PERL", "RUBY", "LUA_", "MALLOC_", "GLIBC_", "BASH_FUNC_",
		"CORECLR_", "COR_", "DOTNET_", "COMPlus_", "GIT_", "NODE_", "NPM_CONFIG_", "npm_config_"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return slices.Contains([]string{"GCONV_PATH", "GETCONF_DIR", "HOSTALIASES", "LOCALDOMAIN", "LOCPATH", "NIS_PATH",
		"NLSPATH", "RESOLV_HOST_CONF", "RES_OPTIONS", "TZDIR", "GODEBUG", "GOTRACEBACK", "GOCOVERDIR", "BASH_ENV", "ENV", "SHELLOPTS",
		"BASHOPTS", "PS4", "IFS", "CDPATH", "PROMPT_COMMAND", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS",
		"CLASSPATH", "OPENSSL_CONF", "OPENSSL_MODULES", "OPENSSL_ENGINES", "SSLKEYLOGFILE", "PHPRC", "PHP_INI_SCAN_DIR",
		"TCLLIBPATH", "R_PROFILE", "R_PROFILE_USER", "R_LIBS", "GUILE_LOAD_PATH", "GUILE_LOAD_COMPILED_PATH", "ELECTRON_RUN_AS_NODE",
		"DENO_DIR", "BUN_OPTIONS", "RUSTC_WRAPPER", "AWKPATH", "AWKLIBPATH", "ZDOTDIR", "FPATH",
		"PATH", "HOME", "SHELL", "EDITOR", "VISUAL", "PAGER", "BROWSER", "LESSOPEN", "LESSCLOSE", "VIMINIT", "EXINIT", "TAR_OPTIONS",
		"MAKEFLAGS", "GOFLAGS", "RSYNC_RSH", "MAVEN_OPTS", "JAVA_OPTS", "GTK_MODULES", "ERL_FLAGS", "ERL_AFLAGS", "PIP_CONFIG_FILE",
		"KUBECONFIG"}, name)
}
