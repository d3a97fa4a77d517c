package tlog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/receipt"
)

// Backup copies the log at a path into a new file, as it is at one moment, with the mark that belongs to it; another process may be
// writing meanwhile. The copy is on the disk when it returns, and no less than what was acknowledged before the call. It is not
// checked: see ReadOnly.Check.
func Backup(ctx context.Context, from, to string) error {
	source, err := filepath.Abs(from)
	if err != nil {
		return fmt.Errorf("copying log: %w", err)
	}
	target, err := filepath.Abs(to)
	if err != nil {
		return fmt.Errorf("copying log: %w", err)
	}
	file, err := os.OpenFile(target, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("copying log: %w", err)
	}
	defer file.Close()
	db, err := sql.Open("sqlite", dsn(source, "ro", []string{"busy_timeout(5000)", "trusted_schema(0)", "temp_store(MEMORY)"}))
	if err != nil {
		return fmt.Errorf("copying log: %w", err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, "VACUUM INTO ?", target); err != nil {
		return because(denial.StoreFault, "the log cannot be copied", err)
	}
	if err := errors.Join(file.Sync(), markCopy(ctx, target)); err != nil {
		return fmt.Errorf("copying log: %w", err)
	}
	return syncDir(target)
}

// markCopy writes the mark of a copy from the copy itself.
func markCopy(ctx context.Context, path string) error {
	r, err := OpenReadOnly(ctx, path)
	if err != nil {
		return err
	}
	defer r.Close()
	var size uint64
	var root []byte
	if ok, err := r.one(ctx, []any{&size, &root}, "SELECT size, root FROM heads ORDER BY size DESC LIMIT 1"); err != nil || !ok {
		return err // of an empty log there is none
	}
	if len(root) != len(receipt.Hash{}) {
		return denial.New(denial.StoreFault, "the last head is damaged")
	}
	m, err := openMark(path + ".mark")
	if err != nil {
		return err
	}
	return errors.Join(m.write(size, receipt.Hash(root)), m.close())
}
