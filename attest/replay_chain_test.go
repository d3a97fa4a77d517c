package attest

import (
	"bytes"
	"reflect"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
)

// factsOf replays a boot that must be accepted.
func factsOf(t *testing.T, b *bootlog.Boot) *bootFacts {
	t.Helper()
	f, err := replay(b.Log, "sha256", b.Select("sha256", append(slices.Clone(bootPCRs), 13, 15)...))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// relabel replays the log of a boot after its labels were changed; what was measured stays.
func relabel(t *testing.T, b *bootlog.Boot, change func([]bootlog.Event)) (*bootFacts, error) {
	t.Helper()
	forged := edit(b, func(events []bootlog.Event) []bootlog.Event {
		for i := range events {
			if events[i].Measured == nil {
				events[i].Measured = events[i].Data
			}
		}
		change(events)
		return events
	})
	return replay(forged.Log, "sha256", b.Select("sha256", bootPCRs...))
}

func TestFactsOfShimAndGRUB(t *testing.T) {
	b := bootlog.New(bootlog.Options{GRUB: true, CommandLine: "quiet"})
	f := factsOf(t, b)
	if want := []string{"linux /boot/vmlinuz quiet", "initrd /boot/initrd.img"}; !slices.Equal(f.Commands, want) {
		t.Errorf("commands %q, want %q", f.Commands, want)
	}
	if want := (Shim{SBAT: 2023012900, Generations: map[string]int64{"sbat": 1, "shim": 2, "grub": 3}}); !reflect.DeepEqual(f.Shim, want) {
		t.Errorf("shim %+v, want %+v", f.Shim, want)
	}
	if want := []string{sha256Hex([]byte("machine owner keys"))}; !slices.Equal(f.Measured[14], want) {
		t.Errorf("PCR 14 %v, want %v", f.Measured[14], want)
	}
	if !slices.Equal(f.Measured[9], digests(b, 9)) || len(f.Measured[9]) < 4 {
		t.Errorf("PCR 9 %v, want %v", f.Measured[9], digests(b, 9))
	}
	if want := map[int64]int64{5: 0, 8: 0, 11: 0, 12: 0, 15: 0}; !reflect.DeepEqual(f.Unexplained, want) {
		t.Errorf("unexplained %v, want %v", f.Unexplained, want)
	}
}

func TestL25_HiddenCommandLineIsCounted(t *testing.T) {
	for pcr, b := range map[uint32]*bootlog.Boot{8: bootlog.New(bootlog.Options{GRUB: true, CommandLine: "init=/bin/sh"}),
		12: bootlog.New(bootlog.Options{CommandLine: "init=/bin/sh"})} {
		line := func(events []bootlog.Event) *bootlog.Event {
			at := slices.IndexFunc(events, func(e bootlog.Event) bool {
				return e.PCR == pcr && (pcr == 12 || bytes.HasPrefix(e.Data, []byte("kernel_cmdline: ")))
			})
			return &events[at]
		}
		if f := factsOf(t, b); len(f.CommandLine) != 1 || f.Unexplained[int64(pcr)] != 0 {
			t.Fatalf("PCR %d: %+v", pcr, f)
		}
		for name, hide := range map[string]func(e *bootlog.Event){
			"other type":  func(e *bootlog.Event) { e.Type = bootlog.EventTag },
			"other text":  func(e *bootlog.Event) { e.Data = []byte("kernel_cmdline: quiet\x00") },
			"other label": func(e *bootlog.Event) { e.Data = []byte("a file\x00") },
			"no data":     func(e *bootlog.Event) { e.Data = nil },
		} {
			f, err := relabel(t, b, func(events []bootlog.Event) { hide(line(events)) })
			if err != nil || len(f.CommandLine) != 0 || f.Unexplained[int64(pcr)] != 1 {
				t.Errorf("PCR %d, %s: got %+v, %v, want one unexplained event", pcr, name, f, err)
			}
		}
	}
	b := bootlog.New(bootlog.Options{GRUB: true, CommandLine: "init=/bin/sh"})
	f, err := relabel(t, b, func(events []bootlog.Event) {
		for i := range events {
			events[i].Data = bytes.Replace(events[i].Data, []byte("kernel_cmdline: "), []byte("grub_cmd: "), 1)
		}
	})
	if err != nil || len(f.CommandLine) != 0 || f.Unexplained[8] != 0 || !slices.Contains(f.Commands, "/boot/vmlinuz init=/bin/sh") {
		t.Errorf("got %+v, %v, want the line among the commands", f, err)
	}
}

var shimVendor = []byte{0x50, 0xab, 0x5d, 0x60, 0x46, 0xe0, 0x00, 0x43, 0xab, 0xb6, 0x3d, 0xd8, 0x10, 0xdd, 0x8b, 0x23}

// shimVariable is a UEFI_VARIABLE_DATA as shim measures it.
func shimVariable(name string, value []byte) []byte {
	out := append(slices.Clone(shimVendor), byte(len(name)), 0, 0, 0, 0, 0, 0, 0, byte(len(value)), 0, 0, 0, 0, 0, 0, 0)
	for _, c := range []byte(name) {
		out = append(out, c, 0)
	}
	return append(out, value...)
}

func TestInsecureShimCannotBeHidden(t *testing.T) {
	insecure := shimVariable("MokSBState", []byte{1})
	for name, data := range map[string][]byte{"honest": insecure, "junk": []byte("junk"), "another": shimVariable("MokSBState", []byte{0})} {
		b := bootlog.New(bootlog.Options{GRUB: true})
		b = edit(b, insert(len(b.Events), bootlog.Event{PCR: 7, Type: bootlog.VariableAuthority, Data: data, Measured: insecure}))
		if f := factsOf(t, b); !f.Shim.Insecure {
			t.Errorf("%s data hides that shim verifies nothing", name)
		}
	}
	b := bootlog.New(bootlog.Options{GRUB: true})
	b = edit(b, insert(len(b.Events), bootlog.Event{PCR: 7, Type: bootlog.VariableAuthority, Data: insecure, Measured: []byte("else")}))
	if f := factsOf(t, b); f.Shim.Insecure {
		t.Error("data that no digest covers is a fact")
	}
}

func TestL22_LowestSBATLevelCounts(t *testing.T) {
	add := func(level string) Shim {
		b := bootlog.New(bootlog.Options{GRUB: true}) // has 2023012900 with shim 2 and grub 3
		return factsOf(t, edit(b, insert(len(b.Events), bootlog.Event{PCR: 7, Type: bootlog.VariableAuthority,
			Data: shimVariable("SbatLevel", []byte(level))}))).Shim
	}
	if got := add("sbat,1,2030010100\nshim,9\ngrub,9\n"); got.SBAT != 2023012900 || got.Generations["shim"] != 2 {
		t.Errorf("a second level raised the first: %+v", got)
	}
	if got := add("sbat,1,2021030218\ngrub,2\n"); got.SBAT != 2021030218 || got.Generations["grub"] != 2 || got.Generations["shim"] != 0 {
		t.Errorf("got %+v, want the lower level", got)
	}
	for _, bad := range []string{"", "sbat,1\n", "sbat,1,20210302\n", "x,1,2021030218\n", "sbat,1,2021-30218\n", "sbat,1,99999999999999999999\n"} {
		if date, _ := parseSBAT([]byte(bad)); date != 0 {
			t.Errorf("%q has the date %d", bad, date)
		}
	}
}

func TestSectionsOfAUnifiedKernelImage(t *testing.T) {
	b := bootlog.New(bootlog.Options{Image: []byte("kernel")})
	good := factsOf(t, b)
	if good.Sections[".linux"] != sha256Hex([]byte("kernel")) || good.Unexplained[11] != 0 {
		t.Fatalf("got %v and %d", good.Sections, good.Unexplained[11])
	}
	f, err := relabel(t, b, func(events []bootlog.Event) {
		for i := range events {
			if events[i].PCR == 11 {
				events[i].Data, events[i].Type = []byte("x"), bootlog.EventTag
			}
		}
	})
	if err != nil || !reflect.DeepEqual(f.Sections, good.Sections) {
		t.Errorf("labels change the sections to %v (%v)", f, err)
	}
	name, content := bootlog.Event{PCR: 11, Type: bootlog.IPL, Data: []byte(".linux\x00")}, bootlog.Event{PCR: 11, Type: bootlog.IPL, Data: []byte("evil")}
	for what, c := range map[string]struct {
		events []bootlog.Event
		count  int64
	}{
		"a second kernel":          {[]bootlog.Event{name, content}, 2},
		"something else":           {[]bootlog.Event{content}, 1},
		"a name without a content": {[]bootlog.Event{{PCR: 11, Type: bootlog.IPL, Data: []byte(".uname\x00")}}, 1},
		"a section after the end":  {[]bootlog.Event{content, {PCR: 11, Type: bootlog.IPL, Data: []byte(".uname\x00")}, content}, 3},
		"a signature section":      {[]bootlog.Event{{PCR: 11, Type: bootlog.IPL, Data: []byte(".pcrsig\x00")}, content}, 2},
	} {
		f := factsOf(t, edit(b, func(events []bootlog.Event) []bootlog.Event { return append(events, c.events...) }))
		if !reflect.DeepEqual(f.Sections, good.Sections) || f.Unexplained[11] != c.count {
			t.Errorf("%s: got %v and %d, want the same sections and %d", what, f.Sections, f.Unexplained[11], c.count)
		}
	}
}

func TestL24_DebuggerAndDMAProtection(t *testing.T) {
	b := bootlog.New(bootlog.Options{Locality: 3})
	if f := factsOf(t, b); f.Platform != (Platform{Locality: 3, Version: "2.8.1"}) {
		t.Errorf("got %+v", f.Platform)
	}
	at := find(t, b.Events, 7, bootlog.Separator, 0)
	for text, want := range map[string]Platform{
		"UEFI Debug Mode":           {Locality: 3, Version: "2.8.1", Debug: true},
		"DMA Protection Disabled":   {Locality: 3, Version: "2.8.1", DMAUnprotected: true},
		"UEFI Debug Mode\x00":       {},
		"DMA Protection Disabled ?": {Locality: 3, Version: "2.8.1"},
	} {
		odd := edit(b, insert(at, bootlog.Event{PCR: 7, Type: bootlog.Action, Data: []byte(text)}))
		if want == (Platform{}) { // a NUL is no plain text
			expect(t, replaying(odd), denial.EventUnexpected)
			continue
		}
		if f := factsOf(t, odd); f.Platform != want {
			t.Errorf("%q: got %+v, want %+v", text, f.Platform, want)
		}
		for _, kind := range []bootlog.Type{bootlog.VariableConfig, bootlog.VariableAuthority, bootlog.EventTag, bootlog.NoAction} {
			if _, err := relabel(t, odd, func(events []bootlog.Event) { events[at].Type = kind }); err == nil {
				t.Errorf("%q is hidden as type %#x", text, uint32(kind))
			}
		}
	}
}

func TestHCRTMIsLocality4(t *testing.T) {
	b := bootlog.New(bootlog.Options{Locality: 4})
	b = edit(b, insert(1, bootlog.Event{PCR: 0, Type: 0x80000010, Data: []byte("HCRTM")}))
	if f := factsOf(t, b); f.Platform.Locality != 4 {
		t.Errorf("locality %d, want 4", f.Platform.Locality)
	}
}

func TestPartitionTableThatNoDigestCovers(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	for name, change := range map[string]func(e *bootlog.Event){
		"data": func(e *bootlog.Event) {
			e.Data = bytes.Replace(e.Data, []byte("Writ"), []byte("Evil"), 1)
			e.Data[60] ^= 1
		},
		"cut":  func(e *bootlog.Event) { e.Data = e.Data[:len(e.Data)-1] },
		"type": func(e *bootlog.Event) { e.Type = bootlog.EventTag },
	} {
		f, err := relabel(t, b, func(events []bootlog.Event) { change(&events[find(t, events, 5, bootlog.GPT, 0)]) })
		if err != nil || len(f.Disks) != 0 || f.Unexplained[5] != 1 {
			t.Errorf("%s: got %+v, %v, want one unexplained event", name, f, err)
		}
	}
}
