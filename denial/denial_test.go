package denial

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
)

func TestEveryReasonIsDescribed(t *testing.T) {
	if got, want := len(table), 111; got != want {
		t.Errorf("got %d reasons, want %d", got, want)
	}
	name := regexp.MustCompile(`^[A-Z][A-Z0-9]*(_[A-Z0-9]+)*$`)
	seen := map[string]Reason{}
	last := Reason(0)
	for _, row := range table {
		if row.reason <= last {
			t.Errorf("%d stands behind %d", row.reason, last)
		}
		last = row.reason
		if !name.MatchString(row.name) {
			t.Errorf("%d: name %q", row.reason, row.name)
		}
		for what, text := range map[string]string{"name": row.name, "meaning": row.meaning, "hint": row.hint} {
			if other, twice := seen[text]; twice && what != "hint" {
				t.Errorf("%d and %d have the same %s", row.reason, other, what)
			}
			seen[text] = row.reason
		}
		for what, text := range map[string]string{"meaning": row.meaning, "hint": row.hint} {
			if !oneSentence(text) {
				t.Errorf("%d: the %s is not one sentence: %q", row.reason, what, text)
			}
		}
		if c := row.reason.Condition(); int(c) != int(row.reason)/100 || c.String() == "" {
			t.Errorf("%d: condition %d", row.reason, c)
		}
	}
}

func oneSentence(s string) bool {
	return len(s) > 20 && len(s) < 140 && strings.HasSuffix(s, ".") && !strings.Contains(s, ". ") &&
		strings.ToUpper(s[:1]) == s[:1] && !strings.ContainsAny(s, "\n!")
}

// TestCodesAreNotRenumbered holds the numbers that signed records carry.
func TestCodesAreNotRenumbered(t *testing.T) {
	for code, name := range map[int]string{101: "NO_ARTIFACT", 108: "NO_ACTIVE_POLICY", 201: "EXPIRED", 208: "KEY_OUTSIDE_VALIDITY",
		301: "SIGNATURE_INVALID", 327: "LINEAGE_CHAIN_INVALID", 401: "POLICY_HASH_MISMATCH", 411: "AUDIENCE_MISMATCH",
		501: "CHALLENGE_UNKNOWN", 509: "REQUEST_REPLAYED", 601: "PCR_DIGEST_MISMATCH", 620: "TPM_FIRMWARE",
		701: "HOST_MISMATCH", 707: "PCR_SELECTION_MISMATCH", 801: "ARTIFACT_REVOKED", 807: "ANCESTOR_REVOKED",
		901: "INTERNAL", 914: "SELF_TEST_FAILED"} {
		byName, err := Parse(name)
		if err != nil || byName.Code() != code {
			t.Errorf("Parse(%q) = %d, %v, want %d", name, byName, err, code)
		}
		byCode, err := Parse(fmt.Sprint(code))
		if err != nil || byCode.String() != name {
			t.Errorf("Parse(%d) = %s, %v, want %s", code, byCode, err, name)
		}
	}
	for _, text := range []string{"", "0", "900", "65837", "+301", "0301", "expired", "EXPIRED "} {
		if r, err := Parse(text); err == nil || r != Internal {
			t.Errorf("Parse(%q) = %s, %v, want an error", text, r, err)
		}
	}
}

func TestAnUnknownReasonIsInternal(t *testing.T) {
	for _, r := range []Reason{0, 1, 100, 109, 328, 900, 915, 999, 65535} {
		if r.Code() != 901 || r.String() != "INTERNAL" || r.Condition() != ConditionUndecidable || r.Meaning() == "" || r.Hint() == "" {
			t.Errorf("Reason(%d) is %d %s, condition %s", uint16(r), r.Code(), r, r.Condition())
		}
	}
	for _, c := range []Condition{0, 10, 255} {
		if got := c.String(); got != "undecidable" {
			t.Errorf("Condition(%d) is %q", c, got)
		}
	}
	if got := (&Denial{}).Error(); got != "901 INTERNAL" {
		t.Errorf("the zero Denial says %q", got)
	}
}

func TestEveryErrorIsARefusal(t *testing.T) {
	expired := New(Expired, "by %d seconds", 7)
	for name, c := range map[string]struct {
		err  error
		want Reason
	}{
		"a refusal":                  {expired, Expired},
		"a wrapped refusal":          {fmt.Errorf("verifying: %w", expired), Expired},
		"a refusal among others":     {errors.Join(io.EOF, expired), Expired},
		"a fault":                    {io.ErrUnexpectedEOF, Internal},
		"a nil refusal in an error":  {(*Denial)(nil), Internal},
		"a zero refusal":             {&Denial{}, Internal},
		"a refusal with a wild code": {&Denial{Reason: 999}, Internal},
	} {
		t.Run(name, func(t *testing.T) {
			d := Of(c.err)
			if d == nil || d.Reason.Code() != c.want.Code() {
				t.Fatalf("Of = %v, want %s", d, c.want)
			}
			if strings.Contains(d.Error(), "EOF") {
				t.Errorf("the text of a fault is repeated: %q", d.Error())
			}
		})
	}
	if d := Of(nil); d != nil {
		t.Errorf("Of(nil) = %v", d)
	}
	if !Is(fmt.Errorf("x: %w", expired), Expired) || Is(expired, NotYetValid) || Is(nil, Expired) || Is(io.EOF, Internal) ||
		Is((*Denial)(nil), Internal) {
		t.Error("Is answers wrongly")
	}
	if got, want := expired.Error(), "201 EXPIRED: by 7 seconds"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAtKeepsTheFirstStage(t *testing.T) {
	d := New(Expired, "x")
	at := d.At(StageTime)
	if d.Stage != 0 || at.Stage != StageTime || at.At(StageUses).Stage != StageTime {
		t.Errorf("got %d, %d, %d", d.Stage, at.Stage, at.At(StageUses).Stage)
	}
}
