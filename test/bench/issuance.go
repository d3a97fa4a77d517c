package main

import (
	"context"
	"fmt"
	"time"

	"github.com/governed-execution/writ/artifact"
)

// levels are how many hosts ask at once, and how many requests each has ready for a round.
var levels = []struct{ clients, requests int }{{1, 1600}, {8, 500}, {64, 80}}

// Rounds of the issuer and of the bare work alternate, so that other work on the machine hurts both alike.
const (
	rounds    = 3
	roundTime = 3 * time.Second
	bareTime  = 1500 * time.Millisecond
)

const aimIssuance = 0.40

// level is what one number of clients gave.
type level struct {
	asked      sample // as the hosts saw it; CPU is theirs
	issuer     time.Duration
	bare       sample
	rate, base []float64 // by round
}

func issuance(ctx context.Context, s *site, h *hosts, b *bare, only int) error {
	fmt.Printf(`
Issuance, end to end: a host on its TLS 1.3 connection over loopback asks for a challenge, signs quote and certification
in software, and gets an artifact with its receipt: SoftHSM keys, durable SQLite log. Times are the host's. Compared with
the bare work by as many callers, in turn: one quote signature verified, one signature of the token and its check, one
durable commit shared by those who wait. Hosts and issuer share the cores; the bare work has them to itself.

%8s %9s %9s %9s %9s %11s %12s %12s %12s
`, "clients", "p50 ms", "p99 ms", "per s", "bare/s", "of bare", "CPU ms/each", "bare CPU ms", "hosts CPU ms")
	for _, n := range levels {
		if only != 0 && only != n.clients {
			continue
		}
		l, err := measureLevel(ctx, s, h, b, n.clients, n.requests)
		if err != nil {
			return err
		}
		rate, base := median(l.rate), median(l.base)
		fmt.Printf("%8d %9s %9s %9.0f %9.0f %10.0f%% %12s %12s %12s\n", n.clients, ms(l.asked.quantile(0.5)), ms(l.asked.quantile(0.99)),
			rate, base, 100*rate/base, ms(l.issuer/time.Duration(len(l.asked.Latencies))), ms(l.bare.cpuEach()), ms(l.asked.cpuEach()))
	}
	fmt.Printf("aim: at least %.0f%% of bare\n", 100*aimIssuance)
	return nil
}

func measureLevel(ctx context.Context, s *site, h *hosts, b *bare, clients, requests int) (*level, error) {
	l := &level{}
	for range rounds {
		bare, err := concurrently(clients, bareTime, func(int) error { return b.mint() })
		if err != nil {
			return nil, err
		}
		l.bare.add(bare)
		l.base = append(l.base, bare.perSecond())
		if _, err := h.order(order{Prepare: &prepareOrder{clients, requests}}); err != nil {
			return nil, err
		}
		cpu := cpuTime()
		r, err := h.order(order{Run: &runOrder{roundTime}})
		if err != nil {
			return nil, err
		}
		l.issuer += cpuTime() - cpu
		l.asked.add(r.Sample)
		l.rate = append(l.rate, r.Sample.perSecond())
		if err := s.check(ctx, r.Artifacts); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// check verifies artifacts as a relying party does: what was measured were permits.
func (s *site) check(ctx context.Context, artifacts [][]byte) error {
	want, err := s.want(ctx)
	if err != nil {
		return err
	}
	for _, raw := range artifacts {
		if _, err := artifact.Verify(raw, want); err != nil {
			return fmt.Errorf("checking what was issued: %w", err)
		}
	}
	return nil
}

// want is what a gate wants of an artifact now, with a status list fetched now.
func (s *site) want(ctx context.Context) (artifact.Want, error) {
	want := artifact.Want{Trust: s.trust(), Now: time.Now()}
	token, err := s.issuer.Status(ctx, 0)
	if err != nil {
		return want, err
	}
	want.Status, err = artifact.VerifyStatus(token, want.Trust, want.Now, 0)
	return want, err
}
