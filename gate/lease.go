package gate

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
)

// lease is for how long a program may run: until its session is over, or where the artifact names none until it expires; and
// only while the artifact is not revoked (X16). Two clocks are asked, and either ends it: the clock of the day, and the time that
// has passed since the start, which goes on whatever that is set to, and while the host sleeps (X15).
type lease struct {
	*session
	until  uint64        // clock of the day
	length time.Duration // from began
	began  time.Duration // uptime
	cancel context.CancelCauseFunc
	ctx    context.Context
	work   sync.WaitGroup
}

// newLease returns the lease of an execution whose start record has the given time.
func (s *session) newLease(started uint64) *lease {
	until := s.claims.LeaseEnd(started)
	return &lease{session: s, until: until, length: time.Duration(until-min(started, until)) * time.Second, began: s.o.uptime()}
}

// begin returns a context that ends with the lease, and no later than ctx. Nobody is asked whether a break-glass authorization,
// which has no artifact and an hour at most, was revoked.
func (l *lease) begin(ctx context.Context, a *artifact.Artifact) context.Context {
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	l.work.Go(l.watch)
	if a != nil {
		l.work.Go(func() { l.watchRevocation(a) })
	}
	return l.ctx
}

// end ends the lease for a reason.
func (l *lease) end(why *denial.Denial) { l.cancel(why.At(denial.StageRun)) }

// pause waits for the next look at the lease, at most for d, and returns false if it has ended.
func (l *lease) pause(d time.Duration) bool {
	select {
	case <-time.After(min(d, l.o.tick)):
		return true
	case <-l.ctx.Done():
		return false
	}
}

func (l *lease) watch() {
	for left := l.left(); left > 0; left = l.left() {
		if !l.pause(left) {
			return
		}
	}
	l.end(denial.New(denial.Expired, "the execution has lasted as long as its artifact allows"))
}

// left returns what is left of the lease by the clock that has less.
func (l *lease) left() time.Duration {
	byClock := time.Unix(int64(l.until), 0).Sub(l.o.Now())
	return min(byClock, l.length-(l.o.uptime()-l.began))
}

// watchRevocation asks for revocation twice in the time for which revocation data is good at a start. An artifact that is revoked
// ends the lease. That it cannot be known whether it is ends it only after the time that the trust file gives, if it gives one
// (806): an issuer that is down for a while must not stop everything that it has permitted, while every lease has its end.
func (l *lease) watchRevocation(a *artifact.Artifact) {
	period, most := l.o.Trust.RevocationAge/2, l.o.Trust.RunningAge
	known := l.o.uptime()
	for asked := known; l.pause(period); {
		if l.o.uptime()-asked < period {
			continue
		}
		asked = l.o.uptime()
		err := l.revoked(a, period)
		switch {
		case err == nil:
			known = asked
		case !denial.Is(err, denial.RevocationUnknown):
			l.end(denial.Of(err))
		case most > 0 && l.o.uptime()-known >= most:
			l.end(denial.New(denial.RevocationUnknown, "no revocation data could be had for %s", most))
		}
	}
}

// revoked asks whether the artifact is revoked by now. RevocationUnknown is that it cannot be said. The issuer is asked without
// the lock: others start meanwhile.
func (l *lease) revoked(a *artifact.Artifact, most time.Duration) error {
	ctx, cancel := context.WithTimeout(l.ctx, most)
	defer cancel()
	unknown := denial.New(denial.RevocationUnknown, "the issuer's status list cannot be had, or is not good")
	uri := a.Claims().Status.List.URI
	token, err := l.o.Issuer.Status(ctx, uri)
	if err != nil {
		return unknown
	}
	history, err := l.o.Issuer.Keys(ctx)
	if err != nil {
		return unknown
	}
	unlock, err := l.state.lock(ctx)
	if err != nil {
		return unknown
	}
	defer unlock()
	trust, err := l.follow(history)
	if err != nil {
		return unknown
	}
	status, err := l.readStatus(trust, uri, token)
	if err != nil {
		return unknown
	}
	return a.CheckRevoked(artifact.Want{Trust: trust, Now: l.o.Now(), Status: status})
}

// over ends the lease, and returns why it had ended before; nil if it had not, or with the context it was begun with.
func (l *lease) over() *denial.Denial {
	if l == nil || l.cancel == nil {
		return nil
	}
	l.cancel(nil)
	l.work.Wait()
	why, _ := context.Cause(l.ctx).(*denial.Denial)
	return why
}

// uptime returns for how long the kernel has run, sleep included (CLOCK_BOOTTIME). A clock that cannot be read ends every lease.
func uptime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &t); err != nil {
		return time.Duration(1<<63 - 1)
	}
	return time.Duration(t.Nano())
}
