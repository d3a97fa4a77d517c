package attest

import (
	"bytes"
	"crypto/sha256"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
)

func TestL03_EventTypeRewritten(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	app := find(t, b.Events, 4, bootlog.BootApplication, 0)
	for _, kind := range []bootlog.Type{bootlog.FirmwareBlob, bootlog.IPL, 0x80000004, 0x8401, 0xFFFFFFFF} {
		expect(t, replaying(edit(b, func(events []bootlog.Event) []bootlog.Event {
			events[app].Type = kind
			return events
		})), denial.EventUnexpected)
	}
	t.Run("as an action", func(t *testing.T) {
		expect(t, replaying(edit(b, func(events []bootlog.Event) []bootlog.Event {
			events[app].Type = bootlog.Action
			return events
		})), denial.EventDigestMismatch)
	})
	t.Run("as an action that holds the image", func(t *testing.T) {
		expect(t, replaying(edit(b, func(events []bootlog.Event) []bootlog.Event {
			events[app] = bootlog.Event{PCR: 4, Type: bootlog.Action, Data: []byte("MZ\x90\x00 an image")}
			return events
		})), denial.EventUnexpected)
	})
	t.Run("an action as an image", func(t *testing.T) {
		expect(t, replaying(edit(b, func(events []bootlog.Event) []bootlog.Event {
			action := find(t, events, 4, bootlog.Action, 0)
			events[action].Measured = events[action].Data
			events[action].Type, events[action].Data = bootlog.BootApplication, events[app].Data
			return events
		})), denial.EventUnexpected)
	})
	t.Run("a Secure Boot variable as a policy of a device", func(t *testing.T) {
		for n := range 5 {
			expect(t, replaying(edit(b, func(events []bootlog.Event) []bootlog.Event {
				events[find(t, events, 7, bootlog.VariableConfig, n)].Type = bootlog.Type(evSPDMPolicy)
				return events
			})), denial.EventUnexpected)
		}
	})
	t.Run("an early authority as a policy of a device", func(t *testing.T) {
		expect(t, replaying(edit(b, func(events []bootlog.Event) []bootlog.Event {
			late := find(t, events, 7, bootlog.VariableAuthority, 0)
			e := events[late]
			e.Type = bootlog.Type(evSPDMPolicy)
			return slices.Insert(slices.Delete(events, late, late+1), find(t, events, 7, bootlog.Separator, 0), e)
		})), denial.EventUnexpected)
	})
	t.Run("data that no digest covers as a policy of a device", func(t *testing.T) {
		expect(t, replaying(edit(b, func(events []bootlog.Event) []bootlog.Event {
			e := bootlog.Event{PCR: 7, Type: bootlog.Type(evSPDMPolicy), Data: []byte("x"), Measured: []byte("y")}
			return slices.Insert(events, find(t, events, 7, bootlog.Separator, 0), e)
		})), denial.EventDigestMismatch)
	})
	t.Run("SecureBoot as an authority", func(t *testing.T) {
		expect(t, replaying(edit(bootlog.New(bootlog.Options{NoSecureBoot: true}), func(events []bootlog.Event) []bootlog.Event {
			events[find(t, events, 7, bootlog.VariableConfig, 0)].Type = bootlog.VariableAuthority
			return events
		})), denial.EventUnexpected)
	})
}

// A dynamic launch puts PCRs 17 to 22 to zero and measures from there.
func TestDynamicLaunchMeasuresFromZero(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	log := edit(b, func(events []bootlog.Event) []bootlog.Event {
		return append(events, bootlog.Event{PCR: 17, Type: bootlog.EventTag, Data: []byte("launch")})
	}).Log
	digest := sha256.Sum256([]byte("launch"))
	value := sha256.Sum256(append(make([]byte, 32), digest[:]...))
	if _, err := replay(log, "sha256", map[int64][]byte{17: value[:]}); err != nil {
		t.Error(err)
	}
	value = sha256.Sum256(append(bytes.Repeat([]byte{0xFF}, 32), digest[:]...))
	_, err := replay(log, "sha256", map[int64][]byte{17: value[:]})
	expect(t, err, denial.LogReplayMismatch)
}
