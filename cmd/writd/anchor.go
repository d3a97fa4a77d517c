package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/governed-execution/writ/attest/attester"
	"github.com/governed-execution/writ/tlog"
)

// anchorEvery is how often the counter in the TPM is raised: NV memory wears out.
const anchorEvery = time.Hour

// defaultCounter is an NV index of those that owners may use.
const defaultCounter = 0x01805752

// anchor compares the log with the counter in the TPM and raises that, if the configuration names a TPM.
func (c *config) anchor(ctx context.Context, log *tlog.Log) error {
	if c.TPM == "" {
		return nil
	}
	return c.counting(ctx, func(n tlog.Counter) error { return log.Anchor(ctx, n) })
}

// counting calls f with the counter in the TPM of the configuration. The TPM is not kept open: others use it too.
func (c *config) counting(ctx context.Context, f func(tlog.Counter) error) (err error) {
	tpm, err := attester.Open(ctx, c.TPM)
	if err != nil {
		return fmt.Errorf("opening the TPM of the issuer: %w", err)
	}
	defer func() { err = errors.Join(err, tpm.Close()) }()
	index := c.TPMCounter
	if index == 0 {
		index = defaultCounter
	}
	return f(tpm.Counter(index))
}
