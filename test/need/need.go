// Package need decides what becomes of a test that misses something: it is skipped, or it fails if REQUIRE_ALL=1.
package need

import "os"

const (
	requireAll = "REQUIRE_ALL"
	corpus     = "WRIT_CORPUS"
)

// TB is the part of testing.TB that is needed, so that programs that use fixtures do not link package testing.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// All reports whether a test that misses something has to fail.
func All() bool { return os.Getenv(requireAll) == "1" }

// Missing ends the test: the format says what is missing, and what installs it.
func Missing(tb TB, format string, args ...any) {
	tb.Helper()
	if All() {
		tb.Fatalf(format, args...)
	}
	tb.Skipf(format, args...)
}

// Have goes on where err is nil, and else ends the test: err says what is missing.
func Have(tb TB, err error) {
	tb.Helper()
	if err != nil {
		Missing(tb, "%v", err)
	}
}

// Corpus returns the directory that holds the evidence of real machines, which the variable WRIT_CORPUS names.
func Corpus(tb TB) string {
	tb.Helper()
	dir := CorpusIfAny()
	if dir == "" {
		Missing(tb, "%s does not say where the corpus is", corpus)
	}
	return dir
}

// CorpusIfAny is Corpus for those that do with less where there is none: it then returns nothing.
func CorpusIfAny() string { return os.Getenv(corpus) }

// Nothing returns what the environment of a test has to hold so that it has no corpus and skips what it misses.
func Nothing() []string { return []string{requireAll + "=", corpus + "="} }
