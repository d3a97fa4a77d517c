package audit_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// The log of TestScale: starts follow their artifact after delay further ones, so that neither it nor a start is among those that
// were read last when it is named.
const delay = 136

// perEntry is how many bytes of live memory an entry may cost: of a log so short that buffers count, and of a long one.
const perEntry, perEntryOfMany = 1000, 200

// TestScale pulls and verifies logs of two sizes and holds that memory grows by little: by no more than perEntry bytes an
// entry. With SCALE=1000000 (make scale) it does so for a log of that size, verifies it with the program WRIT as well, in a process of its own, and
// says what that took.
func TestScale(t *testing.T) {
	size := 1200
	if text := os.Getenv("SCALE"); text != "" {
		size = must(strconv.Atoi(text))(t)
	}
	uses, most := 3, int64(perEntry)
	if size >= 100_000 {
		uses, most = 24, perEntryOfMany
	}
	s := newStage(t)
	s.publish(strings.Replace(s.authorization("600s"), "uses = 2", "uses = 24", 1))
	begun := time.Now()
	crowd := &crowd{stage: s, uses: uint64(uses)}
	crowd.grow(uint64(size))
	t.Logf("%d entries made in %.0f s", s.Tree.Head().Size, time.Since(begun).Seconds())
	small := crowd.measure(t, uint64(size)/5)
	large := crowd.measure(t, 0)
	for what, c := range map[string][2]heap{"pull": {small.pull, large.pull}, "verify": {small.verify, large.verify}} {
		each := (int64(c[1].most) - int64(c[0].most)) / int64(large.entries-small.entries)
		t.Logf("%s: %d MiB of live memory at %d entries, %d MiB at %d: %d bytes an entry", what, c[0].most>>20, small.entries, c[1].most>>20, large.entries, each)
		if each > most {
			t.Errorf("%s: an entry costs %d bytes of memory, want at most %d", what, each, most)
		}
	}
	if program := os.Getenv("WRIT"); program != "" {
		s.verifyApart(t, program, large.file)
	}
}

// crowd makes entries fast: artifacts as the issuer mints them, and records of their gate that are signed and appended without
// asking the issuer.
type crowd struct {
	*stage
	uses    uint64
	waiting []*issuer.Minted
	open    []started
}

// started is an execution that has no end yet.
type started struct {
	of    *issuer.Minted
	use   uint64
	start statement.Digest
}

func (c *crowd) grow(size uint64) {
	c.Helper()
	for c.Tree.Head().Size < size {
		m, _, err := c.ask(asking{edit: func(r *artifact.RequestClaims) { r.Limits, r.Lifetime = &artifact.Limits{Uses: c.uses}, 600 }})
		if err != nil {
			c.Fatal(err)
		}
		if c.waiting = append(c.waiting, m); len(c.waiting) < delay {
			continue
		}
		var leaves [][]byte
		for n := range c.uses {
			leaves = append(leaves, c.record(c.waiting[0], record.EventStart, n+1, nil))
			own := statement.DigestOf(leaves[len(leaves)-1])
			c.open = append(c.open, started{c.waiting[0], n + 1, own})
		}
		for c.waiting = c.waiting[1:]; len(c.open) > delay; c.open = c.open[1:] {
			leaves = append(leaves, c.record(c.open[0].of, record.EventEnd, c.open[0].use, c.open[0].start[:]))
		}
		var entries []tlog.Entry
		for _, leaf := range leaves {
			entries = append(entries, tlog.Entry{Leaf: leaf})
		}
		must(c.Tree.Append(c.Ctx, entries...))(c)
	}
}

func (c *crowd) record(m *issuer.Minted, event record.Event, use uint64, start []byte) []byte {
	c.Helper()
	claims, _, err := artifact.Inspect(m.Artifact)
	if err != nil {
		c.Fatal(err)
	}
	leaf := c.Report(c.Host, m, event, func(r *record.Record) {
		r.Initiator, r.Policy = claims.Initiator.Principal, &record.PolicyRef{ID: claims.Policy.ID, Hash: claims.Policy.Hash.Value}
		r.Execution.Use, r.Execution.Start = use, start
	})
	c.Host.Follow(leaf)
	return leaf
}

// heap is the most live memory that was seen, above that at the begin.
type heap struct {
	least, most uint64
	calls, step int
}

func (h *heap) begin(entries uint64) {
	h.step = int(entries/8) + 1
	h.least, h.most = live(), 0
}

func (h *heap) sample() {
	if h.calls++; h.calls%h.step == 0 {
		h.most = max(h.most, max(live(), h.least)-h.least)
	}
}

func live() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// watched is a log that samples memory whenever an entry is read.
type watched struct {
	*tlog.Log
	*heap
}

func (w watched) Receipt(ctx context.Context, index uint64) ([]byte, error) {
	w.sample()
	return w.Log.Receipt(ctx, index)
}

// watching is a context that samples memory whenever it is asked for its end, which Verify does for each statement.
type watching struct {
	context.Context
	*heap
}

func (w watching) Err() error {
	w.sample()
	return w.Context.Err()
}

// taken is what a pull and a verification took.
type taken struct {
	entries      uint64
	pull, verify heap
	file         string
}

// measure pulls the first entries of the log, or all of them, and verifies the bundle.
func (c *crowd) measure(t *testing.T, to uint64) (took taken) {
	t.Helper()
	c.tick()
	took.file = filepath.Join(t.TempDir(), "bundle.tar")
	size := c.Tree.Head().Size
	if to > 0 {
		size = to
	}
	took.pull.begin(size)
	begun := time.Now()
	b := must(audit.Build(c.Ctx, watched{c.Tree, &took.pull}, c.Issuer, audit.Query{To: to}))(t)
	f := must(os.Create(took.file))(t)
	out := bufio.NewWriter(f)
	if err := b.Write(c.Ctx, out); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{out.Flush(), f.Close(), b.Close()} {
		if err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d entries pulled in %.0f s: %d MiB", size, time.Since(begun).Seconds(), must(os.Stat(took.file))(t).Size()>>20)
	in := must(os.Open(took.file))(t)
	defer in.Close()
	took.verify.begin(size)
	begun = time.Now()
	r := must(audit.Verify(watching{c.Ctx, &took.verify}, in, c.trust(), audit.Options{Now: c.Now(), Brief: true}))(t)
	if r.Err() != nil || len(r.Statements) > 0 {
		t.Fatalf("got %v, %d findings\n%s", r.Err(), len(r.Statements), r.Text())
	}
	t.Logf("%d entries verified in %.0f s", size, time.Since(begun).Seconds())
	took.entries = size
	return took
}

// verifyApart has a program verify a bundle, told to do with 256 MiB, and says how much memory its process had at most.
func (s *stage) verifyApart(t *testing.T, program, bundle string) {
	t.Helper()
	trust := filepath.Join(t.TempDir(), "trust.toml")
	if err := os.WriteFile(trust, must(s.trust().Marshal())(t), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	cmd := exec.CommandContext(s.Ctx, program, "audit", "verify", bundle, "--trust", trust)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), "GOMEMLIMIT=256MiB"), &out, &out
	begun := time.Now()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	use := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	fmt.Fprintf(&out, "%s: %.0f s, %d MiB resident at most", filepath.Base(program), time.Since(begun).Seconds(), use.Maxrss>>10)
	t.Log(out.String())
}
