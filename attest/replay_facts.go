package attest

import (
	"bytes"
	"encoding/hex"
	"unicode/utf8"

	"github.com/governed-execution/writ/denial"
)

// secureBoot reads the Secure Boot state from PCR 7. That each variable event has the digest of its data, and comes once
// and before the separator, was checked by checkVariable. Authorities are named by their digests, since shim logs data
// for them that it did not measure.
func (b *bankReplay) secureBoot() (SecureBoot, error) {
	sb := SecureBoot{Authorities: []string{}}
	for i := range b.log.events {
		e := &b.log.events[i]
		if e.pcr != 7 || !b.measures(e) {
			continue
		}
		digest := hex.EncodeToString(b.log.digest(i, b.bank))
		switch e.kind {
		case evAuthority, evSPDMAuthority:
			sb.Authorities = append(sb.Authorities, digest)
		case evVariableConfig:
			v, err := parseVariable(e.data)
			if err != nil {
				return SecureBoot{}, err
			}
			sb.set(v, digest)
		}
	}
	if !sb.Present {
		return SecureBoot{Authorities: []string{}}, nil
	}
	if sb.Enabled && len(sb.Authorities) == 0 {
		return SecureBoot{}, denial.New(denial.SecureBootKeys, "Secure Boot is on, but no key verified anything")
	}
	return sb, nil
}

// set takes one measured variable.
func (sb *SecureBoot) set(v *efiVariable, digest string) {
	switch v.secureBootVariable() {
	case "SecureBoot":
		sb.Present, sb.Enabled = true, bytes.Equal(v.data, []byte{1})
	case "PK":
		sb.PK = digest
	case "KEK":
		sb.KEK = digest
	case "db":
		sb.DB = digest
	case "dbx":
		sb.DBX = digest
	}
}

// bootApps lists the images of PCR 4 and PCR 2, in order. An image is named by its digest; its path is data that no
// digest covers. In PCR 4 nothing else can stand but actions, whose text was checked, so the list is complete there. In
// PCR 2 drivers are listed too, since only their type tells them from applications, and the list is complete only as far
// as that type is: a policy that rests on PCR 2 must compare its value.
func (b *bankReplay) bootApps() []BootApp {
	apps := []BootApp{}
	for i := range b.log.events {
		e := &b.log.events[i]
		image := e.kind == evBootApplication || e.kind == evBootDriver || e.kind == evRuntimeDriver
		if image && (e.pcr == 2 || e.pcr == 4) && b.measures(e) {
			apps = append(apps, BootApp{PCR: int64(e.pcr), Digest: hex.EncodeToString(b.log.digest(i, b.bank))})
		}
	}
	return apps
}

// commandLines lists the kernel command lines whose text a digest covers, in order. A digest covers the text, never the
// label that calls it a command line. So what is listed was measured, but a command line may be missing from the list: a
// policy must demand the one it wants, and can only rule out others by the value of the PCR.
func (b *bankReplay) commandLines() []string {
	lines := []string{}
	for i := range b.log.events {
		e := &b.log.events[i]
		if !b.measures(e) {
			continue
		}
		text, measured := commandLine(e)
		if text != "" && b.covers(b.log.digest(i, b.bank), measured) {
			lines = append(lines, text)
		}
	}
	return lines
}

// Labels that GRUB puts before a kernel command line: since 2.04, and before in Red Hat's.
const (
	grubCommandLine = "kernel_cmdline: "
	grubOldLine     = "grub_kernel_cmdline "
)

// commandLine returns the text that an event calls a kernel command line, "" if none, and the bytes of it that a loader
// measures. The EFI stub of Linux extends PCR 9 with the command line but logs only a label, so it gives none.
func commandLine(e *logEvent) (text string, measured []byte) {
	if e.kind != evIPL {
		return "", nil
	}
	switch e.pcr {
	case 8: // GRUB measures the text without the NUL that it logs after it
		for _, label := range []string{grubCommandLine, grubOldLine} {
			if line, ok := bytes.CutPrefix(e.data, []byte(label)); ok {
				line = bytes.TrimSuffix(line, []byte{0})
				if utf8.Valid(line) && bytes.IndexByte(line, 0) < 0 {
					return string(line), line
				}
			}
		}
	case 12: // systemd-boot and systemd-stub measure UTF-16 with its NUL
		if n := len(e.data) - 2; n > 0 && e.data[n] == 0 && e.data[n+1] == 0 {
			if line, ok := utf16Text(e.data[:n]); ok {
				return line, e.data
			}
		}
	}
	return "", nil
}
