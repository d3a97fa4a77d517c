package firmwarepolicy

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Severity says how bad a finding is.
type Severity string

// The severities. A policy with an error should not be signed.
const (
	SeverityError   Severity = "error"
	SeverityWarning Severity = "warning"
)

// Finding is one remark of Lint.
type Finding struct {
	Severity Severity `json:"severity"`
	Message  string   `json:"message"`
}

const (
	soon         = 14 * 24 * 3600
	longLifetime = 24 * 3600
)

// StablePCRs returns the PCRs that a host reaches with the same values at every boot of the same software: firmware (0),
// option ROMs (2, 3), boot programs (4), Secure Boot (7), boot loader (8, 9), unified kernel image (11), machine owner
// keys (14). The others move with settings, disks, use or time.
func StablePCRs() []int { return []int{0, 2, 3, 4, 7, 8, 9, 11, 14} }

// Lint says what is allowed in a policy but probably not meant, errors first. It judges expiry at the given second.
func Lint(d *Document, now uint64) []Finding {
	if d == nil {
		return []Finding{{SeverityError, "there is no policy"}}
	}
	var l linter
	switch expires := d.body.Expires; {
	case now >= expires:
		l.error("the policy expired at %s", instant(expires))
	case expires-now < soon:
		l.warn("the policy expires soon, at %s", instant(expires))
	}
	if d.appraisal != nil {
		l.appraisal(d.appraisal)
	}
	if d.authorization != nil {
		l.authorization(d.authorization)
		l.breakGlass(d.authorization.body.BreakGlass)
	}
	if d.anchors != nil {
		l.anchors(d.anchors, now)
	}
	slices.SortStableFunc(l.findings, func(a, b Finding) int { return strings.Compare(string(a.Severity), string(b.Severity)) })
	return l.findings
}

type linter struct{ findings []Finding }

func (l *linter) error(format string, args ...any) {
	l.findings = append(l.findings, Finding{SeverityError, fmt.Sprintf(format, args...)})
}

func (l *linter) warn(format string, args ...any) {
	l.findings = append(l.findings, Finding{SeverityWarning, fmt.Sprintf(format, args...)})
}

func (l *linter) appraisal(a *Appraisal) {
	u := a.uses
	if !u.anyPCR(4, 11) && !u.any("facts.boot_apps", "facts.pcr_digest") {
		l.error("no requirement says what may boot: firmware with Secure Boot on has started kernels that it did not measure " +
			"as boot programs (CVE-2025-2296); require exact values of facts.pcr[4] or facts.pcr[11], or the digests in facts.boot_apps")
	}
	if !u.any("facts.secure_boot.enabled") && !u.anyPCR(7) && !u.any("facts.pcr_digest") {
		l.warn("no requirement looks at Secure Boot: require facts.secure_boot.enabled, or exact values of facts.pcr[7]")
	}
	if u.any("facts.secure_boot.enabled") && !u.anyPCR(7) && !u.any("facts.secure_boot.db", "facts.pcr_digest") {
		l.warn("Secure Boot must be on, but any keys will do: require facts.secure_boot.pk, kek, db and dbx, or exact values of facts.pcr[7]")
	}
	if !a.body.Audit {
		l.warn("pcrs.audit is not set: nobody looks at the TPM's other PCR banks, or at what stands between it and the host; " +
			"set audit = true where hosts can have an audit session")
	}
	l.weakFacts(a)
	for _, path := range sortedKeys(u.ranged) {
		if strings.HasPrefix(path, "facts.") && !u.sized[path] {
			l.warn("a loop goes through %s, and all() holds for an empty list: require size(%s) > 0 as well", path, path)
		}
	}
	for _, name := range sortedKeys(a.body.Reference) {
		if !u.paths["ref."+name] && !a.body.IMA.names(name) {
			l.warn("no requirement uses reference set %s", name)
		}
	}
	l.ima(a)
	l.bind(a.body.Bind)
}

// weakFacts warns of facts that an attacker can leave out or that root can add, where nothing else holds them.
func (l *linter) weakFacts(a *Appraisal) {
	u := a.uses
	if u.any("facts.pcr_digest") {
		return
	}
	if u.anyPCR(11) && !u.anyPCR(4, 7) && !u.any("facts.boot_apps", "facts.secure_boot.authorities") {
		l.warn("PCR 11 is required, but no requirement says which programs or keys started the system: whoever is root on any " +
			"system without a unified kernel image can give PCR 11 that value; require facts.boot_apps or exact values of facts.pcr[7]")
	}
	for _, n := range []int64{8, 12} {
		_, counted := u.events[fmt.Sprintf("facts.unexplained[%d]", n)]
		if u.any("facts.command_line", "facts.commands") && slices.Contains(a.body.Quote, n) && !u.anyPCR(n) && !counted {
			l.warn("a rule over command lines cannot see an event of PCR %d with another label: require facts.unexplained[%d] == 0, "+
				"or exact values of facts.pcr[%d]", n, n, n)
		}
	}
	if u.any("facts.command_line") && slices.Contains(a.body.Quote, 8) && !u.anyPCR(8) && !u.any("facts.commands") {
		l.warn("no digest covers whether an event of PCR 8 is a kernel command line or a command of GRUB: rule over facts.commands " +
			"too, or require exact values of facts.pcr[8]")
	}
	if slices.Contains(a.body.Quote, 7) && !u.anyPCR(7) && !u.any("facts.platform.debug") {
		l.warn("no requirement refuses firmware whose debugger is enabled: require !facts.platform.debug")
	}
}

// ima finds policies that have a list of measured files checked and then overlook what it says.
func (l *linter) ima(a *Appraisal) {
	if !slices.Contains(a.body.Quote, imaPCR) {
		return
	}
	if !a.uses.any("facts.ima.violations") {
		l.error("PCR 10 is quoted, but no requirement looks at facts.ima.violations: files that changed while they were measured " +
			"pass unseen; require facts.ima.violations == 0")
	}
	if a.body.IMA != nil && len(a.body.IMA.Known)+len(a.body.IMA.Keys) > 0 && !a.uses.any("facts.ima.unknown") {
		l.warn("[ima] says which files are known, but no requirement looks at facts.ima.unknown")
	}
	if !a.uses.any("facts.command_line") && !a.uses.anyPCR(8, 11, 12) {
		l.warn("PCR 10 is quoted, but no requirement says what IMA must measure: require the kernel command line with its ima_policy")
	}
}

func (l *linter) bind(bind []int64) {
	for _, n := range bind {
		if !slices.Contains(StablePCRs(), int(n)) {
			l.warn("pcrs.bind has PCR %d, which changes without an attack: the cnf key will stop working", n)
		}
	}
	if !slices.ContainsFunc(bind, func(n int64) bool { return n == 4 || n == 8 || n == 9 || n == 11 }) {
		l.warn("pcrs.bind has none of the PCRs 4, 8, 9 and 11: the cnf key keeps working when another system boots")
	}
}

func (l *linter) authorization(a *Authorization) {
	for _, r := range a.body.Rules {
		if len(r.Hosts) == 0 && len(r.HostIDs) == 0 {
			l.warn("rule %s allows every enrolled host: name hosts by label or host_ids", r.Name)
		}
		if may := slices.ContainsFunc(r.Scope, func(s scope) bool { return slices.Contains(s.Operations, "delegate") }); may != (r.Depth > 0) {
			l.warn("rule %s lets nothing be delegated: that takes a depth, and a target with the operation delegate", r.Name)
		}
		if r.Lifetime > longLifetime {
			l.warn("rule %s allows artifacts that live for %s: ask again instead", r.Name, span(r.Lifetime))
		}
		for _, s := range r.Scope {
			if scheme, below, _ := strings.Cut(s.Target, ":"); strings.Trim(below, "/") == "*" {
				l.warn("rule %s allows every target of scheme %s", r.Name, scheme)
			}
		}
	}
}

// breakGlass warns of what a quorum may do without the state of the host being known.
func (l *linter) breakGlass(rules []rule) {
	for _, r := range rules {
		if r.Waive {
			l.warn("break_glass %s lets the quorum waive attestation: it may then run on a host in any state", r.Name)
		}
	}
}

func (l *linter) anchors(a *Anchors, now uint64) {
	at := time.Unix(int64(min(now, maxExpires)), 0)
	for _, c := range slices.Concat(a.roots, a.rules.Path) {
		switch {
		case at.After(c.NotAfter):
			l.warn("the certificate of %q expired at %s, and leads nowhere", c.Subject, c.NotAfter.UTC().Format(time.RFC3339))
		case at.Before(c.NotBefore):
			l.warn("the certificate of %q is valid from %s only", c.Subject, c.NotBefore.UTC().Format(time.RFC3339))
		}
	}
	for _, list := range a.rules.Lists {
		if !at.Before(list.NextUpdate) {
			l.error("the revocation list of %q was to be followed by another at %s: no TPM under that CA can be enrolled",
				list.Issuer, list.NextUpdate.UTC().Format(time.RFC3339))
		}
	}
	if a.rules.Listed && len(a.rules.Lists) == 0 {
		l.error("lists are required and there is none: no TPM can be enrolled by its certificate")
	}
}
