package firmwarepolicy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/governed-execution/writ/attest"
	"github.com/governed-execution/writ/denial"
)

// FromClaims writes a first appraisal policy, as TOML with comments, that exactly the given facts fulfil: the same boot
// programs, kernel command lines, Secure Boot state and keys, and values of the stable PCRs. The caller vouches that the
// facts are verified and that the host is as it should be: whatever it runs now is what will be allowed. Facts
// with an audit session make a policy that demands one.
//
// It refuses facts that do not say what booted (407).
func FromClaims(id string, expires uint64, c attest.Claims) ([]byte, error) {
	return writePolicy("Written from the verified facts of one host.", id, expires, c)
}

func writePolicy(origin, id string, expires uint64, c attest.Claims) ([]byte, error) {
	w := &policyWriter{}
	w.require(c)
	demand := "# audit = true"
	if len(c.Banks) > 0 {
		demand = "audit = true"
	}
	w.printf(newHeader, origin, quoted(id), instant(expires), quoted(c.Bank), numbers(sortedPCRs(c.PCR)), numbers(c.CNF.PCRs), demand)
	w.b.WriteString("[reference]\n")
	w.b.WriteString(w.sets.String())
	w.b.WriteString(w.rules.String())
	out := []byte(w.b.String())
	d, err := ParseTOML(out)
	if err != nil {
		return nil, err
	}
	for _, f := range Lint(d, 0) {
		if f.Severity == SeverityError {
			return nil, refuse("these facts make no sound policy: %s", f.Message)
		}
	}
	if _, err := d.appraisal.Appraise(c, Host{}); err != nil {
		return nil, fmt.Errorf("checking the new policy against its own facts: %w", err)
	}
	return out, nil
}

const newHeader = `# Appraisal policy: what a host must prove before anything may run on it.
# %s Read it, change it, then lint, test and sign it.

schema  = 1
kind    = "appraisal"
id      = %s   # names the policy through all its versions
version = 1   # raise it with every change
expires = %s   # sign a new version before this moment

# The PCRs that a TPM quote must cover, no more and no less. The host's confirmation key works only while those in
# bind keep the values that were quoted.
[pcrs]
bank  = %s
quote = %s
bind  = %s
%s   # the TPM signs which PCR banks it keeps, and firmware must have measured into each of them

[limits]
evidence_age = "30s"   # greatest time between challenge and decision

# What is allowed. A requirement names a set as ref.<name>. To allow a second kernel, add its values to the sets.
`

type policyWriter struct {
	b, sets, rules strings.Builder
}

func (w *policyWriter) printf(format string, args ...any) { fmt.Fprintf(&w.b, format, args...) }

// set adds a reference set, each value once.
func (w *policyWriter) set(name string, values ...string) {
	var list []string
	for _, v := range values {
		if q := quoted(v); !slices.Contains(list, q) {
			list = append(list, q)
		}
	}
	if len(list) == 1 {
		fmt.Fprintf(&w.sets, "%s = [%s]\n", name, list[0])
		return
	}
	fmt.Fprintf(&w.sets, "%s = [\n  %s,\n]\n", name, strings.Join(list, ",\n  "))
}

func (w *policyWriter) rule(comment, name string, code denial.Reason, expr string) {
	fmt.Fprintf(&w.rules, "\n# %s\n[[require]]\nname = %q\ncode = %q\nexpr = %q\n", comment, name, code, expr)
}

// require writes the sets and requirements, those that explain most first: the first that fails gives the denial code.
func (w *policyWriter) require(c attest.Claims) {
	w.secureBoot(c.SecureBoot, c.Platform)
	w.sections(c.Sections)
	if len(c.BootApps) > 0 {
		var digests []string
		for _, a := range c.BootApps {
			digests = append(digests, a.Digest)
		}
		w.set("boot_apps", digests...)
		w.rule("Every program that the firmware started is known, and it started at least one.", "boot-apps",
			denial.EventUnexpected, "size(facts.boot_apps) > 0 && facts.boot_apps.all(a, a.digest in ref.boot_apps)")
	}
	w.shim(c)
	if len(c.CommandLine) > 0 && !slices.Contains(c.CommandLine, "") {
		w.set("command_line", c.CommandLine...)
		w.rule("The kernel was started with a known command line.", "command-line", denial.EventUnexpected,
			"size(facts.command_line) > 0 && facts.command_line.all(c, c in ref.command_line)")
	}
	w.unexplained(c)
	if c.IMA.Present {
		w.rule("No more files changed while they were measured than on this host. Say in [ima] which files are known.", "ima-violations",
			denial.IMAViolation, fmt.Sprintf("facts.ima.violations <= %d", c.IMA.Violations))
	}
	for _, n := range sortedPCRs(c.PCR) {
		if !slices.Contains(StablePCRs(), int(n)) {
			fmt.Fprintf(&w.rules, "\n# PCR %d is quoted but not required: it changes with settings, disks, use or time.\n", n)
			continue
		}
		w.set(fmt.Sprintf("pcr%d", n), c.PCR[n])
		w.rule(pcrMeaning[n], fmt.Sprintf("pcr-%d", n), denial.PCRNotAllowed, fmt.Sprintf("facts.pcr[%d] in ref.pcr%d", n, n))
	}
}

func (w *policyWriter) secureBoot(s attest.SecureBoot, p attest.Platform) {
	if !s.Enabled {
		w.rules.WriteString("\n# Secure Boot was off on this host, so it is not required. Turn it on and write the policy again.\n")
		return
	}
	w.rule("Secure Boot is on. This alone does not say what booted.", "secure-boot-on", denial.SecureBootOff,
		"facts.secure_boot.present && facts.secure_boot.enabled")
	var known []string
	for _, k := range []struct{ name, digest string }{{"pk", s.PK}, {"kek", s.KEK}, {"db", s.DB}} {
		if k.digest != "" {
			w.set(k.name, k.digest)
			known = append(known, fmt.Sprintf("facts.secure_boot.%[1]s in ref.%[1]s", k.name))
		}
	}
	if len(known) > 0 {
		w.rule("The Secure Boot keys are the known ones.", "secure-boot-keys", denial.SecureBootKeys, strings.Join(known, " && "))
	}
	if !p.Debug {
		w.rule("No debugger of the firmware was enabled.", "no-debugger", denial.DebugState, "!facts.platform.debug")
	}
	if s.DBX == "" {
		return
	}
	w.set("dbx", s.DBX)
	w.rule("The list of revoked boot programs is a known one. Add the new digest before hosts update it.", "secure-boot-dbx",
		denial.RevocationDBStale, "facts.secure_boot.dbx in ref.dbx")
}

// sections writes a requirement for each part of a unified kernel image, so that a denial names the one that changed.
func (w *policyWriter) sections(parts map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(parts)) {
		short := strings.TrimPrefix(name, ".")
		w.set("section_"+short, parts[name])
		w.rule(fmt.Sprintf("The section %s of the unified kernel image is a known one.", name), "section-"+short, denial.EventUnexpected,
			fmt.Sprintf("'%[1]s' in facts.sections && facts.sections['%[1]s'] in ref.section_%[2]s", name, short))
	}
}

// unexplained writes that no event hides in the PCRs of command lines.
func (w *policyWriter) unexplained(c attest.Claims) {
	for _, n := range []int64{8, 12} {
		if count, quoted := c.Unexplained[n]; quoted && count == 0 {
			w.rule(fmt.Sprintf("The facts tell of every event in PCR %d.", n), fmt.Sprintf("explained-%d", n), denial.EventUnexpected,
				fmt.Sprintf("facts.unexplained[%d] == 0", n))
		}
	}
}

// shim writes the requirements over what shim measured, if it did.
func (w *policyWriter) shim(c attest.Claims) {
	if c.Shim.SBAT == 0 || c.Shim.Insecure {
		return
	}
	w.rule("shim verifies what it starts, and refuses boot programs revoked by the SBAT level of this day or a later one.", "shim",
		denial.RevocationDBStale, fmt.Sprintf("!facts.shim.insecure && facts.shim.sbat >= %d", c.Shim.SBAT))
}

// pcrMeaning follows the TCG PC Client Platform Firmware Profile, section 3.3.4, and the UAPI list of Linux PCRs.
var pcrMeaning = map[int64]string{
	0: "PCR 0: the firmware itself.", 2: "PCR 2: firmware of expansion cards.", 3: "PCR 3: settings of expansion cards.",
	4: "PCR 4: the boot programs, exactly these in this order.", 7: "PCR 7: the Secure Boot state and keys.",
	8: "PCR 8: commands of the boot loader.", 9: "PCR 9: files that the boot loader or the kernel read, such as the initrd.",
	11: "PCR 11: the parts of the unified kernel image.", 14: "PCR 14: the machine owner keys of shim.",
}

func sortedPCRs(m map[int64]string) []int64 {
	var pcrs []int64
	for n := range m {
		pcrs = append(pcrs, n)
	}
	slices.Sort(pcrs)
	return pcrs
}

func numbers(list []int64) string {
	return strings.ReplaceAll(fmt.Sprint(list), " ", ", ")
}

// quoted writes a text as a TOML string.
func quoted(s string) string {
	out, err := toml.Marshal(map[string]string{"v": s})
	if err != nil {
		return `""` // no policy accepts an empty value
	}
	return strings.TrimSuffix(strings.TrimPrefix(string(out), "v = "), "\n")
}
