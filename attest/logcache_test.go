package attest

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
)

// A hit gives what a replay gives, and whatever differs in anything that facts depend on is replayed.
func TestCachedLogNeverChangesAVerdict(t *testing.T) {
	b := bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}})
	pcrs, ak := b.Select("sha256", bootPCRs...), []byte("one AK")
	c := NewLogCache(1 << 20)
	first, err := c.replay(ak, bootLogs{firmware: b.Log}, "sha256", single("sha256", pcrs))
	if err != nil {
		t.Fatal(err)
	}
	again, err := c.replay(slices.Clone(ak), bootLogs{firmware: slices.Clone(b.Log)}, "sha256", single("sha256", pcrs))
	if err != nil || !reflect.DeepEqual(first, again) {
		t.Errorf("got %+v, %v, want the same facts", again, err)
	}
	if hits, misses := c.Counts(); hits != 1 || misses != 1 {
		t.Fatalf("%d hits and %d misses, want 1 and 1", hits, misses)
	}
	other := bytes.Clone(b.Log)
	other[len(other)-1] ^= 1
	wrong := b.Select("sha256", bootPCRs...)
	wrong[4] = bytes.Repeat([]byte{1}, 32)
	for name, ask := range map[string]struct {
		ak     []byte
		logs   bootLogs
		bank   string
		values map[string]map[int64][]byte
		want   denial.Reason // 0: accepted
	}{
		"other AK":               {[]byte("another AK"), bootLogs{firmware: b.Log}, "sha256", single("sha256", pcrs), 0},
		"other PCRs":             {ak, bootLogs{firmware: b.Log}, "sha256", single("sha256", wrong), denial.LogReplayMismatch},
		"fewer PCRs":             {ak, bootLogs{firmware: b.Log}, "sha256", single("sha256", b.Select("sha256", 0, 7)), 0},
		"no PCRs":                {ak, bootLogs{firmware: b.Log}, "sha256", nil, denial.LogUncovered},
		"PCR 24":                 {ak, bootLogs{firmware: b.Log}, "sha256", single("sha256", map[int64][]byte{24: {}}), denial.LogUncovered},
		"other log":              {ak, bootLogs{firmware: other}, "sha256", single("sha256", pcrs), denial.EventDigestMismatch},
		"no log":                 {ak, bootLogs{}, "sha256", single("sha256", pcrs), denial.LogMalformed},
		"long log":               {ak, bootLogs{firmware: make([]byte, MaxBootLog+1)}, "sha256", single("sha256", pcrs), denial.RequestLimit},
		"a system log":           {ak, bootLogs{firmware: b.Log, os: []byte(measured(16, "x", "x"))}, "sha256", single("sha256", pcrs), 0},
		"other bank":             {ak, bootLogs{firmware: b.Log}, "sha384", single("sha384", pcrs), denial.LogUncovered},
		"bank of SHA-1":          {ak, bootLogs{firmware: b.Log}, "sha1", single("sha1", pcrs), denial.BankNotAllowed},
		"two banks":              {ak, bootLogs{firmware: b.Log}, "sha256", map[string]map[int64][]byte{"sha256": pcrs, "sha384": b.Select("sha384", 0, 7)}, 0},
		"two banks, one wrong":   {ak, bootLogs{firmware: b.Log}, "sha256", map[string]map[int64][]byte{"sha256": pcrs, "sha384": {4: make([]byte, 48)}}, denial.LogReplayMismatch},
		"the other bank, no PCR": {ak, bootLogs{firmware: b.Log}, "sha256", map[string]map[int64][]byte{"sha256": pcrs, "sha1": {}}, denial.BankUncapped},
	} {
		before, _ := c.Counts()
		f, err := c.replay(ask.ak, ask.logs, ask.bank, ask.values)
		plain, plainErr := ask.logs.replayBanks(ask.bank, ask.values, nil)
		if after, _ := c.Counts(); after != before {
			t.Errorf("%s: a hit", name)
		}
		if !reflect.DeepEqual(f, plain) || (err == nil) != (plainErr == nil) || err == nil && ask.want != 0 {
			t.Errorf("%s: got %v, %v, a replay gives %v, %v", name, f, err, plain, plainErr)
		}
		if ask.want != 0 {
			expect(t, err, ask.want)
			if _, err := c.replay(ask.ak, ask.logs, ask.bank, ask.values); !denial.Is(err, ask.want) {
				t.Errorf("%s, asked again: got %v, want %v", name, err, ask.want)
			}
		}
	}
}

// single is the values of one bank.
func single(bank string, pcrs map[int64][]byte) map[string]map[int64][]byte {
	return map[string]map[int64][]byte{bank: pcrs}
}

// What a caller does with claims does not reach the cache.
func TestClaimsAreNoPartOfTheCache(t *testing.T) {
	b := bootlog.New(bootlog.Options{GRUB: true})
	pcrs, c := b.Select("sha256", bootPCRs...), NewLogCache(1<<20)
	spoil := func() Claims {
		f, err := c.replay(nil, bootLogs{firmware: b.Log}, "sha256", single("sha256", pcrs))
		if err != nil {
			t.Fatal(err)
		}
		facts := &Facts{claims: f.claims("sha256")}
		mine, theirs := facts.Claims(), facts.Claims()
		mine.BootApps[0].Digest, mine.Commands[0], mine.CommandLine[0], mine.SecureBoot.Authorities[0] = "", "", "", ""
		mine.Disks[0].Partitions[0].Name, mine.Measured[9][0], mine.Measured[14] = "x", "", nil
		mine.Shim.Generations["shim"], mine.Unexplained[8], mine.Sections["x"] = 0, 7, "x"
		return theirs
	}
	if first, second := spoil(), spoil(); !reflect.DeepEqual(first, second) || first.Commands[0] == "" || first.Measured[9][0] == "" {
		t.Errorf("the second caller got %+v, the first %+v", second, first)
	}
}

func TestLogCacheIsBoundedAndSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	b := bootlog.New(bootlog.Options{})
	pcrs, in := b.Select("sha256", bootPCRs...), bootLogs{firmware: b.Log}
	one := entrySize + 4*len(b.Log)
	c := NewLogCache(10 * one)
	var wg sync.WaitGroup
	for worker := range 4 {
		wg.Go(func() {
			for n := range 30 {
				if _, err := c.replay(fmt.Appendf(nil, "AK %d", (worker+n)%15), in, "sha256", single("sha256", pcrs)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := c.recent.Len(); n != 10 || len(c.entries) != n || c.size != n*one || c.size > c.limit {
		t.Errorf("%d and %d entries of %d bytes, want 10 of %d", n, len(c.entries), c.size, one)
	}
	small := NewLogCache(7 * one)
	if _, err := small.replay(nil, in, "sha256", single("sha256", pcrs)); err != nil || small.size != 0 {
		t.Errorf("an entry of more than an eighth is kept (%v)", err)
	}
	var none *LogCache
	if _, err := none.replay(nil, in, "sha256", single("sha256", pcrs)); err != nil {
		t.Error(err)
	}
}
