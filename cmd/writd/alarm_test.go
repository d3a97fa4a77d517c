package main

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/test/issuertest"
)

// T01, T02, T06: that the log takes nothing is said at once, again while it lasts, and that it is over.
func TestT01_ALogThatTakesNothingIsAlarmed(t *testing.T) {
	var said bytes.Buffer
	var health error
	tick, ended := make(chan time.Time), make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	go func() {
		alarm(ctx, tick, func() error { return health }, slog.New(slog.NewTextHandler(&said, nil)))
		close(ended)
	}()
	looks := func(n int) {
		for range n {
			tick <- time.Time{}
		}
	}
	looks(5)
	stop()
	<-ended
	if said.Len() != 0 {
		t.Errorf("healthy: said %q", said.String())
	}
	for _, c := range []struct {
		sick  int
		lines int
	}{{1, 1}, {alarmAgain, 1}, {alarmAgain + 1, 2}, {3 * alarmAgain, 3}} {
		said.Reset()
		tick, ended = make(chan time.Time), make(chan struct{})
		ctx, stop = context.WithCancel(t.Context())
		health = denial.New(denial.AuditUnavailable, "the store has failed")
		go func() {
			alarm(ctx, tick, func() error { return health }, slog.New(slog.NewTextHandler(&said, nil)))
			close(ended)
		}()
		looks(c.sick)
		stop()
		<-ended
		if got := strings.Count(said.String(), "level=ERROR msg=\"ALARM: unhealthy, nothing is permitted\" code=902"); got != c.lines {
			t.Errorf("%d looks: %d alarms: %s", c.sick, got, said.String())
		}
	}
	said.Reset()
	tick, ended = make(chan time.Time), make(chan struct{})
	ctx, stop = context.WithCancel(t.Context())
	states := []error{denial.New(denial.HSMUnavailable, ""), nil, nil, denial.New(denial.AuditUnavailable, "")}
	next := -1
	go func() {
		alarm(ctx, tick, func() error { next++; return states[next] }, slog.New(slog.NewTextHandler(&said, nil)))
		close(ended)
	}()
	looks(len(states))
	stop()
	<-ended
	if got := said.String(); strings.Count(got, "ALARM") != 2 || strings.Count(got, "alarm over") != 1 || !strings.Contains(got, "code=903") {
		t.Errorf("said %s", got)
	}
}

// T02: once the token signs again, health does not wait for somebody to ask for something.
func TestT02_HealthReturnsByItself(t *testing.T) {
	w := issuertest.New(t)
	key, token := w.Keys[record.PurposeLog], denial.New(denial.HSMUnavailable, "the token is away")
	look := func(token error) error {
		return healed(w.Ctx, w.Tree, func() error { return token }, func() error { return errors.Join(token, w.Tree.Healthy()) })
	}
	if err := look(nil); err != nil {
		t.Error(err)
	}
	key.Dead.Store(true)
	if _, err := w.Ask(issuertest.Spoil{}); !denial.Is(err, denial.HSMUnavailable) {
		t.Fatalf("got %v", err)
	}
	for _, away := range []error{token, nil} {
		if err := look(away); !denial.Is(err, denial.HSMUnavailable) {
			t.Errorf("got %v", err)
		}
	}
	key.Dead.Store(false)
	if err := look(nil); err != nil {
		t.Errorf("the token signs again, and health is %v", err)
	}
}
