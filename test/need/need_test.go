package need

import (
	"errors"
	"testing"
)

// ending is a test that stops by a panic that says how it ended.
type ending struct{}

func (ending) Helper()               {}
func (ending) Fatalf(string, ...any) { panic("failed") }
func (ending) Skipf(string, ...any)  { panic("skipped") }

func end(f func(TB)) (how any) {
	defer func() { how = recover() }()
	f(ending{})
	return nil
}

// A test that misses something is skipped, and fails where everything is required.
func TestMissing(t *testing.T) {
	t.Setenv(corpus, "")
	for all, want := range map[string]string{"": "skipped", "0": "skipped", "1": "failed"} {
		t.Setenv(requireAll, all)
		if got := end(func(tb TB) { Corpus(tb) }); got != want {
			t.Errorf("no corpus, REQUIRE_ALL=%s: got %v, want %s", all, got, want)
		}
		if got := end(func(tb TB) { Have(tb, errors.New("no swtpm")) }); got != want {
			t.Errorf("no program, REQUIRE_ALL=%s: got %v, want %s", all, got, want)
		}
	}
	t.Setenv(corpus, "dir")
	if got := end(func(tb TB) {
		Have(tb, nil)
		if dir := Corpus(tb); dir != "dir" {
			t.Errorf("got corpus %q", dir)
		}
	}); got != nil {
		t.Errorf("nothing is missing: %v", got)
	}
}
