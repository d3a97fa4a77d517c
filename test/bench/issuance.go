package main

import (
	"context"
	"fmt"
	"time"

	"github.com/governed-execution/writ/artifact"
)

// levels are how many hosts ask at once, and how many requests each has ready for a round.
var levels = []struct{ clients, requests int }{{1, 1600}, {8, 500}, {64, 80}}

// Rounds of the issuer and of the bare work alternate, so that other work on the machine hurts all alike.
const (
	rounds    = 3
	roundTime = 3 * time.Second
	bareTime  = 1200 * time.Millisecond
)

// signatures is how many an issuer must verify of strangers for one artifact: quote, certification of the cnf key, request.
const signatures = 3

const aimIssuance = 0.40

// level is what one number of clients gave.
type level struct {
	asked     sample // as the hosts saw it; CPU is theirs
	issuer    time.Duration
	signed    int64 // signatures of the token
	commits   int64 // of them tree heads: one for each durable commit
	bare, all sample
	rate      [3][]float64 // by round: of the issuer, bare, all
}

const issuanceText = `
Issuance, end to end: a host on its TLS 1.3 connection over loopback asks for a challenge, signs quote and certification
in software, and gets an artifact with its receipt: SoftHSM keys, durable SQLite log. Times are the host's. The issuer has
one core and the hosts have the others. Beside it, in turn and on the issuer's core, by as many callers:
  bare   one quote signature verified, one signature of the token and its check, one durable commit shared by those who wait
  bare3  the same with all three signatures verified that an issuer must: of quote, certification and request

%7s %9s %9s %7s  %7s %7s  %7s %8s  %7s %7s   %s
`

func issuance(ctx context.Context, s *site, h *hosts, b *bare, only int) error {
	fmt.Printf(issuanceText, "clients", "p50 ms", "p99 ms", "per s", "bare/s", "of bare", "bare3/s", "of bare3", "signed", "commits",
		"CPU ms for one: issuer, hosts, bare, bare3")
	for _, n := range levels {
		if only != 0 && only != n.clients {
			continue
		}
		l, err := measureLevel(ctx, s, h, b, n.clients, n.requests)
		if err != nil {
			return err
		}
		rate, bare, all := median(l.rate[0]), median(l.rate[1]), median(l.rate[2])
		fmt.Printf("%7d %9s %9s %7.0f  %7.0f %6.0f%%  %7.0f %7.0f%%  %7.2f %7.2f   %s, %s, %s, %s\n", n.clients,
			ms(l.asked.quantile(0.5)), ms(l.asked.quantile(0.99)), rate, bare, 100*rate/bare, all, 100*rate/all,
			float64(l.signed)/float64(len(l.asked.Latencies)), float64(l.commits)/float64(len(l.asked.Latencies)),
			ms(l.issuer/time.Duration(len(l.asked.Latencies))), ms(l.asked.cpuEach()), ms(l.bare.cpuEach()), ms(l.all.cpuEach()))
	}
	fmt.Printf("aim: at least %.0f%% of bare\n", 100*aimIssuance)
	return nil
}

func measureLevel(ctx context.Context, s *site, h *hosts, b *bare, clients, requests int) (*level, error) {
	l := &level{}
	for range rounds {
		for i, work := range []struct {
			into     *sample
			verified int
		}{{&l.bare, 1}, {&l.all, signatures}} {
			got, err := concurrently(clients, bareTime, func(int) error { return b.mint(work.verified) })
			if err != nil {
				return nil, err
			}
			work.into.add(got)
			l.rate[i+1] = append(l.rate[i+1], got.perSecond())
		}
		if err := l.ask(ctx, s, h, clients, requests); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// ask has the hosts ask for one round, and checks what they got.
func (l *level) ask(ctx context.Context, s *site, h *hosts, clients, requests int) error {
	if _, err := h.order(order{Prepare: &prepareOrder{clients, requests}}); err != nil {
		return err
	}
	cpu := cpuTime()
	signed, commits := s.signatures()
	r, err := h.order(order{Run: &runOrder{roundTime}})
	if err != nil {
		return err
	}
	l.issuer += cpuTime() - cpu
	all, heads := s.signatures()
	l.signed, l.commits = l.signed+all-signed, l.commits+heads-commits
	l.asked.add(r.Sample)
	l.rate[0] = append(l.rate[0], r.Sample.perSecond())
	return s.check(ctx, r.Artifacts)
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
