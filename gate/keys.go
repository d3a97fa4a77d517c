package gate

import (
	"context"
	"os"
	"sync"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
)

// keys is what the gate knows of the issuer's keys beside its trust file.
type keys struct {
	mu      sync.Mutex
	history string // that trust has followed; empty: none
	trust   *artifact.Trust
}

// trust returns the trust file with the issuer's keys as far as they were followed, by this process or another on the same
// state. A history that was followed and does not verify any more, or that ends before the one that was followed, is 508: the
// state was changed.
func (g *Gate) trust() (*artifact.Trust, error) {
	raw, err := os.ReadFile(g.state.path(keysFile))
	if err != nil {
		return nil, denial.New(denial.StateRollback, "the gate's history of the issuer's keys cannot be read")
	}
	g.keys.mu.Lock()
	defer g.keys.mu.Unlock()
	if g.keys.trust == nil {
		g.keys.trust = g.o.Trust
	}
	if string(raw) == g.keys.history {
		return g.keys.trust, nil
	}
	followed, err := g.keys.trust.Follow(raw)
	if err != nil {
		return nil, denial.New(denial.StateRollback, "the gate's history of the issuer's keys is not the one that it has followed")
	}
	g.keys.history, g.keys.trust = string(raw), followed
	return followed, nil
}

// learn asks the issuer what has become of its keys, and remembers it: no older state is accepted again (508), and no other
// one (325). An issuer that cannot be reached, or whose answer does not follow from the pinned genesis, teaches nothing: the status list says
// then whether anything is missing.
func (g *Gate) learn(ctx context.Context) (*artifact.Trust, error) {
	raw, err := g.o.Issuer.Keys(ctx)
	if err != nil {
		return g.trust()
	}
	return g.follow(raw)
}

// follow is learn with the issuer's answer.
func (g *Gate) follow(raw []byte) (*artifact.Trust, error) {
	known, err := g.trust()
	if err != nil {
		return nil, err
	}
	followed, err := known.Follow(raw)
	switch {
	case denial.Is(err, denial.StateRollback), denial.Is(err, denial.LogInconsistent):
		return nil, err
	case err != nil:
		return known, nil
	}
	if old := known.KeyRing(); old != nil && old.Sequence() == followed.KeyRing().Sequence() {
		return known, nil
	}
	if err := g.state.replace(keysFile, raw); err != nil {
		return nil, err
	}
	return g.trust()
}

// dependsOnKeys reports whether a refusal may come of a key that has changed since the keys were followed last.
func dependsOnKeys(err error) bool {
	if err == nil {
		return false
	}
	switch denial.Of(err).Reason {
	case denial.KeyUnknown, denial.ReceiptInvalid, denial.KeyOutsideValidity, denial.KeyRevoked:
		return true
	}
	return false
}
