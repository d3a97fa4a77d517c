package tlog

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

// signTimeout ends an attempt to sign a head.
const signTimeout = 30 * time.Second

// SignedHead is a head with its signed form, to which receipt.Make adds proofs. The zero SignedHead is that of a log
// without entries.
type SignedHead struct {
	receipt.Head
	Signed []byte
}

// headList holds the signed heads that are not yet stored, and the newest in any case, in order of size.
type headList struct {
	mu   sync.Mutex
	list []SignedHead
}

func (h *headList) snapshot() []SignedHead {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list)
}

func (h *headList) add(s SignedHead) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, s)
}

// forget drops the heads of up to size entries, which are stored now, except the newest of all.
func (h *headList) forget(size uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.list) > 1 && h.list[0].Size <= size {
		h.list = h.list[1:]
	}
}

// runSigner is the signer goroutine: it signs the head of each batch, in order, and answers the requests.
func (l *Log) runSigner() {
	defer close(l.ended)
	for b := range l.batches {
		if b.signer != nil {
			l.keys.change(b.signer)
		}
		if b.head.Size > 0 {
			l.backlog = append(l.backlog, b.head)
		}
		signed, err := l.signBacklog()
		if b.caughtUp != nil {
			b.caughtUp <- err
		}
		if err != nil {
			b.refuse(err)
		} else if len(b.requests) > 0 {
			b.answer(signed)
		}
	}
}

// refuse answers the requests with an error.
func (b *batch) refuse(err error) {
	for _, r := range b.requests {
		r.done <- answer{err: err}
	}
}

// signBacklog signs the heads that were committed, oldest first, and returns the newest. None is left out, so that each
// entry has the logged time of its own batch.
func (l *Log) signBacklog() (newest []byte, err error) {
	for len(l.backlog) > 0 {
		head := l.backlog[0]
		if newest, err = l.signHead(head); err != nil {
			l.behind.Store(true)
			return nil, because(denial.HSMUnavailable, "the head of the log cannot be signed", err)
		}
		l.heads.add(SignedHead{head, newest})
		l.backlog = l.backlog[1:]
	}
	l.behind.Store(false)
	return newest, nil
}

func (l *Log) signHead(h receipt.Head) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), signTimeout)
	defer cancel()
	return receipt.SignHead(ctx, l.keys.current(), l.o.Issuer, l.o.LogID, h)
}

// catchUp has the signer sign what it could not sign before. While it cannot, nothing more is appended.
func (l *Log) catchUp() error {
	b := &batch{caughtUp: make(chan error, 1)}
	l.batches <- b
	return <-b.caughtUp
}

// answer makes the receipts of the requests under the signed head. Every node that they need is at hand.
func (b *batch) answer(signed []byte) {
	m, err := receipt.NewMaker(signed, b.head.Size)
	for _, r := range b.requests {
		a := answer{err: err}
		if err == nil {
			a.appended, a.err = b.receipts(m, r)
		}
		r.done <- a
	}
}

func (b *batch) receipts(m *receipt.Maker, r *request) (all []Appended, err error) {
	all = make([]Appended, len(r.entries))
	for i := range all {
		all[i] = Appended{Index: r.first + uint64(i), Time: b.head.Time}
		if b.head.Size == 1 {
			continue
		}
		if all[i].Receipt, err = m.Make(all[i].Index, b.growth.path(all[i].Index)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// updateHeads stores the signed heads within the writer's transaction and returns the size of the newest.
func (l *Log) updateHeads() (newest uint64, err error) {
	newest = l.stored
	for _, h := range l.heads.snapshot() {
		if h.Size <= l.stored {
			continue
		}
		if _, err := l.db.exec("UPDATE heads SET signed = ? WHERE size = ?", h.Signed, h.Size); err != nil {
			return 0, err
		}
		newest = h.Size
	}
	return newest, nil
}

// storeHeads stores the signed heads in a transaction of its own.
func (l *Log) storeHeads() error {
	if _, err := l.db.exec("BEGIN IMMEDIATE"); err != nil {
		return fmt.Errorf("storing heads: %w", err)
	}
	newest, err := l.updateHeads()
	if err == nil {
		err = l.commit()
	}
	if err != nil {
		return l.undo(err)
	}
	l.stored = newest
	return nil
}
