package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
	"github.com/governed-execution/writ/test/need"
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

// Whoever has the private half of PK, KEK or a key of db can have the machine boot anything.
func TestL21_TestKeys(t *testing.T) {
	for _, mark := range testKeyNames {
		name := mark + " - Test PK"
		expect(t, replaying(bootlog.New(bootlog.Options{PlatformKey: name})), denial.SecureBootKeys)
		if err := replaying(bootlog.New(bootlog.Options{PlatformKey: name, NoSecureBoot: true})); err != nil {
			t.Errorf("%q while Secure Boot is off: %v", mark, err)
		}
	}
	list := append(signatures(signatureX509, 28+16+4, 0, 16+4, 16), "cert"...)
	for i, v := range []struct {
		guid efiGUID
		name string
		held bool
	}{
		{efiGlobalVariable, "PK", true}, {efiGlobalVariable, "KEK", true}, {efiImageSecurity, "db", true},
		{efiImageSecurity, "dbx", false}, {efiImageSecurity, "PK", false}, {efiGUID{9}, "db", false},
	} {
		if got := (&efiVariable{v.guid, v.name, []byte("CN=DO NOT SHIP")}).hasTestKey(); got != v.held {
			t.Errorf("%d: %s holds a test key: %v, want %v", i, v.name, got, v.held)
		}
		if (&efiVariable{v.guid, v.name, list}).hasTestKey() {
			t.Errorf("%d: %s holds no test key", i, v.name)
		}
	}
	sum := sha256.Sum256([]byte("cert"))
	hash := signatures(signatureSHA256, 28+16+4, 0, 16+4, 16)
	for _, c := range []struct {
		lists []byte
		held  bool
	}{{list, true}, {slices.Concat(hash, []byte("cert"), list), true}, {append(hash, "cert"...), false}, {list[:20], false}} {
		if got := holdsCertificate(c.lists, []string{"no digest", hex.EncodeToString(sum[:])}); got != c.held {
			t.Errorf("%x holds the certificate: %v, want %v", c.lists, got, c.held)
		}
	}
}

// The vendors' own words and digests are those of certificates that Microsoft's updates of KEK were signed with.
func TestL21_TestKeysOfVendors(t *testing.T) {
	for _, name := range []string{"KEKUpdate_AMI_PK1.bin", "KEKUpdate_ASUS_PK1.bin"} {
		raw, err := os.ReadFile(filepath.Join(need.Corpus(t), "uefi", "ms-kek-updates", name))
		if err != nil {
			t.Fatal(err)
		}
		if !(&efiVariable{efiGlobalVariable, "PK", raw}).hasTestKey() {
			t.Errorf("%s: the name of its test key is not known", name)
		}
		known := false
		for at := range raw {
			const length = 818 // of both certificates
			if bytes.HasPrefix(raw[at:], []byte{0x30, 0x82, 3, 0x2e, 0x30, 0x82}) && len(raw)-at >= length {
				entry := append(signatures(signatureX509, 28+16+length, 0, 16+length, 16), raw[at:at+length]...)
				known = known || holdsCertificate(entry, testKeyCertificates[:])
			}
		}
		if !known {
			t.Errorf("%s: the digest of its test key is not known", name)
		}
	}
	raw, err := os.ReadFile("/usr/share/ovmf/PkKek-1-snakeoil.pem")
	if err != nil {
		need.Missing(t, "the published key of ovmf is needed; run test/deps/install npm: %v", err)
	}
	block, _ := pem.Decode(raw)
	n := uint32(len(block.Bytes))
	if !(&efiVariable{efiGlobalVariable, "PK", append(signatures(signatureX509, 28+16+n, 0, 16+n, 16), block.Bytes...)}).hasTestKey() {
		t.Error("the key of ovmf is not known")
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
