package hsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
)

// A lost token is back within 5 s (H10), so the longest delay between two attempts is well below that.
const (
	firstDelay   = 50 * time.Millisecond
	longestDelay = time.Second
)

var errBadSignature = errors.New("the token returned a signature that does not verify with the pinned key")

// isFault reports whether err says that the module or the token can no longer be relied on. Every return value but
// CKR_OK counts: building the connection again costs milliseconds, a list of the harmless ones costs trust.
func isFault(err error) bool {
	var ckr pkcs11.Error
	return errors.As(err, &ckr) || errors.Is(err, errBadSignature)
}

// unavailable returns err as a denial: itself if it is one, or else HSMUnavailable, with err for the operator only.
func unavailable(err error) error {
	var d *denial.Denial
	if err == nil || errors.As(err, &d) {
		return err
	}
	return fmt.Errorf("%w: %w", denial.New(denial.HSMUnavailable, "the token does not answer"), err)
}

// fail gives the connection up and waits until the first attempt to replace it has found out why it failed: a key
// that is gone or is another one is HSMKeyPolicy, everything else HSMUnavailable, also if the attempt succeeded.
func (t *Token) fail(ctx context.Context, c *conn, cause error) error {
	t.giveUp(c, cause)
	select {
	case <-c.diagnosed:
		if err := t.Healthy(); denial.Is(err, denial.HSMKeyPolicy) {
			return err
		}
	case <-ctx.Done():
	}
	return unavailable(cause)
}

// giveUp makes every further call answer HSMUnavailable and starts to heal. Only the first caller for a conn does so.
func (t *Token) giveUp(c *conn, cause error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.conn != c {
		return
	}
	t.conn, t.state = nil, unavailable(cause)
	close(c.lost)
	t.healing.Add(1)
	go t.heal(c)
}

// heal replaces a conn. It first waits for all calls that are in the module, as C_Finalize must not run beside them.
func (t *Token) heal(c *conn) {
	defer t.healing.Done()
	c.calls.Wait()
	t.disconnect()
	for delay := firstDelay; ; delay = min(2*delay, longestDelay) {
		fresh, err := t.connect(false)
		t.install(fresh, err)
		if c != nil {
			close(c.diagnosed)
			c = nil
		}
		if err == nil || t.latched {
			return
		}
		select {
		case <-time.After(delay):
		case <-t.closed:
			return
		}
	}
}

// install puts a new conn, or the reason why there is none, in place, unless the token was closed meanwhile.
func (t *Token) install(c *conn, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-t.closed:
	default:
		if t.conn, t.state = c, unavailable(err); c != nil {
			c.work()
		}
	}
}
