package statement

import "testing"

func TestEachKindHasAtMostOnePurpose(t *testing.T) {
	want := map[Kind]Purpose{Artifact: PurposeArtifact, Record: PurposeRecord, Manifest: PurposeRecord, Capsule: PurposeRecord,
		Receipt: PurposeLog, StatusList: PurposeStatus}
	for _, k := range Kinds() {
		for _, p := range append(Purposes(), "", "other") {
			if got := p.Signs(k); got != (want[k] == p && p != "") {
				t.Errorf("purpose %q signs %s: got %v", p, k, got)
			}
		}
	}
}
