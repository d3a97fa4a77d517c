// Package issuertest makes whole issuers of software keys and software TPMs for tests and benchmarks: a log in a
// temporary directory, a genesis signed by two authorities, both policies, an enrolled host with a gate, an initiator.
// Every part can be spoilt on its own. Its clock moves only when a test moves it.
package issuertest

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/test/stock"
	"github.com/governed-execution/writ/tlog"
)

// The names in a World.
const (
	Issuer    = "https://issuer.example"
	Log       = "https://issuer.example/log"
	HostURI   = "spiffe://example/host/a"
	OtherURI  = "spiffe://example/host/b"
	Gate      = "https://gate.example/a"
	OtherGate = "https://gate.example/b"
	Robot     = "spiffe://example/initiator/robot"
	Alice     = "mailto:alice@example.org"
	Bob       = "mailto:bob@example.org"
	Carol     = "mailto:carol@example.org" // of the break-glass quorum alone
	AliceToo  = "second key of alice"      // in World.Keys
	Target    = "file:/usr/bin/reconcile"
)

// Code is the digest of the one program that the authorization policy allows.
var Code = sha256.Sum256([]byte("the program"))

// World is an issuer and all who deal with it.
type World struct {
	testing.TB
	Ctx     context.Context
	Tree    *tlog.Log
	Issuer  *issuer.Issuer
	Keys    map[string]*Key // by purpose, person or initiator
	Token   *Token          // the issuer's keys
	Act     record.Bundle   // genesis
	Vendor  *softtpm.Vendor
	Boot    *bootlog.Boot
	Host    *Host
	Path    string   // of the log
	Persons []string // who sign what Apply applies
	Rate    float64  // issuer.Options.Rate at the next Open
	Base    string   // issuer.Options.Base at the next Open

	clock    *atomic.Int64
	versions map[record.PolicyKind]uint64
	earlier  []statement.Key // log keys
}

// Key is a key in memory that can be made to fail, and to do something before it signs.
type Key struct {
	statement.Signer
	Dead   atomic.Bool
	Before atomic.Pointer[func()]
	Count  atomic.Int64 // signatures made
}

// Sign signs, unless the key is dead.
func (k *Key) Sign(ctx context.Context, tbs statement.ToBeSigned) ([]byte, error) {
	if f := k.Before.Swap(nil); f != nil {
		(*f)()
	}
	if k.Dead.Load() {
		return nil, denial.New(denial.HSMUnavailable, "the token is gone")
	}
	k.Count.Add(1)
	return k.Signer.Sign(ctx, tbs)
}

// Once has f called before the next signature.
func (k *Key) Once(f func()) { k.Before.Store(&f) }

// Must is stock.Must.
func Must[T any](v T, err error) func(testing.TB) T { return stock.Must(v, err) }

// NewKey returns a fresh P-256 key.
func NewKey(tb testing.TB) *Key {
	tb.Helper()
	return &Key{Signer: stock.Signer(tb)}
}

// Random is stock.Random.
func Random(n int) []byte { return stock.Random(n) }

// Bare makes an issuer with its genesis, and nothing enrolled or published.
func Bare(tb testing.TB) *World { tb.Helper(); return Founded(tb, func(*record.Genesis) {}) }

// Alone makes an issuer like Bare whose only authority is Alice.
func Alone(tb testing.TB) *World {
	tb.Helper()
	return Founded(tb, func(g *record.Genesis) {
		g.OnePerson, g.Authorities = true, g.Authorities[:1]
		delete(g.Quorums, record.RoleBreakGlass) // which takes three
		for _, role := range record.Roles() {
			g.Quorums[role] = record.Quorum{Threshold: 1, Persons: []string{Alice}}
		}
	})
}

// OneMayNarrow is for Founded: one person may publish a policy that only narrows.
func OneMayNarrow(g *record.Genesis) {
	q := g.Quorums[record.RolePolicy]
	q.Narrow = 1
	g.Quorums[record.RolePolicy] = q
}

// Founded makes an issuer like Bare with another genesis, which the persons that it names sign.
func Founded(tb testing.TB, edit func(*record.Genesis)) *World {
	tb.Helper()
	w := &World{TB: tb, Ctx: context.Background(), Keys: map[string]*Key{}, Vendor: softtpm.NewVendor(tb), Rate: 1e6, Base: Issuer,
		Boot: bootlog.New(bootlog.Options{}), Path: filepath.Join(tb.TempDir(), "log.db"), versions: map[record.PolicyKind]uint64{},
		clock: new(atomic.Int64)}
	w.clock.Store(softtpm.Now.UnixNano())
	for _, name := range append(record.Purposes(), Alice, AliceToo, Bob, Carol, Robot) {
		w.Keys[name] = NewKey(tb)
	}
	w.Token = &Token{keys: map[statement.Thumbprint]*Key{}}
	for _, p := range record.Purposes() {
		w.Token.Add(w.Keys[p])
	}
	w.openLog()
	w.bootstrap(edit)
	w.open()
	tb.Cleanup(func() { w.Tree.Close() })
	return w
}

// New makes an issuer that mints for one host and one initiator.
func New(tb testing.TB) *World {
	tb.Helper()
	w := Bare(tb)
	w.EnrolInitiator(Robot)
	w.Host = w.EnrolHost(HostURI, Gate)
	w.Publish(w.Appraisal())
	w.Publish(w.Authorization())
	return w
}

// For returns the same World for a subtest.
func (w *World) For(tb testing.TB) *World {
	c := *w
	c.TB = tb
	return &c
}

// Now is the time in the World.
func (w *World) Now() time.Time { return time.Unix(0, w.clock.Load()).UTC() }

// Seconds is Now in seconds since 1970 UTC.
func (w *World) Seconds() uint64 { return uint64(w.Now().Unix()) }

// Advance moves the clock.
func (w *World) Advance(d time.Duration) { w.clock.Add(int64(d)) }

func (w *World) openLog() {
	w.Helper()
	w.Tree = Must(tlog.Open(w.Ctx, tlog.Options{Path: w.Path, Signer: w.Keys[record.PurposeLog], Earlier: w.earlier, Issuer: Issuer, LogID: Log, Now: w.Now}))(w)
}

func (w *World) open() {
	w.Helper()
	w.Issuer = Must(issuer.Open(w.Ctx, w.Options()))(w)
}

// Options are what the issuer is opened with.
func (w *World) Options() issuer.Options {
	return issuer.Options{Log: w.Tree, Base: w.Base, Rate: w.Rate, Now: w.Now, Roots: []*x509.Certificate{w.Vendor.Root}, Token: w.Token}
}

// Reopen makes a new issuer over the same log.
func (w *World) Reopen() { w.Helper(); w.open() }

// Restart closes the log and opens it again under a new issuer.
func (w *World) Restart() {
	w.Helper()
	if err := w.Tree.Close(); err != nil {
		w.Fatal(err)
	}
	w.openLog()
	w.open()
}

func (w *World) bootstrap(edit func(*record.Genesis)) {
	w.Helper()
	root := sha256.Sum256(w.Vendor.Root.Raw)
	g := record.Genesis{Version: record.Version, Issuer: Issuer, Log: Log, Time: w.Seconds(), Epoch: Random(16),
		Authorities: []record.Authority{{Person: Alice, Key: w.Keys[Alice].Key()}, {Person: Bob, Key: w.Keys[Bob].Key()},
			{Person: Carol, Key: w.Keys[Carol].Key()}, {Person: Alice, Key: w.Keys[AliceToo].Key()}},
		Quorums: map[record.Role]record.Quorum{}, Keys: map[string]statement.Key{}, Roots: [][]byte{root[:]}}
	for _, r := range record.Roles() {
		g.Quorums[r] = record.Quorum{Threshold: 2, Persons: []string{Alice, Bob}}
	}
	g.Quorums[record.RoleBreakGlass] = record.Quorum{Threshold: 2, Persons: []string{Alice, Bob, Carol}}
	var births []record.Birth
	for _, p := range record.Purposes() {
		g.Keys[p] = w.Keys[p].Key()
		births = append(births, record.Birth{Purpose: p, Key: g.Keys[p], Attributes: map[string]string{"extractable": "false"}, Token: map[string]string{"model": "none"}})
	}
	edit(&g)
	w.Persons = g.Quorums[record.RoleRoot].Persons
	w.Act = w.Sign(statement.Genesis, g, w.Persons...)
	Must(issuer.Bootstrap(w.Ctx, w.Tree, w.Act, w.Keys[record.PurposeRecord], births, w.Now()))(w)
}
