package artifact

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/governed-execution/writ/statement"
	"github.com/governed-execution/writ/test/cddl"
)

// samples returns real statements of every format of this package, by file: the smallest and the fullest.
func samples(t *testing.T) map[string][][]byte {
	k := newKit(t)
	request, err := SignRequest(t.Context(), k.person, k.request())
	if err != nil {
		t.Fatal(err)
	}
	c := k.request()
	c.Limits, c.Parents = nil, []ParentDigest{fill(32, 1)}
	child, err := SignRequest(t.Context(), k.person, c)
	if err != nil {
		t.Fatal(err)
	}
	pop, err := SignPossession(t.Context(), k.holder, k.possession(k.artifactOf()))
	if err != nil {
		t.Fatal(err)
	}
	parent := k.ancestor(nil)
	delegated := k.delegation(parent)
	delegation, err := SignDelegation(t.Context(), k.holder, delegated)
	if err != nil {
		t.Fatal(err)
	}
	delegated.Limits = nil
	once, err := SignDelegation(t.Context(), k.holder, delegated)
	if err != nil {
		t.Fatal(err)
	}
	least := k.claims()
	least.Limits, least.Environment.EK = nil, nil
	least.Scope = Scope{{Target: "tool:mcp/search", Terms: Terms{Operations: Execute}}}
	later := k.statusList()
	later.Keys = &KeyPin{Change: 3, Digest: fill(32, 4)}
	return map[string][][]byte{
		"authz.cddl":      {k.mint(k.claims()), k.mint(least), k.mint(fullClaims(k))},
		"request.cddl":    {request, child},
		"possession.cddl": {pop},
		"delegation.cddl": {delegation, once},
		"statuslist.cddl": {k.statusToken(k.statusList()), k.statusToken(later)},
	}
}

const formats = "../docs/formats"

var formatRoots = map[string]string{"authz.cddl": "authz-artifact", "request.cddl": "request", "possession.cddl": "possession", "delegation.cddl": "delegation", "statuslist.cddl": "status-token"}

// TestBytesFitTheirCDDL holds real bytes against docs/formats, and sees that no rule is left over.
func TestBytesFitTheirCDDL(t *testing.T) {
	all := map[string]bool{}
	for file, list := range samples(t) {
		s := cddl.Load(t, formats, file, "common.cddl")
		for i, raw := range list {
			if err := s.Match(formatRoots[file], cddl.Statement(t, raw)); err != nil {
				t.Errorf("%s, sample %d: %v", file, i, err)
			}
		}
		for rule := range s.Used {
			all[rule] = true
		}
	}
	for file := range formatRoots {
		for rule := range cddl.Load(t, formats, file, "common.cddl").Rules() {
			if !all[rule] && rule != "cwt-claims-hdr" { // which formats of other packages use
				t.Errorf("%s: no sample reaches rule %s", file, rule)
			}
		}
	}
}

// TestCDDLRefusesWhatTheDecoderRefuses shows that the files say something: a claim removed, added or changed in type does
// not fit any more.
func TestCDDLRefusesWhatTheDecoderRefuses(t *testing.T) {
	k := newKit(t)
	enc := mustEncode(t, k.claims())
	s := cddl.Load(t, formats, "authz.cddl", "common.cddl")
	fits := func(payload []byte) error {
		return s.Match("authz-artifact", cddl.Statement(t, k.sign(k.artifact, statement.Artifact, issuerURI, hostURI, payload)))
	}
	if err := fits(enc); err != nil {
		t.Fatal(err)
	}
	for name, payload := range map[string][]byte{
		"no exp":            patch(t, enc, claimExp, ""),
		"exp text":          patch(t, enc, claimExp, "6131"),
		"unknown claim":     patch(t, enc, 11, "00"),
		"another profile":   patch(t, enc, 265, text(RequestProfile)),
		"short bootseed":    patch(t, enc, 268, "40"),
		"dbgstat 5":         patch(t, enc, 263, "05"),
		"empty scope":       patch(t, enc, 9, "4180"),
		"audience array":    patch(t, enc, claimAud, "81"+text(gateURI)),
		"cnf of thumbprint": patch(t, enc, claimCnf, "a105"+"41"+"00"),
	} {
		if fits(payload) == nil {
			t.Errorf("%s: fits the CDDL", name)
		}
		if _, err := DecodeClaims(payload); err == nil {
			t.Errorf("%s: decodes", name)
		}
	}
}

// TestCDDLTool lets the cddl tool compile the files and validate the same bytes, where it is installed.
func TestCDDLTool(t *testing.T) {
	tool, err := exec.LookPath("cddl")
	if err != nil {
		t.Log("the cddl tool is not installed: TestBytesFitTheirCDDL alone holds the bytes against the files")
		return
	}
	for file, list := range samples(t) {
		var text []string
		for _, f := range []string{file, "common.cddl"} {
			data, err := os.ReadFile(filepath.Join("..", "docs", "formats", f))
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, string(data))
		}
		dir := t.TempDir()
		rules, sample := filepath.Join(dir, file), filepath.Join(dir, "sample.cbor")
		if err := os.WriteFile(rules, []byte(strings.Join(text, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
		for i, raw := range list {
			if err := os.WriteFile(sample, raw, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.Command(tool, rules, "validate", sample).CombinedOutput(); err != nil {
				t.Errorf("%s, sample %d: %v\n%s", file, i, err, out)
			}
		}
	}
}
