package statement

import (
	"slices"
	"testing"
)

func TestEachKindHasAtMostOnePurpose(t *testing.T) {
	want := map[Kind]Purpose{Artifact: PurposeArtifact, Record: PurposeRecord, Manifest: PurposeRecord, Capsule: PurposeRecord,
		Receipt: PurposeLog, StatusList: PurposeStatus}
	for _, k := range Kinds() {
		for _, p := range append(Purposes(), "", "other") {
			own := want[k] == p && p != ""
			if got := slices.Contains(p.Kinds(), k); got != own {
				t.Errorf("purpose %q is trusted for %s: got %v", p, k, got)
			}
			// Beside its own kinds, a key names its successor, and nothing else does.
			if got := p.Signs(k); got != (own || k == Succession && slices.Contains(Purposes(), p)) {
				t.Errorf("purpose %q signs %s: got %v", p, k, got)
			}
		}
	}
}
