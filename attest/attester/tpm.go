// Package attester is the host's side of attestation: it drives a TPM. It finds the endorsement key (EK), makes the
// attestation key (AK), quotes PCRs, and makes and uses the confirmation (cnf) key and the gate key. It trusts nothing
// to the host's good will: what it sends is judged by package attest, and what a cnf key may sign is judged by the TPM.
//
// No handle outlives a method. A TPM without a resource manager (swtpm, /dev/tpm0) has three slots for keys,
// and no method needs more.
package attester

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// openTimeout bounds Open where the context has no deadline.
const openTimeout = 10 * time.Second

// TPM is one TPM 2.0. It is safe for concurrent use; methods run one after the other.
type TPM struct {
	turn chan struct{} // holds one token while nobody uses the link
	link *link
}

// Open connects to a TPM: a device (/dev/tpmrm0, /dev/tpm0) or the Unix socket of swtpm. The caller must Close it.
// swtpm serves one client at a time and leaves a second one waiting, so the first command has a deadline: that of ctx,
// or ten seconds.
func Open(ctx context.Context, path string) (*TPM, error) {
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	t := &TPM{turn: make(chan struct{}, 1), link: &link{path: path}}
	t.turn <- struct{}{}
	if err := t.use(ctx, func(*call) error { return nil }); err != nil {
		_ = t.link.close()
		return nil, fmt.Errorf("opening TPM: %w", err)
	}
	return t, nil
}

// Close ends the connection. Keys and sessions that an interrupted method left in a TPM on a socket are flushed.
func (t *TPM) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), cleanupTimeout)
	defer cancel()
	return t.use(ctx, func(c *call) error {
		err := c.flushAll()
		t.link.path = ""
		return errors.Join(err, t.link.close())
	})
}

// use gives f the TPM for itself. It connects first where the last command was interrupted.
func (t *TPM) use(ctx context.Context, f func(*call) error) error {
	select {
	case <-t.turn:
		defer func() { t.turn <- struct{}{} }()
	case <-ctx.Done():
		return fmt.Errorf("waiting for TPM: %w", context.Cause(ctx))
	}
	c := &call{ctx: ctx, link: t.link}
	if !t.link.connected() {
		if err := t.link.connect(ctx); err != nil {
			return err
		}
		if err := c.flushAll(); err != nil {
			_ = t.link.close()
			return fmt.Errorf("sending the first command: %s: %w", oneClient, err)
		}
	}
	return f(c)
}

// call is the use of a TPM within one method. It implements go-tpm's transport.TPM under the method's context.
type call struct {
	ctx  context.Context
	link *link
}

var _ transport.TPM = (*call)(nil)

// Send sends one command. A TPM that asks to be asked again (TPM_RC_RETRY, YIELDED, TESTING) has not begun the
// command (TPM 2.0 Part 1, section 12.4.4); it is sent again for about four seconds.
func (c *call) Send(command []byte) ([]byte, error) {
	for wait := time.Millisecond; ; wait *= 2 {
		response, err := c.link.exchange(c.ctx, command)
		if err != nil || !busy(response) || wait > 2*time.Second {
			return response, err
		}
		select {
		case <-time.After(wait):
		case <-c.ctx.Done():
			return nil, fmt.Errorf("waiting for a busy TPM: %w", context.Cause(c.ctx))
		}
	}
}

// flush removes a key or session from the TPM, also where the method's context has ended. If that fails, the
// connection ends and the next one starts by flushing everything.
func (c *call) flush(handle tpm2.TPMHandle) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.ctx), cleanupTimeout)
	defer cancel()
	if _, err := (tpm2.FlushContext{FlushHandle: handle}).Execute(&call{ctx: ctx, link: c.link}); err != nil {
		_ = c.link.close()
	}
}

// flushAll removes every transient object and session from a TPM on a socket, which has this one client: they can only
// be left over from an interrupted method. Those of a device may be the kernel's or another program's; there the
// resource manager removes what this client leaves.
func (c *call) flushAll() error {
	for _, class := range []tpm2.TPMHT{tpm2.TPMHTTransient, tpm2.TPMHTHMACSession, tpm2.TPMHTPolicySession} {
		handles, err := c.handles(class)
		if err != nil {
			return err
		}
		if c.link.device {
			continue
		}
		for _, h := range handles {
			if _, err := (tpm2.FlushContext{FlushHandle: h}).Execute(c); err != nil {
				return fmt.Errorf("flushing handle %#x: %w", uint32(h), err)
			}
		}
	}
	return nil
}

// handles lists the handles of one class.
func (c *call) handles(class tpm2.TPMHT) ([]tpm2.TPMHandle, error) {
	r, err := tpm2.GetCapability{
		Capability: tpm2.TPMCapHandles, Property: uint32(class) << 24, PropertyCount: 64,
	}.Execute(c)
	if err != nil {
		return nil, fmt.Errorf("listing handles: %w", err)
	}
	list, err := r.CapabilityData.Data.Handles()
	if err != nil {
		return nil, fmt.Errorf("listing handles: %w", err)
	}
	return list.Handle, nil
}
