package tlog

import (
	"context"
	"errors"
	"os"
	"testing"

	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/swtpm"
)

// counter is one in memory, that can be made to fail after it was raised, and before.
type counter struct {
	value         uint64
	before, after error
}

func (c *counter) Value(context.Context) (uint64, error) { return c.value, nil }

func (c *counter) Raise(context.Context) (uint64, error) {
	if c.before != nil {
		return 0, c.before
	}
	c.value = max(c.value+1, 100)
	return c.value, c.after
}

func (s *site) anchored(c Counter) {
	s.t.Helper()
	if err := s.log.Anchor(s.t.Context(), c); err != nil {
		s.t.Fatal(err)
	}
}

// restore replaces the files of a closed log by those of another, the anchor too.
func (s *site) restore(from map[string][]byte) {
	s.t.Helper()
	for suffix, data := range from {
		if err := os.WriteFile(s.path+suffix, data, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *site) files() map[string][]byte {
	s.t.Helper()
	all := map[string][]byte{}
	for _, suffix := range []string{"", ".mark", ".anchor"} {
		data, err := os.ReadFile(s.path + suffix)
		if err != nil {
			s.t.Fatal(err)
		}
		all[suffix] = data
	}
	return all
}

// rolledBack restores yesterday's files, all of them, and expects 508.
func rolledBack(t *testing.T, c Counter) {
	s := newSite(t)
	s.appendN(3)
	s.anchored(c)
	s.close()
	yesterday := s.files()
	s.open()
	s.anchored(c) // a restart is no rollback
	s.appendN(2)
	s.anchored(c)
	s.close()
	today := s.files()
	s.restore(yesterday)
	s.open() // the files fit each other
	wantReason(t, s.log.Anchor(t.Context(), c), denial.StateRollback)
	s.close()
	s.restore(today)
	s.open()
	s.anchored(c)
}

func TestT07_AnOldDirectoryIsRefusedByTheCounter(t *testing.T) {
	t.Parallel()
	rolledBack(t, &counter{})
}

func TestT07_AnOldDirectoryIsRefusedByATPM(t *testing.T) {
	t.Parallel()
	dev := swtpm.New(t, swtpm.Options{})
	tpm, err := attester.Open(t.Context(), dev.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer tpm.Close()
	rolledBack(t, tpm.Counter(0x01805752))
}

func TestAnAnchorThatDoesNotFitIsRefused(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		spoil  func(*site, *counter)
		reason denial.Reason
	}{
		"T07 the anchor is gone":  {func(s *site, _ *counter) { os.Remove(s.path + ".anchor") }, denial.StateRollback},
		"T07 an anchor of before": {func(_ *site, c *counter) { c.value++ }, denial.StateRollback},
		"T07 more entries than there are": {func(s *site, c *counter) {
			writeAnchor(s.path+".anchor", anchor{c.value, 9, s.log.Head().Root})
		}, denial.StateRollback},
		"T10 another root": {func(s *site, c *counter) { writeAnchor(s.path+".anchor", anchor{Count: c.value, Size: 2}) }, denial.LogInconsistent},
		"another counter":  {func(_ *site, c *counter) { c.value = 7 }, denial.StateRollback},
		"damaged":          {func(s *site, _ *counter) { os.WriteFile(s.path+".anchor", make([]byte, 80), 0o600) }, denial.StoreFault},
		"cut off":          {func(s *site, _ *counter) { os.Truncate(s.path+".anchor", 10) }, denial.StoreFault},
	} {
		s, c := newSite(t), &counter{}
		s.appendN(3)
		s.anchored(c)
		row.spoil(s, c)
		err := s.log.Anchor(t.Context(), c)
		if !denial.Is(err, row.reason) {
			t.Errorf("%s: got %v, want %v", name, err, row.reason)
		}
	}
}

// A process that is killed between file and counter, or a counter whose answer is lost, refuses nobody.
func TestAnAnchorOutlivesFaults(t *testing.T) {
	t.Parallel()
	gone := errors.New("the TPM is gone")
	for name, spoil := range map[string]func(*counter){
		"before it is raised": func(c *counter) { c.before = gone },
		"after it is raised":  func(c *counter) { c.after = gone },
	} {
		for _, first := range []bool{true, false} {
			s, c := newSite(t), &counter{}
			s.appendN(3)
			if !first {
				s.anchored(c)
			}
			spoil(c)
			if err := s.log.Anchor(t.Context(), c); !errors.Is(err, gone) {
				t.Errorf("%s: got %v", name, err)
			}
			*c = counter{value: c.value}
			s.close()
			s.open()
			if err := s.log.Anchor(t.Context(), c); err != nil {
				t.Errorf("%s, first %v: got %v", name, first, err)
			}
			s.anchored(c)
		}
	}
}
