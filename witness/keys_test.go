package witness

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// TestCheckpointsGoOnUnderTheNextLogKey: what is published follows the log key, a kept checkpoint of the earlier key is
// known again, and witnesses cosign both as one log.
func TestCheckpointsGoOnUnderTheNextLogKey(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.add(2, "before")
	w := newServer(t, "w")
	p := s.publisher(s.options(1, w))
	old := note(t, s.signer.Key())
	before, err := receipt.VerifyCheckpoint(p.Checkpoint(), []receipt.NoteKey{old}, nil)
	if err != nil {
		t.Fatal(err)
	}
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	next, err := statement.NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.log.Append(t.Context(), tlog.Entry{Leaf: []byte("change"), Signer: next}); err != nil {
		t.Fatal(err)
	}
	again := s.publisher(s.options(1, w)) // finds the checkpoint of the earlier key
	for _, p := range []*Publisher{p, again} {
		if err := p.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		now, err := receipt.VerifyCheckpoint(p.Checkpoint(), []receipt.NoteKey{note(t, next.Key())}, p.demand)
		if err != nil {
			t.Fatal(err)
		}
		path, err := s.log.ConsistencyPath(t.Context(), before.Size, now.Size)
		if err != nil {
			t.Fatal(err)
		}
		if err := now.Follows(before, path); err != nil || now.Size != 3 {
			t.Errorf("size %d, %v", now.Size, err)
		}
		if _, err := receipt.VerifyCheckpoint(p.Checkpoint(), []receipt.NoteKey{old}, nil); !denial.Is(err, denial.KeyUnknown) {
			t.Errorf("under the earlier key: got %v, want 305", err)
		}
	}
}

func note(t *testing.T, k statement.Key) receipt.NoteKey {
	t.Helper()
	key, err := receipt.LogNoteKey(testOrigin, k)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
