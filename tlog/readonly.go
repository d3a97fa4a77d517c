package tlog

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"

	"github.com/governed-execution/writ/denial"
)

// ReadOnly reads the projections of a log that another process may be writing. It has no signed heads, and so no
// receipts: for those the log must be open.
type ReadOnly struct {
	Reader
	db *sql.DB
}

// OpenReadOnly opens a log that exists; STORE_FAULT if there is none at the path.
func OpenReadOnly(ctx context.Context, path string) (*ReadOnly, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("opening log: %w", err)
	}
	db, err := sql.Open("sqlite", dsn(abs, "ro", readPragmas))
	if err != nil {
		return nil, fmt.Errorf("opening log: %w", err)
	}
	r := &ReadOnly{Reader: Reader{q: db, heads: func() []SignedHead { return nil }}, db: db}
	if _, err := r.size(ctx); err != nil {
		db.Close()
		return nil, denial.New(denial.StoreFault, "there is no log at %s", path)
	}
	return r, nil
}

// Close closes the database.
func (r *ReadOnly) Close() error { return r.db.Close() }
