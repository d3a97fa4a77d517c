package hsm

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/softhsm"
)

// shim replaces the one call that signs. Its first calls go wrong as told; the others are the module's.
func shim(tk *Token, times int64, wrong func(pkcs11.SessionHandle, pkcs11.ObjectHandle, []byte) ([]byte, error)) {
	var n atomic.Int64
	real := tk.rawSign
	tk.rawSign = func(session pkcs11.SessionHandle, key pkcs11.ObjectHandle, digest []byte) ([]byte, error) {
		if n.Add(1) <= times {
			return wrong(session, key, digest)
		}
		return real(session, key, digest)
	}
}

func TestH08_BadSignatureIsNotReleased(t *testing.T) {
	tk := open(t)
	s := newSigner(t, tk, Artifact)
	tbs := structure(t, s, statement.Artifact)
	shim(tk, 1, func(session pkcs11.SessionHandle, key pkcs11.ObjectHandle, digest []byte) ([]byte, error) {
		sig, err := tk.signECDSA(session, key, digest)
		sig[7] ^= 1
		return sig, err
	})
	sig, err := s.Sign(t.Context(), tbs)
	refused(t, err, denial.HSMUnavailable)
	if sig != nil {
		t.Error("got a signature, want none")
	}
	healed(t, tk)
	signs(t, s, statement.Artifact)
}

func TestSignatureOfAnotherLengthIsNotReleased(t *testing.T) {
	tk := open(t)
	s := newSigner(t, tk, Artifact)
	tbs := structure(t, s, statement.Artifact)
	shim(tk, 1, func(session pkcs11.SessionHandle, key pkcs11.ObjectHandle, digest []byte) ([]byte, error) {
		sig, err := tk.signECDSA(session, key, digest)
		return append(sig, 0), err
	})
	_, err := s.Sign(t.Context(), tbs)
	refused(t, err, denial.HSMUnavailable)
}

func TestH09_BusySessionsOverload(t *testing.T) {
	soft := softhsm.New(t)
	cfg := config(soft)
	cfg.MaxSessions, cfg.Wait = 4, 20*time.Millisecond
	tk := openWith(t, cfg)
	s := newSigner(t, tk, Artifact)
	release := make(chan struct{})
	shim(tk, 4, func(session pkcs11.SessionHandle, key pkcs11.ObjectHandle, digest []byte) ([]byte, error) {
		<-release
		return tk.signECDSA(session, key, digest)
	})
	const all = 1000
	var done, busy atomic.Int64
	var wg sync.WaitGroup
	for range all {
		wg.Go(func() {
			_, err := sign(t.Context(), s, statement.Artifact)
			switch {
			case err == nil:
				done.Add(1)
			case denial.Is(err, denial.Overloaded):
				if busy.Add(1) == all-4 {
					close(release)
				}
			default:
				t.Errorf("got %v, want a signature or 907", err)
			}
		})
	}
	wg.Wait()
	if done.Load() != 4 || busy.Load() != all-4 {
		t.Errorf("got %d signatures and %d times 907, want 4 and %d", done.Load(), busy.Load(), all-4)
	}
	signs(t, s, statement.Artifact)
}

// TestH09_TreeHeadsAreNotHeldUp: while artifacts wait for a session, a tree head, for which every one of them waits then, does not.
func TestH09_TreeHeadsAreNotHeldUp(t *testing.T) {
	cfg := config(softhsm.New(t))
	cfg.MaxSessions = 2
	tk := openWith(t, cfg)
	artifacts, heads := newSigner(t, tk, Artifact), newSigner(t, tk, Log)
	release := make(chan struct{})
	entered := make(chan struct{}, 8)
	logKey := tk.handle(tk.conn, heads.Key().Thumbprint())
	shim(tk, 1<<30, func(session pkcs11.SessionHandle, key pkcs11.ObjectHandle, digest []byte) ([]byte, error) {
		if key != logKey {
			entered <- struct{}{}
			<-release
		}
		return tk.signECDSA(session, key, digest)
	})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if _, err := sign(t.Context(), artifacts, statement.Artifact); err != nil {
				t.Errorf("got %v", err)
			}
		})
	}
	<-entered
	<-entered // every session has its call now
	for range 3 {
		signs(t, heads, statement.Receipt)
	}
	close(release)
	wg.Wait()
}

func TestH10_RemovedTokenHealsWithoutRestart(t *testing.T) {
	soft := softhsm.New(t)
	tk := openWith(t, config(soft))
	s := newSigner(t, tk, Artifact)
	signs(t, s, statement.Artifact)
	if err := os.Rename(soft.Dir, soft.Dir+".away"); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, err := sign(t.Context(), s, statement.Artifact)
		refused(t, err, denial.HSMUnavailable)
		refused(t, tk.Healthy(), denial.HSMUnavailable)
	}
	_, err := tk.Keys(t.Context())
	refused(t, err, denial.HSMUnavailable)
	_, err = tk.Info()
	refused(t, err, denial.HSMUnavailable)
	if err := os.Rename(soft.Dir+".away", soft.Dir); err != nil {
		t.Fatal(err)
	}
	healed(t, tk)
	signs(t, s, statement.Artifact)
}

func TestH10_AnotherTokenInItsPlaceIsRefused(t *testing.T) {
	soft := softhsm.New(t)
	tk := openWith(t, config(soft))
	s := newSigner(t, tk, Artifact)
	if err := os.Rename(soft.Dir, soft.Dir+".away"); err != nil {
		t.Fatal(err)
	}
	pin, err := os.ReadFile(soft.PINFile)
	if err != nil {
		t.Fatal(err)
	}
	other, err := softhsm.Init(filepath.Dir(soft.Dir)) // the same label in the same place
	if err != nil {
		t.Fatal(err)
	}
	_, err = sign(t.Context(), s, statement.Artifact)
	refused(t, err, denial.HSMUnavailable) // and not HSMKeyPolicy: it was not even logged in to
	writePIN(t, soft, string(pin))
	if err := errors.Join(os.RemoveAll(other.Dir), os.Rename(soft.Dir+".away", soft.Dir)); err != nil {
		t.Fatal(err)
	}
	healed(t, tk)
	signs(t, s, statement.Artifact)
}

func TestH11_LostHandlesAreFoundAgain(t *testing.T) {
	for name, lose := range map[string]func(other *pkcs11.Ctx, slot uint, session pkcs11.SessionHandle) error{
		"sessions closed":  func(m *pkcs11.Ctx, slot uint, _ pkcs11.SessionHandle) error { return m.CloseAllSessions(slot) },
		"logged out":       func(m *pkcs11.Ctx, _ uint, s pkcs11.SessionHandle) error { return m.Logout(s) },
		"module finalized": func(m *pkcs11.Ctx, _ uint, _ pkcs11.SessionHandle) error { return m.Finalize() },
	} {
		t.Run(name, func(t *testing.T) {
			soft := softhsm.New(t)
			tk := openWith(t, config(soft))
			artifact, record := newSigner(t, tk, Artifact), newSigner(t, tk, Record)
			if err := lose(pkcs11.New(soft.Module), tk.conn.slot, tk.conn.keeper); err != nil {
				t.Fatal(err)
			}
			_, err := sign(t.Context(), artifact, statement.Artifact)
			refused(t, err, denial.HSMUnavailable)
			healed(t, tk)
			signs(t, artifact, statement.Artifact)
			signs(t, record, statement.Record)
		})
	}
}

func TestH12_HandleOfAnotherKeyIsRefused(t *testing.T) {
	tk := open(t)
	s, other := newSigner(t, tk, Artifact), newSigner(t, tk, Record)
	var wrong atomic.Bool
	real := tk.rawSign
	tk.rawSign = func(session pkcs11.SessionHandle, key pkcs11.ObjectHandle, digest []byte) ([]byte, error) {
		if wrong.Load() {
			key = foreign(t, tk, session, other.Key().Thumbprint())
		}
		return real(session, key, digest)
	}
	signs(t, s, statement.Artifact)
	wrong.Store(true)
	_, err := sign(t.Context(), s, statement.Artifact)
	refused(t, err, denial.HSMKeyPolicy)
	refused(t, tk.Healthy(), denial.HSMKeyPolicy)
	wrong.Store(false)
	healed(t, tk)
	signs(t, s, statement.Artifact)
}

// foreign returns the private handle of the record key, whatever the connection.
func foreign(t *testing.T, tk *Token, session pkcs11.SessionHandle, thumbprint statement.Thumbprint) pkcs11.ObjectHandle {
	pairs, err := tk.pairs(session, Record)
	if err != nil {
		t.Error(err)
		return 0
	}
	k, err := only(pairs, Record, thumbprint)
	if err != nil {
		t.Error(err)
	}
	return k.private
}

func TestH16_SlowTokenIsRefusedAndItsResultDiscarded(t *testing.T) {
	tk := open(t)
	s := newSigner(t, tk, Artifact)
	entered, release := make(chan struct{}), make(chan struct{})
	shim(tk, 1, func(session pkcs11.SessionHandle, key pkcs11.ObjectHandle, digest []byte) ([]byte, error) {
		close(entered)
		<-release
		return tk.signECDSA(session, key, digest)
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-entered
		cancel()
	}()
	_, err := sign(ctx, s, statement.Artifact)
	refused(t, err, denial.HSMUnavailable)
	signs(t, s, statement.Artifact) // other sessions serve meanwhile
	if got := tk.Orphans(); got != 0 {
		t.Errorf("got %d orphans, want 0 before the token answers", got)
	}
	close(release)
	tk.Close() // waits for the call
	waitFor(t, func() bool { return tk.Orphans() == 1 })

	_, err = sign(ctx, s, statement.Artifact)
	refused(t, err, denial.HSMUnavailable) // the time was up before
}

func TestH16_HungTokenIsLostAndHealsWhenItAnswers(t *testing.T) {
	tk := open(t)
	s := newSigner(t, tk, Artifact)
	timeout := tk.cfg.Timeout
	tk.cfg.Timeout = 100 * time.Millisecond
	release := make(chan struct{})
	shim(tk, 1, func(session pkcs11.SessionHandle, key pkcs11.ObjectHandle, digest []byte) ([]byte, error) {
		<-release
		return tk.signECDSA(session, key, digest)
	})
	_, err := sign(t.Context(), s, statement.Artifact)
	refused(t, err, denial.HSMUnavailable)
	_, err = sign(t.Context(), s, statement.Artifact) // at once: a token that hangs is not asked again
	refused(t, err, denial.HSMUnavailable)
	close(release)
	healed(t, tk)
	tk.cfg.Timeout = timeout
	signs(t, s, statement.Artifact)
}

func TestH17_SignerTakesNoDigest(t *testing.T) {
	tk := open(t)
	s := newSigner(t, tk, Artifact)
	_, err := s.Sign(t.Context(), statement.ToBeSigned{})
	refused(t, err, denial.Internal)
	if got := reflect.TypeOf(s).NumMethod(); got != 2 {
		t.Errorf("got %d methods, want Key and Sign only", got)
	}
}

func TestH19_KeySignsItsKindsOnly(t *testing.T) {
	tk := open(t)
	for _, p := range Purposes() {
		s := newSigner(t, tk, p)
		signed := 0
		for _, kind := range statement.Kinds() {
			if p.Signs(kind) {
				signs(t, s, kind)
				signed++
				continue
			}
			_, err := sign(t.Context(), s, kind)
			if !denial.Is(err, denial.WrongType) {
				t.Errorf("%s key over %s: got %v, want 311", p, kind, err)
			}
		}
		if signed == 0 {
			t.Errorf("the %s key signs nothing", p)
		}
	}
}

// TestR07_EveryReturnValueOnce lets the token fail once with each return value: no statement, then it serves again.
func TestR07_EveryReturnValueOnce(t *testing.T) {
	tk := open(t)
	s := newSigner(t, tk, Artifact)
	real := tk.rawSign
	for _, ckr := range []pkcs11.Error{
		pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED,
		pkcs11.CKR_ARGUMENTS_BAD, pkcs11.CKR_CANT_LOCK, pkcs11.CKR_DATA_LEN_RANGE, pkcs11.CKR_DEVICE_ERROR,
		pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_FUNCTION_CANCELED, pkcs11.CKR_KEY_HANDLE_INVALID,
		pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_OBJECT_HANDLE_INVALID,
		pkcs11.CKR_OPERATION_ACTIVE, pkcs11.CKR_PIN_EXPIRED, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_SESSION_HANDLE_INVALID,
		pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED, 0x80000001,
	} {
		tk.rawSign = real
		shim(tk, 1, func(pkcs11.SessionHandle, pkcs11.ObjectHandle, []byte) ([]byte, error) { return nil, ckr })
		leaf, err := sign(t.Context(), s, statement.Artifact)
		if leaf != nil || !denial.Is(err, denial.HSMUnavailable) {
			t.Errorf("%v: got %v, want 903", ckr, err)
		}
		healed(t, tk)
		signs(t, s, statement.Artifact)
	}
}

func TestManyGoroutinesSignThroughFaults(t *testing.T) {
	tk := open(t)
	artifact, record := newSigner(t, tk, Artifact), newSigner(t, tk, Record)
	var n, good atomic.Int64
	real := tk.rawSign
	tk.rawSign = func(session pkcs11.SessionHandle, key pkcs11.ObjectHandle, digest []byte) ([]byte, error) {
		if n.Add(1)%500 == 0 {
			return nil, pkcs11.Error(pkcs11.CKR_DEVICE_ERROR)
		}
		return real(session, key, digest)
	}
	var wg sync.WaitGroup
	for i := range 64 {
		s, kind := artifact, statement.Artifact
		if i%2 == 1 {
			s, kind = record, statement.Record
		}
		wg.Go(func() {
			for range 50 {
				_, err := sign(t.Context(), s, kind)
				switch {
				case err == nil:
					good.Add(1)
				case !denial.Is(err, denial.HSMUnavailable):
					t.Errorf("got %v, want a signature or 903", err)
				}
			}
		})
	}
	wg.Wait()
	if good.Load() == 0 {
		t.Error("nothing was signed")
	}
	tk.healing.Wait()
	signs(t, artifact, statement.Artifact)
}

func TestClosedTokenRefuses(t *testing.T) {
	tk := open(t)
	s := newSigner(t, tk, Artifact)
	for range 2 {
		if err := tk.Close(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := sign(t.Context(), s, statement.Artifact)
	refused(t, err, denial.HSMUnavailable)
	refused(t, tk.Healthy(), denial.HSMUnavailable)
}

func TestCloseDoesNotWaitForAHungCallForEver(t *testing.T) {
	soft := softhsm.New(t)
	tk, err := Open(t.Context(), config(soft))
	if err != nil {
		t.Fatal(err)
	}
	s := newSigner(t, tk, Artifact)
	tk.cfg.Timeout = 100 * time.Millisecond
	release := make(chan struct{})
	shim(tk, 1, func(pkcs11.SessionHandle, pkcs11.ObjectHandle, []byte) ([]byte, error) {
		<-release
		return nil, errors.New("too late")
	})
	_, err = sign(t.Context(), s, statement.Artifact)
	refused(t, err, denial.HSMUnavailable)
	if err := tk.Close(); err == nil {
		t.Error("got no error, want one")
	}
	close(release)
	waitFor(t, func() bool { // the module is free again once the call has returned
		again, err := Open(t.Context(), config(soft))
		if err != nil {
			return false
		}
		return again.Close() == nil
	})
}

func TestOpenKeepsItsDeadline(t *testing.T) {
	soft := softhsm.New(t)
	release := make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	cfg := config(soft)
	cfg.PIN = func() ([]byte, error) {
		cancel()
		<-release
		return PINFromFile(soft.PINFile)()
	}
	_, err := Open(ctx, cfg)
	refused(t, err, denial.HSMUnavailable)
	close(release)
	waitFor(t, func() bool {
		again, err := Open(t.Context(), config(soft))
		if err != nil {
			return false
		}
		return again.Close() == nil
	})
}

// waitFor tries until the condition holds, at most 5 s.
func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(5 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("it does not hold after 5 s")
		}
	}
}

// TestH14_HelpersRunWhileTheTokenSigns: a process that has initialized the module starts helper processes all the while that it signs.
// Go has each exec at once, so that no child ever calls the module; nothing crashes, and nothing is lost.
func TestH14_HelpersRunWhileTheTokenSigns(t *testing.T) {
	tk := open(t)
	s := newSigner(t, tk, Log)
	helpers := make(chan error)
	go func() {
		var err error
		for range 100 {
			err = errors.Join(err, exec.Command("true").Run())
		}
		helpers <- err
	}()
	signatures := 0
	for {
		select {
		case err := <-helpers:
			if err != nil {
				t.Fatal(err)
			}
			signs(t, s, statement.Receipt)
			if signatures < 100 || tk.Healthy() != nil || tk.Orphans() != 0 {
				t.Errorf("got %d signatures beside 100 helpers, %v, %d orphans", signatures, tk.Healthy(), tk.Orphans())
			}
			return
		default:
			signs(t, s, statement.Receipt)
			signatures++
		}
	}
}
