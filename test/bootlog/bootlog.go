// Package bootlog makes complete, valid boot logs as UEFI firmware, a boot loader and the Linux kernel write them, with
// the TPM commands behind them, for tests and the demonstration. The same options give the same bytes. Nothing in it may
// be used to decide anything.
package bootlog

import (
	"encoding/binary"
	"slices"
)

// Options say what machine boots. The zero value is a machine with Secure Boot on that starts a signed unified kernel
// image (UKI) with systemd-stub.
type Options struct {
	Banks        []string // of the TPM; default sha256
	Firmware     string   // version of the firmware; default "2.8.1"
	NoSecureBoot bool     // the SecureBoot variable is 0, and no key verifies anything
	PlatformKey  string   // name in the certificate of PK; default "platform key"
	GRUB         bool     // shim and GRUB start the kernel, in place of a UKI
	Image        []byte   // stands for what the Authenticode digest of the UKI (or the kernel, with GRUB) is of
	CommandLine  string   // of the kernel; default "root=/dev/vda2 ro console=ttyS0 lockdown=integrity"
	Initrd       []byte   // its content
	Locality     byte     // of TPM2_Startup; 0 is not logged
}

func (o Options) withDefaults() Options {
	if o.Banks == nil {
		o.Banks = []string{"sha256"}
	}
	if o.Firmware == "" {
		o.Firmware = "2.8.1"
	}
	if o.PlatformKey == "" {
		o.PlatformKey = "platform key"
	}
	if o.Image == nil {
		o.Image = []byte("the kernel image of the generated machine")
	}
	if o.CommandLine == "" {
		o.CommandLine = "root=/dev/vda2 ro console=ttyS0 lockdown=integrity"
	}
	if o.Initrd == nil {
		o.Initrd = []byte("the initial ramdisk of the generated machine")
	}
	return o
}

// New boots a machine.
func New(o Options) *Boot {
	o = o.withDefaults()
	events := slices.Concat(o.firmware(), o.secureBootVariables(), bootVariables(o.GRUB), separators())
	if o.GRUB {
		events = append(events, o.grub()...)
	} else {
		events = append(events, o.uki()...)
	}
	events = append(events,
		Event{PCR: 5, Type: Action, Data: []byte("Exit Boot Services Invocation")},
		Event{PCR: 5, Type: Action, Data: []byte("Exit Boot Services Returned with Success")})
	return Encode(o.Banks, events)
}

const localityTag = "StartupLocality\x00"

// firmware is what firmware measures of itself.
func (o Options) firmware() []Event {
	var events []Event
	if o.Locality != 0 {
		events = append(events, Event{PCR: 0, Type: NoAction, Data: append([]byte(localityTag), o.Locality)})
	}
	return append(events,
		Event{PCR: 0, Type: CRTMVersion, Data: utf16z(o.Firmware)},
		blob(0x820000, 0xE0000, "PEI volume of firmware "+o.Firmware),
		blob(0x900000, 0xC00000, "DXE volume of firmware "+o.Firmware),
	)
}

// blob is a firmware volume: the log gives its address and length, the digest is of its content.
func blob(base, size uint64, content string) Event {
	data := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(nil, base), size)
	return Event{PCR: 0, Type: FirmwareBlob, Data: data, Measured: []byte(content)}
}

// bootVariables are the boot options and tables of the machine, and the start of the first option.
func bootVariables(grub bool) []Event {
	title, path := "Linux", ukiPath
	if grub {
		title, path = "Debian", shimPath
	}
	option := binary.LittleEndian.AppendUint32(nil, 1) // LOAD_OPTION_ACTIVE
	device := devicePath(path)
	option = binary.LittleEndian.AppendUint16(option, uint16(len(device)))
	option = append(append(option, utf16z(title)...), device...)
	smbios := append([]byte{1, 0, 0, 0, 0, 0, 0, 0}, 0x44, 0x15, 0xfd, 0xf2, 0x94, 0x97, 0x2c, 0x4a, 0x99, 0x2e, 0xe5, 0xbb,
		0xcf, 0x20, 0xe3, 0x94, 0x00, 0x60, 0xf6, 0x0f, 0, 0, 0, 0)
	return []Event{
		bootVariable("BootOrder", []byte{0, 0}),
		bootVariable("Boot0000", option),
		{PCR: 1, Type: HandoffTables, Data: smbios, Measured: []byte("SMBIOS tables of the generated machine")},
		{PCR: 4, Type: Action, Data: []byte("Calling EFI Application from Boot Option")},
	}
}

// bootVariable is measured without its name, as EDK II does.
func bootVariable(name string, value []byte) Event {
	return Event{PCR: 1, Type: VariableBoot, Data: variable(globalVariable, name, value), Measured: value}
}

// separators end the firmware's part of PCRs 0 to 6; that of PCR 7 follows the Secure Boot variables.
func separators() []Event {
	var events []Event
	for pcr := range uint32(7) {
		events = append(events, Event{PCR: pcr, Type: Separator, Data: make([]byte, 4)})
	}
	return events
}

const (
	ukiPath  = `\EFI\Linux\linux.efi`
	shimPath = `\EFI\debian\shimx64.efi`
	grubPath = `\EFI\debian\grubx64.efi`
)

// uki is a unified kernel image with systemd-stub. The stub measures the sections of the image into PCR 11, and into PCR
// 12 the command line that an addon gives; the EFI stub of the kernel measures what it was started with into PCR 9.
func (o Options) uki() []Event {
	events := []Event{gpt()}
	if !o.NoSecureBoot {
		events = append(events, authority())
	}
	events = append(events, image(ukiPath, o.Image))
	for _, s := range []struct {
		name    string
		content []byte
	}{
		{".linux", o.Image}, {".osrel", []byte("ID=debian\nVERSION_ID=12\n")}, {".initrd", o.Initrd},
	} {
		events = append(events,
			Event{PCR: 11, Type: IPL, Data: utf16z(s.name), Measured: append([]byte(s.name), 0)},
			Event{PCR: 11, Type: IPL, Data: utf16z(s.name), Measured: s.content})
	}
	events = append(events, Event{PCR: 12, Type: IPL, Data: utf16z(o.CommandLine)})
	if o.NoSecureBoot { // the stub then has the firmware load, and measure, the kernel inside
		events = append(events, image("", o.Image))
	}
	return append(events, o.kernel()...)
}

// grub is shim, then GRUB, then the kernel.
func (o Options) grub() []Event {
	events := []Event{gpt()}
	if !o.NoSecureBoot {
		events = append(events, authority())
	}
	line := "/boot/vmlinuz " + o.CommandLine
	return append(append(events,
		image(shimPath, []byte("shim of the generated machine")),
		Event{PCR: 14, Type: IPL, Data: []byte("MokList\x00"), Measured: []byte("machine owner keys")},
		Event{PCR: 7, Type: VariableAuthority, Data: variable(shimLock, "SbatLevel", []byte("sbat,1,2023012900\nshim,2\ngrub,3\n"))},
		image(grubPath, []byte("GRUB of the generated machine")),
		Event{PCR: 9, Type: IPL, Data: []byte("(hd0,gpt1)/EFI/debian/grub.cfg\x00"), Measured: []byte("linux ...")},
		grubText("grub_cmd: ", "linux "+line),
		Event{PCR: 9, Type: IPL, Data: []byte("/boot/vmlinuz\x00"), Measured: o.Image},
		grubText("kernel_cmdline: ", line),
		grubText("grub_cmd: ", "initrd /boot/initrd.img"),
		Event{PCR: 9, Type: IPL, Data: []byte("/boot/initrd.img\x00"), Measured: o.Initrd},
		image("", o.Image),
	), o.kernel()...)
}

// grubText is a string that GRUB measures: the digest is of the text without its label.
func grubText(label, text string) Event {
	return Event{PCR: 8, Type: IPL, Data: []byte(label + text + "\x00"), Measured: []byte(text)}
}

// kernel is what the EFI stub of Linux measures: load options and initrd. It logs labels only.
func (o Options) kernel() []Event {
	return []Event{
		{PCR: 9, Type: EventTag, Data: tagged(0x8F3B22ED, "LOADED_IMAGE::LoadOptions\x00"), Measured: utf16z(o.CommandLine)},
		{PCR: 9, Type: EventTag, Data: tagged(0x8F3B22EC, "Linux initrd\x00"), Measured: o.Initrd},
	}
}

// tagged is a TCG_PCClientTaggedEvent.
func tagged(id uint32, label string) []byte {
	data := binary.LittleEndian.AppendUint32(nil, id)
	data = binary.LittleEndian.AppendUint32(data, uint32(len(label)))
	return append(data, label...)
}
