package custody

import (
	"bufio"
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/statement"
)

// link is one signer process, seen from outside: requests go out in any number, answers come back in any order.
type link struct {
	conn    *child
	out     outlet
	dead    chan struct{} // closed when the process can no longer answer
	orphans *atomic.Uint64

	mu      sync.Mutex
	next    uint64
	waiting map[uint64]waiter // nil once dead
	ill     error             // what the last answer about health said
}

type waiter struct {
	answer chan frame
	signs  bool
}

// newLink speaks over the connection until it ends.
func newLink(conn *child, orphans *atomic.Uint64) *link {
	l := &link{conn: conn, out: outlet{conn: conn}, dead: make(chan struct{}), orphans: orphans, waiting: map[uint64]waiter{}}
	go l.read()
	return l
}

// outlet writes frames to a socket, each in the goroutine that brings it.
type outlet struct {
	mu   sync.Mutex
	conn net.Conn
	buf  []byte
}

// send writes a frame. Where it cannot it closes the connection, which who reads from that notices. The other end reads at all times: one
// that does not, although its buffer is full, is given up.
func (o *outlet) send(f frame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = f.append(o.buf[:0])
	err := o.conn.SetWriteDeadline(time.Now().Add(illness * grace))
	if err == nil {
		_, err = o.conn.Write(o.buf)
	}
	if err != nil {
		_ = o.conn.Close()
	}
}

func (l *link) read() {
	defer l.close()
	r := bufio.NewReaderSize(l.conn, 64<<10)
	for {
		f, err := readFrame(r)
		if err != nil {
			return
		}
		l.mu.Lock()
		w, ok := l.waiting[f.number]
		delete(l.waiting, f.number)
		l.mu.Unlock()
		if ok {
			w.answer <- f // has room for one
		}
	}
}

// close ends the link; whoever waits for an answer is refused.
func (l *link) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting != nil {
		l.waiting = nil
		close(l.dead)
		_ = l.conn.Close()
	}
}

// ask sends a request and waits for its answer, as long as the context and the process live.
func (l *link) ask(ctx context.Context, op op, body []byte) ([]byte, error) {
	w := waiter{answer: make(chan frame, 1), signs: op == opSign}
	number, err := l.enlist(w)
	if err != nil {
		return nil, err
	}
	l.out.send(frame{number, op, body})
	select {
	case f := <-w.answer:
		return f.result()
	case <-l.dead:
		return nil, unavailable("the signer process has ended")
	case <-ctx.Done():
		l.abandon(w)
		return nil, unavailable("the token did not answer in time")
	}
}

func (l *link) enlist(w waiter) (uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.waiting == nil:
		return 0, unavailable("the signer process has ended")
	case len(l.waiting) >= maxInFlight:
		return 0, denial.New(denial.Overloaded, "too many signatures are under way")
	}
	l.next++
	l.waiting[l.next] = w
	return l.next, nil
}

// abandon leaves the answer to whoever reads it later: a signature is counted as an orphan.
func (l *link) abandon(w waiter) {
	go func() {
		select {
		case f := <-w.answer:
			if w.signs && f.op == statusGood {
				l.orphans.Add(1)
			}
		case <-l.dead:
		}
	}()
}

func (l *link) health() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ill
}

// check asks how the token is, and remembers it.
func (l *link) check(limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	_, err := l.ask(ctx, opHealth, nil)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ill = err
	return err
}

// bind has the key found, checked and tried, and returns it.
func (l *link) bind(ctx context.Context, purpose hsm.Purpose, pinned statement.Thumbprint) (statement.Key, error) {
	raw, err := l.ask(ctx, opBind, keyRequest(purpose, pinned))
	if err != nil {
		return statement.Key{}, err
	}
	key, err := statement.ParseKey(raw)
	if err == nil && key.Thumbprint() != pinned {
		err = denial.New(denial.HSMKeyPolicy, "the %s key is not the pinned one", purpose)
	}
	return key, err
}
