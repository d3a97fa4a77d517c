package gate

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
)

// line is the way to the issuer, as a gate sees it. What it does to a call can be changed.
type line struct {
	issuer *issuer.Issuer
	mu     sync.Mutex
	record func(ctx context.Context, leaf []byte, pass func() ([]byte, error)) ([]byte, error)
	status func(uri string, pass func() ([]byte, error)) ([]byte, error)
	keys   func() ([]byte, error) // nil: the issuer's key history
	asked  []string               // status lists
}

func (l *line) Record(ctx context.Context, leaf []byte) ([]byte, error) {
	pass := func() ([]byte, error) {
		raw, err := l.issuer.Take(ctx, leaf)
		return raw, overTheWire(err)
	}
	l.mu.Lock()
	f := l.record
	l.mu.Unlock()
	if f != nil {
		return f(ctx, leaf, pass)
	}
	return pass()
}

func (l *line) Keys(ctx context.Context) ([]byte, error) {
	l.mu.Lock()
	f := l.keys
	l.mu.Unlock()
	if f != nil {
		return f()
	}
	return l.issuer.KeyHistory(ctx)
}

func (l *line) onKeys(f func() ([]byte, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys = f
}

func (l *line) Status(ctx context.Context, uri string) ([]byte, error) {
	pass := func() ([]byte, error) {
		n, err := strconv.ParseUint(strings.TrimPrefix(uri, base+"/v1/status/"), 10, 64)
		if err != nil {
			return nil, errDown
		}
		raw, err := l.issuer.Status(ctx, n)
		return raw, overTheWire(err)
	}
	l.mu.Lock()
	l.asked = append(l.asked, uri)
	f := l.status
	l.mu.Unlock()
	if f != nil {
		return f(uri, pass)
	}
	return pass()
}

// onRecord changes what happens to records; nil makes the line whole again.
func (l *line) onRecord(f func(ctx context.Context, leaf []byte, pass func() ([]byte, error)) ([]byte, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.record = f
}

func (l *line) onStatus(f func(uri string, pass func() ([]byte, error)) ([]byte, error)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.status = f
}

var errDown = errors.New("reaching issuer: connection refused")

// overTheWire is what is left of a refusal when it has come through HTTP.
func overTheWire(err error) error {
	var r *issuer.Refusal
	switch {
	case err == nil:
		return nil
	case errors.As(err, &r) && r.Known:
		return denial.Known(r.Denial).Denial()
	}
	return denial.Stranger(denial.Of(err)).Denial()
}

func down(context.Context, []byte, func() ([]byte, error)) ([]byte, error) { return nil, errDown }

// lost lets the record reach the issuer and loses the answer.
func lost(_ context.Context, _ []byte, pass func() ([]byte, error)) ([]byte, error) {
	if _, err := pass(); err != nil {
		return nil, err
	}
	return nil, errDown
}
