package tlog

import (
	"context"
	"errors"
	"fmt"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/governed-execution/writ/denial"
)

// ErrStale is the error of Append when a Guard without a Reason does not hold: what the entry was decided on has
// changed. The caller decides again.
var ErrStale = errors.New("appending: a counter has another value than the entry was decided on")

// ErrNotFound is the error of a read for an entry, a proof or a receipt that the log does not have, or not yet.
var ErrNotFound = errors.New("reading the log: there is no such entry, head or proof")

// because returns a refusal that keeps the fault behind it.
func because(r denial.Reason, detail string, err error) error {
	return fmt.Errorf("%w: %w", denial.New(r, "%s", detail), err)
}

// code returns the primary SQLite result code of err, zero if it has none.
func code(err error) int {
	var e *sqlite.Error
	if errors.As(err, &e) {
		return e.Code() & 0xff
	}
	return 0
}

// openFault gives the reason why a store cannot be opened: one that cannot be written is AuditUnavailable, any other
// StoreFault.
func openFault(err error) error {
	var d *denial.Denial
	if errors.As(err, &d) {
		return err
	}
	switch code(err) {
	case sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_FULL:
		return because(denial.AuditUnavailable, "the log cannot be written", err)
	}
	return because(denial.StoreFault, "the log cannot be opened", err)
}

// readFault gives the reason why a read fails. That the caller gave up is the caller's own error.
func readFault(err error) error {
	var d *denial.Denial
	switch {
	case err == nil, errors.Is(err, ErrNotFound), errors.As(err, &d):
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("reading the log: %w", err)
	}
	return because(denial.StoreFault, "the log cannot be read", err)
}

// harmless reports whether the store is certainly as it was after a write that failed with err and was rolled back.
// SQLite reports a full disk from the write itself, before anything is synced; a failed sync is another code.
func harmless(err error) bool {
	switch code(err) {
	case sqlite3.SQLITE_FULL, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_TOOBIG:
		return true
	}
	return false
}
