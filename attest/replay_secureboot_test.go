package attest

import (
	"reflect"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
)

func TestL18_SecureBootOffIsAFact(t *testing.T) {
	b := bootlog.New(bootlog.Options{NoSecureBoot: true})
	f, err := replay(b.Log, "sha256", b.Select("sha256", bootPCRs...))
	if err != nil || !f.SecureBoot.Present || f.SecureBoot.Enabled || f.SecureBoot.DB == "" {
		t.Errorf("got %+v, %v, want Secure Boot present and off", f, err)
	}
	for _, value := range []byte{2, 0xFF} {
		odd := edit(b, func(events []bootlog.Event) []bootlog.Event {
			e := &events[find(t, events, 7, bootlog.VariableConfig, 0)]
			e.Data = append(slices.Clone(e.Data[:len(e.Data)-1]), value)
			return events
		})
		if f, err := replay(odd.Log, "sha256", odd.Select("sha256", bootPCRs...)); err != nil || f.SecureBoot.Enabled {
			t.Errorf("SecureBoot = %d: got %+v, %v, want off", value, f, err)
		}
	}
}

func TestL19_SecureBootVariableAbsent(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	absent := edit(b, remove(find(t, b.Events, 7, bootlog.VariableConfig, 0)))
	f, err := replay(absent.Log, "sha256", absent.Select("sha256", bootPCRs...))
	if want := (SecureBoot{Authorities: []string{}}); err != nil || !reflect.DeepEqual(f.SecureBoot, want) {
		t.Errorf("got %+v, %v, want nothing about Secure Boot", f, err)
	}
	elsewhere := edit(b, func(events []bootlog.Event) []bootlog.Event {
		events[find(t, events, 7, bootlog.VariableConfig, 0)].PCR = 1
		return events
	})
	if f, err := replay(elsewhere.Log, "sha256", elsewhere.Select("sha256", bootPCRs...)); err != nil || f.SecureBoot.Present {
		t.Errorf("SecureBoot in PCR 1: got %+v, %v, want nothing about Secure Boot", f, err)
	}
	other := edit(b, func(events []bootlog.Event) []bootlog.Event { // the name under another GUID
		e := &events[find(t, events, 7, bootlog.VariableConfig, 0)]
		e.Data = append([]byte{0}, e.Data[1:]...)
		return events
	})
	if f, err := replay(other.Log, "sha256", other.Select("sha256", bootPCRs...)); err != nil || f.SecureBoot.Present {
		t.Errorf("got %+v, %v, want nothing about Secure Boot", f, err)
	}
}

func TestL20_SecureBootWithoutAuthority(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	alone := edit(b, remove(find(t, b.Events, 7, bootlog.VariableAuthority, 0)))
	expect(t, replaying(alone), denial.SecureBootKeys)
	for n := range 5 {
		t.Run("a variable poses as the authority", func(t *testing.T) {
			expect(t, replaying(edit(alone, func(events []bootlog.Event) []bootlog.Event {
				events[find(t, events, 7, bootlog.VariableConfig, n)].Type = bootlog.VariableAuthority
				return events
			})), denial.EventUnexpected)
		})
	}
}

// Firmware may verify an option ROM with db before the separator.
func TestAuthorityBeforeSeparator(t *testing.T) {
	b := bootlog.New(bootlog.Options{})
	late := find(t, b.Events, 7, bootlog.VariableAuthority, 0)
	early := find(t, b.Events, 7, bootlog.Separator, 0)
	move := func(change func(*bootlog.Event)) *bootlog.Boot {
		return edit(b, func(events []bootlog.Event) []bootlog.Event {
			e := events[late]
			change(&e)
			return slices.Insert(slices.Delete(events, late, late+1), early, e)
		})
	}
	if err := replaying(move(func(*bootlog.Event) {})); err != nil {
		t.Error(err)
	}
	expect(t, replaying(move(func(e *bootlog.Event) { e.Measured = []byte("other") })), denial.EventDigestMismatch)
	expect(t, replaying(move(func(e *bootlog.Event) { e.Data = e.Data[:40] })), denial.LogMalformed)
	expect(t, replaying(move(func(e *bootlog.Event) { e.Data = append([]byte{0}, e.Data[1:]...) })), denial.EventUnexpected)
}
