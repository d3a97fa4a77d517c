package issuer

import (
	"sync"
	"time"
)

// maxRates is how many callers are remembered. When more come, all start anew with a full allowance.
const maxRates = 1 << 14

// rates admits so many requests a second of each caller, and as many at once.
type rates struct {
	mu   sync.Mutex
	rate float64
	left map[string]allowance
}

type allowance struct {
	tokens float64
	at     time.Time
}

// admit takes one request off the caller's allowance. It reports whether there was one.
func (r *rates) admit(caller string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	full := max(r.rate, 1)
	a, ok := r.left[caller]
	if !ok {
		if len(r.left) >= maxRates || r.left == nil {
			r.left = map[string]allowance{}
		}
		a = allowance{full, now}
	}
	if passed := now.Sub(a.at); passed > 0 {
		a = allowance{min(full, a.tokens+passed.Seconds()*r.rate), now}
	}
	admitted := a.tokens >= 1
	if admitted {
		a.tokens--
	}
	r.left[caller] = a
	return admitted
}
