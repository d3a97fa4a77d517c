package gate

import (
	"bytes"
	"context"
	"errors"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
)

// sent is a record that stands in the log.
type sent struct {
	digest statement.Digest
	index  uint64
}

// send has a record logged as the next of the chain, after all that still waits. AUDIT_UNAVAILABLE means that the
// issuer could not be asked: a denial or an end waits then in the state directory, a start does not, since nothing
// runs. Any other denial is the issuer's: it will never take the record.
func (g *Gate) send(ctx context.Context, r *record.Record) (sent, error) {
	c, err := g.state.loadChain()
	if err != nil {
		return sent{}, err
	}
	if len(c.Waiting) >= MaxWaiting {
		return sent{}, denial.New(denial.AuditUnavailable, "%d records wait for the issuer", len(c.Waiting))
	}
	r.Emitter = record.Emitter{URI: g.o.Audience, Epoch: c.Epoch}
	encoded, err := statement.Marshal(r)
	if err != nil {
		return sent{}, err
	}
	c.Waiting = append(c.Waiting, encoded)
	if err := g.state.saveChain(c); err != nil {
		return sent{}, err
	}
	last, err := g.flush(ctx, c)
	if err == nil || refused(err) {
		return last, err
	}
	if n := len(c.Waiting); r.Event == record.EventStart && n > 0 {
		c.Waiting = c.Waiting[:n-1]
		err = errors.Join(err, g.state.saveChain(c))
	}
	return sent{}, denial.New(denial.AuditUnavailable, "the issuer's log cannot be reached")
}

// refused reports whether the issuer has decided against a record, rather than not having been able to decide.
func refused(err error) bool {
	var d *denial.Denial
	return errors.As(err, &d) && d.Reason.Condition() != denial.ConditionUndecidable
}

// flush sends what waits, in order, and returns what became of the last record. A record is written down before it is
// sent for the first time, and sent again with the same bytes until the issuer has answered: the issuer takes a record
// that it has logged already for what it is. One that it refuses is dropped, and the chain goes on without it.
func (g *Gate) flush(ctx context.Context, c *chain) (last sent, err error) {
	for c.InFlight != nil || len(c.Waiting) > 0 {
		if c.InFlight == nil {
			if err := g.sign(ctx, c); err != nil {
				return sent{}, err
			}
		}
		last, err = g.deliver(ctx, c.InFlight)
		if err != nil && !refused(err) {
			return sent{}, err
		}
		if err == nil {
			c.Next, c.Previous = c.Next+1, last.digest[:]
		}
		c.InFlight = nil
		if err := g.state.saveChain(c); err != nil {
			return sent{}, err
		}
	}
	return last, err
}

// sign makes the first waiting record the next of the chain.
func (g *Gate) sign(ctx context.Context, c *chain) error {
	var r record.Record
	if err := statement.Unmarshal(c.Waiting[0], &r); err != nil {
		return err
	}
	r.Emitter.Seq, r.Previous = c.Next, c.Previous
	leaf, err := r.Sign(ctx, g.signer, g.o.Audience)
	if err != nil {
		return err
	}
	c.InFlight, c.Waiting = leaf, c.Waiting[1:]
	return g.state.saveChain(c)
}

// deliver has one record logged and checks the receipt against the trust file: that the issuer says so is not enough.
func (g *Gate) deliver(ctx context.Context, leaf []byte) (sent, error) {
	raw, err := g.o.Issuer.Record(ctx, leaf)
	if err != nil {
		return sent{}, err
	}
	env, err := statement.Decode(raw, 2*statement.MaxStatement)
	if err != nil {
		return sent{}, err
	}
	receipts, err := env.Receipts()
	if err != nil || len(receipts) != 1 || !bytes.Equal(env.Leaf(), leaf) {
		return sent{}, denial.New(denial.AuditUnavailable, "the issuer's answer is not the record with its receipt")
	}
	keys, err := g.o.Trust.StatementKeys()
	if err != nil {
		return sent{}, err
	}
	proof, err := receipt.Verify(receipts[0], leaf, keys)
	if err != nil || proof.Issuer != g.o.Trust.Issuer || proof.Log != g.o.Trust.Log {
		return sent{}, denial.New(denial.AuditUnavailable, "the receipt is not one of the pinned log")
	}
	return sent{env.Digest(), proof.Index}, nil
}
