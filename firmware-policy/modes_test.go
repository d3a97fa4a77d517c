package firmwarepolicy

import (
	"strings"
	"testing"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// P06, P10: a policy decides, or it is none. There is no key by which one would be permissive, only warn, or be tried in the shadow of
// another, at its top, in a requirement or in a rule; nor in its canonical form.
func TestP06_P10_NoPolicyIsPermissiveOrAShadow(t *testing.T) {
	for kind, text := range map[string]string{"appraisal": appraisalTOML, "authorization": authorizationTOML} {
		table := map[string]string{"appraisal": "[[require]]", "authorization": "[[rule]]"}[kind]
		if !strings.Contains(text, table) {
			t.Fatalf("the %s policy has no %s", kind, table)
		}
		for _, key := range []string{`mode = "permissive"`, `enforce = false`, `shadow = true`, `canary = 10`, `warn = true`, `audit_only = true`, `default = "allow"`,
			`on_error = "allow"`, `optional = true`, `severity = "warning"`, `test = true`} {
			for where, changed := range map[string]string{"top": key + "\n" + text, "table": strings.Replace(text, table, table+"\n"+key, 1)} {
				if _, err := ParseTOML([]byte(changed)); err == nil || !strings.Contains(err.Error(), "unknown key") {
					t.Errorf("%s policy, %s: %s: got %v, want an unknown key", kind, where, key, err)
				}
			}
		}
		if _, err := ParseTOML([]byte(strings.Replace(text, `kind = "`+kind+`"`, `kind = "shadow"`, 1))); err == nil {
			t.Errorf("a policy of kind shadow, made from the %s policy", kind)
		}
		var m map[any]any
		if err := statement.Unmarshal(mustParse(t, text).Canonical(), &m); err != nil {
			t.Fatal(err)
		}
		m[uint64(99)] = true
		raw, err := statement.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Decode(raw); !denial.Is(err, denial.UnsupportedVersion) && !denial.Is(err, denial.PayloadForm) && !denial.Is(err, denial.PolicyError) {
			t.Errorf("%s policy with a field of its own in canonical form: got %v", kind, err)
		}
	}
}
