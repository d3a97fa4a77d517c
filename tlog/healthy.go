package tlog

import "github.com/governed-execution/writ/denial"

// Healthy returns nil if the log takes entries and gives receipts: 902 once the store has failed, 903 while the log key
// does not sign.
func (l *Log) Healthy() error {
	switch {
	case l.broken.Load():
		return denial.New(denial.AuditUnavailable, "the store has failed; nothing is appended until it is opened again")
	case l.behind.Load():
		return denial.New(denial.HSMUnavailable, "the log key does not sign")
	}
	return nil
}
