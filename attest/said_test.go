package attest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
)

// What a person is told of a whole boot. The second word of a line says whether digests cover what is said.
func TestABootIsExplained(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		o    bootlog.Options
		want string
	}{
		"a unified kernel image": {bootlog.Options{Locality: 3}, `
0 open EV_NO_ACTION TPM2_Startup came from locality 3
0 covered EV_S_CRTM_VERSION firmware version "2.8.1"
0 open EV_EFI_PLATFORM_FIRMWARE_BLOB 16 bytes
0 open EV_EFI_PLATFORM_FIRMWARE_BLOB 16 bytes
7 covered EV_EFI_VARIABLE_DRIVER_CONFIG variable "SecureBoot" = 01
7 covered EV_EFI_VARIABLE_DRIVER_CONFIG variable "PK" with 1 certificates, 0 hashes, 0 other entries
7 covered EV_EFI_VARIABLE_DRIVER_CONFIG variable "KEK" with 1 certificates, 0 hashes, 0 other entries
7 covered EV_EFI_VARIABLE_DRIVER_CONFIG variable "db" with 1 certificates, 0 hashes, 0 other entries
7 covered EV_EFI_VARIABLE_DRIVER_CONFIG variable "dbx" with 0 certificates, 1 hashes, 0 other entries
7 covered EV_SEPARATOR separator 00000000
1 open EV_EFI_VARIABLE_BOOT variable "BootOrder", 2 bytes
1 open EV_EFI_VARIABLE_BOOT variable "Boot0000", 110 bytes
1 open EV_EFI_HANDOFF_TABLES 32 bytes
4 covered EV_EFI_ACTION "Calling EFI Application from Boot Option"
0 covered EV_SEPARATOR separator 00000000
1 covered EV_SEPARATOR separator 00000000
2 covered EV_SEPARATOR separator 00000000
3 covered EV_SEPARATOR separator 00000000
4 covered EV_SEPARATOR separator 00000000
5 covered EV_SEPARATOR separator 00000000
6 covered EV_SEPARATOR separator 00000000
5 covered EV_EFI_GPT_EVENT partition table with 2 partitions
7 covered EV_EFI_VARIABLE_AUTHORITY one entry of variable "db", 367 bytes
4 open EV_EFI_BOOT_SERVICES_APPLICATION program "\\EFI\\Linux\\linux.efi"
11 covered EV_IPL section .linux of a unified kernel image
11 open EV_IPL section .linux of a unified kernel image
11 covered EV_IPL section .osrel of a unified kernel image
11 open EV_IPL section .osrel of a unified kernel image
11 covered EV_IPL section .initrd of a unified kernel image
11 open EV_IPL section .initrd of a unified kernel image
12 covered EV_IPL kernel command line "root=/dev/vda2 ro console=ttyS0 lockdown=integrity"
9 open EV_EVENT_TAG tag 0x8f3b22ed "LOADED_IMAGE::LoadOptions"
9 open EV_EVENT_TAG tag 0x8f3b22ec "Linux initrd"
5 covered EV_EFI_ACTION "Exit Boot Services Invocation"
5 covered EV_EFI_ACTION "Exit Boot Services Returned with Success"
`}, "shim and GRUB": {bootlog.Options{GRUB: true, NoSecureBoot: true, Banks: []string{"sha1", "sha256", "sha384"}}, `
0 covered EV_S_CRTM_VERSION firmware version "2.8.1"
0 open EV_EFI_PLATFORM_FIRMWARE_BLOB 16 bytes
0 open EV_EFI_PLATFORM_FIRMWARE_BLOB 16 bytes
7 covered EV_EFI_VARIABLE_DRIVER_CONFIG variable "SecureBoot" = 00
7 covered EV_EFI_VARIABLE_DRIVER_CONFIG variable "PK" with 1 certificates, 0 hashes, 0 other entries
7 covered EV_EFI_VARIABLE_DRIVER_CONFIG variable "KEK" with 1 certificates, 0 hashes, 0 other entries
7 covered EV_EFI_VARIABLE_DRIVER_CONFIG variable "db" with 1 certificates, 0 hashes, 0 other entries
7 covered EV_EFI_VARIABLE_DRIVER_CONFIG variable "dbx" with 0 certificates, 1 hashes, 0 other entries
7 covered EV_SEPARATOR separator 00000000
1 open EV_EFI_VARIABLE_BOOT variable "BootOrder", 2 bytes
1 open EV_EFI_VARIABLE_BOOT variable "Boot0000", 118 bytes
1 open EV_EFI_HANDOFF_TABLES 32 bytes
4 covered EV_EFI_ACTION "Calling EFI Application from Boot Option"
0 covered EV_SEPARATOR separator 00000000
1 covered EV_SEPARATOR separator 00000000
2 covered EV_SEPARATOR separator 00000000
3 covered EV_SEPARATOR separator 00000000
4 covered EV_SEPARATOR separator 00000000
5 covered EV_SEPARATOR separator 00000000
6 covered EV_SEPARATOR separator 00000000
5 covered EV_EFI_GPT_EVENT partition table with 2 partitions
4 open EV_EFI_BOOT_SERVICES_APPLICATION program "\\EFI\\debian\\shimx64.efi"
14 open EV_IPL "MokList"
7 covered EV_EFI_VARIABLE_AUTHORITY variable "SbatLevel", 32 bytes
4 open EV_EFI_BOOT_SERVICES_APPLICATION program "\\EFI\\debian\\grubx64.efi"
9 open EV_IPL "(hd0,gpt1)/EFI/debian/grub.cfg"
8 covered EV_IPL GRUB command "linux /boot/vmlinuz root=/dev/vda2 ro console=ttyS0 lockdown=integrity"
9 open EV_IPL "/boot/vmlinuz"
8 covered EV_IPL kernel command line "/boot/vmlinuz root=/dev/vda2 ro console=ttyS0 lockdown=integrity"
8 covered EV_IPL GRUB command "initrd /boot/initrd.img"
9 open EV_IPL "/boot/initrd.img"
4 open EV_EFI_BOOT_SERVICES_APPLICATION program without a file path
9 open EV_EVENT_TAG tag 0x8f3b22ed "LOADED_IMAGE::LoadOptions"
9 open EV_EVENT_TAG tag 0x8f3b22ec "Linux initrd"
5 covered EV_EFI_ACTION "Exit Boot Services Invocation"
5 covered EV_EFI_ACTION "Exit Boot Services Returned with Success"
`}} {
		b := bootlog.New(row.o)
		l, err := ParseLog(b.Log)
		if err != nil {
			t.Fatal(err)
		}
		got := "\n"
		for i, e := range l.Events {
			got += fmt.Sprintln(e.PCR, map[bool]string{true: "covered", false: "open"}[e.Covered], e.Type, e.Description)
			if e.Number != i+1 || e.Size != len(b.Events[i].Data) || len(e.Digests) != len(b.Banks) {
				t.Errorf("%s, event %d: got number %d, %d bytes, %d digests", name, i+1, e.Number, e.Size, len(e.Digests))
			}
		}
		if got != row.want {
			t.Errorf("%s: got%s\nwant%s", name, got, row.want)
		}
	}
}

// The odd events that no machine of these tests logs.
func TestOddEventsAreExplained(t *testing.T) {
	t.Parallel()
	wide := func(text string) (b []byte) {
		for _, c := range text {
			b = binary.LittleEndian.AppendUint16(b, uint16(c))
		}
		return b
	}
	variable := func(guid efiGUID, name string, data []byte) []byte {
		b := slices.Concat(guid[:], binary.LittleEndian.AppendUint64(nil, uint64(len(name))), binary.LittleEndian.AppendUint64(nil, uint64(len(data))), wide(name))
		return append(b, data...)
	}
	lists := func(kinds ...efiGUID) (b []byte) {
		for _, k := range kinds {
			b = append(b, signatures(k, 28+48, 0, 48, 48)...)
		}
		return b
	}
	owner := efiGUID{1}
	image := func(path []byte) []byte {
		return append(binary.LittleEndian.AppendUint64(make([]byte, 24), uint64(len(path))), path...)
	}
	node := func(kind uint16, body []byte) []byte {
		return append(binary.LittleEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, kind), uint16(len(body)+4)), body...)
	}
	gpt := make([]byte, 100)
	gpt[92] = 7
	for name, row := range map[string]struct {
		e    logEvent
		want string
		open bool // no digest is of what is said
	}{
		"a long separator":             {logEvent{0, evSeparator, bytes.Repeat([]byte{1}, 200)}, "separator " + strings.Repeat("01", 160), false},
		"an action":                    {logEvent{4, evAction, []byte("x\x00")}, `"x"`, false},
		"devices left out":             {logEvent{4, evOmitBootDevices, []byte("x")}, `"x"`, false},
		"a compact hash":               {logEvent{6, evCompactHash, []byte("x")}, `"x"`, false},
		"a locality":                   {logEvent{0, evNoAction, []byte("StartupLocality\x00\x04")}, "TPM2_Startup came from locality 4", true},
		"a locality too long":          {logEvent{0, evNoAction, []byte("StartupLocality\x00\x04\x00")}, `remark "StartupLocality"`, true},
		"a remark":                     {logEvent{0, evNoAction, []byte("Sp800-155\x00\x01\x02")}, `remark "Sp800-155"`, true},
		"a version":                    {logEvent{0, evCRTMVersion, wide("1.0\x00")}, `firmware version "1.0"`, false},
		"a version that is no text":    {logEvent{0, evCRTMVersion, []byte{1}}, "1 bytes", false},
		"the SecureBoot variable":      {logEvent{7, evVariableConfig, variable(efiGlobalVariable, "SecureBoot", []byte{1})}, `variable "SecureBoot" = 01`, false},
		"a variable of others":         {logEvent{7, evVariableConfig, variable(owner, "SecureBoot", []byte{1})}, `variable "SecureBoot", 1 bytes`, false},
		"an empty PK":                  {logEvent{7, evVariableConfig, variable(efiGlobalVariable, "PK", nil)}, `variable "PK" with 0 certificates, 0 hashes, 0 other entries`, false},
		"certificates and hashes":      {logEvent{7, evVariableConfig, variable(efiImageSecurity, "db", lists(signatureX509, signatureSHA256, signatureX509, owner))}, `variable "db" with 2 certificates, 1 hashes, 1 other entries`, false},
		"hashes first":                 {logEvent{7, evVariableConfig, variable(efiImageSecurity, "dbx", lists(signatureSHA256, owner))}, `variable "dbx" with 0 certificates, 1 hashes, 1 other entries`, false},
		"one entry":                    {logEvent{7, evAuthority, variable(efiImageSecurity, "db", append(owner[:], 1, 2, 3))}, `one entry of variable "db", 19 bytes`, false},
		"an entry of 16 bytes":         {logEvent{7, evAuthority, variable(efiImageSecurity, "db", owner[:])}, `one entry of variable "db", 16 bytes`, false},
		"an entry that is too short":   {logEvent{7, evAuthority, variable(efiImageSecurity, "db", owner[:15])}, `variable "db", malformed`, false},
		"a list cut short":             {logEvent{7, evVariableConfig, variable(efiImageSecurity, "db", lists(signatureX509)[:50])}, `variable "db", malformed`, false},
		"a boot variable":              {logEvent{1, evVariableBoot, variable(efiGlobalVariable, "BootOrder", []byte{0, 0})}, `variable "BootOrder", 2 bytes`, false},
		"a newer boot variable":        {logEvent{1, evVariableBoot2, variable(efiGlobalVariable, "BootNext", []byte{0, 0})}, `variable "BootNext", 2 bytes`, false},
		"no variable":                  {logEvent{1, evVariableBoot, []byte{1}}, "1 bytes", false},
		"a program":                    {logEvent{4, evBootApplication, image(slices.Concat(node(0x0102, make([]byte, 8)), node(0x0404, wide(`\EFI`+"\x00")), node(0x0404, wide(`\a.efi`+"\x00")), node(0xff7f, nil)))}, `program "\\EFI\\a.efi"`, true},
		"a driver":                     {logEvent{2, evBootDriver, image(nil)}, "program without a file path", true},
		"a runtime driver":             {logEvent{2, evRuntimeDriver, image(node(0x0404, []byte{1}))}, "program without a file path", true},
		"a path cut short":             {logEvent{2, evBootDriver, image(append(node(0x0404, wide("x")), 4, 4))}, `program "x"`, true},
		"a program of one byte":        {logEvent{4, evBootApplication, []byte{1}}, "program without a file path", true},
		"a tag":                        {logEvent{9, evEventTag, append([]byte{1, 0, 0, 0, 2, 0, 0, 0}, "ab"...)}, `tag 0x00000001 "ab"`, false},
		"a tag of another length":      {logEvent{9, evEventTag, append([]byte{1, 0, 0, 0, 1, 0, 0, 0}, "ab"...)}, "10 bytes", false},
		"a tag without a text":         {logEvent{9, evEventTag, make([]byte, 8)}, "8 bytes", false},
		"a partition table":            {logEvent{5, evGPT, gpt}, "partition table with 7 partitions", false},
		"a newer partition table":      {logEvent{5, evGPT2, gpt}, "partition table with 7 partitions", false},
		"a table cut short":            {logEvent{5, evGPT, gpt[:99]}, "99 bytes", false},
		"a command line of systemd":    {logEvent{8, evIPL, append(wide("quiet"), 0)}, `kernel command line "quiet"`, false},
		"no command line in PCR 8":     {logEvent{8, evIPL, append(wide("qu\x07iet"), 0)}, `7100750007006900650074`, false},
		"a command line in PCR 12":     {logEvent{12, evIPL, wide("qu\x07iet\x00")}, `kernel command line "qu\aiet"`, false},
		"a section":                    {logEvent{11, evIPL, wide(".linux\x00")}, "section .linux of a unified kernel image", false},
		"a module":                     {logEvent{8, evIPL, []byte("module_cmdline: x")}, `GRUB command "x"`, false},
		"a command of old":             {logEvent{8, evIPL, []byte("grub_cmd x\x00")}, `GRUB command "x"`, false},
		"a phase":                      {logEvent{11, evIPL, wide("enter-initrd\x00")}, `"enter-initrd"`, false},
		"text that is no UTF-16 text":  {logEvent{11, evIPL, []byte("ab\x00")}, `"ab"`, false},
		"a type that nobody describes": {logEvent{1, 0x80000009, []byte{1, 2, 3}}, "3 bytes", false},
	} {
		text, measured := describe(&row.e)
		if text != row.want || (measured == nil) != row.open {
			t.Errorf("%s: got %s, measured %x, want %s", name, text, measured, row.want)
		}
	}
}

// What a log is said to hold in banks that nobody verifies, and for no PCR.
func TestBanksWithoutAHashCoverNothing(t *testing.T) {
	t.Parallel()
	b := bootlog.New(bootlog.Options{})
	remark := edit(b, insert(0, bootlog.Event{PCR: noPCR, Type: bootlog.NoAction, Data: []byte("remark\x00")}))
	l, err := ParseLog(remark.Log)
	if err != nil || l.Events[0].PCR != -1 || l.Events[0].Covered || l.Events[1].PCR != 0 {
		t.Fatalf("got %v, %+v", err, l.Events[:2])
	}
	log := &bootLog{raw: make([]byte, 200), banks: []logBank{{id: 0x77, size: 20}, knownBanks[1]}, events: []logEvent{{pcr: 4, kind: evAction, data: []byte("x")}}, digests: []uint32{10, 40}}
	copy(log.raw[40:], sum("x"))
	if e := log.explain(0); e.Covered || len(e.Digests) != 2 {
		t.Errorf("an unknown bank beside a good one: got %+v", e)
	}
	log.banks[0] = knownBanks[0]
	if e := log.explain(0); !e.Covered || e.Digests["sha256"] != hex.EncodeToString(sum("x")) {
		t.Errorf("SHA-1 beside a good one: got %+v", e)
	}
	log.digests[1] = 0
	if e := log.explain(0); e.Covered || len(e.Digests) != 1 {
		t.Errorf("SHA-1 alone: got %+v", e)
	}
	whole := &EventLog{log: log}
	for _, bank := range []string{"sha1", "sha384", ""} {
		if got, err := whole.Replay(bank); err == nil {
			t.Errorf("bank %q: got %v", bank, got)
		}
	}
}

// The log of systemd goes on where that of the firmware ends, in what is shown as in what is replayed.
func TestTheLogOfTheSystemIsShown(t *testing.T) {
	t.Parallel()
	r := separated()
	l, err := ParseLog(r.Log)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.AddOS([]byte("x")); !denial.Is(err, denial.LogMalformed) || len(l.OS) != 0 {
		t.Errorf("no log: got %v, %v", err, l.OS)
	}
	if err := l.AddOS([]byte(r.log)); err != nil {
		t.Fatal(err)
	}
	if len(l.OS) != 14 || l.OS[0].Description != `"enter-initrd"` || !l.OS[0].Covered || l.OS[1].Covered || l.OS[13].Number != 14 || l.OS[13].PCR != 11 {
		t.Errorf("got %+v", l.OS)
	}
	values, err := l.Replay("sha256")
	if err != nil {
		t.Fatal(err)
	}
	for pcr, want := range r.pcrs {
		if got := values[pcr]; got != hex.EncodeToString(want) && !(got == "" && bytes.Equal(want, make([]byte, 32))) {
			t.Errorf("PCR %d: got %s, want %x", pcr, got, want)
		}
	}
	if _, ok := values[10]; ok {
		t.Error("a PCR that nothing extends has a value")
	}
	claims, proofs, err := l.Compare("sha256", r.pcrs)
	if err != nil || len(claims.OS) != 14 {
		t.Fatalf("got %v, %+v", err, claims.OS)
	}
	n := slices.IndexFunc(proofs, func(p Proof) bool { return p.Fact == "facts.os[13]" })
	if n < 0 || !reflect.DeepEqual(proofs[n], Proof{Fact: "facts.os[13]", Event: 14, OS: true, PCR: 11, Digest: hex.EncodeToString(sum("ready"))}) {
		t.Errorf("the last event of the system is proved by %+v", proofs)
	}
	// Without PCRs 11 and 15 in the quote, their events are no facts.
	few := map[int64][]byte{0: r.pcrs[0], 4: r.pcrs[4], 7: r.pcrs[7]}
	if claims, _, err = l.Compare("sha256", few); err != nil || len(claims.OS) != 3 || claims.OS[2].PCR != 7 {
		t.Errorf("got %v, %+v, want the separators of three PCRs", err, claims.OS)
	}
	if _, listed := claims.Measured[11]; listed || len(claims.Measured) != 1 {
		t.Errorf("lists of PCRs that have none: %v", claims.Measured)
	}
	if _, counted := claims.Unexplained[15]; counted {
		t.Error("a PCR that was not quoted is counted")
	}
}

// Each fact of a log is proved by the event that it rests on.
func TestFactsAreProved(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		o    bootlog.Options
		more []bootlog.Event
		want string
	}{
		"a unified kernel image": {bootlog.Options{}, nil, "boot_apps[0] 4, command_line[0] 12, disks[0] 5, measured[0][0] 0, measured[0][1] 0, measured[0][2] 0, " +
			"measured[0][3] 0, measured[12][0] 12, measured[2][0] 2, measured[3][0] 3, measured[9][0] 9, measured[9][1] 9, platform.debug 7, platform.dma_unprotected 7, " +
			"platform.version 0, sections..initrd 11, sections..linux 11, sections..osrel 11, secure_boot.authorities[0] 7, secure_boot.db 7, secure_boot.dbx 7, " +
			"secure_boot.enabled 7, secure_boot.kek 7, secure_boot.pk 7"},
		"shim and GRUB": {bootlog.Options{GRUB: true}, []bootlog.Event{{PCR: 7, Type: bootlog.VariableAuthority, Data: insecureMOK}},
			"boot_apps[0] 4, boot_apps[1] 4, boot_apps[2] 4, command_line[0] 8, commands[0] 8, commands[1] 8, disks[0] 5, measured[0][0] 0, measured[0][1] 0, measured[0][2] 0, " +
				"measured[0][3] 0, measured[14][0] 14, measured[2][0] 2, measured[3][0] 3, measured[9][0] 9, measured[9][1] 9, measured[9][2] 9, measured[9][3] 9, measured[9][4] 9, " +
				"platform.debug 7, platform.dma_unprotected 7, platform.version 0, secure_boot.authorities[0] 7, secure_boot.authorities[1] 7, secure_boot.authorities[2] 7, " +
				"secure_boot.db 7, secure_boot.dbx 7, secure_boot.enabled 7, secure_boot.kek 7, secure_boot.pk 7, shim.insecure 7, shim.sbat 7"},
	} {
		b := bootlog.New(row.o)
		at := find(t, b.Events, 7, bootlog.Separator, 0)
		b = edit(b, func(events []bootlog.Event) []bootlog.Event {
			return append(slices.Insert(events, at, bootlog.Event{PCR: 7, Type: bootlog.Action, Data: []byte("DMA Protection Disabled")},
				bootlog.Event{PCR: 7, Type: bootlog.Action, Data: []byte("UEFI Debug Mode")},
				bootlog.Event{PCR: 7, Type: bootlog.VariableConfig, Data: shimVariable("AuditMode", []byte{0})}), row.more...)
		})
		l, err := ParseLog(b.Log)
		if err != nil {
			t.Fatal(err)
		}
		_, proofs, err := l.Compare("sha256", b.Select("sha256", bootPCRs...))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range proofs {
			fact, ok := strings.CutPrefix(p.Fact, "facts.")
			if e := l.Events[p.Event-1]; !ok || p.OS || e.PCR != p.PCR || e.Digests["sha256"] != p.Digest {
				t.Errorf("%s: %+v is no proof: the event is %+v", name, p, e)
			}
			got = append(got, fmt.Sprintf("%s %d", fact, p.PCR))
		}
		slices.Sort(got)
		if strings.Join(got, ", ") != row.want {
			t.Errorf("%s: got %s\nwant %s", name, strings.Join(got, ", "), row.want)
		}
	}
}

// Whoever is given claims may write to them: nothing of it reaches the facts.
func TestClaimsAreACopy(t *testing.T) {
	t.Parallel()
	make := func() Claims {
		return Claims{PCR: map[int64]string{0: "a"}, SecureBoot: SecureBoot{Authorities: []string{"a"}}, BootApps: []BootApp{{Digest: "a"}}, CommandLine: []string{"a"},
			Disks: []Disk{{GUID: "a", Partitions: []Partition{{Name: "a"}}}}, Shim: Shim{Generations: map[string]int64{"a": 1}}, Commands: []string{"a"},
			Sections: map[string]string{"a": "a"}, Measured: map[int64][]string{0: {"a"}}, Unexplained: map[int64]int64{5: 1}, OS: []OSEvent{{Text: "a"}}, Banks: []string{"a"},
			CNF: CNF{PCRs: []int64{1}}, IMA: IMA{Files: []IMAFile{{Path: "a"}}, Buffers: []Buffer{{Name: "a"}}}}
	}
	f := &Facts{claims: make()}
	c := f.Claims()
	if !reflect.DeepEqual(c, make()) {
		t.Fatalf("got %+v", c)
	}
	c.Disks[0].Partitions[0].Name, c.Measured[0][0] = "b", "b"
	c.PCR[0], c.SecureBoot.Authorities[0], c.BootApps[0].Digest, c.CommandLine[0], c.Disks[0].GUID, c.Shim.Generations["a"], c.Commands[0] = "b", "b", "b", "b", "b", 2, "b"
	c.Sections["a"], c.Measured[0], c.Unexplained[5], c.OS[0].Text, c.Banks[0], c.CNF.PCRs[0], c.IMA.Files[0].Path, c.IMA.Buffers[0].Name = "b", nil, 2, "b", "b", 2, "b", "b"
	if !reflect.DeepEqual(f.claims, make()) {
		t.Errorf("the facts changed with their copy: %+v", f.claims)
	}
}

// An attestation of any type is named for people, by its number where it has no name.
func TestAttestationsOfEveryTypeAreExplained(t *testing.T) {
	t.Parallel()
	of := func(kind tpm2.TPMST, attested tpm2.TPMUAttest) []byte {
		return tpm2.Marshal(tpm2.TPMSAttest{Magic: tpm2.TPMGeneratedValue, Type: kind, Attested: attested})
	}
	digest := tpm2.TPM2BDigest{Buffer: bytes.Repeat([]byte{7}, 32)}
	session := tpm2.NewTPMUAttest(tpm2.TPMSTAttestSessionAudit, &tpm2.TPMSSessionAuditInfo{SessionDigest: digest})
	created := tpm2.NewTPMUAttest(tpm2.TPMSTAttestCreation, &tpm2.TPMSCreationInfo{CreationHash: digest})
	quoted := tpm2.NewTPMUAttest(tpm2.TPMSTAttestQuote, &tpm2.TPMSQuoteInfo{PCRDigest: digest, PCRSelect: tpm2.TPMLPCRSelection{
		PCRSelections: []tpm2.TPMSPCRSelection{{Hash: 0x7777, PCRSelect: []byte{0x81, 0x01, 0x80}}, {Hash: tpm2.TPMAlgSHA384, PCRSelect: []byte{0, 0, 0}}}}})
	if a, err := ParseAttestation(of(tpm2.TPMSTAttestSessionAudit, session)); err != nil || a.Type != "session-audit" || !bytes.Equal(a.Digest, digest.Buffer) {
		t.Errorf("a session: got %+v, %v", a, err)
	}
	if a, err := ParseAttestation(of(tpm2.TPMSTAttestCreation, created)); err != nil || a.Type != "0x801a" || a.Digest != nil {
		t.Errorf("a creation: got %+v, %v", a, err)
	}
	a, err := ParseAttestation(of(tpm2.TPMSTAttestQuote, quoted))
	if want := []Quoted{{Bank: "0x7777", PCRs: []int{0, 7, 8, 23}}, {Bank: "sha384"}}; err != nil || a.Type != "quote" || !reflect.DeepEqual(a.Banks, want) {
		t.Errorf("a quote: got %+v, %v, want %+v", a, err, want)
	}
	for name, row := range map[string]struct {
		raw  []byte
		want denial.Reason
	}{
		"five bytes":    {[]byte{0xff, 'T', 'C', 'G', 0x80}, denial.QuoteMalformed},
		"six bytes":     {[]byte{0xff, 'T', 'C', 'G', 0x80, 0x18}, denial.QuoteMalformed},
		"another magic": {[]byte{0xfe, 'T', 'C', 'G', 0x80, 0x18}, denial.QuoteMagic},
		"cut short":     {of(tpm2.TPMSTAttestSessionAudit, session)[:40], denial.QuoteMalformed},
		"a long one":    {append([]byte{0xff, 'T', 'C', 'G', 0x80, 0x18}, make([]byte, 1100)...), denial.StructureLimit},
	} {
		if a, err := ParseAttestation(row.raw); !denial.Is(err, row.want) || a != nil {
			t.Errorf("%s: got %+v, %v, want %s", name, a, err, row.want)
		}
	}
}
