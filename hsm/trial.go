package hsm

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
)

// trialLabel is the label of a key that is made to be tried. No purpose has it, so that nothing finds the key by mistake.
const trialLabel = "writ-trial"

// Trial is what a token did with a key that was made to be tried, and destroyed again.
type Trial struct {
	Attributes map[string]string `json:"attributes"`        // as the token stated them of the new key
	Unfit      string            `json:"unfit,omitempty"`   // why such a key is refused
	Allowed    []string          `json:"allowed,omitempty"` // what the token should have refused and did not
	One        float64           `json:"per_second_one"`    // signatures a second, one after another
	All        float64           `json:"per_second_all"`    // and by as many callers as there are sessions
	Sessions   int               `json:"sessions"`
}

// Try makes a key, reads its attributes, has it sign for as long as told, twice, tries to change it, to copy it and to read its value,
// and destroys it. What is wrong with the key stands in the Trial; an error says that there was none.
func (t *Token) Try(ctx context.Context, each time.Duration) (trial Trial, err error) {
	var on *conn
	made, err := call(ctx, t, func(c *conn, _ pkcs11.SessionHandle) (k pair, err error) {
		on = c
		err = t.readWrite(c, func(rw pkcs11.SessionHandle) error {
			if err := t.discard(rw); err != nil {
				return err
			}
			if k, err = t.generate(rw, trialLabel); err != nil {
				return fmt.Errorf("making a key to try: %w", err)
			}
			a, err := t.attributes(rw, k, 0, c.info)
			trial.Attributes = a.Birth().Attributes
			if wrong := a.Check(); err == nil && wrong != nil {
				trial.Unfit = denial.Of(wrong).Detail
			}
			return err
		})
		return k, err
	})
	if err != nil {
		return trial, err
	}
	defer func() {
		_, gone := call(context.WithoutCancel(ctx), t, func(c *conn, _ pkcs11.SessionHandle) (struct{}, error) {
			return struct{}{}, t.readWrite(c, t.discard)
		})
		err = errors.Join(err, gone)
	}()
	trial.Sessions = len(on.sessions)
	if trial.One, err = t.rate(ctx, on, made, 1, each); err != nil {
		return trial, err
	}
	if trial.All, err = t.rate(ctx, on, made, trial.Sessions, each); err != nil {
		return trial, err
	}
	trial.Allowed, err = call(ctx, t, func(c *conn, _ pkcs11.SessionHandle) (allowed []string, err error) {
		if c != on {
			return nil, errReplaced
		}
		err = t.readWrite(c, func(rw pkcs11.SessionHandle) error {
			allowed = t.abuse(rw, made)
			return nil
		})
		return allowed, err
	})
	return trial, err
}

var errReplaced = denial.New(denial.HSMUnavailable, "the connection to the token was lost during the trial")

// readWrite runs f in a session that can change the token.
func (t *Token) readWrite(c *conn, f func(pkcs11.SessionHandle) error) error {
	rw, err := t.mod.OpenSession(c.slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("opening session: %w", err)
	}
	defer t.mod.CloseSession(rw)
	return f(rw)
}

// discard destroys every key that was made to be tried, also by a trial that did not come to its end.
func (t *Token) discard(rw pkcs11.SessionHandle) error {
	found, err := t.find(rw, pkcs11.NewAttribute(pkcs11.CKA_LABEL, trialLabel))
	for _, object := range found {
		if e := t.mod.DestroyObject(rw, object); err == nil && e != nil {
			err = fmt.Errorf("destroying the key that was tried: %w", e)
		}
	}
	return err
}

// rate returns how many signatures a second so many callers get. The first one of each is verified; to verify all would measure us.
func (t *Token) rate(ctx context.Context, on *conn, k pair, callers int, each time.Duration) (float64, error) {
	var n atomic.Int64
	var wg sync.WaitGroup
	faults := make([]error, callers)
	begun := time.Now()
	for i := range callers {
		wg.Go(func() {
			for first := true; time.Since(begun) < each && faults[i] == nil; first = false {
				_, faults[i] = call(ctx, t, func(c *conn, session pkcs11.SessionHandle) (struct{}, error) {
					if c != on {
						return struct{}{}, errReplaced
					}
					return struct{}{}, t.tryOnce(session, k, first)
				})
				n.Add(1)
			}
		})
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(begun).Seconds(), errors.Join(faults...)
}

func (t *Token) tryOnce(session pkcs11.SessionHandle, k pair, verify bool) error {
	digest := sha256.Sum256(fmt.Appendf(nil, "writ-self-test-v1 %s", rand.Text()))
	sig, err := t.rawSign(session, k.private, digest[:])
	if err == nil && verify && !verifies(k.key, digest[:], sig) {
		err = errBadSignature
	}
	return err
}

// abuse tries what a token must refuse with a key like ours, and names what it did not. That it refuses, with whatever value, is
// what is wanted, and no fault.
func (t *Token) abuse(rw pkcs11.SessionHandle, k pair) (allowed []string) {
	for _, a := range []struct {
		attribute uint
		value     bool
		what      string
	}{
		{pkcs11.CKA_EXTRACTABLE, true, "CKA_EXTRACTABLE is set"},
		{pkcs11.CKA_SENSITIVE, false, "CKA_SENSITIVE is cleared"},
		{pkcs11.CKA_DECRYPT, true, "CKA_DECRYPT is set"},
		{pkcs11.CKA_MODIFIABLE, true, "CKA_MODIFIABLE is set"},
	} {
		if t.mod.SetAttributeValue(rw, k.private, flags(a.value, a.attribute)) == nil {
			allowed = append(allowed, a.what)
		}
	}
	extractable := append(flags(true, pkcs11.CKA_TOKEN, pkcs11.CKA_EXTRACTABLE), flags(false, pkcs11.CKA_SENSITIVE)...)
	if copied, err := t.mod.CopyObject(rw, k.private, extractable); err == nil {
		allowed = append(allowed, "the key is copied as extractable")
		_ = t.mod.DestroyObject(rw, copied)
	}
	value, err := t.mod.GetAttributeValue(rw, k.private, []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
	if err == nil && len(value) == 1 && len(value[0].Value) > 0 {
		clear(value[0].Value)
		allowed = append(allowed, "the private value is read")
	}
	return allowed
}
