package main

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
	"github.com/governed-execution/writ/tlog"
	"github.com/governed-execution/writ/witness"
)

// How often a checkpoint is published, and the log read from end to end, unless the configuration says otherwise.
const (
	publishEvery = 5 * time.Second
	scrubEvery   = 6 * time.Hour
)

// witnessesConfig says who must cosign checkpoints.
type witnessesConfig struct {
	Threshold int             `toml:"threshold"` // distinct operators that must cosign; at least 1
	List      []witnessConfig `toml:"list"`
}

type witnessConfig struct {
	Operator string `toml:"operator"` // who runs it: several witnesses of one operator count once
	URL      string `toml:"url"`      // submission prefix
	Key      string `toml:"key"`      // verifier key, NAME+ID+KEY
}

// publisher starts publishing checkpoints, cosigned by the witnesses of the configuration.
func (c *config) publisher(ctx context.Context, s *service) (*witness.Publisher, error) {
	g := s.issuer.Genesis()
	o := witness.Options{Log: s.log, Origin: receipt.Origin(g.Log), Path: c.Log + ".checkpoint", Epoch: s.issuer.Epoch().Index}
	if c.Witnesses != nil {
		o.Threshold = c.Witnesses.Threshold
		for _, w := range c.Witnesses.List {
			key, err := receipt.ParseNoteKey(w.Key)
			if err != nil {
				return nil, fmt.Errorf("reading witnesses of %s: %w", w.Operator, err)
			}
			o.Witnesses = append(o.Witnesses, witness.Endpoint{Witness: receipt.Witness{Operator: w.Operator, Key: key}, URL: w.URL})
		}
		if o.Threshold < 1 {
			return nil, denial.New(denial.ThresholdNotMet, "witnesses.threshold is %d, and must be at least 1", o.Threshold)
		}
	}
	return witness.New(ctx, o)
}

// upkeep publishes checkpoints, watches health, scrubs the log and recomputes its rows, deletes old payloads and raises the counter in the TPM until ctx ends, and returns then.
func (c *config) upkeep(ctx context.Context, s *service, p *witness.Publisher, log *slog.Logger) {
	every := scrubEvery
	if c.ScrubHours > 0 {
		every = max(time.Duration(c.ScrubHours*float64(time.Hour)), time.Second)
	}
	scrub, publish, anchor := time.NewTicker(every), time.NewTicker(publishEvery), time.NewTicker(anchorEvery)
	defer scrub.Stop()
	defer publish.Stop()
	defer anchor.Stop()
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	var wg sync.WaitGroup
	wg.Go(func() {
		alarm(ctx, look.C, func() error { return healed(ctx, s.log, s.token.Healthy, s.healthy) }, log)
	})
	wg.Go(func() {
		s.recompute(ctx, log) // the rows may have been edited while nobody served
		s.log.ScrubOn(ctx, scrub.C, func(err error) {
			if err != nil {
				log.Error("the log is not as it must be", "error", err)
				return
			}
			log.Info("log scrubbed", "entries", s.log.Head().Size)
			if s.recompute(ctx, log) {
				c.purge(ctx, s, log)
			}
		})
	})
	for ctx.Err() == nil {
		select {
		case <-publish.C:
			if err := p.Publish(ctx); err != nil && ctx.Err() == nil {
				log.Error("no checkpoint published", "error", err)
			}
		case <-anchor.C:
			c.reanchor(ctx, s, log)
		case <-ctx.Done():
		}
	}
	wg.Wait()
}

// healed returns what healthy says. Where the token signs again, the heads that it did not sign are signed before: else the log would be said
// to be unhealthy until somebody asks for something, which nobody does of an issuer that is unhealthy.
func healed(ctx context.Context, log *tlog.Log, token, healthy func() error) error {
	if token() == nil && denial.Is(log.Healthy(), denial.HSMUnavailable) {
		if err := log.SignHeads(ctx); err != nil {
			return err
		}
	}
	return healthy()
}

// recompute compares the rows that decisions depend on with the entries. It reports whether they are as they must be.
func (s *service) recompute(ctx context.Context, log *slog.Logger) bool {
	err := s.issuer.Recompute(ctx)
	switch {
	case ctx.Err() != nil:
		return false
	case err != nil:
		log.Error("the rows of the log are not what its entries say", "error", err)
		return false
	}
	log.Info("rows recomputed from the entries", "entries", s.log.Head().Size)
	return true
}

// purge deletes the payloads that have come of age.
func (c *config) purge(ctx context.Context, s *service, log *slog.Logger) {
	if c.RetentionDays == 0 {
		return
	}
	before, err := s.issuer.Purge(ctx, time.Now().AddDate(0, 0, -c.RetentionDays))
	if err != nil {
		log.Error("payloads not deleted", "error", err)
		return
	}
	log.Info("payloads deleted", "before", before)
}

// reanchor raises the counter. If counter and log contradict each other, the log is stopped.
func (c *config) reanchor(ctx context.Context, s *service, log *slog.Logger) {
	err := c.anchor(ctx, s.log)
	if denial.Is(err, denial.StateRollback) || denial.Is(err, denial.LogInconsistent) {
		s.log.Stop()
	}
	if err != nil {
		log.Error("the log is not tied to the counter in the TPM", "error", err)
	}
}
