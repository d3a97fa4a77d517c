package firmwarepolicy

import (
	"strings"
	"testing"
)

const long = testExpires - 365*24*3600

func TestSoundPoliciesHaveNoFindings(t *testing.T) {
	for _, text := range []string{appraisalTOML, strings.Split(authorizationTOML, "[[rule]]\nname = \"read-only\"")[0]} {
		if f := Lint(mustParse(t, text), long); len(f) != 0 {
			t.Errorf("got %v", f)
		}
	}
}

func TestLintFindsWhatIsNotMeant(t *testing.T) {
	noCode := "facts.pcr[0] == '" + digest("firmware") + "'"
	bootRules := appraisalTOML[strings.Index(appraisalTOML, "[[require]]\nname = \"boot-programs\""):strings.Index(appraisalTOML, "[[require]]\nname = \"command-line\"")]
	withoutBoot := swap(t, appraisalTOML, bootRules, "[[require]]\nname = \"firmware\"\nexpr = \""+noCode+"\"\n\n")
	for _, c := range []struct {
		name, text string
		now        uint64
		severity   Severity
		says       string
	}{
		{"expired", appraisalTOML, testExpires, SeverityError, "expired"},
		{"no audit session", swap(t, appraisalTOML, "audit = true\n", ""), long, SeverityWarning, "pcrs.audit"},
		{"expires soon", appraisalTOML, testExpires - 3600, SeverityWarning, "expires soon"},
		{"BOOT finding 1: Secure Boot without boot programs", withoutBoot, long, SeverityError, "CVE-2025-2296"},
		{"no Secure Boot", swap(t, appraisalTOML, "facts.secure_boot.enabled", "facts.clock.safe"), long, SeverityWarning, "Secure Boot"},
		{"any keys", swap(t, appraisalTOML, "facts.secure_boot.db == '"+digest("db")+"'", "facts.clock.safe && !facts.clock.safe"), long,
			SeverityWarning, "any keys"},
		{"volatile PCR bound", swap(t, appraisalTOML, "bind = [4, 7, 11]", "bind = [4, 5, 7]"), long, SeverityWarning, "PCR 5"},
		{"bound to no code", swap(t, appraisalTOML, "bind = [4, 7, 11]", "bind = [0, 7]"), long, SeverityWarning, "another system boots"},
		{"unused set", swap(t, appraisalTOML, "in ref.pcr4", "== ''"), long, SeverityWarning, "set pcr4"},
		{"all of nothing", swap(t, appraisalTOML, "size(facts.boot_apps) > 0 && ", ""), long, SeverityWarning, "size(facts.boot_apps) > 0"},
		{"L25 command lines that hide under another label", swap(t, appraisalTOML, " && facts.unexplained[12] == 0", ""), long,
			SeverityWarning, "facts.unexplained[12] == 0"},
		{"L25 command lines among the commands of GRUB", swap(t, appraisalTOML, "5, 7, 11, 12]", "5, 7, 8, 11, 12]"), long,
			SeverityWarning, "facts.commands"},
		{"L24 debugger", swap(t, appraisalTOML, "!facts.platform.debug", "facts.clock.safe"), long, SeverityWarning, "facts.platform.debug"},
		{"PCR 11 alone", swap(t, swap(t, swap(t, appraisalTOML, "facts.pcr[4] in ref.pcr4", "facts.pcr[11] in ref.pcr4"),
			"facts.boot_apps.all(a, a.digest in ref.boot_apps)", "facts.clock.safe"), "size(facts.boot_apps) > 0", "facts.clock.safe"), long,
			SeverityWarning, "whoever is root"},
		{"every host", authorizationTOML, long, SeverityWarning, "read-only allows every enrolled host"},
		{"lives long", swap(t, authorizationTOML, `"1h"`, `"25h"`), long, SeverityWarning, "live for 25h"},
		{"every target", swap(t, authorizationTOML, `"tool:mcp/tickets/*"`, `"tool:/*"`), long, SeverityWarning, "scheme tool"},
	} {
		t.Run(c.name, func(t *testing.T) {
			findings := Lint(mustParse(t, c.text), c.now)
			for _, f := range findings {
				if f.Severity == c.severity && strings.Contains(f.Message, c.says) {
					if c.severity == SeverityError && findings[0] != f {
						t.Error("errors do not come first")
					}
					return
				}
			}
			t.Fatalf("got %v, want %s %q", findings, c.severity, c.says)
		})
	}
	if f := Lint(nil, 0); len(f) != 1 || f[0].Severity != SeverityError {
		t.Errorf("got %v for no policy", f)
	}
}
