package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/issuer"
	"github.com/governed-execution/writ/issuer/client"
	"github.com/governed-execution/writ/issuer/wire"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/softtpm"
	"github.com/governed-execution/writ/test/stock"
)

// permit has a machine ask, and verifies what it gets.
func (s *soak) permit(m *machine) error {
	if m.unchecked == nil {
		begun := time.Now()
		raw, err := m.ask(s.Context())
		if err != nil {
			return err
		}
		if err := s.note(raw, time.Since(begun)); err != nil {
			return err
		}
		m.unchecked = raw
	}
	if _, err := s.check(m.unchecked); err != nil {
		return err // with the signer process away there may be no status list: the next turn goes on
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.recent = append(s.recent, m.unchecked)
	s.recent = s.recent[max(0, len(s.recent)-20):]
	m.unchecked = nil
	return nil
}

// wants returns nil if err is a denial with the reason, and else an error.
func wants(err error, want denial.Reason) error {
	switch {
	case err == nil:
		return fmt.Errorf("got no refusal, want %d %s", want.Code(), want)
	case denial.Is(err, want):
		return nil
	}
	return fmt.Errorf("got %w, want %d %s", err, want.Code(), want)
}

// gate is a machine whose gate tells what it runs.
type gate struct {
	*machine
	soak     *soak
	epoch    []byte
	next     uint64
	previous []byte
}

func (s *soak) newGate() *gate {
	s.Helper()
	return &gate{machine: s.enrolGate("spiffe://example/host/gate", liveGate), soak: s, epoch: stock.Random(16)}
}

// execution is one: an artifact, its start, the same start once more (504), its end, and a record that does not follow (508).
func (g *gate) execution() error {
	raw, err := g.ask(g.soak.Context())
	if err != nil {
		return err
	}
	if err := g.soak.note(raw, 0); err != nil {
		return err
	}
	c, digest, err := artifact.Inspect(raw)
	if err != nil {
		return err
	}
	r := record.Record{Event: record.EventStart, CTI: c.ID, Artifact: digest[:], Initiator: c.Initiator.Principal,
		Policy: &record.PolicyRef{ID: c.Policy.ID, Hash: c.Policy.Hash.Value}, Execution: &record.Execution{ID: c.Execution.ID, Use: 1, Code: liveCode[:]}}
	start, err := g.tell(r)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	_, err = g.tell(r)
	if err := wants(err, denial.ArtifactReplayed); err != nil {
		return fmt.Errorf("start twice: %w", err)
	}
	r.Event, r.Execution.Start = record.EventEnd, start
	if _, err := g.tell(r); err != nil {
		return fmt.Errorf("end: %w", err)
	}
	was := g.previous
	g.previous = stock.Random(32)
	_, err = g.tell(r)
	g.previous = was
	return wants(err, denial.StateRollback)
}

// tell sends a record until it is answered, and returns its digest. A gate sends the very same record again when it does not hear.
func (g *gate) tell(r record.Record) ([]byte, error) {
	r.Version, r.Time, r.Workload = record.Version, uint64(time.Now().Unix()), g.uri
	r.Emitter, r.Previous = record.Emitter{URI: liveGate, Epoch: g.epoch, Seq: g.next}, g.previous
	leaf, err := r.Sign(g.soak.Context(), g.machine.gate, liveGate)
	if err != nil {
		return nil, err
	}
	for {
		before := g.soak.signer.Load()
		_, err := g.soak.client.Record(g.soak.Context(), leaf)
		if g.soak.excused(before, err) {
			<-time.After(g.soak.pace / 10) // as a gate that is told to come again later
			continue
		}
		if err != nil {
			return nil, err
		}
		digest := statement.DigestOf(leaf)
		g.next, g.previous = g.next+1, digest[:]
		return digest[:], nil
	}
}

// refused is a machine that asks for what it must not get, one kind after another.
type refused struct {
	*machine
	soak *soak
	boot *bootlog.Boot // other than what the policy names
	turn int
}

// kind is a kind of what is refused: because of a request or its evidence, or of anything else that is done on a connection.
type kind struct {
	name     string
	spoil    spoil
	other    func(context.Context, *client.Session, *wire.Challenge) error
	reason   denial.Reason
	stranger bool // who is told no more than the condition of the reason
}

func (r *refused) kinds() []kind {
	claims := func(f func(*artifact.RequestClaims)) spoil { return spoil{claims: f} }
	return []kind{
		{name: "expired request", spoil: claims(func(c *artifact.RequestClaims) { c.IssuedAt, c.Expires = c.IssuedAt-200, c.IssuedAt-100 }), reason: denial.Expired},
		{name: "another audience", spoil: claims(func(c *artifact.RequestClaims) { c.Audience = "https://gate.example/none" }), reason: denial.AudienceMismatch},
		{name: "another target", spoil: claims(func(c *artifact.RequestClaims) { c.Scope[0].Target += "2" }), reason: denial.ScopeDenied},
		{name: "another host", spoil: claims(func(c *artifact.RequestClaims) { c.Host = "spiffe://example/host/0" }), reason: denial.HostMismatch},
		{name: "another cnf key", spoil: claims(func(c *artifact.RequestClaims) { c.Confirmation.Key = stock.Random(32) }), reason: denial.KeyBinding},
		{name: "signature of the quote", spoil: spoil{parts: func(e *softtpm.Evidence) { e.Signature[len(e.Signature)-1] ^= 1 }}, reason: denial.QuoteSignature},
		{name: "quote of another connection", spoil: spoil{want: func(w *attest.Want) { w.Exporter[0] ^= 1 }}, reason: denial.ChannelBinding},
		{name: "another boot", spoil: spoil{boot: r.boot}, reason: denial.PCRNotAllowed},
		{name: "log of another boot", spoil: spoil{parts: func(e *softtpm.Evidence) { e.BootLog = r.boot.Log }}, reason: denial.LogReplayMismatch},
		{name: "challenge of another connection", other: r.elsewhere, reason: denial.ChallengeUnknown},
		{name: "request twice", other: r.twice, reason: denial.RequestReplayed},
		{name: "noise", other: r.noise, reason: denial.WrongType, stranger: true},
		{name: "a challenge too many", other: r.hoard, reason: denial.Overloaded, stranger: true},
	}
}

// next is the next kind, on a connection of its own: many leave their challenge unanswered, and no connection has more than four.
func (r *refused) next() error {
	s, kinds := r.soak, r.kinds()
	k := kinds[r.turn%len(kinds)]
	return s.try(k.name, func() error {
		session, err := s.client.Dial(s.Context())
		if err != nil {
			return err
		}
		defer session.Close()
		ch, err := session.Challenge(s.Context())
		if err != nil {
			return err
		}
		if err := r.ask(s.Context(), session, ch, k); err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		r.turn++
		return nil
	})
}

func (r *refused) ask(ctx context.Context, s *client.Session, ch *wire.Challenge, k kind) (err error) {
	if k.other != nil {
		err = k.other(ctx, s, ch)
	} else {
		_, err = r.answerWrongly(ctx, s, ch, k.spoil)
	}
	var told *client.RefusedError
	switch {
	case err == nil || !k.stranger:
		return wants(err, k.reason)
	case !errors.As(err, &told) || told.Problem.Details != nil || told.Problem.Condition != k.reason.Condition().String():
		return fmt.Errorf("got %w, want a refusal that tells a stranger its condition", err)
	}
	return nil
}

// elsewhere answers a challenge on another connection than its own.
func (r *refused) elsewhere(ctx context.Context, _ *client.Session, ch *wire.Challenge) error {
	other, err := r.live.client.Dial(ctx)
	if err != nil {
		return err
	}
	defer other.Close()
	_, err = r.answer(ctx, other, ch)
	return err
}

// twice has a request permitted, and sends it with fresh evidence once more.
func (r *refused) twice(ctx context.Context, s *client.Session, ch *wire.Challenge) error {
	var same []byte
	keep := spoil{request: func(raw []byte) []byte {
		if same == nil {
			same = raw
		}
		return same
	}}
	raw, err := r.answerWrongly(ctx, s, ch, keep)
	if err != nil {
		return err
	}
	if err := r.soak.note(raw, 0); err != nil {
		return err
	}
	if ch, err = s.Challenge(ctx); err != nil {
		return err
	}
	_, err = r.answerWrongly(ctx, s, ch, keep)
	return err
}

// noise is what a stranger sends.
func (r *refused) noise(ctx context.Context, s *client.Session, _ *wire.Challenge) error {
	_, err := s.Mint(ctx, stock.Random(100), stock.Random(1000))
	return err
}

// hoard asks for a challenge more than a connection may have.
func (r *refused) hoard(ctx context.Context, s *client.Session, _ *wire.Challenge) error {
	for range issuer.MaxChallenges - 1 {
		if _, err := s.Challenge(ctx); err != nil {
			return fmt.Errorf("too early: %w", err)
		}
	}
	_, err := s.Challenge(ctx)
	return err
}

// breakOff opens connections and leaves them in the middle of things: before TLS, in its first message, in a request, and with an answer under way.
func (s *soak) breakOff() error {
	address := strings.TrimPrefix(s.url, "https://")
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(s.path("tls.pem"))
	if err != nil {
		return err
	}
	roots.AppendCertsFromPEM(pem)
	for _, send := range []string{"", "\x16\x03\x01\x02\x00\x01"} {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		if _, err := io.WriteString(conn, send); err != nil {
			return err
		}
		conn.Close()
	}
	const challenge = "POST /v1/challenges HTTP/1.1\r\nHost: issuer\r\nContent-Length: 0\r\n\r\n"
	for _, send := range []string{challenge[:30], challenge, "POST /v1/artifacts HTTP/1.1\r\nHost: issuer\r\nContent-Type: " + wire.MediaMint + "\r\nContent-Length: 60000\r\n\r\n" + strings.Repeat("a", 30000)} {
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots})
		if err != nil {
			return err
		}
		if _, err := io.WriteString(conn, send); err != nil {
			return err
		}
		if err := conn.NetConn().(*net.TCPConn).SetLinger(0); err != nil { // a reset, not an end
			return err
		}
		conn.NetConn().Close()
	}
	return nil
}

// operator is who keeps the issuer running, and the authorities.
type operator struct {
	*soak
	*machine
	policies int // published so far
	purposes int // keys replaced so far
	others   int // hosts and initiators admitted so far
}

// duty is something that the operator does, again after every at the earliest.
type duty struct {
	name  string
	every time.Duration
	do    func() error
}

// duties are all of them. What costs more the longer the log is, or makes the history of keys longer, is done some dozen times in all.
func (o *operator) duties() []duty {
	seldom := o.length / 24
	return []duty{
		{"artifact revoked", 0, o.revokeArtifact},
		{"policy published", 0, o.publish},
		{"initiator revoked", 0, o.revokeInitiator},
		{"host revoked", seldom, o.revokeHost},
		{"bundle pulled", 0, o.pull},
		{"signer process killed", o.untilKill(), o.kill},
		{"key replaced", seldom, o.rotate},
		{"backup", seldom, o.backUp},
		{"fsck", seldom, func() error { o.soak.must("fsck"); return nil }},
	}
}

// untilKill is for how long a signer process lives: some die in the first sixth of the soak, and one lives almost to its end, so that what it
// holds can be seen to grow.
func (o *operator) untilKill() time.Duration {
	if time.Since(o.begun) < o.length/6 {
		return o.length / 20
	}
	return o.length * 3 / 4
}

func (o *operator) revoke(cause record.Cause, target string) error {
	return o.apply(statement.Revocation, record.Revocation{Version: record.Version, Cause: cause, Target: target, Time: uint64(time.Now().Unix()), Why: "a soak", Nonce: stock.Random(16)})
}

func (o *operator) revokeArtifact() error {
	raw, err := o.ask(o.Context())
	if err != nil {
		return err
	}
	if err := o.note(raw, 0); err != nil {
		return err
	}
	a, err := o.check(raw)
	if err != nil {
		return err
	}
	if err := o.revoke(record.CauseArtifact, fmt.Sprintf("%x", a.Claims().ID)); err != nil {
		return err
	}
	_, err = o.check(raw)
	return wants(err, denial.ArtifactRevoked)
}

// publish puts another version of a policy in force, of both in turn.
func (o *operator) publish() error {
	text := o.appraisal()
	if o.policies%2 == 1 {
		text = o.authorization()
	}
	o.policies++
	return o.putInForce(strings.Replace(text, "version = 1\n", fmt.Sprintf("version = %d\n", 1+(o.policies+1)/2), 1))
}

func (o *operator) revokeInitiator() error {
	o.others++
	id, key := fmt.Sprintf("spiffe://example/initiator/%d", o.others), stock.Signer(o)
	e := record.Enrolment{Version: record.Version, ID: id, Time: uint64(time.Now().Unix()), Nonce: stock.Random(16), Initiator: &record.Initiator{Kind: record.Service, Key: key.Key()}}
	if err := o.apply(statement.Enrolment, e); err != nil {
		return err
	}
	s := spoil{by: key, claims: func(c *artifact.RequestClaims) { c.Initiator = id }}
	if err := o.asksAs(s, denial.InitiatorDenied); err != nil {
		return err
	}
	if err := o.revoke(record.CauseInitiator, id); err != nil {
		return err
	}
	return o.asksAs(s, denial.InitiatorRevoked)
}

func (o *operator) asksAs(s spoil, want denial.Reason) error {
	session, err := o.client.Dial(o.Context())
	if err != nil {
		return err
	}
	defer session.Close()
	ch, err := session.Challenge(o.Context())
	if err != nil {
		return err
	}
	_, err = o.answerWrongly(o.Context(), session, ch, s)
	return wants(err, want)
}

func (o *operator) revokeHost() error {
	o.others++
	m := o.enrol(fmt.Sprintf("spiffe://example/host/other%d", o.others))
	defer m.close()
	raw, err := m.ask(o.Context())
	if err != nil {
		return err
	}
	if err := o.note(raw, 0); err != nil {
		return err
	}
	if _, err := o.check(raw); err != nil {
		return err
	}
	if err := o.revoke(record.CauseHost, m.uri); err != nil {
		return err
	}
	_, err = m.ask(o.Context())
	return wants(err, denial.HostRevoked)
}

// pull pulls the end of the log as a bundle, and has it verified.
func (o *operator) pull() error {
	size := uint64(o.vitals().entries)
	file := o.path("part.tar")
	o.run("audit", "pull", "--admin", o.path("admin.sock"), "--from", fmt.Sprint(size-min(size-1, 200)), "--out", file)
	o.run("audit", "verify", file, "--trust", o.path("trust.toml"))
	return os.Remove(file)
}

// kill kills the signer process, and waits until another one signs.
func (o *operator) kill() error {
	old := o.signers()
	if len(old) != 1 {
		return fmt.Errorf("got signer processes %v, want one", old)
	}
	o.signer.Add(1)
	defer o.signer.Add(1)
	p, err := os.FindProcess(old[0])
	if err != nil {
		return err
	}
	if err := p.Kill(); err != nil {
		return err
	}
	within(o, "another signer process serves", func() bool { now := o.signers(); return len(now) == 1 && now[0] != old[0] })
	within(o, "artifacts are minted again", func() bool {
		raw, err := o.ask(o.Context())
		if err == nil {
			err = o.note(raw, 0)
		}
		if err != nil && !denial.Is(err, denial.HSMUnavailable) {
			o.Fatalf("got %v", err)
		}
		return err == nil
	})
	return nil
}

// rotate replaces a key, of each purpose in turn.
func (o *operator) rotate() error {
	all := record.Purposes()
	o.change("rotate", all[o.purposes%len(all)])
	o.purposes++
	return nil
}

func (o *operator) backUp() error {
	dir := o.path("backup")
	if out := o.soak.must("backup", dir); !strings.Contains(out, "and checked") {
		return fmt.Errorf("got %s", out)
	}
	return os.RemoveAll(dir)
}
