package audit_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/governed-execution/writ/audit"
)

// BenchmarkVerify verifies a whole log: of five entries one permit, two starts and two ends, each under a tree head of its own, which is
// the most that there can be to verify. It tells three rates, each by the CPU time of all threads:
//
//   - entries of the log;
//   - signed statements: COSE_Sign1 structures of which each signature is verified once: the entries, their tree heads, the capsules and
//     the requests in them;
//   - signatures: those, and of each permit the two by the TPM.
//
// The multiple is of the time that the bare checks of so many ECDSA P-256 signatures take in the same run.
func BenchmarkVerify(b *testing.B) {
	s := newStage(b)
	const permits = 200
	for range permits {
		m, _ := s.permit()
		s.run(m, 1)
		s.run(m, 2)
	}
	raw, trust := s.export(audit.Query{}), s.trust()
	var entries, signed, spent float64
	for name := range unpack(b, raw) {
		switch {
		case strings.HasPrefix(name, "statements/"):
			entries, signed = entries+1, signed+1
		case strings.HasPrefix(name, "receipts/consistency-"), strings.HasPrefix(name, "capsules/"):
			signed++
		}
	}
	signed += permits // requests
	signatures := signed + 2*permits
	for b.Loop() {
		before := cpu(b)
		r, err := audit.Verify(s.Ctx, bytes.NewReader(raw), trust, audit.Options{Now: s.Now()})
		if err != nil || r.Err() != nil {
			b.Fatal(err, r.Err())
		}
		spent += (cpu(b) - before).Seconds()
	}
	each := spent / float64(b.N)
	b.ReportMetric(entries/each, "entries/cpu-s")
	b.ReportMetric(signed/each, "signed-statements/cpu-s")
	b.ReportMetric(signatures/each, "signatures/cpu-s")
	b.ReportMetric(each/(signatures*bareCheck(b)), "x-bare-ECDSA")
	b.ReportMetric(float64(len(raw))/entries, "B/entry")
}

// bareCheck returns how many seconds of CPU one check of a signature takes.
func bareCheck(b *testing.B) float64 {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(b)
	digest := make([]byte, 32)
	sig := must(ecdsa.SignASN1(rand.Reader, key, digest))(b)
	const n = 5000
	before := cpu(b)
	for range n {
		if !ecdsa.VerifyASN1(&key.PublicKey, digest, sig) {
			b.Fatal("the signature does not verify")
		}
	}
	return (cpu(b) - before).Seconds() / n
}

// cpu returns what this process has had of all cores, so that other work on the machine does not count.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
