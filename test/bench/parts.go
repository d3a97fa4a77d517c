package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/governed-execution/writ/artifact"
	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/decision"
	"github.com/governed-execution/writ/hsm"
	"github.com/governed-execution/writ/record"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/tlog"
)

// part is something that is measured beside the bare work inside it.
type part struct {
	name, against string
	callers       int
	subject, bare func() error
	aim           float64 // greatest multiple of bare; zero: none is set
}

// Subject and bare work alternate in short turns, so that other work on the machine hurts both alike.
const (
	turns    = 15
	turnTime = 60 * time.Millisecond
)

func parts(ctx context.Context, s *site, h *hosts, b *bare) error {
	var all []part
	for _, f := range []func(context.Context, *site, *bare) ([]part, error){evidenceParts, quoteParts, statementParts, logParts} {
		some, err := f(ctx, s, b)
		if err != nil {
			return err
		}
		all = append(all, some...)
	}
	last, err := artifactPart(ctx, s, h, b)
	if err != nil {
		return err
	}
	fmt.Printf("\nThe parts, each in turn with the bare work inside it. Multiples are of the medians; with several callers, of the rates.\n\n"+
		"%-38s %8s %9s %9s %9s   %-52s %9s %9s   %s\n", "part", "callers", "p50 ms", "p99 ms", "per s", "bare work", "p50 ms", "per s", "multiple")
	for _, p := range append(all, last) {
		if err := p.measure(); err != nil {
			return fmt.Errorf("%s: %w", p.name, err)
		}
	}
	return nil
}

// measure prints the line of a part.
func (p part) measure() error {
	var subject, bare sample
	for range turns {
		for _, turn := range []struct {
			into *sample
			call func() error
		}{{&subject, p.subject}, {&bare, p.bare}} {
			got, err := concurrently(p.callers, turnTime, func(int) error { return turn.call() })
			if err != nil {
				return err
			}
			turn.into.add(got)
		}
	}
	multiple := subject.quantile(0.5).Seconds() / bare.quantile(0.5).Seconds()
	if p.callers > 1 {
		multiple = bare.perSecond() / subject.perSecond()
	}
	aim := decimals(multiple)
	if p.aim > 0 {
		aim = atMost(multiple, p.aim)
	}
	fmt.Printf("%-38s %8d %9s %9s %9.0f   %-52s %9s %9.0f   %s\n", p.name, p.callers, ms(subject.quantile(0.5)), ms(subject.quantile(0.99)),
		subject.perSecond(), p.against, ms(bare.quantile(0.5)), bare.perSecond(), aim)
	return nil
}

func evidenceParts(ctx context.Context, s *site, b *bare) ([]part, error) {
	facts, e, err := exampleFacts()
	if err != nil {
		return nil, err
	}
	in, err := s.input(ctx, facts)
	if err != nil {
		return nil, err
	}
	decide := func() error {
		if _, err := decision.Decide(in, s.ap, s.az).Permit(); err != nil {
			return err
		}
		return nil
	}
	return []part{
		{name: "evidence decoded and verified", callers: 1, against: "its 2 signatures (quote, certification) verified",
			subject: func() error { _, err := e.verify(); return err }, bare: func() error { return b.verify(2) }},
		{name: "decision", callers: 1, against: "its input encoded once", subject: decide,
			bare: func() error { _, err := in.Encode(); return err }},
	}, nil
}

// input is a decision input that leads to a permit.
func (s *site) input(ctx context.Context, facts *attest.Facts) (*decision.Input, error) {
	robot, err := newPerson()
	if err != nil {
		return nil, err
	}
	cnf, _, _ := facts.CNF()
	asker := &host{id: hostURI(0), robot: robot, cnf: cnf.Thumbprint()}
	raw, err := asker.request(ctx)
	if err != nil {
		return nil, err
	}
	unverified, err := artifact.DecodeRequest(raw)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	request, err := artifact.VerifyRequest(unverified, robot.Key(), now)
	if err != nil {
		return nil, err
	}
	ap, az, key := s.ap.Hash(), s.az.Hash(), robot.Key().Thumbprint()
	in := &decision.Input{Issuer: issuerURI, Time: uint64(now.Unix()), Challenged: uint64(now.Unix()), Challenge: random(32), Exporter: random(32),
		ID: random(16), Revoked: []uint64{}, StatusURI: s.issuer.StatusURI(0),
		Host:          decision.Host{ID: asker.id, Labels: map[string]string{"env": "bench"}, AK: random(32), EK: random(32), Enrolment: random(32)},
		Initiator:     decision.Initiator{ID: robotURI, Kind: uint64(record.Service), Key: key[:], Enrolment: random(32)},
		Appraisal:     decision.Policy{ID: s.ap.ID(), Version: s.ap.Version(), Hash: ap[:]},
		Authorization: decision.Policy{ID: s.az.ID(), Version: s.az.Version(), Hash: az[:]}}
	in.Attach(facts, request)
	return in, nil
}

func statementParts(ctx context.Context, s *site, b *bare) ([]part, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	soft, err := statement.NewSigner(key)
	if err != nil {
		return nil, err
	}
	payload, err := statement.Marshal(random(leafSize))
	if err != nil {
		return nil, err
	}
	sign := func(s statement.Signer, k statement.Kind) ([]byte, error) {
		return statement.Sign(ctx, s, k, statement.Claims{Issuer: issuerURI, Subject: logURI}, payload)
	}
	leaf, err := sign(soft, statement.Artifact)
	if err != nil {
		return nil, err
	}
	var keys statement.Keys
	if err := keys.Add(soft.Key(), statement.Artifact); err != nil {
		return nil, err
	}
	verify := func() error {
		env, err := statement.Decode(leaf, statement.MaxStatement)
		if err != nil {
			return err
		}
		_, err = env.Verify(keys, statement.Artifact)
		return err
	}
	return []part{
		{name: "statement signed, software key", callers: 1, against: "1 ECDSA signature and its check",
			subject: func() error { _, err := sign(soft, statement.Artifact); return err }, bare: func() error { return softSign(key) }},
		{name: "statement signed, SoftHSM", callers: 1, against: "1 signature of the token and its check",
			subject: func() error { _, err := sign(s.signers[hsm.Artifact], statement.Artifact); return err }, bare: b.sign},
		{name: "statement verified", callers: 1, against: "1 ECDSA signature verified", subject: verify,
			bare: func() error { return b.verify(1) }},
	}, nil
}

// logParts appends to a log of its own, for callers who wait for their receipts.
func logParts(ctx context.Context, s *site, b *bare) ([]part, error) {
	log, err := s.openLog(ctx, "parts.db")
	if err != nil {
		return nil, err
	}
	s.others = append(s.others, log)
	if _, err := log.Append(ctx, tlog.Entry{Leaf: []byte("genesis")}); err != nil {
		return nil, err
	}
	var n atomic.Uint64
	one := func() error {
		key := fmt.Appendf(nil, "request %d", n.Add(1))
		_, err := log.Append(ctx, tlog.Entry{Leaf: random(leafSize), Once: []tlog.Once{{Set: "request", Key: key}},
			Guards: []tlog.Guard{{Counter: "policy"}}, Puts: []tlog.Put{{Bucket: "permit", Key: key, Value: key}}})
		return err
	}
	var all []part
	for _, callers := range []int{1, 8, 64} {
		all = append(all, part{name: "log entry appended, with its receipt", callers: callers, against: "1 durable commit, 1 signature of the token; both shared",
			subject: one, bare: func() error { return b.commit(true) }})
	}
	return all, nil
}

// artifactPart verifies an artifact that the issuer has just made.
func artifactPart(ctx context.Context, s *site, h *hosts, b *bare) (part, error) {
	if _, err := h.order(order{Prepare: &prepareOrder{1, 1}}); err != nil {
		return part{}, err
	}
	r, err := h.order(order{Run: &runOrder{time.Second}})
	if err != nil {
		return part{}, err
	}
	want, err := s.want(ctx)
	if err != nil {
		return part{}, err
	}
	return part{name: "artifact and receipt verified", callers: 1, against: "their 2 ECDSA signatures verified", aim: 1.2,
		subject: func() error { _, err := artifact.Verify(r.Artifacts[0], want); return err },
		bare:    func() error { return b.verify(2) }}, nil
}
