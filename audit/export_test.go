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
	NameOpening   = nameOpening
	NamePolicy    = namePolicy
)

// Chunked is chunked for the lists of a manifest.
func Chunked[T any](list []T) [][]T { return chunked(list) }

// Header is header.
var Header = header

// TestIndex is an index for tests of its own.
type TestIndex struct{ *index }

// NewIndex makes one.
func NewIndex() (TestIndex, error) {
	x, err := newIndex()
	return TestIndex{x}, err
}

func (x TestIndex) Add(path string, offset int64) error {
	return x.add(member{path: path, offset: offset})
}
func (x TestIndex) Finish() error { return x.finish() }
func (x TestIndex) Close() error  { return x.f.Close() }

func (x TestIndex) Span(prefix string) (first, last int64, err error) { return x.span(prefix) }

func (x TestIndex) Find(path string) (n, offset int64, ok bool, err error) {
	if n, ok, err = x.find(path); err != nil || !ok {
		return 0, 0, ok, err
	}
	m, err := x.at(n)
	return n, m.offset, m.path == path, err
}
