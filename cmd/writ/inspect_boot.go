package main

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/governed-execution/writ/attest"
)

// boot says in words what facts show, each line with the event that proves it.
type boot struct {
	b      strings.Builder
	proofs map[string]attest.Proof // by fact
}

// bootText renders the facts of logs for people.
func bootText(c attest.Claims, proofs []attest.Proof) string {
	t := &boot{proofs: map[string]attest.Proof{}}
	for _, p := range proofs {
		t.proofs[p.Fact] = p
	}
	t.firmware(c)
	t.secureBoot(c.SecureBoot, c.Shim)
	for i, d := range c.Disks {
		t.line("disk", t.proof("disks", i), "%s with %d partitions%s", d.GUID, len(d.Partitions), partitionNames(d.Partitions))
	}
	for i, app := range c.BootApps {
		t.line("program", t.proof("boot_apps", i), "%s, in PCR %d", app.Digest, app.PCR)
	}
	for i, line := range c.CommandLine {
		t.line("command line", t.proof("command_line", i), "%s", show(line))
	}
	t.loaders(c)
	for i, e := range c.OS {
		text := "a text that no digest covers, " + e.Digest
		if e.Text != "" {
			text = show(e.Text)
		}
		t.line("systemd", t.proof("os", i), "PCR %d: %s", e.PCR, text)
	}
	for pcr := range int64(24) {
		if n := c.Unexplained[pcr]; n > 0 {
			t.line("unexplained", "", "%s in PCR %d that no fact tells of", plural(int(n), "event"), pcr)
		}
	}
	return t.b.String()
}

func (t *boot) line(name, proof, format string, args ...any) {
	fmt.Fprintf(&t.b, "  %-13s %s%s\n", name, fmt.Sprintf(format, args...), proof)
}

// proof names the event behind a fact, or behind the i-th of a list of facts.
func (t *boot) proof(fact string, i int) string {
	if i >= 0 {
		fact = fmt.Sprintf("%s[%d]", fact, i)
	}
	p, ok := t.proofs["facts."+fact]
	switch {
	case !ok:
		return ""
	case p.OS:
		return fmt.Sprintf("  [system event %d]", p.Event)
	}
	return fmt.Sprintf("  [event %d]", p.Event)
}

func (t *boot) firmware(c attest.Claims) {
	version := "without a version"
	if c.Platform.Version != "" {
		version = "version " + show(c.Platform.Version)
	}
	locality := ""
	if c.Platform.Locality == 4 {
		locality = ", after an H-CRTM sequence"
	}
	t.line("firmware", t.proof("platform.version", -1), "%s; TPM2_Startup from locality %d%s", version, c.Platform.Locality, locality)
	if c.Platform.Debug {
		t.line("", t.proof("platform.debug", -1), "a debugger of the firmware was enabled")
	}
	if c.Platform.DMAUnprotected {
		t.line("", t.proof("platform.dma_unprotected", -1), "protection against DMA was off")
	}
}

func (t *boot) secureBoot(sb attest.SecureBoot, shim attest.Shim) {
	state := "not measured"
	switch {
	case sb.Enabled:
		state = "on"
	case sb.Present:
		state = "off"
	}
	if sb.Setup {
		state += ", in setup mode: whoever boots may enrol keys"
	}
	t.line("Secure Boot", t.proof("secure_boot.enabled", -1), "%s", state)
	for _, v := range []struct{ name, field, digest string }{{"PK", "pk", sb.PK}, {"KEK", "kek", sb.KEK}, {"db", "db", sb.DB}, {"dbx", "dbx", sb.DBX}} {
		if v.digest != "" {
			t.line("  "+v.name, t.proof("secure_boot."+v.field, -1), "%s", v.digest)
		}
	}
	for i, digest := range sb.Authorities {
		t.line("  authority", t.proof("secure_boot.authorities", i), "%s", digest)
	}
	if shim.SBAT > 0 {
		t.line("shim", t.proof("shim.sbat", -1), "SBAT level of %d", shim.SBAT)
	}
	if shim.Insecure {
		t.line("shim", t.proof("shim.insecure", -1), "verifies nothing: MokSBState is 1")
	}
}

// loaders shows what loaders measured by content: only a digest says what it is.
func (t *boot) loaders(c attest.Claims) {
	for _, name := range sortedNames(c.Sections) {
		t.line("section", t.proof("sections."+name, -1), "%-9s %s", name, c.Sections[name])
	}
	if n := len(c.Commands); n > 0 {
		t.line("GRUB", "", "%s", plural(n, "command"))
	}
	for _, list := range []struct {
		pcr  int64
		what string
	}{{9, "file or initrd"}, {13, "system extension"}, {14, "shim's key list"}} {
		for i, digest := range c.Measured[list.pcr] {
			t.line("measured", t.proof(fmt.Sprintf("measured[%d]", list.pcr), i), "%s, in PCR %d (%s)", digest, list.pcr, list.what)
		}
	}
}

func partitionNames(list []attest.Partition) string {
	var names []string
	for _, p := range list {
		if p.Name != "" && len(names) < 16 {
			names = append(names, show(p.Name))
		}
	}
	if len(names) == 0 {
		return ""
	}
	return ": " + strings.Join(names, ", ")
}

func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// show quotes text of a file on one line that no terminal acts on.
func show(text string) string { return clean(strconv.QuoteToASCII(text)) }

// decoded are PCR values as Compare takes them.
func decoded(values map[int64]string) map[int64][]byte {
	out := make(map[int64][]byte, len(values))
	for pcr, v := range values {
		out[pcr], _ = hex.DecodeString(v) // Replay made it
	}
	return out
}
