package hsm

import (
	"errors"
	"fmt"
	"sync"
	"unsafe"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// Info describes a module and a token, in their own words.
type Info struct {
	Module       string       `json:"module"`  // path of the library
	Library      string       `json:"library"` // manufacturer, description and version of the library
	Label        string       `json:"label"`
	Serial       string       `json:"serial"`
	Manufacturer string       `json:"manufacturer"`
	Model        string       `json:"model"`
	Validations  []Validation `json:"validations,omitempty"` // examinations of the module by others, read with the keys
}

// Info returns what the module and the token say of themselves.
func (t *Token) Info() (Info, error) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if t.conn == nil {
		return Info{}, t.state
	}
	return t.conn.info, nil
}

// connect builds a connection from nothing. In this order: initialize the module, which must not be in use in this
// process (H01); find the token; look at its PIN counters; log in; open the sessions; audit the token and find, check
// and try every key that a Signer was made for. Whatever fails, the module is finalized again.
func (t *Token) connect(first bool) (c *conn, err error) {
	switch err := t.initialize(); {
	case errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED)):
		return nil, denial.New(denial.HSMUnavailable, "the module is in use in this process already")
	case err != nil:
		return nil, unavailable(fmt.Errorf("initializing module: %w", err))
	}
	defer func() {
		if err != nil {
			err = unavailable(err)
			t.disconnect()
		}
	}()
	c = &conn{
		handles: map[statement.Thumbprint]pkcs11.ObjectHandle{},
		jobs:    make(chan func(pkcs11.SessionHandle)), headJobs: make(chan func(pkcs11.SessionHandle)),
		lost: make(chan struct{}), diagnosed: make(chan struct{}),
	}
	info, err := t.findToken(c)
	if err != nil {
		return nil, err
	}
	if err := t.checkPINCounters(info.Flags, first); err != nil {
		return nil, err
	}
	if c.keeper, err = t.mod.OpenSession(c.slot, pkcs11.CKF_SERIAL_SESSION); err != nil {
		return nil, fmt.Errorf("opening session: %w", err)
	}
	if err := t.login(c.keeper); err != nil {
		return nil, err
	}
	if err := t.openSessions(c); err != nil {
		return nil, err
	}
	return c, t.bindPinned(c)
}

// process orders what PKCS#11 makes global to a process: C_Initialize must not run beside a C_Finalize, such as the
// one of a Token that is still closing. SoftHSM then ends the process.
var process sync.Mutex

func (t *Token) initialize() error {
	process.Lock()
	defer process.Unlock()
	t.finalize() // a C_Finalize that went wrong before
	err := t.mod.Initialize()
	// A module that reports a fault may be initialized all the same. If it is in use already, it is not ours to end.
	t.initialized = !errors.Is(err, pkcs11.Error(pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED))
	if err != nil {
		t.finalize()
	}
	return err
}

// disconnect finalizes the module, which ends all sessions and the login. The library stays loaded: unloading one
// that has threads or exit handlers of its own ends the process.
func (t *Token) disconnect() {
	process.Lock()
	defer process.Unlock()
	t.finalize()
}

// finalize ends the use of the module, if it was begun. If that goes wrong, whatever the module says of it, it is tried
// again before the next beginning.
func (t *Token) finalize() {
	if t.initialized {
		t.initialized = t.mod.Finalize() != nil
	}
}

// findToken sets the slot and the description of the one token that is meant.
func (t *Token) findToken(c *conn) (pkcs11.TokenInfo, error) {
	slots, err := t.mod.GetSlotList(true)
	if err != nil {
		return pkcs11.TokenInfo{}, fmt.Errorf("listing slots: %w", err)
	}
	var found pkcs11.TokenInfo
	n := 0
	for _, slot := range slots {
		info, err := t.mod.GetTokenInfo(slot)
		if err != nil || !t.means(info) {
			continue // a broken token in another slot is not ours to judge
		}
		c.slot, found = slot, info
		n++
	}
	if n != 1 {
		return found, denial.New(denial.HSMUnavailable, "%d tokens have the configured label or serial number, want 1", n)
	}
	lib, err := t.mod.GetInfo()
	if err != nil {
		return found, fmt.Errorf("reading module information: %w", err)
	}
	t.serial = found.SerialNumber
	c.info = Info{
		Module:  t.cfg.Module,
		Library: fmt.Sprintf("%s, %s %d.%d", lib.ManufacturerID, lib.LibraryDescription, lib.LibraryVersion.Major, lib.LibraryVersion.Minor),
		Label:   found.Label, Serial: found.SerialNumber, Manufacturer: found.ManufacturerID, Model: found.Model,
	}
	return found, nil
}

func (t *Token) means(info pkcs11.TokenInfo) bool {
	if t.serial != "" && info.SerialNumber != t.serial {
		return false
	}
	return info.Label == t.cfg.Token || info.SerialNumber == t.cfg.Token
}

// ErrPIN is in the chain of every error that a person must mend before a login is tried again (H13).
var ErrPIN = errors.New("the PIN needs a person")

func needsPerson(why string) error {
	return fmt.Errorf("%w: %w", denial.New(denial.HSMUnavailable, "%s", why), ErrPIN)
}

// checkPINCounters refuses a login that could lock the token (H13). When healing, this process has logged in with
// this PIN before, so that somebody else's mistake does not count until the last try.
func (t *Token) checkPINCounters(flags uint, first bool) error {
	low := flags&pkcs11.CKF_USER_PIN_COUNT_LOW != 0 && first
	final := flags&pkcs11.CKF_USER_PIN_FINAL_TRY != 0
	switch {
	case flags&pkcs11.CKF_USER_PIN_LOCKED != 0:
		return needsPerson("the user PIN of the token is locked")
	case flags&pkcs11.CKF_USER_PIN_INITIALIZED == 0:
		return needsPerson("the token has no user PIN")
	case (low || final) && !(first && t.cfg.RetryPIN):
		return needsPerson("the last login with the user PIN failed; correct the PIN, then allow one more try")
	}
	return nil
}

// login logs in with the PIN, once: after the token has refused it, never again.
func (t *Token) login(session pkcs11.SessionHandle) error {
	pin, err := t.cfg.PIN()
	if err != nil {
		return err
	}
	defer clear(pin)
	// The string shares the slice's memory, so that there is no copy of the PIN that cannot be wiped.
	err = t.mod.Login(session, pkcs11.CKU_USER, unsafe.String(unsafe.SliceData(pin), len(pin)))
	var ckr pkcs11.Error
	errors.As(err, &ckr)
	switch ckr {
	case pkcs11.CKR_PIN_INCORRECT, pkcs11.CKR_PIN_INVALID, pkcs11.CKR_PIN_LEN_RANGE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_PIN_LOCKED:
		t.latched = true
		return fmt.Errorf("%w: %w: %w", denial.New(denial.HSMUnavailable, "the token refused the PIN; it is not tried again"), ErrPIN, err)
	}
	if err != nil {
		return fmt.Errorf("logging in: %w", err) // CKR_USER_ALREADY_LOGGED_IN too: our PIN was not looked at
	}
	return nil
}

// openSessions opens read-only sessions, as many as configured or as the token has, but at least one. The one for
// tree heads comes last: a token that has no more does without.
func (t *Token) openSessions(c *conn) error {
	for len(c.sessions)+len(c.head) <= t.cfg.MaxSessions {
		session, err := t.mod.OpenSession(c.slot, pkcs11.CKF_SERIAL_SESSION)
		switch {
		case errors.Is(err, pkcs11.Error(pkcs11.CKR_SESSION_COUNT)) && len(c.sessions) > 0:
			return nil
		case err != nil:
			return fmt.Errorf("opening session: %w", err)
		case len(c.sessions) < t.cfg.MaxSessions:
			c.sessions = append(c.sessions, session)
		default:
			c.head = append(c.head, session)
		}
	}
	return nil
}

// bindPinned finds again every key that a Signer was made for.
func (t *Token) bindPinned(c *conn) error {
	t.mu.RLock()
	pinned := make(map[statement.Thumbprint]Purpose, len(t.pinned))
	for thumbprint, p := range t.pinned {
		pinned[thumbprint] = p
	}
	t.mu.RUnlock()
	if len(pinned) == 0 {
		return nil
	}
	if err := t.audit(c.keeper); err != nil {
		return err
	}
	for thumbprint, p := range pinned {
		k, err := t.bind(c, c.keeper, p, thumbprint)
		if err != nil {
			return fmt.Errorf("finding %s key: %w", p, err)
		}
		c.handles[thumbprint] = k.private
	}
	return nil
}
