package gate

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"github.com/governed-execution/writ/denial"
)

// lease is for how long a program may run: until its session is over, or where the artifact names none until it expires (X16).
// Two clocks are asked, and either ends it: the clock of the day, and the time that has passed since the start, which goes on
// whatever that is set to, and while the host sleeps (X15).
type lease struct {
	*Gate
	until  uint64        // clock of the day
	length time.Duration // from began
	began  time.Duration // uptime
	cancel context.CancelCauseFunc
	ctx    context.Context
}

// newLease returns the lease of an execution whose start record has the given time.
func (s *session) newLease(started uint64) lease {
	until := s.claims.LeaseEnd(started)
	return lease{Gate: s.Gate, until: until, length: time.Duration(until-min(started, until)) * time.Second, began: s.o.uptime()}
}

// begin returns a context that ends with the lease, and no later than ctx.
func (l *lease) begin(ctx context.Context) context.Context {
	l.ctx, l.cancel = context.WithCancelCause(ctx)
	go l.watch()
	return l.ctx
}

func (l *lease) watch() {
	for {
		left := l.left()
		if left <= 0 {
			l.cancel(denial.New(denial.Expired, "the execution has lasted as long as its artifact allows").At(denial.StageRun))
			return
		}
		select {
		case <-time.After(min(left, l.o.tick)):
		case <-l.ctx.Done():
			return
		}
	}
}

// left returns what is left of the lease by the clock that has less.
func (l *lease) left() time.Duration {
	byClock := time.Unix(int64(l.until), 0).Sub(l.o.Now())
	return min(byClock, l.length-(l.o.uptime()-l.began))
}

// over ends the lease, and returns why it had ended before; nil if it had not, or with the context it was begun with.
func (l *lease) over() *denial.Denial {
	l.cancel(nil)
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
