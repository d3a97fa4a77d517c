package tlog

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/statement"
)

const (
	testIssuer = "https://issuer.example"
	testLog    = "https://issuer.example/log"
	testStart  = 1800000000
)

var errDead = errors.New("the token is gone")

// token is a log key that can be made to fail and to wait.
type token struct {
	statement.Signer
	dead   atomic.Bool
	signed atomic.Int64
	mu     sync.Mutex // held by a test to make signing wait
}

func (s *token) Sign(ctx context.Context, tbs statement.ToBeSigned) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dead.Load() {
		return nil, errDead
	}
	s.signed.Add(1)
	return s.Signer.Sign(ctx, tbs)
}

// clock is a clock that a test sets.
type clock struct{ seconds atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(c.seconds.Load(), 0) }

// site is a directory with one log, its key and its clock.
type site struct {
	t     testing.TB
	path  string
	token *token
	clock *clock
	log   *Log
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return priv
}

func newToken(t testing.TB, priv *ecdsa.PrivateKey) *token {
	t.Helper()
	s, err := statement.NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	return &token{Signer: s}
}

// newSite opens an empty log in a directory of its own.
func newSite(t testing.TB) *site {
	t.Helper()
	s := &site{t: t, path: filepath.Join(t.TempDir(), "log.db"), token: newToken(t, newKey(t)), clock: &clock{}}
	s.clock.seconds.Store(testStart)
	s.open()
	t.Cleanup(func() { s.log.Close() })
	return s
}

func (s *site) options() Options {
	return Options{Path: s.path, Signer: s.token, Issuer: testIssuer, LogID: testLog, Now: s.clock.now}
}

func (s *site) open() {
	s.t.Helper()
	log, err := Open(context.Background(), s.options())
	if err != nil {
		s.t.Fatal(err)
	}
	s.log = log
}

func (s *site) close() {
	s.t.Helper()
	if err := s.log.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// crashed returns a site whose files are a copy of what is on the disk now, as after a power cut.
func (s *site) crashed() *site {
	s.t.Helper()
	c := &site{t: s.t, path: filepath.Join(s.t.TempDir(), "log.db"), token: s.token, clock: s.clock}
	for _, suffix := range []string{"", "-wal", ".mark"} {
		data, err := os.ReadFile(s.path + suffix)
		if err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(c.path+suffix, data, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	return c
}

func (s *site) append(entries ...Entry) []Appended {
	s.t.Helper()
	done, err := s.log.Append(context.Background(), entries...)
	if err != nil {
		s.t.Fatal(err)
	}
	return done
}

func (s *site) appendN(n int) {
	s.t.Helper()
	for i := range n {
		s.append(leaf(fmt.Sprintf("plain %d", i)))
	}
}

func (s *site) refused(want denial.Reason, entries ...Entry) {
	s.t.Helper()
	_, err := s.log.Append(context.Background(), entries...)
	wantReason(s.t, err, want)
}

func leaf(text string) Entry { return Entry{Leaf: []byte(text)} }

func wantReason(t testing.TB, err error, want denial.Reason) {
	t.Helper()
	if !denial.Is(err, want) {
		t.Fatalf("got %v, want %s", err, want)
	}
}

func (s *site) keys() (keys statement.Keys) {
	s.t.Helper()
	if err := keys.Add(s.token.Key(), statement.Receipt); err != nil {
		s.t.Fatal(err)
	}
	return keys
}

// verify checks a receipt that was handed out for an entry.
func (s *site) verify(a Appended, entry []byte) {
	s.t.Helper()
	p, err := receipt.Verify(a.Receipt, entry, s.keys())
	if err != nil {
		s.t.Fatalf("receipt of entry %d: %v", a.Index, err)
	}
	if p.Index != a.Index || p.Time != a.Time || p.Log != testLog || p.Issuer != testIssuer {
		s.t.Fatalf("receipt of entry %d: got %+v", a.Index, *p)
	}
}

// check checks the whole log against an independent tree: every entry, path and receipt, the consistency of every head
// with the newest one, and all that Scrub finds.
func (s *site) check() {
	s.t.Helper()
	ctx, keys := context.Background(), s.keys()
	if err := s.log.Scrub(ctx); err != nil {
		s.t.Fatalf("scrub: %v", err)
	}
	head := s.log.Head()
	tree := testonly.New(rfc6962.DefaultHasher)
	verifier := receipt.NewVerifier(keys)
	var entries [][]byte
	if err := s.log.Leaves(ctx, 0, head.Size, func(_ uint64, leaf []byte) error {
		entries = append(entries, bytes.Clone(leaf))
		return nil
	}); err != nil {
		s.t.Fatal(err)
	}
	tree.AppendData(entries...)
	if got, want := head.Root[:], tree.Hash(); head.Size > 0 && !bytes.Equal(got, want) {
		s.t.Fatalf("root: got %x, want %x", got, want)
	}
	var last uint64
	for i, entry := range entries {
		p := s.checkEntry(verifier, uint64(i), entry, len(entries))
		if p != nil && p.Time < last {
			s.t.Fatalf("entry %d has an earlier time than the one before it", i)
		} else if p != nil {
			last = p.Time
		}
	}
	s.checkConsistency(tree, head)
}

// checkEntry checks one entry, which has a receipt unless it is alone.
func (s *site) checkEntry(v *receipt.Verifier, i uint64, entry []byte, n int) *receipt.Proof {
	s.t.Helper()
	ctx := context.Background()
	index, ok, err := s.log.Find(ctx, statement.DigestOf(entry))
	if err != nil || !ok || index > i {
		s.t.Fatalf("finding entry %d: %d, %v, %v", i, index, ok, err)
	}
	raw, err := s.log.Receipt(ctx, i)
	if n == 1 {
		if !errors.Is(err, ErrNotFound) {
			s.t.Fatalf("receipt of a sole entry: got %v, want ErrNotFound", err)
		}
		return nil
	}
	if err != nil {
		s.t.Fatalf("receipt of entry %d: %v", i, err)
	}
	p, err := v.Verify(raw, entry)
	if err != nil || p.Index != i {
		s.t.Fatalf("receipt of entry %d: %+v, %v", i, p, err)
	}
	return p
}

func (s *site) checkConsistency(tree *testonly.Tree, head SignedHead) {
	s.t.Helper()
	ctx, keys := context.Background(), s.keys()
	for size := uint64(1); size < head.Size; {
		h, err := s.log.HeadOver(ctx, size)
		if err != nil {
			s.t.Fatal(err)
		}
		if !bytes.Equal(h.Root[:], tree.HashAt(h.Size)) {
			s.t.Fatalf("head of %d entries: wrong root", h.Size)
		}
		size = h.Size + 1
		if h.Size == head.Size {
			break
		}
		raw, err := s.log.Consistency(ctx, h.Size, head.Size)
		if err != nil {
			s.t.Fatalf("consistency %d to %d: %v", h.Size, head.Size, err)
		}
		if got, err := receipt.VerifyConsistency(raw, h.Head, keys); err != nil || got.Head != head.Head {
			s.t.Fatalf("consistency %d to %d: %+v, %v", h.Size, head.Size, got, err)
		}
	}
}

func writeKey(t testing.TB, path string, priv *ecdsa.PrivateKey) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, der, 0o644); err != nil {
		t.Fatal(err)
	}
}
