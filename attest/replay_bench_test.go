package attest

import (
	"crypto/rand"
	"runtime"
	"slices"
	"testing"
	"time"

	goattest "github.com/google/go-attestation/attest"
	"github.com/google/go-eventlog/extract"
	"github.com/google/go-eventlog/tpmeventlog"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/need"
)

// rival is another verifier of event logs: parse, replay, facts.
type rival struct {
	name string
	read func(log []byte, o opinions) error
}

var rivals = [...]rival{
	{"go-eventlog", func(log []byte, o opinions) error {
		_, err := tpmeventlog.ReplayAndExtract(log, o.eventlog, extract.Opts{Loader: extract.GRUB, AllowEmptySBVar: true})
		return err
	}},
	{"go-attestation", func(log []byte, o opinions) error {
		l, err := goattest.ParseEventLog(log)
		if err != nil {
			return err
		}
		events, err := l.Verify(o.attest)
		if err != nil {
			return err
		}
		_, err = goattest.ParseSecurebootState(events)
		return err
	}},
}

// largestLog returns the largest log of the corpus that all accept, or a generated one without the corpus.
func largestLog(tb testing.TB) ([]byte, map[int64][]byte) {
	tb.Helper()
	boot := bootlog.New(bootlog.Options{GRUB: true})
	log, pcrs := boot.Log, boot.Select("sha256", bootPCRs...)
	if need.CorpusIfAny() == "" {
		return log, pcrs
	}
	for _, l := range corpus(tb) {
		if _, err := replay(l.raw, "sha256", l.pcrs["sha256"]); err != nil || len(l.raw) <= len(log) {
			continue
		}
		o := newOpinions("sha256", l.pcrs["sha256"])
		if !slices.ContainsFunc(rivals[:], func(r rival) bool { return r.read(l.raw, o) != nil }) {
			log, pcrs = l.raw, l.pcrs["sha256"]
		}
	}
	return log, pcrs
}

// BenchmarkReplay reads the same log in turns here and by two other verifiers, and reports how many times longer these take in the middle.
// Ours makes the strict replay and draws all facts; they draw their own.
func BenchmarkReplay(b *testing.B) {
	log, pcrs := largestLog(b)
	o := newOpinions("sha256", pcrs)
	b.SetBytes(int64(len(log)))
	var ours []time.Duration
	var theirs [len(rivals)][]time.Duration
	for b.Loop() {
		start := time.Now()
		if _, err := replay(log, "sha256", pcrs); err != nil {
			b.Fatal(err)
		}
		ours = append(ours, time.Since(start))
		for i, r := range rivals {
			start = time.Now()
			if err := r.read(log, o); err != nil {
				b.Fatal(err)
			}
			theirs[i] = append(theirs[i], time.Since(start))
		}
	}
	b.ReportMetric(middle(ours).Seconds()*1e6, "µs-here")
	for i, r := range rivals {
		b.ReportMetric(float64(middle(theirs[i]))/float64(middle(ours)), "times-"+r.name)
	}
}

// middle returns the median, on which other work on the machine weighs little.
func middle(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// BenchmarkReplayCached is a renewed quote: the log is known.
func BenchmarkReplayCached(b *testing.B) {
	log, pcrs := largestLog(b)
	c := NewMemory(32 << 20)
	for b.Loop() {
		if _, err := c.replay(nil, bootLogs{firmware: log}, "sha256", single("sha256", pcrs)); err != nil {
			b.Fatal(err)
		}
	}
}

// junk is what a stranger may send in place of a log.
func junk(tb testing.TB) map[string][]byte {
	tb.Helper()
	random := make([]byte, 10<<20)
	if _, err := rand.Read(random); err != nil {
		tb.Fatal(err)
	}
	header := bootlog.Encode([]string{"sha256"}, nil).Log
	empty := append(slices.Clone(header), make([]byte, maxLog-len(header))...)
	return map[string][]byte{"10 MB of random bytes": random, "10 MB of zeros": make([]byte, 10<<20), "1 MiB of random bytes": random[:maxLog],
		"1 MiB of zeros": make([]byte, maxLog), "a header and random bytes": append(slices.Clone(header), random[:maxLog-len(header)]...),
		"a header and zeros": empty}
}

func BenchmarkReplayJunk(b *testing.B) {
	for name, log := range junk(b) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if _, err := replay(log, "sha256", nil); err == nil {
					b.Fatal("accepted")
				}
			}
		})
	}
}

// Junk costs few allocations, whatever its size; what it costs in time is BenchmarkReplayJunk.
func TestL13_JunkIsRefusedAtOnce(t *testing.T) {
	for name, log := range junk(t) {
		allocations := testing.AllocsPerRun(5, func() {
			_, err := replay(log, "sha256", map[int64][]byte{0: make([]byte, 32)})
			if !denial.Is(err, denial.RequestLimit) && !denial.Is(err, denial.LogMalformed) && !denial.Is(err, denial.BankNotAllowed) {
				t.Fatalf("%s: got %v, want 605, 611 or 908", name, err)
			}
		})
		if allocations > 100 {
			t.Errorf("%s: %v allocations, want at most 100", name, allocations)
		}
	}
}

// mostEvents returns a log of the greatest number of events, each with text that becomes a fact.
func mostEvents() (log []byte, pcrs map[int64][]byte) {
	b := bootlog.New(bootlog.Options{GRUB: true})
	text := make([]byte, 150)
	for i := range text {
		text[i] = 'a' + byte(i%26)
	}
	for pcr := uint32(8); len(b.Events) < maxEvents; pcr++ {
		e := bootlog.Event{PCR: 8 + pcr%2, Type: bootlog.IPL, Data: append([]byte("grub_cmd: "), text...), Measured: text}
		b = &bootlog.Boot{Banks: b.Banks, Events: append(b.Events, e)}
	}
	b = bootlog.Encode(b.Banks, b.Events)
	return b.Log, b.Select("sha256", bootPCRs...)
}

func BenchmarkReplayMostEvents(b *testing.B) {
	log, pcrs := mostEvents()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := replay(log, "sha256", pcrs); err != nil {
			b.Fatal(err)
		}
	}
}

// Such a log allocates at most 8 MiB in all.
func TestL13_MemoryOfTheLargestLog(t *testing.T) {
	log, pcrs := mostEvents()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f, err := replay(log, "sha256", pcrs)
	runtime.ReadMemStats(&after)
	if err != nil || len(f.Commands) < 2000 || len(f.Measured[9]) < 2000 {
		t.Fatalf("%v, want thousands of facts", err)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 8<<20 {
		t.Errorf("%d bytes for a log of %d", used, len(log))
	} else {
		t.Logf("%d events, %d bytes: %d bytes allocated", maxEvents, len(log), used)
	}
}
