package tlog

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// TestBackupIsOneMoment copies a log again and again while it is written: each copy opens as a log of its own, holds at least what was
// acknowledged before, and a copy that is cut short is refused for its mark (906).
func TestBackupIsOneMoment(t *testing.T) {
	s := newSite(t)
	s.appendN(3)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				s.appendN(1)
			}
		}
	})
	var copies []string
	for range 5 {
		least := s.log.Head().Size
		to := filepath.Join(t.TempDir(), "log.db")
		if err := Backup(t.Context(), s.options().Path, to); err != nil {
			t.Fatal(err)
		}
		view, err := OpenReadOnly(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		size, err := view.Check(t.Context(), []statement.Key{s.options().Signer.Key()}, testIssuer, testLog)
		if err != nil || size < least {
			t.Errorf("got %d entries and %v, want at least %d", size, err, least)
		}
		if err := view.Close(); err != nil {
			t.Fatal(err)
		}
		copies = append(copies, to)
	}
	close(stop)
	wg.Wait()
	o := s.options()
	for _, o.Path = range copies {
		l, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// An older database beside the mark of a newer copy.
	older, err := os.ReadFile(copies[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(o.Path, older, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), o)
	wantReason(t, err, denial.StoreFault)
}

func TestBackupReplacesNothing(t *testing.T) {
	s := newSite(t)
	s.appendN(3)
	to := filepath.Join(t.TempDir(), "log.db")
	if err := os.WriteFile(to, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Backup(t.Context(), s.options().Path, to); err == nil {
		t.Error("a file was replaced")
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != "mine" {
		t.Errorf("got %q, %v", got, err)
	}
	if err := Backup(t.Context(), filepath.Join(t.TempDir(), "nolog"), filepath.Join(t.TempDir(), "log.db")); err == nil {
		t.Error("what is not there was copied")
	}
}
