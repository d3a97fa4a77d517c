package issuer

import (
	"sync"

	"github.com/governed-execution/writ/denial"
)

// strangers counts, exactly and by code, the refusals of callers of whom nothing has verified. The counts leave in
// signed summaries, so that a flood costs the log one record a period (T22).
type strangers struct {
	mu     sync.Mutex
	since  uint64
	counts map[uint64]uint64
}

func (s *strangers) add(r denial.Reason) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = map[uint64]uint64{}
	}
	s.counts[uint64(r.Code())]++
}

// take empties the counts and starts a new period at now. It returns nil counts if there was nothing.
func (s *strangers) take(now uint64) (since uint64, counts map[uint64]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	since, counts = s.since, s.counts
	s.since, s.counts = now, nil
	return since, counts
}

// restore adds counts back that could not be logged, so that they stand in a later summary.
func (s *strangers) restore(since uint64, counts map[uint64]uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts == nil {
		s.counts = map[uint64]uint64{}
	}
	s.since = since
	for code, n := range counts {
		s.counts[code] += n
	}
}
