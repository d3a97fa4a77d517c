package main

import (
	"context"
	"fmt"
	"time"

	"github.com/governed-execution/writ/artifact"
)

// levels are how many hosts ask at once, and how many requests each has ready for a round.
var levels = []struct{ clients, requests int }{{1, 1600}, {8, 600}, {64, 120}}

// Rounds of the issuer and of the bare work alternate, so that other work on the machine hurts all alike.
const (
	rounds    = 3
	roundTime = 3 * time.Second
	bareTime  = time.Second
)

// signatures is how many an issuer must verify of strangers for one artifact: quote and request. The certification of a cnf
// key that it has seen before is known to it.
const signatures = 2

// The aims: of the rate of bare, and what the signer process may cost. That of the token is the token's.
const (
	aimIssuance = 0.40
	aimApart    = 0.15
)

// figure is what one kind of work gave in all rounds.
type figure struct {
	sample
	rates []float64 // by round
	cpus  []float64 // by round: seconds of CPU for one
}

func (f *figure) add(s sample) {
	f.sample.add(s)
	f.rates = append(f.rates, s.perSecond())
	f.cpus = append(f.cpus, s.cpuEach().Seconds())
}

func (f *figure) rate() float64 { return median(f.rates) }

func (f *figure) cpu() float64 { return median(f.cpus) }

// level is what one number of clients gave.
type level struct {
	clients, requests int
	places            []place // where the keys are used
	issued            [places]figure
	hosts             time.Duration // CPU
	signed            int64         // signatures of the token
	commits           int64         // of them tree heads: one for each durable commit
	bare, all, raw    figure
}

const issuanceText = `
Issuance, end to end: a host on its TLS 1.3 connection over loopback has a challenge, signs a quote in
software, and gets an artifact with its receipt and the next challenge; durable SQLite log, keys on %s. Times are the host's.
%s
Beside it, in turn and on the issuer's cores, by as many callers:
  bare   one quote signature verified, one signature of the token and its check, one durable commit shared by those who wait
  bare2  the same with both signatures verified that an issuer must: of quote and request. Hosts keep their cnf keys, whose
         certification is verified once
  token  one signature of the token, not checked: C_SignInit and C_Sign
Each artifact is compared with them by rate, and by CPU time for one.

%7s %-22s %9s %9s %7s %8s   %-13s %-13s %-13s
%7s %-22s %9s %9s %7s %8s   %6s %6s %6s %6s %6s %6s
`

func issuance(ctx context.Context, s *site, h *hosts, b *bare, of choice) error {
	used, err := placesOf(of.keys)
	if err != nil {
		return err
	}
	layout := "The issuer and its signer process have one core, the hosts have the others."
	if isDevice(s.kind) {
		layout = "The token's processes are kept to the last core; issuer, signer process and, with the lowest priority, hosts may use every core."
	}
	fmt.Printf(issuanceText, s.kind, layout, "", "", "", "", "", "", "of bare", "of bare2", "of token",
		"clients", "", "p50 ms", "p99 ms", "per s", "CPU ms", "rate", "CPU", "rate", "CPU", "rate", "CPU")
	for _, n := range levels {
		if of.clients != 0 && of.clients != n.clients {
			continue
		}
		l := &level{clients: n.clients, requests: n.requests, places: used}
		if err := l.measure(ctx, s, h, b); err != nil {
			return err
		}
		l.print(s.token, isDevice(s.kind))
	}
	return nil
}

func (l *level) measure(ctx context.Context, s *site, h *hosts, b *bare) error {
	for range rounds {
		for _, work := range []struct {
			into *figure
			call func() error
		}{{&l.bare, func() error { return b.mint(1) }}, {&l.all, func() error { return b.mint(signatures) }}, {&l.raw, b.rawSign}} {
			var got sample
			var err error
			aside(func() { got, err = concurrently(l.clients, bareTime, func(int) error { return work.call() }) })
			if err != nil {
				return err
			}
			work.into.add(got)
		}
		for _, p := range l.places {
			if err := l.ask(ctx, s, h, p); err != nil {
				return err
			}
		}
	}
	return nil
}

// ask has the hosts ask for one round, and checks what they got.
func (l *level) ask(ctx context.Context, s *site, h *hosts, p place) error {
	s.token.at(p)
	defer s.token.at(inProcess)
	if _, err := h.order(order{Prepare: &prepareOrder{l.clients, l.requests}}); err != nil {
		return err
	}
	cpu := s.token.cpuTime()
	signed, commits := s.signatures()
	r, err := h.order(order{Run: &runOrder{roundTime}})
	if err != nil {
		return err
	}
	l.hosts += r.Sample.CPU
	r.Sample.CPU = s.token.cpuTime() - cpu
	all, heads := s.signatures()
	l.signed, l.commits = l.signed+all-signed, l.commits+heads-commits
	l.issued[p].add(r.Sample)
	return s.check(ctx, r.Artifacts)
}

// print writes a row for each kind of work, and beside its aim what has one: with the signer process, as writd serve works.
// Whether it is met is told by CPU, because of several processes each gets its share of a busy core, and the issuer with its
// signer process is two. Where the token is a device, its work shows in the rate alone.
func (l *level) print(t *token, device bool) {
	for _, p := range l.places {
		f := &l.issued[p]
		fmt.Print(l.row("issued, "+p.String(), f))
		for _, than := range []*figure{&l.bare, &l.all, &l.raw} {
			fmt.Printf(" %5.0f%% %5.0f%%", 100*f.rate()/than.rate(), 100*than.cpu()/f.cpu())
		}
		fmt.Println()
	}
	for _, f := range []struct {
		name string
		of   *figure
	}{{"bare", &l.bare}, {"bare2", &l.all}, {"token", &l.raw}} {
		fmt.Println(l.row(f.name, f.of))
	}
	direct, apart := &l.issued[inProcess], &l.issued[apart]
	n := float64(len(direct.Latencies) + len(apart.Latencies))
	fmt.Printf("%7s for one artifact: %.2f signatures, %.2f commits, %.3f ms of CPU of the hosts\n", "",
		float64(l.signed)/n, float64(l.commits)/n, 1000*l.hosts.Seconds()/n)
	if len(l.places) < int(places) {
		return
	}
	token := atLeast(l.raw.cpu()/apart.cpu(), t.aim) + " by CPU"
	if device {
		token = atLeast(apart.rate()/l.raw.rate(), t.aim) + " by rate"
	}
	fmt.Printf("%7s of bare %s by CPU; of token %s\n%7s the signer process costs %s of the artifacts per second; p50 %s more, CPU %s more\n", "",
		atLeast(l.bare.cpu()/apart.cpu(), aimIssuance), token, "", atMost(1-apart.rate()/direct.rate(), aimApart),
		decimals(apart.quantile(0.5).Seconds()/direct.quantile(0.5).Seconds()-1), decimals(apart.cpu()/direct.cpu()-1))
}

func (l *level) row(name string, f *figure) string {
	return fmt.Sprintf("%7d %-22s %9s %9s %7.0f %8.3f  ", l.clients, name, ms(f.quantile(0.5)), ms(f.quantile(0.99)), f.rate(), 1000*f.cpu())
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
