package audit_test

import (
	"bytes"
	"syscall"
	"testing"
	"time"

	"github.com/governed-execution/writ/audit"
)

// BenchmarkVerify verifies a whole log: of five statements one permit, two starts and two ends.
func BenchmarkVerify(b *testing.B) {
	s := newStage(b)
	for range 200 {
		m, _ := s.permit()
		s.run(m, 1)
		s.run(m, 2)
	}
	raw, trust := s.export(audit.Query{}), s.trust()
	n, before := 0, cpu(b)
	for b.Loop() {
		r, err := audit.Verify(s.Ctx, bytes.NewReader(raw), trust, audit.Options{Now: s.Now()})
		if err != nil || r.Err() != nil {
			b.Fatal(err, r.Err())
		}
		n += len(r.Statements)
	}
	b.ReportMetric(float64(n)/(cpu(b)-before).Seconds(), "statements/cpu-s")
	b.ReportMetric(float64(len(raw))/float64(n/b.N), "B/statement")
}

// cpu returns what this process has had of all cores, so that other work on the machine does not count.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
