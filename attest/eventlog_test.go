package attest

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
)

// records returns where each record of a log begins, the header first, and the length of the log.
func records(b *bootlog.Boot) []int {
	at := []int{0}
	for i := range len(b.Events) + 1 {
		at = append(at, len(bootlog.Encode(b.Banks, b.Events[:i]).Log))
	}
	return at
}

func TestL28_TruncatedInEveryRecord(t *testing.T) {
	b := bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}, Locality: 3})
	pcrs := b.Select("sha256", bootPCRs...)
	at := records(b)
	for n := range len(b.Log) {
		_, err := replay(b.Log[:n], "sha256", pcrs)
		if n == 0 || !slices.Contains(at, n) {
			expect(t, err, denial.LogMalformed)
		} else if d := denial.Of(err); d == nil || d.Reason != denial.LogUncovered && d.Reason != denial.EventUnexpected && d.Reason != denial.LogReplayMismatch {
			t.Errorf("cut to %d of %d whole records: %v", slices.Index(at, n), len(at)-1, err)
		}
	}
}

func TestL28_CorruptedInEveryRecord(t *testing.T) {
	b := bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}})
	pcrs := b.Select("sha256", bootPCRs...)
	at := records(b)
	for i := range b.Events {
		start := at[i+1]
		for name, c := range map[string]struct {
			offset int
			value  uint32
		}{
			"PCR": {0, 99}, "no digests": {8, 0}, "4 Gi digests": {8, 0xFFFFFFFF}, "three digests": {8, 3},
			"undeclared algorithm": {10 + 2, 0x0000_0004}, "size": {12 + 2 + 32 + 2 + 48, 0xFFFFFFFF},
		} {
			log := slices.Clone(b.Log)
			binary.LittleEndian.PutUint32(log[start+c.offset:], c.value)
			_, err := replay(log, "sha256", pcrs)
			if !denial.Is(err, denial.LogMalformed) {
				t.Errorf("record %d, %s: got %v, want 605", i+1, name, err)
			}
		}
	}
}

// A log with one bit changed is refused, or hides no program and says nothing else that the true log does not say. Only an
// action can pass for one more program, whose digest is then that of the action's text.
func TestL28_EveryBitFlipped(t *testing.T) {
	b := bootlog.New(bootlog.Options{GRUB: true})
	pcrs := b.Select("sha256", bootPCRs...)
	good, err := replay(b.Log, "sha256", pcrs)
	if err != nil {
		t.Fatal(err)
	}
	calling := func(a BootApp) bool { return a.Digest == sha256Hex([]byte("Calling EFI Application from Boot Option")) }
	log := slices.Clone(b.Log)
	for bit := range 8 * len(log) {
		log[bit/8] ^= 1 << (bit % 8)
		f, err := replay(log, "sha256", pcrs)
		log[bit/8] ^= 1 << (bit % 8)
		if err != nil {
			if d := denial.Of(err); d.Reason == denial.Internal {
				t.Fatalf("bit %d: %v", bit, err)
			}
			continue
		}
		if len(f.CommandLine) > 0 && !reflect.DeepEqual(f.CommandLine, good.CommandLine) ||
			!reflect.DeepEqual(f.SecureBoot, good.SecureBoot) || !reflect.DeepEqual(slices.DeleteFunc(f.BootApps, calling), good.BootApps) {
			t.Fatalf("bit %d gives other facts: %+v", bit, f)
		}
	}
}

func TestLogHeader(t *testing.T) {
	header := bootlog.Encode([]string{"sha1", "sha256"}, nil).Log
	if _, err := parseLog(header); err != nil {
		t.Fatal(err)
	}
	set := func(offset int, value ...byte) []byte {
		log := slices.Clone(header)
		copy(log[offset:], value)
		return log
	}
	for name, log := range map[string][]byte{
		"empty":                {},
		"PCR of the header":    set(0, 1),
		"digest of the header": set(8, 1),
		"signature":            append(set(32+13, '0', '4'), 0),
		"major version":        set(32+21, 1),
		"minor version":        set(32+20, 1),
		"UINTN of 0":           set(32+23, 0),
		"UINTN of 3":           set(32+23, 3),
		"no algorithm":         bootlog.Encode(nil, nil).Log,
		"4 Gi algorithms":      set(32+24, 0xFF, 0xFF, 0xFF, 0xFF),
		"nine algorithms":      set(32+24, 9),
		"one algorithm fewer":  set(32+24, 1),
		"SHA-256 of 20 bytes":  set(32+34, 20),
		"algorithm twice":      set(32+32, 0x04, 0, 20, 0),
		"unknown of 0 bytes":   set(32+32, 0x99, 0, 0, 0),
		"unknown of 65 bytes":  set(32+32, 0x99, 0, 65, 0),
		"vendor information":   set(32+36, 4),
		"size of the header":   set(28, 36),
		"byte in the header":   append(set(28, 38), 0),
		"trailing bytes":       append(set(0), 0, 0, 0, 0),
		"padding":              append(set(0), bytes.Repeat([]byte{0xFF}, 1024)...),
		"older form, PCR 99":   append([]byte{99, 0, 0, 0}, make([]byte, 28)...),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseLog(log)
			expect(t, err, denial.LogMalformed)
		})
	}
	if _, err := parseLog(append(set(28, 38, 0, 0, 0)[:32+36], 1, 7)); err != nil {
		t.Errorf("vendor information: %v", err)
	}
	eight := set(32+24, maxBanks)[:32+28]
	for id := range byte(maxBanks) {
		eight = append(eight, id, 0x99, 32, 0)
	}
	eight = append(eight, 0)
	eight[28] = byte(len(eight) - 32)
	if l, err := parseLog(eight); err != nil || len(l.banks) != maxBanks {
		t.Errorf("%d algorithms: %v", maxBanks, err)
	}
}

func TestDigestsOfAnEvent(t *testing.T) {
	header := bootlog.Encode([]string{"sha256", "sha384"}, nil).Log
	short, long := append([]byte{0x0B, 0}, make([]byte, 32)...), append([]byte{0x0C, 0}, make([]byte, 48)...)
	event := func(n byte, digests ...[]byte) []byte {
		log := append(slices.Clone(header), 0, 0, 0, 0, 4, 0, 0, 0, n, 0, 0, 0)
		return append(append(log, bytes.Join(digests, nil)...), 0, 0, 0, 0)
	}
	for name, log := range map[string][]byte{
		"none":                event(0),
		"three":               event(3, short, long, short),
		"twice":               event(2, short, short),
		"undeclared":          event(1, append([]byte{4, 0}, make([]byte, 20)...)),
		"undeclared and bare": event(1, []byte{4, 0}),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseLog(log)
			expect(t, err, denial.LogMalformed)
		})
	}
	for name, log := range map[string][]byte{
		"one bank of two": event(1, short), "other order": event(2, long, short), "order of the header": event(2, short, long),
	} {
		if _, err := parseLog(log); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	l, err := ParseLog(event(1, short))
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AddOS([]byte(measured(11, "ready", "ready"))); err != nil {
		t.Fatal(err)
	}
	for bank, want := range map[string]int{"sha256": 2, "sha384": 0} {
		if got, err := l.Replay(bank); err != nil || len(got) != want {
			t.Errorf("events without a digest in one bank give %v in %s, %v", got, bank, err)
		}
	}
}

func TestL12_ClaimedSizesAllocateNothing(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	db := find(t, b.Events, 7, bootlog.VariableConfig, 3)
	change := func(offset int, value uint64, size int) *bootlog.Boot {
		return edit(b, func(events []bootlog.Event) []bootlog.Event {
			data := slices.Clone(events[db].Data)
			copy(data[offset:], binary.LittleEndian.AppendUint64(nil, value)[:size])
			events[db].Data = data
			return events
		})
	}
	const list = 32 + 2*len("db")
	for name, forged := range map[string]*bootlog.Boot{
		"SignatureSize":            change(list+24, 0xFFFFFFFF, 4),
		"SignatureSize of 0":       change(list+24, 0, 4),
		"SignatureSize of 15":      change(list+24, 15, 4),
		"SignatureListSize":        change(list+16, 0xFFFFFFFF, 4),
		"SignatureListSize of 0":   change(list+16, 0, 4),
		"SignatureHeaderSize":      change(list+20, 0xFFFFFFFF, 4),
		"SignatureHeaderSize of 1": change(list+20, 1, 4),
		"UnicodeNameLength":        change(16, 1<<63+2, 8),
		"VariableDataLength":       change(24, 1<<63, 8),
	} {
		t.Run("L12 "+name, func(t *testing.T) {
			pcrs := forged.Select("sha256", bootPCRs...)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := replay(forged.Log, "sha256", pcrs)
			runtime.ReadMemStats(&after)
			expect(t, err, denial.LogMalformed)
			if used := after.TotalAlloc - before.TotalAlloc; used > 1<<20 {
				t.Errorf("%d bytes allocated for a log of %d", used, len(forged.Log))
			}
		})
	}
}

func TestMalformedVariables(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	for name, c := range map[string]struct {
		n      int
		change func([]byte) []byte
	}{
		"cut short":           {1, func(d []byte) []byte { return d[:len(d)-1] }},
		"followed by a byte":  {1, func(d []byte) []byte { return append(d, 0) }},
		"only a GUID":         {1, func(d []byte) []byte { return d[:16] }},
		"empty":               {1, func(d []byte) []byte { return nil }},
		"name with a NUL":     {1, func(d []byte) []byte { d[32], d[33] = 0, 0; return d }},
		"name not UTF-16":     {1, func(d []byte) []byte { d[33] = 0xD8; return d }},
		"SecureBoot of two":   {0, func(d []byte) []byte { d[24] = 2; return append(d, 1) }},
		"PK is half an entry": {1, func(d []byte) []byte { d[24]--; return d[:len(d)-1] }},
	} {
		t.Run(name, func(t *testing.T) {
			expect(t, replaying(edit(b, func(events []bootlog.Event) []bootlog.Event {
				e := &events[find(t, events, 7, bootlog.VariableConfig, c.n)]
				e.Data = c.change(slices.Clone(e.Data))
				return events
			})), denial.LogMalformed)
		})
	}
}

func TestL13_LogLongerThanBudget(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	pcrs := b.Select("sha256", bootPCRs...)
	_, err := replay(make([]byte, 64<<20), "sha256", pcrs)
	expect(t, err, denial.RequestLimit)

	repeat := func(e bootlog.Event, n int) *bootlog.Boot {
		return bootlog.Encode(b.Banks, append(slices.Clone(b.Events), slices.Repeat([]bootlog.Event{e}, n)...))
	}
	small := bootlog.Event{PCR: 4, Type: bootlog.Action, Data: []byte("Returning from EFI Application from Boot Option")}
	if err := replaying(repeat(small, maxEvents-len(b.Events))); err != nil {
		t.Errorf("%d events: %v", maxEvents, err)
	}
	expect(t, replaying(repeat(small, maxEvents-len(b.Events)+1)), denial.RequestLimit)

	large := func(size int) *bootlog.Boot {
		return repeat(bootlog.Event{PCR: 12, Type: bootlog.EventTag, Data: make([]byte, size)}, 1)
	}
	room := maxLog - len(large(0).Log)
	if err := replaying(large(room)); err != nil {
		t.Errorf("%d bytes: %v", maxLog, err)
	}
	expect(t, replaying(large(room+1)), denial.RequestLimit)
}

func TestParseLogExplains(t *testing.T) {
	for _, o := range []bootlog.Options{{Banks: []string{"sha1", "sha256"}, Locality: 3}, {GRUB: true}} {
		b := bootlog.New(o)
		l, err := ParseLog(b.Log)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(l.Banks, b.Banks) || len(l.Events) != len(b.Events) {
			t.Errorf("banks %v, %d events, want %v, %d", l.Banks, len(l.Events), b.Banks, len(b.Events))
		}
		var covered, open []string
		for _, e := range l.Events {
			if e.Covered {
				covered = append(covered, e.Description)
			} else {
				open = append(open, e.Description)
			}
		}
		line := `kernel command line "root=/dev/vda2 ro console=ttyS0 lockdown=integrity"`
		program, remark := `program "\\EFI\\Linux\\linux.efi"`, "TPM2_Startup came from locality 3"
		if o.GRUB {
			line = `kernel command line "/boot/vmlinuz root=/dev/vda2 ro console=ttyS0 lockdown=integrity"`
			program, remark = `program "\\EFI\\debian\\shimx64.efi"`, `"MokList"`
		}
		for _, want := range []string{line, `firmware version "2.8.1"`, `variable "SecureBoot" = 01`, "separator 00000000",
			`variable "db" with 1 certificates, 0 hashes, 0 other entries`, `"Exit Boot Services Invocation"`, "partition table with 2 partitions"} {
			if !slices.Contains(covered, want) {
				t.Errorf("not among what digests cover: %s in %q", want, covered)
			}
		}
		for _, want := range []string{program, remark} {
			if !slices.Contains(open, want) {
				t.Errorf("not among what no digest covers: %s in %q", want, open)
			}
		}
	}
}

func TestEventLogReplay(t *testing.T) {
	b := bootlog.New(bootlog.Options{Banks: []string{"sha1", "sha256", "sha384"}, Locality: 3})
	l, err := ParseLog(b.Log)
	if err != nil {
		t.Fatal(err)
	}
	for _, bank := range []string{"sha256", "sha384"} {
		got, err := l.Replay(bank)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != 11 {
			t.Errorf("%d PCRs, want 11", len(got))
		}
		for pcr, value := range got {
			want := b.PCRs(bank)[pcr]
			if have := unhex(t, value); !bytes.Equal(have, want) {
				t.Errorf("%s PCR %d: got %x, want %x", bank, pcr, have, want)
			}
		}
	}
	for _, bank := range []string{"sha1", "sha512", ""} {
		if got, err := l.Replay(bank); err == nil {
			t.Errorf("bank %q gives %v", bank, got)
		}
	}
}

// A log must not be able to write on the terminal of whoever inspects it.
func TestDescriptionsAreOnePlainLine(t *testing.T) {
	hostile := "a\x1b[2J\r\n\u202e" + strings.Repeat("\U0001F600", 200)
	var wide []byte
	for _, c := range hostile[:8] {
		wide = binary.LittleEndian.AppendUint16(wide, uint16(c))
	}
	var events []bootlog.Event
	for kind := range eventTypeNames {
		for _, data := range [][]byte{[]byte(hostile), append(wide, 0, 0), []byte("grub_cmd: " + hostile), nil, make([]byte, 300)} {
			for _, pcr := range []uint32{4, 8, 12} {
				events = append(events, bootlog.Event{PCR: pcr, Type: bootlog.Type(kind), Data: data})
			}
		}
	}
	for len(events) > 0 {
		n := min(len(events), 1000)
		l, err := ParseLog(bootlog.Encode([]string{"sha256"}, slices.DeleteFunc(slices.Clone(events[:n]),
			func(e bootlog.Event) bool { return eventType(e.Type) == evHCRTM })).Log)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range l.Events {
			if len(e.Description) == 0 || len(e.Description) > 2100 || !isPlain(e.Description) {
				t.Errorf("%s: %q", e.Type, e.Description)
			}
		}
		events = events[n:]
	}
}

func FuzzParseLog(f *testing.F) {
	for _, o := range []bootlog.Options{{}, {GRUB: true}, {Banks: []string{"sha1", "sha256", "sha384"}, Locality: 3, NoSecureBoot: true}} {
		f.Add(bootlog.New(o).Log)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		l, err := ParseLog(raw)
		if err != nil {
			if denial.Of(err).Reason == denial.Internal {
				t.Fatal(err)
			}
			return
		}
		if len(l.Events)*14 > len(raw) {
			t.Fatalf("%d events out of %d bytes", len(l.Events), len(raw))
		}
		values, err := l.Replay("sha256")
		if err != nil {
			return
		}
		pcrs := make(map[int64][]byte)
		for pcr, v := range values {
			pcrs[pcr] = unhex(t, v)
		}
		facts, err := replay(raw, "sha256", pcrs)
		if (facts == nil) == (err == nil) || err != nil && denial.Of(err).Reason == denial.Internal {
			t.Fatalf("facts %v, error %v", facts, err)
		}
	})
}

func FuzzSignatureLists(f *testing.F) {
	b := bootlog.New(bootlog.Options{})
	for _, e := range b.Events {
		if v, err := parseVariable(e.Data); err == nil {
			f.Add(v.data)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		counts, err := parseSignatureLists(raw)
		if err == nil && len(counts)*28 > len(raw) {
			t.Fatalf("%d lists out of %d bytes", len(counts), len(raw))
		}
	})
}
