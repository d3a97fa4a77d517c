package arch

import (
	"regexp"
	"slices"
	"testing"
)

// environment lists the only files that may look at the environment, each for one reason that decides nothing: the child
// gets what its parent has, and GOGC, which Go's runtime reads, is left as it is.
var environment = []string{"cmd/writ-gate/main.go", "cmd/writd/serve.go", "custody/process.go"}

var (
	readsEnvironment = regexp.MustCompile(`\b(?:os|syscall|unix)\.(?:Getenv|LookupEnv|Environ|ExpandEnv)\b`)
	namesFlag        = regexp.MustCompile(`\.(?:Bool|String|Int|Uint|Duration|Count)\w*\((?:&[\w.]+, )?"([\w-]+)"`)
	bypass           = regexp.MustCompile(`insecure|unsafe|skip|bypass|force|ignore|disable|debug|emergency|override|break-?glass|no-?verify|allow-all|permissive|lenient|relax|warn-only|log-only|audit-only|dry-?run|shadow|canary|^test`)
)

// TestP21_NoWayAround holds that no check can be switched off, nor be made to warn in place of refusing (P06): no file reads the environment but those above, and no
// command has a flag by which it would do without one.
func TestP21_NoWayAround(t *testing.T) {
	flags, readers := 0, map[string]bool{}
	for _, f := range files(t) {
		path := f.path[len("../../"):]
		if readsEnvironment.MatchString(f.source) {
			readers[path] = true
			if !slices.Contains(environment, path) {
				t.Errorf("%s reads the environment", path)
			}
		}
		for _, m := range namesFlag.FindAllStringSubmatch(f.source, -1) {
			flags++
			if bypass.MatchString(m[1]) {
				t.Errorf("%s has the flag --%s", path, m[1])
			}
		}
	}
	if len(readers) != len(environment) || flags < 80 {
		t.Errorf("found %d of %d readers of the environment and %d flags: the search is wrong", len(readers), len(environment), flags)
	}
}
