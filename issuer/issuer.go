// Package issuer is the verifier and authorization authority: it enrols hosts, takes the acts of authorities, answers
// requests with an artifact or a denial, and appends what gates report. Nothing leaves it before the log has it.
package issuer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// Signers are the issuer's keys on the token, one for each purpose but the log's, which belongs to the log itself.
type Signers struct {
	Artifact statement.Signer
	Record   statement.Signer
	Status   statement.Signer
}

// Options are what an issuer needs to start.
type Options struct {
	Log     *tlog.Log
	Signers Signers
	Roots   []*x509.Certificate // only those whose fingerprint stands in genesis are used
	Base    string              // URL under which status lists are served, without a trailing slash
	Now     func() time.Time    // default time.Now
}

// Issuer decides and signs. It is safe for concurrent use.
type Issuer struct {
	log         *tlog.Log
	artifact    statement.Signer
	record      statement.Signer
	status      statement.Signer
	genesis     *record.Genesis
	authorities *record.Authorities
	roots       []*x509.Certificate
	base        string
	now         func() time.Time
	epoch       []byte
	seq         atomic.Uint64
	strangers   strangers
	indices     indices
	lists       lists
	policies    policies
	minted      atomic.Uint64
	denied      sync.Map // code -> *atomic.Uint64
}

// Bootstrap starts an empty log: the statements of the genesis act from leaf 0 on, then one birth record for each key.
// The act must be signed by its own root quorum, and the log must be empty (402).
func Bootstrap(ctx context.Context, log *tlog.Log, act record.Bundle, recorder statement.Signer, births []record.Birth, now time.Time) (*record.Genesis, error) {
	g, genesis, err := record.VerifyGenesis(act, statement.Digest{})
	if err != nil {
		return nil, err
	}
	if log.Head().Size != 0 {
		return nil, denial.New(denial.PolicyRollback, "the log has its genesis already")
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
	epoch := make([]byte, 16)
	if _, err := rand.Read(epoch); err != nil {
		return nil, fmt.Errorf("making epoch: %w", err)
	}
	for n := range births {
		r := record.Record{Version: record.Version, Event: record.EventKey, Time: uint64(now.Unix()), Birth: &births[n],
			Emitter: record.Emitter{URI: g.Issuer, Epoch: epoch, Seq: uint64(n)}}
		leaf, err := r.Sign(ctx, recorder, g.Issuer)
		if err != nil {
			return nil, err
		}
		entries = append(entries, tlog.Entry{Leaf: leaf})
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

// Open starts an issuer over a bootstrapped log. It refuses signers that genesis does not name (904).
func Open(ctx context.Context, o Options) (*Issuer, error) {
	g, _, err := ReadGenesis(ctx, o.Log)
	if err != nil {
		return nil, err
	}
	for purpose, s := range map[string]statement.Signer{record.PurposeArtifact: o.Signers.Artifact,
		record.PurposeRecord: o.Signers.Record, record.PurposeStatus: o.Signers.Status} {
		if s == nil || !s.Key().Equal(g.Keys[purpose]) {
			return nil, denial.New(denial.HSMKeyPolicy, "the %s key is not the one that genesis names", purpose)
		}
	}
	as, err := record.NewAuthorities(g)
	if err != nil {
		return nil, err
	}
	i := &Issuer{log: o.Log, artifact: o.Signers.Artifact, record: o.Signers.Record, status: o.Signers.Status,
		genesis: g, authorities: as, roots: pinned(o.Roots, g.Roots), base: o.Base, now: o.Now, epoch: make([]byte, 16)}
	if i.now == nil {
		i.now = time.Now
	}
	if _, err := rand.Read(i.epoch); err != nil {
		return nil, fmt.Errorf("making epoch: %w", err)
	}
	i.strangers.take(uint64(i.now().Unix()))
	return i, errors.Join(i.reload(ctx, statement.Policy), i.loadPermits(ctx))
}

// pinned keeps the roots whose fingerprint authorities have signed (K11).
func pinned(roots []*x509.Certificate, fingerprints [][]byte) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(roots), func(c *x509.Certificate) bool {
		sum := sha256.Sum256(c.Raw)
		return !slices.ContainsFunc(fingerprints, func(f []byte) bool { return string(f) == string(sum[:]) })
	})
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
func (i *Issuer) refuseStranger(d *denial.Denial) error {
	i.strangers.add(d.Reason)
	i.count(d.Reason)
	return &Refusal{Denial: d}
}

// CountStranger counts a refusal that the transport made before anything reached the issuer.
func (i *Issuer) CountStranger(d *denial.Denial) { _ = i.refuseStranger(d) }

// refuse logs the denial of a known caller, with what is already in about, and what extra holds beside the leaf. If
// the log cannot take it, the caller is told so with 902 or 903 instead, and it is counted for the summary.
func (i *Issuer) refuse(ctx context.Context, about *record.Record, d *denial.Denial, states map[uint64]uint8, extra tlog.Entry) error {
	i.count(d.Reason)
	ctx = context.WithoutCancel(ctx) // a caller who hangs up does not keep its denial out of the log
	about.FillDenial(d, states)
	i.stamp(about)
	ref := &Refusal{Denial: d, Known: true, RequestID: about.RequestID}
	leaf, err := about.Sign(ctx, i.record, i.genesis.Issuer)
	if err == nil {
		extra.Leaf = leaf
		var done []tlog.Appended
		if done, err = i.log.Append(ctx, extra); err == nil {
			ref.Index, ref.Logged = done[0].Index, true
			ref.Statement, err = statement.Attach(leaf, done[0].Receipt)
		}
	}
	if err != nil {
		ref.Denial = unlogged(err)
		ref.Logged, ref.Statement = false, nil
		i.strangers.add(d.Reason)
	}
	return ref
}

// unlogged is what a caller hears when its answer could not be logged.
func unlogged(err error) *denial.Denial {
	if d := denial.Of(err); d.Reason == denial.HSMUnavailable || d.Reason == denial.Overloaded || d.Reason == denial.ClockUntrusted {
		return d
	}
	return denial.New(denial.AuditUnavailable, "the decision could not be logged, so nothing is answered")
}

// Summarise logs how many strangers were refused since the last summary, by code, if there were any. It is called on a
// timer, and before the process ends.
func (i *Issuer) Summarise(ctx context.Context) error {
	r := i.newRecord()
	since, counts := i.strangers.take(r.Time)
	if counts == nil {
		return nil
	}
	r.Event, r.Counts, r.Since = record.EventSummary, counts, max(since, 1)
	leaf, err := r.Sign(ctx, i.record, i.genesis.Issuer)
	if err == nil {
		_, err = i.log.Append(ctx, tlog.Entry{Leaf: leaf})
	}
	if err != nil {
		i.strangers.restore(since, counts)
	}
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
