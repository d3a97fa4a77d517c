package audit_test

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/governed-execution/writ/audit"
	"github.com/governed-execution/writ/denial"
	"github.com/governed-execution/writ/test/bootlog"
)

// T24: a bundle is refuted wherever one bit of it changes, though the issuer itself signs the manifest of the changed
// bundle. Every member is changed at its begin and further on; artifact and denial in steps of a few bytes, so that
// every field of theirs is hit.
func TestT24_EveryFieldCounts(t *testing.T) {
	s := newStage(t)
	m, _ := s.permit()
	s.run(m, 1)
	s.refuse(denial.SecureBootOff, asking{boot: bootlog.New(bootlog.Options{NoSecureBoot: true})})
	raw := s.export(audit.Query{})
	good := unpack(t, raw)
	wantProved(t, s.verify(raw))
	dense := map[string]bool{audit.NameStatement(m.Index): true, audit.NameStatement(m.Index + 3): true}
	for _, name := range slices.Sorted(maps.Keys(good)) {
		step := max(1, len(good[name])*2/3)
		if dense[name] {
			step = 61
		}
		for at := 0; at < len(good[name]); at += step {
			f := maps.Clone(good)
			f[name] = bytes.Clone(good[name])
			f[name][at] ^= 1
			bundle := f.pack(t)
			if !strings.HasPrefix(name, "manifest.") {
				s.tick()
				bundle = s.reseal(f, nil)
			}
			if r := s.verify(bundle); r.Verdict != audit.Refuted || r.Err() == nil {
				t.Errorf("%s, bit changed at %d of %d: %s", name, at, len(good[name]), r.Verdict)
			}
		}
	}
	for name := range good { // one member less, one twice as long, and none at all
		for what, edit := range map[string]func(files){
			"removed": func(f files) { delete(f, name) },
			"doubled": func(f files) { f[name] = append(bytes.Clone(f[name]), f[name]...) },
		} {
			f := maps.Clone(good)
			edit(f)
			if r := s.verify(f.pack(t)); r.Verdict != audit.Refuted {
				t.Errorf("%s %s: %s", name, what, r.Verdict)
			}
		}
	}
}

// T25: no part of a verification asks anything but the bundle and the trust file: after the issuer and its log are gone
// the verdict, and all that is told, is the same.
func TestT25_VerifiedWithoutTheIssuer(t *testing.T) {
	s := newStage(t)
	s.permit()
	raw := s.export(audit.Query{})
	before := page(t, s.tell(raw))
	if err := s.Tree.Close(); err != nil {
		t.Fatal(err)
	}
	if after := page(t, s.tell(raw)); after != before {
		t.Error("the page differs once the issuer is gone")
	}
}
