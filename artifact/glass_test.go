package artifact

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/statement"
)

// P21: break-glass is off unless the trust file turns it on, for named files only.
func TestP21_TrustFileTurnsBreakGlassOn(t *testing.T) {
	k := newKit(t)
	tr, err := ParseTrust([]byte(trustText(k)))
	if err != nil || tr.BreakGlass != nil {
		t.Fatalf("without a word of it: %+v, %v", tr, err)
	}
	text := trustText(k) + "\n[break_glass]\ntargets = [\"file:/usr/bin/restore\", \"file:/usr/bin/mount\"]\n"
	if tr, err = ParseTrust([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if e := tr.BreakGlass; e.Lifetime != time.Hour || e.Waive || len(e.Targets) != 2 || e.Targets[0] != "file:/usr/bin/mount" {
		t.Fatalf("got %+v", e)
	}
	written, err := tr.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseTrust(written)
	if err != nil || again.BreakGlass.Lifetime != tr.BreakGlass.Lifetime || strings.Join(again.BreakGlass.Targets, " ") != strings.Join(tr.BreakGlass.Targets, " ") {
		t.Fatalf("got %+v %v", again, err)
	}
	for name, more := range map[string]string{
		"no targets":        "",
		"every file":        "targets = [\"file:/*\"]",
		"a directory":       "targets = [\"file:/usr/bin/../bin/x\"]",
		"no URI":            "targets = [\"/usr/bin/restore\"]",
		"one twice":         "targets = [\"file:/a\", \"file:/a\"]",
		"two hours":         "targets = [\"file:/a\"]\nmax_lifetime = \"2h\"",
		"half a second":     "targets = [\"file:/a\"]\nmax_lifetime = \"500ms\"",
		"a word of its own": "targets = [\"file:/a\"]\nallow_all = true",
	} {
		if _, err := ParseTrust([]byte(trustText(k) + "\n[break_glass]\n" + more + "\n")); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestGlassFileIsNoArtifact(t *testing.T) {
	f := GlassFile{History: []byte{1}, Act: [][]byte{{2}}}
	raw, err := f.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if !IsGlassFile(raw) || IsGlassFile(nil) {
		t.Error("a break-glass file is not known as one")
	}
	if got, err := DecodeGlassFile(raw); err != nil || !bytes.Equal(got.Act[0], []byte{2}) {
		t.Error(got, err)
	}
	k := newKit(t)
	leaf := k.sign(k.artifact, statement.Artifact, issuerURI, hostURI, payload(t, k.claims()))
	if IsGlassFile(leaf) {
		t.Error("an artifact is taken for a break-glass file") // C16
	}
	if _, err := Verify(raw, Want{Trust: k.trust, Now: t0, Audience: gateURI}); err == nil {
		t.Error("a break-glass file is taken for an artifact")
	}
	if _, err := VerifyBreakGlass(leaf, Want{Trust: k.trust, Now: t0, Audience: gateURI}); err == nil {
		t.Error("an artifact is verified as break-glass")
	}
	for name, bad := range map[string]GlassFile{
		"no history": {Act: f.Act}, "no act": {History: f.History}, "17 signatures": {History: f.History, Act: make([][]byte, 17)},
	} {
		enc, err := bad.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := DecodeGlassFile(enc); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := DecodeGlassFile(make([]byte, maxGlassFile+1)); !denial.Is(err, denial.StructureLimit) {
		t.Error(err)
	}
	if _, err := VerifyBreakGlass(nil, Want{Trust: k.trust, Now: t0}); !denial.Is(err, denial.NoArtifact) {
		t.Error(err)
	}
	if _, err := VerifyBreakGlass(raw, Want{}); !denial.Is(err, denial.KeyUnknown) {
		t.Errorf("without trust: %v", err)
	}
	bare := *k.trust
	bare.Genesis = statement.Digest{} // whatever the history is: nobody can follow it from nothing
	if _, err := VerifyBreakGlass(raw, Want{Trust: &bare, Now: t0}); !denial.Is(err, denial.KeyUnknown) {
		t.Errorf("without a pinned genesis: %v", err)
	}
	if err := (*Glass)(nil).VerifyPossession(nil, GateNonce{1}, Digest{}, t0); !denial.Is(err, denial.KeyBinding) {
		t.Error(err)
	}
}

func FuzzGlassFile(f *testing.F) {
	seed, err := GlassFile{History: []byte{1}, Act: [][]byte{{2}}, Attestation: []byte{3}}.Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := DecodeGlassFile(data)
		if err != nil {
			return
		}
		if again, err := g.Encode(); err != nil || !bytes.Equal(again, data) {
			t.Fatalf("accepted %x, which encodes as %x (%v)", data, again, err)
		}
		_, _, _ = g.Inspect()
		if _, err := VerifyBreakGlass(data, Want{}); err == nil {
			t.Fatal("verified without trust")
		}
	})
}
