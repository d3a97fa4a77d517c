package attest

import (
	"bytes"
	"encoding/hex"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
)

var bootPCRs = []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 14}

// edit returns the events of a boot after a change.
func edit(b *bootlog.Boot, change func([]bootlog.Event) []bootlog.Event) *bootlog.Boot {
	return bootlog.Encode(b.Banks, change(slices.Clone(b.Events)))
}

// find returns the position of the n-th event of a PCR and type.
func find(t *testing.T, events []bootlog.Event, pcr uint32, kind bootlog.Type, n int) int {
	t.Helper()
	for i, e := range events {
		if e.PCR == pcr && e.Type == kind {
			if n--; n < 0 {
				return i
			}
		}
	}
	t.Fatalf("no such event of type %#x in PCR %d", uint32(kind), pcr)
	return 0
}

func insert(at int, e bootlog.Event) func([]bootlog.Event) []bootlog.Event {
	return func(events []bootlog.Event) []bootlog.Event { return slices.Insert(events, at, e) }
}

func remove(at int) func([]bootlog.Event) []bootlog.Event {
	return func(events []bootlog.Event) []bootlog.Event { return slices.Delete(events, at, at+1) }
}

func replaying(b *bootlog.Boot) error {
	_, err := replay(b.Log, "sha256", b.Select("sha256", bootPCRs...))
	return err
}

func expect(t *testing.T, err error, want denial.Reason) {
	t.Helper()
	if !denial.Is(err, want) {
		t.Errorf("got %v, want %d %v", err, want.Code(), want)
	}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func sha256Hex(data []byte) string {
	h := knownBanks[1].hash.New()
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

const testGUID = "54495257-7420-7365-7420-6f776e65722e" // of disks and partitions of package bootlog

// digests are those of all events of a PCR.
func digests(b *bootlog.Boot, pcr uint32) []string {
	list := []string{}
	for _, e := range b.Events {
		if e.PCR == pcr && e.Type != bootlog.NoAction {
			measured := e.Measured
			if measured == nil {
				measured = e.Data
			}
			list = append(list, sha256Hex(measured))
		}
	}
	return list
}

func TestReplayGivesFacts(t *testing.T) {
	image := []byte("an image")
	b := bootlog.New(bootlog.Options{Image: image, CommandLine: "root=/dev/sda ro"})
	got, err := replay(b.Log, "sha256", b.Select("sha256", bootPCRs...))
	if err != nil {
		t.Fatal(err)
	}
	digest := func(pcr uint32, kind bootlog.Type, n int) string {
		return sha256Hex(b.Events[find(t, b.Events, pcr, kind, n)].Data)
	}
	want := &bootFacts{
		SecureBoot: SecureBoot{Present: true, Enabled: true, PK: digest(7, bootlog.VariableConfig, 1),
			KEK: digest(7, bootlog.VariableConfig, 2), DB: digest(7, bootlog.VariableConfig, 3),
			DBX: digest(7, bootlog.VariableConfig, 4), Authorities: []string{digest(7, bootlog.VariableAuthority, 0)}},
		BootApps:    []BootApp{{PCR: 4, Digest: sha256Hex(image)}},
		CommandLine: []string{"root=/dev/sda ro"},
		Log:         Log{Events: int64(len(b.Events)), Digest: sha256Hex(b.Log)},
		Platform:    Platform{Version: "2.8.1"},
		Disks: []Disk{{GUID: testGUID, Partitions: []Partition{
			{Type: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", GUID: testGUID}, {Type: "0fc63daf-8483-4772-8e79-3d69d8477de4", GUID: testGUID}}}},
		Shim:     Shim{Generations: map[string]int64{}},
		Commands: []string{},
		Sections: map[string]string{".linux": sha256Hex(image), ".osrel": sha256Hex([]byte("ID=debian\nVERSION_ID=12\n")),
			".initrd": sha256Hex([]byte("the initial ramdisk of the generated machine"))},
		Measured:    map[int64][]string{0: digests(b, 0), 2: digests(b, 2), 3: digests(b, 3), 9: digests(b, 9), 12: digests(b, 12), 14: {}},
		Unexplained: map[int64]int64{5: 0, 8: 0, 11: 0, 12: 0},
		OS:          []OSEvent{},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestReplayReadsGRUB(t *testing.T) {
	b := bootlog.New(bootlog.Options{GRUB: true, CommandLine: "quiet", Locality: 3})
	f, err := replay(b.Log, "sha256", b.Select("sha256", bootPCRs...))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"/boot/vmlinuz quiet"}; !reflect.DeepEqual(f.CommandLine, want) {
		t.Errorf("command line %q, want %q", f.CommandLine, want)
	}
	if len(f.BootApps) != 3 || len(f.SecureBoot.Authorities) != 2 {
		t.Errorf("%d boot applications and %d authorities, want 3 and 2", len(f.BootApps), len(f.SecureBoot.Authorities))
	}
}

// What no quote covers is no fact.
func TestFactsComeFromQuotedPCRsOnly(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	f, err := replay(b.Log, "sha256", b.Select("sha256", 0, 11))
	if err != nil {
		t.Fatal(err)
	}
	if f.SecureBoot.Present || f.SecureBoot.DB != "" || len(f.SecureBoot.Authorities)+len(f.BootApps)+len(f.CommandLine) > 0 {
		t.Errorf("facts without a quote of their PCR: %+v", f)
	}
}

func TestL01_AllEventsOfOnePCRDeleted(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	for _, pcr := range []uint32{0, 4, 7, 9, 12} {
		short := edit(b, func(events []bootlog.Event) []bootlog.Event {
			return slices.DeleteFunc(events, func(e bootlog.Event) bool { return e.PCR == pcr })
		})
		_, err := replay(short.Log, "sha256", b.Select("sha256", bootPCRs...))
		expect(t, err, denial.LogUncovered)
	}
}

func TestL02_LogOfOneEvent(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	one := edit(b, func(events []bootlog.Event) []bootlog.Event { return events[:1] })
	_, err := replay(one.Log, "sha256", b.Select("sha256", bootPCRs...))
	expect(t, err, denial.LogUncovered)
	none := edit(b, func(events []bootlog.Event) []bootlog.Event { return nil })
	_, err = replay(none.Log, "sha256", b.Select("sha256", bootPCRs...))
	expect(t, err, denial.LogUncovered)
}

func TestCommandLinesAreIPLEvents(t *testing.T) {
	for pcr, o := range map[uint32]bootlog.Options{8: {GRUB: true}, 12: {}} {
		b := edit(bootlog.New(o), func(events []bootlog.Event) []bootlog.Event {
			for i := range events {
				if events[i].PCR == pcr {
					events[i].Type = bootlog.EventTag
				}
			}
			return events
		})
		f, err := replay(b.Log, "sha256", b.Select("sha256", bootPCRs...))
		if err != nil || len(f.CommandLine) > 0 {
			t.Errorf("PCR %d: got %+v, %v, want no command line", pcr, f, err)
		}
	}
}

func TestL04_EventDataRewritten(t *testing.T) {
	b := bootlog.New(bootlog.Options{GRUB: true})
	good, err := replay(b.Log, "sha256", b.Select("sha256", bootPCRs...))
	if err != nil {
		t.Fatal(err)
	}
	rewrite := func(pcr uint32, kind bootlog.Type, n int, change func([]byte) []byte) (*bootFacts, error) {
		forged := edit(b, func(events []bootlog.Event) []bootlog.Event {
			e := &events[find(t, events, pcr, kind, n)]
			if e.Measured == nil {
				e.Measured = e.Data
			}
			e.Data = change(slices.Clone(e.Data))
			return events
		})
		return replay(forged.Log, "sha256", b.Select("sha256", bootPCRs...))
	}
	flip := func(at int) func([]byte) []byte {
		return func(d []byte) []byte { d[at] ^= 1; return d }
	}
	t.Run("L04 device path of an application", func(t *testing.T) {
		f, err := rewrite(4, bootlog.BootApplication, 0, flip(60))
		if err != nil {
			t.Fatal(err)
		}
		f.Log = good.Log
		if !reflect.DeepEqual(f, good) {
			t.Errorf("facts changed to %+v", f)
		}
	})
	t.Run("L04 kernel command line", func(t *testing.T) {
		f, err := rewrite(8, bootlog.IPL, 1, func(d []byte) []byte { return append(d[:len(d)-1], " init=/bin/sh\x00"...) })
		if err != nil {
			t.Fatal(err)
		}
		if len(f.CommandLine) > 0 {
			t.Errorf("a command line that no digest covers is a fact: %q", f.CommandLine)
		}
	})
	t.Run("L04 SecureBoot variable", func(t *testing.T) {
		_, err := rewrite(7, bootlog.VariableConfig, 0, flip(52))
		expect(t, err, denial.EventDigestMismatch)
	})
	t.Run("L04 separator", func(t *testing.T) {
		_, err := rewrite(0, bootlog.Separator, 0, flip(0))
		expect(t, err, denial.EventDigestMismatch)
	})
	t.Run("L04 action", func(t *testing.T) {
		_, err := rewrite(5, bootlog.Action, 0, flip(0))
		expect(t, err, denial.EventDigestMismatch)
	})
}

func TestL05_AppendAfterSeparator(t *testing.T) {
	b := bootlog.New(bootlog.Options{NoSecureBoot: true})
	on := bootlog.New(bootlog.Options{}).Events
	variable := on[find(t, on, 7, bootlog.VariableConfig, 0)]
	end := len(b.Events)
	expect(t, replaying(edit(b, insert(end, variable))), denial.EventUnexpected)
	variable.Data = append([]byte{0}, variable.Data[1:]...) // a variable that was not there before
	expect(t, replaying(edit(b, insert(end, variable))), denial.EventUnexpected)
	expect(t, replaying(edit(b, insert(end, bootlog.Event{PCR: 7, Type: bootlog.Action, Data: []byte("UEFI Debug Mode")}))), denial.EventUnexpected)
}

func TestActionsAreShortPlainText(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	for _, text := range []string{"", "a\x1fb", "a\x7fb", "caf\xc3\xa9", strings.Repeat("a", maxAction+1)} {
		expect(t, replaying(edit(b, insert(len(b.Events), bootlog.Event{PCR: 5, Type: bootlog.Action, Data: []byte(text)}))),
			denial.EventUnexpected)
	}
	for _, kind := range []bootlog.Type{bootlog.Action, 0x12} {
		longest := bootlog.Event{PCR: 4, Type: kind, Data: []byte(strings.Repeat(" ~", maxAction/2))}
		if err := replaying(edit(b, insert(len(b.Events), longest))); err != nil {
			t.Error(err)
		}
		longest.Measured = []byte("other")
		expect(t, replaying(edit(b, insert(len(b.Events), longest))), denial.EventDigestMismatch)
	}
}

func TestL06_MissingSeparator(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	for pcr := range uint32(8) {
		open := edit(b, remove(find(t, b.Events, pcr, bootlog.Separator, 0)))
		expect(t, replaying(open), denial.EventUnexpected)
	}
	only := edit(b, remove(find(t, b.Events, 7, bootlog.Separator, 0)))
	_, err := replay(only.Log, "sha256", b.Select("sha256", bootPCRs...))
	expect(t, err, denial.EventUnexpected)
}

func TestL07_Duplicates(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	for pcr := range uint32(8) {
		expect(t, replaying(edit(b, insert(len(b.Events), bootlog.Event{PCR: pcr, Type: bootlog.Separator, Data: make([]byte, 4)}))),
			denial.EventUnexpected)
	}
	for n := range 5 {
		at := find(t, b.Events, 7, bootlog.VariableConfig, n)
		expect(t, replaying(edit(b, insert(at+1, b.Events[at]))), denial.EventUnexpected)
	}
}

func TestSeparatorValues(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	set := func(value []byte) error {
		return replaying(edit(b, func(events []bootlog.Event) []bootlog.Event {
			events[find(t, events, 7, bootlog.Separator, 0)].Data = value
			return events
		}))
	}
	if err := set([]byte{0xFF, 0xFF, 0xFF, 0xFF}); err != nil {
		t.Errorf("separator FFFFFFFF: %v", err)
	}
	expect(t, set([]byte{1, 0, 0, 0}), denial.EventUnexpected)
	expect(t, set([]byte("WBCL")), denial.EventUnexpected)
	expect(t, set(make([]byte, 5)), denial.EventUnexpected)
}

// Some libraries add events of the end of boot services to a log that lacks them. Here nothing is added, and nothing left out.
func TestL17_NoEventIsInvented(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	ends := []int{find(t, b.Events, 5, bootlog.Action, 0), find(t, b.Events, 5, bootlog.Action, 1)}
	for name, at := range map[string][]int{"neither": {ends[0], ends[1]}, "only the return": {ends[0]}, "only the call": {ends[1]}} {
		without := edit(b, func(events []bootlog.Event) []bootlog.Event {
			for i := range slices.Backward(at) {
				events = slices.Delete(events, at[i], at[i]+1)
			}
			return events
		})
		_, err := replay(without.Log, "sha256", b.Select("sha256", bootPCRs...))
		t.Run("logged "+name, func(t *testing.T) { expect(t, err, denial.LogReplayMismatch) })
		_, err = replay(b.Log, "sha256", without.Select("sha256", bootPCRs...))
		t.Run("measured "+name, func(t *testing.T) { expect(t, err, denial.LogReplayMismatch) })
		if f, err := replay(without.Log, "sha256", without.Select("sha256", bootPCRs...)); err != nil || f.Log.Events != int64(len(without.Events)) {
			t.Errorf("neither logged nor measured, %s: got %d events, %v", name, f.Log.Events, err)
		}
	}
}

func TestL08_NoActionEventsSayNothing(t *testing.T) {
	b := bootlog.New(bootlog.Options{NoSecureBoot: true})
	good, err := replay(b.Log, "sha256", b.Select("sha256", bootPCRs...))
	if err != nil {
		t.Fatal(err)
	}
	on := bootlog.New(bootlog.Options{}).Events
	for name, e := range map[string]bootlog.Event{
		"SecureBoot=1":          {PCR: 7, Type: bootlog.NoAction, Data: on[find(t, on, 7, bootlog.VariableConfig, 0)].Data},
		"second Spec ID":        {PCR: 0, Type: bootlog.NoAction, Data: []byte(specID03 + "anything")},
		"locality of PCR 1":     {PCR: 1, Type: bootlog.NoAction, Data: []byte(startupLocality + "\x03")},
		"command line":          {PCR: 12, Type: bootlog.NoAction, Data: []byte("x\x00\x00\x00")},
		"no PCR":                {PCR: noPCR, Type: bootlog.NoAction, Data: []byte("a vendor's remark")},
		"unequal to the digest": {PCR: 4, Type: bootlog.NoAction, Digests: map[string][]byte{"sha256": bytes.Repeat([]byte{7}, 32)}},
	} {
		t.Run("L08 "+name, func(t *testing.T) {
			more := edit(b, insert(len(b.Events), e))
			f, err := replay(more.Log, "sha256", b.Select("sha256", bootPCRs...))
			if err != nil {
				t.Fatal(err)
			}
			f.Log = good.Log
			if !reflect.DeepEqual(f, good) {
				t.Errorf("facts changed to %+v", f)
			}
		})
	}
	t.Run("L08 second StartupLocality", func(t *testing.T) {
		b := bootlog.New(bootlog.Options{Locality: 3})
		expect(t, replaying(edit(b, insert(1, b.Events[0]))), denial.EventUnexpected)
	})
	t.Run("L08 late StartupLocality", func(t *testing.T) {
		late := bootlog.Event{PCR: 0, Type: bootlog.NoAction, Data: []byte(startupLocality + "\x03")}
		expect(t, replaying(edit(b, insert(len(b.Events), late))), denial.EventUnexpected)
	})
}

func TestL09_StartupLocality(t *testing.T) {
	for _, locality := range []byte{3, 4} {
		if err := replaying(bootlog.New(bootlog.Options{Locality: locality})); err != nil {
			t.Errorf("locality %d: %v", locality, err)
		}
	}
	for _, locality := range []byte{1, 2, 9, 0xFF} {
		expect(t, replaying(bootlog.New(bootlog.Options{Locality: locality})), denial.LogMalformed)
	}
	b := bootlog.New(bootlog.Options{Locality: 3})
	locality := func(data string) error {
		forged := edit(b, func(events []bootlog.Event) []bootlog.Event { events[0].Data = []byte(data); return events })
		_, err := replay(forged.Log, "sha256", b.Select("sha256", bootPCRs...))
		return err
	}
	expect(t, locality(startupLocality+"\x04"), denial.LogReplayMismatch)
	expect(t, locality(startupLocality+"\x03\x00"), denial.LogMalformed)
	expect(t, locality(startupLocality), denial.LogMalformed)
}

func TestHCRTM(t *testing.T) {
	hcrtm := bootlog.Event{PCR: 0, Type: 0x80000010, Data: []byte("HCRTM")}
	located := bootlog.New(bootlog.Options{Locality: 4}) // gives PCR 0 the same start
	b := edit(located, insert(1, hcrtm))
	if err := replaying(b); err != nil {
		t.Errorf("with StartupLocality: %v", err)
	}
	without := edit(b, remove(0))
	if _, err := replay(without.Log, "sha256", b.Select("sha256", bootPCRs...)); err != nil {
		t.Errorf("without StartupLocality: %v", err)
	}
	expect(t, replaying(edit(located, insert(2, hcrtm))), denial.EventUnexpected)
	expect(t, replaying(edit(b, insert(2, hcrtm))), denial.EventUnexpected)
	hcrtm.PCR = 1
	expect(t, replaying(edit(located, insert(1, hcrtm))), denial.EventUnexpected)
}

func TestL10_EventForPCRThatDoesNotExist(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	for _, e := range []bootlog.Event{
		{PCR: 99, Type: bootlog.Separator}, {PCR: 24, Type: bootlog.IPL}, {PCR: 99, Type: bootlog.NoAction}, {PCR: noPCR, Type: bootlog.IPL},
	} {
		more := edit(b, insert(len(b.Events), e))
		_, err := replay(more.Log, "sha256", b.Select("sha256", bootPCRs...))
		expect(t, err, denial.LogMalformed)
	}
}

func TestL14_OneBankRightOtherWrong(t *testing.T) {
	b := bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}})
	quoted := map[string]map[int64][]byte{
		"sha256": b.Select("sha256", bootPCRs...), "sha384": b.Select("sha384", bootPCRs...),
	}
	for bank := range quoted {
		if _, err := replayBanks(b.Log, bank, quoted); err != nil {
			t.Fatalf("facts of %s: %v", bank, err)
		}
	}
	for _, bank := range []string{"sha256", "sha384"} {
		forged := edit(b, func(events []bootlog.Event) []bootlog.Event {
			e := &events[find(t, events, 4, bootlog.BootApplication, 0)]
			e.Digests = map[string][]byte{bank: bytes.Repeat([]byte{1}, len(quoted[bank][0]))}
			return events
		})
		for facts := range quoted {
			_, err := replayBanks(forged.Log, facts, quoted)
			expect(t, err, denial.LogReplayMismatch)
		}
	}
}

func TestL15_BankThatFirmwareLeftOpen(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	open := bootlog.New(bootlog.Options{Banks: []string{"sha384"}}) // what root extended into it afterwards
	_, err := replayBanks(b.Log, "sha256", map[string]map[int64][]byte{
		"sha256": b.Select("sha256", bootPCRs...), "sha384": open.Select("sha384", bootPCRs...),
	})
	expect(t, err, denial.BankUncapped)
	_, err = replay(b.Log, "sha384", open.Select("sha384", bootPCRs...))
	expect(t, err, denial.BankUncapped)
}

func TestL16_SHA1Only(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	pcrs := b.Select("sha256", bootPCRs...)
	_, err := replay(bootlog.New(bootlog.Options{Banks: []string{"sha1"}}).Log, "sha256", pcrs)
	expect(t, err, denial.BankNotAllowed)
	both := bootlog.New(bootlog.Options{Banks: []string{"sha1", "sha256"}})
	_, err = replay(both.Log, "sha1", both.Select("sha1", bootPCRs...))
	expect(t, err, denial.BankNotAllowed)
	if err := replaying(both); err != nil {
		t.Errorf("SHA-1 beside SHA-256: %v", err)
	}
	var legacy []byte // TCG_PCR_EVENT records
	for range 3 {
		legacy = append(append(append(legacy, 0, 0, 0, 0, 4, 0, 0, 0), make([]byte, 20)...), 4, 0, 0, 0, 0, 0, 0, 0)
	}
	_, err = replay(legacy, "sha256", pcrs)
	expect(t, err, denial.BankNotAllowed)
}

func TestReplayRefusesOtherValues(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	for _, pcr := range bootPCRs {
		pcrs := b.Select("sha256", bootPCRs...)
		want := denial.LogReplayMismatch
		if pcr == 8 || pcr == 14 { // not extended on this machine
			want = denial.LogUncovered
		}
		pcrs[pcr] = bytes.Repeat([]byte{9}, 32)
		_, err := replay(b.Log, "sha256", pcrs)
		expect(t, err, want)
		pcrs[pcr] = nil
		_, err = replay(b.Log, "sha256", pcrs)
		expect(t, err, want)
	}
	_, err := replay(b.Log, "sha256", nil)
	expect(t, err, denial.LogUncovered)
	for _, pcr := range []int64{-1, 24, 1 << 40} {
		_, err = replay(b.Log, "sha256", map[int64][]byte{pcr: make([]byte, 32)})
		expect(t, err, denial.LogUncovered)
	}
	for _, pcr := range []int64{16, 17, 22, 23} {
		if _, err := replay(b.Log, "sha256", b.Select("sha256", 0, pcr)); err != nil {
			t.Errorf("PCR %d at its reset value: %v", pcr, err)
		}
	}
}

func TestEventWithoutDigestInQuotedBank(t *testing.T) {
	b := bootlog.New(bootlog.Options{Banks: []string{"sha256", "sha384"}})
	alone := edit(bootlog.New(bootlog.Options{}), func([]bootlog.Event) []bootlog.Event {
		return []bootlog.Event{{PCR: 12, Type: bootlog.EventTag, Data: []byte("only SHA-256")}}
	})
	header := len(bootlog.Encode([]string{"sha256"}, nil).Log)
	log := append(slices.Clone(b.Log), alone.Log[header:]...)
	_, err := replay(log, "sha384", b.Select("sha384", bootPCRs...))
	expect(t, err, denial.LogUncovered)
	if _, err := replay(log, "sha384", b.Select("sha384", 0, 7)); err != nil {
		t.Errorf("without that PCR: %v", err)
	}
}
