package statement

import "slices"

// Purpose is what a key of an issuer is for. One key has one purpose; the zero Purpose signs nothing.
type Purpose string

// The purposes, as genesis and trust files name them.
const (
	PurposeArtifact Purpose = "artifact" // artifacts
	PurposeRecord   Purpose = "record"   // denials and other records, manifests, capsules
	PurposeLog      Purpose = "log"      // tree heads, in receipts and in checkpoints
	PurposeStatus   Purpose = "status"   // status list tokens
)

// Purposes returns every purpose.
func Purposes() []Purpose {
	return []Purpose{PurposeArtifact, PurposeRecord, PurposeLog, PurposeStatus}
}

// Kinds returns the kinds that a key of the purpose may sign; none for an unknown purpose.
func (p Purpose) Kinds() []Kind {
	switch p {
	case PurposeArtifact:
		return []Kind{Artifact}
	case PurposeRecord:
		return []Kind{Record, Manifest, Capsule}
	case PurposeLog:
		return []Kind{Receipt, Checkpoint}
	case PurposeStatus:
		return []Kind{StatusList}
	}
	return nil
}

// Signs reports whether a key of the purpose may sign statements of the kind: one of its own kinds, which is no other
// purpose's, or the succession by which a key of any purpose names the one that will follow it. Nobody trusts a key for
// successions in general: who follows the keys of an issuer trusts each for the one of its own purpose.
func (p Purpose) Signs(k Kind) bool {
	kinds := p.Kinds()
	return slices.Contains(kinds, k) || k == Succession && kinds != nil
}
