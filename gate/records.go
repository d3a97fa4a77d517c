package gate

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// The chain of a gate's records: each holds a number and the digest of the one before, and the issuer takes none that
// does not continue it. A record is signed and written down before it is sent for the first time, and sent again with
// the same bytes until the issuer has answered, which takes a record that it has logged already for what it is. So the
// gate may stop at any moment and the chain goes on. One that the issuer refuses is dropped; its place is taken by the
// next.

// MaxWaiting is how many denials a gate keeps while the issuer cannot be reached. Those beyond it are not recorded: no
// command is allowed meanwhile, since no start can be logged. End records are always kept.
const MaxWaiting = 256

// maxRecord is the greatest payload of a gate's record.
const maxRecord = 16 << 10

// sent is a record that stands in the log.
type sent struct {
	digest statement.Digest
	index  uint64
	time   uint64 // logged time
}

// send has a record logged as the next of the chain, after all that still waits. AUDIT_UNAVAILABLE means that the
// issuer did not answer with a receipt: a denial or an end waits then in the state directory; a start does not, since
// nothing runs, unless it is on its way already. Any other denial is the issuer's: it will never take the record.
func (g *Gate) send(ctx context.Context, r *record.Record) (sent, error) {
	c, err := g.state.loadChain()
	if err != nil {
		return sent{}, err
	}
	r.Emitter = record.Emitter{URI: g.o.Audience, Epoch: c.Epoch}
	encoded, err := statement.Marshal(r)
	if err == nil {
		err = r.Check()
	}
	if err != nil || len(encoded) > maxRecord {
		return sent{}, denial.New(denial.Internal, "the gate's record cannot be made")
	}
	if err = g.flush(ctx, c); err == nil {
		if err = g.sign(ctx, c, r, nil); err == nil {
			return g.deliver(ctx, c)
		}
	}
	if r.Event == record.EventEnd || r.Event == record.EventDenial && len(c.Waiting) < MaxWaiting {
		next := *c
		next.Waiting = append(c.Waiting[:len(c.Waiting):len(c.Waiting)], encoded)
		err = errors.Join(err, g.save(c, next))
	}
	if !denial.Is(err, denial.AuditUnavailable) {
		err = denial.New(denial.AuditUnavailable, "the record cannot be signed or kept")
	}
	return sent{}, err
}

// save writes the chain down as next, and only then makes it so.
func (g *Gate) save(c *chain, next chain) error {
	err := g.state.saveChain(&next)
	if err == nil {
		*c = next
	}
	return err
}

// flush sends what waits, in order, until nothing does. Its error is one that a further record would meet too.
func (g *Gate) flush(ctx context.Context, c *chain) error {
	for c.InFlight != nil || len(c.Waiting) > 0 {
		if c.InFlight == nil {
			var r record.Record
			if err := statement.Unmarshal(c.Waiting[0], &r); err != nil {
				return err
			}
			if err := g.sign(ctx, c, &r, c.Waiting[1:]); err != nil {
				return err
			}
		}
		if _, err := g.deliver(ctx, c); err != nil && !decided(err) {
			return err
		}
	}
	return nil
}

// sign makes the record the next of the chain, in flight, and rest what comes after it.
func (g *Gate) sign(ctx context.Context, c *chain, r *record.Record, rest [][]byte) error {
	r.Emitter.Seq, r.Previous = c.Next, c.Previous
	leaf, err := r.Sign(ctx, g.signer, g.o.Audience)
	if err != nil {
		return fmt.Errorf("signing record: %w", err)
	}
	next := *c
	next.InFlight, next.Waiting = leaf, rest
	return g.save(c, next)
}

// deliver sends the record that is in flight. It stays so unless the issuer has logged it, or has decided against it.
func (g *Gate) deliver(ctx context.Context, c *chain) (sent, error) {
	s, err := g.submit(ctx, c.InFlight)
	if err != nil && !decided(err) {
		return sent{}, err
	}
	next := *c
	next.InFlight = nil
	if err == nil {
		next.Next, next.Previous = c.Next+1, s.digest[:]
	}
	if saveErr := g.save(c, next); saveErr != nil {
		return sent{}, saveErr
	}
	return s, err
}

// decided reports whether err is the issuer's decision that it will not take a record, rather than that it could not
// decide, or did and was not heard.
func decided(err error) bool {
	var d *denial.Denial
	if !errors.As(err, &d) {
		return false
	}
	switch d.Reason {
	case denial.NotPermitted, denial.RequestLimit, denial.UnsupportedVersion:
		return true
	}
	return d.Reason.Condition() != denial.ConditionUndecidable
}

// submit has one record logged. The answer must be that record with one receipt, by a log key that the trust file holds
// valid at logged time, of the pinned log (902): that the issuer says so is not enough.
func (g *Gate) submit(ctx context.Context, leaf []byte) (sent, error) {
	raw, err := g.o.Issuer.Record(ctx, leaf)
	if decided(err) { // its words are a peer's: they do not go into this gate's records
		if denial.Is(err, denial.NotPermitted) {
			return sent{}, denial.New(denial.NotPermitted, "the issuer refused the record: its key is not the one that this gate has enrolled last").
				Try("Enrol the host again with \"writ host enroll\", and give the gate a fresh state directory.")
		}
		return sent{}, denial.New(denial.Of(err).Reason, "the issuer refused the record")
	}
	if err != nil {
		return sent{}, denial.New(denial.AuditUnavailable, "the issuer's log did not take the record")
	}
	env, err := statement.Decode(raw, 2*statement.MaxStatement)
	if err != nil || !bytes.Equal(env.Leaf(), leaf) {
		return sent{}, denial.New(denial.AuditUnavailable, "the issuer's answer is not the record")
	}
	receipts, err := env.Receipts()
	if err != nil || len(receipts) != 1 {
		return sent{}, denial.New(denial.AuditUnavailable, "the issuer's answer has no receipt")
	}
	proof, err := g.verifyReceipt(ctx, receipts[0], leaf)
	if err != nil {
		return sent{}, denial.New(denial.AuditUnavailable, "the receipt is not one of the pinned log for this record")
	}
	return sent{env.Digest(), proof.Index, proof.Time}, nil
}

// verifyReceipt verifies a receipt with the log keys at hand, and once more with what the issuer says of them if that is not
// enough: the log key may have changed since.
func (g *Gate) verifyReceipt(ctx context.Context, raw, leaf []byte) (*receipt.Proof, error) {
	trust, err := g.trust()
	if err != nil {
		return nil, err
	}
	proof, err := verifyUnder(trust, raw, leaf)
	if !dependsOnKeys(err) {
		return proof, err
	}
	if trust, err = g.learn(ctx); err != nil {
		return nil, err
	}
	return verifyUnder(trust, raw, leaf)
}

func verifyUnder(trust *artifact.Trust, raw, leaf []byte) (*receipt.Proof, error) {
	keys, err := trust.StatementKeys()
	if err != nil {
		return nil, err
	}
	proof, err := receipt.Verify(raw, leaf, keys)
	if err != nil {
		return nil, err
	}
	if proof.Issuer != trust.Issuer || proof.Log != trust.Log {
		return nil, denial.New(denial.ReceiptInvalid, "a receipt of another log")
	}
	return proof, trust.CheckClaimed(proof.Key, proof.Time)
}
