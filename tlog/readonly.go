package tlog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/governed-execution/writ/denial"
)

// ReadOnly reads a log that another process may be writing, without its key and without the checks of Open. Its Head is
// always zero; receipts it gives as far as signed heads are stored, which the newest is not while the log is open.
type ReadOnly struct {
	Reader
	db *sql.DB
}

// Migrate brings the tables of a log that exists from an earlier version to this one, as Open does, for who has to read the log before
// it can open it. A log of a later version is UNSUPPORTED_VERSION. No other process may have it open (906).
func Migrate(path string) (err error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("finding log: %w", err)
	}
	lock, err := takeLock(abs + ".lock")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	e, err := openEngine(abs)
	if err != nil {
		return openFault(err)
	}
	return e.close()
}

// OpenReadOnly opens a log that exists; STORE_FAULT if there is none at the path, or none that can be read;
// UNSUPPORTED_VERSION if its tables are of another version: Open brings earlier ones to this one.
func OpenReadOnly(ctx context.Context, path string) (*ReadOnly, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening log: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(abs, "ro", readPragmas))
	if err != nil {
		return nil, fmt.Errorf("opening log: %w", err)
	}
	r := &ReadOnly{Reader: Reader{q: &lookups{DB: db, prepared: map[string]*sql.Stmt{}}, heads: func() []SignedHead { return nil }}, db: db}
	if _, err := r.size(ctx); err != nil {
		db.Close()
		return nil, because(denial.StoreFault, "there is no log at "+path, err)
	}
	var version int64
	if _, err := r.one(ctx, []any{&version}, "PRAGMA user_version"); err != nil {
		db.Close()
		return nil, because(denial.StoreFault, "the version of the log cannot be read", err)
	}
	if version != schemaVersion {
		db.Close()
		words := "this program knows %[2]d"
		if version < schemaVersion {
			words = "this program knows %[2]d: writd serve brings it to that, once"
		}
		return nil, denial.New(denial.UnsupportedVersion, "the log has schema version %[1]d, "+words, version, schemaVersion)
	}
	return r, nil
}

// View calls read with a Reader of one state of the log.
func (r *ReadOnly) View(ctx context.Context, read func(Reader) error) error {
	tx, err := r.db.BeginTx(ctx, nil)
	if err != nil {
		return readFault(err)
	}
	defer tx.Rollback()
	one := Reader{q: tx, heads: r.heads}
	if _, err := one.size(ctx); err != nil { // the first read takes the snapshot
		return err
	}
	return read(one)
}

// Close closes the database.
func (r *ReadOnly) Close() error { return r.db.Close() }
