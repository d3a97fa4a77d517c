package attest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/governed-execution/writ/denial"
)

// bootFacts is what an event log that replayed to quoted PCR values shows. Nothing in it rests on data that no digest
// covers, and nothing on a PCR that was not quoted. Its slices and maps are never nil, and are never written to once they
// have been returned.
type bootFacts struct {
	SecureBoot  SecureBoot
	BootApps    []BootApp
	CommandLine []string
	Log         Log
	Platform    Platform
	Disks       []Disk
	Shim        Shim
	Commands    []string
	Sections    map[string]string
	Measured    map[int64][]string
	Unexplained map[int64]int64
	OS          []OSEvent
}

// Proof says which event proves a fact. Whoever wants to check it hashes what the event describes, or finds the digest in
// the log that replays.
type Proof struct {
	Fact   string `json:"fact"`   // as policies name it
	Event  int    `json:"event"`  // number of the event
	OS     bool   `json:"os"`     // the number counts in the log of systemd, not in that of the firmware
	PCR    int    `json:"pcr"`    // that holds it
	Digest string `json:"digest"` // in the bank of the facts
}

// factReader draws facts from the events of quoted PCRs, after verify. It goes over the log once.
type factReader struct {
	*bankReplay
	facts  *bootFacts
	stub   stubReader
	leaked bool     // a variable of Secure Boot holds a test key
	proofs *[]Proof // nil if nobody asks for them
}

// drawFacts reads the facts of a log that verify has accepted.
func (b *bankReplay) drawFacts(proofs *[]Proof) (*bootFacts, error) {
	sum := sha256.Sum256(b.log.raw)
	r := &factReader{bankReplay: b, proofs: proofs, facts: &bootFacts{
		SecureBoot: SecureBoot{Authorities: []string{}}, BootApps: []BootApp{}, CommandLine: []string{}, Disks: []Disk{},
		Shim: Shim{Generations: map[string]int64{}}, Commands: []string{}, Sections: map[string]string{},
		Measured: map[int64][]string{}, Unexplained: map[int64]int64{}, OS: []OSEvent{},
		Log: Log{Events: int64(len(b.log.events)), Digest: hex.EncodeToString(sum[:])},
	}}
	r.quotedPCRs()
	for i := range b.log.events {
		e := &b.log.events[i]
		if !b.measures(e) {
			continue
		}
		if err := r.read(i, e, b.log.digest(i, b.bank)); err != nil {
			return nil, err
		}
	}
	r.stub.end(r)
	r.readOS()
	return r.facts, r.facts.SecureBoot.check(r.leaked)
}

// quotedPCRs sets what holds of quoted PCRs without events.
func (r *factReader) quotedPCRs() {
	for pcr := range r.quoted {
		if measuredName[pcr] != "" {
			r.facts.Measured[pcr] = []string{}
		}
		switch pcr {
		case 0:
			r.facts.Platform.Locality = int64(r.log.start)
		case 5, 8, 11, 12, 15:
			r.facts.Unexplained[pcr] = 0
		}
	}
}

// measuredName are the names of the lists in Claims.Measured.
var measuredName = [pcrCount]string{0: "measured[0]", 2: "measured[2]", 3: "measured[3]", 9: "measured[9]",
	12: "measured[12]", 13: "measured[13]", 14: "measured[14]"}

// read takes one event that extended a quoted PCR.
func (r *factReader) read(i int, e *logEvent, digest []byte) error {
	text := hex.EncodeToString(digest)
	pcr := int64(e.pcr)
	if list := r.facts.Measured[pcr]; list != nil {
		r.prove(i, e, text, measuredName[e.pcr], len(list))
		r.facts.Measured[pcr] = append(list, text)
	}
	switch pcr {
	case 0:
		r.firmwareVersion(i, e, text)
	case 2, 4:
		r.bootApp(i, e, text)
	case 5:
		r.partitions(i, e, text)
	case 7:
		return r.secureBoot(i, e, text)
	case 8:
		r.grub(i, e, text)
	case 11:
		r.stub.read(r, i, e, digest)
	case 12:
		r.commandLine(i, e, text)
	case 15:
		r.facts.Unexplained[15]++
	}
	return nil
}

// prove notes which event a fact rests on. A fact that is one of a list has its place n, any other none (-1).
func (r *factReader) prove(i int, e *logEvent, digest, fact string, n int) {
	if r.proofs == nil {
		return
	}
	if n >= 0 {
		fact = fmt.Sprintf("%s[%d]", fact, n)
	}
	*r.proofs = append(*r.proofs, Proof{Fact: "facts." + fact, Event: i + 1, PCR: int(e.pcr), Digest: digest})
}

// secureBoot reads the Secure Boot state from PCR 7. That each variable event has the digest of its data, and comes once
// and before the separator, was checked by checkVariable. Authorities are named by their digests, since shim logs data
// for them that it did not measure.
func (r *factReader) secureBoot(i int, e *logEvent, digest string) error {
	sb := &r.facts.SecureBoot
	switch e.kind {
	case evAuthority, evSPDMAuthority:
		r.prove(i, e, digest, "secure_boot.authorities", len(sb.Authorities))
		sb.Authorities = append(sb.Authorities, digest)
		r.shim(i, e, digest)
	case evVariableConfig:
		v, err := parseVariable(e.data)
		if err != nil {
			return err
		}
		r.leaked = r.leaked || v.hasTestKey()
		if field := sb.set(v, digest); field != "" {
			r.prove(i, e, digest, "secure_boot."+field, -1)
		}
	case evAction:
		r.platformState(i, e, digest)
	}
	return nil
}

// set takes one measured variable and returns the name of the field that it set.
func (sb *SecureBoot) set(v *efiVariable, digest string) string {
	switch v.secureBootVariable() {
	case "SecureBoot":
		sb.Present, sb.Enabled = true, bytes.Equal(v.data, []byte{1})
		return "enabled"
	case "PK":
		sb.PK, sb.Setup = digest, len(v.data) == 0
		return "pk"
	case "KEK":
		sb.KEK = digest
		return "kek"
	case "db":
		sb.DB = digest
		return "db"
	case "dbx":
		sb.DBX = digest
		return "dbx"
	}
	return ""
}

// check makes the check 6 of replayBanks. Without the SecureBoot variable nothing else is a fact. While Secure Boot is off
// nobody relies on its keys.
func (sb *SecureBoot) check(leaked bool) error {
	if !sb.Present {
		*sb = SecureBoot{Authorities: []string{}}
	}
	if sb.Enabled && len(sb.Authorities) == 0 {
		return denial.New(denial.SecureBootKeys, "Secure Boot is on, but no key verified anything")
	}
	if sb.Enabled && leaked {
		return denial.New(denial.SecureBootKeys, "Secure Boot is on, but PK, KEK or db holds a test key that others have too")
	}
	return nil
}

// bootApp lists the images of PCR 4 and PCR 2, in order. An image is named by its digest; its path is data that no
// digest covers. In PCR 4 nothing else can stand but actions, whose text was checked, so the list is complete there. In
// PCR 2 drivers are listed too, since only their type tells them from applications, and the list is complete only as far
// as that type is: a policy that rests on PCR 2 must compare its value.
func (r *factReader) bootApp(i int, e *logEvent, digest string) {
	if slices.Contains([]eventType{evBootApplication, evBootDriver, evRuntimeDriver}, e.kind) {
		r.prove(i, e, digest, "boot_apps", len(r.facts.BootApps))
		r.facts.BootApps = append(r.facts.BootApps, BootApp{PCR: int64(e.pcr), Digest: digest})
	}
}

// grub takes one event of PCR 8: a kernel command line, a command of GRUB, or what no fact tells of. A digest covers the
// text, never the label that says which of both it is. So nothing can be hidden from both lists together, unless it is
// counted, but a command line can stand among the commands.
func (r *factReader) grub(i int, e *logEvent, digest string) {
	if text, measured := grubCommand(e); text != "" && r.covers(r.log.digest(i, r.bank), measured) {
		r.prove(i, e, digest, "commands", len(r.facts.Commands))
		r.facts.Commands = append(r.facts.Commands, text)
		return
	}
	r.commandLine(i, e, digest)
}

// commandLine takes one event of PCR 8 or 12 that is a kernel command line whose text a digest covers, or counts it.
func (r *factReader) commandLine(i int, e *logEvent, digest string) {
	text, measured := commandLine(e)
	if text == "" || !r.covers(r.log.digest(i, r.bank), measured) {
		r.facts.Unexplained[int64(e.pcr)]++
		return
	}
	r.prove(i, e, digest, "command_line", len(r.facts.CommandLine))
	r.facts.CommandLine = append(r.facts.CommandLine, text)
}

// Labels that GRUB puts before what it measures: since 2.04, and before in Red Hat's, which measures the final NUL too.
const (
	grubCommandLine  = "kernel_cmdline: "
	grubOldLine      = "grub_kernel_cmdline "
	grubCommandLabel = "grub_cmd: "
	grubOldCommand   = "grub_cmd "
	grubModuleLabel  = "module_cmdline: "
)

// grubCommand returns the command of GRUB that an event of PCR 8 logs, "" if none, and the bytes that GRUB measured.
func grubCommand(e *logEvent) (text string, measured []byte) {
	for _, label := range []string{grubCommandLabel, grubModuleLabel, grubOldCommand} {
		if text, measured := labelled(e, label, label == grubOldCommand); text != "" {
			return text, measured
		}
	}
	return "", nil
}

// labelled returns the text after a label of GRUB, and the bytes that GRUB measured of it.
func labelled(e *logEvent, label string, withNUL bool) (text string, measured []byte) {
	logged, ok := bytes.CutPrefix(e.data, []byte(label))
	line := bytes.TrimSuffix(logged, []byte{0})
	if e.kind != evIPL || !ok || !utf8.Valid(line) || bytes.IndexByte(line, 0) >= 0 {
		return "", nil
	}
	if withNUL {
		return string(line), logged
	}
	return string(line), line
}

// commandLine returns the text that an event calls a kernel command line, "" if none, and the bytes of it that a loader
// measures. The EFI stub of Linux extends PCR 9 with the command line but logs only a label, so it gives none.
func commandLine(e *logEvent) (text string, measured []byte) {
	if e.kind != evIPL {
		return "", nil
	}
	switch e.pcr {
	case 8: // GRUB measures the text without the NUL that it logs after it
		for _, label := range []string{grubCommandLine, grubOldLine} {
			if text, measured := labelled(e, label, false); text != "" {
				return text, measured
			}
		}
		if n := len(e.data); n%2 == 1 && e.data[n-1] == 0 { // systemd-boot, before it used PCR 12, logged one byte too few
			return wideLine(append(e.data[:n:n], 0))
		}
	case 12: // systemd-boot and systemd-stub measure UTF-16 with its NUL
		return wideLine(e.data)
	}
	return "", nil
}

// wideLine reads a command line in UTF-16 with its NUL.
func wideLine(data []byte) (text string, measured []byte) {
	n := len(data) - 2
	if n <= 0 || data[n] != 0 || data[n+1] != 0 {
		return "", nil
	}
	line, ok := utf16Text(data[:n])
	if !ok {
		return "", nil
	}
	return line, data
}
