package mutants

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/governed-execution/writ/test/need"
)

// Tests runs the tests of one package's binary against its mutants.
type Tests struct {
	binary string
	dir    string // of the package
	tests  []test
	reach  map[int][]int // mutant to the tests that reach it
}

type test struct {
	name string
	took time.Duration
}

// maxMemory is the address space of a trial in KiB: a mutant may ask for all there is.
const maxMemory = 8 << 20

// NewTests lists the tests of a build's binary but those that leave names, and runs each alone to learn how long it
// takes and which mutants it reaches. All must pass.
func NewTests(ctx context.Context, b *Build, pkg string, leave func(name string) bool) (*Tests, error) {
	t := &Tests{binary: b.Binary, dir: filepath.Join(b.root, pkg), reach: map[int][]int{}}
	list := exec.CommandContext(ctx, t.binary, "-test.list", ".")
	list.Dir = t.dir
	out, err := list.Output()
	if err != nil {
		return nil, fmt.Errorf("listing tests of %s: %w", pkg, err)
	}
	for _, name := range strings.Fields(string(out)) {
		if !strings.HasPrefix(name, "Benchmark") && !leave(name) {
			if err := t.measure(ctx, b.dir, name); err != nil {
				return nil, err
			}
		}
	}
	return t, nil
}

// measure runs one test without a mutant.
func (t *Tests) measure(ctx context.Context, dir, name string) error {
	trace := filepath.Join(dir, "trace")
	_ = os.Remove(trace)
	began := time.Now()
	if _, ok := t.run(ctx, t.binary, time.Minute, []string{"MUTANT_TRACE=" + trace}, name); !ok {
		// The trace allocates, and some tests count that.
		if out, ok := t.run(ctx, t.binary, time.Minute, nil, name); !ok {
			return fmt.Errorf("running %s without a mutant: it fails: %s", name, out[max(0, len(out)-600):])
		}
	}
	t.tests = append(t.tests, test{name, time.Since(began)})
	seen, err := os.ReadFile(trace)
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("reading trace: %w", err)
	}
	for _, text := range strings.Fields(string(seen)) {
		if id, err := strconv.Atoi(text); err == nil {
			t.reach[id] = append(t.reach[id], len(t.tests)-1)
		}
	}
	return nil
}

// run runs tests of a binary and reports whether all passed.
func (t *Tests) run(ctx context.Context, binary string, limit time.Duration, env []string, names ...string) (string, bool) {
	ctx, cancel := context.WithTimeout(ctx, limit+5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", fmt.Sprintf(`ulimit -v %d; exec "$@"`, maxMemory), "sh", binary, "-test.short",
		"-test.failfast", "-test.timeout", limit.String(), "-test.run", "^("+strings.Join(names, "|")+")$")
	cmd.Dir = t.dir
	cmd.Env = append(os.Environ(), append(env, need.Nothing()...)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return out.String(), err == nil
}

// Killed reports whether a test fails with the mutant. Quick tests are tried first.
func (t *Tests) Killed(ctx context.Context, m Mutant) bool {
	return t.killed(ctx, t.binary, t.reach[m.ID], "MUTANT="+strconv.Itoa(m.ID))
}

// KilledAlone is Killed for a binary that is the mutant.
func (t *Tests) KilledAlone(ctx context.Context, binary string) bool {
	all := make([]int, len(t.tests))
	for i := range all {
		all[i] = i
	}
	return t.killed(ctx, binary, all, "MUTANT=0")
}

func (t *Tests) killed(ctx context.Context, binary string, reach []int, env string) bool {
	order := slices.Clone(reach)
	slices.SortStableFunc(order, func(a, b int) int { return int(t.tests[a].took - t.tests[b].took) })
	for len(order) > 0 {
		var names []string
		var sum time.Duration
		for len(order) > 0 && (len(names) == 0 || sum < 300*time.Millisecond) {
			names, sum = append(names, t.tests[order[0]].name), sum+t.tests[order[0]].took
			order = order[1:]
		}
		if _, ok := t.run(ctx, binary, 5*time.Second+10*sum, []string{env}, names...); !ok {
			return ctx.Err() == nil
		}
	}
	return false
}
