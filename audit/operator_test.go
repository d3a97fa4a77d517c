package audit_test

import (
	"bytes"
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/issuertest"
	"github.com/governed-execution/writ/tlog"
)

// operator has root on the issuer, a copy of its database and, unless said otherwise, every key of the issuer's token. He
// writes the whole log anew, so that it fits in itself, and hands out bundles of it. What left the issuer before he cannot
// call back: those who hold it find him out, offline. Genesis is entries 0 and 1; he has no authority's key.
type operator struct {
	*stage
	leaves [][]byte
	times  []uint64         // logged
	first  statement.Signer // signs the tree heads up to the change of the log key
	log    statement.Signer // signs those after it
	tree   *tlog.Log        // the log written anew
	now    time.Time
	honest files // a bundle of before
}

// steal copies the log, each entry with its logged time.
func (s *stage) steal(first statement.Signer) *operator {
	s.Helper()
	o := &operator{stage: s, first: first, log: s.Keys[record.PurposeLog]}
	trust := s.trust()
	trust.PinKeys(s.Ring()) // with the log key of before, which a file of today's keys alone leaves out
	err := s.Tree.Leaves(s.Ctx, 0, s.Tree.Head().Size, func(n uint64, leaf []byte) error {
		proof := must(receipt.NewVerifier(must(trust.StatementKeys())(s)).Verify(s.receiptOf(n), leaf))(s)
		o.leaves, o.times = append(o.leaves, bytes.Clone(leaf)), append(o.times, proof.Time)
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	return o
}

func (s *stage) receiptOf(n uint64) []byte {
	s.Helper()
	return must(s.Tree.Receipt(s.Ctx, n))(s)
}

// given is an entry with its receipt, as whoever asked for it got it.
func (s *stage) given(n uint64) []byte {
	s.Helper()
	var out []byte
	err := s.Tree.Leaves(s.Ctx, n, n+1, func(_ uint64, leaf []byte) error {
		out = must(statement.Attach(leaf, s.receiptOf(n)))(s)
		return nil
	})
	if err != nil {
		s.Fatal(err)
	}
	return out
}

// rewrite writes the log anew and returns a bundle of all of it.
func (o *operator) rewrite() []byte {
	o.Helper()
	o.tree = must(tlog.Open(o.Ctx, tlog.Options{Path: filepath.Join(o.TempDir(), "log.db"), Signer: o.first, Issuer: issuerURI, LogID: issuertest.Log,
		Now: func() time.Time { return o.now }}))(o)
	defer o.tree.Close()
	for from, to := 0, 0; from < len(o.leaves); from = to { // entries of one second were logged together
		var batch []tlog.Entry
		for to = from; to < len(o.leaves) && o.times[to] == o.times[from]; to++ {
			e := tlog.Entry{Leaf: o.leaves[to]}
			if must(statement.Decode(e.Leaf, statement.MaxStatement))(o).Kind() == statement.KeyChange {
				e.Signer = o.log
			}
			batch = append(batch, e)
		}
		o.now = time.Unix(int64(o.times[from]), 0)
		must(o.tree.Append(o.Ctx, batch...))(o)
	}
	o.now = o.now.Add(time.Second)
	b := must(audit.Build(o.Ctx, &stolen{Log: o.tree, o: o}, desk{o.Issuer, o}, audit.Query{}))(o)
	defer b.Close()
	var out bytes.Buffer
	if err := b.Write(o.Ctx, &out); err != nil {
		o.Fatal(err)
	}
	if !o.strange() {
		return out.Bytes()
	}
	f := unpack(o, out.Bytes())
	for _, name := range []string{"keys/scitt-keys.cbor", "keys/history.cbor", "tlog-policy"} {
		f[name] = o.honest[name]
	}
	return o.resealBy(desk{o.Issuer, o}.SealManifest, f, nil)
}

// strange reports whether the operator signs tree heads with a key of his own.
func (o *operator) strange() bool { return o.Ring().Find(o.log.Key().Thumbprint()) == nil }

// genesis names the operator's log key.
func (o *operator) genesis() record.Bundle {
	o.Helper()
	var g record.Genesis
	if err := statement.Unmarshal(must(statement.Decode(o.Act[0], statement.MaxStatement))(o).Payload(), &g); err != nil {
		o.Fatal(err)
	}
	g.Keys[record.PurposeLog] = o.log.Key()
	return o.Sign(statement.Genesis, g, alice, bob)
}

// stolen is the log written anew, with the payloads that were kept beside the honest one. To the program that builds the
// bundle it shows a genesis that names the operator's log key, if he has changed that.
type stolen struct {
	*tlog.Log
	o     *operator
	shown bool
}

func (s *stolen) Blob(ctx context.Context, d statement.Digest) ([]byte, bool, error) {
	return s.o.Tree.Blob(ctx, d)
}

func (s *stolen) Leaves(ctx context.Context, from, to uint64, fn func(uint64, []byte) error) error {
	if s.shown || !s.o.strange() {
		return s.Log.Leaves(ctx, from, to, fn)
	}
	s.shown = true
	return fn(0, s.o.genesis()[0])
}

// desk is the operator's office: he seals what he likes.
type desk struct {
	*issuer.Issuer
	o *operator
}

// Context returns every entry: a bundle of the whole log has it all.
func (d desk) Context(context.Context) (all []uint64, _ error) {
	for n := range d.o.leaves {
		all = append(all, uint64(n))
	}
	return all, nil
}

// KeyHistory is that of the honest log, or one that fits the genesis that is shown.
func (d desk) KeyHistory(ctx context.Context) ([]byte, error) {
	if !d.o.strange() {
		return d.Issuer.KeyHistory(ctx)
	}
	return artifact.KeyHistory{Genesis: d.o.genesis(), Changes: [][][]byte{}}.Encode()
}

func (d desk) SealManifest(ctx context.Context, subject string, hash []byte) ([]byte, error) {
	leaf, err := statement.Sign(ctx, d.o.Keys[record.PurposeRecord], statement.Manifest,
		statement.Claims{Issuer: issuerURI, Subject: subject, IssuedAt: uint64(d.o.now.Unix())}, hash)
	if err != nil {
		return nil, err
	}
	done, err := d.o.tree.Append(ctx, tlog.Entry{Leaf: leaf})
	if err != nil {
		return nil, err
	}
	return statement.Attach(leaf, done[0].Receipt)
}

// TestOperatorTries lets the operator change the past in each way that there is. Column alone: what an auditor finds who has
// the bundle and his trust file only; zero where such a bundle is proved, since nothing in it contradicts it. Column held:
// what he finds who was given one of the statements, or the checkpoint, of before.
func TestOperatorTries(t *testing.T) {
	world := newStage(t)
	before := world.trust() // the auditor has it since then
	world.tick()
	retired := world.Rotate(record.PurposeLog)
	world.tick()
	honest := unpack(t, world.export(audit.Query{}))
	mine, _ := world.permit()
	world.run(mine, 1)
	world.refuse(denial.LifetimeTooLong, asking{edit: func(r *artifact.RequestClaims) { r.Lifetime = 3000 }})
	refused := world.Tree.Head().Size - 1
	yours, _ := world.permit()
	_, kept, err := world.Tree.Checkpoint(world.Ctx)
	if err != nil {
		t.Fatal(err)
	}
	held := map[string][]byte{"the artifact": yours.Artifact, "the checkpoint": kept, "the refusal": world.given(refused)}
	for name, c := range map[string]struct {
		change func(*operator)
		alone  denial.Reason
		held   denial.Reason // to who holds any of what was given out
		but    string        // what does not find him out: a checkpoint tells no time, but witnesses do when they sign it
	}{
		"nothing": {change: func(*operator) {}},
		"drop": {change: func(o *operator) {
			o.remove(refused)
			o.fill(1) // so that the log is no shorter
		}, held: denial.LogInconsistent},
		"drop what others build on": {change: func(o *operator) { o.remove(mine.Index) }, alone: denial.KeyUnknown},
		"edit": {change: func(o *operator) {
			r := o.lastRecord(record.EventDenial)
			r.Initiator = mallory
			o.leaves[refused] = must(r.Sign(o.Ctx, o.Keys[record.PurposeRecord], hostURI))(o)
		}, alone: denial.LogInconsistent, held: denial.LogInconsistent},
		"edit, with no key": {change: func(o *operator) { o.leaves[refused][len(o.leaves[refused])-1] ^= 1 }, alone: denial.SignatureInvalid},
		"reorder": {change: func(o *operator) {
			o.leaves[refused], o.leaves[refused+1] = o.leaves[refused+1], o.leaves[refused]
		}, held: denial.LogInconsistent},
		"back-date": {change: func(o *operator) {
			o.times[refused], o.times[refused+1] = o.times[refused-1], o.times[refused-1]
		}, held: denial.LogInconsistent, but: "the checkpoint"},
		"back-date by an hour": {change: func(o *operator) { o.shift(-3600) }, alone: denial.KeyOutsideValidity, held: denial.KeyOutsideValidity},
		"fork": {change: func(o *operator) {
			o.leaves, o.times = o.leaves[:refused], o.times[:refused]
			o.fill(4)
		}, held: denial.LogInconsistent},
		"roll back": {change: func(o *operator) { o.leaves, o.times = o.leaves[:refused], o.times[:refused] }, held: denial.StateRollback},
		"sign with a key of his own": {change: func(o *operator) {
			o.log = issuertest.NewKey(t)
			o.first = o.log
		}, alone: denial.KeyUnknown},
		"re-sign with a retired key": {change: func(o *operator) { o.log = retired }, alone: denial.KeyOutsideValidity},
		"re-sign with a retired key, back-dated": {change: func(o *operator) {
			o.log = retired
			o.shift(-7200)
		}, alone: denial.NotYetValid, held: denial.LogInconsistent, but: "the checkpoint"},
	} {
		t.Run(name, func(t *testing.T) {
			o := (&stage{World: world.World.For(t), docs: world.docs}).steal(retired)
			o.honest = honest
			c.change(o)
			bundle, trust := o.rewrite(), before
			check := func(who string, want denial.Reason, known ...[]byte) {
				t.Helper()
				r := must(audit.Verify(o.Ctx, bytes.NewReader(bundle), trust, audit.Options{Now: o.now, Known: known}))(t)
				switch {
				case want != 0:
					t.Run(who, func(t *testing.T) { wantRefuted(t, r, want) })
				case r.Err() != nil:
					t.Errorf("%s: got %v", who, r.Err())
				}
			}
			check("alone", c.alone)
			if c.alone != 0 && c.held == 0 {
				return
			}
			for what, raw := range held {
				if what != c.but {
					check(what, c.held, raw)
				}
			}
		})
	}
}

// fill appends summaries, which anybody can make up who has the record key.
func (o *operator) fill(n int) {
	o.Helper()
	for range n {
		r := record.Record{Version: record.Version, Event: record.EventSummary, Time: o.Seconds(), Since: o.Seconds(), Counts: map[uint64]uint64{201: 1},
			Emitter: record.Emitter{URI: issuerURI, Epoch: nonce(16)}}
		o.leaves, o.times = append(o.leaves, must(r.Sign(o.Ctx, o.Keys[record.PurposeRecord], issuerURI))(o)), append(o.times, o.Seconds())
	}
}

func (o *operator) shift(seconds int64) {
	for n := range o.times {
		o.times[n] += uint64(seconds)
	}
}

func (o *operator) remove(n uint64) {
	o.leaves, o.times = slices.Delete(o.leaves, int(n), int(n)+1), slices.Delete(o.times, int(n), int(n)+1)
}
