package tlog

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/governed-execution/writ/denial"
)

// takeLock keeps a second writer out, in this process or another, until the file is closed or the process ends.
func takeLock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, because(denial.AuditUnavailable, "the log cannot be written", fmt.Errorf("opening lock: %w", err))
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(because(denial.StoreFault, "another process has the log open", fmt.Errorf("locking: %w", err)), f.Close())
	}
	return f, nil
}
