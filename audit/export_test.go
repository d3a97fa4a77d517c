package audit

// What tests need to forge bundles with.
type (
	Manifest = manifest
	File     = file
	Capsule  = capsule
)

var (
	NameStatement = nameStatement
	NameHead      = nameHead
	NameProof     = nameProof
	NameReceipt   = nameReceipt
	NameStatus    = nameStatus
	NameCapsule   = nameCapsule
	NamePolicy    = namePolicy
)

// Chunked is chunked for the lists of a manifest.
func Chunked[T any](list []T) [][]T { return chunked(list) }
