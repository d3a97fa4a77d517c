package tlog

import (
	"slices"
	"sync"

	"github.com/governed-execution/writ/statement"
)

// keys are the log key and those before it.
type keys struct {
	mu      sync.Mutex
	signer  statement.Signer
	earlier []statement.Key
}

func (k *keys) current() statement.Signer {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.signer
}

// change puts another key in use. One that was in use before, and comes back, is not an earlier one any more.
func (k *keys) change(next statement.Signer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.earlier = slices.DeleteFunc(append(slices.Clone(k.earlier), k.signer.Key()), next.Key().Equal)
	k.signer = next
}

// Keys returns the log key, and then the earlier ones, under which older heads are signed.
func (l *Log) Keys() []statement.Key {
	l.keys.mu.Lock()
	defer l.keys.mu.Unlock()
	return append([]statement.Key{l.keys.signer.Key()}, l.keys.earlier...)
}
