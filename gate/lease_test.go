package gate

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/record"
)

// stopwatch is the time that has passed on a host, and tells when it is looked at.
type stopwatch struct {
	clock
	begun  time.Time
	looked chan struct{}
}

func newStopwatch() *stopwatch { return &stopwatch{begun: time.Now(), looked: make(chan struct{})} }

func (s *stopwatch) passed() time.Duration {
	select {
	case s.looked <- struct{}{}:
	default:
	}
	return s.now().Sub(s.begun)
}

// await returns once the time has been looked at twice from now on.
func (s *stopwatch) await() { <-s.looked; <-s.looked }

// begin runs a command that says when it is ready, and returns once it has, with a function that waits for its end.
func (r *rig) begin(ctx context.Context, cmd Command) (wait func() Outcome) {
	r.tb.Helper()
	wait, _ = r.beginReading(ctx, cmd)
	return wait
}

// beginReading is begin, with what the program writes once it is ready.
func (r *rig) beginReading(ctx context.Context, cmd Command) (wait func() Outcome, read *os.File) {
	r.tb.Helper()
	read, write := pipe(r.tb)
	cmd.Stdout = write
	type result struct {
		out Outcome
		err error
	}
	done := make(chan result, 1)
	go func() {
		out, err := r.gate.Exec(ctx, cmd)
		write.Close()
		done <- result{out, err}
	}()
	buf := make([]byte, 256)
	n, _ := read.Read(buf)
	if _, err := fmt.Sscanf(string(buf[:n]), "ready %d\n", &r.keeper); err != nil {
		r.tb.Fatalf("the program wrote %q: %+v", buf[:n], <-done)
	}
	return func() Outcome {
		r.tb.Helper()
		got := <-done
		if got.err != nil || !got.out.Started {
			r.tb.Fatalf("got %+v, want a program that ran", got)
		}
		return got.out
	}, read
}

// ended checks that the gate has ended a program that heeds SIGTERM, for the reason, and that the log says so.
func (r *rig) ended(out Outcome, want denial.Reason) {
	r.tb.Helper()
	if !denial.Is(out.Ended, want) || out.Status != 7 || out.Spooled {
		r.tb.Errorf("got %+v, want a program that the gate ended for %d", out, want.Code())
	}
	story := r.story(gateURI + r.name)
	if got, want := story[len(story)-1], fmt.Sprintf("end 7 by the gate: %d", want.Code()); got != want {
		r.tb.Errorf("the log ends with %q, want %q", got, want)
	}
}

func (r *rig) waiting(p permit) Command {
	r.tb.Helper()
	p.scope = artifact.Scope{file(r.tb, r.child, nil, nil)}
	return r.commandFor(p, r.child, "wait")
}

func TestX16_ProgramEndsWithItsArtifact(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	wait := r.begin(t.Context(), r.waiting(permit{lifetime: 300}))
	r.clock.advance(301 * time.Second)
	r.ended(wait(), denial.Expired)
}

// The clock of the day decides nothing alone: set back, it revives no artifact; and what is past by it is over.
func TestX15_X16_LeaseEndsWhateverTheClockIsSetTo(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	var own clock // the issuer's goes right
	o := r.options()
	o.Now = own.now
	r.gate = must(Open(t.Context(), o))(t)
	wait := r.begin(t.Context(), r.waiting(permit{lifetime: 300}))
	own.advance(-10 * time.Minute)
	r.uptime.advance(301 * time.Second) // also what passes while the host sleeps
	r.ended(wait(), denial.Expired)
}

func TestX16_SessionIsTheLease(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	// Longer than the artifact lives: the program drains, and not for ever.
	wait := r.begin(t.Context(), r.waiting(permit{lifetime: 300, session: 3600}))
	r.clock.advance(400 * time.Second)
	r.uptime.await()
	r.clock.advance(3201 * time.Second)
	out := wait()
	if ends := r.records(); ends[len(ends)-1].Time < r.seconds()-60 {
		t.Error("the program was ended when its artifact expired, in the middle of its session")
	}
	r.ended(out, denial.Expired)
	// Shorter: it ends before its artifact does.
	wait = r.begin(t.Context(), r.waiting(permit{lifetime: 300, session: 60}))
	r.uptime.advance(61 * time.Second)
	r.ended(wait(), denial.Expired)
}

func TestX16_LeaseIsWhatTheClaimsSay(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		limits       *artifact.Limits
		started, end uint64
	}{
		{nil, 1100, 1300},
		{&artifact.Limits{Uses: 2}, 1100, 1300},
		{&artifact.Limits{Session: 50}, 1100, 1150},
		{&artifact.Limits{Session: 5000}, 1100, 6100},
		{&artifact.Limits{Session: 1<<64 - 1}, 1100, 1100 + artifact.MaxSession},
	} {
		c := artifact.Claims{IssuedAt: 1000, Expires: 1300, Limits: row.limits}
		if got := c.LeaseEnd(row.started); got != row.end {
			t.Errorf("%+v: the lease ends at %d, want %d", row.limits, got, row.end)
		}
	}
}

func TestX16_ArtifactThatExpiresDuringTheChecksRunsNothing(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	path, ran := r.mark()
	cmd := r.command("mark", path)
	r.line.onRecord(func(_ context.Context, _ []byte, pass func() ([]byte, error)) ([]byte, error) {
		defer r.uptime.advance(301 * time.Second)
		return pass()
	})
	out := r.refuses(cmd, denial.Expired)
	if ran() || out.Denied.Stage != denial.StageRun {
		t.Errorf("ran: %v; %+v", ran(), out.Denied)
	}
	if got, want := r.story(gateURI+"a"), []string{"start 1", "201"}; !slices.Equal(got, want) {
		t.Errorf("the log tells %q, want %q", got, want)
	}
}

func TestX16_RevokedArtifactEndsItsProgram(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		revoke func(r *rig, cmd Command)
		want   denial.Reason
	}{
		"artifact": {func(r *rig, cmd Command) {
			c, _, err := artifact.Inspect(cmd.Artifact)
			if err != nil {
				t.Fatal(err)
			}
			r.revoke(record.CauseArtifact, hex.EncodeToString(c.ID))
		}, denial.ArtifactRevoked},
		"host":      {func(r *rig, _ Command) { r.revoke(record.CauseHost, hostURI+"a") }, denial.HostRevoked},
		"initiator": {func(r *rig, _ Command) { r.revoke(record.CauseInitiator, robotURI) }, denial.InitiatorRevoked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, newWorld(t), "a")
			cmd := r.waiting(permit{lifetime: 300})
			wait := r.begin(t.Context(), cmd)
			r.uptime.advance(31 * time.Second)
			r.uptime.await() // not revoked yet: it runs on
			row.revoke(r, cmd)
			r.uptime.advance(31 * time.Second)
			if out := wait(); row.want == denial.HostRevoked { // whose end the log does not take
				if !denial.Is(out.Ended, row.want) || out.Status != 7 {
					t.Errorf("got %+v", out)
				}
			} else {
				r.ended(out, row.want)
			}
		})
	}
}

// A revocation that cannot be asked for ends nothing, unless the trust file says after which time.
func TestX16_X24_OutageEndsWhatRunsOnlyIfTheGateIsToldTo(t *testing.T) {
	t.Parallel()
	r := newRig(t, newWorld(t), "a")
	stale := must(r.issuer.Status(t.Context(), 0))(t)
	r.clock.advance(time.Minute)
	for _, answer := range []func(string, func() ([]byte, error)) ([]byte, error){
		func(string, func() ([]byte, error)) ([]byte, error) { return nil, errDown },
		func(string, func() ([]byte, error)) ([]byte, error) { return []byte("no token"), nil },
		func(string, func() ([]byte, error)) ([]byte, error) { return stale, nil },
	} {
		for _, most := range []time.Duration{0, 2 * time.Minute} {
			trust := *r.trusted
			trust.RunningAge = most
			o := r.options()
			o.Trust = &trust
			r.gate = must(Open(t.Context(), o))(t)
			asked := make(chan bool, 100)
			wait := r.begin(t.Context(), r.waiting(permit{lifetime: 3600}))
			r.line.onStatus(func(uri string, pass func() ([]byte, error)) ([]byte, error) {
				asked <- true
				return answer(uri, pass)
			})
			r.uptime.advance(110 * time.Second)
			<-asked
			r.uptime.await() // the answer has been judged, and the program runs
			r.uptime.advance(40 * time.Second)
			want := denial.RevocationUnknown
			if most == 0 {
				<-asked
				r.uptime.await()
				r.uptime.advance(time.Hour)
				want = denial.Expired
			}
			out := wait()
			r.line.onStatus(nil)
			r.ended(out, want)
		}
	}
}
