package tlog

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
)

// TestLookupsOfABatchSearch holds that what a batch looks up is searched for in its table, never read through.
func TestLookupsOfABatchSearch(t *testing.T) {
	t.Parallel()
	db, err := openEngine(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.close()
	for query, args := range map[string][]any{
		fmt.Sprintf(findCounters, tuples(3, 1)): {"a", "b", "c"},
		fmt.Sprintf(findSpent, tuples(2, 2)):    {"a", []byte("1"), "b", []byte("2")},
	} {
		searched := false
		if err := db.eachRow("EXPLAIN QUERY PLAN "+query, args, func(scan func(...any) error) error {
			var id, parent, unused int
			var step string
			err := scan(&id, &parent, &unused, &step)
			if strings.HasPrefix(step, "SCAN counters") || strings.HasPrefix(step, "SCAN spent") {
				t.Errorf("%s: %s", query, step)
			}
			searched = searched || strings.Contains(step, "USING PRIMARY KEY")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		if !searched {
			t.Errorf("%s: no search by primary key", query)
		}
	}
}

// staging is a staged over an empty log.
func staging(t *testing.T, requests ...*request) *staged {
	t.Helper()
	db, err := openEngine(filepath.Join(t.TempDir(), "log.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.close() })
	s, err := findStaged(db, requests, 0)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRefusedRequestChangesNothing admits requests of one batch: what a refused one would have consumed and raised stays
// free, and what an admitted one did holds for those after it.
func TestRefusedRequestChangesNothing(t *testing.T) {
	t.Parallel()
	once := func(key string) []Once { return []Once{{"set", []byte(key), denial.RequestReplayed}} }
	refused := &request{entries: []Entry{
		{Once: once("a"), Bumps: []string{"n"}},
		{Once: once("b"), Bumps: []string{"n"}, Guards: []Guard{{Counter: "n", Value: 1}}},
		{Guards: []Guard{{Counter: "n", Value: 1}}}, // it is 2
	}}
	twice := &request{entries: []Entry{{Once: append(once("c"), once("c")...)}}}
	good := &request{entries: []Entry{{Once: append(once("a"), append(once("b"), once("c")...)...), Bumps: []string{"n"}, Guards: []Guard{{Counter: "n"}}}}}
	again := &request{entries: []Entry{{Once: once("b")}}}
	stale := &request{entries: []Entry{{Guards: []Guard{{Counter: "n", Reason: denial.StateRollback}}}}}
	s := staging(t, refused, twice, good, again, stale)
	if err := s.admit(refused); !errors.Is(err, ErrStale) {
		t.Errorf("refused: got %v, want ErrStale", err)
	}
	if err := s.admit(twice); !denial.Is(err, denial.RequestReplayed) {
		t.Errorf("one key twice in an entry: got %v, want RequestReplayed", err)
	}
	if err := s.admit(good); err != nil {
		t.Errorf("good: got %v", err)
	}
	if err := s.admit(again); !denial.Is(err, denial.RequestReplayed) {
		t.Errorf("again: got %v, want RequestReplayed", err)
	}
	if err := s.admit(stale); !denial.Is(err, denial.StateRollback) {
		t.Errorf("stale: got %v, want StateRollback", err)
	}
}
