// Package issuer is the verifier and authorization authority: it enrols hosts, takes the acts of authorities, answers
// requests with an artifact or a denial, and appends what gates report. Nothing leaves it before the log has it.
package issuer

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// Options are what an issuer needs to start.
type Options struct {
	Log   *tlog.Log
	Token Token
	Roots []*x509.Certificate // certificates of TPM vendors' roots: only those that genesis names by digest are used
	Base  string              // URL under which status lists are served, without a trailing slash
	Rate  float64             // requests a second of one AK (A12), and as many at once; default 100
	Now   func() time.Time    // default time.Now
}

// Issuer decides and signs. It is safe for concurrent use.
type Issuer struct {
	log       *tlog.Log
	keys      keys
	genesis   *record.Genesis
	roots     []*x509.Certificate
	base      string
	now       func() time.Time
	epoch     []byte // of this process, in its records
	since     Epoch  // of the log
	seq       atomic.Uint64
	rates     rates
	strangers strangers
	indices   indices
	lists     lists
	policies  policies
	known     *attest.Memory
	acting    sync.Mutex // held while an act is decided and appended: the versions of acts that come at once are compared in turn
	minted    atomic.Uint64
	denied    sync.Map // code -> *atomic.Uint64
}

// memorySize bounds what is remembered of evidence that verified: some 300 hosts with boot logs of 25 KiB.
const memorySize = 32 << 20

// Bootstrap starts an empty log: the statements of the genesis act from leaf 0 on, then one birth record for each key.
// The act must be signed by its own root quorum, and the log must be empty (402).
func Bootstrap(ctx context.Context, log *tlog.Log, act record.Bundle, recorder statement.Signer, births []record.Birth, now time.Time) (*record.Genesis, error) {
	g, genesis, err := record.VerifyGenesis(act, statement.Digest{})
	if err != nil {
		return nil, err
	}
	if log.Head().Size != 0 {
		return nil, denial.New(denial.PolicyRollback, "the log has its genesis already").
			Try("Serve the log as it is. Another issuer has a log, a token and a genesis of its own.")
	}
	bundle, err := act.Encode()
	if err != nil {
		return nil, err
	}
	entries := []tlog.Entry{}
	for _, leaf := range genesis.Leaves() {
		entries = append(entries, tlog.Entry{Leaf: leaf})
	}
	entries[0].Puts = []tlog.Put{{Bucket: bucketGenesis, Key: []byte("act"), Value: bundle}}
	epoch := random(16)
	for n := range births {
		r := record.Record{Version: record.Version, Event: record.EventKey, Time: uint64(now.Unix()), Birth: &births[n],
			Emitter: record.Emitter{URI: g.Issuer, Epoch: epoch, Seq: uint64(n)}}
		leaf, err := r.Sign(ctx, recorder, g.Issuer)
		if err != nil {
			return nil, err
		}
		entries = append(entries, tlog.Entry{Leaf: leaf})
	}
	if entries, err = indexed(entries); err != nil {
		return nil, err
	}
	_, err = log.Append(ctx, entries...)
	return g, err
}

// ReadGenesis returns the genesis of a log that has been bootstrapped, and its act.
func ReadGenesis(ctx context.Context, log reader) (*record.Genesis, record.Bundle, error) {
	raw, found, err := log.Value(ctx, bucketGenesis, []byte("act"))
	if err != nil {
		return nil, nil, err
	}
	if !found {
		return nil, nil, denial.New(denial.StoreFault, "the log has no genesis; run writd init")
	}
	b, err := record.DecodeBundle(raw)
	if err != nil {
		return nil, nil, err
	}
	g, _, err := record.VerifyGenesis(b, statement.Digest{})
	return g, b, err
}

// Open starts an issuer over a bootstrapped log. It refuses a token that lacks a key that is in use, and a log that signs
// with another key than the one in use (904).
func Open(ctx context.Context, o Options) (*Issuer, error) {
	g, _, err := ReadGenesis(ctx, o.Log)
	if err != nil {
		return nil, err
	}
	i := &Issuer{log: o.Log, keys: keys{token: o.Token},
		genesis: g, roots: o.Roots, base: o.Base, now: o.Now, epoch: random(16),
		known: attest.NewMemory(memorySize)}
	if i.now == nil {
		i.now = time.Now
	}
	if i.rates.rate = o.Rate; o.Rate <= 0 {
		i.rates.rate = 100
	}
	i.strangers.since = uint64(i.now().Unix())
	if err := i.openKeys(ctx); err != nil {
		return nil, err
	}
	if i.since, err = readEpoch(ctx, i.log); err != nil {
		return nil, err
	}
	if err := errors.Join(i.policies.refresh(ctx, i.log), i.indices.load(ctx, i.log)); err != nil {
		return nil, err
	}
	return i, nil
}

// random returns n bytes of the system's random source, which never fails.
func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b)
	return b
}

// newRecord returns a record by this issuer, now.
func (i *Issuer) newRecord() *record.Record {
	r := &record.Record{}
	i.stamp(r)
	return r
}

func (i *Issuer) stamp(r *record.Record) {
	r.Version, r.Time = record.Version, uint64(i.now().Unix())
	r.Emitter = record.Emitter{URI: i.genesis.Issuer, Epoch: i.epoch, Seq: i.seq.Add(1) - 1}
}

// Refusal is a denial as it leaves the issuer. Known says whether the caller's AK or initiator key verified: only then
// may it see more than the condition. Logged says whether the log holds the denial, as Statement with its receipt.
type Refusal struct {
	Denial    *denial.Denial
	Known     bool
	Logged    bool
	Index     uint64
	Statement []byte
	RequestID []byte
}

// Error returns the denial's text.
func (r *Refusal) Error() string { return r.Denial.Error() }

// Unwrap returns the denial.
func (r *Refusal) Unwrap() error { return r.Denial }

// refuseStranger counts the refusal of a caller of whom nothing has verified.
func (i *Issuer) refuseStranger(err error) error { return i.refuseCounted(denial.Of(err), false) }

// refuseCounted refuses without a record of its own: summaries tell how often.
func (i *Issuer) refuseCounted(d *denial.Denial, known bool) error {
	i.strangers.add(d.Reason)
	i.count(d.Reason)
	return &Refusal{Denial: d, Known: known}
}

// CountStranger counts a refusal that the transport made before anything reached the issuer.
func (i *Issuer) CountStranger(d *denial.Denial) { _ = i.refuseStranger(d) }

// settled returns a context for what must come to an end once it has begun: a caller who hangs up neither keeps its
// denial out of the log nor leaves it open whether its artifact is in.
func settled(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
}

// refuse logs the denial of a known caller, with what is already in about, and what beside holds beside the leaf; it
// may be nil. If the log cannot take it, the caller is told so instead (see unlogged), and it is counted for the summary. That
// too much is asked for (907) is only counted: a record of it would be one signature more of a token that is behind already.
func (i *Issuer) refuse(ctx context.Context, about *record.Record, d *denial.Denial, states map[uint64]uint8, beside func(context.Context) (tlog.Entry, error)) error {
	if d.Reason == denial.Overloaded {
		i.strangers.add(d.Reason)
		i.count(d.Reason)
		return &Refusal{Denial: d, Known: true, RequestID: about.RequestID}
	}
	ctx, cancel := settled(ctx)
	defer cancel()
	i.count(d.Reason)
	about.FillDenial(d, states)
	i.stamp(about)
	ref := &Refusal{Denial: d, Known: true, RequestID: about.RequestID}
	var err error
	ref.Index, ref.Statement, err = i.appendDenial(ctx, about, beside)
	if ref.Logged = err == nil; !ref.Logged {
		ref.Denial = unlogged(err)
		i.strangers.add(d.Reason)
	}
	return ref
}

func (i *Issuer) appendDenial(ctx context.Context, about *record.Record, beside func(context.Context) (tlog.Entry, error)) (uint64, []byte, error) {
	var entry tlog.Entry
	var done []tlog.Appended
	err := untilFresh(func() (err error) {
		entry = tlog.Entry{}
		if beside != nil {
			if entry, err = beside(ctx); err != nil {
				return err
			}
		}
		if err = i.signRecord(ctx, &entry, about, i.genesis.Issuer); err != nil {
			return err
		}
		done, err = i.append(ctx, entry)
		return err
	})
	if err != nil {
		return 0, nil, err
	}
	raw, err := statement.Attach(entry.Leaf, done[0].Receipt)
	return done[0].Index, raw, err
}

// MaxTries is how often something is decided anew because the state that it was decided on changed meanwhile.
const MaxTries = 4

// untilFresh runs f, which decides and appends, again while what it decided on is stale: MaxTries times, then 907.
func untilFresh(f func() error) error {
	for range MaxTries {
		if err := f(); !errors.Is(err, tlog.ErrStale) {
			return err
		}
	}
	return denial.New(denial.Overloaded, "the state changed faster than this could be decided")
}

// unlogged is what a caller hears when its answer could not be logged: why, as far as that is the log's or the token's
// own word (903, 905, 907), else 902.
func unlogged(err error) *denial.Denial {
	if d := denial.Of(err); d.Reason == denial.HSMUnavailable || d.Reason == denial.Overloaded || d.Reason == denial.ClockUntrusted {
		return d
	}
	return denial.New(denial.AuditUnavailable, "the decision could not be logged, so nothing is answered")
}

// Summarise logs how many refusals were counted since the last summary, by code, if there were any. It is called on a
// timer, and before the process ends; a process that is killed takes the counts since its last summary with it.
func (i *Issuer) Summarise(ctx context.Context) error {
	r := i.newRecord()
	since, counts := i.strangers.take(r.Time)
	if counts == nil {
		return nil
	}
	r.Event, r.Counts, r.Since = record.EventSummary, counts, since
	var entry tlog.Entry
	err := untilFresh(func() error {
		entry = tlog.Entry{}
		if err := i.signRecord(ctx, &entry, r, i.genesis.Issuer); err != nil {
			return err
		}
		_, err := i.append(ctx, entry)
		return err
	})
	if err == nil {
		return nil
	}
	if entry.Leaf != nil {
		if _, found, _ := i.log.Find(context.WithoutCancel(ctx), statement.DigestOf(entry.Leaf)); found {
			return err // committed without a signed head: it is in the log, and must not be counted twice
		}
	}
	i.strangers.restore(since, counts)
	return err
}

// Genesis returns the genesis.
func (i *Issuer) Genesis() *record.Genesis { return i.genesis }

// Log returns the log, to read.
func (i *Issuer) Log() *tlog.Log { return i.log }

func (i *Issuer) count(r denial.Reason) {
	n, _ := i.denied.LoadOrStore(r.Code(), new(atomic.Uint64))
	n.(*atomic.Uint64).Add(1)
}

// Counts returns the number of artifacts minted and of denials by code since the start: the numbers behind /metrics.
func (i *Issuer) Counts() (minted uint64, denied map[int]uint64) {
	denied = map[int]uint64{}
	i.denied.Range(func(code, n any) bool {
		denied[code.(int)] = n.(*atomic.Uint64).Load()
		return true
	})
	return i.minted.Load(), denied
}
